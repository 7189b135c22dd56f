//===- Capacity.h - What both forms of limit_capacity share -----*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_CAPACITY_H
#define MOE_LIB_CONVERSION_MOETOLINALG_CAPACITY_H

#include "Emit.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe::tolinalg {

/// How many assignments an expert serves in a group of so many tokens, an
/// index.
Value emitCapacityLimit(ImplicitLocOpBuilder &b, LimitCapacityOp op,
                        Value count);

/// Weights over the sum of their token's full slots, at least `eps`.
class WeightShares {
public:
  WeightShares(ImplicitLocOpBuilder &b, Value zero, Value ids, Value weights,
               double eps)
      : b(b), ids(ids), eps(eps), compute(getComputeType(b, {weights})),
        element(getElementType(weights)), zero(zero),
        numSlots(emitDim(b, ids, 1)) {}

  /// The weights of one token over their sum, written to a row of dest, which
  /// holds them already where `weights` is null.
  Value emitToken(Value token, Value weights, Value dest, Value row);

private:
  Value isFull(Value token, Value slot);
  Value readWide(Value from, Value token, Value slot);

  ImplicitLocOpBuilder &b;
  Value ids;
  double eps;
  FloatType compute;
  Type element;
  Value zero, numSlots;
};

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_CAPACITY_H
