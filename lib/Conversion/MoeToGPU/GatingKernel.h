//===- GatingKernel.h - One kernel for gate and choice ----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One thread owns one token: the router's token body is scalar code of one
// token, so it runs as it stands, and the sum of a logit keeps its one order.
// Threads share nothing, so there is neither a barrier nor workgroup memory.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOGPU_GATINGKERNEL_H
#define MOE_LIB_CONVERSION_MOETOGPU_GATINGKERNEL_H

#include "GatingTile.h"

namespace mlir::moe {

/// Emits a gpu.launch that does a tile loop's work with `threads` threads a
/// block, and erases what it replaces.
void emitGatingKernel(GatingTile &tile, int64_t threads);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_GATINGKERNEL_H
