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
// NoisyLogitsOp, NoisyLogitsVJPOp
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

LogicalResult NoisyLogitsVJPOp::verify() {
  SmallVector<std::pair<StringRef, Value>> values = {
      {"noise", getNoise()},
      {"cotangent", getCotangent()},
      {"result", getGradient()}};
  if (Value sigma = getSigmaCotangent())
    values.push_back({"sigma", sigma});
  return verifySameShape(*this, "noisy_logits_vjp_c1", values);
}

LogicalResult
NoisyLogitsVJPOp::reifyResultShapes(OpBuilder &b,
                                    ReifiedRankedShapedTypeDims &shapes) {
  shapes = {detail::reifyTokenResult(b, *this, getNoise())};
  return success();
}

//===----------------------------------------------------------------------===//
// LoadLossOp, LoadLossVJPOp
//===----------------------------------------------------------------------===//

/// What a loss and its backward are held to alike.
template <typename OpTy> static LogicalResult verifyLoadLoss(OpTy op) {
  Value clean = op.getClean(), noisy = op.getNoisy(), sigma = op.getSigma();
  SmallVector<NamedDim> tokens = {{"clean", dimOf(clean, 0)},
                                  {"noisy", dimOf(noisy, 0)}};
  appendDim(tokens, "sigma", sigma, 0);
  appendDim(tokens, "mask", op.getTokenMask(), 0);
  SmallVector<NamedDim> widths = {{"clean", dimOf(clean, 1)},
                                  {"noisy", dimOf(noisy, 1)}};
  appendDim(widths, "sigma", sigma, 1);
  if (failed(verifySameDim(op, "load_loss_c1", "T", tokens)) ||
      failed(verifySameStaticDim(op, "load_loss_c2", "R", widths)))
    return failure();
  std::optional<APFloat> std = op.getStd();
  if (static_cast<bool>(sigma) == std.has_value() || (std && !isPositive(*std)))
    return op.emitOpError("takes either sigma or a std that is positive and "
                          "finite (load_loss_c3)");
  auto k = static_cast<int64_t>(op.getK());
  if (k < 1)
    return op.emitOpError("k = ") << k << " chooses nothing (load_loss_c4)";
  if (!isFiniteNotNegative(op.getEps().convertToDouble()))
    return op.emitOpError("eps is negative or not finite (load_loss_c6)");
  return verifyFinite(op, "load_loss_c5", "coefficient", op.getCoefficient());
}

LogicalResult LoadLossOp::verify() { return verifyLoadLoss(*this); }

LogicalResult
LoadLossOp::reifyResultShapes(OpBuilder &,
                              ReifiedRankedShapedTypeDims &shapes) {
  shapes = {SmallVector<OpFoldResult>()};
  return success();
}

LogicalResult LoadLossVJPOp::verify() {
  if (failed(verifyLoadLoss(*this)))
    return failure();
  size_t numResults = getSigma() ? 3 : 2;
  if (getGradients().size() != numResults)
    return emitOpError("has ") << getGradients().size() << " results, not "
                               << numResults << " (load_loss_vjp_c1)";
  SmallVector<std::pair<StringRef, Value>> values = {{"clean", getClean()}};
  for (Value gradient : getGradients())
    values.push_back({"result", gradient});
  return verifySameShape(*this, "load_loss_vjp_c2", values);
}

LogicalResult
LoadLossVJPOp::reifyResultShapes(OpBuilder &b,
                                 ReifiedRankedShapedTypeDims &shapes) {
  shapes.assign(getNumResults(),
                detail::reifyTokenResult(b, *this, getClean()));
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
