//===- MoeAttrs.cpp - Verification of attributes, routers' facts ---*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/IR/Moe.h"
#include <limits>

using namespace mlir;
using namespace mlir::moe;

using EmitError = llvm::function_ref<InFlightDiagnostic()>;

/// Not NaN, not infinite, not negative.
static bool isFiniteNotNegative(const APFloat &value) {
  return value.isFinite() && value.convertToDouble() >= 0.0;
}

//===----------------------------------------------------------------------===//
// TopKAttr
//===----------------------------------------------------------------------===//

LogicalResult TopKAttr::verify(EmitError emitError, int64_t k, ScoreKind,
                               ScoreDomain, APFloat softcap, int64_t groups,
                               int64_t keptGroups, GroupScore, GroupFill,
                               Normalize normalize, APFloat p, APFloat eps,
                               EpsMode, APFloat scale, FloatType scoreDtype) {
  if (k < 1)
    return emitError() << "k = " << k << " chooses nothing";
  if (groups < 1 || keptGroups < 1 || keptGroups > groups)
    return emitError() << "keeps " << keptGroups << " of " << groups
                       << " groups";
  if (!isFiniteNotNegative(softcap))
    return emitError() << "softcap is negative or not finite";
  if (!isFiniteNotNegative(eps))
    return emitError() << "eps is negative or not finite";
  if (!scale.isFinite())
    return emitError() << "scale is not finite";
  if (!isFiniteNotNegative(p) || p.isZero())
    return emitError() << "p of the p-norm is not positive or not finite";
  if (scoreDtype && !scoreDtype.isBF16() && !scoreDtype.isF16() &&
      !scoreDtype.isF32() && !scoreDtype.isF64())
    return emitError() << "score_dtype " << scoreDtype
                       << " is none of bf16, f16, f32 and f64";
  return success();
}

Locality TopKAttr::getLocality() const { return Locality::token; }

std::optional<int64_t> TopKAttr::getNumSlots() const { return getK(); }

LogicalResult TopKAttr::verifyRoute(EmitError emitError, int64_t width,
                                    const RouteOperandSet &operands) const {
  if (operands.noise)
    return emitError() << "top_k takes no noise (route_c8)";
  if (operands.indices) {
    if (operands.selectionBias || getGroups() != 1)
      return emitError() << "given indices leave no choice to a selection bias "
                            "or groups (top_k_c4)";
    return success();
  }
  if (getK() > width)
    return emitError() << "chooses k = " << getK() << " of " << width
                       << " experts (top_k_c1)";
  if (width % getGroups() != 0)
    return emitError() << getGroups() << " groups do not divide " << width
                       << " experts (top_k_c2)";
  int64_t kept = width / getGroups() * getKeptGroups();
  if (kept < getK())
    return emitError() << "chooses k = " << getK() << " of the " << kept
                       << " experts in kept groups (top_k_c3)";
  return success();
}

//===----------------------------------------------------------------------===//
// CapacityAttr
//===----------------------------------------------------------------------===//

// Within these limits the rule's arithmetic cannot overflow. A capacity counts
// i32 tokens; with a factor of E or more nothing is ever dropped.
static constexpr int64_t kMaxCapacity = std::numeric_limits<int32_t>::max();
static constexpr double kMaxCapacityFactor = 0x1p20;

LogicalResult CapacityAttr::verify(EmitError emitError, int64_t fixed,
                                   APFloat factor, Rounding, CapacityPer,
                                   int64_t multiple, int64_t min) {
  if (fixed < 0 || fixed > kMaxCapacity)
    return emitError() << "fixed capacity " << fixed << " is not within 0 to "
                       << kMaxCapacity;
  if (!isFiniteNotNegative(factor) ||
      factor.convertToDouble() > kMaxCapacityFactor)
    return emitError() << "capacity factor is not within 0 to "
                       << static_cast<int64_t>(kMaxCapacityFactor);
  if (multiple < 1 || multiple > kMaxCapacity)
    return emitError() << "capacity multiple " << multiple
                       << " is not within 1 to " << kMaxCapacity;
  if (min < 0 || min > kMaxCapacity)
    return emitError() << "smallest capacity " << min << " is not within 0 to "
                       << kMaxCapacity;
  return success();
}

