//===- SampledTokenVJPs.cpp - Backwards of routers that sample ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TokenVJPBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/NoiseBody.h"
#include "moe/Dialect/Moe/Utils/SubsetBody.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// ProbMoE: exact k and dynamic k
//===----------------------------------------------------------------------===//

class ProbMoEBackward : public TokenVJPBody {
public:
  ProbMoEBackward(ImplicitLocOpBuilder &b, const TokenVJPInputs &inputs,
                  SubsetBand band, Normalize normalize)
      : TokenVJPBody(b, inputs), band(band), normalize(normalize) {}

  TokenVJPResult build();

private:
  SubsetBand band;
  Normalize normalize;
};

/// In training the weights stand for m pi on the sample, with m the marginals
/// and 1 for their value: with c the cotangents,
/// dr = pull of c through pi + Cov(z) (c pi on the sample).
TokenVJPResult ProbMoEBackward::build() {
  emitSoftmax();
  SmallVector<Value> shares;
  for (auto [logit, isValid] :
       llvm::zip(gatherChosen([&](Value expert) { return readLogit(expert); }),
                 valid))
    shares.push_back(select(isValid, shareOf(logit), real(0.0)));
  TokenVJPResult result;
  if (!in.random) {
    SmallVector<Value> own = cotangents;
    if (normalize == Normalize::sum) {
      Value total = real(0.0);
      SmallVector<Value> outputs;
      for (Value share : shares)
        total = add(total, share);
      for (Value share : shares)
        outputs.push_back(div(share, total));
      own = pullSlots(outputs, cotangents, shares);
    }
    result.logits = pullSoftmax(shares, own);
    return result;
  }
  SmallVector<Value> direction;
  for (auto [share, cotangent] : llvm::zip(shares, cotangents))
    direction.push_back(mul(share, cotangent));
  SubsetBody subsets(b, type, in.logits, in.width, band);
  Value covariance = subsets.emitCovariance(scatter(direction));
  Value mean = dot(shares, cotangents);
  result.logits = scatter(cotangents, [&](Value expert, Value sum) {
    Value pulled = mul(shareOf(readLogit(expert)), sub(sum, mean));
    return add(pulled, read(covariance, expert));
  });
  return result;
}

//===----------------------------------------------------------------------===//
// MOESART
//===----------------------------------------------------------------------===//

class MoesartBackward : public TokenVJPBody {
public:
  MoesartBackward(ImplicitLocOpBuilder &b, const TokenVJPInputs &inputs,
                  MoesartAttr router)
      : TokenVJPBody(b, inputs), router(router) {}

  TokenVJPResult build();

private:
  Value countFull();
  SmallVector<Value> findKept();
  SmallVector<Value> findCounts(ArrayRef<Value> shares, ArrayRef<Value> kept);
  Value roundToCount(Value number);

  MoesartAttr router;
};

Value MoesartBackward::countFull() {
  Value full = real(0.0);
  for (Value isValid : valid)
    full = add(full, select(isValid, real(1.0), real(0.0)));
  return full;
}

/// Which slot keeps its logit: floor(u m) of the m drawn, u draw k.
SmallVector<Value> MoesartBackward::findKept() {
  Value place = mul(emitDraw(*this, *in.random, router.getK()), countFull());
  SmallVector<Value> kept;
  for (int64_t slot = 0; slot < router.getK(); ++slot) {
    Value low = real(static_cast<double>(slot));
    Value high = real(static_cast<double>(slot + 1));
    kept.push_back(both(negate(isLess(place, low)), isLess(place, high)));
  }
  return kept;
}

Value MoesartBackward::roundToCount(Value number) {
  return math::FloorOp::create(b, add(number, real(0.5)));
}

/// How often each expert was drawn, from its weight: weights of the law of the
/// sample are proportional to counts, but for the factors that are undone here.
SmallVector<Value> MoesartBackward::findCounts(ArrayRef<Value> shares,
                                               ArrayRef<Value> kept) {
  SmallVector<Value> counts(valid.size(), real(1.0));
  if (!router.getReplacement())
    return counts;
  double k = static_cast<double>(router.getK());
  Value total = real(0.0);
  SmallVector<Value> parts;
  if (router.getWeighting() == SampleWeighting::large) {
    for (auto [weight, share, isValid] : llvm::zip(weights, shares, valid)) {
      parts.push_back(select(isValid, div(weight, share), real(0.0)));
      total = add(total, parts.back());
    }
    for (auto [count, part] : llvm::zip(counts, parts))
      count = roundToCount(div(mul(part, real(k)), total));
    return counts;
  }
  // With r the others' weights over the kept one's, n_j of the kept share g:
  // r = (k - n_j) / ((k - 1) n_j g).
  Value own = real(0.0), others = real(0.0), share = real(0.0);
  for (auto [weight, isKept, isValid, g] :
       llvm::zip(weights, kept, valid, shares)) {
    own = select(isKept, weight, own);
    share = select(isKept, g, share);
    Value other = select(isKept, real(0.0), weight);
    others = add(others, select(isValid, other, real(0.0)));
  }
  Value ratio = mul(mul(div(others, own), share), real(k - 1.0));
  Value ownCount = roundToCount(div(real(k), add(real(1.0), ratio)));
  Value unit = div(mul(mul(ownCount, share), real(k - 1.0)), own);
  for (auto [count, weight, isKept] : llvm::zip(counts, weights, kept))
    count = select(isKept, ownCount, roundToCount(mul(weight, unit)));
  return counts;
}

