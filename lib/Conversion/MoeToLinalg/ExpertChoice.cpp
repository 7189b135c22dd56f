//===- ExpertChoice.cpp - route_experts -----------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ExpertChoice.h"
#include "CappedAssignment.h"
#include "Lowering.h"
#include "Patterns.h"
#include "Sort.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

Value tolinalg::emitIsToken(ImplicitLocOpBuilder &b, Value id) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::sge, id, emitI32(b, 0));
}

Value tolinalg::emitChoiceCapacity(ImplicitLocOpBuilder &b, RouteExpertsOp op,
                                   Value count) {
  auto router = cast<ExpertChoiceAttr>(op.getRouter());
  Value capacity = getValueOrCreateConstantIndexOp(
      b, b.getLoc(),
      router.getCapacity().build(b, b.getLoc(), getAsOpFoldResult(count),
                                 op.getLogits().getType().getDimSize(1),
                                 /*numSlots=*/1));
  return arith::MinUIOp::create(b, capacity, count);
}

void tolinalg::emitRoomCheck(ImplicitLocOpBuilder &b, RouteExpertsOp op,
                             bool areGroupsChecked) {
  auto ids = op.getIds().getType();
  bool isBound =
      ids.isDynamicDim(1) ||
      (!op.getGroupOffsets() && !op.getLogits().getType().isDynamicDim(0));
  if (isBound)
    return;
  Value offsets = op.getGroupOffsets(),
        numTokens = emitDim(b, op.getLogits(), 0);
  Value none = emitIndex(b, 0);
  auto addCapacity = [&](Value, Value count,
                         ValueRange so) -> SmallVector<Value> {
    return {emitAdd(b, so[0], emitChoiceCapacity(b, op, count))};
  };
  Value end =
      areGroupsChecked
          ? emitForCheckedGroups(b, offsets, numTokens, none, addCapacity)[0]
          : emitForGroups(b, op.getOperationName(), offsets, numTokens, none,
                          addCapacity)[0];
  Value fits = arith::CmpIOp::create(b, arith::CmpIPredicate::ule, end,
                                     emitIndex(b, ids.getDimSize(1)));
  emitAssert(
      b, fits,
      Twine("moe.route_experts: an expert chooses more tokens than the ") +
          Twine(ids.getDimSize(1)) + " slots of its result");
}

namespace {

/// The number of experts that took each of some tokens, [T] as i32.
Value emitCounts(ImplicitLocOpBuilder &b, Value ids, OpFoldResult numTokens) {
  Value zero = emitIndex(b, 0);
  Value counts =
      emitFill(b, emitI32(b, 0), emitList(b, numTokens, b.getI32Type()));
  return emitLoop(
      b, zero, emitDim(b, ids, 0), counts, [&](Value expert, ValueRange outer) {
        return emitLoop(
            b, zero, emitDim(b, ids, 1), outer,
            [&](Value slot, ValueRange inner) {
              Value id = emitRead(b, ids, {expert, slot});
              return emitIf(b, emitIsToken(b, id), inner, [&] {
                Value token = emitToIndex(b, id);
                Value more =
                    emitAdd(b, emitRead(b, inner[0], token), emitI32(b, 1));
                return SmallVector<Value>{emitWrite(b, more, inner[0], token)};
              });
            });
      })[0];
}

/// Softmax of every column over a group's tokens that are not masked.
Value emitSharesOverTokens(ImplicitLocOpBuilder &b, Value logits, Value mask,
                           Value begin, Value count) {
  Value group = emitSliceRows(b, logits, begin, count);
  auto compute = cast<FloatType>(getElementType(logits));
  if (mask)
    group = emitMap(
        b, {group, emitSliceRows(b, mask, begin, count)}, {{0, 1}, {0}},
        emitEmptyLike(b, group, compute), [&](ValueRange scalars) -> Value {
          return arith::SelectOp::create(b, scalars[1], scalars[0],
                                         emitNegativeInfinity(b, compute));
        });
  return emitSoftmax(b, group, /*dim=*/0);
}

/// Emits the choice; the methods stand in the order of their calls.
class ExpertChoice {
public:
  ExpertChoice(ImplicitLocOpBuilder &b, RouteExpertsOp op)
      : b(b), op(op), router(cast<ExpertChoiceAttr>(op.getRouter())),
        mask(op.getTokenMask()),
        numExperts(op.getLogits().getType().getDimSize(1)),
        compute(router.isCapped()
                    ? FloatType(b.getF64Type())
                    : getComputeType(b, {op.getLogits(), op.getWeights()})) {}

