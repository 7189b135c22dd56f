//===- LossGradients.cpp - Backwards of losses and of their noise ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct AuxLossModel
    : public DifferentiableOpInterface::ExternalModel<AuxLossModel, AuxLossOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto loss = cast<AuxLossOp>(op);
    Value scores = loss.getScores();
    Value gradient = AuxLossVJPOp::create(
        b, scores.getType(), loss.getKindAttr(), scores,
        cotangents.of(loss.getLoss()), loss.getIds(), loss.getTokenMask(),
        loss.getGroupOffsets(), loss.getKAttr(), loss.getPerSlotAttr(),
        loss.getUnbiasedAttr(), loss.getEpsAttr(), loss.getCoefficientAttr());
    cotangents.add(b, scores, gradient);
    return success();
  }
};

struct LoadLossModel
    : public DifferentiableOpInterface::ExternalModel<LoadLossModel,
                                                      LoadLossOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto loss = cast<LoadLossOp>(op);
    SmallVector<Value> inputs = {loss.getClean(), loss.getNoisy()};
    if (Value sigma = loss.getSigma())
      inputs.push_back(sigma);
    auto vjp = LoadLossVJPOp::create(
        b, ValueRange(inputs).getTypes(), loss.getThresholdAttr(),
        loss.getClean(), loss.getNoisy(), cotangents.of(loss.getLoss()),
        loss.getSigma(), loss.getTokenMask(), loss.getGroupOffsets(),
        loss.getStdAttr(), loss.getKAttr(), loss.getEpsAttr(),
        loss.getCoefficientAttr());
    for (auto [input, gradient] : llvm::zip(inputs, vjp.getGradients()))
      cotangents.add(b, input, gradient);
    return success();
  }
};

/// Noise is drawn twice, but what it makes is small: it is saved.
struct NoisyLogitsModel
    : public DifferentiableOpInterface::ExternalModel<NoisyLogitsModel,
                                                      NoisyLogitsOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto noisy = cast<NoisyLogitsOp>(op);
    if (Value cotangent = cotangents.of(noisy.getNoisy()))
      cotangents.add(b, noisy.getLogits(), cotangent);
    Value noise = noisy.getNoise();
    if (!noise || !cotangents.isActive(noise))
      return success();
    Value gradient = NoisyLogitsVJPOp::create(
        b, noise.getType(), noise, cotangents.ofOrZero(b, noisy.getNoisy()),
        cotangents.of(noisy.getSigma()), noisy.getSeed(), noisy.getLayer(),
        noisy.getFirstToken());
    cotangents.add(b, noise, gradient);
    return success();
  }
};

/// A slot's weight has the cotangent of the load of its expert.
struct ExpertLoadModel
    : public DifferentiableOpInterface::ExternalModel<ExpertLoadModel,
                                                      ExpertLoadOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto load = cast<ExpertLoadOp>(op);
    Value weights = load.getWeights(), slopes = cotangents.of(load.getLoad());
    int64_t numExperts = load.getLoad().getType().getDimSize(0);
    Value gradient = mapSlots(
        b, {load.getIds()}, weights,
        [&](ImplicitLocOpBuilder &nested, ValueRange in) -> Value {
          Value count = arith::ConstantOp::create(
              nested, nested.getI32IntegerAttr(numExperts));
          Value none =
              arith::ConstantOp::create(nested, nested.getI32IntegerAttr(0));
          // Empty slots are below 0, that is, above all as unsigned.
          Value isExpert = arith::CmpIOp::create(
              nested, arith::CmpIPredicate::ult, in[0], count);
          Value id = arith::SelectOp::create(nested, isExpert, in[0], none);
          id = arith::IndexCastOp::create(nested, nested.getIndexType(), id);
          Value slope = tensor::ExtractOp::create(nested, slopes, id);
          return arith::SelectOp::create(nested, isExpert, slope,
                                         emitSplat(nested, slope, 0.0));
        });
    cotangents.add(b, weights, gradient);
    return success();
  }
};

} // namespace

void moe::registerLossGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    AuxLossOp::attachInterface<AuxLossModel>(*context);
    LoadLossOp::attachInterface<LoadLossModel>(*context);
    ExpertLoadOp::attachInterface<ExpertLoadModel>(*context);
    NoisyLogitsOp::attachInterface<NoisyLogitsModel>(*context);
  });
}