//===----------------------------------------------------------------------===//
// ExpertChoiceAttr
//===----------------------------------------------------------------------===//

LogicalResult ExpertChoiceAttr::verify(EmitError emitError,
                                       CapacityAttr capacity, ChoiceAxis axis,
                                       Normalize normalize, APFloat cap,
                                       APFloat strength, int64_t sweeps,
                                       ChoiceWeights weights) {
  if (capacity.getPer() != CapacityPer::tokens)
    return emitError() << "experts that choose have no slots a token; their "
                          "capacity is per tokens";
  if (normalize == Normalize::pnorm)
    return emitError() << "expert choice divides by a count or not at all";
  if (!isFiniteNotNegative(cap))
    return emitError() << "cap is negative or not finite";
  if (!isFiniteNotNegative(strength) || strength.isZero())
    return emitError() << "strength is not positive or not finite";
  if (sweeps < 1 || sweeps > kMaxCapacity)
    return emitError() << sweeps << " sweeps are not within 1 to "
                       << kMaxCapacity;
  if (!cap.isZero() && axis != ChoiceAxis::experts)
    return emitError() << "a cap needs scores over the experts of a token";
  if (cap.isZero() && weights == ChoiceWeights::assignment)
    return emitError() << "without a cap there is no assignment to weigh by";
  return success();
}

Locality ExpertChoiceAttr::getLocality() const { return Locality::global; }

std::optional<int64_t> ExpertChoiceAttr::getNumSlots() const {
  return std::nullopt;
}

LogicalResult ExpertChoiceAttr::verifyRoute(EmitError, int64_t,
                                            const RouteOperandSet &) const {
  return success();
}

//===----------------------------------------------------------------------===//
// LayoutAttr, ActivationAttr
//===----------------------------------------------------------------------===//

LogicalResult LayoutAttr::verify(EmitError emitError, Orientation, Orientation,
                                 Pairing pairing, PairOrder, ExpertAxis,
                                 int64_t shards) {
  if (shards < 1)
    return emitError() << "a layout has at least one shard, not " << shards;
  if (shards > 1 && pairing != Pairing::cat)
    return emitError() << "only a cat pairing depends on shards";
  return success();
}

LogicalResult PanelsAttr::verify(EmitError emitError, int64_t columns,
                                 int64_t steps, int64_t sides) {
  if (sides < 1 || sides > 2)
    return emitError() << "panels have one or two sides, not " << sides;
  if (steps < 1)
    return emitError() << "panels have at least one step, not " << steps;
  if (columns < 1 || columns % sides != 0)
    return emitError() << "panels of " << sides
                       << " sides have a positive multiple of it of columns, "
                          "not "
                       << columns;
  return success();
}

SmallVector<int64_t, 5> PanelsAttr::getShape(int64_t numExperts, int64_t out,
                                             int64_t in) const {
  return {numExperts, llvm::divideCeilSigned(out, getWidth()),
          llvm::divideCeilSigned(in, getSteps()), getColumns(), getSteps()};
}

LogicalResult ActivationAttr::verify(EmitError emitError, ActivationKind kind,
                                     ActivationStyle style, APFloat limit,
                                     APFloat alpha) {
  if (!isFiniteNotNegative(limit))
    return emitError() << "activation limit is negative or not finite";
  if (style == ActivationStyle::oai && kind != ActivationKind::silu)
    return emitError() << "the oai style has its own sigmoid; its kind is silu";
  if (!alpha.isFinite())
    return emitError() << "alpha is not finite";
  return success();
}
