//===- TopKTokenBody.cpp - The token body of #moe.top_k -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TopKWeights.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/Selection.h"
#include <limits>

using namespace mlir;
using namespace mlir::moe;

/// Divides weights by their sum or norm.
static void normalize(BodyBuilder &body, TopKAttr router,
                      SmallVectorImpl<Value> &weights) {
  ImplicitLocOpBuilder &b = body.getBuilder();
  bool isSum = router.getNormalize() == Normalize::sum;
  double p = router.getP().convertToDouble();
  Value divisor;
  for (Value weight : weights) {
    Value term = weight;
    if (!isSum)
      term = math::PowFOp::create(b, math::AbsFOp::create(b, weight),
                                  body.real(p));
    divisor = divisor ? body.add(divisor, term) : term;
  }
  if (!isSum)
    divisor = math::PowFOp::create(b, divisor, body.real(1.0 / p));
  double eps = router.getEps().convertToDouble();
  if (router.getEpsMode() == EpsMode::clamp)
    divisor = arith::MaximumFOp::create(b, divisor, body.real(eps));
  else if (eps != 0.0)
    divisor = body.add(divisor, body.real(eps));
  for (Value &weight : weights)
    weight = body.div(weight, divisor);
}

void moe::emitTopKWeights(BodyBuilder &body, TopKAttr router, bool isNormalized,
                          SmallVectorImpl<Value> &weights,
                          ArrayRef<Value> factors, ValueRange valid) {
  auto emptyInvalid = [&] {
    for (auto [weight, isValid] : llvm::zip(weights, valid))
      weight = body.select(isValid, weight, body.real(0.0));
  };
  emptyInvalid();
  if (router.getNormalize() != Normalize::none && !isNormalized)
    normalize(body, router, weights);
  double scale = router.getScale().convertToDouble();
  if (scale != 1.0)
    for (Value &weight : weights)
      weight = body.mul(weight, body.real(scale));
  for (auto [weight, factor] : llvm::zip(weights, factors))
    weight = body.mul(weight, factor);
  // A token without any valid slot has divided by zero.
  emptyInvalid();
}

namespace {

/// Emits one body; the methods stand in the order of the formula.
class TopKBody {
public:
  TopKBody(ImplicitLocOpBuilder &b, TopKAttr router,
           const TokenBodyInputs &inputs)
      : b(b), order(b, inputs.computeType), router(router), in(inputs),
        type(inputs.computeType) {}

  TokenBodyResult build();

private:
  bool isLimited() const { return router.getKeptGroups() < router.getGroups(); }
  bool scoresAll() const { return router.getDomain() == ScoreDomain::all; }
  bool isSoftmax() const { return router.getScore() == ScoreKind::softmax; }
  /// Whether the chosen keys are the logits themselves.
  bool choosesByLogit() const {
    return !in.indices && !in.selectionBias && !isLimited();
  }
  /// Whether the sum of a softmax over all cancels when weights are normalised.
  bool sumCancels() {
    FloatType narrow = router.getScoreDtype();
    return isSoftmax() && scoresAll() && choosesByLogit() &&
           router.getNormalize() == Normalize::sum &&
           router.getEps().isZero() &&
           (!narrow || narrow.getWidth() >= type.getWidth());
  }
  /// Whether the choice compares scores rather than logits.
  bool choosesByScore() const {
    return scoresAll() &&
           (in.selectionBias ||
            (isLimited() && router.getGroupFill() == GroupFill::zero));
  }

  Value constant(double value) {
    return arith::ConstantOp::create(b, b.getFloatAttr(type, value));
  }
  Value negativeInfinity() {
    return arith::ConstantOp::create(
        b, FloatAttr::get(type, APFloat::getInf(type.getFloatSemantics(),
                                                /*Negative=*/true)));
  }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, x, y); }
  Value idConstant(int64_t value) {
    return arith::ConstantOp::create(b, b.getI32IntegerAttr(value));
  }
  Value isId(Value id, Value other) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::eq, id, other);
  }

  Value readShared(Value row, Value expert) {
    return BodyBuilder(b, type).readShared(row, expert);
  }
  Value readLogit(Value expert);
  Value roundScore(Value score);
  Value scoreOf(Value logit);
  Value unroundedScoreOf(Value logit);
  void emitSoftmaxStatistics(Value largest);
  Value emitLargestLogit();
  Value emitHasNaN();
  void emitScoreRow();
  Value floatKeyOf(Value expert);
  Value emitGroupScore(Value group);
  Value emitKeyInGroups(Value expert, const RankedKeys &kept);
  RankedKeys chooseExperts();
  SmallVector<Value> gatherAt(ValueRange ids,
                              llvm::function_ref<Value(Value)> read) {
    return BodyBuilder(b, type).gather(ids, in.width, read);
  }
  SmallVector<Value> weighOverChosen(ArrayRef<Value> logits, ValueRange valid);
  void finish(SmallVectorImpl<Value> &weights, ArrayRef<Value> ids,
              ValueRange valid);

  ImplicitLocOpBuilder &b;
  KeyOrder order;
  TopKAttr router;
  const TokenBodyInputs &in;
  FloatType type;
  Value softmaxMax, softmaxSum; ///< Over all experts.
  Value scoreRow;               ///< Scores of all experts, where needed.
};

