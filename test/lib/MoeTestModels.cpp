//===- MoeTestModels.cpp - Bodies attached from outside -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeTestDialect.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe_test;

namespace {

/// The scalars and loops that the bodies are made of.
class BodyBuilder {
public:
  BodyBuilder(ImplicitLocOpBuilder &b, const moe::TokenBodyInputs &inputs)
      : b(b), in(inputs), type(inputs.computeType) {}

  Value real(double value) {
    return arith::ConstantOp::create(b, b.getFloatAttr(type, value));
  }
  Value id(int64_t value) {
    return arith::ConstantOp::create(b, b.getI32IntegerAttr(value));
  }
  Value read(Value row, Value index) {
    return tensor::ExtractOp::create(b, row, index);
  }
  Value asId(Value index) {
    return arith::IndexCastOp::create(b, b.getI32Type(), index);
  }
  /// A loop over the experts that carries values.
  ValueRange forEachExpert(
      ValueRange inits,
      llvm::function_ref<SmallVector<Value>(Value, ValueRange)> body) {
    auto loop = scf::ForOp::create(
        b, arith::ConstantIndexOp::create(b, 0),
        arith::ConstantIndexOp::create(b, in.width),
        arith::ConstantIndexOp::create(b, 1), inits,
        [&](OpBuilder &, Location, Value expert, ValueRange carried) {
          scf::YieldOp::create(b, body(expert, carried));
        });
    return loop.getResults();
  }

protected:
  ImplicitLocOpBuilder &b;
  const moe::TokenBodyInputs &in;
  FloatType type;
};

class ThresholdBody : public BodyBuilder {
public:
  using BodyBuilder::BodyBuilder;

  moe::TokenBodyResult build(ThresholdAttr router);

private:
  Value keyOf(Value expert);
  Value sigmoid(Value logit);
};

/// What the choice compares, in the compute type.
Value ThresholdBody::keyOf(Value expert) {
  Value key = read(in.logits, expert);
  if (!in.selectionBias)
    return key;
  Value bias = read(in.selectionBias, expert);
  unsigned width = bias.getType().getIntOrFloatBitWidth();
  if (width < type.getWidth())
    bias = arith::ExtFOp::create(b, type, bias);
  else if (width > type.getWidth())
    bias = arith::TruncFOp::create(b, type, bias);
  return arith::AddFOp::create(b, key, bias);
}

Value ThresholdBody::sigmoid(Value logit) {
  Value power = math::ExpOp::create(b, arith::NegFOp::create(b, logit));
  return arith::DivFOp::create(b, real(1.0),
                               arith::AddFOp::create(b, real(1.0), power));
}

moe::TokenBodyResult ThresholdBody::build(ThresholdAttr router) {
  // A row of the token's own: what is left to choose from.
  Value none = arith::ConstantOp::create(
      b, FloatAttr::get(type, APFloat::getInf(type.getFloatSemantics(),
                                              /*Negative=*/true)));
  Value left = tensor::EmptyOp::create(b, ArrayRef<int64_t>{in.width}, type);
  left = forEachExpert(left, [&](Value expert, ValueRange carried) {
    return SmallVector<Value>{
        tensor::InsertOp::create(b, keyOf(expert), carried[0], expert)};
  })[0];
  moe::TokenBodyResult result;
  Value threshold = real(router.getThreshold().convertToDouble());
  for (int64_t slot = 0; slot < router.getK(); ++slot) {
    // The best key, its expert and its weight.
    ValueRange best = forEachExpert(
        {none, id(-1), real(0.0)}, [&](Value expert, ValueRange carried) {
          Value key = read(left, expert);
          Value better = arith::CmpFOp::create(b, arith::CmpFPredicate::OGT,
                                               key, carried[0]);
          SmallVector<Value> found = {key, asId(expert),
                                      sigmoid(read(in.logits, expert))};
          for (auto [value, previous] : llvm::zip(found, carried))
            value = arith::SelectOp::create(b, better, value, previous);
          return found;
        });
    Value chosen = best[1], weight = best[2];
    left = forEachExpert(left, [&](Value expert, ValueRange carried) {
      Value taken = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                          asId(expert), chosen);
      Value key =
          arith::SelectOp::create(b, taken, none, read(carried[0], expert));
      return SmallVector<Value>{
          tensor::InsertOp::create(b, key, carried[0], expert)};
    })[0];
    Value enough =
        arith::CmpFOp::create(b, arith::CmpFPredicate::OGE, weight, threshold);
    result.ids.push_back(arith::SelectOp::create(b, enough, chosen, id(-1)));
    result.weights.push_back(
        arith::SelectOp::create(b, enough, weight, real(0.0)));
  }
  return result;
}

/// A weight is the sigmoid w of its expert's logit, so that the logit has
/// c w (1 - w) of the weight's cotangent c.
class ThresholdBackward : public BodyBuilder {
public:
  ThresholdBackward(ImplicitLocOpBuilder &b, const moe::TokenVJPInputs &inputs)
      : BodyBuilder(b, inputs.forward), slots(inputs) {}

  moe::TokenVJPResult build();

private:
  const moe::TokenVJPInputs &slots;
};

