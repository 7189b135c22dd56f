//===- Losses.h - What losses share, as loops -------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLOOPS_LOSSES_H
#define MOE_LIB_CONVERSION_MOETOLOOPS_LOSSES_H

#include "LoopBuilder.h"

namespace mlir::moe::loops {

/// Sums over the tokens of a group that take part.
class TokenSums {
public:
  /// `mask` is a buffer [T], or null.
  TokenSums(LoopBuilder &b, Value mask) : b(b), mask(mask) {}

  /// The sum of term(token).
  Value sumLive(Value low, Value high, llvm::function_ref<Value(Value)> term);
  Value countTokens(Value low, Value high);
  /// Variance of term(0) .. term(count - 1) over mean^2 + eps.
  Value emitSquaredVariation(Value count, bool isUnbiased, double eps,
                             llvm::function_ref<Value(Value)> term);

protected:
  LoopBuilder &b;
  Value mask;
};

/// The loss of one group of tokens, `count` of which take part.
using GroupLossBody =
    llvm::function_ref<Value(Value low, Value high, Value count)>;

/// The tensor that holds coefficient * the mean of the groups' losses, over
/// those that have tokens.
Value emitGroupMean(LoopBuilder &b, Operation *op, Value offsets,
                    Value numTokens, TokenSums &sums,
                    const APFloat &coefficient, GroupLossBody body);

void populateTrainingPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe::loops

#endif // MOE_LIB_CONVERSION_MOETOLOOPS_LOSSES_H
