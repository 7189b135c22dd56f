//===- SampledTokenBodies.cpp - Token bodies of routers that sample -------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SampledBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/NoiseBody.h"
#include "moe/Dialect/Moe/Utils/SubsetBody.h"

using namespace mlir;
using namespace mlir::moe;

void SampledBody::emitSoftmax(double factor) {
  scale = factor;
  largest =
      loop(in.width, infinity(/*isNegative=*/true),
           [&](Value expert, ValueRange so) -> SmallVector<Value> {
             return {arith::MaximumFOp::create(b, so[0], readLogit(expert))};
           })[0];
  // Without any admissible expert all shares are 0.
  Value hasNone = isAbsent(largest);
  largest = select(hasNone, real(0.0), largest);
  sum = loop(in.width, real(0.0),
             [&](Value expert, ValueRange so) -> SmallVector<Value> {
               Value distance = sub(readLogit(expert), largest);
               if (scale != 1.0)
                 distance = mul(distance, real(scale));
               return {add(so[0], exp(distance))};
             })[0];
  sum = select(hasNone, real(1.0), sum);
}

Value SampledBody::shareOf(Value logit) {
  Value distance = sub(logit, largest);
  if (scale != 1.0)
    distance = mul(distance, real(scale));
  return div(exp(distance), sum);
}

Value SampledBody::isAbsent(Value logit) {
  return arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, logit,
                               infinity(/*isNegative=*/true));
}

TokenBodyResult SampledBody::emptyAbsent(TokenBodyResult slots,
                                         ValueRange absent) {
  for (auto [id, weight, isAbsent] :
       llvm::zip(slots.ids, slots.weights, absent)) {
    id = select(isAbsent, this->id(-1), id);
    weight = select(isAbsent, real(0.0), weight);
  }
  return slots;
}

PowerSum SampledBody::sumPowers(int64_t first, int64_t count) {
  auto logitAt = [&](Value place) {
    return readLogit(arith::AddIOp::create(b, place, index(first)));
  };
  Value max =
      loop(count, infinity(/*isNegative=*/true),
           [&](Value place, ValueRange so) -> SmallVector<Value> {
             return {arith::MaximumFOp::create(b, so[0], logitAt(place))};
           })[0];
  max = select(isAbsent(max), real(0.0), max);
  Value total = loop(count, real(0.0),
                     [&](Value place, ValueRange so) -> SmallVector<Value> {
                       return {add(so[0], exp(sub(logitAt(place), max)))};
                     })[0];
  return {max, total};
}

Value SampledBody::readLeft(Value expert, Value struckOut) {
  Value logit = readLogit(expert);
  if (!struckOut)
    return logit;
  Value isOut = isEqual(struckOut, idOf(expert));
  return select(isOut, infinity(/*isNegative=*/true), logit);
}

Pick SampledBody::chooseOne(llvm::function_ref<Value(Value expert)> value) {
  KeyOrder order(b, type);
  RankedKeys best = emitTopK(b, order, 1, in.width, [&](Value expert) {
    return order.encode(value(expert));
  });
  return {best.ids[0], order.decode(best.keys[0])};
}

SmallVector<Value> SampledBody::weighChosen(ValueRange logits,
                                            ValueRange absent) {
  Value total;
  SmallVector<Value> powers;
  for (auto [logit, isOut] : llvm::zip(logits, absent)) {
    // The first is the largest.
    Value power = select(isOut, real(0.0), exp(sub(logit, logits[0])));
    powers.push_back(power);
    total = total ? add(total, power) : power;
  }
  for (Value &power : powers)
    power = div(power, total);
  return powers;
}

RankedKeys SampledBody::chooseLargest(int64_t k,
                                      SmallVectorImpl<Value> &chosenLogits) {
  KeyOrder order(b, type);
  RankedKeys chosen = emitTopK(b, order, k, in.width, [&](Value expert) {
    return order.encode(readLogit(expert));
  });
  for (Value key : chosen.keys)
    chosenLogits.push_back(order.decode(key));
  return chosen;
}