TokenVJPResult MoesartBackward::build() {
  TokenVJPResult result;
  // Weights of 1 / k, or n / k, whatever the logits.
  if (!in.random || router.getWeighting() == SampleWeighting::zero) {
    result.logits = mapRow([&](Value) { return real(0.0); });
    return result;
  }
  emitSoftmax(1.0 / router.getTemperature().convertToDouble());
  SmallVector<Value> shares;
  for (auto [logit, isValid] :
       llvm::zip(gatherChosen([&](Value expert) { return readLogit(expert); }),
                 valid))
    shares.push_back(select(isValid, shareOf(logit), real(0.0)));
  bool keepsOne = router.getWeighting() == SampleWeighting::small_random;
  SmallVector<Value> kept;
  if (keepsOne)
    kept = findKept();
  SmallVector<Value> counts = findCounts(shares, kept);
  Value draws = real(0.0);
  for (auto [count, isValid] : llvm::zip(counts, valid))
    draws = add(draws, select(isValid, count, real(0.0)));
  Value others = larger(sub(draws, real(1.0)), real(1.0));
  Value total = real(0.0);
  SmallVector<Value> terms;
  for (auto [slot, share] : llvm::enumerate(shares)) {
    Value term = mul(counts[slot], share);
    if (keepsOne)
      term = select(kept[slot], term, div(counts[slot], others));
    terms.push_back(select(valid[slot], term, real(0.0)));
    total = add(total, terms.back());
  }
  SmallVector<Value> outputs;
  for (Value term : terms)
    outputs.push_back(div(term, total));
  result.logits = pullSoftmax(shares, pullSlots(outputs, cotangents, shares));
  return result;
}

//===----------------------------------------------------------------------===//
// Noisy top-k
//===----------------------------------------------------------------------===//

class NoisyTopKBackward : public TokenVJPBody {
public:
  NoisyTopKBackward(ImplicitLocOpBuilder &b, const TokenVJPInputs &inputs,
                    NoisyTopKAttr router)
      : TokenVJPBody(b, inputs), router(router) {}

  TokenVJPResult build();

private:
  NoisyTopKAttr router;
};

/// A noisy logit is logit + sigma n, n drawn again by its number, sigma =
/// softplus(raw) + floor, whose slope is the logistic function.
TokenVJPResult NoisyTopKBackward::build() {
  bool isClean = router.getWeights() == NoisyWeights::clean;
  Value clean = in.logits;
  if (in.random && !isClean)
    in.logits = emitNoisyRow(*this, router.getSettings(), *in.random, clean,
                             in.noise, in.width);
  SmallVector<Value> logits =
      gatherChosen([&](Value expert) { return readLogit(expert); });
  TokenVJPResult result;
  if (router.getWeights() == NoisyWeights::chosen) {
    result.logits =
        scatter(pullChosenSoftmax(weighChosenLogits(logits), cotangents));
  } else {
    emitSoftmax();
    SmallVector<Value> shares;
    for (auto [logit, isValid] : llvm::zip(logits, valid))
      shares.push_back(select(isValid, shareOf(logit), real(0.0)));
    result.logits = pullSoftmax(shares, cotangents);
  }
  if (!in.noise)
    return result;
  if (isClean) {
    result.noise = mapRow([&](Value) { return real(0.0); });
    return result;
  }
  Value normals = emitNormalRow(*this, *in.random, in.width);
  result.noise = mapRow([&](Value expert) {
    Value slope = mul(read(normals, expert), logistic(read(in.noise, expert)));
    return mul(read(result.logits, expert), slope);
  });
  return result;
}

//===----------------------------------------------------------------------===//
// Models
//===----------------------------------------------------------------------===//

struct ExactKVJPModel
    : public TokenVJPAttrInterface::ExternalModel<ExactKVJPModel, ExactKAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    auto router = cast<ExactKAttr>(attr);
    return ProbMoEBackward(b, inputs, {router.getK(), router.getK()},
                           router.getNormalize())
        .build();
  }
  bool isDerivative(Attribute, bool training) const { return !training; }
};

struct DynamicKVJPModel
    : public TokenVJPAttrInterface::ExternalModel<DynamicKVJPModel,
                                                  DynamicKAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    auto router = cast<DynamicKAttr>(attr);
    return ProbMoEBackward(b, inputs, {router.getMin(), router.getMax()},
                           router.getNormalize())
        .build();
  }
  bool isDerivative(Attribute, bool training) const { return !training; }
};

struct MoesartVJPModel
    : public TokenVJPAttrInterface::ExternalModel<MoesartVJPModel,
                                                  MoesartAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    return MoesartBackward(b, inputs, cast<MoesartAttr>(attr)).build();
  }
};

struct NoisyTopKVJPModel
    : public TokenVJPAttrInterface::ExternalModel<NoisyTopKVJPModel,
                                                  NoisyTopKAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    return NoisyTopKBackward(b, inputs, cast<NoisyTopKAttr>(attr)).build();
  }
};

} // namespace

void moe::registerSampledVJPModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    ExactKAttr::attachInterface<ExactKVJPModel>(*context);
    DynamicKAttr::attachInterface<DynamicKVJPModel>(*context);
    MoesartAttr::attachInterface<MoesartVJPModel>(*context);
    NoisyTopKAttr::attachInterface<NoisyTopKVJPModel>(*context);
  });
}
