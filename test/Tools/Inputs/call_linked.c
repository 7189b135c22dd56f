/*===- call_linked.c - Calls a linked layer through its header ------------===*\
|*                                                                            *|
|* Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.      *|
|* See LICENSE for license information.                                       *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
|*===----------------------------------------------------------------------===*|
|*                                                                            *|
|*   call_linked T [EXPECTED.npy]                                             *|
|*                                                                            *|
|* Fills every f32 input with 0, 1, 2, ..., with T for all dynamic sizes, and *|
|* prints the first output, or compares it to the bit with a file of moe-run. *|
|* Compiled with -DHEADER='"layer.h"' -DLAYER=name.                           *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include HEADER

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASTE2(a, b, c) a##b##c
#define PASTE(a, b, c) PASTE2(a, b, c)
#define SYMBOL(suffix) PASTE(moe_, LAYER, suffix)
#define MOST 16

static int64_t shapes[MOST][MOE_MAX_RANK];
static moe_tensor tensors[MOST];

static size_t make(const moe_arg_info *arg, uint32_t i, int64_t size) {
  size_t count = 1, j;
  int32_t dim;
  for (dim = 0; dim < arg->rank; ++dim) {
    shapes[i][dim] = arg->shape[dim] < 0 ? size : arg->shape[dim];
    count *= (size_t)shapes[i][dim];
  }
  float *data = calloc(count + 1, sizeof(float));
  for (j = 0; j < count; ++j)
    data[j] = (float)j;
  moe_tensor tensor = {data, 1, 0, arg->rank, arg->dtype, shapes[i], NULL, 0};
  tensors[i] = tensor;
  return count;
}

/* Whether the file ends in these bytes, after a header of version 1. */
static int is_payload(const char *path, const void *data, size_t bytes) {
  unsigned char head[10];
  char *payload = malloc(bytes + 1);
  FILE *file = fopen(path, "rb");
  int same = file && payload && fread(head, 1, 10, file) == 10 &&
             fseek(file, 10 + head[8] + 256 * head[9], SEEK_SET) == 0 &&
             fread(payload, 1, bytes + 1, file) == bytes &&
             memcmp(payload, data, bytes) == 0;
  if (file)
    fclose(file);
  free(payload);
  return same;
}

int main(int argc, char **argv) {
  const moe_entry_info *info = &SYMBOL(_info);
  moe_entry entry = {info, SYMBOL(), SYMBOL(_workspace), SYMBOL(_pack),
                     &SYMBOL(_pack_info)};
  uint32_t count = info->num_inputs + info->num_outputs, i;
  size_t elements = 0, j;
  if (argc < 2 || count > MOST || info->num_outputs < 1)
    return 2;
  for (i = 0; i < count; ++i) {
    size_t made = make(&info->args[i], i, strtoll(argv[1], NULL, 10));
    if (i == info->num_inputs)
      elements = made;
  }

  moe_context *context = NULL;
  if (moe_context_create(2, &context) != MOE_OK)
    return 2;
  moe_tensor *out = tensors + info->num_inputs;
  int status = moe_entry_call(context, &entry, tensors, info->num_inputs, out,
                              info->num_outputs);
  if (status != MOE_OK) {
    fprintf(stderr, "%s: %s\n", moe_status_name(status),
            moe_context_error(context));
    return 1;
  }
  moe_context_destroy(context);
  if (argc > 2) {
    int same = is_payload(argv[2], out->data, elements * sizeof(float));
    printf("%lu elements %s\n", (unsigned long)elements,
           same ? "are the same" : "differ");
    return !same;
  }
  printf("%s:", info->args[info->num_inputs].name);
  for (j = 0; j < elements; ++j)
    printf(" %g", ((const float *)out->data)[j]);
  printf("\n");
  return 0;
}
