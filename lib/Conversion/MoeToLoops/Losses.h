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
  void loopLive(Value low, Value high, LoopBuilder::Body body);
  /// Variance of term(0) .. term(count - 1) over mean^2 + eps.
  Value emitSquaredVariation(Value count, bool isUnbiased, double eps,
                             llvm::function_ref<Value(Value)> term);
  /// Stores `factor` times the derivatives of that by its terms.
  void pullSquaredVariation(Value count, bool isUnbiased, double eps,
                            llvm::function_ref<Value(Value)> term, Value factor,
                            Value dest);

protected:
  /// The population variance or the unbiased one, and the mean.
  std::pair<Value, Value> emitVariance(Value count, Value divisor,
                                       llvm::function_ref<Value(Value)> term);
  Value divisorOf(Value count, bool isUnbiased);

  LoopBuilder &b;
  Value mask;
};

/// Sums over the scores [T, R] and ids of a group that losses of them and their
/// gradients need.
class ScoreSums : public TokenSums {
public:
  /// Buffers, null where absent.
  ScoreSums(LoopBuilder &b, Value mask, Value scores, Value ids)
      : TokenSums(b, mask), scores(scores), ids(ids),
        numExperts(b.size(scores, 1)) {}

protected:
  Value score(Value token, Value e) { return b.load(scores, {token, e}); }
  Value sumExperts(llvm::function_ref<Value(Value)> term) {
    return b.sum(b.index(0), numExperts, term);
  }
  Value sumScores(Value expert, Value low, Value high);
  /// The slots from the first to before the last that chose an expert.
  Value countSlots(Value expert, Value low, Value high, int64_t firstSlot,
                   Value lastSlot);
  /// The tokens with a positive score.
  Value countOpen(Value expert, Value low, Value high);
  /// A score but for that of the token's first expert, which is 0; and the sum
  /// of these + 1e-9.
  Value restOf(Value token, Value e);
  Value sumRest(Value token);
  Value logSumExp(Value token);
  /// Sets the flags [R] of a token's k largest scores.
  void markLargest(Value token, int64_t k, Value taken);
  /// Stores every expert's softmax over the tokens into a buffer [T, R].
  void computeTokenShares(Value low, Value high, Value shares);
  /// The mean of a token's shares.
  Value meanShare(Value shares, Value token);

  Value scores, ids;
  Value numExperts;
};

/// The loss of one group of tokens, `count` of which take part.
using GroupLossBody =
    llvm::function_ref<Value(Value low, Value high, Value count)>;

/// The tensor that holds coefficient * the mean of the groups' losses, over
/// those that have tokens.
Value emitGroupMean(LoopBuilder &b, Operation *op, Value offsets,
                    Value numTokens, TokenSums &sums,
                    const APFloat &coefficient, GroupLossBody body);

/// The gradient of one group; `factor` is what the group's loss is multiplied
/// with, times the cotangent.
using GroupGradientBody =
    llvm::function_ref<void(Value low, Value high, Value count, Value factor)>;

/// Runs `body` on the groups that have tokens, for a cotangent [] of the mean
/// of their losses.
void pullGroupMean(LoopBuilder &b, Operation *op, Value offsets,
                   Value numTokens, TokenSums &sums, Value cotangent,
                   const APFloat &coefficient, GroupGradientBody body);

/// The smooth load of experts in one group of tokens, of a loss or of its
/// gradient.
class SmoothLoad : public TokenSums {
public:
  template <typename OpTy>
  SmoothLoad(LoopBuilder &b, OpTy op)
      : TokenSums(b, b.input(op.getTokenMask())), clean(b.input(op.getClean())),
        noisy(b.input(op.getNoisy())), sigma(b.input(op.getSigma())),
        numExperts(b.size(clean, 1)),
        load(b.scratch(b.getComputeType(), numExperts)),
        isOthers(op.getThreshold() == LoadThreshold::kth_excluding),
        k(static_cast<int64_t>(op.getK())), eps(op.getEps().convertToDouble()),
        std(op.getStd() ? op.getStd()->convertToDouble() : 0.0),
        taken(b.scratch(b.getI1Type(), numExperts)),
        found(b.scratch(b.getComputeType(), {})),
        holder(b.scratch(b.getIndexType(), {})) {}

  Value emit(Value low, Value high);

protected:
  void computeLoad(Value low, Value high);
  /// Finds the threshold of an entry: `getThreshold` is its value, -inf where
  /// there is none, and `getHolder` whose noisy logit it is.
  void findThreshold(Value token, Value e);
  Value getThreshold() { return b.load(found, {}); }
  Value getHolder() { return b.load(holder, {}); }
  Value isNone(Value x);
  Value emitSigma(Value token, Value e);

  Value clean, noisy, sigma; ///< Operands; sigma null where it is a number.
  Value numExperts;
  Value load; ///< [R]
  bool isOthers;
  int64_t k;
  double eps, std;

private:
  Value chance(Value token, Value e);

  Value taken;         ///< [R]
  Value found, holder; ///< []
};

void populateLossGradientPatterns(RewritePatternSet &patterns);
void populateTrainingPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe::loops

#endif // MOE_LIB_CONVERSION_MOETOLOOPS_LOSSES_H
