//===- MoeRouterAttrs.cpp - Facts of the routers that sample --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

using EmitError = llvm::function_ref<InFlightDiagnostic()>;

/// Routers that take the logits and nothing else.
static LogicalResult takeLogitsAlone(EmitError emitError, StringRef router,
                                     const RouteOperandSet &operands,
                                     bool takesNoise = false) {
  std::pair<bool, StringRef> given[] = {
      {operands.selectionBias, "selection bias"},
      {operands.expertScale, "expert scale"},
      {operands.indices, "given indices"},
      {operands.noise && !takesNoise, "noise"}};
  for (auto [isGiven, name] : given)
    if (isGiven)
      return emitError() << router << " takes no " << name << " (route_c8)";
  return success();
}

static LogicalResult verifySize(EmitError emitError, StringRef label,
                                int64_t size, int64_t width) {
  if (size <= width)
    return success();
  return emitError() << "takes up to " << size << " of " << width
                     << " experts (" << label << ")";
}

static LogicalResult verifyNormalize(EmitError emitError, Normalize normalize) {
  if (normalize != Normalize::pnorm)
    return success();
  return emitError() << "weights are divided by their sum or not at all";
}

//===----------------------------------------------------------------------===//
// ExactKAttr
//===----------------------------------------------------------------------===//

LogicalResult ExactKAttr::verify(EmitError emitError, int64_t k,
                                 Normalize normalize) {
  if (k < 1)
    return emitError() << "k = " << k << " chooses nothing";
  return verifyNormalize(emitError, normalize);
}

std::optional<int64_t> ExactKAttr::getNumSlots() const { return getK(); }

LogicalResult ExactKAttr::verifyRoute(EmitError emitError, int64_t width,
                                      const RouteOperandSet &operands) const {
  if (failed(takeLogitsAlone(emitError, getMnemonic(), operands)))
    return failure();
  return verifySize(emitError, "exact_k_c1", getK(), width);
}

//===----------------------------------------------------------------------===//
// DynamicKAttr
//===----------------------------------------------------------------------===//

LogicalResult DynamicKAttr::verify(EmitError emitError, int64_t min,
                                   int64_t max, Normalize normalize) {
  if (min < 1 || max < min)
    return emitError() << "sizes from " << min << " to " << max
                       << " are no band of at least 1";
  return verifyNormalize(emitError, normalize);
}

std::optional<int64_t> DynamicKAttr::getNumSlots() const { return getMax(); }

LogicalResult DynamicKAttr::verifyRoute(EmitError emitError, int64_t width,
                                        const RouteOperandSet &operands) const {
  if (failed(takeLogitsAlone(emitError, getMnemonic(), operands)))
    return failure();
  return verifySize(emitError, "dynamic_k_c1", getMax(), width);
}

//===----------------------------------------------------------------------===//
// MoesartAttr
//===----------------------------------------------------------------------===//

LogicalResult MoesartAttr::verify(EmitError emitError, int64_t k,
                                  SampleWeighting, bool, APFloat temperature) {
  if (k < 1)
    return emitError() << "k = " << k << " chooses nothing";
  if (!temperature.isFinite() || temperature.convertToDouble() <= 0.0)
    return emitError() << "temperature is not positive or not finite";
  return success();
}

std::optional<int64_t> MoesartAttr::getNumSlots() const { return getK(); }

LogicalResult MoesartAttr::verifyRoute(EmitError emitError, int64_t width,
                                       const RouteOperandSet &operands) const {
  if (failed(takeLogitsAlone(emitError, getMnemonic(), operands)))
    return failure();
  return verifySize(emitError, "moesart_c1", getK(), width);
}

//===----------------------------------------------------------------------===//
// NoisyTopKAttr
//===----------------------------------------------------------------------===//

LogicalResult NoisyTopKAttr::verify(EmitError emitError, int64_t k,
                                    NoiseKind noise, APFloat std, APFloat floor,
                                    NoisyWeights, APFloat temperature) {
  if (k < 1)
    return emitError() << "k = " << k << " chooses nothing";
  auto isPositive = [](const APFloat &value) {
    return value.isFinite() && value.convertToDouble() > 0.0;
  };
  if (noise == NoiseKind::normal && !isPositive(std))
    return emitError() << "normal noise has a std that is positive and finite";
  if (noise == NoiseKind::learned && !isPositive(floor))
    return emitError() << "learned noise has a floor that is positive and "
                          "finite";
  if (!isPositive(temperature))
    return emitError() << "temperature is not positive or not finite";
  if (noise != NoiseKind::gumbel && temperature.convertToDouble() != 1.0)
    return emitError() << "a temperature is one of gumbel noise";
  return success();
}