Value TopKBody::readLogit(Value expert) {
  BodyBuilder body(b, type);
  return body.softcap(body.read(in.logits, expert),
                      router.getSoftcap().convertToDouble());
}

/// One rounding to the family's score dtype.
Value TopKBody::roundScore(Value score) {
  FloatType narrow = router.getScoreDtype();
  if (!narrow || narrow.getWidth() >= type.getWidth())
    return score;
  Value rounded = arith::TruncFOp::create(b, narrow, score);
  return arith::ExtFOp::create(b, type, rounded);
}

Value TopKBody::unroundedScoreOf(Value logit) {
  BodyBuilder body(b, type);
  if (!isSoftmax())
    return body.score(router.getScore(), logit);
  return body.div(body.exp(body.sub(logit, softmaxMax)), softmaxSum);
}

Value TopKBody::scoreOf(Value logit) {
  return roundScore(unroundedScoreOf(logit));
}

/// NaN counts as no logit.
Value TopKBody::emitLargestLogit() {
  return emitCountedLoop(
      b, in.width, negativeInfinity(),
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        Value logit = readLogit(expert);
        Value above = arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, logit,
                                            carried[0]);
        return {arith::SelectOp::create(b, above, logit, carried[0])};
      })[0];
}

Value TopKBody::emitHasNaN() {
  Value no = arith::ConstantOp::create(b, b.getBoolAttr(false));
  return emitCountedLoop(
      b, in.width, no,
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        Value logit = readLogit(expert);
        Value isNaN =
            arith::CmpFOp::create(b, arith::CmpFPredicate::UNO, logit, logit);
        return {arith::OrIOp::create(b, carried[0], isNaN)};
      })[0];
}

/// A NaN among the logits is in the sum, and so in all scores.
void TopKBody::emitSoftmaxStatistics(Value largest) {
  softmaxMax = largest;
  softmaxSum = emitCountedLoop(
      b, in.width, constant(0.0),
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        Value shifted = arith::SubFOp::create(b, readLogit(expert), softmaxMax);
        return {add(carried[0], math::ExpOp::create(b, shifted))};
      })[0];
}

/// Keeps the scores of all experts, for choices that read them again.
void TopKBody::emitScoreRow() {
  Value empty = tensor::EmptyOp::create(b, ArrayRef<int64_t>{in.width}, type);
  scoreRow = emitCountedLoop(
      b, in.width, empty,
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        Value score = scoreOf(readLogit(expert));
        return {tensor::InsertOp::create(b, score, carried[0], expert)};
      })[0];
}

/// What the choice compares, before groups.
Value TopKBody::floatKeyOf(Value expert) {
  Value key = choosesByScore()
                  ? tensor::ExtractOp::create(b, scoreRow, expert).getResult()
                  : readLogit(expert);
  return in.selectionBias ? add(key, readShared(in.selectionBias, expert))
                          : key;
}

/// The key of a group's score: its largest, or the sum of its two largest.
Value TopKBody::emitGroupScore(Value group) {
  int64_t size = in.width / router.getGroups();
  bool twoBest = router.getGroupScore() == GroupScore::top2sum && size > 1;
  Value sizeValue = arith::ConstantIndexOp::create(b, size);
  Value first = arith::MulIOp::create(b, group, sizeValue);
  RankedKeys best =
      emitTopK(b, order, twoBest ? 2 : 1, size, [&](Value member) {
        Value expert = arith::AddIOp::create(b, first, member);
        // Sums are of scores: a sum of logits orders groups differently.
        Value key =
            twoBest && scoreRow && !choosesByScore()
                ? tensor::ExtractOp::create(b, scoreRow, expert).getResult()
                : floatKeyOf(expert);
        return order.encode(key);
      });
  if (!twoBest)
    return best.keys[0];
  return order.encode(
      add(order.decode(best.keys[0]), order.decode(best.keys[1])));
}

/// The key of an expert, or the fill where its group was not kept.
Value TopKBody::emitKeyInGroups(Value expert, const RankedKeys &kept) {
  int64_t size = in.width / router.getGroups();
  Value sizeValue = arith::ConstantIndexOp::create(b, size);
  Value group = arith::IndexCastOp::create(
      b, b.getI32Type(), arith::DivUIOp::create(b, expert, sizeValue));
  Value isKept;
  for (Value id : kept.ids) {
    Value same = isId(id, group);
    isKept = isKept ? arith::OrIOp::create(b, isKept, same).getResult() : same;
  }
  Value fill = router.getGroupFill() == GroupFill::zero ? constant(0.0)
                                                        : negativeInfinity();
  return order.encode(
      arith::SelectOp::create(b, isKept, floatKeyOf(expert), fill));
}

