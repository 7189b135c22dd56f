//===- CapacityThreads.cpp - limit_capacity, an iteration an assignment ---===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The same assignments as in Capacity.cpp, for threads that share nothing: one
// is kept where fewer than the capacity stand in front of it. Tokens stand in
// the order in which their group serves them, in chunks. An iteration counts
// what one chunk has of an expert in one slot, another adds the chunks up, and
// so how many stand in front of any place is a number of a table and what its
// own chunk has before it. As experts serve slot after slot, a group's
// assignments of earlier slots are all in front.
//

#include "Capacity.h"
#include "Lowering.h"
#include "Threads.h"
#include "moe/Conversion/MoeToLinalg.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// The methods stand in the order of their calls.
class CapacityThreads {
public:
  CapacityThreads(ImplicitLocOpBuilder &b, LimitCapacityOp op)
      : b(b), op(op), ids(op.getIds()), weights(op.getWeights()),
        numSlots(op.getIds().getType().getDimSize(1)),
        numExperts(op.getNumExperts()), numTokens(emitDim(b, ids, 0)),
        groups(b, op.getOperationName(), op.getGroupOffsets(), numTokens),
        zero(emitIndex(b, 0)) {}

  SmallVector<Value> emit();

private:
  void emitQueue();
  void emitTable();
  void emitStarts();
  Value emitIds(Value dest);
  Value emitWeights(Value kept, Value dest);

  /// The expert of the token that is served at a place of all tokens.
  Value readId(Value place, Value slot) {
    Value token = queue ? emitReadIndex(b, queue, {place, zero}) : place;
    return emitRead(b, ids, {token, slot});
  }
  /// A slot and expert as a column of the tables, and back.
  Value getColumn(Value slot, Value expert) {
    Value first = arith::MulIOp::create(b, slot, emitIndex(b, numExperts));
    return emitAdd(b, first, expert);
  }
  std::pair<Value, Value> getSlotAndExpert(Value column) {
    Value experts = emitIndex(b, numExperts);
    return {arith::DivUIOp::create(b, column, experts),
            arith::RemUIOp::create(b, column, experts)};
  }
  Value emitCount(Value begin, Value end, Value slot, Value expert, Value so);
  Value emitCountBefore(Value place, Value slot, Value expert);

  ImplicitLocOpBuilder &b;
  LimitCapacityOp op;
  Value ids, weights;
  int64_t numSlots, numExperts;
  Value numTokens;
  TokenGroups groups;
  Value zero;
  Value turns, queue; ///< A token's place, and a place's token; null for order.
  Value table;        ///< [chunk, column]: how many are in front of the chunk.
  Value starts;       ///< [group, column]: that less the rank in the group.
};

SmallVector<Value> CapacityThreads::emit() {
  if (numSlots == 0)
    return {ids, weights};
  if (op.getQueue() == QueueOrder::prioritized)
    emitQueue();
  emitTable();
  emitStarts();
  SmallVector<Value> dests = emitDestinations(b, op);
  Value kept = emitIds(dests[0]);
  return {kept, emitWeights(kept, dests[1])};
}

/// Tokens of a group by falling weight of their first slot.
void CapacityThreads::emitQueue() {
  KeyOrder order(b, cast<FloatType>(getElementType(weights)));
  SmallVector<OpFoldResult> sizes = {getAsOpFoldResult(numTokens),
                                     b.getIndexAttr(1)};
  Value keys = emitEmpty(b, sizes, order.getKeyType());
  keys = emitNumbers(b, keys, [&](Value token, Value) {
    return order.encode(emitRead(b, weights, {token, zero}));
  });
  Value ranks = emitRanks(b, groups, order, keys);
  turns = emitEmpty(b, sizes, b.getI32Type());
  turns = emitNumbers(b, turns, [&](Value token, Value) {
    Value begin = groups.getBegin(groups.getGroup(token));
    return emitToI32(b,
                     emitAdd(b, begin, emitReadIndex(b, ranks, {token, zero})));
  });
  queue = emitInverse(b, emitEmpty(b, sizes, b.getI32Type()), [&](Value token) {
    return emitReadIndex(b, turns, {token, zero});
  });
}

/// Adds to `so` the places of [begin, end) that chose an expert in a slot.
Value CapacityThreads::emitCount(Value begin, Value end, Value slot,
                                 Value expert, Value so) {
  Value id = emitToI32(b, expert);
  return emitLoop(b, begin, end, so,
                  [&](Value place, ValueRange so) -> SmallVector<Value> {
                    Value isOne = arith::CmpIOp::create(
                        b, arith::CmpIPredicate::eq, readId(place, slot), id);
                    return {emitCountIf(b, isOne, so[0])};
                  })[0];
}

