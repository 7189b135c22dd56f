//===- TopTwoRouting.cpp - Routers of two experts, as loops ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SampledRule.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

class TopTwoRule : public SampledRule {
public:
  TopTwoRule(LoopBuilder &b, RouteOp op)
      : SampledRule(b, op, 2), weighed(b.scratch(b.getComputeType(), numSlots)),
        noisy(b.scratch(b.getComputeType(), numExperts)) {}

protected:
  /// Whether a logit, or a logit with noise, is not -inf.
  Value isSome(Value x) {
    return b.negate(arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, x,
                                          b.negativeInfinity()));
  }
  Value isAbove(Value x, Value y) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, x, y);
  }
  /// Stores the largest of the values of experts that are not taken into a
  /// slot, or -1 where it is -inf, and marks it as taken.
  void chooseNext(int64_t slot, llvm::function_ref<Value(Value e)> value) {
    b.store(b.index(-1), chosen, b.index(slot));
    b.visitLargest(b.index(0), numExperts, b.index(1), taken, value,
                   [&](Value, Value e) {
                     b.store(b.select(isSome(value(e)), e, b.index(-1)), chosen,
                             b.index(slot));
                   });
  }
  /// The share of a slot's expert, 0 for an empty one.
  Value shareOf(int64_t slot) {
    Value at = b.index(slot);
    return b.pick(
        b.getComputeType(), isFull(at),
        [&] { return b.load(shares, b.load(chosen, at)); },
        [&] { return b.real(0.0); });
  }
  void writeWeighed(Value token, Value ids, Value weights) {
    write(token, ids, weights,
          [&](Value slot) { return b.load(weighed, slot); });
  }

  Value weighed; ///< [2]
  Value noisy;   ///< [E]
};

//===----------------------------------------------------------------------===//
// GShard
//===----------------------------------------------------------------------===//

class GShardRule : public TopTwoRule {
public:
  GShardRule(LoopBuilder &b, RouteOp op, GShardAttr router)
      : TopTwoRule(b, op), router(router) {}

  void routeToken(Value token, Value ids, Value weights) {
    computeShares(token, 1.0);
    bool isDrawn =
        op.isTraining() && router.getPolicy() == SecondPolicy::sampling;
    b.loop(numExperts, [&](Value e) {
      Value value = logit(token, e);
      b.store(isDrawn ? b.add(value, gumbel(token, e)) : value, noisy, e);
    });
    b.fill(taken, b.boolean(false));
    chooseNext(0, [&](Value e) { return logit(token, e); });
    chooseNext(1, [&](Value e) { return b.load(noisy, e); });
    weigh(token);
    writeWeighed(token, ids, weights);
  }

private:
  void weigh(Value token) {
    Value first = shareOf(0), second = shareOf(1);
    Value eps = b.real(router.getEps());
    if (router.getNormalize() == NormalizeAt::before) {
      Value both = b.add(b.add(first, second), eps);
      first = b.div(first, both);
      second = b.div(second, both);
    }
    b.when(b.negate(isKept(token, second)),
           [&] { b.store(b.index(-1), chosen, b.index(1)); });
    if (router.getNormalize() == NormalizeAt::after) {
      second = b.select(isFull(b.index(1)), second, b.real(0.0));
      Value left = b.larger(b.add(first, second), eps);
      first = b.div(first, left);
      second = b.div(second, left);
    }
    b.store(first, weighed, b.index(0));
    b.store(second, weighed, b.index(1));
  }

  Value isKept(Value token, Value gate) {
    Value threshold = b.real(router.getThreshold());
    switch (router.getPolicy()) {
    case SecondPolicy::none:
      return b.boolean(false);
    case SecondPolicy::threshold:
      return isAbove(gate, threshold);
    case SecondPolicy::random:
      if (op.isTraining())
        return isAbove(b.div(gate, threshold), uniform(token, numExperts));
      [[fallthrough]];
    case SecondPolicy::all:
    case SecondPolicy::sampling:
      return b.boolean(true);
    }
    llvm_unreachable("all policies are covered");
  }

  GShardAttr router;
};

//===----------------------------------------------------------------------===//
// SparseMixer
//===----------------------------------------------------------------------===//

