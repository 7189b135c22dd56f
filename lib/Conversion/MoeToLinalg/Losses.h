//===- Losses.h - What losses share -----------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_LOSSES_H
#define MOE_LIB_CONVERSION_MOETOLINALG_LOSSES_H

#include "GroupFolds.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

namespace mlir::moe::tolinalg {

/// Emits a loss, its value for every group of tokens and their mean, or the
/// gradient of one. Sums are of the compute type.
class LossEmitter {
public:
  /// `mask` and `offsets` are operands of the op, or null.
  LossEmitter(ImplicitLocOpBuilder &b, int64_t width, FloatType compute,
              Value mask, Value offsets)
      : b(b), width(width), compute(compute), mask(mask), offsets(offsets) {}

protected:
  /// The loss of the tokens from `begin` on, `numTokens` of which (a float)
  /// take part.
  using LossBody =
      llvm::function_ref<Value(Value begin, Value count, Value numTokens)>;
  /// Its gradient times `factor`, written to `dests`.
  using GradientBody = llvm::function_ref<SmallVector<Value>(
      Value begin, Value count, Value numTokens, Value factor,
      ValueRange dests)>;

  /// `coefficient` times the mean over the groups that have tokens, as `op`'s
  /// result.
  Value emitMean(ReifyRankedShapedTypeOpInterface op, Value tokens,
                 const APFloat &coefficient, LossBody body);
  /// The results of `op`, the backward of that: zeros but for what `body`
  /// writes.
  SmallVector<Value> emitGradients(ReifyRankedShapedTypeOpInterface op,
                                   Value cotangent, const APFloat &coefficient,
                                   GradientBody body);

  /// `coefficient` times a sum over that many groups (i32), as `op`'s result.
  Value emitScaledMean(ReifyRankedShapedTypeOpInterface op, Value sum,
                       Value numGroups, const APFloat &coefficient);
  /// Destinations that are zero.
  SmallVector<Value> emitZeroGradients(ReifyRankedShapedTypeOpInterface op);
  /// What a gradient is multiplied by where all tokens are one group.
  Value emitFactor(Value cotangent, const APFloat &coefficient);
  Value emitIsFull(Value numTokens);

  /// As emitMean, with an iteration a group, which has its tokens' number as a
  /// float.
  Value emitMeanOfGroups(
      ReifyRankedShapedTypeOpInterface op, GroupFolds &folds,
      const APFloat &coefficient,
      llvm::function_ref<Value(Value group, Value numTokens)> body);
  /// What the gradients of all groups are multiplied by.
  Value emitFactorOfGroups(GroupFolds &folds, Value cotangent,
                           const APFloat &coefficient);

  /// A loop over the group's tokens that are not masked.
  Value
  emitLiveLoop(Value begin, Value count, Value init,
               llvm::function_ref<Value(Value token, Value carried)> body);
  /// The sum of a term over the group's tokens that are not masked.
  Value emitLiveSum(Value begin, Value count,
                    llvm::function_ref<Value(Value token)> term);
  /// The sum of a term over the experts.
  Value emitSum(llvm::function_ref<Value(Value expert)> term);
  /// Variance of a list [R] over its squared mean + eps.
  Value emitSquaredVariation(Value list, bool isUnbiased, double eps);
  /// `factor` times its gradient, a list [R].
  Value emitVariationGradient(Value list, bool isUnbiased, double eps,
                              Value factor);
  /// A list [R].
  Value emitExperts(llvm::function_ref<Value(Value expert)> value);
  /// Whether an expert's key ranks behind another expert's.
  Value emitIsBehind(KeyOrder &order, Value key, Value expert, Value otherKey,
                     Value otherId);
  /// A list [R] of zeros.
  Value emitZeros();

  Value constant(double value) { return emitFloat(b, compute, value); }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, x, y); }
  Value square(Value x) { return mul(x, x); }
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, condition, x, y);
  }
  Value isEqual(Value x, Value y) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, x, y);
  }
  Value asFloat(Value count) {
    return arith::SIToFPOp::create(b, compute, count);
  }
  Value read(Value tensor, Value token, Value expert) {
    return emitConvert(b, emitRead(b, tensor, {token, expert}), compute);
  }

  ImplicitLocOpBuilder &b;
  int64_t width;
  FloatType compute;
  Value mask, offsets;

