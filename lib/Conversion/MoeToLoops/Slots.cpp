//===- Slots.cpp - Unit rows and soft slots as loops ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LoopBuilder.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

struct LowerUnitRows : public OpRewritePattern<UnitRowsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(UnitRowsOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value rows = b.input(op.getRows()), scale = b.input(op.getScale());
    Value unit = b.output(op.getUnit().getType(), reifyShapes(op, b)[0]);
    Value width = b.size(unit, 1), eps = b.real(op.getEps());
    b.loop(b.size(unit, 0), [&](Value t) {
      Value square = b.sum(b.index(0), width, [&](Value place) {
        Value value = b.load(rows, {t, place});
        return b.mul(value, value);
      });
      Value length;
      if (op.getMode() == EpsMode::add)
        length = math::SqrtOp::create(b, b.add(square, eps));
      else
        length = b.larger(math::SqrtOp::create(b, square), eps);
      b.loop(width, [&](Value place) {
        Value value = b.div(b.load(rows, {t, place}), length);
        if (scale)
          value = b.mul(value, b.load(scale, {}));
        b.store(value, unit, {t, place});
      });
    });
    rewriter.replaceOp(op, b.tensorOf(unit, op.getUnit().getType()));
    return success();
  }
};

struct LowerRouteSlots : public OpRewritePattern<RouteSlotsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RouteSlotsOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value logits = b.input(op.getLogits()), mask = b.input(op.getTokenMask());
    Value offsets = b.input(op.getGroupOffsets());
    Value numTokens = b.size(logits, 0), numSlots = b.size(logits, 1);
    if (offsets)
      b.checkGroups(op, offsets, numTokens);
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value dispatch = b.output(op.getDispatch().getType(), shapes[0]);
    Value combine = b.output(op.getCombine().getType(), shapes[1]);
    b.fill(dispatch, b.real(0.0));
    b.fill(combine, b.real(0.0));
    b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
      b.loop(numSlots, [&](Value s) {
        b.softmax(
            low, high, [&](Value t) { return b.isLive(mask, t); },
            [&](Value t) { return b.load(logits, {t, s}); },
            [&](Value t, Value share) { b.store(share, dispatch, {t, s}); });
      });
    });
    b.loop(numTokens, [&](Value t) {
      b.when(b.isLive(mask, t), [&] {
        b.softmax(
            b.index(0), numSlots, /*isMember=*/nullptr,
            [&](Value s) { return b.load(logits, {t, s}); },
            [&](Value s, Value share) { b.store(share, combine, {t, s}); });
      });
    });
    rewriter.replaceOp(op, {b.tensorOf(dispatch, op.getDispatch().getType()),
                            b.tensorOf(combine, op.getCombine().getType())});
    return success();
  }
};

/// Runs `body` on the bounds and the number of every group.
void loopNumberedGroups(LoopBuilder &b, Operation *op, Value offsets,
                        Value numTokens,
                        llvm::function_ref<void(Value, Value, Value)> body) {
  if (!offsets)
    return body(b.index(0), b.index(0), numTokens);
  b.checkGroups(op, offsets, numTokens);
  b.loop(b.sub(b.size(offsets, 0), b.index(1)), [&](Value group) {
    body(group, b.load(offsets, group),
         b.load(offsets, b.add(group, b.index(1))));
  });
}

/// Where the rows of a group's slots stand: by expert, then group, then slot.
struct SlotOrder {
  Value numGroups, slotsOfExpert;

  SlotOrder(LoopBuilder &b, Value offsets, Value numSlots, uint64_t numExperts)
      : numGroups(offsets ? b.sub(b.size(offsets, 0), b.index(1)) : b.index(1)),
        slotsOfExpert(b.div(numSlots, b.index(numExperts))) {}

  Value rowOf(LoopBuilder &b, Value group, Value slot) const {
    Value expert = b.div(slot, slotsOfExpert),
          place = b.rem(slot, slotsOfExpert);
    Value block = b.add(b.mul(expert, numGroups), group);
    return b.add(b.mul(block, slotsOfExpert), place);
  }
};

struct LowerSoftDispatch : public OpRewritePattern<SoftDispatchOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SoftDispatchOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value input = b.input(op.getInput()), dispatch = b.input(op.getDispatch());
    Value offsets = b.input(op.getGroupOffsets());
    Value numSlots = b.size(dispatch, 1);
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value rows = b.output(op.getRows().getType(), shapes[0]);
    Value bounds = b.output(op.getOffsets().getType(), shapes[1]);
    SlotOrder order(b, offsets, numSlots, op.getNumExperts());
    loopNumberedGroups(
        b, op, offsets, b.size(input, 0),
        [&](Value group, Value low, Value high) {
          b.loop(numSlots, [&](Value s) {
            Value row = order.rowOf(b, group, s);
            b.loop(b.size(rows, 1), [&](Value place) {
              Value sum = b.sum(low, high, [&](Value t) {
                Value weight = b.load(dispatch, {t, s});
                Value isZero = arith::CmpFOp::create(
                    b, arith::CmpFPredicate::OEQ, weight, b.real(0.0));
                return b.pick(
                    b.getComputeType(), isZero, [&] { return b.real(0.0); },
                    [&] { return b.mul(weight, b.load(input, {t, place})); });
              });
              b.store(sum, rows, {row, place});
            });
          });
        });
    Value rowsOfExpert = b.mul(order.numGroups, order.slotsOfExpert);
    b.loop(b.size(bounds, 0), [&](Value expert) {
      b.store(b.mul(expert, rowsOfExpert), bounds, expert);
    });
    rewriter.replaceOp(op, {b.tensorOf(rows, op.getRows().getType()),
                            b.tensorOf(bounds, op.getOffsets().getType())});
    return success();
  }
};

