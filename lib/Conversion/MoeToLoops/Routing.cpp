//===- Routing.cpp - Gate, score and token choice as loops ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LoopBuilder.h"
#include "Subsets.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

//===----------------------------------------------------------------------===//
// GateOp, ScoreOp
//===----------------------------------------------------------------------===//

struct LowerGate : public OpRewritePattern<GateOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GateOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value input = b.input(op.getInput()), weight = b.input(op.getWeight());
    Value bias = b.input(op.getBias());
    Type type = op.getLogits().getType();
    Value logits = b.output(type, reifyShapes(op, b)[0]);
    b.loop(b.size(logits, 0), [&](Value t) {
      b.loop(b.size(logits, 1), [&](Value r) {
        Value sum = b.sum(b.index(0), b.size(input, 1), [&](Value h) {
          return b.mul(b.load(input, {t, h}), b.load(weight, {r, h}));
        });
        if (bias)
          sum = b.add(sum, b.load(bias, r));
        b.store(sum, logits, {t, r});
      });
    });
    rewriter.replaceOp(op, b.tensorOf(logits, type));
    return success();
  }
};

struct LowerScore : public OpRewritePattern<ScoreOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ScoreOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value logits = b.input(op.getLogits());
    Type type = op.getScores().getType();
    Value scores = b.output(type, reifyShapes(op, b)[0]);
    Value width = b.size(scores, 1);
    double cap = op.getSoftcap().convertToDouble();
    b.loop(b.size(scores, 0), [&](Value t) {
      auto read = [&](Value r) {
        return b.softcap(b.load(logits, {t, r}), cap);
      };
      if (op.getKind() == ScoreKind::softmax)
        return b.softmax(
            b.index(0), width, /*isMember=*/nullptr, read,
            [&](Value r, Value share) { b.store(share, scores, {t, r}); });
      b.loop(width, [&](Value r) {
        b.store(b.score(op.getKind(), read(r)), scores, {t, r});
      });
    });
    rewriter.replaceOp(op, b.tensorOf(scores, type));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// RouteOp with #moe.top_k
//===----------------------------------------------------------------------===//

/// The rule of #moe.top_k on one token after the other; the methods stand in
/// the order of its steps.
class TopKRule {
public:
  TopKRule(LoopBuilder &b, RouteOp op, TopKAttr rule);

  void routeToken(Value token, Value ids, Value weights);

private:
  bool isLimited() const { return rule.getKeptGroups() < rule.getGroups(); }
  bool scoresAll() const { return rule.getDomain() == ScoreDomain::all; }

  void scoreExperts(Value token);
  void computeKeys();
  void limitToGroups();
  void chooseExperts();
  void copyIndices(Value token);
  void weighChosen();
  Value computeDivisor();
  Value isFull(Value slot);

  LoopBuilder &b;
  TopKAttr rule;
  Value logits, bias, expertScale, indices; ///< Operands; null where absent.
  Value numExperts, numSlots;
  // All of one token, in the compute type.
  Value capped;      ///< [R] logits after the soft cap
  Value scores;      ///< [R] where scored over all experts
  Value biased;      ///< [R] what a bias is added to, and the bias
  Value keys;        ///< [R] what the choice compares
  Value taken;       ///< [R]
  Value groupScores; ///< [G]
  Value kept;        ///< [G]
  Value chosen;      ///< [k] ids as indices, -1 in an empty slot
  Value picked;      ///< [k] scores of the chosen
};

TopKRule::TopKRule(LoopBuilder &b, RouteOp op, TopKAttr rule)
    : b(b), rule(rule), logits(b.input(op.getLogits())),
      bias(b.input(op.getSelectionBias())),
      expertScale(b.input(op.getExpertScale())),
      indices(b.input(op.getIndices())), numExperts(b.size(logits, 1)),
      numSlots(b.index(rule.getK())) {
  FloatType real = b.getComputeType();
  capped = b.scratch(real, numExperts);
  scores = b.scratch(real, numExperts);
  biased = b.scratch(real, numExperts);
  keys = b.scratch(real, numExperts);
  taken = b.scratch(b.getI1Type(), numExperts);
  groupScores = b.scratch(real, b.index(rule.getGroups()));
  kept = b.scratch(b.getI1Type(), b.index(rule.getGroups()));
  chosen = b.scratch(b.getIndexType(), numSlots);
  picked = b.scratch(real, numSlots);
}

