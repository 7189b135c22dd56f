//===- Cuda.cpp - GPUs through NVIDIA's driver ---------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The driver is looked for at run time: a host without one runs all but this.
// Types and values are those of the driver's documented C interface.
//
//===----------------------------------------------------------------------===//

#include "Context.h"

#include <cstring>
#include <dlfcn.h>

using namespace moe::rt;

namespace {

using Result = int;
using Handle = void *;
using Address = unsigned long long;

/// Modules that are loaded at a time; compiled layers have one image each.
constexpr uint32_t kMaxModules = 64;

struct Driver {
  Result (*init)(unsigned);
  Result (*getCount)(int *);
  Result (*getDevice)(int *, int);
  Result (*retain)(Handle *, int);
  Result (*release)(int);
  Result (*setCurrent)(Handle);
  Result (*allocate)(Address *, size_t);
  Result (*free)(Address);
  Result (*toDevice)(Address, const void *, size_t);
  Result (*toHost)(void *, Address, size_t);
  Result (*load)(Handle *, const void *);
  Result (*unload)(Handle);
  Result (*getFunction)(Handle *, Handle, const char *);
  Result (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned,
                   unsigned, unsigned, Handle stream, void **arguments,
                   void **extra);
  Result (*describe)(Result, const char **);

  /// The name of what is missing, or null.
  const char *open(void *library) {
    const struct {
      void *place;
      const char *name;
    } functions[] = {
        {&init, "cuInit"},
        {&getCount, "cuDeviceGetCount"},
        {&getDevice, "cuDeviceGet"},
        {&retain, "cuDevicePrimaryCtxRetain"},
        {&release, "cuDevicePrimaryCtxRelease_v2"},
        {&setCurrent, "cuCtxSetCurrent"},
        {&allocate, "cuMemAlloc_v2"},
        {&free, "cuMemFree_v2"},
        {&toDevice, "cuMemcpyHtoD_v2"},
        {&toHost, "cuMemcpyDtoH_v2"},
        {&load, "cuModuleLoadData"},
        {&unload, "cuModuleUnload"},
        {&getFunction, "cuModuleGetFunction"},
        {&launch, "cuLaunchKernel"},
        {&describe, "cuGetErrorString"},
    };
    for (const auto &function : functions) {
      void *found = dlsym(library, function.name);
      if (!found)
        return function.name;
      std::memcpy(function.place, &found, sizeof found);
    }
    return nullptr;
  }
};

struct CudaGPU : moe_gpu {
  void *library = nullptr;
  Driver driver;
  int device = 0;
  Handle context = nullptr;
  struct {
    const void *image;
    Handle handle;
  } modules[kMaxModules];
  uint32_t numModules = 0;
  char message[kMessageBytes] = {};

  ~CudaGPU() {
    for (uint32_t i = 0; i < numModules; ++i)
      driver.unload(modules[i].handle);
    if (context)
      driver.release(device);
    if (library)
      dlclose(library);
  }

