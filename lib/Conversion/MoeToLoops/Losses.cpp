//===- Losses.cpp - Auxiliary losses as loops -----------------------------===//
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

/// The loss of one group of tokens.
class GroupLoss {
public:
  GroupLoss(LoopBuilder &b, AuxLossOp op)
      : b(b), op(op), scores(b.input(op.getScores())),
        ids(b.input(op.getIds())), mask(b.input(op.getTokenMask())),
        numExperts(b.size(scores, 1)) {}

  /// How many tokens take part.
  Value countTokens(Value low, Value high);
  Value emit(Value low, Value high, Value count);

private:
  Value sumLive(Value low, Value high, llvm::function_ref<Value(Value)> term);
  Value sumScores(Value expert, Value low, Value high);
  Value emitBalance(Value low, Value high, Value count);
  Value emitImportance(Value low, Value high);
  Value emitZ(Value low, Value high, Value count);

  LoopBuilder &b;
  AuxLossOp op;
  Value scores, ids, mask; ///< Operands; null where absent.
  Value numExperts;
};

/// The sum of term(token) over the tokens that take part.
Value GroupLoss::sumLive(Value low, Value high,
                         llvm::function_ref<Value(Value)> term) {
  return b.sum(low, high, [&](Value t) {
    return b.pick(
        b.getComputeType(), b.isLive(mask, t), [&] { return term(t); },
        [&] { return b.real(0.0); });
  });
}

Value GroupLoss::countTokens(Value low, Value high) {
  return sumLive(low, high, [&](Value) { return b.real(1.0); });
}

Value GroupLoss::sumScores(Value expert, Value low, Value high) {
  return sumLive(low, high,
                 [&](Value t) { return b.load(scores, {t, expert}); });
}

/// R * sum_e (slots that chose e / T) * (mean score of e)
Value GroupLoss::emitBalance(Value low, Value high, Value count) {
  Value sum = b.sum(b.index(0), numExperts, [&](Value e) {
    Value chosen = sumLive(low, high, [&](Value t) {
      return b.sum(b.index(0), b.size(ids, 1), [&](Value slot) {
        Value isChosen = b.equal(b.load(ids, {t, slot}), e);
        return b.select(isChosen, b.real(1.0), b.real(0.0));
      });
    });
    return b.mul(b.div(chosen, count), b.div(sumScores(e, low, high), count));
  });
  return b.mul(b.toReal(numExperts), sum);
}

/// Population variance over squared mean, of the summed scores of the experts.
Value GroupLoss::emitImportance(Value low, Value high) {
  Value width = b.toReal(numExperts);
  Value mean = b.div(b.sum(b.index(0), numExperts,
                           [&](Value e) { return sumScores(e, low, high); }),
                     width);
  Value squares = b.sum(b.index(0), numExperts, [&](Value e) {
    Value distance = b.sub(sumScores(e, low, high), mean);
    return b.mul(distance, distance);
  });
  return b.div(b.div(squares, width), b.mul(mean, mean));
}

/// Mean over tokens of logsumexp(scores[t, :])^2.
Value GroupLoss::emitZ(Value low, Value high, Value count) {
  Value sum = sumLive(low, high, [&](Value t) {
    Value max = b.fold(b.index(0), numExperts, b.negativeInfinity(),
                       [&](Value e, ValueRange so) -> SmallVector<Value> {
                         return {b.larger(so[0], b.load(scores, {t, e}))};
                       })[0];
    Value total = b.sum(b.index(0), numExperts, [&](Value e) -> Value {
      return math::ExpOp::create(b, b.sub(b.load(scores, {t, e}), max));
    });
    Value logSum = b.add(max, math::LogOp::create(b, total));
    return b.mul(logSum, logSum);
  });
  return b.div(sum, count);
}

Value GroupLoss::emit(Value low, Value high, Value count) {
  switch (op.getKind()) {
  case AuxLossKind::balance:
    return emitBalance(low, high, count);
  case AuxLossKind::importance:
    return emitImportance(low, high);
  case AuxLossKind::z:
    return emitZ(low, high, count);
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
    if (offsets)
      b.checkGroups(op, offsets, numTokens);
    Value loss = b.output(op.getLoss().getType(), {});
    // The sum of the losses of groups that have tokens, and their number.
    FloatType real = b.getComputeType();
    Value total = b.scratch(real, {}), groups = b.scratch(real, {});
    b.fill(total, b.real(0.0));
    b.fill(groups, b.real(0.0));
    GroupLoss groupLoss(b, op);
    b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
      Value count = groupLoss.countTokens(low, high);
      b.when(isPositive(b, count), [&] {
        Value sum = b.add(b.load(total, {}), groupLoss.emit(low, high, count));
        b.store(sum, total, {});
        b.store(b.add(b.load(groups, {}), b.real(1.0)), groups, {});
      });
    });
    Value numGroups = b.load(groups, {});
    Value mean = b.pick(
        real, isPositive(b, numGroups),
        [&] { return b.div(b.load(total, {}), numGroups); },
        [&] { return b.real(0.0); });
    b.store(b.mul(mean, b.real(op.getCoefficient())), loss, {});
    rewriter.replaceOp(op, b.tensorOf(loss, op.getLoss().getType()));
    return success();
  }

private:
  static Value isPositive(LoopBuilder &b, Value count) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, count,
                                 b.real(0.0));
  }
};

} // namespace

void loops::populateLossPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerAuxLoss>(patterns.getContext());
}
