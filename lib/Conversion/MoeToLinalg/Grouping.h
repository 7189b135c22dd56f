//===- Grouping.h - Assignments in expert order -----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_GROUPING_H
#define MOE_LIB_CONVERSION_MOETOLINALG_GROUPING_H

#include "Emit.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe::tolinalg {

/// The grouped form of a routing, as the results of moe.group.
struct Grouping {
  Value offsets; ///< [E + 1]
  Value token;   ///< [N]
  Value first;   ///< [T + 1]
  Value slot;    ///< [N]
  Value weight;  ///< [N]; null without weights.
};

/// A routing as an op holds it; weights may be null.
struct Assignments {
  Value ids, weights;
  Choice choice;
};

/// Groups a routing into destinations of the grouped form's shapes. Ids
/// outside the experts (the tokens, where experts choose) are no assignments.
Grouping emitGrouping(ImplicitLocOpBuilder &b, const Assignments &routing,
                      const Grouping &dests);

/// As above, into new tensors.
Grouping emitGrouping(ImplicitLocOpBuilder &b, const Assignments &routing,
                      int64_t numExperts, Value numTokens);

/// The operands of a weighted sum of rows by token; all but the first three
/// may be null.
struct SlotSum {
  Value rows, first, slot;
  Value weight, identityWeight, identity, residual, bias;
  double scale = 1.0;
  bool average = false;
};

/// Writes the sums to dest [T, D].
Value emitSlotSum(ImplicitLocOpBuilder &b, const SlotSum &sum, Value dest);

/// Writes source[rows[n]] to every row n of dest, times scale[n], with one
/// rounding. Without `rows` (null) that is source[n]; `scale` may be null.
Value emitGather(ImplicitLocOpBuilder &b, Value source, Value rows, Value scale,
                 Value dest);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_GROUPING_H
