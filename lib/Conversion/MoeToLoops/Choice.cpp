//===- Choice.cpp - Expert choice and capacity as loops -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "CappedAssignment.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

/// The capacity of an expert for the tokens low .. high - 1.
Value emitCapacity(LoopBuilder &b, CapacityAttr rule, Value low, Value high,
                   int64_t numExperts, int64_t numSlots) {
  return getValueOrCreateConstantIndexOp(
      b, b.getLoc(),
      rule.build(b, b.getLoc(), b.sub(high, low), numExperts, numSlots));
}

//===----------------------------------------------------------------------===//
// RouteExpertsOp
//===----------------------------------------------------------------------===//

/// The rule of #moe.expert_choice on one group of tokens after the other.
class ExpertChoiceRule {
public:
  ExpertChoiceRule(LoopBuilder &b, RouteExpertsOp op, ExpertChoiceAttr rule);

  void run();
  Value getIds() const { return ids; }
  Value getWeights() const { return weights; }

private:
  bool isOverTokens() const { return rule.getAxis() == ChoiceAxis::tokens; }

  void checkSlots(RouteExpertsOp op);
  Value emitLimit(Value low, Value high);
  void scoreGroup(Value low, Value high);
  Value keyOf(Value token, Value expert);
  Value weightOf(Value token, Value expert);
  void chooseTokens(Value expert, Value low, Value high, Value first,
                    Value limit);
  void divideByCount();

  LoopBuilder &b;
  ExpertChoiceAttr rule;
  Value logits, mask, offsets; ///< Operands; null where absent.
  Value numTokens, numExperts;
  Value ids, weights; ///< Results.
  Value scores;       ///< [T, E], in the compute type
  Value chosen;       ///< [E, C] scores of the chosen, in the compute type
  Value taken;        ///< [T] of one expert
  Value counts;       ///< [T] experts that took the token
  Value filled;       ///< [1] slots of an expert that earlier groups have
  std::optional<CappedAssignment> assignment; ///< Where there is a cap.
};

ExpertChoiceRule::ExpertChoiceRule(LoopBuilder &b, RouteExpertsOp op,
                                   ExpertChoiceAttr rule)
    : b(b), rule(rule), logits(b.input(op.getLogits())),
      mask(b.input(op.getTokenMask())), offsets(b.input(op.getGroupOffsets())),
      numTokens(b.size(logits, 0)), numExperts(b.size(logits, 1)) {
  if (offsets)
    b.checkGroups(op, offsets, numTokens);
  checkSlots(op);
  ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
  ids = b.output(op.getIds().getType(), shapes[0]);
  weights = b.output(op.getWeights().getType(), shapes[1]);
  FloatType real = b.getComputeType();
  scores = b.scratch(real, {numTokens, numExperts});
  chosen = b.scratch(real, {numExperts, b.size(ids, 1)});
  taken = b.scratch(b.getI1Type(), numTokens);
  counts = b.scratch(b.getIndexType(), numTokens);
  filled = b.scratch(b.getIndexType(), b.index(1));
  if (rule.isCapped())
    assignment.emplace(b, rule, scores, mask);
}

/// A static C holds what the groups fill; a dynamic one is made so.
void ExpertChoiceRule::checkSlots(RouteExpertsOp op) {
  if (op.getIds().getType().isDynamicDim(1))
    return;
  Value numSlots = b.index(op.getIds().getType().getDimSize(1));
  Value numGroups =
      offsets ? b.sub(b.size(offsets, 0), b.index(1)) : b.index(1);
  Value used =
      b.fold(b.index(0), numGroups, b.index(0),
             [&](Value group, ValueRange so) -> SmallVector<Value> {
               Value low = offsets ? b.load(offsets, group) : b.index(0);
               Value high = offsets ? b.load(offsets, b.add(group, b.index(1)))
                                    : numTokens;
               return {b.add(so[0], emitLimit(low, high))};
             })[0];
  b.assertThat(op, b.lessEqual(used, numSlots),
               "the experts choose more tokens than the ids have slots");
}

/// The slots that each expert has for a group: its capacity, and never more
/// than the group's size.
Value ExpertChoiceRule::emitLimit(Value low, Value high) {
  int64_t width = cast<MemRefType>(logits.getType()).getDimSize(1);
  Value capacity = emitCapacity(b, rule.getCapacity(), low, high, width,
                                /*numSlots=*/1);
  return b.smallerIndex(capacity, b.sub(high, low));
}

