//===- WidenBody.h - Scalar bodies on SIMD lanes ----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Token bodies and epilogues are written once, on scalars. This turns such a
// body into one on `lanes` values at a time: a value that depends on the lane
// becomes a vector, a row of the lane becomes a tensor with the lanes as its
// last dimension, and everything equal for all lanes stays a scalar.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_WIDENBODY_H
#define MOE_DIALECT_MOE_UTILS_WIDENBODY_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::moe {

/// Clones the operations of `body` but its terminator to the builder's place
/// and returns the lane values of the terminator's operands, each a vector of
/// `lanes`. `mapping` holds the lane form of the body's arguments: a vector for
/// a scalar, a tensor<..x lanes> for a row of the lane, or a value equal for
/// all lanes as it is. Reports an op that has no lane form: one that is neither
/// elementwise nor known here, or a row read at an index that differs by lane.
FailureOr<SmallVector<Value>> widenBody(OpBuilder &builder, Block &body,
                                        IRMapping &mapping, int64_t lanes);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_WIDENBODY_H