namespace {

//===----------------------------------------------------------------------===//
// ProbMoE: exact k and dynamic k
//===----------------------------------------------------------------------===//

class ProbMoEBody : public SampledBody {
public:
  ProbMoEBody(ImplicitLocOpBuilder &b, const TokenBodyInputs &inputs,
              SubsetBand band, Normalize normalize)
      : SampledBody(b, inputs), band(band), normalize(normalize) {}

  TokenBodyResult build() {
    emitSoftmax();
    return in.random ? sample() : choose();
  }

private:
  TokenBodyResult sample();
  TokenBodyResult choose();

  SubsetBand band;
  Normalize normalize;
};

TokenBodyResult ProbMoEBody::sample() {
  SubsetBody subsets(b, type, in.logits, in.width, band);
  TokenBodyResult slots;
  slots.ids = subsets.emitSample(*in.random);
  SmallVector<Value> absent;
  for (Value logit : gather(slots.ids, in.width,
                            [&](Value expert) { return readLogit(expert); }))
    slots.weights.push_back(shareOf(logit));
  for (Value own : slots.ids)
    absent.push_back(isEqual(own, id(-1)));
  return emptyAbsent(slots, absent);
}

/// The most likely subset: the positive logits, within the band.
TokenBodyResult ProbMoEBody::choose() {
  SmallVector<Value> logits, absent;
  TokenBodyResult slots;
  slots.ids = chooseLargest(band.max, logits).ids;
  for (auto [slot, logit] : llvm::enumerate(logits)) {
    slots.weights.push_back(shareOf(logit));
    Value isOut = isAbsent(logit);
    if (static_cast<int64_t>(slot) >= band.min)
      isOut = either(isOut, arith::CmpFOp::create(b, arith::CmpFPredicate::OLE,
                                                  logit, real(0.0)));
    absent.push_back(isOut);
  }
  slots = emptyAbsent(slots, absent);
  if (normalize == Normalize::none)
    return slots;
  Value total;
  for (Value weight : slots.weights)
    total = total ? add(total, weight) : weight;
  for (Value &weight : slots.weights)
    weight = div(weight, total);
  return emptyAbsent(slots, absent);
}

//===----------------------------------------------------------------------===//
// MOESART
//===----------------------------------------------------------------------===//

class MoesartBody : public SampledBody {
public:
  MoesartBody(ImplicitLocOpBuilder &b, const TokenBodyInputs &inputs,
              MoesartAttr router)
      : SampledBody(b, inputs), router(router) {}

  TokenBodyResult build() { return in.random ? sample() : choose(); }

private:
  TokenBodyResult choose();
  TokenBodyResult sample();
  /// One expert by inverse CDF from the shares in `left`.
  Value drawOne(Value left, Value uniform);
  /// Weights of slots that were drawn `counts` times, -1 ids never.
  SmallVector<Value> weigh(ValueRange ids, ValueRange counts, Value uniform);