class SparseMixerRule : public TopTwoRule {
public:
  SparseMixerRule(LoopBuilder &b, RouteOp op, SparseMixerAttr router)
      : TopTwoRule(b, op), router(router),
        masked(b.scratch(b.getComputeType(), numExperts)),
        struckOut(b.scratch(b.getI1Type(), numExperts)) {}

  void routeToken(Value token, Value ids, Value weights) {
    Value isUsable =
        b.fold(b.index(0), numExperts, b.boolean(true),
               [&](Value e, ValueRange so) -> SmallVector<Value> {
                 Value infinite =
                     arith::NegFOp::create(b, b.negativeInfinity());
                 Value isNumber = isAbove(infinite, logit(token, e));
                 return {b.both(so[0], isNumber)};
               })[0];
    b.when(
        isUsable,
        [&] {
          b.fill(struckOut, b.boolean(false));
          for (int64_t round = 0; round < 2; ++round)
            playRound(token, round);
        },
        [&] {
          b.fill(taken, b.boolean(false));
          b.visitLargest(
              b.index(0), numExperts, numSlots, taken,
              [&](Value e) { return logit(token, e); },
              [&](Value slot, Value e) { b.store(e, chosen, slot); });
          b.fill(weighed, b.nan());
        });
    writeWeighed(token, ids, weights);
  }

private:
  void playRound(Value token, int64_t round) {
    Value slot = b.index(round);
    copyTaken(struckOut, taken);
    chooseNext(round, [&](Value e) { return logit(token, e); });
    b.when(isFull(slot), [&] {
      Value best = b.load(chosen, slot);
      maskBelow(token, logit(token, best));
      b.softmax(
          b.index(0), numExperts,
          [&](Value e) { return isSome(b.load(masked, e)); },
          [&](Value e) { return b.load(masked, e); },
          [&](Value e, Value share) { b.store(share, shares, e); });
      Value factor = b.real(1.0);
      if (op.isTraining()) {
        Value first = b.mul(numExperts, slot);
        b.loop(numExperts, [&](Value e) {
          Value noise = gumbel(token, b.add(first, e));
          b.store(b.add(b.load(masked, e), noise), noisy, e);
        });
        copyTaken(struckOut, taken);
        chooseNext(round, [&](Value e) { return b.load(noisy, e); });
        Value draw = b.add(b.add(numExperts, numExperts), slot);
        Value isWhole = b.either(b.equal(b.load(chosen, slot), best),
                                 isAbove(uniform(token, draw), b.real(0.75)));
        factor = b.select(isWhole, factor, b.real(router.getThird()));
      }
      Value e = b.load(chosen, slot);
      b.store(b.mul(b.load(shares, e), factor), weighed, slot);
      b.store(b.boolean(true), struckOut, e);
    });
  }

  void copyTaken(Value from, Value to) {
    b.loop(numExperts, [&](Value e) { b.store(b.load(from, e), to, e); });
  }

  /// The logits of a round whose largest is `top`, -inf for who is out.
  void maskBelow(Value token, Value top) {
    b.loop(numExperts, [&](Value e) {
      Value own = logit(token, e);
      Value scale = b.larger(math::AbsFOp::create(b, own), top);
      Value quotient = b.div(b.sub(top, own), scale);
      Value limit = b.mul(b.real(2.0), b.real(router.getEps()));
      Value isOut = b.either(b.load(struckOut, e), isAbove(quotient, limit));
      b.store(b.select(isOut, b.negativeInfinity(), own), masked, e);
    });
  }

  SparseMixerAttr router;
  Value masked;    ///< [E]
  Value struckOut; ///< [E] taken in an earlier round
};

} // namespace

bool loops::routeTopTwo(LoopBuilder &b, RouteOp op, Value ids, Value weights) {
  if (auto router = dyn_cast<GShardAttr>(op.getRouter()))
    routeTokens(b, op, GShardRule(b, op, router), ids, weights);
  else if (auto router = dyn_cast<SparseMixerAttr>(op.getRouter()))
    routeTokens(b, op, SparseMixerRule(b, op, router), ids, weights);
  else
    return false;
  return true;
}
