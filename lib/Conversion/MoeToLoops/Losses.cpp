//===- Losses.cpp - Auxiliary losses as loops -----------------------------===//
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

static Value isPositive(LoopBuilder &b, Value count) {
  return arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, count,
                               b.real(0.0));
}

//===----------------------------------------------------------------------===//
// What losses share
//===----------------------------------------------------------------------===//

Value TokenSums::sumLive(Value low, Value high,
                         llvm::function_ref<Value(Value)> term) {
  return b.sum(low, high, [&](Value t) {
    return b.pick(
        b.getComputeType(), b.isLive(mask, t), [&] { return term(t); },
        [&] { return b.real(0.0); });
  });
}

Value TokenSums::countTokens(Value low, Value high) {
  return sumLive(low, high, [&](Value) { return b.real(1.0); });
}

void TokenSums::loopLive(Value low, Value high, LoopBuilder::Body body) {
  b.loop(low, high,
         [&](Value t) { b.when(b.isLive(mask, t), [&] { body(t); }); });
}

Value TokenSums::divisorOf(Value count, bool isUnbiased) {
  Value width = b.toReal(count);
  return isUnbiased ? b.larger(b.sub(width, b.real(1.0)), b.real(1.0)) : width;
}

std::pair<Value, Value>
TokenSums::emitVariance(Value count, Value divisor,
                        llvm::function_ref<Value(Value)> term) {
  Value mean = b.div(b.sum(b.index(0), count, term), b.toReal(count));
  Value squares = b.sum(b.index(0), count, [&](Value at) {
    Value distance = b.sub(term(at), mean);
    return b.mul(distance, distance);
  });
  return {b.div(squares, divisor), mean};
}

Value TokenSums::emitSquaredVariation(Value count, bool isUnbiased, double eps,
                                      llvm::function_ref<Value(Value)> term) {
  auto [variance, mean] =
      emitVariance(count, divisorOf(count, isUnbiased), term);
  return b.div(variance, b.add(b.mul(mean, mean), b.real(eps)));
}

Value loops::emitGroupMean(LoopBuilder &b, Operation *op, Value offsets,
                           Value numTokens, TokenSums &sums,
                           const APFloat &coefficient, GroupLossBody body) {
  if (offsets)
    b.checkGroups(op, offsets, numTokens);
  Type type = op->getResult(0).getType();
  Value loss = b.output(type, {});
  // The sum of the losses of groups that have tokens, and their number.
  FloatType real = b.getComputeType();
  Value total = b.scratch(real, {}), groups = b.scratch(real, {});
  b.fill(total, b.real(0.0));
  b.fill(groups, b.real(0.0));
  b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
    Value count = sums.countTokens(low, high);
    b.when(isPositive(b, count), [&] {
      Value sum = b.add(b.load(total, {}), body(low, high, count));
      b.store(sum, total, {});
      b.store(b.add(b.load(groups, {}), b.real(1.0)), groups, {});
    });
  });
  Value numGroups = b.load(groups, {});
  Value mean = b.pick(
      real, isPositive(b, numGroups),
      [&] { return b.div(b.load(total, {}), numGroups); },
      [&] { return b.real(0.0); });
  b.store(b.mul(mean, b.real(coefficient)), loss, {});
  return b.tensorOf(loss, type);
}

//===----------------------------------------------------------------------===//
// ScoreSums
//===----------------------------------------------------------------------===//

Value ScoreSums::sumScores(Value expert, Value low, Value high) {
  return sumLive(low, high, [&](Value t) { return score(t, expert); });
}

Value ScoreSums::countSlots(Value expert, Value low, Value high,
                            int64_t firstSlot, Value lastSlot) {
  return sumLive(low, high, [&](Value t) {
    return b.sum(b.index(firstSlot), lastSlot, [&](Value slot) {
      Value isChosen = b.equal(b.load(ids, {t, slot}), expert);
      return b.select(isChosen, b.real(1.0), b.real(0.0));
    });
  });
}

Value ScoreSums::countOpen(Value expert, Value low, Value high) {
  return sumLive(low, high, [&](Value t) {
    return b.select(isPositive(b, score(t, expert)), b.real(1.0), b.real(0.0));
  });
}

