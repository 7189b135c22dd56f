/*===- use_runtime.c - A C program on the installed runtime ---------------===*\
|*                                                                            *|
|* Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.      *|
|* See LICENSE for license information.                                       *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#include "moe/Runtime/moe_rt.h"

#include <stdio.h>

int main(void) {
  moe_context *context = NULL;
  int status = moe_context_create(2, &context);
  if (status != 0) {
    fprintf(stderr, "moe_context_create: %s\n", moe_status_name(status));
    return 1;
  }
  int threads = moe_context_threads(context);
  moe_context_destroy(context);
  if (threads != 2) {
    fprintf(stderr, "asked for 2 threads, got %d\n", threads);
    return 1;
  }
  return 0;
}
