//===- CappedAssignment.h - Expert choice with a cap ------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_CAPPEDASSIGNMENT_H
#define MOE_LIB_CONVERSION_MOETOLINALG_CAPPEDASSIGNMENT_H

#include "Threads.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe::tolinalg {

/// The logarithm of the assignment [n, E] of one group of tokens by its scores
/// [n, E], f64: experts take `taken` tokens each. `mask` [n], or null, has the
/// tokens that are there; the others are at -inf.
Value emitCappedAssignment(ImplicitLocOpBuilder &b, ExpertChoiceAttr router,
                           Value scores, Value mask, Value taken);

/// The same of all groups, [T, E], by parallel loops in a loop over sweeps.
/// `taken` [groups, 1] is an i32.
Value emitCappedAssignment(ImplicitLocOpBuilder &b, ExpertChoiceAttr router,
                           const TokenGroups &groups, Value scores, Value mask,
                           Value taken);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_CAPPEDASSIGNMENT_H
