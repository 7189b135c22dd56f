//===- Cuda.cpp - GPUs through NVIDIA's driver ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The driver is looked for at run time: a host without one runs all but this.
// Work goes to the device's primary context, which the host's own code shares,
// and the thread has its context of before again when a function returns.
//
//===----------------------------------------------------------------------===//

#include "Context.h"
#include "CudaDriver.h"

#include <cstring>
#include <dlfcn.h>

using namespace moe::rt;
using namespace moe::rt::cuda;

namespace {

/// What went wrong last in this thread.
thread_local char lastError[kMessageBytes];

int refuse(int status, const Message &message) {
  std::snprintf(lastError, sizeof lastError, "%s", message.str());
  return status;
}

/// An image that is loaded.
struct Loaded {
  const void *image;
  uint64_t id[2];
  Handle module;

  bool holds(const moe_launch &launch) const {
    if (launch.image_id[0] || launch.image_id[1])
      return id[0] == launch.image_id[0] && id[1] == launch.image_id[1];
    return image == launch.image && !id[0] && !id[1];
  }
};

struct CudaGPU : moe_gpu {
  void *library = nullptr;
  Driver driver = {};
  Abilities abilities;
  int device = 0; ///< The driver's.
  Handle context = nullptr;
  Mutex modulesMutex;
  Loaded *modules = nullptr;
  size_t numModules = 0, maxModules = 0;

