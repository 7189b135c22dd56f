//===- tiny_layer.c - A layer written by hand ---------------------*- C -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a compiled layer looks like to its host, in C:
//   tiny(x: f32[T, 4], ids: i32[T]) -> y: f32[T, 4], y = x * (ids + 1)
// with ids in [0, 8) and T at most 1000, and entries that a host must refuse.
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/moe_rt.h"

#include <stdio.h>

#define F32 {2, 32, 1}
#define I32 {0, 32, 1}

#define TINY_INFO(symbol, version, x_rank)                                     \
  const moe_entry_info symbol = {version,                                      \
                                 2,                                            \
                                 1,                                            \
                                 1,                                            \
                                 MOE_DEVICE_CPU,                               \
                                 0,                                            \
                                 "tiny",                                       \
                                 {"T"},                                        \
                                 {1000},                                       \
                                 {{"x", "", F32, x_rank, {-1, 4}},             \
                                  {"ids", "", I32, 1, {-1}},                   \
                                  {"y", "", F32, 2, {-1, 4}}}}

TINY_INFO(moe_tiny_info, MOE_ABI_VERSION, 2);
TINY_INFO(moe_future_info, MOE_ABI_VERSION + 1, 2);
TINY_INFO(moe_malformed_info, MOE_ABI_VERSION, 99);
TINY_INFO(moe_nothing_info, MOE_ABI_VERSION, 2);
TINY_INFO(moe_nopack_info, MOE_ABI_VERSION, 2);

/* No input has a layout, so that there is nothing to pack. */
const moe_entry_info moe_tiny_pack_info = {
    MOE_ABI_VERSION, 0, 0, 0, MOE_DEVICE_CPU, 0, "tiny_pack", {""}, {0}, {}};

static int find_workspace(moe_context *context, const moe_tensor *in,
                          size_t *bytes) {
  int status = context->check_inputs(context, &moe_tiny_info, in);
  if (status == MOE_OK)
    *bytes = (size_t)in[0].shape[0] * sizeof(float);
  return status;
}

typedef struct {
  const float *x;
  const float *scale;
  float *y;
} tiny_rows;

static void scale_rows(void *data, int64_t begin, int64_t end) {
  const tiny_rows *rows = data;
  for (int64_t i = begin * 4; i < end * 4; ++i)
    rows->y[i] = rows->x[i] * rows->scale[i / 4];
}

int moe_tiny_workspace(moe_context *context, const moe_tensor *in,
                       size_t *bytes) {
  return find_workspace(context, in, bytes);
}

int moe_tiny(moe_context *context, const moe_tensor *in, moe_tensor *out,
             void *workspace, size_t workspace_bytes) {
  size_t needed = 0;
  int status = find_workspace(context, in, &needed);
  if (status != MOE_OK)
    return status;
  status = context->check(context, &moe_tiny_info, in, out, workspace,
                          workspace_bytes, needed);
  if (status != MOE_OK)
    return status;

  int64_t tokens = in[0].shape[0];
  const int32_t *ids =
      (const int32_t *)((const char *)in[1].data + in[1].byte_offset);
  float *scale = workspace;
  for (int64_t i = 0; i < tokens; ++i) {
    if (ids[i] < 0 || ids[i] >= 8) {
      char message[96];
      snprintf(message, sizeof(message),
               "tiny: argument 'ids' (input 1): id %d of token %lld is outside "
               "[0, 8)",
               (int)ids[i], (long long)i);
      return context->fail(context, MOE_ERROR_DATA, message);
    }
    scale[i] = (float)(ids[i] + 1);
  }
  tiny_rows rows = {
      (const float *)((const char *)in[0].data + in[0].byte_offset), scale,
      (float *)((char *)out[0].data + out[0].byte_offset)};
  context->parallel_for(context, tokens, scale_rows, &rows);
  return MOE_OK;
}

int moe_tiny_pack(moe_context *context, const moe_tensor *in, moe_tensor *out) {
  (void)in;
  (void)out;
  return context->fail(context, MOE_ERROR_ARGUMENT,
                       "tiny: no input has a packed layout");
}

int moe_nopack(moe_context *context, const moe_tensor *in, moe_tensor *out,
               void *workspace, size_t workspace_bytes) {
  return moe_tiny(context, in, out, workspace, workspace_bytes);
}

int moe_nopack_workspace(moe_context *context, const moe_tensor *in,
                         size_t *bytes) {
  return find_workspace(context, in, bytes);
}
