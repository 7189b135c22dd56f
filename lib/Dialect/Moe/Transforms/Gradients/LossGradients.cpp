//===- LossGradients.cpp - Backwards of losses and of their noise ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/DialectRegistry.h"
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

} // namespace

void moe::registerLossGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    AuxLossOp::attachInterface<AuxLossModel>(*context);
    LoadLossOp::attachInterface<LoadLossModel>(*context);
    NoisyLogitsOp::attachInterface<NoisyLogitsModel>(*context);
  });
}
