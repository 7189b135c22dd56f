//===- Training.cpp - Load and selection bias as loops --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Losses.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

//===----------------------------------------------------------------------===//
// LoadLossOp
//===----------------------------------------------------------------------===//

Value SmoothLoad::isNone(Value x) {
  return arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, x,
                               b.negativeInfinity());
}

/// The k-th largest noisy logit of a token, where `isOthers` but for its own.
void SmoothLoad::findThreshold(Value token, Value e) {
  b.store(b.negativeInfinity(), found, {});
  b.store(b.index(0), holder, {});
  b.loop(numExperts, [&](Value other) {
    b.store(isOthers ? b.equal(other, e) : b.boolean(false), taken, other);
  });
  Value last = b.index(k - 1);
  b.visitLargest(
      b.index(0), numExperts, b.smallerIndex(b.index(k), numExperts), taken,
      [&](Value other) { return b.load(noisy, {token, other}); },
      [&](Value place, Value other) {
        b.when(b.equal(place, last), [&] {
          b.store(b.load(noisy, {token, other}), found, {});
          b.store(other, holder, {});
        });
      });
}

Value SmoothLoad::emitSigma(Value token, Value e) {
  return sigma ? b.load(sigma, {token, e}) : b.real(std);
}

/// Phi((clean - threshold) / sigma).
Value SmoothLoad::chance(Value token, Value e) {
  findThreshold(token, e);
  Value threshold = getThreshold();
  Value own = b.load(clean, {token, e});
  Value distance = b.div(b.sub(threshold, own), emitSigma(token, e));
  Value scaled = b.mul(distance, b.real(0.70710678118654752440));
  Value tail = b.mul(b.real(0.5), math::ErfcOp::create(b, scaled));
  Value above = b.select(isNone(threshold), b.real(1.0), tail);
  return b.select(isNone(own), b.real(0.0), above);
}

void SmoothLoad::computeLoad(Value low, Value high) {
  b.loop(numExperts, [&](Value e) {
    b.store(sumLive(low, high, [&](Value t) { return chance(t, e); }), load, e);
  });
}

Value SmoothLoad::emit(Value low, Value high) {
  computeLoad(low, high);
  return emitSquaredVariation(numExperts, /*isUnbiased=*/false, eps,
                              [&](Value e) { return b.load(load, e); });
}

namespace {

struct LowerLoadLoss : public OpRewritePattern<LoadLossOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(LoadLossOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value numTokens = b.size(b.input(op.getClean()), 0);
    Value offsets = b.input(op.getGroupOffsets());
    SmoothLoad load(b, op);
    rewriter.replaceOp(op, emitGroupMean(b, op, offsets, numTokens, load,
                                         op.getCoefficient(),
                                         [&](Value low, Value high, Value) {
                                           return load.emit(low, high);
                                         }));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// ExpertLoadOp, UpdateBiasOp
//===----------------------------------------------------------------------===//

struct LowerExpertLoad : public OpRewritePattern<ExpertLoadOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ExpertLoadOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value ids = b.input(op.getIds()), weights = b.input(op.getWeights());
    Type type = op.getLoad().getType();
    Value load = b.output(type, reifyShapes(op, b)[0]);
    Value zero = weights ? b.real(0.0) : b.index(0);
    b.loop(b.size(load, 0), [&](Value e) {
      Value sum = zero;
      sum =
          b.fold(b.index(0), b.size(ids, 0), sum, [&](Value t, ValueRange so) {
            return b.fold(
                b.index(0), b.size(ids, 1), so,
                [&](Value slot, ValueRange inner) -> SmallVector<Value> {
                  Value isOwn = b.equal(b.load(ids, {t, slot}), e);
                  Value more =
                      weights ? b.load(weights, {t, slot}) : b.index(1);
                  return {b.select(isOwn, b.add(inner[0], more), inner[0])};
                });
          })[0];
      b.store(sum, load, e);
    });
    rewriter.replaceOp(op, b.tensorOf(load, type));
    return success();
  }
};

struct LowerUpdateBias : public OpRewritePattern<UpdateBiasOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(UpdateBiasOp op,
                                PatternRewriter &rewriter) const override {
    // Counts are whole numbers, exact in f64.
    LoopBuilder b(op, rewriter, rewriter.getF64Type());
    Value bias = b.input(op.getBias()), counts = b.input(op.getCounts());
    Type type = op.getUpdated().getType();
    Value updated = b.output(type, reifyShapes(op, b)[0]);
    Value numExperts = b.size(bias, 0);
    auto count = [&](Value e) {
      Value value = b.load(counts, e);
      return isa<FloatType>(value.getType()) ? value : b.toReal(value);
    };
    Value sum = b.sum(b.index(0), numExperts, count);
    b.loop(numExperts, [&](Value e) {
      // E times the distance of the mean: of the same sign, without rounding.
      Value lacking = b.sub(sum, b.mul(count(e), b.toReal(numExperts)));
      auto is = [&](arith::CmpFPredicate predicate) -> Value {
        return arith::CmpFOp::create(b, predicate, lacking, b.real(0.0));
      };
      Value rate = b.real(op.getRate());
      Value step =
          b.select(is(arith::CmpFPredicate::UNO), b.nan(), b.real(0.0));
      step = b.select(is(arith::CmpFPredicate::OGT), rate, step);
      step = b.select(is(arith::CmpFPredicate::OLT), b.sub(b.real(0.0), rate),
                      step);
      b.store(b.add(b.load(bias, e), step), updated, e);
    });
    rewriter.replaceOp(op, b.tensorOf(updated, type));
    return success();
  }
};

} // namespace

void loops::populateTrainingPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerLoadLoss, LowerExpertLoad, LowerUpdateBias>(
      patterns.getContext());
}
