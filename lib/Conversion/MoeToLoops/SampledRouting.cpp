//===- SampledRouting.cpp - Routers that sample, as loops -----------------===//
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

Value SampledRule::gumbel(Value token, Value draw) {
  NoiseSettings settings = {NoiseKind::gumbel, /*std=*/0.0, /*floor=*/0.0};
  return emitNoise(b, settings, /*raw=*/{}, draw,
                   [&](Value own) { return uniform(token, own); });
}

void SampledRule::computeShares(Value token, double temperature) {
  b.softmax(
      b.index(0), numExperts, /*isMember=*/nullptr,
      [&](Value e) { return b.div(logit(token, e), b.real(temperature)); },
      [&](Value e, Value share) { b.store(share, shares, e); });
  // Without any admissible expert all shares are 0.
  Value isNone = b.fold(
      b.index(0), numExperts, b.boolean(true),
      [&](Value e, ValueRange so) -> SmallVector<Value> {
        return {b.both(so[0], arith::CmpFOp::create(
                                  b, arith::CmpFPredicate::OEQ, logit(token, e),
                                  b.negativeInfinity()))};
      })[0];
  b.when(isNone, [&] { b.fill(shares, b.real(0.0)); });
}

void SampledRule::chooseLargest(Value token, Value count) {
  b.fill(chosen, b.index(-1));
  b.fill(taken, b.boolean(false));
  b.visitLargest(
      b.index(0), numExperts, count, taken,
      [&](Value e) { return logit(token, e); },
      [&](Value slot, Value e) {
        Value isNone =
            arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, logit(token, e),
                                  b.negativeInfinity());
        b.store(b.select(isNone, b.index(-1), e), chosen, slot);
      });
}

void SampledRule::write(Value token, Value ids, Value weights,
                        llvm::function_ref<Value(Value)> weight) {
  b.loop(numSlots, [&](Value slot) {
    b.when(isFull(slot), [&] {
      b.store(b.load(chosen, slot), ids, {token, slot});
      b.store(weight(slot), weights, {token, slot});
    });
  });
}

namespace {

class ProbMoERule : public SampledRule {
public:
  ProbMoERule(LoopBuilder &b, RouteOp op, SubsetBand band, Normalize normalize)
      : SampledRule(b, op, band.max), band(band), normalize(normalize),
        subsets(b, logits, band) {}

  void routeToken(Value token, Value ids, Value weights) {
    computeShares(token, 1.0);
    auto share = [&](Value slot) {
      return b.load(shares, b.load(chosen, slot));
    };
    if (op.isTraining()) {
      subsets.readToken(token);
      subsets.drawSample([&](Value draw) { return uniform(token, draw); },
                         chosen);
      return write(token, ids, weights, share);
    }
    chooseLargest(token, countOf(token));
    Value sum = b.real(1.0);
    if (normalize == Normalize::sum)
      sum = b.sum(b.index(0), numSlots, [&](Value slot) {
        return b.pick(
            b.getComputeType(), isFull(slot), [&] { return share(slot); },
            [&] { return b.real(0.0); });
      });
    write(token, ids, weights,
          [&](Value slot) { return b.div(share(slot), sum); });
  }

private:
  /// The size of the most likely subset: as many as have a positive logit.
  Value countOf(Value token) {
    if (band.min == band.max)
      return numSlots;
    Value positive =
        b.fold(b.index(0), numExperts, b.index(0),
               [&](Value e, ValueRange so) -> SmallVector<Value> {
                 // A NaN is not known to be below.
                 Value isOut =
                     arith::CmpFOp::create(b, arith::CmpFPredicate::OLE,
                                           logit(token, e), b.real(0.0));
                 return {b.select(isOut, so[0], b.add(so[0], b.index(1)))};
               })[0];
    Value most = b.smallerIndex(positive, numSlots);
    Value least = b.index(band.min);
    return b.select(b.less(most, least), least, most);
  }