RankedKeys TopKBody::chooseExperts() {
  if (!isLimited())
    return emitTopK(b, order, router.getK(), in.width, [&](Value expert) {
      return order.encode(floatKeyOf(expert));
    });
  RankedKeys kept =
      emitTopK(b, order, router.getKeptGroups(), router.getGroups(),
               [&](Value group) { return emitGroupScore(group); });
  return emitTopK(b, order, router.getK(), in.width,
                  [&](Value expert) { return emitKeyInGroups(expert, kept); });
}

/// The score function over the logits of the chosen alone, the largest first
/// where none can be empty.
SmallVector<Value> TopKBody::weighOverChosen(ArrayRef<Value> logits,
                                             ValueRange valid) {
  if (!isSoftmax())
    return llvm::map_to_vector(logits, [&](Value x) { return scoreOf(x); });
  SmallVector<Value> present(logits);
  if (!valid.empty())
    for (auto [logit, isValid] : llvm::zip(present, valid))
      logit = arith::SelectOp::create(b, isValid, logit, negativeInfinity());
  Value largest = present[0];
  if (!valid.empty())
    for (Value logit : ArrayRef(present).drop_front())
      largest = arith::MaximumFOp::create(b, largest, logit);
  Value sum;
  SmallVector<Value> powers;
  for (Value logit : present) {
    Value shifted = arith::SubFOp::create(b, logit, largest);
    powers.push_back(math::ExpOp::create(b, shifted));
    sum = sum ? add(sum, powers.back()) : powers.back();
  }
  return llvm::map_to_vector(powers, [&](Value power) {
    return roundScore(arith::DivFOp::create(b, power, sum));
  });
}

void TopKBody::finish(SmallVectorImpl<Value> &weights, ArrayRef<Value> ids,
                      ValueRange valid) {
  SmallVector<Value> factors;
  if (in.expertScale)
    factors = gatherAt(
        ids, [&](Value expert) { return readShared(in.expertScale, expert); });
  BodyBuilder body(b, type);
  emitTopKWeights(body, router, /*isNormalized=*/sumCancels(), weights, factors,
                  valid);
}

TokenBodyResult TopKBody::build() {
  bool needsStatistics = isSoftmax() && scoresAll() && !sumCancels();
  if (needsStatistics && !choosesByLogit())
    emitSoftmaxStatistics(emitLargestLogit());

  SmallVector<Value> ids, valid, weights;
  if (in.indices) {
    for (int64_t slot = 0; slot < router.getK(); ++slot) {
      Value place = arith::ConstantIndexOp::create(b, slot);
      ids.push_back(tensor::ExtractOp::create(b, in.indices, place));
      valid.push_back(arith::CmpIOp::create(b, arith::CmpIPredicate::sge,
                                            ids.back(), idConstant(0)));
    }
    weights = gatherAt(ids, [&](Value expert) {
      Value logit = readLogit(expert);
      return scoresAll() ? scoreOf(logit) : logit;
    });
    if (!scoresAll())
      weights = weighOverChosen(weights, valid);
    finish(weights, ids, valid);
    return {ids, weights};
  }

  if (choosesByScore() || (scoresAll() && isLimited()))
    emitScoreRow();
  RankedKeys chosen = chooseExperts();
  ids = chosen.ids;
  if (choosesByLogit()) {
    for (Value key : chosen.keys)
      weights.push_back(order.decode(key));
    if (needsStatistics)
      emitSoftmaxStatistics(weights[0]);
    if (scoresAll() && !sumCancels())
      for (Value &weight : weights)
        weight = scoreOf(weight);
  } else {
    weights = gatherAt(ids, [&](Value expert) -> Value {
      if (scoreRow)
        return tensor::ExtractOp::create(b, scoreRow, expert);
      return readLogit(expert);
    });
  }
  if (!scoresAll() || sumCancels())
    weights = weighOverChosen(weights, valid);
  if (sumCancels()) {
    Value hasNaN = emitHasNaN();
    Value nan = constant(std::numeric_limits<double>::quiet_NaN());
    for (Value &weight : weights)
      weight = arith::SelectOp::create(b, hasNaN, nan, weight);
  }
  finish(weights, ids, valid);
  return {ids, weights};
}

struct TopKTokenBodyModel
    : public TokenBodyAttrInterface::ExternalModel<TopKTokenBodyModel,
                                                   TopKAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    return TopKBody(b, cast<TopKAttr>(attr), inputs).build();
  }
};

} // namespace

void moe::registerTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    TopKAttr::attachInterface<TopKTokenBodyModel>(*context);
  });
}
