//===- Pack.cpp - Stored weights for entries that read packed ones --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Pack.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::Tensor;

static bool hasLayout(const moe_arg_info &arg) { return arg.layout[0] != '\0'; }

bool moe::run::packsWeights(const moe_entry &entry) {
  const moe_entry_info *info = entry.pack_info;
  if (!info)
    return false;
  if (info->num_inputs != info->num_outputs)
    return true;
  for (uint32_t i = 0; i < info->num_inputs; ++i)
    if (std::strncmp(info->args[i].layout,
                     info->args[info->num_inputs + i].layout,
                     sizeof info->args[i].layout) != 0)
      return true;
  return false;
}

/// An argument of the pack function for all experts at once.
static moe_arg_info withAllExperts(const moe_entry_info &pack, uint32_t index) {
  moe_arg_info arg = pack.args[index];
  for (int32_t d = 0; d < arg.rank; ++d)
    if (arg.shape[d] < 0)
      arg.shape[d] = pack.symbol_bound[-1 - arg.shape[d]];
  return arg;
}

std::shared_ptr<const moe_entry_info>
moe::run::describeStored(const moe_entry &entry) {
  const moe_entry_info &info = *entry.info, &pack = *entry.pack_info;
  std::vector<moe_arg_info> args;
  bool isFirst = true;
  for (uint32_t i = 0; i < info.num_inputs; ++i) {
    if (!hasLayout(info.args[i]))
      args.push_back(info.args[i]);
    else if (std::exchange(isFirst, false))
      for (uint32_t p = 0; p < pack.num_inputs; ++p)
        args.push_back(withAllExperts(pack, p));
  }
  auto numInputs = static_cast<uint32_t>(args.size());
  args.insert(args.end(), info.args + info.num_inputs,
              info.args + info.num_inputs + info.num_outputs);
  size_t bytes = sizeof info + args.size() * sizeof(moe_arg_info);
  auto *stored = static_cast<moe_entry_info *>(std::malloc(bytes));
  if (!stored)
    return nullptr;
  std::memcpy(static_cast<void *>(stored), &info, sizeof info);
  stored->num_inputs = numInputs;
  std::memcpy(stored->args, args.data(), args.size() * sizeof(moe_arg_info));
  return {stored, [](const moe_entry_info *own) {
            std::free(const_cast<moe_entry_info *>(own));
          }};
}

Expected<std::vector<Tensor>>
moe::run::packInputs(moe_context *context, const moe_entry &entry,
                     const std::vector<Tensor> &stored) {
  const moe_entry_info &info = *entry.info, &pack = *entry.pack_info;
  uint32_t first = 0;
  while (first < info.num_inputs && !hasLayout(info.args[first]))
    ++first;
  std::vector<Tensor> from(stored.begin() + first,
                           stored.begin() + first + pack.num_inputs),
      to;
  for (uint32_t i = 0; i < pack.num_outputs; ++i) {
    moe_arg_info arg = withAllExperts(pack, pack.num_inputs + i);
    auto packed =
        Tensor::allocate(arg.dtype, io::Shape(arg.shape, arg.shape + arg.rank),
                         "packed '" + std::string(arg.name) + "'");
    if (!packed)
      return packed.error();
    to.push_back(std::move(*packed));
  }
  std::vector<moe_tensor> in, out;
  for (Tensor &tensor : from)
    in.push_back(tensor.view());
  for (Tensor &tensor : to)
    out.push_back(tensor.view());
  if (entry.pack(context, in.data(), out.data()) != MOE_OK)
    return Error{moe_context_error(context)};

  std::vector<Tensor> inputs;
  size_t next = 0, packed = 0;
  for (uint32_t i = 0; i < info.num_inputs; ++i) {
    if (next == first)
      next += pack.num_inputs;
    if (hasLayout(info.args[i]))
      inputs.push_back(std::move(to[packed++]));
    else
      inputs.push_back(stored[next++]);
  }
  return inputs;
}