  ~CudaGPU();
  int open(int index);
  int openDevice(int index);
  /// Keeps the driver's words for a result that is no success.
  int check(Result result, const char *what, const char *more = "");
  int findModule(const moe_launch &launch, Handle &module);
  int load(const moe_launch &launch, Handle &module);
};

CudaGPU &own(moe_gpu *gpu) { return *static_cast<CudaGPU *>(gpu); }

/// Makes a GPU's context the thread's own for a scope.
class Current {
public:
  explicit Current(CudaGPU &gpu)
      : gpu(gpu), status(gpu.check(gpu.driver.push(gpu.context), "context")) {}
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;
  ~Current() {
    Handle ignored = nullptr;
    if (status == MOE_OK)
      gpu.driver.pop(&ignored);
  }

private:
  CudaGPU &gpu;

public:
  const int status;
};

Address addressOf(const void *memory) {
  return static_cast<Address>(reinterpret_cast<uintptr_t>(memory));
}

int CudaGPU::check(Result result, const char *what, const char *more) {
  if (result == 0)
    return MOE_OK;
  const char *words = nullptr;
  if (driver.describe(result, &words) != 0 || !words)
    words = "unknown error";
  return refuse(result == kOutOfMemory ? MOE_ERROR_MEMORY : MOE_ERROR_DEVICE,
                Message().append("%s: %s (CUDA error %d)%s%s", what, words,
                                 result, *more ? ": " : "", more));
}

//===----------------------------------------------------------------------===//
// Opening and closing
//===----------------------------------------------------------------------===//

int CudaGPU::open(int index) {
  library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return refuse(MOE_ERROR_DEVICE,
                  Message().append("there is no NVIDIA driver: %s", dlerror()));
  if (const char *missing = driver.open(library))
    return refuse(MOE_ERROR_DEVICE,
                  Message().append("the NVIDIA driver is too old: it has no %s",
                                   missing));
  if (int status = check(driver.init(0), "cuInit"))
    return status;
  if (int status =
          check(driver.getVersion(&abilities.driver), "version of the driver"))
    return status;
  int count = 0;
  if (int status = check(driver.getCount(&count), "number of GPUs"))
    return status;
  if (index < 0 || index >= count)
    return refuse(
        MOE_ERROR_DEVICE,
        Message().append("there is no GPU %d; there are %d", index, count));
  return openDevice(index);
}

int CudaGPU::openDevice(int index) {
  if (int status = check(driver.getDevice(&device, index), "GPU"))
    return status;
  int major = 0, minor = 0;
  if (int status = check(driver.getAttribute(&major, kCapabilityMajor, device),
                         "compute capability"))
    return status;
  if (int status = check(driver.getAttribute(&minor, kCapabilityMinor, device),
                         "compute capability"))
    return status;
  abilities.device = device_id = index;
  abilities.capability = major * 10 + minor;
  if (int status = check(driver.retain(&context, device), "context")) {
    context = nullptr;
    return status;
  }
  return MOE_OK;
}

CudaGPU::~CudaGPU() {
  if (context) {
    {
      Current current(*this);
      driver.synchronizeAll();
      for (size_t i = 0; i < numModules; ++i)
        driver.unload(modules[i].module);
    }
    driver.release(device);
  }
  std::free(modules);
  if (library)
    dlclose(library);
}

//===----------------------------------------------------------------------===//
// Images
//===----------------------------------------------------------------------===//

int CudaGPU::load(const moe_launch &launch, Handle &module) {
  Message unfit;
  if (explainUnfit(launch.image, launch.image_bytes, abilities, unfit))
    return refuse(MOE_ERROR_DEVICE, unfit);
  char log[kMessageBytes / 2] = "";
  int options[] = {kErrorLog, kErrorLogBytes};
  void *values[] = {log, reinterpret_cast<void *>(sizeof log - 1)};
  Result result = driver.load(&module, launch.image, 2, options, values);
  for (size_t end = std::strlen(log); end > 0 && log[end - 1] == '\n';)
    log[--end] = '\0';
  return check(result, "loading kernels", log);
}

int CudaGPU::findModule(const moe_launch &launch, Handle &module) {
  Lock lock(modulesMutex);
  for (size_t i = 0; i < numModules; ++i)
    if (modules[i].holds(launch)) {
      module = modules[i].module;
      return MOE_OK;
    }
  if (numModules == maxModules) {
    size_t more = maxModules ? maxModules * 2 : 8;
    void *grown = std::realloc(modules, more * sizeof *modules);
    if (!grown)
      return refuse(MOE_ERROR_MEMORY,
                    Message().append("loading kernels: out of memory"));
    modules = static_cast<Loaded *>(grown);
    maxModules = more;
  }
  if (int status = load(launch, module))
    return status;
  modules[numModules++] = {
      launch.image, {launch.image_id[0], launch.image_id[1]}, module};
  return MOE_OK;
}

//===----------------------------------------------------------------------===//
// The functions of a moe_gpu
//===----------------------------------------------------------------------===//

int allocate(moe_gpu *gpu, uint64_t bytes, void **memory) {
  CudaGPU &cuda = own(gpu);
  *memory = nullptr;
  Current current(cuda);
  if (current.status)
    return current.status;
  Address address = 0;
  Message what;
  what.append("GPU %d: %llu bytes of memory", cuda.device_id,
              static_cast<unsigned long long>(bytes));
  if (int status =
          cuda.check(cuda.driver.allocate(&address, bytes), what.str()))
    return status;
  *memory = reinterpret_cast<void *>(static_cast<uintptr_t>(address));
  return MOE_OK;
}

void release(moe_gpu *gpu, void *memory) {
  Current current(own(gpu));
  own(gpu).driver.free(addressOf(memory));
}

int write(moe_gpu *gpu, void *stream, void *device, const void *host,
          uint64_t bytes) {
  Current current(own(gpu));
  if (current.status)
    return current.status;
  return own(gpu).check(
      own(gpu).driver.toDevice(addressOf(device), host, bytes, stream),
      "copy to the GPU");
}

int read(moe_gpu *gpu, void *stream, void *host, const void *device,
         uint64_t bytes) {
  Current current(own(gpu));
  if (current.status)
    return current.status;
  return own(gpu).check(
      own(gpu).driver.toHost(host, addressOf(device), bytes, stream),
      "copy from the GPU");
}

int launch(moe_gpu *gpu, void *stream, const moe_launch *kernel) {
  CudaGPU &cuda = own(gpu);
  Current current(cuda);
  if (current.status)
    return current.status;
  Handle module = nullptr, function = nullptr;
  if (int status = cuda.findModule(*kernel, module))
    return status;
  if (int status =
          cuda.check(cuda.driver.getFunction(&function, module, kernel->kernel),
                     kernel->kernel))
    return status;
  const uint32_t *grid = kernel->grid, *block = kernel->block;
  return cuda.check(cuda.driver.launch(function, grid[0], grid[1], grid[2],
                                       block[0], block[1], block[2],
                                       kernel->shared_bytes, stream,
                                       const_cast<void **>(kernel->arguments),
                                       /*extra=*/nullptr),
                    kernel->kernel);
}

int synchronize(moe_gpu *gpu, void *stream) {
  Current current(own(gpu));
  if (current.status)
    return current.status;
  return own(gpu).check(own(gpu).driver.synchronize(stream),
                        "waiting for kernels");
}

int order(moe_gpu *gpu, void *stream, void *earlier) {
  CudaGPU &cuda = own(gpu);
  Current current(cuda);
  if (current.status)
    return current.status;
  Handle event = nullptr;
  if (int status =
          cuda.check(cuda.driver.createEvent(&event, kEventWithoutTime),
                     "order of streams"))
    return status;
  Result result = cuda.driver.record(event, earlier);
  if (result == 0)
    result = cuda.driver.wait(stream, event, 0);
  // The driver keeps what a stream still waits for.
  cuda.driver.destroyEvent(event);
  return cuda.check(result, "order of streams");
}

const char *error(moe_gpu *) { return lastError; }

void destroy(moe_gpu *gpu) { destroyObject(static_cast<CudaGPU *>(gpu)); }

} // namespace

int moe_gpu_open_cuda(moe_context *context, int device, moe_gpu **gpu) {
  if (gpu)
    *gpu = nullptr;
  if (!context || !gpu)
    return MOE_ERROR_ARGUMENT;
  clearError(context);
  auto *made = createObject<CudaGPU>();
  if (!made)
    return fail(context, MOE_ERROR_MEMORY,
                Message().append("moe_gpu_open_cuda: out of memory"));
  made->reserved = 0;
  made->allocate = allocate;
  made->release = release;
  made->write = write;
  made->read = read;
  made->launch = launch;
  made->synchronize = synchronize;
  made->order = order;
  made->error = error;
  made->destroy = destroy;
  if (int status = made->open(device)) {
    fail(context, status, Message().append("%s", lastError));
    destroyObject(made);
    return status;
  }
  *gpu = made;
  return MOE_OK;
}
