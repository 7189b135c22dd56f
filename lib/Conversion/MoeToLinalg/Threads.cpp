//===- Threads.cpp - Parallel loops whose iterations share nothing --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Threads.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

/// Chunks of places are tested beside each other.
static Value emitHolds(ImplicitLocOpBuilder &b, Value count, Value init,
                       llvm::function_ref<Value(Value place)> test) {
  Value zero = emitIndex(b, 0), size = emitIndex(b, kChunk);
  // Of nothing, and of offsets that are found to be empty, there is no chunk.
  Value chunks = arith::DivSIOp::create(
      b, emitAdd(b, count, emitIndex(b, kChunk - 1)), size);
  auto fold = [&](Value begin, Value end, Value so,
                  llvm::function_ref<Value(Value place)> holds) {
    return emitLoop(b, begin, end, so,
                    [&](Value place, ValueRange so) -> SmallVector<Value> {
                      return {arith::AndIOp::create(b, so[0], holds(place))};
                    })[0];
  };
  Value found = emitEmpty(b, {getAsOpFoldResult(chunks), b.getIndexAttr(1)},
                          b.getI1Type());
  found = emitNumbers(b, found, [&](Value chunk, Value) {
    Value begin = arith::MulIOp::create(b, chunk, size);
    Value end = arith::MinUIOp::create(b, emitAdd(b, begin, size), count);
    Value yes = arith::ConstantOp::create(b, b.getBoolAttr(true));
    return fold(begin, end, yes, test);
  });
  return fold(zero, chunks, init,
              [&](Value chunk) { return emitRead(b, found, {chunk, zero}); });
}

TokenGroups::TokenGroups(ImplicitLocOpBuilder &b, StringRef opName,
                         Value offsets, Value numTokens)
    : b(b), offsets(offsets), numTokens(numTokens) {
  if (offsets)
    emitGroupOffsetsCheck(b, opName, offsets, numTokens,
                          [&](Value count, Value init, auto test) {
                            return emitHolds(b, count, init, test);
                          });
  count = offsets ? emitSub(b, emitDim(b, offsets, 0), emitIndex(b, 1))
                  : emitIndex(b, 1);
}

Value TokenGroups::getBegin(Value group) const {
  return offsets ? emitReadIndex(b, offsets, group) : emitIndex(b, 0);
}

Value TokenGroups::getEnd(Value group) const {
  return offsets ? emitReadIndex(b, offsets, emitAdd(b, group, emitIndex(b, 1)))
                 : numTokens;
}

Value TokenGroups::getGroup(Value token) const {
  Value zero = emitIndex(b, 0), one = emitIndex(b, 1);
  if (!offsets)
    return zero;
  return emitLoop(
      b, zero, count, zero,
      [&](Value group, ValueRange before) -> SmallVector<Value> {
        Value isBefore = arith::CmpIOp::create(b, arith::CmpIPredicate::ule,
                                               getEnd(group), token);
        Value next = emitAdd(b, before[0], one);
        return {arith::SelectOp::create(b, isBefore, next, before[0])};
      })[0];
}

namespace {

/// Offsets and sizes of an iteration's part of a destination.
struct Part {
  SmallVector<OpFoldResult, 2> offsets, sizes;
};

} // namespace

