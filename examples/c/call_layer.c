//===- call_layer.c - Calls a compiled layer from C ---------------*- C -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   call_layer LIBRARY ENTRY [SYMBOL=SIZE ...]
//   call_layer ./layer.so layer T=16
//
// Loads a layer, fills its inputs with a pattern (floats) or zeros (all other
// types), runs it and prints the first values of each output. Everything that
// it knows of the layer it reads from the layer's own description; one that was
// compiled for a GPU runs on the first, through NVIDIA's driver.
//
// With -DMOE_LAYER=layer the entry is linked instead of loaded, and the first
// two arguments fall away. Link with -lmoe_rt -lpthread -ldl -lm.
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/moe_rt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef MOE_LAYER
#define PASTE(a, b, c) a##b##c
#define SYMBOL(name, suffix) PASTE(moe_, name, suffix)
int SYMBOL(MOE_LAYER, )(moe_context *, const moe_tensor *, moe_tensor *, void *,
                        size_t);
int SYMBOL(MOE_LAYER, _workspace)(moe_context *, const moe_tensor *, size_t *);
int SYMBOL(MOE_LAYER, _pack)(moe_context *, const moe_tensor *, moe_tensor *);
extern const moe_entry_info SYMBOL(MOE_LAYER, _info);
extern const moe_entry_info SYMBOL(MOE_LAYER, _pack_info);
#define FIRST_SIZE 1
#else
#define FIRST_SIZE 3
#endif

// A tensor of the layer's description, with its memory.
typedef struct {
  moe_tensor tensor;
  int64_t shape[MOE_MAX_RANK];
  int64_t count;
} owned_tensor;

static int is_type(moe_dtype type, int code, int bits) {
  return type.code == code && type.bits == bits && type.lanes == 1;
}

// Prints why a call on the context failed; returns the program's exit code.
static int report(const moe_context *context, int status) {
  fprintf(stderr, "call_layer: %s: %s\n", moe_status_name(status),
          moe_context_error(context));
  return 1;
}

// Reads SYMBOL=SIZE arguments; returns 0 where one is wrong or missing.
static int read_sizes(const moe_entry_info *info, int argc, char **argv,
                      int64_t *sizes) {
  for (uint32_t s = 0; s < info->num_symbols; ++s)
    sizes[s] = -1;
  for (int i = FIRST_SIZE; i < argc; ++i) {
    const char *equals = strchr(argv[i], '=');
    size_t length = equals ? (size_t)(equals - argv[i]) : 0;
    uint32_t found = info->num_symbols;
    for (uint32_t s = 0; length > 0 && s < info->num_symbols; ++s)
      if (length < sizeof(info->symbol_name[s]) &&
          strncmp(info->symbol_name[s], argv[i], length) == 0 &&
          info->symbol_name[s][length] == '\0')
        found = s;
    char *end = NULL;
    long long size = equals ? strtoll(equals + 1, &end, 10) : -1;
    if (found == info->num_symbols || size < 0 || end == equals + 1 || *end) {
      fprintf(stderr, "call_layer: '%s' is not SYMBOL=SIZE of this layer\n",
              argv[i]);
      return 0;
    }
    sizes[found] = size;
  }
  for (uint32_t s = 0; s < info->num_symbols; ++s)
    if (sizes[s] < 0) {
      fprintf(stderr,
              "call_layer: the size of '%.16s' is missing: add %.16s=SIZE\n",
              info->symbol_name[s], info->symbol_name[s]);
      return 0;
    }
  return 1;
}

// Makes a compact tensor of zeros; returns 0 where memory does not suffice.
static int make_tensor(const moe_arg_info *arg, const int64_t *sizes,
                       owned_tensor *result) {
  size_t bytes = ((size_t)arg->dtype.bits + 7) / 8;
  result->count = 1;
  for (int32_t i = 0; i < arg->rank; ++i) {
    int64_t size =
        arg->shape[i] >= 0 ? arg->shape[i] : sizes[-1 - arg->shape[i]];
    if (size > 0 && (uint64_t)size > SIZE_MAX / bytes)
      return 0;
    result->shape[i] = size;
    result->count *= size;
    bytes *= (size_t)size;
  }
  result->tensor.data = calloc(bytes ? bytes : 1, 1);
  result->tensor.device_type = 1; // The CPU.
  result->tensor.device_id = 0;
  result->tensor.ndim = arg->rank;
  result->tensor.dtype = arg->dtype;
  result->tensor.shape = result->shape;
  result->tensor.strides = NULL; // Compact, row-major.
  result->tensor.byte_offset = 0;
  return result->tensor.data != NULL;
}

