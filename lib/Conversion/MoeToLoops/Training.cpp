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

namespace {

//===----------------------------------------------------------------------===//
// LoadLossOp
//===----------------------------------------------------------------------===//

/// The smooth load of experts in one group of tokens.
class SmoothLoad : public TokenSums {
public:
  SmoothLoad(LoopBuilder &b, LoadLossOp op)
      : TokenSums(b, b.input(op.getTokenMask())), op(op),
        clean(b.input(op.getClean())), noisy(b.input(op.getNoisy())),
        sigma(b.input(op.getSigma())), numExperts(b.size(clean, 1)),
        taken(b.scratch(b.getI1Type(), numExperts)),
        load(b.scratch(b.getComputeType(), numExperts)),
        found(b.scratch(b.getComputeType(), {})) {}

  Value emit(Value low, Value high);

private:
  Value isNone(Value x) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, x,
                                 b.negativeInfinity());
  }
  /// The rank-th largest noisy logit of a token but for one expert (-1: all are
  /// there); -inf where it has fewer.
  Value largestBut(Value token, Value excluded, int64_t rank);
  Value chance(Value token, Value e);

  LoadLossOp op;
  Value clean, noisy, sigma; ///< Operands; sigma null where it is a number.
  Value numExperts;
  Value taken; ///< [R]
  Value load;  ///< [R]
  Value found; ///< []
};

Value SmoothLoad::largestBut(Value token, Value excluded, int64_t rank) {
  b.store(b.negativeInfinity(), found, {});
  b.loop(numExperts, [&](Value e) { b.store(b.equal(e, excluded), taken, e); });
  Value last = b.index(rank - 1);
  b.visitLargest(
      b.index(0), numExperts, b.smallerIndex(b.index(rank), numExperts), taken,
      [&](Value e) { return b.load(noisy, {token, e}); },
      [&](Value place, Value e) {
        b.when(b.equal(place, last),
               [&] { b.store(b.load(noisy, {token, e}), found, {}); });
      });
  return b.load(found, {});
}

/// Phi((clean - threshold) / sigma).
Value SmoothLoad::chance(Value token, Value e) {
  bool isOthers = op.getThreshold() == LoadThreshold::kth_excluding;
  Value threshold = largestBut(token, isOthers ? e : b.index(-1),
                               static_cast<int64_t>(op.getK()));
  Value own = b.load(clean, {token, e});
  Value spread = sigma ? b.load(sigma, {token, e}) : b.real(*op.getStd());
  Value distance = b.div(b.sub(threshold, own), spread);
  Value scaled = b.mul(distance, b.real(0.70710678118654752440));
  Value tail = b.mul(b.real(0.5), math::ErfcOp::create(b, scaled));
  Value above = b.select(isNone(threshold), b.real(1.0), tail);
  return b.select(isNone(own), b.real(0.0), above);
}

Value SmoothLoad::emit(Value low, Value high) {
  b.loop(numExperts, [&](Value e) {
    b.store(sumLive(low, high, [&](Value t) { return chance(t, e); }), load, e);
  });
  return emitSquaredVariation(numExperts, /*isUnbiased=*/false,
                              op.getEps().convertToDouble(),
                              [&](Value e) { return b.load(load, e); });
}

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
