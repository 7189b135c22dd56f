//===- TopTwoTokenBodies.cpp - Token bodies of routers of two experts -----===//
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

using namespace mlir;
using namespace mlir::moe;

namespace {

/// An expert and its logit, -inf where there is none.
struct Pick {
  Value id;
  Value logit;
};

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
  /// The expert with the largest of the values.
  Pick chooseOne(llvm::function_ref<Value(Value expert)> value) {
    KeyOrder order(b, type);
    RankedKeys best = emitTopK(b, order, 1, in.width, [&](Value expert) {
      return order.encode(value(expert));
    });
    return {best.ids[0], order.decode(best.keys[0])};
  }
  Value logitOf(Value id) {
    return gather({id}, in.width,
                  [&](Value expert) { return readLogit(expert); })[0];
  }
  /// A logit, or -inf for the expert `struckOut`; null means nobody.
  Value readLeft(Value expert, Value struckOut) {
    Value logit = readLogit(expert);
    if (!struckOut)
      return logit;
    Value isOut = isEqual(struckOut, idOf(expert));
    return select(isOut, infinity(/*isNegative=*/true), logit);
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
  /// The logit of an expert of this round, -inf where it is masked.
  Value readMasked(Value expert);
  /// Makes `best` the top of a round without `out`, and sums over its softmax.
  void startRound(Pick best, Value out);

  SparseMixerAttr router;
  Value top;       ///< Largest logit of the round; 0 where there is none.
  Value struckOut; ///< The id of the first round, in the second.
  Value total;     ///< Sum of exp(logit - top) of those not masked.
};

Value SparseMixerBody::readMasked(Value expert) {
  Value logit = readLogit(expert);
  Value below = larger(math::AbsFOp::create(b, logit), top);
  // Not a number where both are 0, and masks nothing then.
  Value distance = div(sub(top, logit), below);
  Value limit = real(2.0 * router.getEps().convertToDouble());
  return select(isGreater(distance, limit), infinity(/*isNegative=*/true),
                readLeft(expert, struckOut));
}

void SparseMixerBody::startRound(Pick best, Value out) {
  struckOut = out;
  Value isNone = isAbsent(best.logit);
  top = select(isNone, real(0.0), best.logit);
  total = loop(in.width, real(0.0),
               [&](Value expert, ValueRange so) -> SmallVector<Value> {
                 return {add(so[0], exp(sub(readMasked(expert), top)))};
               })[0];
}

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
    startRound(best, out);
    if (round == 0)
      isBad = arith::CmpFOp::create(b, arith::CmpFPredicate::UNO, total, total);
    Pick taken = best;
    Value factor;
    if (in.random) {
      Value start = index(round * in.width);
      taken = chooseOne([&](Value expert) {
        Value draw = arith::AddIOp::create(b, start, expert);
        return add(readMasked(expert), read(gumbels, draw));
      });
      taken.logit = select(isAbsent(best.logit), best.logit, logitOf(taken.id));
      Value uniform = emitDraw(*this, *in.random, 2 * in.width + round);
      Value isWhole =
          either(isEqual(taken.id, best.id), isGreater(uniform, real(0.75)));
      factor =
          select(isWhole, real(1.0), real(router.getThird().convertToDouble()));
    }
    Value weight = div(exp(sub(taken.logit, top)), total);
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
