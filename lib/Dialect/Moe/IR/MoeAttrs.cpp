//===- MoeAttrs.cpp - Verification of attributes, routers' facts ---*- C++ -*-===//
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

/// Not NaN, not infinite, and not below `least`.
static bool isFiniteAtLeast(const APFloat &value, double least) {
  return value.isFinite() && value.convertToDouble() >= least;
}

//===----------------------------------------------------------------------===//
// TopKAttr
//===----------------------------------------------------------------------===//

LogicalResult TopKAttr::verify(EmitError emitError, int64_t k, ScoreKind score,
                               ScoreDomain domain, APFloat softcap,
                               int64_t groups, int64_t keptGroups, GroupScore,
                               GroupFill, Normalize normalize, APFloat p,
                               APFloat eps, EpsMode, APFloat scale,
                               FloatType scoreDtype) {
  if (k < 1)
    return emitError() << "k = " << k << " chooses nothing";
  if (groups < 1 || keptGroups < 1 || keptGroups > groups)
    return emitError() << "keeps " << keptGroups << " of " << groups
                       << " groups";
  if (!isFiniteAtLeast(softcap, 0.0))
    return emitError() << "softcap is negative or not finite";
  if (!isFiniteAtLeast(eps, 0.0))
    return emitError() << "eps is negative or not finite";
  if (!scale.isFinite())
    return emitError() << "scale is not finite";
  if (normalize == Normalize::pnorm && !(isFiniteAtLeast(p, 0.0) && p.isNonZero()))
    return emitError() << "a p-norm needs a positive p";
  if (domain == ScoreDomain::topk && groups != 1 && score == ScoreKind::softmax &&
      keptGroups != groups)
    return emitError()
           << "softmax over the chosen has no scores to choose groups by";
  return success();
}

Locality TopKAttr::getLocality() const { return Locality::token; }

std::optional<int64_t> TopKAttr::getNumSlots() const { return getK(); }

LogicalResult TopKAttr::verifyRoute(EmitError emitError, int64_t width,
                                    const RouteOperandSet &operands) const {
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

LogicalResult CapacityAttr::verify(EmitError emitError, int64_t fixed,
                                   APFloat factor, Rounding, CapacityPer,
                                   int64_t multiple, int64_t min) {
  if (fixed < 0)
    return emitError() << "a fixed capacity of " << fixed << " is below 1";
  if (!isFiniteAtLeast(factor, 0.0))
    return emitError() << "capacity factor is negative or not finite";
  if (multiple < 1)
    return emitError() << "capacity multiple " << multiple << " is below 1";
  if (min < 0)
    return emitError() << "smallest capacity " << min << " is below 0";
  return success();
}

//===----------------------------------------------------------------------===//
// ExpertChoiceAttr
//===----------------------------------------------------------------------===//

LogicalResult ExpertChoiceAttr::verify(EmitError emitError,
                                       CapacityAttr capacity, ChoiceAxis,
                                       Normalize normalize) {
  if (capacity.getPer() != CapacityPer::tokens)
    return emitError() << "experts that choose have no slots a token; their "
                          "capacity is per tokens";
  if (normalize == Normalize::pnorm)
    return emitError() << "expert choice divides by a count or not at all";
  return success();
}

Locality ExpertChoiceAttr::getLocality() const { return Locality::global; }

std::optional<int64_t> ExpertChoiceAttr::getNumSlots() const {
  return std::nullopt;
}

LogicalResult
ExpertChoiceAttr::verifyRoute(EmitError, int64_t,
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

LogicalResult ActivationAttr::verify(EmitError emitError, ActivationKind kind,
                                     ActivationStyle style, APFloat limit,
                                     APFloat alpha) {
  if (!isFiniteAtLeast(limit, 0.0))
    return emitError() << "activation limit is negative or not finite";
  if (style == ActivationStyle::oai && kind != ActivationKind::silu)
    return emitError() << "the oai style has its own sigmoid; its kind is silu";
  if (!alpha.isFinite())
    return emitError() << "alpha is not finite";
  return success();
}