/// Softmax over the experts of each token, or over the live tokens of the group
/// for each expert, or what is given.
void ExpertChoiceRule::scoreGroup(Value low, Value high) {
  if (rule.getAxis() == ChoiceAxis::given)
    return b.loop(low, high, [&](Value t) {
      b.loop(numExperts,
             [&](Value e) { b.store(b.load(logits, {t, e}), scores, {t, e}); });
    });
  if (!isOverTokens())
    return b.loop(low, high, [&](Value t) {
      b.softmax(
          b.index(0), numExperts, /*isMember=*/nullptr,
          [&](Value e) { return b.load(logits, {t, e}); },
          [&](Value e, Value share) { b.store(share, scores, {t, e}); });
    });
  b.loop(numExperts, [&](Value e) {
    b.softmax(
        low, high, [&](Value t) { return b.isLive(mask, t); },
        [&](Value t) { return b.load(logits, {t, e}); },
        [&](Value t, Value share) { b.store(share, scores, {t, e}); });
  });
}

/// What an expert compares. Over tokens the score of a column increases in its
/// logit, and a score can underflow into a false tie, as an assignment can.
Value ExpertChoiceRule::keyOf(Value token, Value expert) {
  if (assignment)
    return assignment->getLog(token, expert);
  return b.load(isOverTokens() ? logits : scores, {token, expert});
}

Value ExpertChoiceRule::weightOf(Value token, Value expert) {
  if (rule.getWeights() == ChoiceWeights::assignment)
    return math::ExpOp::create(b, assignment->getLog(token, expert));
  return b.load(scores, {token, expert});
}

/// Fills the slots from `first` on.
void ExpertChoiceRule::chooseTokens(Value expert, Value low, Value high,
                                    Value first, Value limit) {
  b.loop(low, high,
         [&](Value t) { b.store(b.negate(b.isLive(mask, t)), taken, t); });
  b.visitLargest(
      low, high, limit, taken, [&](Value t) { return keyOf(t, expert); },
      [&](Value rank, Value t) {
        Value slot = b.add(first, rank);
        b.store(t, ids, {expert, slot});
        b.store(weightOf(t, expert), chosen, {expert, slot});
        b.store(b.add(b.load(counts, t), b.index(1)), counts, t);
      });
}

/// Rounds the weights into the result, divided where the router says so.
void ExpertChoiceRule::divideByCount() {
  b.loopAll(ids, [&](ValueRange at) {
    Value t = b.load(ids, at);
    b.when(b.lessEqual(b.index(0), t), [&] {
      Value weight = b.load(chosen, at);
      // The count is at least 1: this expert took the token.
      if (rule.getNormalize() == Normalize::sum)
        weight = b.div(weight, b.toReal(b.load(counts, t)));
      b.store(weight, weights, at);
    });
  });
}

void ExpertChoiceRule::run() {
  b.fill(ids, b.index(-1));
  b.fill(weights, b.real(0.0));
  b.fill(counts, b.index(0));
  b.fill(filled, b.index(0));
  b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
    scoreGroup(low, high);
    Value first = b.load(filled, b.index(0));
    Value limit = emitLimit(low, high);
    if (assignment)
      assignment->compute(low, high, limit);
    b.loop(numExperts, [&](Value expert) {
      chooseTokens(expert, low, high, first, limit);
    });
    b.store(b.add(first, limit), filled, b.index(0));
  });
  divideByCount();
}

struct LowerRouteExperts : public OpRewritePattern<RouteExpertsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RouteExpertsOp op,
                                PatternRewriter &rewriter) const override {
    auto attr = dyn_cast<ExpertChoiceAttr>(op.getRouter());
    if (!attr)
      return rewriter.notifyMatchFailure(op, "the router is not known");
    LoopBuilder b(op, rewriter,
                  attr.isCapped() ? FloatType(rewriter.getF64Type())
                                  : loops::getComputeType(op));
    ExpertChoiceRule rule(b, op, attr);
    rule.run();
    rewriter.replaceOp(
        op, {b.tensorOf(rule.getIds(), op.getIds().getType()),
             b.tensorOf(rule.getWeights(), op.getWeights().getType())});
    return success();
  }
};

//===----------------------------------------------------------------------===//
// RouteExpertsVJPOp
//===----------------------------------------------------------------------===//

