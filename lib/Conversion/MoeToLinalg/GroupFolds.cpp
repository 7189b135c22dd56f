//===- GroupFolds.cpp - Sums over the tokens of groups, by chunks ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GroupFolds.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

GroupFolds::GroupFolds(ImplicitLocOpBuilder &b, StringRef opName, Value offsets,
                       Value mask, Value numTokens)
    : b(b), mask(mask), numTokens(numTokens),
      groups(b, opName, offsets, numTokens), zero(emitIndex(b, 0)),
      size(emitIndex(b, kChunk)) {
  numChunks =
      emitAdd(b, arith::DivUIOp::create(b, numTokens, size), groups.getCount());
  if (offsets) {
    auto emitList = [&](Value count, auto getGroup) {
      Value list = emitEmpty(b, {getAsOpFoldResult(count), b.getIndexAttr(1)},
                             b.getI32Type());
      return emitNumbers(b, list, [&](Value place, Value) {
        return emitToI32(b, getGroup(place));
      });
    };
    ofTokens = emitList(numTokens,
                        [&](Value token) { return groups.getGroup(token); });
    // The last group whose first chunk is not behind.
    ofChunks = emitList(numChunks, [&](Value chunk) {
      return emitLoop(
          b, zero, groups.getCount(), zero,
          [&](Value group, ValueRange so) -> SmallVector<Value> {
            Value isInFront = arith::CmpIOp::create(
                b, arith::CmpIPredicate::ule, getFirstChunk(group), chunk);
            return {arith::SelectOp::create(b, isInFront, group, so[0])};
          })[0];
    });
  }
  if (mask)
    live = emit(
        1, emitI32(b, 0),
        [&](Value, Value, Value so) { return emitAdd(b, so, emitI32(b, 1)); },
        [&](Value so, Value other) { return emitAdd(b, so, other); });
}

Value GroupFolds::getFirstChunk(Value group) {
  Value full = arith::DivUIOp::create(b, groups.getBegin(group), size);
  return emitAdd(b, full, group);
}

Value GroupFolds::getLastChunk(Value group) {
  Value count = emitSub(b, groups.getEnd(group), groups.getBegin(group));
  Value full = arith::DivUIOp::create(b, count, size);
  return emitAdd(b, getFirstChunk(group), emitAdd(b, full, emitIndex(b, 1)));
}

Value GroupFolds::emitTable(int64_t width, Type type) {
  return emitEmpty(
      b, {getAsOpFoldResult(groups.getCount()), b.getIndexAttr(width)}, type);
}

Value GroupFolds::emit(int64_t width, Value init, Visit visit,
                       Combine combine) {
  Value chunks = emitEmpty(
      b, {getAsOpFoldResult(numChunks), b.getIndexAttr(width)}, init.getType());
  chunks = emitNumbers(b, chunks, [&](Value chunk, Value column) {
    Value group = ofChunks ? emitReadIndex(b, ofChunks, {chunk, zero}) : zero;
    Value place = emitSub(b, chunk, getFirstChunk(group));
    Value begin = emitAdd(b, groups.getBegin(group),
                          arith::MulIOp::create(b, place, size));
    Value end = arith::MinUIOp::create(b, emitAdd(b, begin, size),
                                       groups.getEnd(group));
    return emitLive(b, mask, begin, end, init, [&](Value token, Value so) {
      return visit(token, column, so);
    });
  });
  return emitNumbers(
      b, emitTable(width, init.getType()), [&](Value group, Value column) {
        return emitLoop(
            b, getFirstChunk(group), getLastChunk(group), init,
            [&](Value chunk, ValueRange so) -> SmallVector<Value> {
              return {combine(so[0], emitRead(b, chunks, {chunk, column}))};
            })[0];
      });
}

Value GroupFolds::emitOfSlots(
    Value ids, int64_t width, Value first, Value last, Value init,
    llvm::function_ref<Value(Value token, Value slot, Value so)> next,
    Combine combine) {
  return emit(
      width, init,
      [&](Value token, Value column, Value so) {
        Value own = emitToI32(b, column);
        return emitLoop(b, first, last, so,
                        [&](Value slot, ValueRange so) -> SmallVector<Value> {
                          Value isOwn = arith::CmpIOp::create(
                              b, arith::CmpIPredicate::eq,
                              emitRead(b, ids, {token, slot}), own);
                          return {arith::SelectOp::create(
                              b, isOwn, next(token, slot, so[0]), so[0])};
                        })[0];
      },
      combine);
}

Value GroupFolds::emitSlotCounts(Value ids, int64_t width, Value first,
                                 Value last) {
  return emitOfSlots(
      ids, width, first, last, emitI32(b, 0),
      [&](Value, Value, Value so) { return emitAdd(b, so, emitI32(b, 1)); },
      [&](Value so, Value other) { return emitAdd(b, so, other); });
}

Value GroupFolds::emitSums(
    int64_t width, FloatType type,
    llvm::function_ref<Value(Value token, Value column)> term) {
  auto add = [&](Value so, Value other) -> Value {
    return arith::AddFOp::create(b, so, other);
  };
  return emit(
      width, emitFloat(b, type, 0.0),
      [&](Value token, Value column, Value so) {
        return add(so, term(token, column));
      },
      add);
}

Value GroupFolds::emitShares(
    int64_t width, FloatType type,
    llvm::function_ref<Value(Value token, Value column)> load) {
  auto larger = [&](Value so, Value other) -> Value {
    return arith::MaximumFOp::create(b, so, other);
  };
  Value largest = emit(
      width, emitNegativeInfinity(b, type),
      [&](Value token, Value column, Value so) {
        return larger(so, load(token, column));
      },
      larger);
  auto emitPower = [&](Value token, Value column) -> Value {
    Value shift = emitRead(b, largest, {getGroup(token), column});
    Value distance = arith::SubFOp::create(b, load(token, column), shift);
    return math::ExpOp::create(b, distance);
  };
  Value totals = emitSums(width, type, emitPower);
  Value shares =
      emitEmpty(b, {getAsOpFoldResult(numTokens), b.getIndexAttr(width)}, type);
  return emitNumbers(b, shares, [&](Value token, Value column) -> Value {
    Value total = emitRead(b, totals, {getGroup(token), column});
    return arith::DivFOp::create(b, emitPower(token, column), total);
  });
}

Value GroupFolds::getNumTokens(Value group) {
  if (live)
    return emitRead(b, live, {group, zero});
  return emitToI32(b, emitSub(b, groups.getEnd(group), groups.getBegin(group)));
}

Value GroupFolds::getGroup(Value token) {
  return ofTokens ? emitReadIndex(b, ofTokens, {token, zero}) : zero;
}

SmallVector<Value>
GroupFolds::emitWhereLive(Value token, ValueRange otherwise,
                          llvm::function_ref<SmallVector<Value>()> body) {
  return mask ? emitIf(b, emitRead(b, mask, token), otherwise, body) : body();
}