moe::TokenVJPResult ThresholdBackward::build() {
  SmallVector<Value> shares;
  for (auto [weight, cotangent] : llvm::zip(slots.weights, slots.cotangents)) {
    Value rest = arith::SubFOp::create(b, real(1.0), weight);
    Value slope = arith::MulFOp::create(b, weight, rest);
    shares.push_back(arith::MulFOp::create(b, cotangent, slope));
  }
  Value row = tensor::EmptyOp::create(b, ArrayRef<int64_t>{in.width}, type);
  moe::TokenVJPResult result;
  result.logits = forEachExpert(row, [&](Value expert, ValueRange carried) {
    Value sum = real(0.0);
    for (auto [own, share] : llvm::zip(slots.ids, shares)) {
      Value isOwn =
          arith::CmpIOp::create(b, arith::CmpIPredicate::eq, own, asId(expert));
      Value term = arith::SelectOp::create(b, isOwn, share, real(0.0));
      sum = arith::AddFOp::create(b, sum, term);
    }
    return SmallVector<Value>{
        tensor::InsertOp::create(b, sum, carried[0], expert)};
  })[0];
  return result;
}

/// Bodies of one slot, each against one rule.
class RuleBreakerBody : public BodyBuilder {
public:
  using BodyBuilder::BodyBuilder;

  moe::TokenBodyResult build(StringRef rule);
};

moe::TokenBodyResult RuleBreakerBody::build(StringRef rule) {
  Value zero = arith::ConstantIndexOp::create(b, 0);
  Value logit = read(in.logits, zero);
  // A number that differs from token to token.
  Value number = arith::FPToSIOp::create(b, b.getI32Type(), logit);
  Value place = arith::IndexCastOp::create(b, b.getIndexType(), number);
  Value weight = logit;
  if (rule == "read") {
    weight = read(in.logits, place);
  } else if (rule == "write") {
    Value row = tensor::InsertOp::create(b, real(1.0), in.logits, place);
    weight = read(row, zero);
  } else if (rule == "shared") {
    Value row = arith::ConstantOp::create(
        b, DenseElementsAttr::get(RankedTensorType::get({1}, type),
                                  b.getFloatAttr(type, 0.0)));
    row = tensor::InsertOp::create(b, logit, row, zero);
    weight = read(row, zero);
  } else if (rule == "bound") {
    auto loop = scf::ForOp::create(
        b, zero, place, arith::ConstantIndexOp::create(b, 1), logit,
        [&](OpBuilder &, Location, Value, ValueRange carried) {
          scf::YieldOp::create(
              b, arith::AddFOp::create(b, carried[0], logit).getResult());
        });
    weight = loop.getResult(0);
  } else if (rule == "branch") {
    Value positive =
        arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, logit, real(0.0));
    auto branch = scf::IfOp::create(
        b, positive,
        [&](OpBuilder &, Location) { scf::YieldOp::create(b, logit); },
        [&](OpBuilder &, Location) { scf::YieldOp::create(b, real(0.0)); });
    weight = branch.getResult(0);
  } else {
    Value buffer = memref::AllocaOp::create(b, MemRefType::get({1}, type));
    memref::StoreOp::create(b, logit, buffer, zero);
    weight = memref::LoadOp::create(b, buffer, zero);
  }
  return {{id(0)}, {weight}};
}

struct ThresholdModel
    : public moe::TokenBodyAttrInterface::ExternalModel<ThresholdModel,
                                                        ThresholdAttr> {
  moe::TokenBodyResult
  buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                 const moe::TokenBodyInputs &inputs) const {
    return ThresholdBody(b, inputs).build(cast<ThresholdAttr>(attr));
  }
};

struct ThresholdVJPModel
    : public moe::TokenVJPAttrInterface::ExternalModel<ThresholdVJPModel,
                                                       ThresholdAttr> {
  moe::TokenVJPResult buildTokenVJP(Attribute, ImplicitLocOpBuilder &b,
                                    const moe::TokenVJPInputs &inputs) const {
    return ThresholdBackward(b, inputs).build();
  }
};

struct RuleBreakerModel
    : public moe::TokenBodyAttrInterface::ExternalModel<RuleBreakerModel,
                                                        RuleBreakerAttr> {
  moe::TokenBodyResult
  buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                 const moe::TokenBodyInputs &inputs) const {
    return RuleBreakerBody(b, inputs).build(
        cast<RuleBreakerAttr>(attr).getRule());
  }
};

struct CubeModel
    : public moe::ActivationAttrInterface::ExternalModel<CubeModel, CubeAttr> {
  Value buildActivation(Attribute attr, ImplicitLocOpBuilder &b, Value gate,
                        Value up) const {
    auto factor = static_cast<double>(cast<CubeAttr>(attr).getFactor());
    Value square = arith::MulFOp::create(b, gate, gate);
    Value result = arith::MulFOp::create(b, square, gate);
    if (up)
      result = arith::MulFOp::create(b, result, up);
    return arith::MulFOp::create(
        b, result,
        arith::ConstantOp::create(b, b.getFloatAttr(gate.getType(), factor)));
  }
};

} // namespace

void moe_test::attachModels(MLIRContext &context) {
  ThresholdAttr::attachInterface<ThresholdModel>(context);
  ThresholdAttr::attachInterface<ThresholdVJPModel>(context);
  RuleBreakerAttr::attachInterface<RuleBreakerModel>(context);
  CubeAttr::attachInterface<CubeModel>(context);
}
