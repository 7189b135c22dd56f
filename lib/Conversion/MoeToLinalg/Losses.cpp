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

Value LossEmitter::emit(ReifyRankedShapedTypeOpInterface op, Value tokens,
                        const APFloat &coefficient) {
  // Carried: the sum over the groups, and the number of groups with tokens.
  SmallVector<Value> total =
      emitForGroups(b, op->getName().getStringRef(), offsets,
                    emitDim(b, tokens, 0), {constant(0.0), emitI32(b, 0)},
                    [&](Value begin, Value count, ValueRange carried) {
                      return emitGroup(begin, count, carried);
                    });
  Value numGroups = arith::MaxSIOp::create(b, total[1], emitI32(b, 1));
  Value loss = div(total[0], asFloat(numGroups));
  loss = mul(loss, constant(coefficient.convertToDouble()));
  Value dest = emitDestinations(b, op)[0];
  return emitWrite(b, emitConvert(b, loss, getElementType(dest)), dest, {});
}

SmallVector<Value> LossEmitter::emitGroup(Value begin, Value count,
                                          ValueRange carried) {
  Value numTokens =
      emitLiveLoop(begin, count, emitI32(b, 0), [&](Value, Value sum) {
        return emitAdd(b, sum, emitI32(b, 1));
      });
  Value hasTokens = arith::CmpIOp::create(b, arith::CmpIPredicate::sgt,
                                          numTokens, emitI32(b, 0));
  Value loss = emitLoss(begin, count, asFloat(numTokens));
  loss = select(hasTokens, loss, constant(0.0));
  Value one = arith::ExtUIOp::create(b, b.getI32Type(), hasTokens);
  return {add(carried[0], loss), emitAdd(b, carried[1], one)};
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

Value LossEmitter::emitSquaredVariation(Value list, bool isUnbiased,
                                        double eps) {
  auto readList = [&](Value expert) { return emitRead(b, list, expert); };
  Value mean = div(emitSum(readList), constant(width));
  Value squares = emitSum(
      [&](Value expert) { return square(sub(readList(expert), mean)); });
  int64_t divisor = isUnbiased ? std::max<int64_t>(width - 1, 1) : width;
  Value below = square(mean);
  if (eps != 0.0)
    below = add(below, constant(eps));
  return div(div(squares, constant(divisor)), below);
}

Value LossEmitter::emitZeros() {
  return emitFill(b, constant(0.0),
                  emitList(b, b.getIndexAttr(width), compute));
}

//===----------------------------------------------------------------------===//
// AuxLossOp
//===----------------------------------------------------------------------===//

namespace {

class AuxLoss final : public LossEmitter {
public:
  AuxLoss(ImplicitLocOpBuilder &b, AuxLossOp op)
      : LossEmitter(b, op.getScores().getType().getDimSize(1),
                    getComputeType(b, {op.getScores(), op.getLoss()}),
                    op.getTokenMask(), op.getGroupOffsets()),
        op(op) {}

private:
  Value emitLoss(Value begin, Value count, Value numTokens) override;

  Value emitScoreSums(Value begin, Value count);
  Value emitCounts(Value begin, Value count, Value firstSlot, Value lastSlot);
  Value emitShareProduct(Value counts, Value sums, Value numTokens);
  Value emitBalance(Value begin, Value count, Value numTokens);
  Value emitPlace(Value begin, Value count, Value numTokens, int64_t place);
  Value emitSharesOfRest(Value begin, Value count);
  Value emitLogSumExp(Value token);
  Value emitTail(Value token);
  Value emitEntropy(Value token);
  Value emitTokenBalance(Value begin, Value count, Value numTokens);
  Value emitL1Balance(Value begin, Value count, Value numTokens);

  Value readScore(Value token, Value expert) {
    return read(op.getScores(), token, expert);
  }

  AuxLossOp op;
};

Value AuxLoss::emitLoss(Value begin, Value count, Value numTokens) {
  auto meanOf = [&](llvm::function_ref<Value(Value token)> term) {
    return div(emitLiveSum(begin, count, term), numTokens);
  };
  switch (op.getKind()) {
  case AuxLossKind::balance:
    return emitBalance(begin, count, numTokens);
  case AuxLossKind::first_place:
    return emitPlace(begin, count, numTokens, 0);
  case AuxLossKind::second_place:
    return emitPlace(begin, count, numTokens, 1);
  case AuxLossKind::importance:
    return emitSquaredVariation(emitScoreSums(begin, count), op.getUnbiased(),
                                op.getEpsOrZero());
  case AuxLossKind::z:
    return meanOf([&](Value token) { return square(emitLogSumExp(token)); });
  case AuxLossKind::trimmed_lasso:
    return meanOf([&](Value token) { return emitTail(token); });
  case AuxLossKind::entropy:
    return meanOf([&](Value token) { return emitEntropy(token); });
  case AuxLossKind::token_balance:
    return emitTokenBalance(begin, count, numTokens);
  case AuxLossKind::l1_balance:
    return emitL1Balance(begin, count, numTokens);
  }
  llvm_unreachable("all kinds are covered");
}

/// The scores [R] summed over the group's tokens.
Value AuxLoss::emitScoreSums(Value begin, Value count) {
  return emitLiveLoop(begin, count, emitZeros(), [&](Value token, Value sums) {
    Value row = emitSliceRow(b, op.getScores(), token);
    return emitAccumulate(b, row, sums, [&](Value score, Value sum) {
      return add(sum, emitConvert(b, score, compute));
    });
  });
}

/// How many of some slots of the group chose each expert, [R] i32.
Value AuxLoss::emitCounts(Value begin, Value count, Value firstSlot,
                          Value lastSlot) {
  Value zero = emitFill(b, emitI32(b, 0),
                        emitList(b, b.getIndexAttr(width), b.getI32Type()));
  return emitLiveLoop(begin, count, zero, [&](Value token, Value counts) {
    return emitLoop(
        b, firstSlot, lastSlot, counts, [&](Value slot, ValueRange carried) {
          Value id = emitRead(b, op.getIds(), {token, slot});
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

/// sum_e (count_e / T) * (sum_e / T)
Value AuxLoss::emitShareProduct(Value counts, Value sums, Value numTokens) {
  return emitSum([&](Value expert) {
    Value share = div(asFloat(emitRead(b, counts, expert)), numTokens);
    return mul(share, div(emitRead(b, sums, expert), numTokens));
  });
}

Value AuxLoss::emitBalance(Value begin, Value count, Value numTokens) {
  Value numSlots = emitDim(b, op.getIds(), 1);
  Value sums = emitScoreSums(begin, count);
  Value counts = emitCounts(begin, count, emitIndex(b, 0), numSlots);
  Value sum = mul(constant(width), emitShareProduct(counts, sums, numTokens));
  if (!op.getPerSlot())
    return sum;
  return div(sum, constant(op.getIds().getType().getDimSize(1)));
}

/// R * sum_e of the shares of one slot's choices and of the scores; for the
/// second slot of what the first leaves of the scores.
Value AuxLoss::emitPlace(Value begin, Value count, Value numTokens,
                         int64_t place) {
  Value sums =
      place == 0 ? emitScoreSums(begin, count) : emitSharesOfRest(begin, count);
  Value counts =
      emitCounts(begin, count, emitIndex(b, place), emitIndex(b, place + 1));
  return mul(constant(width), emitShareProduct(counts, sums, numTokens));
}

/// The scores without the first slot's expert over their sum, [R] summed over
/// the group's tokens.
Value AuxLoss::emitSharesOfRest(Value begin, Value count) {
  return emitLiveLoop(begin, count, emitZeros(), [&](Value token, Value sums) {
    Value first = emitRead(b, op.getIds(), {token, emitIndex(b, 0)});
    auto rest = [&](Value expert) {
      Value isFirst = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                            emitToI32(b, expert), first);
      return select(isFirst, constant(0.0), readScore(token, expert));
    };
    Value total = add(emitSum(rest), constant(1e-9));
    return emitLoop(
        b, emitIndex(b, 0), emitIndex(b, width), sums,
        [&](Value expert, ValueRange carried) -> SmallVector<Value> {
          Value sum =
              add(emitRead(b, carried[0], expert), div(rest(expert), total));
          return {emitWrite(b, sum, carried[0], expert)};
        })[0];
  });
}

Value AuxLoss::emitLogSumExp(Value token) {
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
  return add(shift, math::LogOp::create(b, sum));
}

/// The sum of the scores outside a token's k largest.
Value AuxLoss::emitTail(Value token) {
  auto k = static_cast<int64_t>(*op.getK());
  if (k >= width)
    return constant(0.0);
  KeyOrder order(b, compute);
  RankedKeys best = emitTopK(b, order, k, width, [&](Value expert) {
    return order.encode(readScore(token, expert));
  });
  // The last of the k: what is smaller is outside, and an equal one behind it.
  Value lastKey = best.keys.back(), lastId = best.ids.back();
  return emitSum([&](Value expert) {
    Value score = readScore(token, expert);
    Value key = order.encode(score);
    Value isLess = order.isGreater(lastKey, key);
    Value isTie =
        arith::CmpIOp::create(b, arith::CmpIPredicate::eq, key, lastKey);
    Value isLater = arith::CmpIOp::create(b, arith::CmpIPredicate::sgt,
                                          emitToI32(b, expert), lastId);
    Value isOutside = arith::OrIOp::create(
        b, isLess, arith::AndIOp::create(b, isTie, isLater));
    return select(isOutside, score, constant(0.0));
  });
}

/// -sum p log p.
Value AuxLoss::emitEntropy(Value token) {
  Value sum = emitSum([&](Value expert) {
    Value p = readScore(token, expert);
    Value term = mul(p, math::LogOp::create(b, p));
    return select(isEqual(p, constant(0.0)), constant(0.0), term);
  });
  return sub(constant(0.0), sum);
}

/// T^2 mean_t(mean_e(p)^2) of a softmax over the group's live tokens.
Value AuxLoss::emitTokenBalance(Value begin, Value count, Value numTokens) {
  Value group = emitConvertTensor(
      b, emitSliceRows(b, op.getScores(), begin, count), compute);
  if (mask)
    group =
        emitMap(b, {group, emitSliceRows(b, mask, begin, count)}, {{0, 1}, {0}},
                emitEmptyLike(b, group, compute), [&](ValueRange scalars) {
                  return select(scalars[1], scalars[0],
                                emitNegativeInfinity(b, compute));
                });
  Value shares = emitSoftmax(b, group, /*dim=*/0);
  Value sum = emitLiveSum(begin, count, [&](Value token) {
    Value member = emitSub(b, token, begin);
    Value total = emitSum(
        [&](Value expert) { return emitRead(b, shares, {member, expert}); });
    return square(div(total, constant(width)));
  });
  return mul(square(numTokens), div(sum, numTokens));
}

/// R / (k T^2) sum_e (tokens with a positive score) (sum of scores)
Value AuxLoss::emitL1Balance(Value begin, Value count, Value numTokens) {
  Value sums = emitScoreSums(begin, count);
  Value open =
      emitLiveLoop(begin, count, emitZeros(), [&](Value token, Value counts) {
        Value row = emitSliceRow(b, op.getScores(), token);
        return emitAccumulate(b, row, counts, [&](Value score, Value carried) {
          Value zero = emitFloat(b, score.getType(), 0.0);
          Value isOpen =
              arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, score, zero);
          return select(isOpen, add(carried, constant(1.0)), carried);
        });
      });
  Value sum = emitSum([&](Value expert) {
    return mul(emitRead(b, open, expert), emitRead(b, sums, expert));
  });
  Value k = constant(static_cast<double>(*op.getK()));
  return div(mul(constant(width), sum), mul(k, square(numTokens)));
}

class AuxLossLowering final : public Lowering<AuxLossOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(AuxLossOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {AuxLoss(b, op).emit(op, op.getScores(), op.getCoefficient())};
  }
};

} // namespace

void moe::populateMoeToLinalgLossesPatterns(RewritePatternSet &patterns) {
  patterns.add<AuxLossLowering>(patterns.getContext());
  addTrainingPatterns(patterns);
}
