//===- header_c99.c - The interface as C99 ------------------------*- C -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Compiled with -std=c99 -pedantic -Wall -Wextra -Werror, and with the layout
// that compiled layers carry as bytes spelt out.
//
//===----------------------------------------------------------------------===//

#include "moe/Runtime/moe_rt.h"

#define EXPECT(name, condition) typedef char name[(condition) ? 1 : -1]

EXPECT(arg_size, sizeof(moe_arg_info) == 328);
EXPECT(arg_layout, offsetof(moe_arg_info, layout) == 64);
EXPECT(arg_dtype, offsetof(moe_arg_info, dtype) == 256);
EXPECT(arg_rank, offsetof(moe_arg_info, rank) == 260);
EXPECT(arg_shape, offsetof(moe_arg_info, shape) == 264);
EXPECT(info_inputs, offsetof(moe_entry_info, num_inputs) == 4);
EXPECT(info_outputs, offsetof(moe_entry_info, num_outputs) == 8);
EXPECT(info_symbols, offsetof(moe_entry_info, num_symbols) == 12);
EXPECT(info_device, offsetof(moe_entry_info, device) == 16);
EXPECT(info_name, offsetof(moe_entry_info, name) == 24);
EXPECT(info_symbol_name, offsetof(moe_entry_info, symbol_name) == 88);
EXPECT(info_symbol_bound, offsetof(moe_entry_info, symbol_bound) == 216);
EXPECT(info_args, offsetof(moe_entry_info, args) == 280);
EXPECT(dtype_size, sizeof(moe_dtype) == 4);
EXPECT(pointer_size, sizeof(void *) == 8);
EXPECT(tensor_size, sizeof(moe_tensor) == 48);
EXPECT(tensor_ndim, offsetof(moe_tensor, ndim) == 16);
EXPECT(tensor_dtype, offsetof(moe_tensor, dtype) == 20);
EXPECT(tensor_shape, offsetof(moe_tensor, shape) == 24);
EXPECT(tensor_strides, offsetof(moe_tensor, strides) == 32);
EXPECT(tensor_offset, offsetof(moe_tensor, byte_offset) == 40);
EXPECT(context_parallel_for, offsetof(moe_context, parallel_for) == 8);
EXPECT(context_check, offsetof(moe_context, check) == 16);
EXPECT(context_check_inputs, offsetof(moe_context, check_inputs) == 24);
EXPECT(context_fail, offsetof(moe_context, fail) == 32);
EXPECT(context_launch, offsetof(moe_context, launch) == 40);
EXPECT(context_copy_back, offsetof(moe_context, copy_back) == 48);
EXPECT(launch_size, sizeof(moe_launch) == 80);
EXPECT(launch_kernel, offsetof(moe_launch, kernel) == 16);
EXPECT(launch_grid, offsetof(moe_launch, grid) == 24);
EXPECT(launch_arguments, offsetof(moe_launch, arguments) == 56);
EXPECT(launch_image_id, offsetof(moe_launch, image_id) == 64);
EXPECT(gpu_size, sizeof(moe_gpu) == 80);
EXPECT(gpu_allocate, offsetof(moe_gpu, allocate) == 8);
EXPECT(gpu_launch, offsetof(moe_gpu, launch) == 40);
EXPECT(gpu_destroy, offsetof(moe_gpu, destroy) == 72);

/* Every function as a C program sees it; returns the status of one call. */
int moe_test_from_c(void);
int moe_test_from_c(void) {
  moe_context *context = NULL;
  moe_module *module = NULL;
  moe_entry entry;
  int status = moe_context_create(2, &context);
  if (status != MOE_OK)
    return status;
  if (moe_context_threads(context) != 2)
    status = -1;
  moe_context_set_parallel_for(context, NULL, NULL);
  moe_context_set_gpu(context, NULL);
  if (moe_context_set_stream(context, NULL) != MOE_ERROR_DEVICE)
    status = -6;
  if (moe_module_load(context, "/nowhere/layer.so", &module) != MOE_ERROR_LOAD)
    status = -2;
  if (moe_module_entry(context, module, "x", &entry) != MOE_ERROR_ARGUMENT)
    status = -3;
  if (moe_entry_call(context, &entry, NULL, 0, NULL, 0) != MOE_ERROR_ARGUMENT)
    status = -4;
  if (moe_context_error(context)[0] == '\0' || !moe_status_name(status)[0])
    status = -5;
  moe_module_unload(module);
  moe_context_destroy(context);
  return status;
}
