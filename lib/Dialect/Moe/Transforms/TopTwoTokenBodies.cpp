//===- TopTwoTokenBodies.cpp - Token bodies of routers of two experts -----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MixerRound.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class TopTwoBody : public SampledBody {
public:
  using SampledBody::SampledBody;

protected:
  /// The two largest logits.
  std::pair<Pick, Pick> chooseTwo() {
    SmallVector<Value> logits;
    SmallVector<Value> ids = chooseLargest(2, logits).ids;
    return {{ids[0], logits[0]}, {ids[1], logits[1]}};
  }
  Value logitOf(Value id) {
    return gather({id}, in.width,
                  [&](Value expert) { return readLogit(expert); })[0];
  }
  /// Gumbel numbers of the draws 0 to count - 1.
  Value emitGumbelRow(int64_t count) {
    return emitDrawnRow(*this, *in.random, count, emitGumbel,
                        [](Value, Value gumbel) { return gumbel; });
  }
};

//===----------------------------------------------------------------------===//
// GShard
//===----------------------------------------------------------------------===//

class GShardBody : public TopTwoBody {
public:
  GShardBody(ImplicitLocOpBuilder &b, const TokenBodyInputs &inputs,
             GShardAttr router)
      : TopTwoBody(b, inputs), router(router) {}

  TokenBodyResult build();

private:
  bool isDrawn(SecondPolicy policy) {
    return in.random && router.getPolicy() == policy;
  }
  Pick drawSecond(Value first);
  /// Whether the second is kept; null where it always is.
  Value isKept(Value gate);

  GShardAttr router;
};

Pick GShardBody::drawSecond(Value first) {
  Value gumbels = emitGumbelRow(in.width);
  Pick drawn = chooseOne([&](Value expert) {
    return add(readLeft(expert, first), read(gumbels, expert));
  });
  // The noise leaves -inf as it is.
  Value isNone = isAbsent(drawn.logit);
  return {drawn.id, select(isNone, drawn.logit, logitOf(drawn.id))};
}

Value GShardBody::isKept(Value gate) {
  Value threshold = real(router.getThreshold().convertToDouble());
  if (router.getPolicy() == SecondPolicy::none)
    return flag(false);
  if (router.getPolicy() == SecondPolicy::threshold)
    return isGreater(gate, threshold);
  if (isDrawn(SecondPolicy::random))
    return isLess(emitDraw(*this, *in.random, in.width), div(gate, threshold));
  return {};
}

TokenBodyResult GShardBody::build() {
  emitSoftmax();
  auto [first, second] = chooseTwo();
  if (isDrawn(SecondPolicy::sampling))
    second = drawSecond(first.id);
  Value isAlone = isAbsent(second.logit);
  Value gate = shareOf(first.logit);
  Value other = select(isAlone, real(0.0), shareOf(second.logit));
  Value eps = real(router.getEps().convertToDouble());
  bool isBefore = router.getNormalize() == NormalizeAt::before;
  if (isBefore) {
    Value total = add(add(gate, other), eps);
    gate = div(gate, total);
    other = div(other, total);
  }
  if (Value kept = isKept(other)) {
    isAlone = either(isAlone, negate(kept));
    other = select(isAlone, real(0.0), other);
  }
  if (!isBefore) {
    Value total = larger(add(gate, other), eps);
    gate = div(gate, total);
    other = div(other, total);
  }
  TokenBodyResult slots{{first.id, second.id}, {gate, other}};
  return emptyAbsent(slots, {isAbsent(first.logit), isAlone});
}

//===----------------------------------------------------------------------===//
// SparseMixer
//===----------------------------------------------------------------------===//

class SparseMixerBody : public TopTwoBody {
public:
  SparseMixerBody(ImplicitLocOpBuilder &b, const TokenBodyInputs &inputs,
                  SparseMixerAttr router)
      : TopTwoBody(b, inputs), router(router) {}

  TokenBodyResult build();

private:
  SparseMixerAttr router;
};

TokenBodyResult SparseMixerBody::build() {
  auto [first, second] = chooseTwo();
  Value gumbels;
  if (in.random)
    gumbels = emitGumbelRow(2 * in.width);
  TokenBodyResult slots;
  SmallVector<Value> absent;
  Value isBad;
  for (int64_t round = 0; round < 2; ++round) {
    // The largest left: the second, unless it is the one that was taken.
    Pick best = first;
    Value out;
    if (round == 1) {
      out = slots.ids[0];
      Value isTaken = isEqual(out, first.id);
      best = {select(isTaken, second.id, first.id),
              select(isTaken, second.logit, first.logit)};
    }
    MixerRound mixer(*this, router, best.logit, out);
    if (round == 0)
      isBad = arith::CmpFOp::create(b, arith::CmpFPredicate::UNO,
                                    mixer.getTotal(), mixer.getTotal());
    Pick taken = best;
    Value factor;
    if (in.random) {
      Value start = index(round * in.width);
      taken = chooseOne([&](Value expert) {
        Value draw = arith::AddIOp::create(b, start, expert);
        return add(mixer.readMasked(expert), read(gumbels, draw));
      });
      taken.logit = select(isAbsent(best.logit), best.logit, logitOf(taken.id));
      Value uniform = emitDraw(*this, *in.random, 2 * in.width + round);
      Value isWhole =
          either(isEqual(taken.id, best.id), isGreater(uniform, real(0.75)));
      factor =
          select(isWhole, real(1.0), real(router.getThird().convertToDouble()));
    }
    Value weight = mixer.shareOf(taken.logit);
    slots.ids.push_back(taken.id);
    slots.weights.push_back(factor ? mul(weight, factor) : weight);
    absent.push_back(isAbsent(taken.logit));
  }
  slots = emptyAbsent(slots, absent);
  for (auto [slot, own] : llvm::enumerate(ArrayRef<Pick>{first, second})) {
    slots.ids[slot] = select(isBad, own.id, slots.ids[slot]);
    slots.weights[slot] = select(isBad, nan(), slots.weights[slot]);
  }
  return slots;
}

//===----------------------------------------------------------------------===//
// Models
//===----------------------------------------------------------------------===//

struct GShardModel
    : public TokenBodyAttrInterface::ExternalModel<GShardModel, GShardAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    return GShardBody(b, inputs, cast<GShardAttr>(attr)).build();
  }
};

struct SparseMixerModel
    : public TokenBodyAttrInterface::ExternalModel<SparseMixerModel,
                                                   SparseMixerAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    return SparseMixerBody(b, inputs, cast<SparseMixerAttr>(attr)).build();
  }
};

} // namespace

void moe::registerTopTwoTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    GShardAttr::attachInterface<GShardModel>(*context);
    SparseMixerAttr::attachInterface<SparseMixerModel>(*context);
  });
}
