//===- LossGradients.cpp - Backwards of losses as loops -------------------===//
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
// What gradients share
//===----------------------------------------------------------------------===//

/// With u = mean^2 + eps: 2 ((x - mean) / divisor - variance mean / (R u)) / u.
void TokenSums::pullSquaredVariation(Value count, bool isUnbiased, double eps,
                                     llvm::function_ref<Value(Value)> term,
                                     Value factor, Value dest) {
  Value divisor = divisorOf(count, isUnbiased);
  auto [variance, mean] = emitVariance(count, divisor, term);
  Value below = b.add(b.mul(mean, mean), b.real(eps));
  Value ofMean = b.div(b.mul(variance, mean), b.mul(b.toReal(count), below));
  Value twice = b.div(b.mul(b.real(2.0), factor), below);
  b.loop(count, [&](Value at) {
    Value ofVariance = b.div(b.sub(term(at), mean), divisor);
    b.store(b.mul(twice, b.sub(ofVariance, ofMean)), dest, at);
  });
}

void loops::pullGroupMean(LoopBuilder &b, Operation *op, Value offsets,
                          Value numTokens, TokenSums &sums, Value cotangent,
                          const APFloat &coefficient, GroupGradientBody body) {
  if (offsets)
    b.checkGroups(op, offsets, numTokens);
  auto loopFull = [&](llvm::function_ref<void(Value, Value, Value)> full) {
    b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
      Value count = sums.countTokens(low, high);
      Value isFull = arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, count,
                                           b.real(0.0));
      b.when(isFull, [&] { full(low, high, count); });
    });
  };
  Value groups = b.scratch(b.getComputeType(), {});
  b.fill(groups, b.real(0.0));
  loopFull([&](Value, Value, Value) {
    b.store(b.add(b.load(groups, {}), b.real(1.0)), groups, {});
  });
  Value whole = b.mul(b.load(cotangent, {}), b.real(coefficient));
  loopFull([&](Value low, Value high, Value count) {
    body(low, high, count, b.div(whole, b.load(groups, {})));
  });
}

namespace {

//===----------------------------------------------------------------------===//
// AuxLossVJPOp
//===----------------------------------------------------------------------===//

/// The gradient of one group of tokens.
class ScoreGradient : public ScoreSums {
public:
  ScoreGradient(LoopBuilder &b, AuxLossVJPOp op, Value dest)
      : ScoreSums(b, b.input(op.getTokenMask()), b.input(op.getScores()),
                  b.input(op.getIds())),
        op(op), dest(dest), taken(b.scratch(b.getI1Type(), numExperts)),
        row(b.scratch(b.getComputeType(), numExperts)) {
    if (op.getKind() == AuxLossKind::token_balance)
      shares = b.scratch(b.getComputeType(), {b.size(scores, 0), numExperts});
  }

  void emit(Value low, Value high, Value count, Value factor);

private:
  /// Stores value(t, e) for the tokens that take part.
  void storeAll(Value low, Value high,
                llvm::function_ref<Value(Value token, Value e)> value) {
    loopLive(low, high, [&](Value t) {
      b.loop(numExperts, [&](Value e) { b.store(value(t, e), dest, {t, e}); });
    });
  }
  /// The same for values that are one for all tokens.
  void storeRow(Value low, Value high) {
    storeAll(low, high, [&](Value, Value e) { return b.load(row, e); });
  }
  void fillCounts(Value low, Value high, Value count, int64_t firstSlot,
                  Value lastSlot, Value factor);
  void storeSecondPlace(Value low, Value high);
  void storeZ(Value low, Value high, Value perToken);
  void storeTail(Value low, Value high, Value perToken);
  void storeEntropy(Value low, Value high, Value perToken);
  void storeTokenBalance(Value low, Value high, Value count, Value factor);
  void storeL1Balance(Value low, Value high, Value count, Value factor);

