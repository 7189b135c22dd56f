//===- MoeDispatchOps.cpp - Verifiers and shapes of dispatch, combine -----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeVerify.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

/// The axis of ids that counts tokens or experts, and its name.
static NamedDim getChooserDim(Value ids) { return {"ids", dimOf(ids, 0)}; }

LogicalResult DispatchOp::verify() {
  int64_t numExperts = getNumExperts();
  if (failed(verifyNumExperts(*this, "dispatch_c1", numExperts)) ||
      failed(verifySameStaticDim(
          *this, "dispatch_c1", "E + 1",
          {{"experts", numExperts + 1}, {"offsets", dimOf(getOffsets(), 0)}})))
    return failure();
  if (failed(verifySameStaticDim(
          *this, "dispatch_c2", "D",
          {{"input", dimOf(getInput(), 1)}, {"rows", dimOf(getRows(), 1)}})))
    return failure();
  if (getInput().getType().getElementType() !=
      getRows().getType().getElementType())
    return emitOpError("input and rows have different element types "
                       "(dispatch_c2)");
  if (failed(verifyAssignments(*this, "dispatch_c3", getIds(),
                               {{"rows", dimOf(getRows(), 0)}})))
    return failure();
  if (Value weights = getWeights())
    if (failed(
            verifyLikeIds(*this, "dispatch_c4", getIds(), "weights", weights)))
      return failure();
  if (getChoice() == Choice::expert)
    return verifySameDim(*this, "dispatch_c5", "E",
                         {{"experts", numExperts}, getChooserDim(getIds())});
  return verifySameDim(
      *this, "dispatch_c5", "T",
      {{"input", dimOf(getInput(), 0)}, getChooserDim(getIds())});
}

LogicalResult
DispatchOp::reifyResultShapes(OpBuilder &b,
                              ReifiedRankedShapedTypeDims &shapes) {
  OpFoldResult first = tensor::getMixedSize(b, getLoc(), getIds(), 0);
  OpFoldResult second = tensor::getMixedSize(b, getLoc(), getIds(), 1);
  AffineExpr s0 = b.getAffineSymbolExpr(0), s1 = b.getAffineSymbolExpr(1);
  OpFoldResult rows = affine::makeComposedFoldedAffineApply(
      b, getLoc(), AffineMap::get(0, 2, s0 * s1), {first, second});
  shapes = {{rows, b.getIndexAttr(dimOf(getRows(), 1))},
            {b.getIndexAttr(dimOf(getOffsets(), 0))}};
  return success();
}

LogicalResult CombineOp::verify() {
  SmallVector<NamedDim> widths = {{"rows", dimOf(getRows(), 1)},
                                  {"output", dimOf(getOutput(), 1)}};
  appendDim(widths, "identity", getIdentity(), 1);
  appendDim(widths, "residual", getResidual(), 1);
  appendDim(widths, "bias", getBias(), 0);
  if (failed(verifySameStaticDim(*this, "combine_c1", "D", widths)))
    return failure();
  if (failed(verifyAssignments(*this, "combine_c2", getIds(),
                               {{"rows", dimOf(getRows(), 0)}})))
    return failure();
  bool byToken = getChoice() == Choice::token;
  SmallVector<NamedDim> tokens = {{"output", dimOf(getOutput(), 0)}};
  if (byToken)
    tokens.push_back(getChooserDim(getIds()));
  appendDim(tokens, "identity", getIdentity(), 0);
  appendDim(tokens, "residual", getResidual(), 0);
  if (failed(verifySameDim(*this, "combine_c3", "T", tokens)))
    return failure();
  if (Value weights = getWeights())
    if (failed(
            verifyLikeIds(*this, "combine_c4", getIds(), "weights", weights)))
      return failure();
  bool needsTokens = !byToken && ShapedType::isDynamic(dimOf(getOutput(), 0));
  if (needsTokens != static_cast<bool>(getNumTokens()))
    return emitOpError("takes num_tokens where experts choose and T is "
                       "dynamic, and nowhere else (combine_c5)");
  if (getIdentity() && !byToken)
    return emitOpError("identity experts need ids by token (combine_c6)");
  if (getAverage() && !getResidual())
    return emitOpError("has no residual to average with (combine_c7)");
  int64_t numExperts = getNumExperts();
  if (failed(verifyNumExperts(*this, "combine_c8", numExperts)))
    return failure();
  if (!byToken &&
      failed(verifySameDim(*this, "combine_c8", "E",
                           {{"experts", numExperts}, getChooserDim(getIds())})))
    return failure();
  return verifyFinite(*this, "combine_c9", "scale", getScale());
}

LogicalResult
CombineOp::reifyResultShapes(OpBuilder &b,
                             ReifiedRankedShapedTypeDims &shapes) {
  OpFoldResult tokens;
  if (int64_t size = dimOf(getOutput(), 0); !ShapedType::isDynamic(size))
    tokens = b.getIndexAttr(size);
  else if (getChoice() == Choice::token)
    tokens = tensor::getMixedSize(b, getLoc(), getIds(), 0);
  else
    tokens = getNumTokens();
  shapes = {{tokens, b.getIndexAttr(dimOf(getOutput(), 1))}};
  return success();
}