std::optional<int64_t> NoisyTopKAttr::getNumSlots() const { return getK(); }

LogicalResult
NoisyTopKAttr::verifyRoute(EmitError emitError, int64_t width,
                           const RouteOperandSet &operands) const {
  bool isLearned = getNoise() == NoiseKind::learned;
  if (failed(takeLogitsAlone(emitError, getMnemonic(), operands, isLearned)))
    return failure();
  if (isLearned && operands.training != operands.noise)
    return emitError() << "learned noise is an operand in training "
                          "(noisy_top_k_c2)";
  return verifySize(emitError, "noisy_top_k_c1", getK(), width);
}

//===----------------------------------------------------------------------===//
// GShardAttr, SparseMixerAttr
//===----------------------------------------------------------------------===//

/// A number that must not be negative, as an eps.
static LogicalResult verifyNotNegative(EmitError emitError, StringRef name,
                                       const APFloat &value) {
  if (value.isFinite() && value.convertToDouble() >= 0.0)
    return success();
  return emitError() << name << " is negative or not finite";
}

LogicalResult GShardAttr::verify(EmitError emitError, SecondPolicy,
                                 APFloat threshold, NormalizeAt, APFloat eps) {
  if (!threshold.isFinite() || threshold.convertToDouble() <= 0.0)
    return emitError() << "threshold is not positive or not finite";
  return verifyNotNegative(emitError, "eps", eps);
}

std::optional<int64_t> GShardAttr::getNumSlots() const { return 2; }

LogicalResult GShardAttr::verifyRoute(EmitError emitError, int64_t width,
                                      const RouteOperandSet &operands) const {
  if (failed(takeLogitsAlone(emitError, getMnemonic(), operands)))
    return failure();
  return verifySize(emitError, "gshard_c1", 2, width);
}

LogicalResult SparseMixerAttr::verify(EmitError emitError, APFloat eps,
                                      APFloat third) {
  if (failed(verifyNotNegative(emitError, "eps", eps)))
    return failure();
  return verifyNotNegative(emitError, "third", third);
}

std::optional<int64_t> SparseMixerAttr::getNumSlots() const { return 2; }

LogicalResult
SparseMixerAttr::verifyRoute(EmitError emitError, int64_t width,
                             const RouteOperandSet &operands) const {
  if (failed(takeLogitsAlone(emitError, getMnemonic(), operands)))
    return failure();
  return verifySize(emitError, "sparse_mixer_c1", 2, width);
}

//===----------------------------------------------------------------------===//
// ProductKeysAttr
//===----------------------------------------------------------------------===//

LogicalResult ProductKeysAttr::verify(EmitError emitError, int64_t k,
                                      int64_t left, ScoreDomain) {
  if (k < 1)
    return emitError() << "k = " << k << " chooses nothing";
  if (left < 1)
    return emitError() << "left = " << left << " is no width";
  return success();
}

Locality ProductKeysAttr::getLocality() const { return Locality::token; }

std::optional<int64_t> ProductKeysAttr::getNumSlots() const { return getK(); }

LogicalResult
ProductKeysAttr::verifyRoute(EmitError emitError, int64_t width,
                             const RouteOperandSet &operands) const {
  if (failed(takeLogitsAlone(emitError, getMnemonic(), operands)))
    return failure();
  int64_t right = width - getLeft();
  if (right < 1)
    return emitError() << "logits of " << width << " columns, " << getLeft()
                       << " of them on the left, leave none on the right "
                          "(product_keys_c1)";
  int64_t experts;
  if (llvm::MulOverflow(getLeft(), right, experts) ||
      experts > std::numeric_limits<int32_t>::max())
    return emitError() << getLeft() << " x " << right
                       << " experts are more than i32 ids name "
                          "(product_keys_c2)";
  if (getK() > experts)
    return emitError() << "k = " << getK() << " of " << experts
                       << " experts (product_keys_c3)";
  return success();
}
