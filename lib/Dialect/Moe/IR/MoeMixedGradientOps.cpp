//===- MoeMixedGradientOps.cpp - Checks of backwards beyond a token -------===//
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

/// The shape of a value.
static SmallVector<OpFoldResult> reifyLike(OpBuilder &b, Location loc,
                                           Value value) {
  return tensor::getMixedSizes(b, loc, value);
}

/// [T, columns], T of `value` along `dim`.
static SmallVector<OpFoldResult> reifyColumns(OpBuilder &b, Location loc,
                                              Value value, int64_t dim,
                                              int64_t columns) {
  return {tensor::getMixedSize(b, loc, value, dim), b.getIndexAttr(columns)};
}

//===----------------------------------------------------------------------===//
// RouteExpertsVJPOp
//===----------------------------------------------------------------------===//

LogicalResult RouteExpertsVJPOp::verify() {
  auto router = dyn_cast<ExpertChoiceAttr>(getRouter());
  if (!router || router.getWeights() != ChoiceWeights::scores)
    return emitOpError("needs a router by which experts choose, with weights "
                       "that are scores (route_experts_vjp_c1)");
  int64_t numExperts = dimOf(getLogits(), 1);
  if (failed(verifySameStaticDim(*this, "route_experts_vjp_c2", "E",
                                 {{"logits", numExperts},
                                  {"ids", dimOf(getIds(), 0)},
                                  {"cotangent", dimOf(getCotangent(), 0)},
                                  {"result", dimOf(getGradient(), 1)}})) ||
      failed(verifyNumExperts(*this, "route_experts_vjp_c2", numExperts)) ||
      failed(verifySameDim(*this, "route_experts_vjp_c3", "C",
                           {{"ids", dimOf(getIds(), 1)},
                            {"cotangent", dimOf(getCotangent(), 1)}})))
    return failure();
  SmallVector<NamedDim> tokens = {{"logits", dimOf(getLogits(), 0)},
                                  {"result", dimOf(getGradient(), 0)}};
  appendDim(tokens, "mask", getTokenMask(), 0);
  return verifySameDim(*this, "route_experts_vjp_c4", "T", tokens);
}

LogicalResult
RouteExpertsVJPOp::reifyResultShapes(OpBuilder &b,
                                     ReifiedRankedShapedTypeDims &shapes) {
  shapes = {reifyLike(b, getLoc(), getLogits())};
  return success();
}

//===----------------------------------------------------------------------===//
// RouteSlotsVJPOp, SoftDotsOp
//===----------------------------------------------------------------------===//

LogicalResult RouteSlotsVJPOp::verify() {
  SmallVector<NamedDim> slots, tokens;
  for (auto [name, value] :
       {std::make_pair("dispatch", Value(getDispatch())),
        std::make_pair("combine", Value(getCombine())),
        std::make_pair("the cotangent of dispatch", Value(getDDispatch())),
        std::make_pair("the cotangent of combine", Value(getDCombine())),
        std::make_pair("result", Value(getGradient()))}) {
    slots.push_back({name, dimOf(value, 1)});
    tokens.push_back({name, dimOf(value, 0)});
  }
  appendDim(tokens, "mask", getTokenMask(), 0);
  if (failed(verifySameStaticDim(*this, "route_slots_vjp_c1", "S", slots)))
    return failure();
  if (slots.front().size < 1)
    return emitOpError("has no slots (route_slots_vjp_c1)");
  return verifySameDim(*this, "route_slots_vjp_c2", "T", tokens);
}

LogicalResult
RouteSlotsVJPOp::reifyResultShapes(OpBuilder &b,
                                   ReifiedRankedShapedTypeDims &shapes) {
  shapes = {reifyLike(b, getLoc(), getDispatch())};
  return success();
}

