//===- GPU.cpp - The emulator as a GPU of the runtime --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Emulator/GPU.h"
#include "moe/Emulator/Emulator.h"

#include <cstring>
#include <map>
#include <new>

using namespace moe::emulator;

namespace {

struct EmulatedGPU : moe_gpu {
  Device device;
  std::map<const void *, std::unique_ptr<Module>> modules; ///< By image.
  std::vector<KernelStatistics> statistics;
  uint64_t seed = 0;
  std::string message;

  int refuse(std::string text, int status = MOE_ERROR_DEVICE) {
    message = std::move(text);
    return status;
  }
  int run(const moe_launch &launch);
  void count(const char *kernel, const Statistics &added);
};

EmulatedGPU &own(moe_gpu *gpu) { return *static_cast<EmulatedGPU *>(gpu); }

uint64_t addressOf(const void *memory) {
  return reinterpret_cast<uintptr_t>(memory);
}

int allocate(moe_gpu *gpu, uint64_t bytes, void **memory) {
  *memory = nullptr;
  auto address = own(gpu).device.allocate(bytes, "device memory");
  if (!address)
    return own(gpu).refuse(address.error().message, MOE_ERROR_MEMORY);
  *memory = reinterpret_cast<void *>(static_cast<uintptr_t>(*address));
  return MOE_OK;
}

void release(moe_gpu *gpu, void *memory) {
  own(gpu).device.release(addressOf(memory));
}

int write(moe_gpu *gpu, void *device, const void *host, uint64_t bytes) {
  auto status = own(gpu).device.write(addressOf(device), host, bytes);
  return status ? MOE_OK : own(gpu).refuse(status.message());
}

int read(moe_gpu *gpu, void *host, const void *device, uint64_t bytes) {
  auto status = own(gpu).device.read(host, addressOf(device), bytes);
  return status ? MOE_OK : own(gpu).refuse(status.message());
}

void EmulatedGPU::count(const char *kernel, const Statistics &added) {
  for (KernelStatistics &known : statistics)
    if (known.kernel == kernel) {
      ++known.launches;
      return known.statistics.add(added);
    }
  statistics.push_back({kernel, 1, added});
}

int EmulatedGPU::run(const moe_launch &launch) {
  std::unique_ptr<Module> &module = modules[launch.image];
  if (!module) {
    // An image is text with its end.
    auto text = static_cast<const char *>(launch.image);
    auto loaded =
        Module::load({text, strnlen(text, launch.image_bytes)}, launch.kernel);
    if (!loaded)
      return refuse(loaded.error().message);
    module = std::move(*loaded);
  }
  const KernelInfo *kernel = module->findKernel(launch.kernel);
  if (!kernel)
    return refuse(std::string("there is no kernel '") + launch.kernel + "'");
  if (kernel->params.size() != launch.num_arguments)
    return refuse(std::string(launch.kernel) + ": takes " +
                  std::to_string(kernel->params.size()) + " arguments, got " +
                  std::to_string(launch.num_arguments));
  std::vector<uint8_t> arguments(kernel->paramBytes);
  for (size_t i = 0; i < kernel->params.size(); ++i)
    std::memcpy(arguments.data() + kernel->params[i].offset,
                launch.arguments[i], kernel->params[i].size);
  LaunchOptions options;
  options.grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
  options.block = {launch.block[0], launch.block[1], launch.block[2]};
  options.dynamicShared = launch.shared_bytes;
  options.seed = seed;
  auto result = device.launch(*module, launch.kernel, options, arguments);
  if (!result)
    return refuse(result.error().message);
  count(launch.kernel, result->statistics);
  if (result->reports.empty())
    return MOE_OK;
  std::string text = toString(result->reports.front());
  if (size_t more = result->reports.size() - 1)
    text += " (and " + std::to_string(more) + " more)";
  return refuse(std::move(text));
}

int launch(moe_gpu *gpu, const moe_launch *kernel) {
  return own(gpu).run(*kernel);
}

const char *error(moe_gpu *gpu) { return own(gpu).message.c_str(); }

void destroy(moe_gpu *gpu) { delete static_cast<EmulatedGPU *>(gpu); }

} // namespace

moe_gpu *moe::emulator::createGPU(uint64_t seed) {
  auto *gpu = new (std::nothrow) EmulatedGPU;
  if (!gpu)
    return nullptr;
  gpu->seed = seed;
  gpu->allocate = allocate;
  gpu->release = release;
  gpu->write = write;
  gpu->read = read;
  gpu->launch = launch;
  gpu->error = error;
  gpu->destroy = destroy;
  return gpu;
}

std::vector<KernelStatistics> moe::emulator::getStatistics(moe_gpu *gpu) {
  return own(gpu).statistics;
}