  MoesartAttr router;
};

TokenBodyResult MoesartBody::choose() {
  SmallVector<Value> logits, absent;
  TokenBodyResult slots;
  slots.ids = chooseLargest(router.getK(), logits).ids;
  Value count = real(0.0);
  for (Value logit : logits) {
    absent.push_back(isAbsent(logit));
    count = add(count, select(absent.back(), real(0.0), real(1.0)));
  }
  slots.weights.assign(logits.size(), div(real(1.0), count));
  return emptyAbsent(slots, absent);
}

Value MoesartBody::drawOne(Value left, Value uniform) {
  Value total = loop(in.width, real(0.0),
                     [&](Value expert, ValueRange so) -> SmallVector<Value> {
                       return {add(so[0], read(left, expert))};
                     })[0];
  Value threshold = mul(uniform, total);
  // The first whose cumulative share is above the threshold; the last that has
  // a share where rounding leaves none.
  return loop(in.width, {real(0.0), id(-1), flag(false)},
              [&](Value expert, ValueRange so) -> SmallVector<Value> {
                Value share = read(left, expert);
                Value cumulative = add(so[0], share);
                Value has = isGreater(share, real(0.0));
                Value moves = both(has, negate(so[2]));
                Value number = select(moves, idOf(expert), so[1]);
                Value isAbove = isLess(threshold, cumulative);
                return {cumulative, number, either(so[2], both(has, isAbove))};
              })[1];
}

SmallVector<Value> MoesartBody::weigh(ValueRange ids, ValueRange counts,
                                      Value uniform) {
  int64_t k = router.getK();
  Value full = real(0.0), draws = real(0.0);
  for (auto [own, count] : llvm::zip(ids, counts)) {
    Value isFull = negate(isEqual(own, id(-1)));
    full = add(full, select(isFull, real(1.0), real(0.0)));
    draws = add(draws, count);
  }
  SmallVector<Value> terms;
  if (router.getWeighting() == SampleWeighting::zero) {
    llvm::append_range(terms, counts);
  } else {
    SmallVector<Value> logits =
        gather(ids, in.width, [&](Value expert) { return readLogit(expert); });
    // floor(u m), at most m - 1: compared with each slot's number.
    Value place = mul(uniform, full);
    Value others = larger(sub(draws, real(1.0)), real(1.0));
    for (int64_t slot = 0; slot < k; ++slot) {
      Value share = mul(counts[slot], shareOf(logits[slot]));
      if (router.getWeighting() == SampleWeighting::large) {
        terms.push_back(share);
        continue;
      }
      Value low = real(static_cast<double>(slot));
      Value high = real(static_cast<double>(slot + 1));
      Value isKept = both(negate(isLess(place, low)), isLess(place, high));
      terms.push_back(select(isKept, share, div(counts[slot], others)));
    }
  }
  Value total;
  for (auto [own, term] : llvm::zip(ids, terms)) {
    term = select(isEqual(own, id(-1)), real(0.0), term);
    total = total ? add(total, term) : term;
  }
  for (Value &term : terms)
    term = div(term, total);
  return terms;
}

TokenBodyResult MoesartBody::sample() {
  emitSoftmax(1.0 / router.getTemperature().convertToDouble());
  int64_t k = router.getK();
  Value left = loop(in.width, makeRow({in.width}),
                    [&](Value expert, ValueRange row) -> SmallVector<Value> {
                      Value share = shareOf(readLogit(expert));
                      return {write(share, row[0], expert)};
                    })[0];
  Value isBad = arith::CmpFOp::create(b, arith::CmpFPredicate::UNO, sum, sum);
  TokenBodyResult slots;
  SmallVector<Value> counts;
  for (int64_t draw = 0; draw < k; ++draw) {
    Value drawn = drawOne(left, emitDraw(*this, *in.random, draw));
    // A row with a NaN draws nothing; its ids are the first ones.
    drawn = select(isBad, id(draw), drawn);
    Value count = real(1.0), number = drawn;
    if (router.getReplacement()) {
      for (auto [own, times] : llvm::zip(slots.ids, counts)) {
        Value again = isEqual(own, drawn);
        times = select(again, add(times, real(1.0)), times);
        number = select(again, id(-1), number);
        count = select(again, real(0.0), count);
      }
    } else if (draw + 1 < k) {
      left = loop(in.width, left,
                  [&](Value expert, ValueRange row) -> SmallVector<Value> {
                    Value isDrawn = isEqual(drawn, idOf(expert));
                    Value share =
                        select(isDrawn, real(0.0), read(row[0], expert));
                    return {write(share, row[0], expert)};
                  })[0];
    }
    count = select(isEqual(number, id(-1)), real(0.0), count);
    slots.ids.push_back(number);
    counts.push_back(count);
  }
  // Empty slots behind the full ones, in the order of the first draws.
  if (router.getReplacement())
    for (int64_t round = 1; round < k; ++round)
      for (int64_t slot = 0; slot + round < k; ++slot) {
        Value isGap = isEqual(slots.ids[slot], id(-1));
        auto swap = [&](SmallVectorImpl<Value> &values) {
          Value first = select(isGap, values[slot + 1], values[slot]);
          Value second = select(isGap, values[slot], values[slot + 1]);
          values[slot] = first;
          values[slot + 1] = second;
        };
        swap(slots.ids);
        swap(counts);
      }
  Value uniform = emitDraw(*this, *in.random, k);
  slots.weights = weigh(slots.ids, counts, uniform);
  SmallVector<Value> absent;
  for (Value own : slots.ids)
    absent.push_back(isEqual(own, id(-1)));
  return emptyAbsent(slots, absent);
}

//===----------------------------------------------------------------------===//
// Noisy top-k
//===----------------------------------------------------------------------===//

class NoisyTopKBody : public SampledBody {
public:
  NoisyTopKBody(ImplicitLocOpBuilder &b, const TokenBodyInputs &inputs,
                NoisyTopKAttr router)
      : SampledBody(b, inputs), router(router) {}

