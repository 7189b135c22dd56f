//===- CappedAssignment.cpp - Expert choice with a cap, as loops ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CappedAssignment.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

CappedAssignment::CappedAssignment(LoopBuilder &b, ExpertChoiceAttr rule,
                                   Value scores, Value mask)
    : b(b), rule(rule), scores(scores), mask(mask),
      numExperts(b.size(scores, 1)) {
  FloatType real = b.getComputeType();
  Value numTokens = b.size(scores, 0);
  logs = b.scratch(real, {numTokens, numExperts});
  byColumn = b.scratch(real, numTokens);
  byEntry = b.scratch(real, {numTokens, numExperts});
}

void CappedAssignment::loopLive(Value low, Value high, LoopBuilder::Body body) {
  b.loop(low, high,
         [&](Value t) { b.when(b.isLive(mask, t), [&] { body(t); }); });
}

/// log of the sum of exp(read) over the members.
Value CappedAssignment::logSum(Value low, Value high,
                               llvm::function_ref<Value(Value)> isMember,
                               llvm::function_ref<Value(Value)> read) {
  FloatType real = b.getComputeType();
  auto foldMembers = [&](Value init,
                         llvm::function_ref<Value(Value, Value)> body) {
    return b.fold(low, high, init,
                  [&](Value at, ValueRange so) -> SmallVector<Value> {
                    return {b.pick(
                        real, isMember(at), [&] { return body(so[0], at); },
                        [&]() -> Value { return so[0]; })};
                  })[0];
  };
  Value max = foldMembers(b.negativeInfinity(), [&](Value so, Value at) {
    return b.larger(so, read(at));
  });
  Value sum = foldMembers(b.real(0.0), [&](Value so, Value at) -> Value {
    return b.add(so, math::ExpOp::create(b, b.sub(read(at), max)));
  });
  return b.add(max, math::LogOp::create(b, sum));
}

/// A row of an expert sums to what it takes.
void CappedAssignment::scaleRow(Value expert, Value low, Value high,
                                Value logTaken) {
  Value total = logSum(
      low, high, [&](Value t) { return b.isLive(mask, t); },
      [&](Value t) { return getLog(t, expert); });
  loopLive(low, high, [&](Value t) {
    Value log = b.add(getLog(t, expert), b.sub(logTaken, total));
    b.store(log, logs, {t, expert});
  });
}

/// A column of a token sums to the cap at most.
void CappedAssignment::scaleColumn(Value token) {
  auto restored = [&](Value e) {
    return b.add(getLog(token, e), b.load(byColumn, token));
  };
  Value total = logSum(
      b.index(0), numExperts, [&](Value) { return b.boolean(true); }, restored);
  Value logCap = math::LogOp::create(b, b.real(rule.getCap()));
  Value above = b.larger(b.sub(total, logCap), b.real(0.0));
  b.loop(numExperts, [&](Value e) {
    b.store(b.sub(restored(e), above), logs, {token, e});
  });
  b.store(above, byColumn, token);
}

/// An entry is 1 at most.
void CappedAssignment::clampEntries(Value token) {
  b.loop(numExperts, [&](Value e) {
    Value restored = b.add(getLog(token, e), b.load(byEntry, {token, e}));
    Value above = b.larger(restored, b.real(0.0));
    b.store(above, byEntry, {token, e});
    b.store(b.sub(restored, above), logs, {token, e});
  });
}

void CappedAssignment::compute(Value low, Value high, Value limit) {
  Value live = b.fold(low, high, b.index(0),
                      [&](Value t, ValueRange so) -> SmallVector<Value> {
                        Value more = b.add(so[0], b.index(1));
                        return {b.select(b.isLive(mask, t), more, so[0])};
                      })[0];
  Value taken = b.smallerIndex(limit, live);
  Value logTaken = math::LogOp::create(b, b.toReal(taken));
  loopLive(low, high, [&](Value t) {
    b.store(b.real(0.0), byColumn, t);
    b.loop(numExperts, [&](Value e) {
      Value score = b.load(scores, {t, e});
      b.store(b.div(score, b.real(rule.getStrength())), logs, {t, e});
      b.store(b.real(0.0), byEntry, {t, e});
    });
  });
  b.loop(b.index(rule.getSweeps()), [&](Value) {
    b.loop(numExperts, [&](Value e) { scaleRow(e, low, high, logTaken); });
    loopLive(low, high, [&](Value t) { scaleColumn(t); });
    loopLive(low, high, [&](Value t) { clampEntries(t); });
  });
}