Value ScoreSums::restOf(Value token, Value e) {
  Value first = b.load(ids, {token, b.index(0)});
  return b.select(b.equal(e, first), b.real(0.0), score(token, e));
}

Value ScoreSums::sumRest(Value token) {
  return b.add(sumExperts([&](Value e) { return restOf(token, e); }),
               b.real(1e-9));
}

Value ScoreSums::logSumExp(Value token) {
  Value max = b.fold(b.index(0), numExperts, b.negativeInfinity(),
                     [&](Value e, ValueRange so) -> SmallVector<Value> {
                       return {b.larger(so[0], score(token, e))};
                     })[0];
  Value total = sumExperts([&](Value e) -> Value {
    return math::ExpOp::create(b, b.sub(score(token, e), max));
  });
  return b.add(max, math::LogOp::create(b, total));
}

void ScoreSums::markLargest(Value token, int64_t k, Value taken) {
  b.fill(taken, b.boolean(false));
  b.visitLargest(
      b.index(0), numExperts, b.smallerIndex(b.index(k), numExperts), taken,
      [&](Value e) { return score(token, e); }, [](Value, Value) {});
}

void ScoreSums::computeTokenShares(Value low, Value high, Value shares) {
  b.loop(numExperts, [&](Value e) {
    b.softmax(
        low, high, [&](Value t) { return b.isLive(mask, t); },
        [&](Value t) { return score(t, e); },
        [&](Value t, Value share) { b.store(share, shares, {t, e}); });
  });
}

Value ScoreSums::meanShare(Value shares, Value token) {
  return b.div(sumExperts([&](Value e) { return b.load(shares, {token, e}); }),
               b.toReal(numExperts));
}

//===----------------------------------------------------------------------===//
// AuxLossOp
//===----------------------------------------------------------------------===//

namespace {

/// The loss of one group of tokens.
class GroupLoss : public ScoreSums {
public:
  GroupLoss(LoopBuilder &b, AuxLossOp op)
      : ScoreSums(b, b.input(op.getTokenMask()), b.input(op.getScores()),
                  b.input(op.getIds())),
        op(op), taken(b.scratch(b.getI1Type(), numExperts)) {
    if (op.getKind() == AuxLossKind::token_balance)
      shares = b.scratch(b.getComputeType(), {b.size(scores, 0), numExperts});
  }

  Value emit(Value low, Value high, Value count);

private:
  Value emitBalance(Value low, Value high, Value count);
  Value emitPlace(Value low, Value high, Value count, int64_t place,
                  llvm::function_ref<Value(Value token, Value e)> share);
  Value emitZ(Value low, Value high, Value count);
  Value emitTrimmedLasso(Value low, Value high, Value count);
  Value emitEntropy(Value low, Value high, Value count);
  Value emitTokenBalance(Value low, Value high, Value count);
  Value emitL1Balance(Value low, Value high, Value count);