struct LowerRouteExpertsVJP : public OpRewritePattern<RouteExpertsVJPOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RouteExpertsVJPOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    auto rule = cast<ExpertChoiceAttr>(op.getRouter());
    Value logits = b.input(op.getLogits()), mask = b.input(op.getTokenMask());
    Value offsets = b.input(op.getGroupOffsets());
    Value numTokens = b.size(logits, 0), numExperts = b.size(logits, 1);
    if (offsets)
      b.checkGroups(op, offsets, numTokens);
    Value gradient =
        b.output(op.getGradient().getType(), reifyShapes(op, b)[0]);
    Value scores = b.scratch(b.getComputeType(), {numTokens, numExperts});
    Value slopes = b.scratch(b.getComputeType(), {numTokens, numExperts});
    Value counts = b.scratch(b.getIndexType(), numTokens);
    b.fill(gradient, b.real(0.0));
    b.fill(slopes, b.real(0.0));
    b.fill(counts, b.index(0));
    scatterSlopes(b, op, rule, slopes, counts);

    auto write = [&](Value t, Value e, Value value) {
      b.store(value, gradient, {t, e});
    };
    if (rule.getAxis() == ChoiceAxis::given) {
      b.loopAll(gradient, [&](ValueRange at) {
        write(at[0], at[1], b.load(slopes, at));
      });
    } else if (rule.getAxis() == ChoiceAxis::experts) {
      b.loop(numTokens, [&](Value t) {
        b.when(b.less(b.index(0), b.load(counts, t)), [&] {
          b.softmax(
              b.index(0), numExperts, /*isMember=*/nullptr,
              [&](Value e) { return b.load(logits, {t, e}); },
              [&](Value e, Value share) { b.store(share, scores, {t, e}); });
          b.pullSoftmax(
              b.index(0), numExperts, /*isMember=*/nullptr,
              [&](Value e) { return b.load(scores, {t, e}); },
              [&](Value e) { return b.load(slopes, {t, e}); },
              [&](Value e, Value pulled) { write(t, e, pulled); });
        });
      });
    } else {
      b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
        auto isLive = [&](Value t) { return b.isLive(mask, t); };
        b.loop(numExperts, [&](Value e) {
          b.softmax(
              low, high, isLive,
              [&](Value t) { return b.load(logits, {t, e}); },
              [&](Value t, Value share) { b.store(share, scores, {t, e}); });
          b.pullSoftmax(
              low, high, isLive,
              [&](Value t) { return b.load(scores, {t, e}); },
              [&](Value t) { return b.load(slopes, {t, e}); },
              [&](Value t, Value pulled) { write(t, e, pulled); });
        });
      });
    }
    rewriter.replaceOp(op, b.tensorOf(gradient, op.getGradient().getType()));
    return success();
  }

  /// The cotangents of the scores, and how many experts took a token.
  static void scatterSlopes(LoopBuilder &b, RouteExpertsVJPOp op,
                            ExpertChoiceAttr rule, Value slopes, Value counts) {
    Value ids = b.input(op.getIds()), cotangent = b.input(op.getCotangent());
    auto visit = [&](llvm::function_ref<void(ValueRange, Value)> body) {
      b.loopAll(ids, [&](ValueRange at) {
        Value t = b.load(ids, at);
        b.when(b.lessEqual(b.index(0), t), [&] { body(at, t); });
      });
    };
    visit([&](ValueRange, Value t) {
      b.store(b.add(b.load(counts, t), b.index(1)), counts, t);
    });
    visit([&](ValueRange at, Value t) {
      Value slope = b.load(cotangent, at);
      if (rule.getNormalize() == Normalize::sum)
        slope = b.div(slope, b.toReal(b.load(counts, t)));
      b.store(slope, slopes, {t, at[0]});
    });
  }
};

//===----------------------------------------------------------------------===//
// LimitCapacityOp
//===----------------------------------------------------------------------===//

/// The queue before an expert, for one group of tokens after the other.
class CapacityQueue {
public:
  CapacityQueue(LoopBuilder &b, LimitCapacityOp op)
      : b(b), op(op), ids(b.input(op.getIds())),
        weights(b.input(op.getWeights())), numTokens(b.size(ids, 0)),
        numSlots(b.size(ids, 1)), numExperts(b.index(op.getNumExperts())),
        order(b.scratch(b.getIndexType(), numTokens)),
        taken(b.scratch(b.getI1Type(), numTokens)),
        served(b.scratch(b.getIndexType(), numExperts)) {}