void CapacityThreads::emitTable() {
  // One chunk more than is full, so that the end of all has a row as well.
  Value size = emitIndex(b, kChunk), one = emitIndex(b, 1);
  Value chunks = emitAdd(b, arith::DivUIOp::create(b, numTokens, size), one);
  table = emitEmpty(
      b, {getAsOpFoldResult(chunks), b.getIndexAttr(numSlots * numExperts)},
      b.getI32Type());
  table = emitNumbers(b, table, [&](Value chunk, Value column) {
    auto [slot, expert] = getSlotAndExpert(column);
    Value begin = arith::MulIOp::create(b, chunk, size);
    Value end = arith::MinUIOp::create(b, emitAdd(b, begin, size), numTokens);
    return emitToI32(b, emitCount(begin, end, slot, expert, zero));
  });
  TokenGroups all(b, op.getOperationName(), /*offsets=*/Value(), chunks);
  table = emitColumns(
      b, all, table, [&](Value begin, Value end, Value, Value part) {
        return emitLoop(b, begin, end, {part, emitI32(b, 0)},
                        [&](Value chunk, ValueRange so) -> SmallVector<Value> {
                          Value own = emitRead(b, so[0], {chunk, zero});
                          return {emitWrite(b, so[1], so[0], {chunk, zero}),
                                  emitAdd(b, so[1], own)};
                        })[0];
      });
}

/// How many of all in front of a place chose an expert in a slot.
Value CapacityThreads::emitCountBefore(Value place, Value slot, Value expert) {
  Value size = emitIndex(b, kChunk);
  Value chunk = arith::DivUIOp::create(b, place, size);
  Value before = emitReadIndex(b, table, {chunk, getColumn(slot, expert)});
  return emitCount(arith::MulIOp::create(b, chunk, size), place, slot, expert,
                   before);
}

/// The assignments of a group's earlier slots are in front, those of earlier
/// groups are not.
void CapacityThreads::emitStarts() {
  starts = emitEmpty(b,
                     {getAsOpFoldResult(groups.getCount()),
                      b.getIndexAttr(numSlots * numExperts)},
                     b.getI32Type());
  starts = emitNumbers(b, starts, [&](Value group, Value column) {
    auto [slot, expert] = getSlotAndExpert(column);
    Value begin = groups.getBegin(group), end = groups.getEnd(group);
    auto before = [&, expert = expert](Value place, Value slot) {
      return emitCountBefore(place, slot, expert);
    };
    Value start = emitSub(b, zero, before(begin, slot));
    start = emitLoop(b, zero, slot, start,
                     [&](Value earlier, ValueRange so) -> SmallVector<Value> {
                       Value own = emitSub(b, before(end, earlier),
                                           before(begin, earlier));
                       return {emitAdd(b, so[0], own)};
                     })[0];
    return emitToI32(b, start);
  });
}

Value CapacityThreads::emitIds(Value dest) {
  return emitNumbers(b, dest, [&](Value token, Value slot) {
    Value id = emitRead(b, ids, {token, slot});
    Value isExpert = emitIsWithin(b, id, emitI32(b, numExperts));
    return emitIf(b, isExpert, id, [&]() -> SmallVector<Value> {
      Value expert = emitToIndex(b, id), group = groups.getGroup(token);
      Value limit = emitCapacityLimit(
          b, op, emitSub(b, groups.getEnd(group), groups.getBegin(group)));
      Value place = turns ? emitReadIndex(b, turns, {token, zero}) : token;
      Value rank =
          emitAdd(b, emitReadIndex(b, starts, {group, getColumn(slot, expert)}),
                  emitCountBefore(place, slot, expert));
      Value isServed =
          arith::CmpIOp::create(b, arith::CmpIPredicate::ult, rank, limit);
      return {arith::SelectOp::create(b, isServed, id, emitI32(b, -1))};
    })[0];
  });
}

/// A slot that was emptied has weight 0; others, of no expert, stay as they
/// are.
Value CapacityThreads::emitWeights(Value kept, Value dest) {
  Value values = emitElementwise(
      b, {ids, kept, weights}, dest, [&](ValueRange scalars) -> Value {
        Value isSame = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                             scalars[0], scalars[1]);
        return arith::SelectOp::create(b, isSame, scalars[2],
                                       emitFloat(b, scalars[2].getType(), 0.0));
      });
  std::optional<APFloat> eps = op.getNormalize();
  if (!eps)
    return values;
  WeightShares shares(b, zero, kept, values, eps->convertToDouble());
  return emitRows(b, emitEmptyLike(b, values, getElementType(values)),
                  [&](Value token, Value part) {
                    return shares.emitToken(token, values, part, zero);
                  });
}

class LimitCapacityThreads final : public Lowering<LimitCapacityOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(LimitCapacityOp op,
                          ImplicitLocOpBuilder &b) const override {
    return CapacityThreads(b, op).emit();
  }
};

} // namespace

void moe::populateCapacityThreadPatterns(RewritePatternSet &patterns) {
  // In front of those for CPUs.
  patterns.add<LimitCapacityThreads>(patterns.getContext(), /*benefit=*/2);
}