LogicalResult SoftDotsOp::verify() {
  int64_t slots = dimOf(getDots(), 1);
  if (failed(verifySameDim(*this, "soft_dots_c1", "T",
                           {{"tokens", dimOf(getTokens(), 0)},
                            {"dots", dimOf(getDots(), 0)}})) ||
      failed(verifySameStaticDim(*this, "soft_dots_c2", "D",
                                 {{"tokens", dimOf(getTokens(), 1)},
                                  {"rows", dimOf(getRows(), 1)}})) ||
      failed(verifySlots(*this, "soft_dots_c3",
                         static_cast<int64_t>(getNumExperts()), slots)))
    return failure();
  return verifySlotRows(*this, "soft_dots_c4", getGroupOffsets(), slots,
                        getRows());
}

LogicalResult
SoftDotsOp::reifyResultShapes(OpBuilder &b,
                              ReifiedRankedShapedTypeDims &shapes) {
  shapes = {reifyColumns(b, getLoc(), getTokens(), 0, dimOf(getDots(), 1))};
  return success();
}

//===----------------------------------------------------------------------===//
// MixQueryVJPOp
//===----------------------------------------------------------------------===//

LogicalResult MixQueryVJPOp::verify() {
  if (failed(verifySameStaticDim(*this, "mix_query_vjp_c1", "R",
                                 {{"values", dimOf(getValues(), 1)},
                                  {"cotangent", dimOf(getCotangent(), 1)}})))
    return failure();
  auto heads = static_cast<int64_t>(getHeads());
  SmallVector<NamedDim> seen = {{"values", dimOf(getValues(), 0)},
                                {"key", dimOf(getKey(), 0)}};
  SmallVector<NamedDim> seeing = {{"query", dimOf(getQuery(), 0)},
                                  {"cotangent", dimOf(getCotangent(), 0)},
                                  {"gradient", dimOf(getGradient(), 0)},
                                  {"dots", dimOf(getDots(), 0)},
                                  {"sums", dimOf(getLogSums(), 0)}};
  SmallVector<NamedDim> counts = {{"the op", heads},
                                  {"dots", dimOf(getDots(), 1)},
                                  {"sums", dimOf(getLogSums(), 1)}};
  appendDim(seen, "mask", getTokenMask(), 0);
  appendDim(seeing, "posterior", getPosterior(), 0);
  appendDim(counts, "posterior", getPosterior(), 1);
  if (failed(verifyTokensOfMix(*this, "mix_query_vjp_c2",
                               static_cast<bool>(getFirstToken()), seen,
                               seeing)) ||
      failed(verifyHeads(*this, "mix_query_vjp_c3", counts)) ||
      failed(verifyHeadWidths(*this, "mix_query_vjp_c4", heads,
                              dimOf(getQuery(), 1), dimOf(getKey(), 1))) ||
      failed(verifySameStaticDim(*this, "mix_query_vjp_c4", "columns",
                                 {{"query", dimOf(getQuery(), 1)},
                                  {"gradient", dimOf(getGradient(), 1)}})))
    return failure();
  return verifyScale(*this, "mix_query_vjp_c5", getScale());
}

LogicalResult
MixQueryVJPOp::reifyResultShapes(OpBuilder &b,
                                 ReifiedRankedShapedTypeDims &shapes) {
  auto heads = static_cast<int64_t>(getHeads());
  SmallVector<OpFoldResult> perHead =
      reifyColumns(b, getLoc(), getQuery(), 0, heads);
  shapes = {reifyLike(b, getLoc(), getQuery()), perHead, perHead};
  return success();
}

//===----------------------------------------------------------------------===//
// MixKeyVJPOp
//===----------------------------------------------------------------------===//

