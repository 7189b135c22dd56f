//===- Sort.h - Stable order of keys ----------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_SORT_H
#define MOE_LIB_CONVERSION_MOETOLINALG_SORT_H

#include "Emit.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

namespace mlir::moe::tolinalg {

/// The positions [n] (i32) of keys [n] by falling key, ties to the lower
/// position.
Value emitDescendingOrder(ImplicitLocOpBuilder &b, KeyOrder &order, Value keys);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_SORT_H
