//===- ExpertTiles.cpp - Whose tile a number is ---------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TensorTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// 32 experts, one a lane.
class ExpertScan {
public:
  ExpertScan(ImplicitLocOpBuilder &b, ThreadEmitter &emit, Value lane,
             Value offsets, int64_t numExperts)
      : b(b), emit(emit), lane(lane), offsets(offsets), numExperts(numExperts) {
  }

  /// Looks for `left`, what is left of the number behind earlier experts.
  /// Returns what is left behind these, whether it was found, and its expert,
  /// tiles in front, begin and end, all i32.
  SmallVector<Value> run(Value firstExpert, Value left,
                         llvm::function_ref<Value(Value)> count);

private:
  Value add(Value x, Value y) { return b.createOrFold<arith::AddIOp>(x, y); }
  Value sub(Value x, Value y) { return b.createOrFold<arith::SubIOp>(x, y); }
  Value compare(arith::CmpIPredicate predicate, Value x, Value y) {
    return b.createOrFold<arith::CmpIOp>(predicate, x, y);
  }
  Value shuffle(Value value, Value offset, gpu::ShuffleMode mode) {
    return gpu::ShuffleOp::create(b, value, offset, emit.id(32), mode)
        .getShuffleResult();
  }
  Value getSumUpTo(Value count, Value laneId);

  ImplicitLocOpBuilder &b;
  ThreadEmitter &emit;
  Value lane, offsets;
  int64_t numExperts;
};

/// The sum of this lane's number and those of all lanes in front.
Value ExpertScan::getSumUpTo(Value count, Value laneId) {
  int64_t most = std::min<int64_t>(numExperts, 32);
  for (int64_t distance = 1; distance < most; distance *= 2) {
    Value from = shuffle(count, emit.id(distance), gpu::ShuffleMode::UP);
    Value isThere =
        compare(arith::CmpIPredicate::sge, laneId, emit.id(distance));
    count = add(count, arith::SelectOp::create(b, isThere, from, emit.id(0)));
  }
  return count;
}

SmallVector<Value> ExpertScan::run(Value firstExpert, Value left,
                                   llvm::function_ref<Value(Value)> count) {
  Value expert = emit.add(firstExpert, lane);
  Value last = emit.index(numExperts - 1);
  Value place = b.createOrFold<arith::MinUIOp>(expert, last);
  Value begin = memref::LoadOp::create(b, offsets, place);
  Value next = emit.add(place, emit.index(1));
  Value end = memref::LoadOp::create(b, offsets, next);
  Value isExpert = compare(arith::CmpIPredicate::ule, expert, last);
  Value own =
      arith::SelectOp::create(b, isExpert, count(sub(end, begin)), emit.id(0));
  Value laneId = arith::IndexCastOp::create(b, b.getI32Type(), lane);
  Value upTo = getSumUpTo(own, laneId);
  Value before = sub(upTo, own);
  Value isIts =
      arith::AndIOp::create(b, compare(arith::CmpIPredicate::sle, before, left),
                            compare(arith::CmpIPredicate::slt, left, upTo));
  Value votes = NVVM::VoteSyncOp::create(b, b.getI32Type(), emit.id(-1), isIts,
                                         NVVM::VoteSyncKind::ballot);
  Value isFound = compare(arith::CmpIPredicate::ne, votes, emit.id(0));
  // Of no votes nothing is asked.
  Value owner = LLVM::CountTrailingZerosOp::create(b, b.getI32Type(), votes,
                                                   /*is_zero_poison=*/true);
  auto ofOwner = [&](Value value) {
    return shuffle(value, owner, gpu::ShuffleMode::IDX);
  };
  Value first = arith::IndexCastOp::create(b, b.getI32Type(), firstExpert);
  Value passed = shuffle(upTo, emit.id(31), gpu::ShuffleMode::IDX);
  return {sub(left, passed),          isFound,        add(first, owner),
          sub(left, ofOwner(before)), ofOwner(begin), ofOwner(end)};
}

} // namespace

ExpertTile moe::findExpertTile(ImplicitLocOpBuilder &b, ThreadEmitter &emit,
                               Value lane, Value offsets, int64_t numExperts,
                               Value number,
                               llvm::function_ref<Value(Value)> count) {
  ExpertScan scan(b, emit, lane, offsets, numExperts);
  Value left = arith::IndexCastOp::create(b, b.getI32Type(), number);
  SmallVector<Value> found;
  if (numExperts <= 32) {
    found = scan.run(emit.index(0), left, count);
  } else {
    Value no = arith::ConstantOp::create(b, b.getBoolAttr(false));
    Value zero = emit.id(0);
    found = emit.loop(
        emit.index(0), emit.index(llvm::divideCeil(numExperts, 32)),
        {left, no, zero, zero, zero, zero},
        [&](Value part, ValueRange carried) -> SmallVector<Value> {
          SmallVector<Value> own =
              scan.run(emit.mul(part, emit.index(32)), carried[0], count);
          SmallVector<Value> result = {
              own[0], arith::OrIOp::create(b, carried[1], own[1])};
          for (int64_t i = 2; i < 6; ++i)
            result.push_back(
                arith::SelectOp::create(b, own[1], own[i], carried[i]));
          return result;
        });
  }
  auto asIndex = [&](Value value) -> Value {
    return arith::IndexCastOp::create(b, b.getIndexType(), value);
  };
  return {found[1], asIndex(found[2]), asIndex(found[3]), asIndex(found[4]),
          asIndex(found[5])};
}
