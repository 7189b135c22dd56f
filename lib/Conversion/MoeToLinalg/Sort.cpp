//===- Sort.cpp - Stable order of keys ------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Sort.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {
/// A bottom-up merge sort of positions: runs of 1, 2, 4 .. positions are in
/// order, and each pass merges neighbours.
class MergeSort {
public:
  MergeSort(ImplicitLocOpBuilder &b, KeyOrder &order, Value keys)
      : b(b), order(order), keys(keys), size(emitDim(b, keys, 0)),
        one(emitIndex(b, 1)) {}

  Value emit();

private:
  Value emitNumPasses();
  Value emitPass(Value width, Value positions);
  Value emitMerge(Value positions, Value begin, Value middle, Value end,
                  Value merged);

  Value atMostSize(Value index) {
    return arith::MinUIOp::create(b, index, size);
  }
  Value isBelow(Value index, Value other) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, index, other);
  }

  ImplicitLocOpBuilder &b;
  KeyOrder &order;
  Value keys, size, one;
};
} // namespace

Value MergeSort::emit() {
  Value positions =
      emitMapIndexed(b, emitEmptyLike(b, keys, b.getI32Type()),
                     [&](Value position) { return emitToI32(b, position); });
  return emitLoop(
      b, emitIndex(b, 0), emitNumPasses(), positions,
      [&](Value pass, ValueRange carried) -> SmallVector<Value> {
        Value width = arith::ShLIOp::create(b, one, pass);
        Value merged = emitPass(width, carried[0]);
        // Back into the tensor that the loop carries.
        return {linalg::CopyOp::create(b, merged, carried[0]).getResult(0)};
      })[0];
}

/// The smallest p for which 2^p is at least the size.
Value MergeSort::emitNumPasses() {
  Value last = emitSub(b, arith::MaxUIOp::create(b, size, one), one);
  Value bits = arith::IndexCastOp::create(b, b.getI64Type(), last);
  Value unused = math::CountLeadingZerosOp::create(b, bits);
  return emitSub(b, emitIndex(b, 64), emitToIndex(b, unused));
}

Value MergeSort::emitPass(Value width, Value positions) {
  Value pair = emitAdd(b, width, width);
  auto loop = scf::ForOp::create(
      b, emitIndex(b, 0), size, pair,
      emitEmptyLike(b, positions, b.getI32Type()),
      [&](OpBuilder &, Location, Value begin, ValueRange carried) {
        Value middle = atMostSize(emitAdd(b, begin, width));
        Value end = atMostSize(emitAdd(b, begin, pair));
        scf::YieldOp::create(
            b, emitMerge(positions, begin, middle, end, carried[0]));
      });
  return loop.getResult(0);
}

Value MergeSort::emitMerge(Value positions, Value begin, Value middle,
                           Value end, Value merged) {
  // Carried: the next position of the left run and of the right one.
  return emitLoop(
      b, begin, end, {begin, middle, merged},
      [&](Value place, ValueRange carried) -> SmallVector<Value> {
        Value left = carried[0], right = carried[1];
        Value isLeftOpen = isBelow(left, middle);
        Value isRightOpen = isBelow(right, end);
        // A run that is used up is not read.
        auto readOpen = [&](Value at, Value isOpen) {
          Value safe = arith::SelectOp::create(b, isOpen, at, begin);
          return emitRead(b, positions, safe);
        };
        Value leftPosition = readOpen(left, isLeftOpen);
        Value rightPosition = readOpen(right, isRightOpen);
        auto keyAt = [&](Value position) {
          return emitRead(b, keys, emitToIndex(b, position));
        };
        // Equal keys keep their order: the right one has to be greater.
        Value isGreater =
            order.isGreater(keyAt(rightPosition), keyAt(leftPosition));
        Value takesRight =
            arith::SelectOp::create(b, isLeftOpen, isGreater, isRightOpen);
        takesRight = arith::AndIOp::create(b, takesRight, isRightOpen);
        Value chosen =
            arith::SelectOp::create(b, takesRight, rightPosition, leftPosition);
        Value zero = emitIndex(b, 0);
        Value leftStep = arith::SelectOp::create(b, takesRight, zero, one);
        Value rightStep = arith::SelectOp::create(b, takesRight, one, zero);
        return {emitAdd(b, left, leftStep), emitAdd(b, right, rightStep),
                emitWrite(b, chosen, carried[2], place)};
      })[2];
}

Value tolinalg::emitDescendingOrder(ImplicitLocOpBuilder &b, KeyOrder &order,
                                    Value keys) {
  return MergeSort(b, order, keys).emit();
}
