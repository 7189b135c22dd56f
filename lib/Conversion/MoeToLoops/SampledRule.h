//===- SampledRule.h - What the oracle's sampling routers share -*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLOOPS_SAMPLEDRULE_H
#define MOE_LIB_CONVERSION_MOETOLOOPS_SAMPLEDRULE_H

#include "Subsets.h"

namespace mlir::moe::loops {

/// What the rules share. The builder computes in f64.
class SampledRule {
public:
  SampledRule(LoopBuilder &b, RouteOp op, int64_t numSlots)
      : b(b), op(op), logits(b.input(op.getLogits())),
        numExperts(b.size(logits, 1)), numSlots(b.index(numSlots)),
        shares(b.scratch(b.getComputeType(), numExperts)),
        taken(b.scratch(b.getI1Type(), numExperts)),
        chosen(b.scratch(b.getIndexType(), this->numSlots)) {}

protected:
  Value logit(Value token, Value e) { return b.load(logits, {token, e}); }
  /// softmax over all experts of logits / temperature into `shares`.
  void computeShares(Value token, double temperature);
  /// The largest into `chosen`, empty where the logit is -inf.
  void chooseLargest(Value token, Value count);
  Value uniform(Value token, Value draw) {
    Value number = emitTokenNumber(b, op.getFirstToken(), token);
    return emitUniform(b, op.getSeed(), op.getLayer(), number, draw);
  }
  Value gumbel(Value token, Value draw); ///< -log(-log(u + 2^-25)).
  Value isFull(Value slot) {
    return b.lessEqual(b.index(0), b.load(chosen, slot));
  }
  /// Writes the full slots.
  void write(Value token, Value ids, Value weights,
             llvm::function_ref<Value(Value slot)> weight);

  LoopBuilder &b;
  RouteOp op;
  Value logits, numExperts, numSlots;
  Value shares; ///< [E]
  Value taken;  ///< [E]
  Value chosen; ///< [k]
};

/// Runs a rule on every live token.
template <typename RuleTy>
void routeTokens(LoopBuilder &b, RouteOp op, RuleTy rule, Value ids,
                 Value weights) {
  Value mask = b.input(op.getTokenMask());
  b.loop(b.size(ids, 0), [&](Value token) {
    b.when(b.isLive(mask, token),
           [&] { rule.routeToken(token, ids, weights); });
  });
}

/// As routeBySampling, for the routers that take two experts.
bool routeTopTwo(LoopBuilder &b, RouteOp op, Value ids, Value weights);
/// And for product keys.
bool routeByProductKeys(LoopBuilder &b, RouteOp op, Value ids, Value weights);

} // namespace mlir::moe::loops

#endif // MOE_LIB_CONVERSION_MOETOLOOPS_SAMPLEDRULE_H
