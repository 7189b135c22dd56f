//===- TopKTokenVJP.cpp - The backward of #moe.top_k ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../TopKWeights.h"
#include "TokenVJPBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/ScoreSlope.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Roundings of scores and weights count as the identity.
class TopKBackward : public TokenVJPBody {
public:
  TopKBackward(ImplicitLocOpBuilder &b, TopKAttr router,
               const TokenVJPInputs &inputs)
      : TokenVJPBody(b, inputs), router(router),
        softcapOf(router.getSoftcap().convertToDouble()) {
    raw = in.logits;
    if (softcapOf > 0.0)
      in.logits = mapRow(
          [&](Value expert) { return softcap(read(raw, expert), softcapOf); });
  }

  TokenVJPResult build();

private:
  /// Whether a softmax's sum over all cancels: the weights are a softmax over
  /// the chosen, and its backward does not underflow with the others'.
  bool sumCancels() const {
    return isSoftmax() && router.getNormalize() == Normalize::sum &&
           router.getEps().isZero();
  }
  bool isOverChosen() const {
    return router.getDomain() == ScoreDomain::topk || sumCancels();
  }
  bool isSoftmax() const { return router.getScore() == ScoreKind::softmax; }
  Value pullScores(ArrayRef<Value> scores, ArrayRef<Value> logits,
                   ArrayRef<Value> own);
  Value pullSoftcap(Value row);

  TopKAttr router;
  double softcapOf;
  Value raw; ///< The logits before the cap; in.logits are behind it.
};

/// The row of (capped) logits from the cotangents of the chosen's scores.
Value TopKBackward::pullScores(ArrayRef<Value> scores, ArrayRef<Value> logits,
                               ArrayRef<Value> own) {
  if (isSoftmax() && !isOverChosen())
    return pullSoftmax(scores, own);
  if (isSoftmax())
    return scatter(pullChosenSoftmax(scores, own));
  SmallVector<Value> pulled;
  for (auto [score, logit, cotangent] : llvm::zip(scores, logits, own))
    pulled.push_back(
        mul(cotangent, emitScoreSlope(*this, router.getScore(), logit, score)));
  return scatter(pulled);
}

/// cap tanh(r / cap) has the slope 1 - (r' / cap)^2.
Value TopKBackward::pullSoftcap(Value row) {
  if (softcapOf <= 0.0)
    return row;
  return mapRow([&](Value expert) {
    return mul(read(row, expert),
               emitSoftcapSlope(*this, readLogit(expert), softcapOf));
  });
}

TokenVJPResult TopKBackward::build() {
  SmallVector<Value> logits =
      gatherChosen([&](Value expert) { return readLogit(expert); });
  SmallVector<Value> scores;
  if (isSoftmax() && isOverChosen()) {
    scores = weighChosenLogits(logits);
  } else if (isSoftmax()) {
    emitSoftmax();
    for (Value logit : logits)
      scores.push_back(shareOf(logit));
  } else {
    for (Value logit : logits)
      scores.push_back(score(router.getScore(), logit));
  }
  for (auto [own, isValid] : llvm::zip(scores, valid))
    own = select(isValid, own, real(0.0));

  SmallVector<Value> factors;
  if (in.expertScale)
    factors = gatherChosen(
        [&](Value expert) { return readShared(in.expertScale, expert); });
  SmallVector<Value> outputs(scores), inputs(scores);
  llvm::append_range(inputs, factors);
  emitTopKWeights(*this, router, /*isNormalized=*/sumCancels(), outputs,
                  factors, valid);
  SmallVector<Value> pulled = pullSlots(outputs, cotangents, inputs);
  ArrayRef<Value> all(pulled);

  TokenVJPResult result;
  result.logits =
      pullSoftcap(pullScores(scores, logits, all.take_front(scores.size())));
  if (in.expertScale)
    result.expertScale = scatter(all.drop_front(scores.size()));
  return result;
}

struct TopKVJPModel
    : public TokenVJPAttrInterface::ExternalModel<TopKVJPModel, TopKAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    return TopKBackward(b, cast<TopKAttr>(attr), inputs).build();
  }
};

} // namespace

void moe::registerTopKVJPModel(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    TopKAttr::attachInterface<TopKVJPModel>(*context);
  });
}
