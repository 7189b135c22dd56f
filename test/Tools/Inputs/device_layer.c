//===- device_layer.c - A layer on tensors that lie on the GPU ----*- C -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   device_layer LIBRARY ENTRY
//
// Calls an entry of f32 tensors for nine tokens: with tensors of the CPU, then
// with the GPU's on a stream of its own, and compares.
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/moe_rt.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGS 8
#define CHECK(call)                                                            \
  do {                                                                         \
    if ((call) != 0) {                                                         \
      fprintf(stderr, "%s: %s\n", #call, moe_context_error(context));          \
      return 1;                                                                \
    }                                                                          \
  } while (0)

static moe_context *context;
static moe_gpu *gpu;
static moe_tensor host[MAX_ARGS], device[MAX_ARGS];
static int64_t shapes[MAX_ARGS][MOE_MAX_RANK];
static size_t bytes[MAX_ARGS];

/// Makes an argument on both sides; inputs hold a pattern.
static int make(const moe_entry_info *info, uint32_t i) {
  const moe_arg_info *arg = &info->args[i];
  bytes[i] = sizeof(float);
  for (int32_t d = 0; d < arg->rank; ++d) {
    shapes[i][d] = arg->shape[d] < 0 ? 9 : arg->shape[d];
    bytes[i] *= (size_t)shapes[i][d];
  }
  float *values = calloc(bytes[i], 1);
  for (size_t at = 0; i < info->num_inputs && at < bytes[i] / 4; ++at)
    values[at] = (float)((int)(at * 7 % 23) - 11) / 8;
  moe_tensor tensor = {values,     MOE_DEVICE_CPU, 0,    arg->rank,
                       arg->dtype, shapes[i],      NULL, 0};
  host[i] = device[i] = tensor;
  device[i].device_type = MOE_DEVICE_CUDA;
  CHECK(gpu->allocate(gpu, bytes[i], &device[i].data));
  if (i < info->num_inputs)
    CHECK(gpu->write(gpu, NULL, device[i].data, values, bytes[i]));
  return 0;
}

/// Reads the first result and says whether it is `expected`.
static int compare(const char *what, void *stream, uint32_t result,
                   const void *expected) {
  char *found = calloc(bytes[result], 1);
  CHECK(gpu->read(gpu, stream, found, device[result].data, bytes[result]));
  int early = memcmp(found, expected, bytes[result]) == 0;
  CHECK(gpu->synchronize(gpu, stream));
  int late = memcmp(found, expected, bytes[result]) == 0;
  printf("%s: %s, %s\n", what, early ? "was waited for" : "later",
         late ? "equal" : "another result");
  free(found);
  return 0;
}

static int run(const moe_entry *entry, void *stream) {
  const moe_entry_info *info = entry->info;
  uint32_t in = info->num_inputs, count = in + info->num_outputs;
  for (uint32_t i = 0; i < count; ++i)
    if (make(info, i))
      return 1;
  CHECK(moe_entry_call(context, entry, host, in, host + in, count - in));
  CHECK(moe_context_set_stream(context, stream));
  CHECK(moe_entry_call(context, entry, device, in, device + in, count - in));
  if (compare("call", stream, in, host[in].data))
    return 1;

  size_t needed = 0;
  void *workspace = NULL;
  CHECK(entry->workspace(context, device, &needed));
  CHECK(gpu->allocate(gpu, needed, &workspace));
  CHECK(entry->run(context, device, device + in, workspace, needed));
  if (compare("run", stream, in, host[in].data))
    return 1;
  gpu->release(gpu, workspace);

  device[1].data = (char *)device[1].data + 4;
  if (moe_entry_call(context, entry, device, in, device + in, count - in))
    printf("%s\n", moe_context_error(context));
  device[1].data = (char *)device[1].data - 4;
  for (uint32_t i = 0; i < count; ++i) {
    free(host[i].data);
    gpu->release(gpu, device[i].data);
  }
  return 0;
}

int main(int argc, char **argv) {
  int (*retain)(void **, int), (*leave)(int), (*push)(void *), (*pop)(void **),
      (*create)(void **, unsigned), (*destroy)(void *);
  void *driver = dlopen("libcuda.so.1", RTLD_NOW), *own = NULL, *stream = NULL;
  moe_module *module = NULL;
  moe_entry entry;
  if (argc != 3 || !driver || moe_context_create(1, &context))
    return 1;
  *(void **)&retain = dlsym(driver, "cuDevicePrimaryCtxRetain");
  *(void **)&leave = dlsym(driver, "cuDevicePrimaryCtxRelease_v2");
  *(void **)&push = dlsym(driver, "cuCtxPushCurrent_v2");
  *(void **)&pop = dlsym(driver, "cuCtxPopCurrent_v2");
  *(void **)&create = dlsym(driver, "cuStreamCreate");
  *(void **)&destroy = dlsym(driver, "cuStreamDestroy_v2");
  CHECK(moe_module_load(context, argv[1], &module));
  CHECK(moe_module_entry(context, module, argv[2], &entry));
  CHECK(moe_gpu_open_cuda(context, 0, &gpu));
  moe_context_set_gpu(context, gpu);
  // A stream that does not wait for the default one.
  CHECK(retain(&own, 0) || push(own) || create(&stream, 1));
  int code = run(&entry, stream);
  moe_context_destroy(context);
  destroy(stream);
  gpu->destroy(gpu);
  pop(&own);
  leave(0);
  moe_module_unload(module);
  dlclose(driver);
  return code;
}
