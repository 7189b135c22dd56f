//===- ExpertChoice.cpp - route_experts -----------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

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

namespace {

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
  Value emitScoresOverTokens(Value begin, Value count);
  Value emitLiveCount(Value begin, Value count);
  Value emitCapacity(Value count);
  void emitRoomCheck();
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
  emitRoomCheck();
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
  Value capacity = emitCapacity(count);
  Value base = carried[2], end = emitAdd(b, base, capacity);
  Value groupScores = isOverTokens() ? emitScoresOverTokens(begin, count)
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

/// Softmax of every column over the group's tokens that are not masked.
Value ExpertChoice::emitScoresOverTokens(Value begin, Value count) {
  Value group = emitSliceRows(b, logits, begin, count);
  if (mask)
    group = emitMap(
        b, {group, emitSliceRows(b, mask, begin, count)}, {{0, 1}, {0}},
        emitEmptyLike(b, group, compute), [&](ValueRange scalars) -> Value {
          return arith::SelectOp::create(b, scalars[1], scalars[0],
                                         emitNegativeInfinity(b, compute));
        });
  return emitSoftmax(b, group, /*dim=*/0);
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

/// The slots that an expert has for a group of tokens.
Value ExpertChoice::emitCapacity(Value count) {
  Value capacity = getValueOrCreateConstantIndexOp(
      b, b.getLoc(),
      router.getCapacity().build(b, b.getLoc(), getAsOpFoldResult(count),
                                 numExperts, /*numSlots=*/1));
  return arith::MinUIOp::create(b, capacity, count);
}

/// A C that is not the capacity rule's own bound may be too small. Checked in
/// front of all groups, as an entry cannot leave a loop with an error.
void ExpertChoice::emitRoomCheck() {
  auto ids = op.getIds().getType();
  bool isBound =
      ids.isDynamicDim(1) ||
      (!op.getGroupOffsets() && !op.getLogits().getType().isDynamicDim(0));
  if (isBound)
    return;
  Value end = emitForGroups(
      b, op.getOperationName(), op.getGroupOffsets(), emitDim(b, logits, 0),
      emitIndex(b, 0),
      [&](Value, Value count, ValueRange so) -> SmallVector<Value> {
        return {emitAdd(b, so[0], emitCapacity(count))};
      })[0];
  Value fits = arith::CmpIOp::create(b, arith::CmpIPredicate::ule, end,
                                     emitIndex(b, ids.getDimSize(1)));
  emitAssert(
      b, fits,
      Twine("moe.route_experts: an expert chooses more tokens than the ") +
          Twine(ids.getDimSize(1)) + " slots of its result");
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
  Value zero = emitIndex(b, 0);
  Value counts =
      emitFill(b, emitI32(b, 0),
               emitList(b, tensor::getMixedSize(b, b.getLoc(), logits, 0),
                        b.getI32Type()));
  auto isToken = [&](Value id) -> Value {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::sge, id,
                                 emitI32(b, 0));
  };
  counts = emitLoop(
      b, zero, emitIndex(b, numExperts), counts,
      [&](Value expert, ValueRange outer) {
        return emitLoop(
            b, zero, emitDim(b, ids, 1), outer,
            [&](Value slot, ValueRange inner) {
              Value id = emitRead(b, ids, {expert, slot});
              return emitIf(b, isToken(id), inner, [&] {
                Value token = emitToIndex(b, id);
                Value more =
                    emitAdd(b, emitRead(b, inner[0], token), emitI32(b, 1));
                return SmallVector<Value>{emitWrite(b, more, inner[0], token)};
              });
            });
      })[0];
  Value dest = emitEmptyLike(b, weights, compute);
  return emitElementwise(b, {ids, weights}, dest, [&](ValueRange scalars) {
    // An empty slot has weight 0, which a division by 1 leaves alone. There
    // may be no token at all to read a count of.
    Value share = emitIf(b, isToken(scalars[0]), emitI32(b, 1), [&] {
      return SmallVector<Value>{
          emitRead(b, counts, emitToIndex(b, scalars[0]))};
    })[0];
    Value divisor = arith::SIToFPOp::create(b, compute, share);
    return arith::DivFOp::create(b, scalars[1], divisor).getResult();
  });
}

class RouteExpertsLowering final : public Lowering<RouteExpertsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteExpertsOp op,
                          ImplicitLocOpBuilder &b) const override {
    return ExpertChoice(b, op).emit();
  }
};

} // namespace

void tolinalg::addExpertChoicePatterns(RewritePatternSet &patterns) {
  patterns.add<RouteExpertsLowering>(patterns.getContext());
}
