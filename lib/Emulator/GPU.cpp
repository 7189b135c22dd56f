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
#include <mutex>
#include <new>
#include <utility>

using namespace moe::emulator;

namespace {

/// An image by its hash, or by its address where it has none.
using ImageKey = std::pair<uint64_t, uint64_t>;

ImageKey keyOf(const moe_launch &launch) {
  if (launch.image_id[0] || launch.image_id[1])
    return {launch.image_id[0], launch.image_id[1]};
  return {reinterpret_cast<uintptr_t>(launch.image), 0};
}

/// What went wrong last in this thread.
std::string &lastError() {
  thread_local std::string text;
  return text;
}

int refuse(std::string text, int status = MOE_ERROR_DEVICE) {
  lastError() = std::move(text);
  return status;
}

/// Whatever is asked for is done at once, on any stream.
struct EmulatedGPU : moe_gpu {
  std::mutex mutex; ///< Of all below.
  Device device;
  std::map<ImageKey, std::unique_ptr<Module>> modules;
  std::vector<KernelStatistics> statistics;
  uint64_t seed = 0;

  int run(const moe_launch &launch);
  void count(const char *kernel, const Statistics &added);
};

EmulatedGPU &own(moe_gpu *gpu) { return *static_cast<EmulatedGPU *>(gpu); }

std::lock_guard<std::mutex> lock(moe_gpu *gpu) {
  return std::lock_guard<std::mutex>(own(gpu).mutex);
}

uint64_t addressOf(const void *memory) {
  return reinterpret_cast<uintptr_t>(memory);
}

int allocate(moe_gpu *gpu, uint64_t bytes, void **memory) {
  *memory = nullptr;
  auto locked = lock(gpu);
  auto address = own(gpu).device.allocate(bytes, "device memory");
  if (!address)
    return refuse(address.error().message, MOE_ERROR_MEMORY);
  *memory = reinterpret_cast<void *>(static_cast<uintptr_t>(*address));
  return MOE_OK;
}

void release(moe_gpu *gpu, void *memory) {
  auto locked = lock(gpu);
  own(gpu).device.release(addressOf(memory));
}

int write(moe_gpu *gpu, void *, void *device, const void *host,
          uint64_t bytes) {
  auto locked = lock(gpu);
  auto status = own(gpu).device.write(addressOf(device), host, bytes);
  return status ? MOE_OK : refuse(status.message());
}

int read(moe_gpu *gpu, void *, void *host, const void *device, uint64_t bytes) {
  auto locked = lock(gpu);
  auto status = own(gpu).device.read(host, addressOf(device), bytes);
  return status ? MOE_OK : refuse(status.message());
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
  std::unique_ptr<Module> &module = modules[keyOf(launch)];
  if (!module) {
    // An image is text with its end.
    auto text = static_cast<const char *>(launch.image);
    if (launch.image_bytes >= 4 && std::memcmp(text, "\177ELF", 4) == 0)
      return refuse("the kernels are a cubin, and the emulator runs PTX");
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

int launch(moe_gpu *gpu, void *, const moe_launch *kernel) {
  auto locked = lock(gpu);
  return own(gpu).run(*kernel);
}

int synchronize(moe_gpu *, void *) { return MOE_OK; }

int order(moe_gpu *, void *, void *) { return MOE_OK; }

const char *error(moe_gpu *) { return lastError().c_str(); }

void destroy(moe_gpu *gpu) { delete static_cast<EmulatedGPU *>(gpu); }

} // namespace

moe_gpu *moe::emulator::createGPU(uint64_t seed) {
  auto *gpu = new (std::nothrow) EmulatedGPU;
  if (!gpu)
    return nullptr;
  gpu->device_id = 0;
  gpu->reserved = 0;
  gpu->seed = seed;
  gpu->allocate = allocate;
  gpu->release = release;
  gpu->write = write;
  gpu->read = read;
  gpu->launch = launch;
  gpu->synchronize = synchronize;
  gpu->order = order;
  gpu->error = error;
  gpu->destroy = destroy;
  return gpu;
}

std::vector<KernelStatistics> moe::emulator::getStatistics(moe_gpu *gpu) {
  auto locked = lock(gpu);
  return own(gpu).statistics;
}
