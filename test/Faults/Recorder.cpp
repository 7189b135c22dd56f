//===- Recorder.cpp - A GPU that remembers its launches -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Recorder.h"

#include <cstring>

using namespace moe;
using namespace moe::faults;

static Recorder &own(moe_gpu *gpu) { return *static_cast<Recorder *>(gpu); }

static uint64_t addressOf(const void *memory) {
  return reinterpret_cast<uintptr_t>(memory);
}

int Recorder::refuse(std::string text) {
  message = std::move(text);
  return MOE_ERROR_DEVICE;
}

int Recorder::run(const moe_launch &launch) {
  auto text = static_cast<const char *>(launch.image);
  std::string &image = images[launch.image];
  std::unique_ptr<emulator::Module> &module = modules[launch.image];
  if (!module) {
    image.assign(text, strnlen(text, launch.image_bytes));
    auto loaded = emulator::Module::load(image, launch.kernel);
    if (!loaded)
      return refuse(loaded.message());
    module = std::move(*loaded);
  }
  const emulator::KernelInfo *kernel = module->findKernel(launch.kernel);
  if (!kernel || kernel->params.size() != launch.num_arguments)
    return refuse(std::string(launch.kernel) + ": no such kernel");
  RecordedLaunch record;
  record.image = launch.image;
  record.kernel = launch.kernel;
  record.arguments.resize(kernel->paramBytes);
  for (size_t i = 0; i < kernel->params.size(); ++i)
    std::memcpy(record.arguments.data() + kernel->params[i].offset,
                launch.arguments[i], kernel->params[i].size);
  record.options.grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
  record.options.block = {launch.block[0], launch.block[1], launch.block[2]};
  record.options.dynamicShared = launch.shared_bytes;
  record.before = device.save();
  auto result =
      device.launch(*module, record.kernel, record.options, record.arguments);
  if (!result)
    return refuse(result.message());
  if (!result->reports.empty())
    return refuse(toString(result->reports.front()));
  launches.push_back(std::move(record));
  return MOE_OK;
}

Recorder::Recorder() : moe_gpu() {
  allocate = [](moe_gpu *gpu, uint64_t bytes, void **memory) -> int {
    auto address = own(gpu).device.allocate(bytes, "device memory");
    if (!address)
      return own(gpu).refuse(address.message());
    *memory = reinterpret_cast<void *>(static_cast<uintptr_t>(*address));
    return MOE_OK;
  };
  release = [](moe_gpu *, void *) {};
  write = [](moe_gpu *gpu, void *, void *to, const void *from,
             uint64_t bytes) -> int {
    auto status = own(gpu).device.write(addressOf(to), from, bytes);
    return status ? MOE_OK : own(gpu).refuse(status.message());
  };
  read = [](moe_gpu *gpu, void *, void *to, const void *from,
            uint64_t bytes) -> int {
    auto status = own(gpu).device.read(to, addressOf(from), bytes);
    return status ? MOE_OK : own(gpu).refuse(status.message());
  };
  launch = [](moe_gpu *gpu, void *, const moe_launch *kernel) {
    return own(gpu).run(*kernel);
  };
  // All is done when it is asked for, on any stream.
  synchronize = [](moe_gpu *, void *) -> int { return MOE_OK; };
  order = [](moe_gpu *, void *, void *) -> int { return MOE_OK; };
  error = [](moe_gpu *gpu) -> const char * { return own(gpu).message.c_str(); };
  destroy = [](moe_gpu *) {};
}
