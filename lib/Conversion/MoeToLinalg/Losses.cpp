//===- Losses.cpp - aux_loss ----------------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Losses.h"
#include "Lowering.h"
#include "Patterns.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Conversion/MoeToLinalg.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

//===----------------------------------------------------------------------===//
// What losses share
//===----------------------------------------------------------------------===//

Value LossEmitter::emitNumTokens(Value begin, Value count) {
  return emitLiveLoop(begin, count, emitI32(b, 0), [&](Value, Value sum) {
    return emitAdd(b, sum, emitI32(b, 1));
  });
}

Value LossEmitter::emitIsFull(Value numTokens) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::sgt, numTokens,
                               emitI32(b, 0));
}

Value LossEmitter::emitMean(ReifyRankedShapedTypeOpInterface op, Value tokens,
                            const APFloat &coefficient, LossBody body) {
  // Carried: the sum over the groups, and the number of groups with tokens.
  SmallVector<Value> total = emitForGroups(
      b, op->getName().getStringRef(), offsets, emitDim(b, tokens, 0),
      {constant(0.0), emitI32(b, 0)},
      [&](Value begin, Value count, ValueRange carried) -> SmallVector<Value> {
        Value numTokens = emitNumTokens(begin, count);
        Value isFull = emitIsFull(numTokens);
        Value loss = body(begin, count, asFloat(numTokens));
        loss = select(isFull, loss, constant(0.0));
        Value one = arith::ExtUIOp::create(b, b.getI32Type(), isFull);
        return {add(carried[0], loss), emitAdd(b, carried[1], one)};
      });
  return emitScaledMean(op, total[0], total[1], coefficient);
}

Value LossEmitter::emitScaledMean(ReifyRankedShapedTypeOpInterface op,
                                  Value sum, Value numGroups,
                                  const APFloat &coefficient) {
  numGroups = arith::MaxSIOp::create(b, numGroups, emitI32(b, 1));
  Value loss = div(sum, asFloat(numGroups));
  loss = mul(loss, constant(coefficient.convertToDouble()));
  Value dest = emitDestinations(b, op)[0];
  return emitWrite(b, emitConvert(b, loss, getElementType(dest)), dest, {});
}

SmallVector<Value>
LossEmitter::emitZeroGradients(ReifyRankedShapedTypeOpInterface op) {
  SmallVector<Value> dests = emitDestinations(b, op);
  for (Value &dest : dests)
    dest = emitFill(b, emitFloat(b, getElementType(dest), 0.0), dest);
  return dests;
}

Value LossEmitter::emitFactor(Value cotangent, const APFloat &coefficient) {
  Value factor = emitConvert(b, emitRead(b, cotangent, {}), compute);
  return mul(factor, constant(coefficient.convertToDouble()));
}

SmallVector<Value>
LossEmitter::emitGradients(ReifyRankedShapedTypeOpInterface op, Value cotangent,
                           const APFloat &coefficient, GradientBody body) {
  SmallVector<Value> dests = emitZeroGradients(op);
  Value numRows = emitDim(b, dests[0], 0);
  Value factor = emitFactor(cotangent, coefficient);
  if (offsets) {
    Value numGroups = emitForGroups(
        b, op->getName().getStringRef(), offsets, numRows, emitI32(b, 0),
        [&](Value begin, Value count, ValueRange so) -> SmallVector<Value> {
          Value isFull = emitIsFull(emitNumTokens(begin, count));
          Value one = arith::ExtUIOp::create(b, b.getI32Type(), isFull);
          return {emitAdd(b, so[0], one)};
        })[0];
    factor = div(factor, asFloat(numGroups));
  }
  return emitForCheckedGroups(
      b, offsets, numRows, dests,
      [&](Value begin, Value count, ValueRange carried) {
        Value numTokens = asFloat(emitNumTokens(begin, count));
        return body(begin, count, numTokens, factor, carried);
      });
}

Value LossEmitter::emitLiveLoop(
    Value begin, Value count, Value init,
    llvm::function_ref<Value(Value token, Value carried)> body) {
  return emitLoop(b, begin, emitAdd(b, begin, count), init,
                  [&](Value token, ValueRange carried) -> SmallVector<Value> {
                    if (!mask)
                      return {body(token, carried[0])};
                    return emitIf(b, emitRead(b, mask, token), carried,
                                  [&]() -> SmallVector<Value> {
                                    return {body(token, carried[0])};
                                  });
                  })[0];
}

Value LossEmitter::emitLiveSum(Value begin, Value count,
                               llvm::function_ref<Value(Value token)> term) {
  return emitLiveLoop(
      begin, count, constant(0.0),
      [&](Value token, Value carried) { return add(carried, term(token)); });
}