  AuxLossVJPOp op;
  Value dest;
  Value taken;  ///< [R]
  Value row;    ///< [R]
  Value shares; ///< [T, R] of token_balance
};

/// R (slots that chose e / T) / T into the row.
void ScoreGradient::fillCounts(Value low, Value high, Value count,
                               int64_t firstSlot, Value lastSlot,
                               Value factor) {
  Value width = b.toReal(numExperts);
  b.loop(numExperts, [&](Value e) {
    Value chosen = countSlots(e, low, high, firstSlot, lastSlot);
    if (op.getPerSlot())
      chosen = b.div(chosen, b.toReal(lastSlot));
    Value slope = b.div(b.mul(width, b.div(chosen, count)), count);
    b.store(b.mul(factor, slope), row, e);
  });
}

/// A share is a score over the sum of a token's rest.
void ScoreGradient::storeSecondPlace(Value low, Value high) {
  storeAll(low, high, [&](Value t, Value e) {
    Value total = sumRest(t);
    Value mean = sumExperts([&](Value other) {
      return b.mul(b.load(row, other), b.div(restOf(t, other), total));
    });
    Value slope = b.div(b.sub(b.load(row, e), mean), total);
    Value isFirst = b.equal(e, b.load(ids, {t, b.index(0)}));
    return b.select(isFirst, b.real(0.0), slope);
  });
}

void ScoreGradient::storeZ(Value low, Value high, Value perToken) {
  loopLive(low, high, [&](Value t) {
    Value slope = b.mul(b.mul(b.real(2.0), logSumExp(t)), perToken);
    b.softmax(
        b.index(0), numExperts, nullptr, [&](Value e) { return score(t, e); },
        [&](Value e, Value share) {
          b.store(b.mul(slope, share), dest, {t, e});
        });
  });
}

void ScoreGradient::storeTail(Value low, Value high, Value perToken) {
  loopLive(low, high, [&](Value t) {
    markLargest(t, static_cast<int64_t>(*op.getK()), taken);
    b.loop(numExperts, [&](Value e) {
      b.store(b.select(b.load(taken, e), b.real(0.0), perToken), dest, {t, e});
    });
  });
}

void ScoreGradient::storeEntropy(Value low, Value high, Value perToken) {
  storeAll(low, high, [&](Value t, Value e) {
    Value p = score(t, e);
    Value isZero =
        arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, p, b.real(0.0));
    return b.pick(
        b.getComputeType(), isZero, [&] { return b.real(0.0); },
        [&] {
          Value slope = b.add(math::LogOp::create(b, p), b.real(1.0));
          return b.sub(b.real(0.0), b.mul(perToken, slope));
        });
  });
}

/// The loss is T sum_t mean_e(p)^2.
void ScoreGradient::storeTokenBalance(Value low, Value high, Value count,
                                      Value factor) {
  computeTokenShares(low, high, shares);
  Value scale =
      b.div(b.mul(b.real(2.0), b.mul(factor, count)), b.toReal(numExperts));
  auto slope = [&](Value t) { return b.mul(scale, meanShare(shares, t)); };
  b.loop(numExperts, [&](Value e) {
    Value mean = sumLive(low, high, [&](Value t) {
      return b.mul(slope(t), b.load(shares, {t, e}));
    });
    loopLive(low, high, [&](Value t) {
      b.store(b.mul(b.load(shares, {t, e}), b.sub(slope(t), mean)), dest,
              {t, e});
    });
  });
}

void ScoreGradient::storeL1Balance(Value low, Value high, Value count,
                                   Value factor) {
  Value k = b.real(static_cast<double>(*op.getK()));
  Value scale =
      b.div(b.mul(b.toReal(numExperts), factor), b.mul(k, b.mul(count, count)));
  b.loop(numExperts, [&](Value e) {
    b.store(b.mul(scale, countOpen(e, low, high)), row, e);
  });
  storeRow(low, high);
}

void ScoreGradient::emit(Value low, Value high, Value count, Value factor) {
  Value perToken = b.div(factor, count);
  switch (op.getKind()) {
  case AuxLossKind::balance:
    fillCounts(low, high, count, 0, b.size(ids, 1), factor);
    return storeRow(low, high);
  case AuxLossKind::first_place:
    fillCounts(low, high, count, 0, b.index(1), factor);
    return storeRow(low, high);
  case AuxLossKind::second_place:
    fillCounts(low, high, count, 1, b.index(2), factor);
    return storeSecondPlace(low, high);
  case AuxLossKind::importance:
    pullSquaredVariation(
        numExperts, op.getUnbiased(), op.getEpsOrZero(),
        [&](Value e) { return sumScores(e, low, high); }, factor, row);
    return storeRow(low, high);
  case AuxLossKind::z:
    return storeZ(low, high, perToken);
  case AuxLossKind::trimmed_lasso:
    return storeTail(low, high, perToken);
  case AuxLossKind::entropy:
    return storeEntropy(low, high, perToken);
  case AuxLossKind::token_balance:
    return storeTokenBalance(low, high, count, factor);
  case AuxLossKind::l1_balance:
    return storeL1Balance(low, high, count, factor);
  }
  llvm_unreachable("all kinds are covered");
}

