//===- OldDriver.c - A driver that lacks what is needed -----------*- C -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

int cuInit(unsigned flags);
int cuInit(unsigned flags) { return (int)flags; }

int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version) {
  *version = 4000;
  return 0;
}