Value LossEmitter::emitSum(llvm::function_ref<Value(Value expert)> term) {
  return emitLoop(b, emitIndex(b, 0), emitIndex(b, width), constant(0.0),
                  [&](Value expert, ValueRange carried) -> SmallVector<Value> {
                    return {add(carried[0], term(expert))};
                  })[0];
}

std::pair<Value, Value> LossEmitter::emitVariance(Value list, double divisor) {
  auto readList = [&](Value expert) { return emitRead(b, list, expert); };
  Value mean = div(emitSum(readList), constant(width));
  Value squares = emitSum(
      [&](Value expert) { return square(sub(readList(expert), mean)); });
  return {div(squares, constant(divisor)), mean};
}

Value LossEmitter::emitMeanSquare(Value mean, double eps) {
  return eps == 0.0 ? square(mean) : add(square(mean), constant(eps));
}

Value LossEmitter::emitSquaredVariation(Value list, bool isUnbiased,
                                        double eps) {
  auto [variance, mean] = emitVariance(list, getDivisor(isUnbiased));
  return div(variance, emitMeanSquare(mean, eps));
}

/// 2 ((x - mean) / divisor - variance mean / (R u)) / u, u = mean^2 + eps.
Value LossEmitter::emitVariationGradient(Value list, bool isUnbiased,
                                         double eps, Value factor) {
  double divisor = getDivisor(isUnbiased);
  auto parts = emitVariance(list, divisor);
  Value variance = parts.first, mean = parts.second;
  Value below = emitMeanSquare(mean, eps);
  Value pull = div(mul(variance, mean), mul(constant(width), below));
  Value scale = mul(constant(2.0), div(factor, below));
  return emitExperts([&](Value expert) {
    Value distance = sub(emitRead(b, list, expert), mean);
    return mul(scale, sub(div(distance, constant(divisor)), pull));
  });
}

Value LossEmitter::emitExperts(llvm::function_ref<Value(Value expert)> value) {
  return emitMapIndexed(b, emitList(b, b.getIndexAttr(width), compute), value);
}

Value LossEmitter::emitIsBehind(KeyOrder &order, Value key, Value expert,
                                Value otherKey, Value otherId) {
  Value isLess = order.isGreater(otherKey, key);
  Value isTie =
      arith::CmpIOp::create(b, arith::CmpIPredicate::eq, key, otherKey);
  Value isLater = arith::CmpIOp::create(b, arith::CmpIPredicate::sgt,
                                        emitToI32(b, expert), otherId);
  return arith::OrIOp::create(b, isLess,
                              arith::AndIOp::create(b, isTie, isLater));
}

Value LossEmitter::emitZeros() {
  return emitFill(b, constant(0.0),
                  emitList(b, b.getIndexAttr(width), compute));
}

//===----------------------------------------------------------------------===//
// ScoreSums
//===----------------------------------------------------------------------===//

Value ScoreSums::emitScoreSums(Value begin, Value count) {
  return emitLiveLoop(begin, count, emitZeros(), [&](Value token, Value sums) {
    Value row = emitSliceRow(b, scores, token);
    return emitAccumulate(b, row, sums, [&](Value score, Value sum) {
      return add(sum, emitConvert(b, score, compute));
    });
  });
}

Value ScoreSums::emitCounts(Value begin, Value count, Value firstSlot,
                            Value lastSlot) {
  Value zero = emitFill(b, emitI32(b, 0),
                        emitList(b, b.getIndexAttr(width), b.getI32Type()));
  return emitLiveLoop(begin, count, zero, [&](Value token, Value counts) {
    return emitLoop(
        b, firstSlot, lastSlot, counts, [&](Value slot, ValueRange carried) {
          Value id = emitRead(b, ids, {token, slot});
          Value isExpert = emitIsWithin(b, id, emitI32(b, width));
          return emitIf(b, isExpert, carried, [&]() -> SmallVector<Value> {
            Value expert = emitToIndex(b, id);
            Value more =
                emitAdd(b, emitRead(b, carried[0], expert), emitI32(b, 1));
            return {emitWrite(b, more, carried[0], expert)};
          });
        })[0];
  });
}

Value ScoreSums::emitOpenCounts(Value begin, Value count) {
  return emitLiveLoop(
      begin, count, emitZeros(), [&](Value token, Value counts) {
        Value row = emitSliceRow(b, scores, token);
        return emitAccumulate(b, row, counts, [&](Value score, Value carried) {
          Value zero = emitFloat(b, score.getType(), 0.0);
          Value isOpen =
              arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, score, zero);
          return select(isOpen, add(carried, constant(1.0)), carried);
        });
      });
}