/// A parallel loop over disjoint parts of `dests`.
static SmallVector<Value>
emitParts(ImplicitLocOpBuilder &b, ArrayRef<Value> counts, ValueRange dests,
          llvm::function_ref<Part(ValueRange place, Value dest)> range,
          llvm::function_ref<SmallVector<Value>(ValueRange, ValueRange)> body) {
  SmallVector<OpFoldResult> ones(2, b.getIndexAttr(1));
  auto loop = scf::ForallOp::create(
      b, getAsOpFoldResult(ValueRange(counts)), dests,
      /*mapping=*/std::nullopt, [&](OpBuilder &, Location, ValueRange args) {
        ValueRange place = args.take_front(counts.size());
        ValueRange whole = args.drop_front(counts.size());
        SmallVector<Part> own;
        SmallVector<Value> parts;
        for (Value dest : whole) {
          own.push_back(range(place, dest));
          parts.push_back(tensor::ExtractSliceOp::create(
              b, dest, own.back().offsets, own.back().sizes, ones));
        }
        parts = body(place, parts);
        auto parallel = scf::InParallelOp::create(b);
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPointToStart(parallel.getBody());
        for (auto [part, dest, at] : llvm::zip_equal(parts, whole, own))
          tensor::ParallelInsertSliceOp::create(b, part, dest, at.offsets,
                                                at.sizes, ones);
      });
  return loop.getResults();
}

Value tolinalg::emitNumbers(
    ImplicitLocOpBuilder &b, Value dest,
    llvm::function_ref<Value(Value row, Value column)> number) {
  Type element = getElementType(dest);
  Value zero = emitIndex(b, 0);
  OpFoldResult one = b.getIndexAttr(1);
  return emitParts(
      b, {emitDim(b, dest, 0), emitDim(b, dest, 1)}, dest,
      [&](ValueRange place, Value) -> Part {
        return {{place[0], place[1]}, {one, one}};
      },
      [&](ValueRange place, ValueRange parts) -> SmallVector<Value> {
        Value value = number(place[0], place[1]);
        if (isa<FloatType>(element))
          value = emitConvert(b, value, element);
        return {emitWrite(b, value, parts[0], {zero, zero})};
      })[0];
}

SmallVector<Value> tolinalg::emitRows(
    ImplicitLocOpBuilder &b, ValueRange dests,
    llvm::function_ref<SmallVector<Value>(Value row, ValueRange parts)> body) {
  return emitParts(
      b, {emitDim(b, dests[0], 0)}, dests,
      [&](ValueRange place, Value dest) -> Part {
        int64_t width = cast<RankedTensorType>(dest.getType()).getDimSize(1);
        return {{place[0], b.getIndexAttr(0)},
                {b.getIndexAttr(1), b.getIndexAttr(width)}};
      },
      [&](ValueRange place, ValueRange parts) {
        return body(place[0], parts);
      });
}

Value tolinalg::emitRows(
    ImplicitLocOpBuilder &b, Value dest,
    llvm::function_ref<Value(Value row, Value part)> body) {
  return emitRows(b, ValueRange(dest),
                  [&](Value row, ValueRange parts) -> SmallVector<Value> {
                    return {body(row, parts[0])};
                  })[0];
}

Value tolinalg::emitInverse(ImplicitLocOpBuilder &b, Value dest,
                            llvm::function_ref<Value(Value row)> place) {
  Value zero = emitIndex(b, 0);
  OpFoldResult one = b.getIndexAttr(1);
  return emitParts(
      b, {emitDim(b, dest, 0)}, dest,
      [&](ValueRange row, Value) -> Part {
        return {{place(row[0]), b.getIndexAttr(0)}, {one, one}};
      },
      [&](ValueRange row, ValueRange parts) -> SmallVector<Value> {
        return {emitWrite(b, emitToI32(b, row[0]), parts[0], {zero, zero})};
      })[0];
}

Value tolinalg::emitColumns(
    ImplicitLocOpBuilder &b, const TokenGroups &groups, Value dest,
    llvm::function_ref<Value(Value begin, Value end, Value column, Value part)>
        body) {
  return emitParts(
      b, {groups.getCount(), emitDim(b, dest, 1)}, dest,
      [&](ValueRange place, Value) -> Part {
        Value begin = groups.getBegin(place[0]);
        Value count = emitSub(b, groups.getEnd(place[0]), begin);
        return {{begin, place[1]}, {count, b.getIndexAttr(1)}};
      },
      [&](ValueRange place, ValueRange parts) -> SmallVector<Value> {
        Value begin = groups.getBegin(place[0]);
        return {body(begin, groups.getEnd(place[0]), place[1], parts[0])};
      })[0];
}