struct LowerSoftCombine : public OpRewritePattern<SoftCombineOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SoftCombineOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value rows = b.input(op.getRows()), combine = b.input(op.getCombine());
    Value offsets = b.input(op.getGroupOffsets());
    Value numSlots = b.size(combine, 1);
    Value output = b.output(op.getOutput().getType(), reifyShapes(op, b)[0]);
    SlotOrder order(b, offsets, numSlots, op.getNumExperts());
    loopNumberedGroups(b, op, offsets, b.size(combine, 0),
                       [&](Value group, Value low, Value high) {
                         b.loop(low, high, [&](Value t) {
                           b.loop(b.size(rows, 1), [&](Value place) {
                             Value sum =
                                 b.sum(b.index(0), numSlots, [&](Value s) {
                                   Value row = order.rowOf(b, group, s);
                                   return b.mul(b.load(combine, {t, s}),
                                                b.load(rows, {row, place}));
                                 });
                             b.store(sum, output, {t, place});
                           });
                         });
                       });
    rewriter.replaceOp(op, b.tensorOf(output, op.getOutput().getType()));
    return success();
  }
};

struct LowerSoftDots : public OpRewritePattern<SoftDotsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SoftDotsOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value tokens = b.input(op.getTokens()), rows = b.input(op.getRows());
    Value offsets = b.input(op.getGroupOffsets());
    Value dots = b.output(op.getDots().getType(), reifyShapes(op, b)[0]);
    Value numSlots = b.size(dots, 1);
    SlotOrder order(b, offsets, numSlots, op.getNumExperts());
    loopNumberedGroups(
        b, op, offsets, b.size(tokens, 0),
        [&](Value group, Value low, Value high) {
          b.loop(low, high, [&](Value t) {
            b.loop(numSlots, [&](Value s) {
              Value row = order.rowOf(b, group, s);
              Value sum =
                  b.sum(b.index(0), b.size(tokens, 1), [&](Value place) {
                    return b.mul(b.load(tokens, {t, place}),
                                 b.load(rows, {row, place}));
                  });
              b.store(sum, dots, {t, s});
            });
          });
        });
    rewriter.replaceOp(op, b.tensorOf(dots, op.getDots().getType()));
    return success();
  }
};

struct LowerRouteSlotsVJP : public OpRewritePattern<RouteSlotsVJPOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RouteSlotsVJPOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value dispatch = b.input(op.getDispatch());
    Value combine = b.input(op.getCombine());
    Value dDispatch = b.input(op.getDDispatch());
    Value dCombine = b.input(op.getDCombine());
    Value mask = b.input(op.getTokenMask());
    Value offsets = b.input(op.getGroupOffsets());
    Value numTokens = b.size(dispatch, 0), numSlots = b.size(dispatch, 1);
    if (offsets)
      b.checkGroups(op, offsets, numTokens);
    Value gradient =
        b.output(op.getGradient().getType(), reifyShapes(op, b)[0]);
    // The sum rounds once.
    Value sums = b.scratch(b.getComputeType(), {numTokens, numSlots});
    b.fill(sums, b.real(0.0));
    b.loop(numTokens, [&](Value t) {
      b.when(b.isLive(mask, t), [&] {
        b.pullSoftmax(
            b.index(0), numSlots, /*isMember=*/nullptr,
            [&](Value s) { return b.load(combine, {t, s}); },
            [&](Value s) { return b.load(dCombine, {t, s}); },
            [&](Value s, Value pulled) { b.store(pulled, sums, {t, s}); });
      });
    });
    b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
      b.loop(numSlots, [&](Value s) {
        b.pullSoftmax(
            low, high, [&](Value t) { return b.isLive(mask, t); },
            [&](Value t) { return b.load(dispatch, {t, s}); },
            [&](Value t) { return b.load(dDispatch, {t, s}); },
            [&](Value t, Value pulled) {
              b.store(b.add(b.load(sums, {t, s}), pulled), sums, {t, s});
            });
      });
    });
    b.loopAll(gradient,
              [&](ValueRange at) { b.store(b.load(sums, at), gradient, at); });
    rewriter.replaceOp(op, b.tensorOf(gradient, op.getGradient().getType()));
    return success();
  }
};

} // namespace

void loops::populateSlotPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerUnitRows, LowerRouteSlots, LowerSoftDispatch,
               LowerSoftCombine, LowerSoftDots, LowerRouteSlotsVJP>(
      patterns.getContext());
}