Value ScoreSums::emitFirst(Value token) {
  return emitRead(b, ids, {token, emitIndex(b, 0)});
}

Value ScoreSums::emitRest(Value token, Value expert, Value first) {
  Value isFirst = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                        emitToI32(b, expert), first);
  return select(isFirst, constant(0.0), readScore(token, expert));
}

Value ScoreSums::emitRestSum(Value token, Value first) {
  return add(
      emitSum([&](Value expert) { return emitRest(token, expert, first); }),
      constant(1e-9));
}

std::pair<Value, Value> ScoreSums::emitPowerSum(Value token) {
  Value largest = emitLoop(
      b, emitIndex(b, 0), emitIndex(b, width), emitNegativeInfinity(b, compute),
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        return {
            arith::MaximumFOp::create(b, carried[0], readScore(token, expert))};
      })[0];
  // The difference of two infinities would be NaN.
  Value isFinite = math::IsFiniteOp::create(b, largest);
  Value shift = select(isFinite, largest, constant(0.0));
  Value sum = emitSum([&](Value expert) -> Value {
    return math::ExpOp::create(b, sub(readScore(token, expert), shift));
  });
  return {shift, sum};
}

ScoreSums::Last ScoreSums::emitLast(Value token, int64_t k) {
  KeyOrder order(b, compute);
  RankedKeys best = emitTopK(b, order, k, width, [&](Value expert) {
    return order.encode(readScore(token, expert));
  });
  return {best.keys.back(), best.ids.back()};
}

Value ScoreSums::emitIsOutside(const Last &last, Value token, Value expert) {
  KeyOrder order(b, compute);
  Value key = order.encode(readScore(token, expert));
  return emitIsBehind(order, key, expert, last.key, last.id);
}

Value ScoreSums::emitTokenShares(Value begin, Value count) {
  Value group =
      emitConvertTensor(b, emitSliceRows(b, scores, begin, count), compute);
  if (mask)
    group =
        emitMap(b, {group, emitSliceRows(b, mask, begin, count)}, {{0, 1}, {0}},
                emitEmptyLike(b, group, compute), [&](ValueRange scalars) {
                  return select(scalars[1], scalars[0],
                                emitNegativeInfinity(b, compute));
                });
  return emitSoftmax(b, group, /*dim=*/0);
}

Value ScoreSums::emitMeanShare(Value shares, Value begin, Value token) {
  Value member = emitSub(b, token, begin);
  Value total = emitSum(
      [&](Value expert) { return emitRead(b, shares, {member, expert}); });
  return div(total, constant(width));
}

//===----------------------------------------------------------------------===//
// AuxLossFormulas
//===----------------------------------------------------------------------===//

/// sum_e (count_e / T) * (sum_e / T)
Value AuxLossFormulas::emitShareProduct(const Sums &sums, Value numTokens) {
  return emitSum([&](Value expert) {
    Value share = div(asFloat(emitRead(b, sums.counts, expert)), numTokens);
    return mul(share, div(emitRead(b, sums.scores, expert), numTokens));
  });
}

Value AuxLossFormulas::emitValue(const Sums &sums, Value numTokens) {
  switch (op.getKind()) {
  case AuxLossKind::balance:
  case AuxLossKind::first_place:
  case AuxLossKind::second_place: {
    // R * sum_e of the shares of the choices and of the scores.
    Value sum = mul(constant(width), emitShareProduct(sums, numTokens));
    if (!op.getPerSlot())
      return sum;
    return div(sum, constant(op.getIds().getType().getDimSize(1)));
  }
  case AuxLossKind::importance:
    return emitSquaredVariation(sums.scores, op.getUnbiased(),
                                op.getEpsOrZero());
  case AuxLossKind::z:
  case AuxLossKind::trimmed_lasso:
  case AuxLossKind::entropy:
    return div(sums.terms, numTokens);
  case AuxLossKind::token_balance:
    // T^2 mean_t(mean_e(p)^2) of a softmax over the group's live tokens.
    return mul(square(numTokens), div(sums.terms, numTokens));
  case AuxLossKind::l1_balance: {
    // R / (k T^2) sum_e (tokens with a positive score) (sum of scores)
    Value sum = emitSum([&](Value expert) {
      return mul(emitRead(b, sums.counts, expert),
                 emitRead(b, sums.scores, expert));
    });
    Value k = constant(static_cast<double>(*op.getK()));
    return div(mul(constant(width), sum), mul(k, square(numTokens)));
  }
  }
  llvm_unreachable("all kinds are covered");
}