private:
  /// How many groups have tokens that take part (i32).
  Value emitNumFull(GroupFolds &folds);
  /// How many tokens of a group take part (i32).
  Value emitNumTokens(Value begin, Value count);
  /// The variance and the mean of a list.
  std::pair<Value, Value> emitVariance(Value list, double divisor);
  double getDivisor(bool isUnbiased) {
    return isUnbiased ? std::max<int64_t>(width - 1, 1) : width;
  }
  Value emitMeanSquare(Value mean, double eps);
};

/// Sums over the scores and ids of a group that losses of them and their
/// gradients need.
class ScoreSums : public LossEmitter {
public:
  template <typename OpTy>
  ScoreSums(ImplicitLocOpBuilder &b, OpTy op, FloatType compute)
      : LossEmitter(b, op.getScores().getType().getDimSize(1), compute,
                    op.getTokenMask(), op.getGroupOffsets()),
        scores(op.getScores()), ids(op.getIds()) {}

protected:
  /// The last that is among a token's k largest scores, as key and id.
  struct Last {
    Value key, id;
  };

  Value readScore(Value token, Value expert) {
    return read(scores, token, expert);
  }
  /// The scores [R] summed over the group's tokens.
  Value emitScoreSums(Value begin, Value count);
  /// How many of some slots of the group chose each expert, [R] i32.
  Value emitCounts(Value begin, Value count, Value firstSlot, Value lastSlot);
  /// How many tokens have a positive score, [R].
  Value emitOpenCounts(Value begin, Value count);
  /// The expert of a token's first slot; its score of another one, 0 of this;
  /// and the sum of these + 1e-9.
  Value emitFirst(Value token);
  Value emitRest(Value token, Value expert, Value first);
  Value emitRestSum(Value token, Value first);
  /// The largest score, 0 where it is not finite, and the sum of the powers of
  /// the scores less that.
  std::pair<Value, Value> emitPowerSum(Value token);
  Last emitLast(Value token, int64_t k);
  Value emitIsOutside(const Last &last, Value token, Value expert);
  /// The slots of ids whose choices an op counts: the first, and one behind the
  /// last.
  template <typename OpTy>
  static std::pair<int64_t, int64_t> getSlots(OpTy op) {
    if (op.getKind() == AuxLossKind::second_place)
      return {1, 2};
    if (op.getKind() == AuxLossKind::balance)
      return {0, op.getIds().getType().getDimSize(1)};
    return {0, 1};
  }
  /// A softmax over the group's tokens that take part, [count, R].
  Value emitTokenShares(Value begin, Value count);
  /// The mean of a row of it.
  Value emitMeanShare(Value shares, Value begin, Value token);

  /// Tables of the same for all groups: the summed scores, how many of some
  /// slots chose an expert, how many scores are positive, and softmax over the
  /// tokens, [T, R].
  Value emitScoreTable(GroupFolds &folds);
  Value emitCountTable(GroupFolds &folds, int64_t firstSlot, int64_t lastSlot);
  Value emitOpenTable(GroupFolds &folds);
  Value emitShareTable(GroupFolds &folds);

  Value scores, ids; ///< Operands; ids null where absent.
};

/// The formulas of auxiliary losses, of sums over the tokens of a group.
class AuxLossFormulas : public ScoreSums {
public:
  AuxLossFormulas(ImplicitLocOpBuilder &b, AuxLossOp op)
      : ScoreSums(b, op, getComputeType(b, {op.getScores(), op.getLoss()})),
        op(op) {}

protected:
  /// What a loss reads; null where it does not.
  struct Sums {
    Value scores; ///< [R], or for the second place its shares of the rest.
    Value counts; ///< [R]: of choices (i32), or of positive scores.
    Value terms;  ///< Of emitTerm, a number.
  };

  Value emitValue(const Sums &sums, Value numTokens);
  /// The term of a token of a loss that is a mean of such.
  Value emitTerm(Value token);
  AuxLossOp op;

private:
  Value emitShareProduct(const Sums &sums, Value numTokens);
  Value emitLogSumExp(Value token);
  Value emitTail(Value token);
  Value emitEntropy(Value token);
};

/// The formulas of their gradients.
class AuxLossSlopes : public ScoreSums {
public:
  AuxLossSlopes(ImplicitLocOpBuilder &b, AuxLossVJPOp op)
      : ScoreSums(b, op,
                  getComputeType(b, {op.getScores(), op.getCotangent(),
                                     op.getGradient()})),
        op(op) {}

protected:
  /// A token, and the row of `dest` that its gradient goes to.
  struct Row {
    Value token, dest, place;
  };