  SmallVector<Value> emit();

private:
  bool isOverTokens() const { return router.getAxis() == ChoiceAxis::tokens; }

  SmallVector<Value> emitGroup(Value begin, Value count, ValueRange carried);
  Value emitLiveCount(Value begin, Value count);
  SmallVector<Value> emitColumn(Value expert, Value begin, Value count,
                                Value scores, Value assignment,
                                ValueRange slots, Value base, Value taken);
  Value emitShares(Value ids, Value weights);

  ImplicitLocOpBuilder &b;
  RouteExpertsOp op;
  ExpertChoiceAttr router;
  Value mask;
  int64_t numExperts;
  FloatType compute;
  Value logits; ///< [T, E] of the compute type.
  Value scores; ///< The same, where scores are not taken over tokens.
};

SmallVector<Value> ExpertChoice::emit() {
  logits = emitConvertTensor(b, op.getLogits(), compute);
  if (router.getAxis() == ChoiceAxis::given)
    scores = logits;
  else if (!isOverTokens())
    scores = emitSoftmax(b, logits, /*dim=*/1);
  emitRoomCheck(b, op);
  SmallVector<Value> dests = emitDestinations(b, op);
  Value ids = emitFill(b, emitI32(b, -1), dests[0]);
  Value weights = emitFill(b, emitFloat(b, compute, 0.0),
                           emitEmptyLike(b, dests[1], compute));
  // What the groups carry: ids, weights and the slots used so far.
  SmallVector<Value> chosen =
      emitForGroups(b, op->getName().getStringRef(), op.getGroupOffsets(),
                    emitDim(b, logits, 0), {ids, weights, emitIndex(b, 0)},
                    [&](Value begin, Value count, ValueRange carried) {
                      return emitGroup(begin, count, carried);
                    });
  ids = chosen[0];
  weights = chosen[1];
  if (router.getNormalize() == Normalize::sum)
    weights = emitShares(ids, weights);
  if (getElementType(dests[1]) != compute)
    weights = emitConvertInto(b, weights, dests[1]);
  return {ids, weights};
}

SmallVector<Value> ExpertChoice::emitGroup(Value begin, Value count,
                                           ValueRange carried) {
  Value capacity = emitChoiceCapacity(b, op, count);
  Value base = carried[2], end = emitAdd(b, base, capacity);
  Value groupScores = isOverTokens()
                          ? emitSharesOverTokens(b, logits, mask, begin, count)
                          : emitSliceRows(b, scores, begin, count);
  Value taken = capacity;
  if (mask)
    taken = arith::MinUIOp::create(b, capacity, emitLiveCount(begin, count));
  Value assignment;
  if (router.isCapped()) {
    Value groupMask = mask ? emitSliceRows(b, mask, begin, count) : Value();
    assignment = emitCappedAssignment(b, router, groupScores, groupMask, taken);
  }
  SmallVector<Value> slots =
      emitLoop(b, emitIndex(b, 0), emitIndex(b, numExperts),
               carried.take_front(2), [&](Value expert, ValueRange inner) {
                 return emitColumn(expert, begin, count, groupScores,
                                   assignment, inner, base, taken);
               });
  slots.push_back(end);
  return slots;
}

Value ExpertChoice::emitLiveCount(Value begin, Value count) {
  return emitLoop(b, begin, emitAdd(b, begin, count), emitIndex(b, 0),
                  [&](Value token, ValueRange carried) -> SmallVector<Value> {
                    Value isLive = emitRead(b, mask, token);
                    Value one = arith::IndexCastUIOp::create(
                        b, b.getIndexType(), isLive);
                    return {emitAdd(b, carried[0], one)};
                  })[0];
}

/// The slots of one expert in one group, from `base` on.
SmallVector<Value> ExpertChoice::emitColumn(Value expert, Value begin,
                                            Value count, Value groupScores,
                                            Value assignment, ValueRange slots,
                                            Value base, Value taken) {
  KeyOrder order(b, compute);
  Value keys = emitList(b, getAsOpFoldResult(count), order.getKeyType());
  keys = emitMapIndexed(b, keys, [&](Value member) {
    // Over tokens a score is increasing in its logit, which has no false ties.
    Value token = emitAdd(b, begin, member);
    Value compared = assignment ? assignment : groupScores;
    Value key = isOverTokens() ? emitRead(b, logits, {token, expert})
                               : emitRead(b, compared, {member, expert});
    key = order.encode(key);
    if (!mask)
      return key;
    return arith::SelectOp::create(b, emitRead(b, mask, token), key,
                                   order.getEmptyKey())
        .getResult();
  });
  Value ranking = emitDescendingOrder(b, order, keys);
  return emitLoop(b, emitIndex(b, 0), taken, slots,
                  [&](Value rank, ValueRange carried) -> SmallVector<Value> {
                    Value member = emitReadIndex(b, ranking, rank);
                    Value token = emitToI32(b, emitAdd(b, begin, member));
                    bool isScore = router.getWeights() == ChoiceWeights::scores;
                    Value score =
                        emitRead(b, isScore ? groupScores : assignment,
                                 {member, expert});
                    if (!isScore)
                      score = math::ExpOp::create(b, score);
                    SmallVector<Value> place = {expert, emitAdd(b, base, rank)};
                    return {emitWrite(b, token, carried[0], place),
                            emitWrite(b, score, carried[1], place)};
                  });
}

/// Weights divided by the number of experts that took their token.
Value ExpertChoice::emitShares(Value ids, Value weights) {
  Value counts =
      emitCounts(b, ids, tensor::getMixedSize(b, b.getLoc(), logits, 0));
  Value dest = emitEmptyLike(b, weights, compute);
  return emitElementwise(b, {ids, weights}, dest, [&](ValueRange scalars) {
    // An empty slot has weight 0, which a division by 1 leaves alone. There
    // may be no token at all to read a count of.
    Value share = emitIf(b, emitIsToken(b, scalars[0]), emitI32(b, 1), [&] {
      return SmallVector<Value>{
          emitRead(b, counts, emitToIndex(b, scalars[0]))};
    })[0];
    Value divisor = arith::SIToFPOp::create(b, compute, share);
    return arith::DivFOp::create(b, scalars[1], divisor).getResult();
  });
}

//===----------------------------------------------------------------------===//
// RouteExpertsVJPOp
//===----------------------------------------------------------------------===//

class ExpertChoiceBackward {
public:
  ExpertChoiceBackward(ImplicitLocOpBuilder &b, RouteExpertsVJPOp op)
      : b(b), op(op), router(cast<ExpertChoiceAttr>(op.getRouter())),
        mask(op.getTokenMask()),
        numExperts(emitIndex(b, op.getLogits().getType().getDimSize(1))),
        compute(getComputeType(
            b, {op.getLogits(), op.getCotangent(), op.getGradient()})) {}

