//===- MoeTrainingOps.cpp - Verifiers and shapes of the training ops ------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeVerify.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

static bool isPositive(const APFloat &value) {
  return value.isFinite() && value.convertToDouble() > 0.0;
}

//===----------------------------------------------------------------------===//
// NoisyLogitsOp
//===----------------------------------------------------------------------===//

NoiseSettings NoisyLogitsOp::getSettings() {
  // The default of the router's floor.
  NoiseSettings settings = {getKind(), 0.0, 0.01};
  if (std::optional<APFloat> std = getStd())
    settings.std = std->convertToDouble();
  if (std::optional<APFloat> floor = getFloor())
    settings.floor = floor->convertToDouble();
  return settings;
}

LogicalResult NoisyLogitsOp::verify() {
  for (auto [dim, name] : {std::pair(0u, "T"), std::pair(1u, "E")}) {
    SmallVector<NamedDim> dims = {{"logits", dimOf(getLogits(), dim)},
                                  {"noisy", dimOf(getNoisy(), dim)}};
    appendDim(dims, "noise", getNoise(), dim);
    appendDim(dims, "sigma", getSigma(), dim);
    if (failed(dim == 0
                   ? verifySameDim(*this, "noisy_logits_c1", name, dims)
                   : verifySameStaticDim(*this, "noisy_logits_c1", name, dims)))
      return failure();
  }
  bool isLearned = getKind() == NoiseKind::learned;
  if (isLearned != static_cast<bool>(getNoise()) ||
      isLearned != static_cast<bool>(getSigma()))
    return emitOpError("has noise and sigma for learned noise and for no other "
                       "(noisy_logits_c2)");
  bool isNormal = getKind() == NoiseKind::normal;
  if (isNormal != getStd().has_value() || (isNormal && !isPositive(*getStd())))
    return emitOpError("has a std, positive and finite, for normal noise and "
                       "for no other (noisy_logits_c3)");
  if (getFloor() && (!isLearned || !isPositive(*getFloor())))
    return emitOpError("has a floor, positive and finite, for learned noise "
                       "and for no other (noisy_logits_c4)");
  return success();
}

LogicalResult
NoisyLogitsOp::reifyResultShapes(OpBuilder &b,
                                 ReifiedRankedShapedTypeDims &shapes) {
  shapes.assign(getNumResults(),
                detail::reifyTokenResult(b, *this, getLogits()));
  return success();
}

//===----------------------------------------------------------------------===//
// LoadLossOp
//===----------------------------------------------------------------------===//

LogicalResult LoadLossOp::verify() {
  SmallVector<NamedDim> tokens = {{"clean", dimOf(getClean(), 0)},
                                  {"noisy", dimOf(getNoisy(), 0)}};
  appendDim(tokens, "sigma", getSigma(), 0);
  appendDim(tokens, "mask", getTokenMask(), 0);
  SmallVector<NamedDim> widths = {{"clean", dimOf(getClean(), 1)},
                                  {"noisy", dimOf(getNoisy(), 1)}};
  appendDim(widths, "sigma", getSigma(), 1);
  if (failed(verifySameDim(*this, "load_loss_c1", "T", tokens)) ||
      failed(verifySameStaticDim(*this, "load_loss_c2", "R", widths)))
    return failure();
  if (static_cast<bool>(getSigma()) == getStd().has_value() ||
      (getStd() && !isPositive(*getStd())))
    return emitOpError("takes either sigma or a std that is positive and "
                       "finite (load_loss_c3)");
  if (static_cast<int64_t>(getK()) < 1)
    return emitOpError("k = ")
           << static_cast<int64_t>(getK()) << " chooses nothing (load_loss_c4)";
  if (!isFiniteNotNegative(getEps().convertToDouble()))
    return emitOpError("eps is negative or not finite (load_loss_c6)");
  return verifyFinite(*this, "load_loss_c5", "coefficient", getCoefficient());
}

LogicalResult
LoadLossOp::reifyResultShapes(OpBuilder &,
                              ReifiedRankedShapedTypeDims &shapes) {
  shapes = {SmallVector<OpFoldResult>()};
  return success();
}

//===----------------------------------------------------------------------===//
// ExpertLoadOp, UpdateBiasOp
//===----------------------------------------------------------------------===//

LogicalResult ExpertLoadOp::verify() {
  if (getWeights() && failed(verifyLikeIds(*this, "expert_load_c1", getIds(),
                                           "weights", getWeights())))
    return failure();
  bool isCount = getLoad().getType().getElementType().isInteger(32);
  if (isCount == static_cast<bool>(getWeights()))
    return emitOpError("gives floats with weights and i32 without "
                       "(expert_load_c2)");
  return verifyNumExperts(*this, "expert_load_c3", dimOf(getLoad(), 0));
}

LogicalResult
ExpertLoadOp::reifyResultShapes(OpBuilder &b,
                                ReifiedRankedShapedTypeDims &shapes) {
  shapes = {{b.getIndexAttr(dimOf(getLoad(), 0))}};
  return success();
}

LogicalResult UpdateBiasOp::verify() {
  if (failed(verifySameStaticDim(*this, "update_bias_c1", "E",
                                 {{"bias", dimOf(getBias(), 0)},
                                  {"counts", dimOf(getCounts(), 0)},
                                  {"updated", dimOf(getUpdated(), 0)}})) ||
      failed(verifyNumExperts(*this, "update_bias_c1", dimOf(getBias(), 0))))
    return failure();
  return verifyFinite(*this, "update_bias_c2", "rate", getRate());
}

LogicalResult
UpdateBiasOp::reifyResultShapes(OpBuilder &b,
                                ReifiedRankedShapedTypeDims &shapes) {
  shapes = {{b.getIndexAttr(dimOf(getBias(), 0))}};
  return success();
}