  void serveGroup(Value low, Value high, Value keptIds, Value keptWeights);

private:
  void orderTokens(Value low, Value high);

  LoopBuilder &b;
  LimitCapacityOp op;
  Value ids, weights; ///< Operands.
  Value numTokens, numSlots, numExperts;
  Value order;  ///< [T] the tokens as they stand in the queue
  Value taken;  ///< [T]
  Value served; ///< [E] slots served so far
};

/// By index, or by falling weight of the first slot.
void CapacityQueue::orderTokens(Value low, Value high) {
  if (op.getQueue() == QueueOrder::first_come)
    return b.loop(low, high, [&](Value t) { b.store(t, order, t); });
  b.loop(low, high, [&](Value t) { b.store(b.boolean(false), taken, t); });
  b.visitLargest(
      low, high, b.sub(high, low), taken,
      [&](Value t) { return b.load(weights, {t, b.index(0)}); },
      [&](Value rank, Value t) { b.store(t, order, b.add(low, rank)); });
}

void CapacityQueue::serveGroup(Value low, Value high, Value keptIds,
                               Value keptWeights) {
  int64_t slots = op.getIds().getType().getDimSize(1);
  Value limit =
      emitCapacity(b, op.getCapacity(), low, high, op.getNumExperts(), slots);
  orderTokens(low, high);
  b.fill(served, b.index(0));
  b.loop(numSlots, [&](Value slot) {
    b.loop(low, high, [&](Value place) {
      Value t = b.load(order, place);
      Value id = b.load(ids, {t, slot});
      auto keep = [&] {
        b.store(id, keptIds, {t, slot});
        b.store(b.load(weights, {t, slot}), keptWeights, {t, slot});
      };
      auto serve = [&] {
        Value count = b.load(served, id);
        b.when(
            b.less(count, limit),
            [&] {
              keep();
              b.store(b.add(count, b.index(1)), served, id);
            },
            [&] {
              b.store(b.index(-1), keptIds, {t, slot});
              b.store(b.real(0.0), keptWeights, {t, slot});
            });
      };
      // Empty slots and identity experts pass.
      b.when(b.inRange(id, b.index(0), numExperts), serve, keep);
    });
  });
}

/// Divides the weights of full slots by their sum, at least `eps`.
void normalizeKept(LoopBuilder &b, Value ids, Value weights, double eps) {
  Value numSlots = b.size(ids, 1);
  b.loop(b.size(ids, 0), [&](Value t) {
    auto isFull = [&](Value slot) {
      return b.lessEqual(b.index(0), b.load(ids, {t, slot}));
    };
    Value sum = b.sum(b.index(0), numSlots, [&](Value slot) {
      return b.select(isFull(slot), b.load(weights, {t, slot}), b.real(0.0));
    });
    Value divisor = b.larger(sum, b.real(eps));
    b.loop(numSlots, [&](Value slot) {
      b.when(isFull(slot), [&] {
        Value weight = b.div(b.load(weights, {t, slot}), divisor);
        b.store(weight, weights, {t, slot});
      });
    });
  });
}

struct LowerLimitCapacity : public OpRewritePattern<LimitCapacityOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(LimitCapacityOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value numTokens = b.size(b.input(op.getIds()), 0);
    Value offsets = b.input(op.getGroupOffsets());
    if (offsets)
      b.checkGroups(op, offsets, numTokens);
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value keptIds = b.output(op.getKeptIds().getType(), shapes[0]);
    Value keptWeights = b.output(op.getKeptWeights().getType(), shapes[1]);
    CapacityQueue queue(b, op);
    b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
      queue.serveGroup(low, high, keptIds, keptWeights);
    });
    if (std::optional<APFloat> eps = op.getNormalize())
      normalizeKept(b, keptIds, keptWeights, eps->convertToDouble());
    rewriter.replaceOp(op,
                       {b.tensorOf(keptIds, op.getIds().getType()),
                        b.tensorOf(keptWeights, op.getWeights().getType())});
    return success();
  }
};

} // namespace

void loops::populateChoicePatterns(RewritePatternSet &patterns) {
  patterns.add<LowerRouteExpertsVJP, LowerRouteExperts, LowerLimitCapacity>(
      patterns.getContext());
}