struct LowerAuxLossVJP : public OpRewritePattern<AuxLossVJPOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(AuxLossVJPOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Type type = op.getGradient().getType();
    Value dest = b.output(type, reifyShapes(op, b)[0]);
    b.fill(dest, b.real(0.0));
    ScoreGradient gradient(b, op, dest);
    pullGroupMean(b, op, b.input(op.getGroupOffsets()), b.size(dest, 0),
                  gradient, b.input(op.getCotangent()), op.getCoefficient(),
                  [&](Value low, Value high, Value count, Value factor) {
                    gradient.emit(low, high, count, factor);
                  });
    rewriter.replaceOp(op, b.tensorOf(dest, type));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// LoadLossVJPOp
//===----------------------------------------------------------------------===//

/// The gradient of one group of tokens.
class LoadGradient : public SmoothLoad {
public:
  /// `dests` are buffers for clean, noisy and, where it is an operand, sigma.
  LoadGradient(LoopBuilder &b, LoadLossVJPOp op, ArrayRef<Value> dests)
      : SmoothLoad(b, op), dests(dests),
        slopes(b.scratch(b.getComputeType(), numExperts)),
        row(b.scratch(b.getComputeType(), numExperts)) {}

  void emit(Value low, Value high, Value factor);

private:
  void storeEntry(Value token, Value e);

  SmallVector<Value> dests;
  Value slopes; ///< [R] of the load
  Value row;    ///< [R] of a token's noisy logits
};

/// What the chance of an entry gives.
void LoadGradient::storeEntry(Value token, Value e) {
  findThreshold(token, e);
  Value own = b.load(clean, {token, e}), threshold = getThreshold();
  b.when(b.negate(b.either(isNone(own), isNone(threshold))), [&] {
    Value spread = emitSigma(token, e);
    Value z = b.div(b.sub(own, threshold), spread);
    Value bell = math::ExpOp::create(b, b.mul(b.real(-0.5), b.mul(z, z)));
    Value density = b.mul(bell, b.real(0.39894228040143267794));
    Value slope = b.div(b.mul(b.load(slopes, e), density), spread);
    b.store(slope, dests[0], {token, e});
    Value holder = getHolder();
    b.store(b.sub(b.load(row, holder), slope), row, holder);
    if (sigma)
      b.store(b.sub(b.real(0.0), b.mul(slope, z)), dests[2], {token, e});
  });
}

void LoadGradient::emit(Value low, Value high, Value factor) {
  computeLoad(low, high);
  pullSquaredVariation(
      numExperts, /*isUnbiased=*/false, eps,
      [&](Value e) { return b.load(load, e); }, factor, slopes);
  loopLive(low, high, [&](Value t) {
    b.fill(row, b.real(0.0));
    b.loop(numExperts, [&](Value e) { storeEntry(t, e); });
    b.loop(numExperts,
           [&](Value e) { b.store(b.load(row, e), dests[1], {t, e}); });
  });
}

struct LowerLoadLossVJP : public OpRewritePattern<LoadLossVJPOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(LoadLossVJPOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    SmallVector<Value> dests;
    for (auto [type, shape] :
         llvm::zip(op->getResultTypes(), reifyShapes(op, b))) {
      dests.push_back(b.output(type, shape));
      b.fill(dests.back(), b.real(0.0));
    }
    LoadGradient gradient(b, op, dests);
    pullGroupMean(b, op, b.input(op.getGroupOffsets()), b.size(dests[0], 0),
                  gradient, b.input(op.getCotangent()), op.getCoefficient(),
                  [&](Value low, Value high, Value, Value factor) {
                    gradient.emit(low, high, factor);
                  });
    SmallVector<Value> results;
    for (auto [dest, type] : llvm::zip(dests, op->getResultTypes()))
      results.push_back(b.tensorOf(dest, type));
    rewriter.replaceOp(op, results);
    return success();
  }
};

} // namespace

void loops::populateLossGradientPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerAuxLossVJP, LowerLoadLossVJP>(patterns.getContext());
}
