//===- CombineSlotsToThreads.cpp - A thread a number ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ThreadEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The sum of one token's rows at one column, in slot order.
Value emitRowSum(ImplicitLocOpBuilder &b, ThreadEmitter &emit,
                 CombineSlotsOp op, Value token, Value column) {
  Value begin = emit.loadIndex(op.getFirst(), token);
  Value end = emit.loadIndex(op.getFirst(), emit.add(token, emit.index(1)));
  return emit.loop(begin, end, emit.real(0.0),
                   [&](Value place, ValueRange carried) -> SmallVector<Value> {
                     Value row = emit.loadIndex(op.getSlot(), place);
                     Value value = emit.load(op.getRows(), {row, column});
                     if (!op.getWeight())
                       return {arith::AddFOp::create(b, carried[0], value)};
                     Value weight = emit.load(op.getWeight(), row);
                     return {emit.multiplyAdd(weight, value, carried[0])};
                   })[0];
}

void emitNumber(ImplicitLocOpBuilder &b, ThreadEmitter &emit, CombineSlotsOp op,
                Value token, Value column) {
  Value sum = emitRowSum(b, emit, op, token, column);
  if (op.getIdentity()) {
    Value weight = emit.load(op.getIdentityWeight(), token);
    Value value = emit.load(op.getIdentity(), {token, column});
    // A token without identity slots must not make NaN of an infinite input.
    Value isUsed = arith::CmpFOp::create(b, arith::CmpFPredicate::UNE, weight,
                                         emit.real(0.0));
    sum = arith::SelectOp::create(b, isUsed,
                                  emit.multiplyAdd(weight, value, sum), sum);
  }
  double scale = op.getScale().convertToDouble();
  if (scale != 1.0)
    sum = arith::MulFOp::create(b, sum, emit.real(scale));
  if (op.getBias())
    sum = arith::AddFOp::create(b, sum, emit.load(op.getBias(), column));
  if (op.getResidual())
    sum = arith::AddFOp::create(b, sum,
                                emit.load(op.getResidual(), {token, column}));
  if (op.getAverage())
    sum = arith::MulFOp::create(b, sum, emit.real(0.5));
  emit.store(sum, op.getInit(), {token, column});
}

struct CombineSlotsPattern : public OpRewritePattern<CombineSlotsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(CombineSlotsOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0)
      return rewriter.notifyMatchFailure(op, "is on tensors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    auto isWide = [](Value value) {
      return cast<MemRefType>(value.getType()).getElementType().isF64();
    };
    bool wide = isWide(op.getInit()) || isWide(op.getRows());
    ThreadEmitter emit(b, wide ? FloatType(b.getF64Type())
                               : FloatType(b.getF32Type()));
    Value init = op.getInit();
    emit.threads(op, {emit.dim(init, 0), emit.dim(init, 1)},
                 [&](ValueRange at) { emitNumber(b, emit, op, at[0], at[1]); });
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateCombineSlotsToThreadsPatterns(RewritePatternSet &patterns) {
  patterns.add<CombineSlotsPattern>(patterns.getContext());
}