  Value emit();

private:
  Value scatterSlopes(Value counts, Value slopes);
  Value emitPulled(Value low, Value high, Value dest,
                   llvm::function_ref<SmallVector<Value>(Value)> place,
                   llvm::function_ref<Value(Value)> readShare,
                   llvm::function_ref<Value(Value)> isMember);

  ImplicitLocOpBuilder &b;
  RouteExpertsVJPOp op;
  ExpertChoiceAttr router;
  Value mask, numExperts;
  FloatType compute;
};

/// The cotangents of the scores.
Value ExpertChoiceBackward::scatterSlopes(Value counts, Value slopes) {
  Value zero = emitIndex(b, 0), ids = op.getIds();
  return emitLoop(
      b, zero, numExperts, slopes, [&](Value expert, ValueRange outer) {
        return emitLoop(
            b, zero, emitDim(b, ids, 1), outer,
            [&](Value slot, ValueRange inner) {
              Value id = emitRead(b, ids, {expert, slot});
              return emitIf(b, emitIsToken(b, id), inner, [&] {
                Value token = emitToIndex(b, id);
                Value slope = emitConvert(
                    b, emitRead(b, op.getCotangent(), {expert, slot}), compute);
                if (router.getNormalize() == Normalize::sum) {
                  Value count = emitRead(b, counts, token);
                  count = arith::SIToFPOp::create(b, compute, count);
                  slope = arith::DivFOp::create(b, slope, count);
                }
                return SmallVector<Value>{
                    emitWrite(b, slope, inner[0], {token, expert})};
              });
            });
      })[0];
}

/// The backward of one softmax: dest holds the slopes of its members, which
/// share * (slope - sum of share * slope) replace.
Value ExpertChoiceBackward::emitPulled(
    Value low, Value high, Value dest,
    llvm::function_ref<SmallVector<Value>(Value)> place,
    llvm::function_ref<Value(Value)> readShare,
    llvm::function_ref<Value(Value)> isMember) {
  auto visit = [&](Value init,
                   llvm::function_ref<Value(Value at, Value so)> body) {
    return emitLoop(b, low, high, init, [&](Value at, ValueRange so) {
      auto run = [&]() -> SmallVector<Value> { return {body(at, so[0])}; };
      Value member = isMember(at);
      return member ? emitIf(b, member, so, run) : run();
    })[0];
  };
  Value mean = visit(emitFloat(b, compute, 0.0), [&](Value at, Value so) {
    Value slope = emitRead(b, dest, place(at));
    Value term = arith::MulFOp::create(b, readShare(at), slope);
    return arith::AddFOp::create(b, so, term).getResult();
  });
  return visit(dest, [&](Value at, Value so) {
    Value rest = arith::SubFOp::create(b, emitRead(b, so, place(at)), mean);
    Value pulled = arith::MulFOp::create(b, readShare(at), rest);
    return emitWrite(b, pulled, so, place(at));
  });
}

Value ExpertChoiceBackward::emit() {
  Value dest = emitDestinations(b, op)[0], zero = emitIndex(b, 0);
  Value logits = emitConvertTensor(b, op.getLogits(), compute);
  Value counts = emitCounts(b, op.getIds(),
                            tensor::getMixedSize(b, b.getLoc(), logits, 0));
  Value slopes =
      emitFill(b, emitFloat(b, compute, 0.0), emitEmptyLike(b, dest, compute));
  slopes = scatterSlopes(counts, slopes);
  if (router.getAxis() == ChoiceAxis::experts) {
    Value shares = emitSoftmax(b, logits, /*dim=*/1);
    slopes =
        emitLoop(b, zero, emitDim(b, logits, 0), slopes,
                 [&](Value token, ValueRange so) -> SmallVector<Value> {
                   auto place = [&](Value expert) -> SmallVector<Value> {
                     return {token, expert};
                   };
                   // The logits of a token that nobody took may be anything.
                   Value isTaken = arith::CmpIOp::create(
                       b, arith::CmpIPredicate::sgt, emitRead(b, counts, token),
                       emitI32(b, 0));
                   return emitIf(b, isTaken, so, [&]() -> SmallVector<Value> {
                     return {emitPulled(
                         zero, numExperts, so[0], place,
                         [&](Value expert) {
                           return emitRead(b, shares, place(expert));
                         },
                         [](Value) { return Value(); })};
                   });
                 })[0];
  } else if (router.getAxis() == ChoiceAxis::tokens) {
    slopes = emitForGroups(
        b, op->getName().getStringRef(), op.getGroupOffsets(),
        emitDim(b, logits, 0), slopes,
        [&](Value begin, Value count, ValueRange carried) {
          Value shares = emitSharesOverTokens(b, logits, mask, begin, count);
          return emitLoop(
              b, zero, numExperts, carried,
              [&](Value expert, ValueRange so) -> SmallVector<Value> {
                return {emitPulled(
                    begin, emitAdd(b, begin, count), so[0],
                    [&](Value token) -> SmallVector<Value> {
                      return {token, expert};
                    },
                    [&](Value token) {
                      return emitRead(b, shares,
                                      {emitSub(b, token, begin), expert});
                    },
                    [&](Value token) {
                      return mask ? emitRead(b, mask, token) : Value();
                    })};
              });
        })[0];
  }
  if (getElementType(dest) == compute)
    return slopes;
  return emitConvertInto(b, slopes, dest);
}

class RouteExpertsVJPLowering final : public Lowering<RouteExpertsVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteExpertsVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {ExpertChoiceBackward(b, op).emit()};
  }
};

class RouteExpertsLowering final : public Lowering<RouteExpertsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteExpertsOp op,
                          ImplicitLocOpBuilder &b) const override {
    return ExpertChoice(b, op).emit();
  }
};

} // namespace

void tolinalg::addExpertChoicePatterns(RewritePatternSet &patterns) {
  patterns.add<RouteExpertsLowering, RouteExpertsVJPLowering>(
      patterns.getContext());
}
