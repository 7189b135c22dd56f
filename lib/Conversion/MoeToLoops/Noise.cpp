//===- Noise.cpp - Noise on logits as loops -------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Subsets.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

Value loops::emitSigma(LoopBuilder &b, const NoiseSettings &settings,
                       Value raw) {
  if (settings.kind == NoiseKind::normal)
    return b.real(settings.std);
  // log(1 + exp(x)) is x where exp would overflow.
  Value power = math::ExpOp::create(b, b.smaller(raw, b.real(500.0)));
  Value plus = b.larger(raw, math::Log1pOp::create(b, power));
  return b.add(plus, b.real(settings.floor));
}

Value loops::emitNoise(LoopBuilder &b, const NoiseSettings &settings, Value raw,
                       Value expert,
                       llvm::function_ref<Value(Value draw)> uniform) {
  auto logUniform = [&](Value draw) -> Value {
    return math::LogOp::create(b, b.add(uniform(draw), b.real(0x1p-25)));
  };
  if (settings.kind == NoiseKind::gumbel) {
    Value inner = arith::NegFOp::create(b, logUniform(expert));
    Value gumbel = arith::NegFOp::create(b, math::LogOp::create(b, inner));
    return b.mul(b.real(settings.temperature), gumbel);
  }
  Value odd = b.rem(expert, b.index(2));
  Value even = b.sub(expert, odd);
  Value radius = math::SqrtOp::create(b, b.mul(b.real(-2.0), logUniform(even)));
  Value turn = uniform(b.add(even, b.index(1)));
  Value angle = b.mul(turn, b.real(6.283185307179586));
  Value part = b.select(b.equal(odd, b.index(0)), math::CosOp::create(b, angle),
                        math::SinOp::create(b, angle));
  return b.mul(emitSigma(b, settings, raw), b.mul(radius, part));
}

namespace {

/// A token after the other, in f64.
struct LowerNoisyLogits : public OpRewritePattern<NoisyLogitsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NoisyLogitsOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter, rewriter.getF64Type());
    NoiseSettings settings = op.getSettings();
    Value logits = b.input(op.getLogits()), raw = b.input(op.getNoise());
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    SmallVector<Value> outputs;
    for (auto [result, shape] : llvm::zip(op->getResults(), shapes))
      outputs.push_back(b.output(result.getType(), shape));
    b.loopAll(logits, [&](ValueRange at) {
      Value number = emitTokenNumber(b, op.getFirstToken(), at[0]);
      Value own = raw ? b.load(raw, at) : Value();
      Value noise = emitNoise(b, settings, own, at[1], [&](Value draw) {
        return emitUniform(b, op.getSeed(), op.getLayer(), number, draw);
      });
      b.store(b.add(b.load(logits, at), noise), outputs[0], at);
      if (op.getSigma())
        b.store(emitSigma(b, settings, own), outputs[1], at);
    });
    SmallVector<Value> results;
    for (auto [result, buffer] : llvm::zip(op->getResults(), outputs))
      results.push_back(b.tensorOf(buffer, result.getType()));
    rewriter.replaceOp(op, results);
    return success();
  }
};

} // namespace

void loops::populateNoisePatterns(RewritePatternSet &patterns) {
  patterns.add<LowerNoisyLogits>(patterns.getContext());
}
