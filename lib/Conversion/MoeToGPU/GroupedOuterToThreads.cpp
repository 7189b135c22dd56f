//===- GroupedOuterToThreads.cpp - A thread a number ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ThreadEmitter.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct GroupedOuterPattern : public OpRewritePattern<GroupedOuterOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupedOuterOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0)
      return rewriter.notifyMatchFailure(op, "is on tensors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    ThreadEmitter emit(b, op.getComputeType());
    Value init = op.getInit();
    auto read = [&](Value rows, Value list, Value row, Value column) {
      if (list)
        row = emit.loadIndex(list, row);
      return emit.load(rows, {row, column});
    };
    emit.threads(
        op, {emit.dim(init, 0), emit.dim(init, 1), emit.dim(init, 2)},
        [&](ValueRange at) {
          Value begin = emit.index(0), end;
          if (Value offsets = op.getOffsets()) {
            begin = emit.loadIndex(offsets, at[0]);
            end = emit.loadIndex(offsets, emit.add(at[0], emit.index(1)));
          } else {
            Value counted = op.getLhsRows() ? op.getLhsRows() : op.getLhs();
            end = emit.dim(counted, 0);
          }
          Value sum = emit.loop(
              begin, end, emit.real(0.0),
              [&](Value row, ValueRange sum) -> SmallVector<Value> {
                Value x = read(op.getLhs(), op.getLhsRows(), row, at[1]);
                Value y = read(op.getRhs(), op.getRhsRows(), row, at[2]);
                return {emit.multiplyAdd(x, y, sum[0])};
              })[0];
          emit.store(sum, init, at);
        });
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateGroupedOuterToThreadsPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupedOuterPattern>(patterns.getContext());
}