  SubsetBand band;
  Normalize normalize;
  SubsetRule subsets;
};

class MoesartRule : public SampledRule {
public:
  MoesartRule(LoopBuilder &b, RouteOp op, MoesartAttr router)
      : SampledRule(b, op, router.getK()), router(router),
        counts(b.scratch(b.getComputeType(), numExperts)),
        terms(b.scratch(b.getComputeType(), numSlots)) {}

  void routeToken(Value token, Value ids, Value weights) {
    if (!op.isTraining()) {
      chooseLargest(token, numSlots);
      Value count = countFull();
      return write(token, ids, weights,
                   [&](Value) { return b.div(b.real(1.0), count); });
    }
    computeShares(token, router.getTemperature().convertToDouble());
    draw(token);
    weigh(token);
    Value sum = b.sum(b.index(0), numSlots,
                      [&](Value slot) { return b.load(terms, slot); });
    write(token, ids, weights,
          [&](Value slot) { return b.div(b.load(terms, slot), sum); });
  }

private:
  Value countFull() {
    return b.sum(b.index(0), numSlots, [&](Value slot) {
      return b.select(isFull(slot), b.real(1.0), b.real(0.0));
    });
  }
  Value isPositive(Value x) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, x, b.real(0.0));
  }

  /// k draws; `counts` says how often an expert was drawn.
  void draw(Value token) {
    b.fill(chosen, b.index(-1));
    b.fill(counts, b.real(0.0));
    b.fill(taken, b.boolean(false));
    auto share = [&](Value e) {
      return b.select(b.load(taken, e), b.real(0.0), b.load(shares, e));
    };
    b.fold(b.index(0), numSlots, b.index(0),
           [&](Value number, ValueRange so) -> SmallVector<Value> {
             Value total = b.sum(b.index(0), numExperts, share);
             Value isNaN = arith::CmpFOp::create(b, arith::CmpFPredicate::UNO,
                                                 total, total);
             Value threshold = b.mul(uniform(token, number), total);
             Value drawn = drawOne(share, threshold);
             drawn = b.select(isNaN, number, drawn);
             Value isOne = b.lessEqual(b.index(0), drawn);
             Value place = b.select(isOne, drawn, b.index(0));
             Value before = b.load(counts, place);
             Value isNew = b.both(isOne, b.negate(isPositive(before)));
             b.when(isOne, [&] {
               b.store(b.add(before, b.real(1.0)), counts, place);
               if (!router.getReplacement())
                 b.store(b.boolean(true), taken, place);
             });
             b.when(isNew, [&] { b.store(drawn, chosen, so[0]); });
             return {b.select(isNew, b.add(so[0], b.index(1)), so[0])};
           });
  }

  /// The first with a share whose cumulative share is above the threshold, or
  /// the last with a share, or -1.
  Value drawOne(llvm::function_ref<Value(Value)> share, Value threshold) {
    return b.fold(b.index(0), numExperts,
                  {b.boolean(false), b.real(0.0), b.index(-1)},
                  [&](Value e, ValueRange so) -> SmallVector<Value> {
                    Value own = share(e), sum = b.add(so[1], own);
                    Value has = isPositive(own);
                    Value isAbove = arith::CmpFOp::create(
                        b, arith::CmpFPredicate::OLT, threshold, sum);
                    Value moves = b.both(has, b.negate(so[0]));
                    return {b.either(so[0], b.both(has, isAbove)), sum,
                            b.select(moves, e, so[2])};
                  })[2];
  }

  /// exp of the adjusted logits, all divided by the same number.
  void weigh(Value token) {
    Value full = countFull();
    Value draws = b.sum(b.index(0), numExperts,
                        [&](Value e) { return b.load(counts, e); });
    Value place = b.mul(uniform(token, numSlots), full);
    b.fill(terms, b.real(0.0));
    b.loop(numSlots, [&](Value slot) {
      b.when(isFull(slot), [&] {
        Value e = b.load(chosen, slot);
        Value times = b.load(counts, e);
        Value raw = b.mul(times, b.load(shares, e));
        Value term;
        switch (router.getWeighting()) {
        case SampleWeighting::zero:
          term = times;
          break;
        case SampleWeighting::large:
          term = raw;
          break;
        case SampleWeighting::small_random: {
          Value low = b.toReal(slot);
          Value rest = b.sub(place, low);
          Value isAbove = arith::CmpFOp::create(b, arith::CmpFPredicate::OGE,
                                                rest, b.real(0.0));
          Value isBelow = arith::CmpFOp::create(b, arith::CmpFPredicate::OLT,
                                                rest, b.real(1.0));
          Value others = b.larger(b.sub(draws, b.real(1.0)), b.real(1.0));
          term = b.select(b.both(isAbove, isBelow), raw, b.div(times, others));
          break;
        }
        }
        b.store(term, terms, slot);
      });
    });
  }

  MoesartAttr router;
  Value counts; ///< [E]
  Value terms;  ///< [k]
};