  /// Keeps the driver's words for a result that is no success.
  int check(Result result, const char *what) {
    if (result == 0)
      return MOE_OK;
    const char *words = nullptr;
    if (driver.describe(result, &words) != 0 || !words)
      words = "unknown error";
    std::snprintf(message, sizeof message, "%s: %s (CUDA error %d)", what,
                  words, result);
    // 2 is CUDA_ERROR_OUT_OF_MEMORY.
    return result == 2 ? MOE_ERROR_MEMORY : MOE_ERROR_DEVICE;
  }
  int findModule(const void *image, Handle &module);
};

CudaGPU &own(moe_gpu *gpu) { return *static_cast<CudaGPU *>(gpu); }

Address addressOf(const void *memory) {
  return static_cast<Address>(reinterpret_cast<uintptr_t>(memory));
}

int CudaGPU::findModule(const void *image, Handle &module) {
  for (uint32_t i = 0; i < numModules; ++i)
    if (modules[i].image == image) {
      module = modules[i].handle;
      return MOE_OK;
    }
  if (int status = check(driver.load(&module, image), "loading kernels"))
    return status;
  // The first one makes room: it is loaded again if it is needed.
  uint32_t place = numModules;
  if (numModules == kMaxModules) {
    driver.unload(modules[0].handle);
    std::memmove(modules, modules + 1, sizeof modules - sizeof modules[0]);
    place = kMaxModules - 1;
  } else {
    ++numModules;
  }
  modules[place].image = image;
  modules[place].handle = module;
  return MOE_OK;
}

int allocate(moe_gpu *gpu, uint64_t bytes, void **memory) {
  CudaGPU &cuda = own(gpu);
  Address address = 0;
  *memory = nullptr;
  if (int status = cuda.check(cuda.driver.setCurrent(cuda.context), "context"))
    return status;
  if (int status =
          cuda.check(cuda.driver.allocate(&address, bytes), "device memory"))
    return status;
  *memory = reinterpret_cast<void *>(static_cast<uintptr_t>(address));
  return MOE_OK;
}

void release(moe_gpu *gpu, void *memory) {
  CudaGPU &cuda = own(gpu);
  cuda.driver.setCurrent(cuda.context);
  cuda.driver.free(addressOf(memory));
}

int write(moe_gpu *gpu, void *device, const void *host, uint64_t bytes) {
  CudaGPU &cuda = own(gpu);
  if (int status = cuda.check(cuda.driver.setCurrent(cuda.context), "context"))
    return status;
  return cuda.check(cuda.driver.toDevice(addressOf(device), host, bytes),
                    "copy to the device");
}

int read(moe_gpu *gpu, void *host, const void *device, uint64_t bytes) {
  CudaGPU &cuda = own(gpu);
  if (int status = cuda.check(cuda.driver.setCurrent(cuda.context), "context"))
    return status;
  return cuda.check(cuda.driver.toHost(host, addressOf(device), bytes),
                    "copy from the device");
}

int launch(moe_gpu *gpu, const moe_launch *kernel) {
  CudaGPU &cuda = own(gpu);
  if (int status = cuda.check(cuda.driver.setCurrent(cuda.context), "context"))
    return status;
  Handle module = nullptr, function = nullptr;
  if (int status = cuda.findModule(kernel->image, module))
    return status;
  if (int status =
          cuda.check(cuda.driver.getFunction(&function, module, kernel->kernel),
                     kernel->kernel))
    return status;
  const uint32_t *grid = kernel->grid, *block = kernel->block;
  return cuda.check(cuda.driver.launch(function, grid[0], grid[1], grid[2],
                                       block[0], block[1], block[2],
                                       kernel->shared_bytes,
                                       /*stream=*/nullptr,
                                       const_cast<void **>(kernel->arguments),
                                       /*extra=*/nullptr),
                    kernel->kernel);
}

const char *error(moe_gpu *gpu) { return own(gpu).message; }

void destroy(moe_gpu *gpu) { destroyObject(static_cast<CudaGPU *>(gpu)); }

/// Opens the driver and the device's own context.
int open(CudaGPU &cuda, int device) {
  auto refuse = [&](const char *what, const char *detail) {
    std::snprintf(cuda.message, sizeof cuda.message, "%s%s", what, detail);
    return MOE_ERROR_DEVICE;
  };
  cuda.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!cuda.library)
    return refuse("there is no NVIDIA driver: ", dlerror());
  if (const char *missing = cuda.driver.open(cuda.library))
    return refuse("the NVIDIA driver is too old: it has no ", missing);
  if (int status = cuda.check(cuda.driver.init(0), "cuInit"))
    return status;
  int count = 0;
  if (int status = cuda.check(cuda.driver.getCount(&count), "devices"))
    return status;
  if (device < 0 || device >= count) {
    std::snprintf(cuda.message, sizeof cuda.message,
                  "there is no GPU %d; there are %d", device, count);
    return MOE_ERROR_DEVICE;
  }
  if (int status =
          cuda.check(cuda.driver.getDevice(&cuda.device, device), "device"))
    return status;
  return cuda.check(cuda.driver.retain(&cuda.context, cuda.device), "context");
}

} // namespace

int moe_gpu_open_cuda(moe_context *context, int device, moe_gpu **gpu) {
  if (!context || !gpu)
    return MOE_ERROR_ARGUMENT;
  *gpu = nullptr;
  clearError(context);
  auto *made = createObject<CudaGPU>();
  if (!made)
    return MOE_ERROR_MEMORY;
  made->allocate = allocate;
  made->release = release;
  made->write = write;
  made->read = read;
  made->launch = launch;
  made->error = error;
  made->destroy = destroy;
  if (int status = open(*made, device)) {
    fail(context, status, Message().append("%s", made->message));
    destroyObject(made);
    return status;
  }
  *gpu = made;
  return MOE_OK;
}