Value TopKRule::isFull(Value slot) {
  return b.inRange(b.load(chosen, slot), b.index(0), numExperts);
}

/// Soft cap and, where the domain is all experts, scores rounded once.
void TopKRule::scoreExperts(Value token) {
  double cap = rule.getSoftcap().convertToDouble();
  b.loop(numExperts, [&](Value r) {
    b.store(b.softcap(b.load(logits, {token, r}), cap), capped, r);
  });
  if (!scoresAll())
    return;
  auto write = [&](Value r, Value score) {
    b.store(b.roundThrough(score, rule.getScoreDtype()), scores, r);
  };
  auto read = [&](Value r) { return b.load(capped, r); };
  if (rule.getScore() == ScoreKind::softmax)
    return b.softmax(b.index(0), numExperts, /*isMember=*/nullptr, read, write);
  b.loop(numExperts,
         [&](Value r) { write(r, b.score(rule.getScore(), read(r))); });
}

/// Score plus bias where there is a bias, else the logit, in which every score
/// increases. A fill of zero stands among scores, so scores are compared there.
void TopKRule::computeKeys() {
  bool comparesScores =
      bias || (isLimited() && rule.getGroupFill() == GroupFill::zero);
  b.loop(numExperts, [&](Value r) {
    Value sum = b.load(scoresAll() ? scores : capped, r);
    if (bias)
      sum = b.add(sum, b.load(bias, r));
    b.store(sum, biased, r);
    b.store(comparesScores ? sum : b.load(capped, r), keys, r);
  });
}

/// Gives experts of dropped groups the fill as their key.
void TopKRule::limitToGroups() {
  Value numGroups = b.index(rule.getGroups());
  Value groupSize = b.div(numExperts, numGroups);
  bool takesTwo = rule.getGroupScore() == GroupScore::top2sum;
  Value best = b.smallerIndex(groupSize, b.index(takesTwo ? 2 : 1));

  // The largest choice key of a group; a sum of two is one of biased scores.
  Value basis = takesTwo ? biased : keys;
  b.fill(taken, b.boolean(false));
  b.loop(numGroups, [&](Value group) {
    Value first = b.mul(group, groupSize);
    b.store(b.real(0.0), groupScores, group);
    b.visitLargest(
        first, b.add(first, groupSize), best, taken,
        [&](Value r) { return b.load(basis, r); },
        [&](Value rank, Value r) {
          Value score = b.load(basis, r);
          Value isFirst = b.equal(rank, b.index(0));
          Value sum = b.add(b.load(groupScores, group), score);
          b.store(b.select(isFirst, score, sum), groupScores, group);
        });
  });

  b.fill(kept, b.boolean(false));
  b.visitLargest(
      b.index(0), numGroups, b.index(rule.getKeptGroups()), kept,
      [&](Value group) { return b.load(groupScores, group); },
      [](Value, Value) {});
  Value fill = rule.getGroupFill() == GroupFill::zero ? b.real(0.0)
                                                      : b.negativeInfinity();
  b.loop(numExperts, [&](Value r) {
    Value isKept = b.load(kept, b.div(r, groupSize));
    b.store(b.select(isKept, b.load(keys, r), fill), keys, r);
  });
}

void TopKRule::chooseExperts() {
  computeKeys();
  if (isLimited())
    limitToGroups();
  b.fill(taken, b.boolean(false));
  b.visitLargest(
      b.index(0), numExperts, numSlots, taken,
      [&](Value r) { return b.load(keys, r); },
      [&](Value slot, Value r) { b.store(r, chosen, slot); });
}

