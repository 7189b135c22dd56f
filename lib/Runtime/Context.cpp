//===- Context.cpp - Contexts and errors ----------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Context.h"
#include "Check.h"

#include <cstring>

using namespace moe::rt;

/// The mark that moe_context_create leaves in `reserved`. It depends on the
/// address, so that a host's copy of a head does not pass for the whole.
static uint32_t markOf(const moe_context *context) {
  uint64_t address = reinterpret_cast<uintptr_t>(context);
  uint32_t mark = static_cast<uint32_t>((address >> 6) ^ (address >> 38));
  return mark | 0x80000000u;
}

Context *moe::rt::getOwn(moe_context *context) {
  if (!context || context->reserved != markOf(context))
    return nullptr;
  return static_cast<Context *>(context);
}

void moe::rt::clearError(moe_context *context) {
  Context *own = getOwn(context);
  if (!own)
    return;
  Lock lock(own->errorMutex);
  own->error[0] = '\0';
}

static int keepError(moe_context *context, int status, const char *message) {
  Context *own = getOwn(context);
  if (!own)
    return status;
  Lock lock(own->errorMutex);
  std::snprintf(own->error, sizeof(own->error), "%s",
                message && *message ? message : moe_status_name(status));
  return status;
}

static void parallelFor(moe_context *context, int64_t n, moe_task_fn fn,
                        void *data) {
  if (n <= 0)
    return;
  Context *own = getOwn(context);
  if (!own)
    fn(data, 0, n);
  else if (own->hostParallelFor)
    own->hostParallelFor(own->host, n, fn, data);
  else
    own->pool.run(n, fn, data);
}

/// Runs `function` of the context's GPU and keeps its error.
template <typename Function>
static int onGPU(moe_context *context, Function function) {
  Context *own = getOwn(context);
  if (!own || !own->gpu)
    return keepError(context, MOE_ERROR_DEVICE, "this context has no GPU");
  int status = function(own->gpu, own->stream);
  return status ? keepError(context, status, own->gpu->error(own->gpu))
                : MOE_OK;
}

static int launch(moe_context *context, const moe_launch *launch) {
  return onGPU(context, [&](moe_gpu *gpu, void *stream) {
    return gpu->launch(gpu, stream, launch);
  });
}

static int copyBack(moe_context *context, void *host, const void *device,
                    uint64_t bytes) {
  return onGPU(context, [&](moe_gpu *gpu, void *stream) {
    int status = gpu->read(gpu, stream, host, device, bytes);
    return status ? status : gpu->synchronize(gpu, stream);
  });
}

void Context::releaseDeviceWorkspace() {
  if (deviceWorkspace) {
    gpu->synchronize(gpu, stream);
    gpu->release(gpu, deviceWorkspace);
  }
  deviceWorkspace = nullptr;
  deviceWorkspaceBytes = 0;
}

int moe_context_create(int threads, moe_context **context) {
  if (!context)
    return MOE_ERROR_ARGUMENT;
  *context = nullptr;
  if (threads < 0 || threads > kMaxThreads)
    return MOE_ERROR_ARGUMENT;
  Context *own = createObject<Context>();
  if (!own)
    return MOE_ERROR_MEMORY;
  if (!own->pool.start(threads ? threads : availableThreads())) {
    destroyObject(own);
    return MOE_ERROR_MEMORY;
  }
  own->abi_version = MOE_ABI_VERSION;
  own->reserved = markOf(own);
  own->parallel_for = parallelFor;
  own->check = checkCall;
  own->check_inputs = checkInputs;
  own->fail = keepError;
  own->launch = launch;
  own->copy_back = copyBack;
  *context = own;
  return MOE_OK;
}

void moe_context_destroy(moe_context *context) {
  if (Context *own = getOwn(context)) {
    own->reserved = 0;
    destroyObject(own);
  }
}

int moe_context_threads(const moe_context *context) {
  const Context *own = getOwn(context);
  return own ? own->pool.threads() : 0;
}

void moe_context_set_parallel_for(moe_context *context, moe_parallel_for_fn fn,
                                  void *host) {
  if (Context *own = getOwn(context)) {
    own->hostParallelFor = fn;
    own->host = host;
  }
}

void moe_context_set_gpu(moe_context *context, moe_gpu *gpu) {
  Context *own = getOwn(context);
  if (!own)
    return;
  own->releaseDeviceWorkspace();
  own->gpu = gpu;
  own->stream = nullptr;
}

int moe_context_set_stream(moe_context *context, void *stream) {
  if (!context)
    return MOE_ERROR_ARGUMENT;
  clearError(context);
  int status = onGPU(context, [&](moe_gpu *gpu, void *earlier) {
    return stream == earlier ? int(MOE_OK) : gpu->order(gpu, stream, earlier);
  });
  if (status == MOE_OK)
    getOwn(context)->stream = stream;
  return status;
}

const char *moe_context_error(const moe_context *context) {
  const Context *own = getOwn(context);
  return own ? own->error : "";
}

const char *moe_status_name(int status) {
  switch (status) {
  case MOE_OK:
    return "ok";
  case MOE_ERROR_ARGUMENT:
    return "argument";
  case MOE_ERROR_WORKSPACE:
    return "workspace";
  case MOE_ERROR_DATA:
    return "data";
  case MOE_ERROR_BOUND:
    return "bound";
  case MOE_ERROR_MEMORY:
    return "memory";
  case MOE_ERROR_LOAD:
    return "load";
  case MOE_ERROR_ABI:
    return "abi";
  case MOE_ERROR_DEVICE:
    return "device";
  default:
    return "unknown";
  }
}
