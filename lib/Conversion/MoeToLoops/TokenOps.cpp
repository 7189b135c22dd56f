//===- TokenOps.cpp - Jitter and hashing as loops -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Subsets.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

struct LowerJitter : public OpRewritePattern<JitterOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(JitterOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter, rewriter.getF64Type());
    Value input = b.input(op.getInput());
    Type type = op.getOutput().getType();
    Value output = b.output(type, reifyShapes(op, b)[0]);
    b.loopAll(output, [&](ValueRange at) {
      Value token = emitTokenNumber(b, op.getFirstToken(), at[0]);
      Value number = emitUniform(b, op.getSeed(), op.getLayer(), token, at[1]);
      Value side = b.sub(b.mul(b.real(2.0), number), b.real(1.0));
      Value factor = b.add(b.real(1.0), b.mul(b.real(op.getEps()), side));
      b.store(b.mul(b.load(input, at), factor), output, at);
    });
    rewriter.replaceOp(op, b.tensorOf(output, type));
    return success();
  }
};

struct LowerRouteHash : public OpRewritePattern<RouteHashOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RouteHashOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value tokenIds = b.input(op.getTokenIds()), table = b.input(op.getTable());
    Value mask = b.input(op.getTokenMask());
    Value numTokens = b.size(tokenIds, 0);
    checkAll(b, op, numTokens, "a token id is not in the table", [&](Value t) {
      return b.inRange(b.load(tokenIds, t), b.index(0), b.size(table, 0));
    });
    Value numSlots = b.size(table, 1), numExperts = b.index(op.getNumExperts());
    auto isExpert = [&](Value t) {
      return b.fold(b.index(0), numSlots, b.boolean(true),
                    [&](Value slot, ValueRange so) -> SmallVector<Value> {
                      Value id = b.load(table, {b.load(tokenIds, t), slot});
                      return {
                          b.both(so[0], b.inRange(id, b.index(0), numExperts))};
                    })[0];
    };
    checkAll(b, op, numTokens, "the table names an expert out of range",
             isExpert);
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value ids = b.output(op.getIds().getType(), shapes[0]);
    Value weights = b.output(op.getWeights().getType(), shapes[1]);
    b.fill(ids, b.index(-1));
    b.fill(weights, b.real(0.0));
    b.loop(numTokens, [&](Value t) {
      b.when(b.isLive(mask, t), [&] {
        b.loop(numSlots, [&](Value slot) {
          b.store(b.load(table, {b.load(tokenIds, t), slot}), ids, {t, slot});
          b.store(b.real(1.0), weights, {t, slot});
        });
      });
    });
    rewriter.replaceOp(op, {b.tensorOf(ids, op.getIds().getType()),
                            b.tensorOf(weights, op.getWeights().getType())});
    return success();
  }

  static void checkAll(LoopBuilder &b, RouteHashOp op, Value numTokens,
                       StringRef message,
                       llvm::function_ref<Value(Value t)> test) {
    Value fits = b.fold(b.index(0), numTokens, b.boolean(true),
                        [&](Value t, ValueRange so) -> SmallVector<Value> {
                          return {b.both(so[0], test(t))};
                        })[0];
    b.assertThat(op, fits, message);
  }
};

} // namespace

void loops::populateTokenPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerJitter, LowerRouteHash>(patterns.getContext());
}
