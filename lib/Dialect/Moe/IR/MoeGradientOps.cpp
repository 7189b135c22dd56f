//===- MoeGradientOps.cpp - Verifiers and shapes of backward ops ----------===//
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

/// The shape of `value`, its second size static.
static SmallVector<OpFoldResult> reifyLike(OpBuilder &b, Location loc,
                                           Value value) {
  return {tensor::getMixedSize(b, loc, value, 0),
          tensor::getMixedSize(b, loc, value, 1)};
}

//===----------------------------------------------------------------------===//
// SlotDotsOp
//===----------------------------------------------------------------------===//

LogicalResult SlotDotsOp::verify() {
  SmallVector<NamedDim> widths = {{"rows", dimOf(getRows(), 1)}};
  appendDim(widths, "tokens", getTokens(), 1);
  appendDim(widths, "identity", getIdentity(), 1);
  if (failed(verifySameDim(*this, "slot_dots_c1", "D", widths)) ||
      failed(verifyAssignments(*this, "slot_dots_c2", getIds(),
                               {{"rows", dimOf(getRows(), 0)}})))
    return failure();
  bool byToken = getChoice() == Choice::token;
  SmallVector<NamedDim> tokens;
  if (byToken)
    tokens.push_back({"ids", dimOf(getIds(), 0)});
  appendDim(tokens, "tokens", getTokens(), 0);
  appendDim(tokens, "identity", getIdentity(), 0);
  if (failed(verifySameDim(*this, "slot_dots_c3", "T", tokens)) ||
      failed(verifyLikeIds(*this, "slot_dots_c4", getIds(), "dots", getDots())))
    return failure();
  if (getIdentity() && (!getTokens() || !byToken))
    return emitOpError("identity needs tokens and ids by token "
                       "(slot_dots_c5)");
  if (static_cast<bool>(getNumTokens()) != (!byToken && !getTokens()))
    return emitOpError("takes num_tokens where experts choose without tokens, "
                       "and nowhere else (slot_dots_c7)");
  int64_t numExperts = getNumExperts();
  if (failed(verifyNumExperts(*this, "slot_dots_c6", numExperts)))
    return failure();
  if (byToken)
    return success();
  return verifySameDim(*this, "slot_dots_c6", "E",
                       {{"experts", numExperts}, {"ids", dimOf(getIds(), 0)}});
}

LogicalResult
SlotDotsOp::reifyResultShapes(OpBuilder &b,
                              ReifiedRankedShapedTypeDims &shapes) {
  shapes = {reifyLike(b, getLoc(), getIds())};
  return success();
}

//===----------------------------------------------------------------------===//
// RouteVJPOp
//===----------------------------------------------------------------------===//

LogicalResult RouteVJPOp::verify() {
  RouterAttrInterface router = getRouter();
  std::optional<int64_t> numSlots = router.getNumSlots();
  if (!numSlots || router.getLocality() != Locality::token)
    return emitOpError("needs a router that looks at its token alone "
                       "(route_vjp_c1)");
  if (!isa<TokenVJPAttrInterface>(router))
    return emitOpError("has a router without a backward, ")
           << router << " (route_vjp_c1)";
  if (failed(verifySameStaticDim(*this, "route_vjp_c2", "k",
                                 {{"router", *numSlots},
                                  {"ids", dimOf(getIds(), 1)},
                                  {"weights", dimOf(getWeights(), 1)},
                                  {"cotangent", dimOf(getCotangent(), 1)}})))
    return failure();
  size_t numResults = 1 + (getNoise() ? 1 : 0) + (getExpertScale() ? 1 : 0);
  if (getGradients().size() != numResults)
    return emitOpError("has ") << getGradients().size() << " results, not "
                               << numResults << " (route_vjp_c5)";
  SmallVector<NamedDim> tokens = {{"logits", dimOf(getLogits(), 0)},
                                  {"ids", dimOf(getIds(), 0)},
                                  {"weights", dimOf(getWeights(), 0)},
                                  {"cotangent", dimOf(getCotangent(), 0)}};
  SmallVector<NamedDim> widths = {{"logits", dimOf(getLogits(), 1)}};
  appendDim(tokens, "noise", getNoise(), 0);
  appendDim(widths, "noise", getNoise(), 1);
  appendDim(widths, "expert_scale", getExpertScale(), 0);
  for (Value gradient : getGradients()) {
    tokens.push_back({"result", dimOf(gradient, 0)});
    widths.push_back({"result", dimOf(gradient, 1)});
  }
  if (failed(verifySameDim(*this, "route_vjp_c3", "T", tokens)) ||
      failed(verifySameStaticDim(*this, "route_vjp_c4", "R", widths)))
    return failure();
  int given = !!getSeed() + !!getLayer() + !!getFirstToken();
  if (given != 0 && (given != 3 || !router.isSampled()))
    return emitOpError("training takes seed, layer and first token, for "
                       "routers that draw (route_vjp_c6)");
  RouteOperandSet operands;
  operands.expertScale = static_cast<bool>(getExpertScale());
  operands.noise = static_cast<bool>(getNoise());
  operands.training = given != 0;
  if (getNoise() && given == 0 && router.isSampled())
    return emitOpError("noise is for training alone (route_vjp_c6)");
  return router.verifyRoute([&] { return emitOpError(); },
                            dimOf(getLogits(), 1), operands);
}

LogicalResult
RouteVJPOp::reifyResultShapes(OpBuilder &b,
                              ReifiedRankedShapedTypeDims &shapes) {
  shapes.assign(getGradients().size(), reifyLike(b, getLoc(), getLogits()));
  return success();
}

//===----------------------------------------------------------------------===//
// ScoreVJPOp
//===----------------------------------------------------------------------===//

LogicalResult ScoreVJPOp::verify() {
  SmallVector<NamedDim> tokens, widths;
  for (auto [name, value] : {std::make_pair("logits", Value(getLogits())),
                             std::make_pair("cotangent", Value(getCotangent())),
                             std::make_pair("result", Value(getGradient()))}) {
    tokens.push_back({name, dimOf(value, 0)});
    widths.push_back({name, dimOf(value, 1)});
  }
  if (failed(verifySameDim(*this, "score_vjp_c1", "T", tokens)) ||
      failed(verifySameStaticDim(*this, "score_vjp_c1", "R", widths)))
    return failure();
  if (!isFiniteNotNegative(getSoftcap().convertToDouble()))
    return emitOpError("softcap is negative or not finite (score_vjp_c2)");
  return success();
}

LogicalResult
ScoreVJPOp::reifyResultShapes(OpBuilder &b,
                              ReifiedRankedShapedTypeDims &shapes) {
  shapes = {reifyLike(b, getLoc(), getLogits())};
  return success();
}
