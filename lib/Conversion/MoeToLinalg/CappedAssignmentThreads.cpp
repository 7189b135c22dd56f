//===- CappedAssignmentThreads.cpp - A cap, an iteration a token --------- ===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The projections of CappedAssignment.cpp, each sum in the same order, for
// threads that share nothing. A sweep is two parallel loops: a group's expert
// makes the sum over its tokens, and then a token does what is left, as its
// column of A is its own. Sweeps follow on each other by definition.
//

#include "CappedAssignment.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

/// log sum exp of what `load` reads in [begin, end); -inf for nothing but -inf.
static Value emitLogSum(ImplicitLocOpBuilder &b, Value begin, Value end,
                        llvm::function_ref<Value(Value at)> load) {
  FloatType type = b.getF64Type();
  Value none = emitNegativeInfinity(b, type), zero = emitFloat(b, type, 0.0);
  Value largest = emitLoop(
      b, begin, end, none, [&](Value at, ValueRange so) -> SmallVector<Value> {
        return {arith::MaximumFOp::create(b, load(at), so[0])};
      })[0];
  // The difference of two infinities would be NaN.
  Value isNone =
      arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, largest, none);
  Value shift = arith::SelectOp::create(b, isNone, zero, largest);
  Value sum = emitLoop(
      b, begin, end, zero, [&](Value at, ValueRange so) -> SmallVector<Value> {
        Value distance = arith::SubFOp::create(b, load(at), shift);
        return {
            arith::AddFOp::create(b, so[0], math::ExpOp::create(b, distance))};
      })[0];
  return arith::AddFOp::create(b, shift, math::LogOp::create(b, sum));
}

Value tolinalg::emitCappedAssignment(ImplicitLocOpBuilder &b,
                                     ExpertChoiceAttr router,
                                     const TokenGroups &groups, Value scores,
                                     Value mask, Value taken) {
  FloatType type = b.getF64Type();
  Value zero = emitIndex(b, 0), none = emitFloat(b, type, 0.0);
  Value width = emitDim(b, scores, 1);
  Value strength = emitFloat(b, type, router.getStrength().convertToDouble());
  Value logCap =
      emitFloat(b, type, std::log(router.getCap().convertToDouble()));
  auto add = [&](Value x, Value y) -> Value {
    return arith::AddFOp::create(b, x, y);
  };
  auto sub = [&](Value x, Value y) -> Value {
    return arith::SubFOp::create(b, x, y);
  };
  Value logs = emitNumbers(
      b, emitEmptyLike(b, scores, type), [&](Value token, Value expert) {
        Value scaled = arith::DivFOp::create(
            b, emitRead(b, scores, {token, expert}), strength);
        if (!mask)
          return scaled;
        return arith::SelectOp::create(b, emitRead(b, mask, token), scaled,
                                       emitNegativeInfinity(b, type))
            .getResult();
      });
  Value byColumn =
      emitFill(b, none,
               emitEmpty(b,
                         {tensor::getMixedSize(b, b.getLoc(), scores, 0),
                          b.getIndexAttr(1)},
                         type));
  Value byEntry = emitFill(b, none, emitEmptyLike(b, scores, type));
  Value steps = emitEmpty(b,
                          {getAsOpFoldResult(groups.getCount()),
                           tensor::getMixedSize(b, b.getLoc(), scores, 1)},
                          type);

  auto emitSweep = [&](Value, ValueRange state) -> SmallVector<Value> {
    // Rows sum to what an expert takes.
    Value rows = emitNumbers(b, state[3], [&](Value group, Value expert) {
      Value count = emitRead(b, taken, {group, zero});
      Value logTaken = math::LogOp::create(
          b, arith::SIToFPOp::create(b, type, count).getResult());
      Value sum = emitLogSum(
          b, groups.getBegin(group), groups.getEnd(group),
          [&](Value token) { return emitRead(b, state[0], {token, expert}); });
      return sub(logTaken, sum);
    });
    SmallVector<Value> next =
        emitRows(b, state.take_front(3), [&](Value token, ValueRange parts) {
          Value group = groups.getGroup(token);
          // Columns undo their last correction, and come down to the cap.
          Value last = emitRead(b, parts[1], {zero, zero});
          Value moved = emitLoop(
              b, zero, width, parts[0],
              [&](Value expert, ValueRange so) -> SmallVector<Value> {
                Value scaled = add(emitRead(b, so[0], {zero, expert}),
                                   emitRead(b, rows, {group, expert}));
                return {emitWrite(b, add(scaled, last), so[0], {zero, expert})};
              })[0];
          Value sum = emitLogSum(b, zero, width, [&](Value expert) {
            return emitRead(b, moved, {zero, expert});
          });
          Value above = arith::MaximumFOp::create(b, sub(sum, logCap), none);
          // Entries undo theirs, and are at most 1.
          SmallVector<Value> entries = emitLoop(
              b, zero, width, {moved, parts[2]},
              [&](Value expert, ValueRange so) -> SmallVector<Value> {
                Value scaled = sub(emitRead(b, so[0], {zero, expert}), above);
                Value log = add(scaled, emitRead(b, so[1], {zero, expert}));
                Value kept = arith::MinimumFOp::create(b, log, none);
                Value over = arith::MaximumFOp::create(b, log, none);
                return {emitWrite(b, kept, so[0], {zero, expert}),
                        emitWrite(b, over, so[1], {zero, expert})};
              });
          return SmallVector<Value>{entries[0],
                                    emitWrite(b, above, parts[1], {zero, zero}),
                                    entries[1]};
        });
    next.push_back(rows);
    return next;
  };
  return emitLoop(b, zero, emitIndex(b, router.getSweeps()),
                  {logs, byColumn, byEntry, steps}, emitSweep)[0];
}