void TopKRule::copyIndices(Value token) {
  b.loop(numSlots, [&](Value slot) {
    b.store(b.load(indices, {token, slot}), chosen, slot);
  });
}

/// The unbiased scores of the chosen: those over all experts, or the score
/// function over the logits of the chosen alone.
void TopKRule::weighChosen() {
  auto logitOf = [&](Value slot) {
    return b.load(capped, b.load(chosen, slot));
  };
  auto write = [&](Value slot, Value score) {
    b.store(b.roundThrough(score, rule.getScoreDtype()), picked, slot);
  };
  if (!scoresAll() && rule.getScore() == ScoreKind::softmax)
    return b.softmax(
        b.index(0), numSlots, [&](Value slot) { return isFull(slot); }, logitOf,
        write);
  b.loop(numSlots, [&](Value slot) {
    b.when(isFull(slot), [&] {
      if (scoresAll())
        b.store(b.load(scores, b.load(chosen, slot)), picked, slot);
      else
        write(slot, b.score(rule.getScore(), logitOf(slot)));
    });
  });
}

/// Sum or p-norm of the scores of full slots, kept from zero by eps.
Value TopKRule::computeDivisor() {
  if (rule.getNormalize() == Normalize::none)
    return b.real(1.0);
  bool isNorm = rule.getNormalize() == Normalize::pnorm;
  double p = rule.getP().convertToDouble();
  auto power = [&](Value x, double exponent) -> Value {
    return math::PowFOp::create(b, x, b.real(exponent));
  };
  Value divisor = b.sum(b.index(0), numSlots, [&](Value slot) {
    return b.pick(
        b.getComputeType(), isFull(slot),
        [&] {
          Value score = b.load(picked, slot);
          return isNorm ? power(math::AbsFOp::create(b, score), p) : score;
        },
        [&] { return b.real(0.0); });
  });
  if (isNorm)
    divisor = power(divisor, 1.0 / p);
  Value eps = b.real(rule.getEps());
  return rule.getEpsMode() == EpsMode::add ? b.add(divisor, eps)
                                           : b.larger(divisor, eps);
}

void TopKRule::routeToken(Value token, Value ids, Value weights) {
  scoreExperts(token);
  if (indices)
    copyIndices(token);
  else
    chooseExperts();
  weighChosen();
  Value divisor = computeDivisor();
  b.loop(numSlots, [&](Value slot) {
    b.when(isFull(slot), [&] {
      Value id = b.load(chosen, slot);
      Value weight =
          b.mul(b.div(b.load(picked, slot), divisor), b.real(rule.getScale()));
      if (expertScale)
        weight = b.mul(weight, b.load(expertScale, id));
      b.store(id, ids, {token, slot});
      b.store(weight, weights, {token, slot});
    });
  });
}

//===----------------------------------------------------------------------===//
// RouteOp with any other router
//===----------------------------------------------------------------------===//

/// A token's row of a [T, width] tensor as a tensor of its own.
void routeTokenByBody(LoopBuilder &b, RouteOp op, TokenBodyAttrInterface body,
                      Value token, Value ids, Value weights) {
  int64_t width = op.getLogits().getType().getDimSize(1);
  int64_t numSlots = op.getIds().getType().getDimSize(1);
  TokenBodyInputs inputs;
  inputs.logits = readRow(b, op.getLogits(), token, width, b.getComputeType());
  inputs.selectionBias = op.getSelectionBias();
  inputs.expertScale = op.getExpertScale();
  if (op.getIndices())
    inputs.indices =
        readRow(b, op.getIndices(), token, numSlots, b.getI32Type());
  if (op.getNoise())
    inputs.noise = readRow(b, op.getNoise(), token, width, b.getComputeType());
  if (op.isTraining())
    inputs.random = TokenRandom{op.getSeed(), op.getLayer(),
                                emitTokenNumber(b, op.getFirstToken(), token)};
  inputs.width = width;
  inputs.computeType = b.getComputeType();
  TokenBodyResult result = body.buildTokenBody(b, inputs);
  for (int64_t slot = 0; slot < numSlots; ++slot) {
    Value id =
        arith::IndexCastOp::create(b, b.getIndexType(), result.ids[slot]);
    b.store(id, ids, {token, b.index(slot)});
    b.store(result.weights[slot], weights, {token, b.index(slot)});
  }
}

