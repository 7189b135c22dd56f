//===- CappedAssignment.cpp - Expert choice with a cap --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Dykstra's projections in log space, whole matrices at a time. A sweep takes
// two exponentials an entry: one for the sums of the rows of experts, one for
// those of the columns of tokens.
//
//===----------------------------------------------------------------------===//

#include "CappedAssignment.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

class Projections {
public:
  Projections(ImplicitLocOpBuilder &b, ExpertChoiceAttr router, Value taken)
      : b(b), router(router), type(b.getF64Type()) {
    Value count = arith::IndexCastOp::create(b, b.getI64Type(), taken);
    logTaken = math::LogOp::create(
        b, arith::SIToFPOp::create(b, type, count).getResult());
  }

  Value emitStart(Value scores, Value mask);
  /// The state after a sweep: log A, and what columns and entries corrected.
  SmallVector<Value> emitSweep(ValueRange state);

private:
  Value emitLogSums(Value matrix, int64_t kept);
  Value emitFold(Value matrix, Value list, int64_t kept, Value init,
                 ScalarBody body);
  Value real(double value) { return emitFloat(b, type, value); }
  Value larger(Value x, Value y) { return arith::MaximumFOp::create(b, x, y); }

  ImplicitLocOpBuilder &b;
  ExpertChoiceAttr router;
  FloatType type;
  Value logTaken;
};

/// scores / strength; -inf for tokens that are not there.
Value Projections::emitStart(Value scores, Value mask) {
  Value strength = real(router.getStrength().convertToDouble());
  auto scale = [&](Value score) -> Value {
    return arith::DivFOp::create(b, score, strength);
  };
  Value dest = emitEmptyLike(b, scores, type);
  if (!mask)
    return emitElementwise(
        b, scores, dest, [&](ValueRange scalars) { return scale(scalars[0]); });
  return emitMap(
      b, {scores, mask}, {{0, 1}, {0}}, dest, [&](ValueRange scalars) -> Value {
        return arith::SelectOp::create(b, scalars[1], scale(scalars[0]),
                                       emitNegativeInfinity(b, type));
      });
}

/// Folds a matrix into one number for each index of the dimension `kept`. The
/// body gets an entry, the list's number and what is folded so far.
Value Projections::emitFold(Value matrix, Value list, int64_t kept, Value init,
                            ScalarBody body) {
  OpFoldResult size = tensor::getMixedSize(b, b.getLoc(), matrix, kept);
  Value acc = emitFill(b, init, emitList(b, size, type));
  AffineMap own = AffineMap::get(2, 0, b.getAffineDimExpr(kept));
  SmallVector<AffineMap> maps = {b.getMultiDimIdentityMap(2)};
  SmallVector<Value> inputs = {matrix};
  if (list) {
    maps.push_back(own);
    inputs.push_back(list);
  }
  maps.push_back(own);
  SmallVector<utils::IteratorType> iterators(2, utils::IteratorType::reduction);
  iterators[kept] = utils::IteratorType::parallel;
  auto generic =
      linalg::GenericOp::create(b, acc.getType(), inputs, acc, maps, iterators,
                                [&](OpBuilder &, Location, ValueRange scalars) {
                                  linalg::YieldOp::create(b, body(scalars));
                                });
  return generic.getResult(0);
}

/// log sum exp along the other dimension; -inf for nothing but -inf.
Value Projections::emitLogSums(Value matrix, int64_t kept) {
  Value none = emitNegativeInfinity(b, type);
  Value largest = emitFold(matrix, {}, kept, none, [&](ValueRange scalars) {
    return larger(scalars[0], scalars[1]);
  });
  // The difference of two infinities would be NaN.
  Value shift = emitElementwise(
      b, largest, emitEmptyLike(b, largest, type),
      [&](ValueRange scalars) -> Value {
        Value isNone = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ,
                                             scalars[0], none);
        return arith::SelectOp::create(b, isNone, real(0.0), scalars[0]);
      });
  Value sums = emitFold(
      matrix, shift, kept, real(0.0), [&](ValueRange scalars) -> Value {
        Value distance = arith::SubFOp::create(b, scalars[0], scalars[1]);
        return arith::AddFOp::create(b, scalars[2],
                                     math::ExpOp::create(b, distance));
      });
  return emitElementwise(b, {shift, sums}, emitEmptyLike(b, sums, type),
                         [&](ValueRange scalars) -> Value {
                           return arith::AddFOp::create(
                               b, scalars[0],
                               math::LogOp::create(b, scalars[1]));
                         });
}

SmallVector<Value> Projections::emitSweep(ValueRange state) {
  Value logs = state[0], byColumn = state[1], byEntry = state[2];
  // Rows sum to what an expert takes; columns undo their last correction.
  Value rows = emitLogSums(logs, /*kept=*/1);
  logs = emitMap(b, {rows, byColumn}, {{1}, {0}}, logs,
                 [&](ValueRange scalars) -> Value {
                   Value step = arith::SubFOp::create(b, logTaken, scalars[0]);
                   Value scaled = arith::AddFOp::create(b, scalars[2], step);
                   return arith::AddFOp::create(b, scaled, scalars[1]);
                 });
  // Columns above the cap are scaled down to it; entries undo theirs.
  Value columns = emitLogSums(logs, /*kept=*/0);
  Value logCap = real(std::log(router.getCap().convertToDouble()));
  byColumn =
      emitElementwise(b, columns, byColumn, [&](ValueRange scalars) -> Value {
        Value above = arith::SubFOp::create(b, scalars[0], logCap);
        return larger(above, real(0.0));
      });
  logs = emitMap(b, {byColumn, byEntry}, {{0}, {0, 1}}, logs,
                 [&](ValueRange scalars) -> Value {
                   Value scaled =
                       arith::SubFOp::create(b, scalars[2], scalars[0]);
                   return arith::AddFOp::create(b, scaled, scalars[1]);
                 });
  // Entries are at most 1.
  byEntry = emitElementwise(b, logs, byEntry, [&](ValueRange scalars) {
    return larger(scalars[0], real(0.0));
  });
  logs = emitElementwise(b, {}, logs, [&](ValueRange scalars) -> Value {
    return arith::MinimumFOp::create(b, scalars[0], real(0.0));
  });
  return {logs, byColumn, byEntry};
}

} // namespace

Value tolinalg::emitCappedAssignment(ImplicitLocOpBuilder &b,
                                     ExpertChoiceAttr router, Value scores,
                                     Value mask, Value taken) {
  Projections projections(b, router, taken);
  FloatType type = b.getF64Type();
  Value zero = emitFloat(b, type, 0.0);
  Value logs = projections.emitStart(scores, mask);
  Value byColumn = emitFill(
      b, zero,
      emitList(b, tensor::getMixedSize(b, b.getLoc(), scores, 0), type));
  Value byEntry = emitFill(b, zero, emitEmptyLike(b, scores, type));
  return emitLoop(b, emitIndex(b, 0), emitIndex(b, router.getSweeps()),
                  {logs, byColumn, byEntry}, [&](Value, ValueRange state) {
                    return projections.emitSweep(state);
                  })[0];
}