class NoisyTopKRule : public SampledRule {
public:
  NoisyTopKRule(LoopBuilder &b, RouteOp op, NoisyTopKAttr router)
      : SampledRule(b, op, router.getK()), router(router),
        noise(b.input(op.getNoise())),
        noisy(b.scratch(b.getComputeType(), numExperts)),
        picked(b.scratch(b.getComputeType(), this->numSlots)) {}

  void routeToken(Value token, Value ids, Value weights) {
    b.loop(numExperts, [&](Value e) {
      Value value = logit(token, e);
      if (op.isTraining())
        value = b.add(value, shift(token, e));
      b.store(value, noisy, e);
    });
    b.fill(chosen, b.index(-1));
    b.fill(taken, b.boolean(false));
    b.visitLargest(
        b.index(0), numExperts, numSlots, taken,
        [&](Value e) { return b.load(noisy, e); },
        [&](Value slot, Value e) {
          Value isNone =
              arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ,
                                    b.load(noisy, e), b.negativeInfinity());
          b.store(b.select(isNone, b.index(-1), e), chosen, slot);
        });
    if (router.getWeights() == NoisyWeights::chosen) {
      b.softmax(
          b.index(0), numSlots, [&](Value slot) { return isFull(slot); },
          [&](Value slot) { return b.load(noisy, b.load(chosen, slot)); },
          [&](Value slot, Value share) { b.store(share, picked, slot); });
      return write(token, ids, weights,
                   [&](Value slot) { return b.load(picked, slot); });
    }
    bool isClean = router.getWeights() == NoisyWeights::clean;
    b.softmax(
        b.index(0), numExperts, /*isMember=*/nullptr,
        [&](Value e) { return isClean ? logit(token, e) : b.load(noisy, e); },
        [&](Value e, Value share) { b.store(share, shares, e); });
    write(token, ids, weights,
          [&](Value slot) { return b.load(shares, b.load(chosen, slot)); });
  }

private:
  Value shift(Value token, Value e) {
    Value raw = noise ? b.load(noise, {token, e}) : Value();
    return emitNoise(b, router.getSettings(), raw, e,
                     [&](Value draw) { return uniform(token, draw); });
  }

  NoisyTopKAttr router;
  Value noise;  ///< [T, E] or null
  Value noisy;  ///< [E]
  Value picked; ///< [k]
};

} // namespace

bool loops::routeBySampling(LoopBuilder &b, RouteOp op, Value ids,
                            Value weights) {
  if (auto router = dyn_cast<ExactKAttr>(op.getRouter())) {
    ProbMoERule rule(b, op, {router.getK(), router.getK()},
                     router.getNormalize());
    routeTokens(b, op, rule, ids, weights);
  } else if (auto router = dyn_cast<DynamicKAttr>(op.getRouter())) {
    ProbMoERule rule(b, op, {router.getMin(), router.getMax()},
                     router.getNormalize());
    routeTokens(b, op, rule, ids, weights);
  } else if (auto router = dyn_cast<MoesartAttr>(op.getRouter())) {
    routeTokens(b, op, MoesartRule(b, op, router), ids, weights);
  } else if (auto router = dyn_cast<NoisyTopKAttr>(op.getRouter())) {
    routeTokens(b, op, NoisyTopKRule(b, op, router), ids, weights);
  } else {
    return routeTopTwo(b, op, ids, weights) ||
           routeByProductKeys(b, op, ids, weights);
  }
  return true;
}
