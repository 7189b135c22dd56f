//===- Capacity.cpp - limit_capacity --------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Capacity.h"
#include "Lowering.h"
#include "Patterns.h"
#include "Sort.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

Value tolinalg::emitCapacityLimit(ImplicitLocOpBuilder &b, LimitCapacityOp op,
                                  Value count) {
  return getValueOrCreateConstantIndexOp(
      b, b.getLoc(),
      op.getCapacity().build(b, b.getLoc(), getAsOpFoldResult(count),
                             op.getNumExperts(),
                             op.getIds().getType().getDimSize(1)));
}

Value WeightShares::isFull(Value token, Value slot) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::sge,
                               emitRead(b, ids, {token, slot}), emitI32(b, 0));
}

Value WeightShares::readWide(Value from, Value token, Value slot) {
  return emitConvert(b, emitRead(b, from, {token, slot}), compute);
}

Value WeightShares::emitToken(Value token, Value weights, Value dest,
                              Value row) {
  Value none = emitFloat(b, compute, 0.0);
  Value source = weights ? weights : dest;
  Value sum = emitLoop(b, zero, numSlots, none,
                       [&](Value slot, ValueRange so) -> SmallVector<Value> {
                         Value own = arith::SelectOp::create(
                             b, isFull(token, slot),
                             readWide(source, token, slot), none);
                         return {arith::AddFOp::create(b, so[0], own)};
                       })[0];
  Value divisor = arith::MaximumFOp::create(b, sum, emitFloat(b, compute, eps));
  return emitLoop(
      b, zero, numSlots, dest,
      [&](Value slot, ValueRange so) -> SmallVector<Value> {
        Value weight = readWide(weights ? weights : so[0], token, slot);
        Value share = arith::DivFOp::create(b, weight, divisor);
        share = arith::SelectOp::create(b, isFull(token, slot), share, weight);
        return {
            emitWrite(b, emitConvert(b, share, element), so[0], {row, slot})};
      })[0];
}

namespace {

class LimitCapacityLowering final : public Lowering<LimitCapacityOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(LimitCapacityOp op,
                          ImplicitLocOpBuilder &b) const override {
    SmallVector<Value> kept = emitForGroups(
        b, op->getName().getStringRef(), op.getGroupOffsets(),
        emitDim(b, op.getIds(), 0), {op.getIds(), op.getWeights()},
        [&](Value begin, Value count, ValueRange carried) {
          return emitGroup(op, b, begin, count, carried);
        });
    if (std::optional<APFloat> eps = op.getNormalize())
      kept[1] = emitNormalize(b, kept[0], kept[1], eps->convertToDouble());
    return kept;
  }

  /// Divides the weights of full slots by their sum, at least `eps`.
  static Value emitNormalize(ImplicitLocOpBuilder &b, Value ids, Value weights,
                             double eps) {
    Value zero = emitIndex(b, 0);
    WeightShares shares(b, zero, ids, weights, eps);
    return emitLoop(b, zero, emitDim(b, ids, 0), weights,
                    [&](Value token, ValueRange so) -> SmallVector<Value> {
                      return {shares.emitToken(token, Value(), so[0], token)};
                    })[0];
  }

  /// Serves the slots of one group; `carried` is ids and weights.
  static SmallVector<Value> emitGroup(LimitCapacityOp op,
                                      ImplicitLocOpBuilder &b, Value begin,
                                      Value count, ValueRange carried) {
    Value numSlots = emitDim(b, op.getIds(), 1);
    Value limit = emitCapacityLimit(b, op, count);
    Value queue;
    bool hasSlots = op.getIds().getType().getDimSize(1) > 0;
    if (hasSlots && op.getQueue() == QueueOrder::prioritized)
      queue = emitQueue(op, b, begin, count);
    Value served = emitFill(
        b, emitI32(b, 0),
        emitList(b, b.getIndexAttr(op.getNumExperts()), b.getI32Type()));
    Value zero = emitIndex(b, 0);
    SmallVector<Value> inits = {carried[0], carried[1], served};
    SmallVector<Value> kept =
        emitLoop(b, zero, numSlots, inits, [&](Value slot, ValueRange outer) {
          return emitLoop(
              b, zero, count, outer, [&](Value turn, ValueRange inner) {
                Value member = queue ? emitReadIndex(b, queue, turn) : turn;
                Value token = emitAdd(b, begin, member);
                return emitServe(op, b, limit, {token, slot}, inner);
              });
        });
    kept.pop_back();
    return kept;
  }

  /// The group's tokens by falling weight of their first slot, counted from
  /// the group's first.
  static Value emitQueue(LimitCapacityOp op, ImplicitLocOpBuilder &b,
                         Value begin, Value count) {
    Value weights = op.getWeights();
    KeyOrder order(b, cast<FloatType>(getElementType(weights)));
    Value keys = emitList(b, getAsOpFoldResult(count), order.getKeyType());
    Value group = emitSliceRows(b, weights, getAsOpFoldResult(begin),
                                getAsOpFoldResult(count));
    keys = emitMapIndexed(b, keys, [&](Value member) {
      return order.encode(emitRead(b, group, {member, emitIndex(b, 0)}));
    });
    return emitDescendingOrder(b, order, keys);
  }

  /// Serves one slot, or empties it where its expert is full. `carried` is ids,
  /// weights and what each expert has served.
  static SmallVector<Value> emitServe(LimitCapacityOp op,
                                      ImplicitLocOpBuilder &b, Value limit,
                                      ArrayRef<Value> place,
                                      ValueRange carried) {
    Value id = emitRead(b, carried[0], place);
    Value isExpert = emitIsWithin(b, id, emitI32(b, op.getNumExperts()));
    return emitIf(b, isExpert, carried, [&]() -> SmallVector<Value> {
      Value expert = emitToIndex(b, id);
      Value before = emitRead(b, carried[2], expert);
      Value isServed = arith::CmpIOp::create(b, arith::CmpIPredicate::ult,
                                             emitToIndex(b, before), limit);
      Value weight = emitRead(b, carried[1], place);
      Value keptId = arith::SelectOp::create(b, isServed, id, emitI32(b, -1));
      Value keptWeight = arith::SelectOp::create(
          b, isServed, weight, emitFloat(b, weight.getType(), 0.0));
      Value one = arith::ExtUIOp::create(b, b.getI32Type(), isServed);
      return {emitWrite(b, keptId, carried[0], place),
              emitWrite(b, keptWeight, carried[1], place),
              emitWrite(b, emitAdd(b, before, one), carried[2], expert)};
    });
  }
};

} // namespace

void tolinalg::addCapacityPatterns(RewritePatternSet &patterns) {
  patterns.add<LimitCapacityLowering>(patterns.getContext());
}
