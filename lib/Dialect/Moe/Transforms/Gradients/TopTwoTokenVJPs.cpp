//===- TopTwoTokenVJPs.cpp - Backwards of routers of two experts ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../MixerRound.h"
#include "TokenVJPBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// GShard
//===----------------------------------------------------------------------===//

class GShardBackward : public TokenVJPBody {
public:
  GShardBackward(ImplicitLocOpBuilder &b, const TokenVJPInputs &inputs,
                 GShardAttr router)
      : TokenVJPBody(b, inputs), router(router) {}

  TokenVJPResult build();

private:
  bool isBefore() const { return router.getNormalize() == NormalizeAt::before; }
  void findDropped();

  GShardAttr router;
};

/// A second that was not kept is part of the sum all the same where gates are
/// divided before: it is the largest but for the first. A drawn one is kept.
void GShardBackward::findDropped() {
  bool isDrawn = in.random && router.getPolicy() == SecondPolicy::sampling;
  if (!isBefore() || isDrawn || router.getPolicy() == SecondPolicy::all)
    return;
  Value first = ids[0];
  Pick second =
      chooseOne([&](Value expert) { return readLeft(expert, first); });
  ids[1] = select(valid[1], ids[1], second.id);
  // A token without a first has no gates.
  valid[1] = either(valid[1], both(valid[0], negate(isAbsent(second.logit))));
}

TokenVJPResult GShardBackward::build() {
  emitSoftmax();
  findDropped();
  SmallVector<Value> shares;
  for (auto [logit, isValid] :
       llvm::zip(gatherChosen([&](Value expert) { return readLogit(expert); }),
                 valid))
    shares.push_back(select(isValid, shareOf(logit), real(0.0)));
  Value eps = real(router.getEps().convertToDouble());
  Value sum = add(shares[0], shares[1]);
  Value total = isBefore() ? add(sum, eps) : larger(sum, eps);
  SmallVector<Value> gates = {div(shares[0], total), div(shares[1], total)};
  TokenVJPResult result;
  result.logits = pullSoftmax(shares, pullSlots(gates, cotangents, shares));
  return result;
}

//===----------------------------------------------------------------------===//
// SparseMixer
//===----------------------------------------------------------------------===//

class SparseMixerBackward : public TokenVJPBody {
public:
  SparseMixerBackward(ImplicitLocOpBuilder &b, const TokenVJPInputs &inputs,
                      SparseMixerAttr router)
      : TokenVJPBody(b, inputs), router(router) {}

  TokenVJPResult build();

private:
  Value findTop(Value struckOut);

  SparseMixerAttr router;
};

Value SparseMixerBackward::findTop(Value struckOut) {
  return loop(in.width, infinity(/*isNegative=*/true),
              [&](Value expert, ValueRange so) -> SmallVector<Value> {
                Value logit = readLeft(expert, struckOut);
                return {arith::MaximumFOp::create(b, so[0], logit)};
              })[0];
}

/// A round's choice i with the share w has the gradient c w (onehot(i) - p):
/// the factor of the forward is no part of it.
TokenVJPResult SparseMixerBackward::build() {
  SmallVector<Value> logits =
      gatherChosen([&](Value expert) { return readLogit(expert); });
  SmallVector<MixerRound> rounds;
  SmallVector<Value> slopes;
  for (int64_t round = 0; round < 2; ++round) {
    Value struckOut = round == 1 ? ids[0] : Value();
    rounds.emplace_back(*this, router, findTop(struckOut), struckOut);
    Value slope = mul(cotangents[round], rounds.back().shareOf(logits[round]));
    slopes.push_back(select(valid[round], slope, real(0.0)));
  }
  TokenVJPResult result;
  result.logits = scatter(slopes, [&](Value expert, Value sum) {
    for (auto [round, mixer] : llvm::enumerate(rounds)) {
      Value share = mixer.shareOf(mixer.readMasked(expert));
      // A round without anybody has no shares.
      share = select(valid[round], share, real(0.0));
      sum = sub(sum, mul(slopes[round], share));
    }
    return sum;
  });
  return result;
}

//===----------------------------------------------------------------------===//
// Models
//===----------------------------------------------------------------------===//

struct GShardVJPModel
    : public TokenVJPAttrInterface::ExternalModel<GShardVJPModel, GShardAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    return GShardBackward(b, inputs, cast<GShardAttr>(attr)).build();
  }
};

struct SparseMixerVJPModel
    : public TokenVJPAttrInterface::ExternalModel<SparseMixerVJPModel,
                                                  SparseMixerAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    return SparseMixerBackward(b, inputs, cast<SparseMixerAttr>(attr)).build();
  }
  bool isDerivative(Attribute, bool training) const { return !training; }
};

} // namespace

void moe::registerTopTwoVJPModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    GShardAttr::attachInterface<GShardVJPModel>(*context);
    SparseMixerAttr::attachInterface<SparseMixerVJPModel>(*context);
  });
}
