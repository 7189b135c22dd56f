//===- TestSupport.h - Descriptions and tensors for tests -------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_UNITTESTS_RUNTIME_TESTSUPPORT_H
#define MOE_UNITTESTS_RUNTIME_TESTSUPPORT_H

#include "moe/Runtime/moe_rt.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace moe::test {

constexpr moe_dtype kF32 = {2, 32, 1};
constexpr moe_dtype kI32 = {0, 32, 1};
constexpr moe_dtype kBF16 = {4, 16, 1};

struct ContextDeleter {
  void operator()(moe_context *context) const { moe_context_destroy(context); }
};
using ContextPtr = std::unique_ptr<moe_context, ContextDeleter>;

inline ContextPtr makeContext(int threads = 2) {
  moe_context *context = nullptr;
  moe_context_create(threads, &context);
  return ContextPtr(context);
}

inline std::string errorOf(const ContextPtr &context) {
  return moe_context_error(context.get());
}

/// One argument: sizes below zero are -1 - symbol.
struct Arg {
  const char *name;
  moe_dtype dtype;
  std::vector<int64_t> shape;
};

/// A description with symbols T (at most 100) and U (at most 10).
class Info {
public:
  Info(const char *name, std::vector<Arg> inputs, std::vector<Arg> outputs) {
    size_t count = inputs.size() + outputs.size();
    size_t bytes = sizeof(moe_entry_info) + count * sizeof(moe_arg_info);
    info.reset(static_cast<moe_entry_info *>(std::calloc(1, bytes)));
    info->abi_version = MOE_ABI_VERSION;
    info->num_inputs = static_cast<uint32_t>(inputs.size());
    info->num_outputs = static_cast<uint32_t>(outputs.size());
    info->num_symbols = 2;
    info->device = MOE_DEVICE_CPU;
    std::strncpy(info->name, name, MOE_NAME_BYTES - 1);
    std::strcpy(info->symbol_name[0], "T");
    std::strcpy(info->symbol_name[1], "U");
    info->symbol_bound[0] = 100;
    info->symbol_bound[1] = 10;
    inputs.insert(inputs.end(), outputs.begin(), outputs.end());
    for (size_t i = 0; i < count; ++i) {
      moe_arg_info &arg = info->args[i];
      std::strncpy(arg.name, inputs[i].name, MOE_NAME_BYTES - 1);
      arg.dtype = inputs[i].dtype;
      arg.rank = static_cast<int32_t>(inputs[i].shape.size());
      for (size_t d = 0; d < inputs[i].shape.size(); ++d)
        arg.shape[d] = inputs[i].shape[d];
    }
  }

  moe_entry_info *get() const { return info.get(); }
  moe_entry_info *operator->() const { return info.get(); }

private:
  struct Free {
    void operator()(moe_entry_info *info) const { std::free(info); }
  };
  std::unique_ptr<moe_entry_info, Free> info;
};

/// A tensor that owns its sizes and, where it is small, its memory.
class Tensor {
public:
  Tensor(moe_dtype dtype, std::vector<int64_t> sizes) : shape(sizes) {
    size_t count = dtype.bits / 8;
    for (int64_t size : sizes)
      count *= size > 0 && size < 4096 ? static_cast<size_t>(size) : 1;
    memory.resize(count / 8 + 1);
    view = {memory.data(), 1,       0,       static_cast<int32_t>(sizes.size()),
            dtype,         nullptr, nullptr, 0};
  }

  /// The tensor as an argument; it points into this object.
  moe_tensor get() {
    view.shape = shape.data();
    view.strides = strides.empty() ? nullptr : strides.data();
    return view;
  }

  template <typename T> T *data() {
    return reinterpret_cast<T *>(memory.data());
  }

  moe_tensor view;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;

private:
  std::vector<uint64_t> memory;
};

} // namespace moe::test

#endif // MOE_UNITTESTS_RUNTIME_TESTSUPPORT_H