Value tolinalg::emitCountIf(ImplicitLocOpBuilder &b, Value condition,
                            Value count) {
  Value more = emitAdd(b, count, emitIndex(b, 1));
  return arith::SelectOp::create(b, condition, more, count);
}

Value tolinalg::emitRanks(ImplicitLocOpBuilder &b, const TokenGroups &groups,
                          KeyOrder &order, Value keys) {
  Value ranks = emitEmptyLike(b, keys, b.getI32Type());
  return emitNumbers(b, ranks, [&](Value token, Value column) {
    Value group = groups.getGroup(token);
    Value own = emitRead(b, keys, {token, column});
    auto count = [&](Value begin, Value end, Value so, bool isEarlier) {
      return emitLoop(b, begin, end, so,
                      [&](Value other, ValueRange so) -> SmallVector<Value> {
                        Value key = emitRead(b, keys, {other, column});
                        Value isInFront =
                            isEarlier
                                ? arith::CmpIOp::create(
                                      b, arith::CmpIPredicate::sge, key, own)
                                      .getResult()
                                : order.isGreater(key, own);
                        return {emitCountIf(b, isInFront, so[0])};
                      })[0];
    };
    Value before = count(groups.getBegin(group), token, emitIndex(b, 0),
                         /*isEarlier=*/true);
    Value after = count(token, groups.getEnd(group), before,
                        /*isEarlier=*/false);
    return emitToI32(b, after);
  });
}

Value tolinalg::emitLive(ImplicitLocOpBuilder &b, Value mask, Value begin,
                         Value end, Value init,
                         llvm::function_ref<Value(Value at, Value so)> body) {
  return emitLoop(b, begin, end, init, [&](Value at, ValueRange so) {
    auto run = [&]() -> SmallVector<Value> { return {body(at, so[0])}; };
    return mask ? emitIf(b, emitRead(b, mask, at), so, run) : run();
  })[0];
}

Value tolinalg::emitSum(
    ImplicitLocOpBuilder &b, FloatType compute, Value count,
    llvm::function_ref<std::pair<Value, Value>(Value at)> factors) {
  return emitLoop(b, emitIndex(b, 0), count, emitFloat(b, compute, 0.0),
                  [&](Value at, ValueRange so) -> SmallVector<Value> {
                    auto [x, y] = factors(at);
                    return {math::FmaOp::create(b, emitConvert(b, x, compute),
                                                emitConvert(b, y, compute),
                                                so[0])};
                  })[0];
}

Value tolinalg::emitShares(
    ImplicitLocOpBuilder &b, FloatType compute, Value mask, Value begin,
    Value end, llvm::function_ref<Value(Value at)> load, Value part,
    llvm::function_ref<SmallVector<Value>(Value at)> place) {
  auto loop = [&](Value init, llvm::function_ref<Value(Value, Value)> body) {
    return emitLive(b, mask, begin, end, init, body);
  };
  auto read = [&](Value at) { return emitConvert(b, load(at), compute); };
  Value largest =
      loop(emitNegativeInfinity(b, compute), [&](Value at, Value so) -> Value {
        return arith::MaximumFOp::create(b, so, read(at));
      });
  auto emitPower = [&](Value at) -> Value {
    return math::ExpOp::create(b, arith::SubFOp::create(b, read(at), largest));
  };
  Value total =
      loop(emitFloat(b, compute, 0.0), [&](Value at, Value so) -> Value {
        return arith::AddFOp::create(b, so, emitPower(at));
      });
  return loop(part, [&](Value at, Value so) -> Value {
    Value share = arith::DivFOp::create(b, emitPower(at), total);
    return emitWrite(b, emitConvert(b, share, getElementType(part)), so,
                     place(at));
  });
}
