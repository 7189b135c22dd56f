//===- MoeC.cpp - The compiler as one C library ---------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Everything in libMoeC.so comes from archives; CMake wants one source.
//
//===----------------------------------------------------------------------===//

#include "moe-c/Compiler.h"
#include "moe-c/Dialects.h"