LogicalResult MixKeyVJPOp::verify() {
  if (failed(verifySameStaticDim(*this, "mix_key_vjp_c1", "R",
                                 {{"values", dimOf(getValues(), 1)},
                                  {"cotangent", dimOf(getCotangent(), 1)},
                                  {"gradient", dimOf(getDValues(), 1)}})))
    return failure();
  auto heads = static_cast<int64_t>(getHeads());
  SmallVector<NamedDim> seeing = {{"query", dimOf(getQuery(), 0)},
                                  {"cotangent", dimOf(getCotangent(), 0)},
                                  {"dots", dimOf(getDots(), 0)},
                                  {"sums", dimOf(getLogSums(), 0)}};
  SmallVector<NamedDim> seen = {{"values", dimOf(getValues(), 0)},
                                {"key", dimOf(getKey(), 0)},
                                {"gradient of key", dimOf(getDKey(), 0)},
                                {"gradient of values", dimOf(getDValues(), 0)}};
  SmallVector<NamedDim> counts = {{"the op", heads},
                                  {"dots", dimOf(getDots(), 1)},
                                  {"sums", dimOf(getLogSums(), 1)}};
  appendDim(seeing, "posterior", getPosterior(), 0);
  appendDim(seeing, "mask", getTokenMask(), 0);
  appendDim(counts, "posterior", getPosterior(), 1);
  // Here the tile is of those that are seen.
  if (failed(verifyTokensOfMix(*this, "mix_key_vjp_c2",
                               static_cast<bool>(getFirstToken()), seeing,
                               seen)) ||
      failed(verifyHeads(*this, "mix_key_vjp_c3", counts)) ||
      failed(verifyHeadWidths(*this, "mix_key_vjp_c4", heads,
                              dimOf(getQuery(), 1), dimOf(getKey(), 1))) ||
      failed(verifySameStaticDim(
          *this, "mix_key_vjp_c4", "columns",
          {{"key", dimOf(getKey(), 1)}, {"gradient", dimOf(getDKey(), 1)}})))
    return failure();
  return verifyScale(*this, "mix_key_vjp_c5", getScale());
}

LogicalResult
MixKeyVJPOp::reifyResultShapes(OpBuilder &b,
                               ReifiedRankedShapedTypeDims &shapes) {
  shapes = {reifyLike(b, getLoc(), getKey()),
            reifyLike(b, getLoc(), getValues())};
  return success();
}

//===----------------------------------------------------------------------===//
// MixMatrixVJPOp
//===----------------------------------------------------------------------===//

LogicalResult MixMatrixVJPOp::verify() {
  if (failed(verifySameStaticDim(*this, "mix_matrix_vjp_c1", "R",
                                 {{"values", dimOf(getValues(), 1)},
                                  {"cotangent", dimOf(getCotangent(), 1)},
                                  {"gradient", dimOf(getDValues(), 1)}})))
    return failure();
  SmallVector<NamedDim> seen = {
      {"values", dimOf(getValues(), 0)},
      {"gradient", dimOf(getDValues(), 0)},
      {"matrices' last axis", dimOf(getMatrices(), 2)},
      {"their gradient's last axis", dimOf(getDMatrices(), 2)}};
  SmallVector<NamedDim> seeing = {{"matrices", dimOf(getMatrices(), 1)},
                                  {"their gradient", dimOf(getDMatrices(), 1)},
                                  {"cotangent", dimOf(getCotangent(), 0)},
                                  {"dots", dimOf(getDots(), 0)}};
  SmallVector<NamedDim> counts = {{"matrices", dimOf(getMatrices(), 0)},
                                  {"their gradient", dimOf(getDMatrices(), 0)},
                                  {"dots", dimOf(getDots(), 1)}};
  appendDim(seen, "mask", getTokenMask(), 0);
  appendDim(seeing, "posterior", getPosterior(), 0);
  appendDim(counts, "posterior", getPosterior(), 1);
  if (failed(verifyTokensOfMix(*this, "mix_matrix_vjp_c2",
                               static_cast<bool>(getFirstToken()), seen,
                               seeing)))
    return failure();
  return verifyHeads(*this, "mix_matrix_vjp_c3", counts);
}

LogicalResult
MixMatrixVJPOp::reifyResultShapes(OpBuilder &b,
                                  ReifiedRankedShapedTypeDims &shapes) {
  shapes = {
      reifyLike(b, getLoc(), getValues()),
      reifyLike(b, getLoc(), getMatrices()),
      reifyColumns(b, getLoc(), getCotangent(), 0, dimOf(getMatrices(), 0))};
  return success();
}