Value AuxLossFormulas::emitTerm(Value token) {
  switch (op.getKind()) {
  case AuxLossKind::z:
    return square(emitLogSumExp(token));
  case AuxLossKind::trimmed_lasso:
    return emitTail(token);
  case AuxLossKind::entropy:
    return emitEntropy(token);
  default:
    llvm_unreachable("is no mean of terms");
  }
}

Value AuxLossFormulas::emitLogSumExp(Value token) {
  auto [shift, sum] = emitPowerSum(token);
  return add(shift, math::LogOp::create(b, sum));
}

/// The sum of the scores outside a token's k largest.
Value AuxLossFormulas::emitTail(Value token) {
  auto k = static_cast<int64_t>(*op.getK());
  if (k >= width)
    return constant(0.0);
  Last last = emitLast(token, k);
  return emitSum([&](Value expert) {
    return select(emitIsOutside(last, token, expert), readScore(token, expert),
                  constant(0.0));
  });
}

/// -sum p log p.
Value AuxLossFormulas::emitEntropy(Value token) {
  Value sum = emitSum([&](Value expert) {
    Value p = readScore(token, expert);
    Value term = mul(p, math::LogOp::create(b, p));
    return select(isEqual(p, constant(0.0)), constant(0.0), term);
  });
  return sub(constant(0.0), sum);
}

//===----------------------------------------------------------------------===//
// AuxLossOp
//===----------------------------------------------------------------------===//

namespace {

class AuxLoss final : public AuxLossFormulas {
public:
  using AuxLossFormulas::AuxLossFormulas;

  Value emit() {
    return emitMean(op, scores, op.getCoefficient(),
                    [&](Value begin, Value count, Value numTokens) {
                      return emitValue(emitSums(begin, count), numTokens);
                    });
  }

private:
  Sums emitSums(Value begin, Value count);
  Value emitSharesOfRest(Value begin, Value count);
};

AuxLoss::Sums AuxLoss::emitSums(Value begin, Value count) {
  Sums sums;
  switch (op.getKind()) {
  case AuxLossKind::balance: {
    Value numSlots = emitDim(b, ids, 1);
    sums.scores = emitScoreSums(begin, count);
    sums.counts = emitCounts(begin, count, emitIndex(b, 0), numSlots);
    return sums;
  }
  case AuxLossKind::first_place:
  case AuxLossKind::second_place: {
    auto [first, last] = getSlots(op);
    sums.scores = first == 0 ? emitScoreSums(begin, count)
                             : emitSharesOfRest(begin, count);
    sums.counts =
        emitCounts(begin, count, emitIndex(b, first), emitIndex(b, last));
    return sums;
  }
  case AuxLossKind::importance:
    sums.scores = emitScoreSums(begin, count);
    return sums;
  case AuxLossKind::z:
  case AuxLossKind::trimmed_lasso:
  case AuxLossKind::entropy:
    sums.terms =
        emitLiveSum(begin, count, [&](Value token) { return emitTerm(token); });
    return sums;
  case AuxLossKind::token_balance: {
    Value shares = emitTokenShares(begin, count);
    sums.terms = emitLiveSum(begin, count, [&](Value token) {
      return square(emitMeanShare(shares, begin, token));
    });
    return sums;
  }
  case AuxLossKind::l1_balance:
    sums.scores = emitScoreSums(begin, count);
    sums.counts = emitOpenCounts(begin, count);
    return sums;
  }
  llvm_unreachable("all kinds are covered");
}

/// The scores without the first slot's expert over their sum, [R] summed over
/// the group's tokens.
Value AuxLoss::emitSharesOfRest(Value begin, Value count) {
  return emitLiveLoop(begin, count, emitZeros(), [&](Value token, Value sums) {
    Value first = emitFirst(token);
    Value total = emitRestSum(token, first);
    return emitLoop(
        b, emitIndex(b, 0), emitIndex(b, width), sums,
        [&](Value expert, ValueRange carried) -> SmallVector<Value> {
          Value share = div(emitRest(token, expert, first), total);
          Value sum = add(emitRead(b, carried[0], expert), share);
          return {emitWrite(b, sum, carried[0], expert)};
        })[0];
  });
}

class AuxLossLowering final : public Lowering<AuxLossOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(AuxLossOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {AuxLoss(b, op).emit()};
  }
};

} // namespace

void moe::populateMoeToLinalgLossesPatterns(RewritePatternSet &patterns) {
  patterns.add<AuxLossLowering>(patterns.getContext());
  addTrainingPatterns(patterns);
  addLossGradientPatterns(patterns);
}