static void fill(owned_tensor *input) {
  moe_dtype type = input->tensor.dtype;
  for (int64_t i = 0; i < input->count; ++i) {
    float value = (float)(i % 13 - 6) / 8;
    if (is_type(type, 2, 32)) {
      ((float *)input->tensor.data)[i] = value;
    } else if (is_type(type, 2, 64)) {
      ((double *)input->tensor.data)[i] = value;
    } else if (is_type(type, 4, 16)) { // bf16 is the upper half of an f32.
      uint32_t bits;
      memcpy(&bits, &value, sizeof(bits));
      ((uint16_t *)input->tensor.data)[i] = (uint16_t)(bits >> 16);
    }
  }
}

static void print(const moe_arg_info *arg, const owned_tensor *output) {
  const void *data = output->tensor.data;
  printf("%.*s[", MOE_NAME_BYTES, arg->name);
  for (int32_t i = 0; i < arg->rank; ++i)
    printf("%s%lld", i ? ", " : "", (long long)output->shape[i]);
  printf("]:");
  for (int64_t i = 0; i < output->count && i < 8; ++i) {
    if (is_type(arg->dtype, 2, 32)) {
      printf(" %g", ((const float *)data)[i]);
    } else if (is_type(arg->dtype, 2, 64)) {
      printf(" %g", ((const double *)data)[i]);
    } else if (is_type(arg->dtype, 0, 32)) {
      printf(" %ld", (long)((const int32_t *)data)[i]);
    } else if (is_type(arg->dtype, 0, 64)) {
      printf(" %lld", (long long)((const int64_t *)data)[i]);
    } else if (is_type(arg->dtype, 4, 16)) {
      uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
      float value;
      memcpy(&value, &bits, sizeof(value));
      printf(" %g", value);
    } else {
      printf(" (%d-bit values of type code %d)", arg->dtype.bits,
             arg->dtype.code);
      break;
    }
  }
  printf("%s\n", output->count > 8 ? " ..." : "");
}

// Runs the entry once and prints its outputs; returns the exit code.
static int run(moe_context *context, const moe_entry *entry,
               const int64_t *sizes) {
  const moe_entry_info *info = entry->info;
  uint32_t count = info->num_inputs + info->num_outputs;
  owned_tensor *owned = calloc(count + 1, sizeof(owned_tensor));
  moe_tensor *tensors = calloc(count + 1, sizeof(moe_tensor));
  int code = owned && tensors ? 0 : 1;
  for (uint32_t i = 0; i < count && code == 0; ++i) {
    code = !make_tensor(&info->args[i], sizes, &owned[i]);
    if (code == 0 && i < info->num_inputs)
      fill(&owned[i]);
    tensors[i] = owned[i].tensor;
  }
  if (code != 0) {
    fprintf(stderr, "call_layer: out of memory\n");
  } else {
    int status = moe_entry_call(context, entry, tensors, info->num_inputs,
                                tensors + info->num_inputs, info->num_outputs);
    if (status != MOE_OK)
      code = report(context, status);
    for (uint32_t i = info->num_inputs; i < count && code == 0; ++i)
      print(&info->args[i], &owned[i]);
  }
  for (uint32_t i = 0; owned && i < count; ++i)
    free(owned[i].tensor.data);
  free(owned);
  free(tensors);
  return code;
}

int main(int argc, char **argv) {
  if (argc < FIRST_SIZE) {
    fprintf(stderr, "usage: call_layer LIBRARY ENTRY [SYMBOL=SIZE ...]\n");
    return 1;
  }

  moe_context *context = NULL;
  int status = moe_context_create(0, &context);
  if (status != MOE_OK)
    return report(NULL, status);

  moe_module *module = NULL;
  moe_entry entry;
#ifdef MOE_LAYER
  entry.info = &SYMBOL(MOE_LAYER, _info);
  entry.run = SYMBOL(MOE_LAYER, );
  entry.workspace = SYMBOL(MOE_LAYER, _workspace);
  entry.pack = SYMBOL(MOE_LAYER, _pack);
  entry.pack_info = &SYMBOL(MOE_LAYER, _pack_info);
#else
  status = moe_module_load(context, argv[1], &module);
  if (status == MOE_OK)
    status = moe_module_entry(context, module, argv[2], &entry);
#endif

  moe_gpu *gpu = NULL;
  if (status == MOE_OK && entry.info->device == MOE_DEVICE_CUDA)
    status = moe_gpu_open_cuda(context, 0, &gpu);
  moe_context_set_gpu(context, gpu);

  int64_t sizes[MOE_MAX_SYMBOLS];
  int code = 1;
  if (status != MOE_OK)
    code = report(context, status);
  else if (read_sizes(entry.info, argc, argv, sizes))
    code = run(context, &entry, sizes);
  moe_module_unload(module);
  moe_context_destroy(context);
  if (gpu)
    gpu->destroy(gpu);
  return code;
}