  AuxLossOp op;
  Value taken;  ///< [R]
  Value shares; ///< [T, R] of token_balance
};

/// R * sum_e (slots that chose e / T) * (mean score of e)
Value GroupLoss::emitBalance(Value low, Value high, Value count) {
  Value numSlots = b.size(ids, 1);
  Value sum = sumExperts([&](Value e) {
    Value chosen = countSlots(e, low, high, 0, numSlots);
    if (op.getPerSlot())
      chosen = b.div(chosen, b.toReal(numSlots));
    return b.mul(b.div(chosen, count), b.div(sumScores(e, low, high), count));
  });
  return b.mul(b.toReal(numExperts), sum);
}

/// R^2 * mean_e (tokens whose slot chose e / T) * (mean share of e)
Value GroupLoss::emitPlace(
    Value low, Value high, Value count, int64_t place,
    llvm::function_ref<Value(Value token, Value e)> share) {
  Value width = b.toReal(numExperts);
  Value sum = sumExperts([&](Value e) {
    Value chosen = countSlots(e, low, high, place, b.index(place + 1));
    Value shares = sumLive(low, high, [&](Value t) { return share(t, e); });
    return b.mul(b.div(chosen, count), b.div(shares, count));
  });
  return b.mul(b.mul(width, width), b.div(sum, width));
}

/// Mean over tokens of logsumexp(scores[t, :])^2.
Value GroupLoss::emitZ(Value low, Value high, Value count) {
  Value sum = sumLive(low, high, [&](Value t) {
    Value logSum = logSumExp(t);
    return b.mul(logSum, logSum);
  });
  return b.div(sum, count);
}

/// Mean over tokens of what the k largest leave.
Value GroupLoss::emitTrimmedLasso(Value low, Value high, Value count) {
  Value sum = sumLive(low, high, [&](Value t) {
    markLargest(t, static_cast<int64_t>(*op.getK()), taken);
    return sumExperts([&](Value e) {
      return b.select(b.load(taken, e), b.real(0.0), score(t, e));
    });
  });
  return b.div(sum, count);
}

/// Mean over tokens of -sum p log p.
Value GroupLoss::emitEntropy(Value low, Value high, Value count) {
  Value sum = sumLive(low, high, [&](Value t) {
    return sumExperts([&](Value e) {
      Value p = score(t, e);
      Value isZero =
          arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, p, b.real(0.0));
      return b.pick(
          b.getComputeType(), isZero, [&] { return b.real(0.0); },
          [&] { return b.mul(p, math::LogOp::create(b, p)); });
    });
  });
  return b.sub(b.real(0.0), b.div(sum, count));
}

/// T^2 * mean over tokens of the squared mean over experts of a softmax over
/// tokens.
Value GroupLoss::emitTokenBalance(Value low, Value high, Value count) {
  computeTokenShares(low, high, shares);
  Value sum = sumLive(low, high, [&](Value t) {
    Value mean = meanShare(shares, t);
    return b.mul(mean, mean);
  });
  return b.mul(b.mul(count, count), b.div(sum, count));
}

/// R / (k T^2) * sum_e (tokens with a positive score) * (sum of scores)
Value GroupLoss::emitL1Balance(Value low, Value high, Value count) {
  Value sum = sumExperts([&](Value e) {
    return b.mul(countOpen(e, low, high), sumScores(e, low, high));
  });
  Value k = b.real(static_cast<double>(*op.getK()));
  Value divisor = b.mul(k, b.mul(count, count));
  return b.div(b.mul(b.toReal(numExperts), sum), divisor);
}

Value GroupLoss::emit(Value low, Value high, Value count) {
  switch (op.getKind()) {
  case AuxLossKind::balance:
    return emitBalance(low, high, count);
  case AuxLossKind::first_place:
    return emitPlace(low, high, count, 0,
                     [&](Value t, Value e) { return score(t, e); });
  case AuxLossKind::second_place:
    return emitPlace(low, high, count, 1, [&](Value t, Value e) {
      return b.div(restOf(t, e), sumRest(t));
    });
  case AuxLossKind::importance:
    return emitSquaredVariation(
        numExperts, op.getUnbiased(), op.getEpsOrZero(),
        [&](Value e) { return sumScores(e, low, high); });
  case AuxLossKind::z:
    return emitZ(low, high, count);
  case AuxLossKind::trimmed_lasso:
    return emitTrimmedLasso(low, high, count);
  case AuxLossKind::entropy:
    return emitEntropy(low, high, count);
  case AuxLossKind::token_balance:
    return emitTokenBalance(low, high, count);
  case AuxLossKind::l1_balance:
    return emitL1Balance(low, high, count);
  }
  llvm_unreachable("all kinds are covered");
}

struct LowerAuxLoss : public OpRewritePattern<AuxLossOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(AuxLossOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value numTokens = b.size(b.input(op.getScores()), 0);
    Value offsets = b.input(op.getGroupOffsets());
    GroupLoss loss(b, op);
    rewriter.replaceOp(
        op, emitGroupMean(b, op, offsets, numTokens, loss, op.getCoefficient(),
                          [&](Value low, Value high, Value count) {
                            return loss.emit(low, high, count);
                          }));
    return success();
  }
};

} // namespace

void loops::populateLossPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerAuxLoss>(patterns.getContext());
}