//===----------------------------------------------------------------------===//
// RouteOp
//===----------------------------------------------------------------------===//

/// Given ids are -1 or experts, all of them, before any is used.
void checkIndices(LoopBuilder &b, RouteOp op) {
  Value indices = b.input(op.getIndices());
  Value numExperts = b.index(op.getLogits().getType().getDimSize(1));
  Value fits = b.fold(
      b.index(0), b.size(indices, 0), b.boolean(true),
      [&](Value t, ValueRange so) -> SmallVector<Value> {
        return b.fold(
            b.index(0), b.size(indices, 1), so,
            [&](Value slot, ValueRange so) -> SmallVector<Value> {
              Value id = b.load(indices, {t, slot});
              return {b.both(so[0], b.inRange(id, b.index(-1), numExperts))};
            });
      })[0];
  b.assertThat(op, fits, "a given index is no expert and not -1");
}

struct LowerRoute : public OpRewritePattern<RouteOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RouteOp op,
                                PatternRewriter &rewriter) const override {
    if (!hasKnownRouter(op))
      return rewriter.notifyMatchFailure(op, "the router has no token body");
    auto rule = dyn_cast<TopKAttr>(op.getRouter());
    auto body = dyn_cast<TokenBodyAttrInterface>(op.getRouter());
    LoopBuilder b(op, rewriter);
    if (op.getIndices())
      checkIndices(b, op);
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value ids = b.output(op.getIds().getType(), shapes[0]);
    Value weights = b.output(op.getWeights().getType(), shapes[1]);
    Value mask = b.input(op.getTokenMask());
    b.fill(ids, b.index(-1));
    b.fill(weights, b.real(0.0));
    LoopBuilder wide(op, rewriter, rewriter.getF64Type());
    if (routeBySampling(wide, op, ids, weights)) {
      rewriter.replaceOp(op, {b.tensorOf(ids, op.getIds().getType()),
                              b.tensorOf(weights, op.getWeights().getType())});
      return success();
    }
    std::optional<TopKRule> topK;
    if (rule)
      topK.emplace(b, op, rule);
    b.loop(b.size(ids, 0), [&](Value token) {
      b.when(b.isLive(mask, token), [&] {
        if (topK)
          topK->routeToken(token, ids, weights);
        else
          routeTokenByBody(b, op, body, token, ids, weights);
      });
    });
    rewriter.replaceOp(op, {b.tensorOf(ids, op.getIds().getType()),
                            b.tensorOf(weights, op.getWeights().getType())});
    return success();
  }
};

} // namespace

Value loops::readRow(LoopBuilder &b, Value tensor, Value token, int64_t width,
                     Type element) {
  Value row = tensor::EmptyOp::create(b, ArrayRef<int64_t>{width}, element);
  return b.fold(b.index(0), b.index(width), row,
                [&](Value at, ValueRange so) -> SmallVector<Value> {
                  Value value = tensor::ExtractOp::create(
                      b, tensor, ValueRange{token, at});
                  if (auto type = dyn_cast<FloatType>(element))
                    value = b.cast(value, type);
                  return {tensor::InsertOp::create(b, value, so[0], at)};
                })[0];
}

bool loops::hasKnownRouter(RouteOp op) {
  return isa<TopKAttr, TokenBodyAttrInterface>(op.getRouter());
}

void loops::populateRoutingPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerGate, LowerScore, LowerRoute>(patterns.getContext());
}