  TokenBodyResult build();

private:
  NoisyTopKAttr router;
};

TokenBodyResult NoisyTopKBody::build() {
  bool isClean = router.getWeights() == NoisyWeights::clean;
  if (isClean)
    emitSoftmax();
  Value clean = in.logits;
  if (in.random)
    in.logits = emitNoisyRow(*this, router.getSettings(), *in.random, in.logits,
                             in.noise, in.width);
  if (router.getWeights() == NoisyWeights::all)
    emitSoftmax();
  SmallVector<Value> logits, absent;
  TokenBodyResult slots;
  slots.ids = chooseLargest(router.getK(), logits).ids;
  for (Value logit : logits)
    absent.push_back(isAbsent(logit));
  if (router.getWeights() == NoisyWeights::chosen) {
    slots.weights = weighChosen(logits, absent);
    return emptyAbsent(slots, absent);
  }
  if (isClean && in.random)
    logits = gather(slots.ids, in.width,
                    [&](Value expert) { return read(clean, expert); });
  for (Value logit : logits)
    slots.weights.push_back(shareOf(logit));
  return emptyAbsent(slots, absent);
}

//===----------------------------------------------------------------------===//
// Models
//===----------------------------------------------------------------------===//

struct ExactKModel
    : public TokenBodyAttrInterface::ExternalModel<ExactKModel, ExactKAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    auto router = cast<ExactKAttr>(attr);
    // The size is given, so the sign of a logit says nothing.
    return ProbMoEBody(b, inputs, {router.getK(), router.getK()},
                       router.getNormalize())
        .build();
  }
};

struct DynamicKModel
    : public TokenBodyAttrInterface::ExternalModel<DynamicKModel,
                                                   DynamicKAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    auto router = cast<DynamicKAttr>(attr);
    return ProbMoEBody(b, inputs, {router.getMin(), router.getMax()},
                       router.getNormalize())
        .build();
  }
};

struct MoesartModel
    : public TokenBodyAttrInterface::ExternalModel<MoesartModel, MoesartAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    return MoesartBody(b, inputs, cast<MoesartAttr>(attr)).build();
  }
};

struct NoisyTopKModel
    : public TokenBodyAttrInterface::ExternalModel<NoisyTopKModel,
                                                   NoisyTopKAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    return NoisyTopKBody(b, inputs, cast<NoisyTopKAttr>(attr)).build();
  }
};

} // namespace

void moe::registerSampledTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    ExactKAttr::attachInterface<ExactKModel>(*context);
    DynamicKAttr::attachInterface<DynamicKModel>(*context);
    MoesartAttr::attachInterface<MoesartModel>(*context);
    NoisyTopKAttr::attachInterface<NoisyTopKModel>(*context);
  });
}