  /// Writes value(expert) to a row.
  Value writeRow(const Row &row, llvm::function_ref<Value(Value expert)> value);
  /// The slopes [R] of all tokens of a group, by how many chose an expert in
  /// slots up to `lastSlot`, and by how many scores are positive.
  Value emitCountSlopes(Value counts, int64_t lastSlot, Value numTokens,
                        Value factor);
  Value emitOpenSlopes(Value open, Value numTokens, Value factor);
  /// No score is outside of all: there is no slope.
  bool hasNoTerms() {
    return op.getKind() == AuxLossKind::trimmed_lasso &&
           static_cast<int64_t>(*op.getK()) >= width;
  }
  /// What the rows of a mean of terms are multiplied by.
  Value emitTermScale(Value numTokens, Value factor);
  Value emitTermRow(const Row &row, Value scale);
  Value emitSecondPlaceRow(const Row &row, Value slopes);
  /// What the mean share of a token is multiplied by.
  Value emitBalanceScale(Value numTokens, Value factor);

  AuxLossVJPOp op;

private:
  Value emitZRow(const Row &row, Value scale);
  Value emitTailRow(const Row &row, Value scale);
  Value emitEntropyRow(const Row &row, Value scale);
};

/// The smooth load of experts, of a loss or of its gradient.
class SmoothLoad : public LossEmitter {
public:
  template <typename OpTy>
  SmoothLoad(ImplicitLocOpBuilder &b, OpTy op, FloatType compute)
      : LossEmitter(b, op.getClean().getType().getDimSize(1), compute,
                    op.getTokenMask(), op.getGroupOffsets()),
        clean(op.getClean()), noisy(op.getNoisy()), sigma(op.getSigma()),
        isOthers(op.getThreshold() == LoadThreshold::kth_excluding),
        k(static_cast<int64_t>(op.getK())), eps(op.getEps().convertToDouble()),
        std(op.getStd() ? op.getStd()->convertToDouble() : 0.0) {}

protected:
  /// The k-th and (k+1)-th largest noisy logit of a token, -inf where there is
  /// none, and whose they are.
  struct Thresholds {
    SmallVector<Value, 2> values, keys, ids;
  };
  /// An entry (t, e) and its threshold, which is the (k+1)-th where `isSecond`.
  struct Entry {
    Value clean, sigma, threshold;
    Value isSecond; ///< Null where it never is.
    Value isNever;  ///< It is at -inf and is never chosen,
    Value isAlways; ///< or there is no threshold.
  };

  /// The load [R] of a group.
  Value emitLoad(Value begin, Value count);
  Thresholds emitThresholds(Value token);
  Entry emitEntry(Value token, Value expert, const Thresholds &thresholds);
  /// The loads of all groups, [groups, R].
  Value emitLoadTable(GroupFolds &folds);
  /// What an entry adds to its expert's load.
  Value emitChance(const Entry &entry);

  Value clean, noisy, sigma; ///< Operands; sigma null where it is a number.
  bool isOthers;
  int64_t k;
  double eps, std;
};

/// The loss of it.
class LoadFormula : public SmoothLoad {
public:
  LoadFormula(ImplicitLocOpBuilder &b, LoadLossOp op)
      : SmoothLoad(b, op,
                   getComputeType(b, {op.getClean(), op.getNoisy(),
                                      op.getSigma(), op.getLoss()})) {}

protected:
  Value emitValue(Value load) {
    return emitSquaredVariation(load, /*isUnbiased=*/false, eps);
  }
};

/// Its gradients.
class LoadSlopes : public SmoothLoad {
public:
  LoadSlopes(ImplicitLocOpBuilder &b, LoadLossVJPOp op)
      : SmoothLoad(b, op,
                   getComputeType(
                       b, {op.getClean(), op.getNoisy(), op.getSigma(),
                           op.getCotangent(), op.getGradients()[0],
                           op.getGradients()[1], op.getGradients().back()})) {}

protected:
  /// The slopes [R] of a load.
  Value emitSlopes(Value load, Value factor) {
    return emitVariationGradient(load, /*isUnbiased=*/false, eps, factor);
  }
  /// Writes a token's gradients to the row `place` of dests.
  SmallVector<Value> emitToken(Value token, Value slopes, ValueRange dests,
                               Value place);

private:
  /// What an entry gives to clean and to sigma.
  std::pair<Value, Value> emitEntrySlopes(const Entry &entry, Value slope);
};

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_LOSSES_H
