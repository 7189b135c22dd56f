//===- MoeSubsetOps.cpp - Verifiers and shapes of the subset ops ----------===//
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

/// The band against E, and T of the logits and the others.
static LogicalResult verifySubset(Operation *op, SubsetBand band, Value logits,
                                  ArrayRef<NamedDim> tokens) {
  int64_t width = dimOf(logits, 1);
  if (failed(verifySameStaticDim(op, "subset_c1", "E", {{"logits", width}})))
    return failure();
  if (band.min < 1 || band.max < band.min || band.max > width)
    return op->emitOpError()
           << "sizes from " << band.min << " to " << band.max
           << " are no band within 1 to " << width << " (subset_c1)";
  SmallVector<NamedDim> dims = {{"logits", dimOf(logits, 0)}};
  llvm::append_range(dims, tokens);
  return verifySameDim(op, "subset_c2", "T", dims);
}

SmallVector<OpFoldResult>
moe::detail::reifyTokenResult(OpBuilder &builder, Operation *op, Value tokens) {
  auto type = cast<ShapedType>(op->getResult(0).getType());
  SmallVector<OpFoldResult> shape = {
      tensor::getMixedSize(builder, op->getLoc(), tokens, 0)};
  if (type.getRank() > 1)
    shape.push_back(builder.getIndexAttr(type.getDimSize(1)));
  return shape;
}

LogicalResult SubsetPartitionOp::verify() {
  Value result = getLogPartition();
  if (failed(verifySubset(*this, getBand(), getLogits(),
                          {{"result", dimOf(result, 0)}})))
    return failure();
  return verifySameStaticDim(*this, "subset_c3", "columns",
                             {{"the band", getBand().max - getBand().min + 1},
                              {"result", dimOf(result, 1)}});
}

LogicalResult SubsetPartitionVJPOp::verify() {
  if (failed(verifySubset(*this, getBand(), getLogits(),
                          {{"cotangent", dimOf(getCotangent(), 0)},
                           {"result", dimOf(getGradient(), 0)}})) ||
      failed(
          verifySameStaticDim(*this, "subset_c3", "columns",
                              {{"the band", getBand().max - getBand().min + 1},
                               {"cotangent", dimOf(getCotangent(), 1)}})))
    return failure();
  return verifySameStaticDim(
      *this, "subset_c3", "E",
      {{"logits", dimOf(getLogits(), 1)}, {"result", dimOf(getGradient(), 1)}});
}

LogicalResult SubsetMarginalsOp::verify() {
  Value result = getMarginals();
  if (failed(verifySubset(*this, getBand(), getLogits(),
                          {{"result", dimOf(result, 0)}})))
    return failure();
  return verifySameStaticDim(
      *this, "subset_c3", "E",
      {{"logits", dimOf(getLogits(), 1)}, {"result", dimOf(result, 1)}});
}

LogicalResult SubsetEntropyOp::verify() {
  return verifySubset(*this, getBand(), getLogits(),
                      {{"result", dimOf(getEntropy(), 0)}});
}

LogicalResult SubsetSampleOp::verify() {
  if (failed(verifySubset(*this, getBand(), getLogits(),
                          {{"ids", dimOf(getIds(), 0)}})))
    return failure();
  return verifySameStaticDim(
      *this, "subset_c3", "columns",
      {{"the band", getBand().max}, {"ids", dimOf(getIds(), 1)}});
}

LogicalResult SubsetCovarianceOp::verify() {
  if (failed(verifySubset(*this, getBand(), getLogits(),
                          {{"vector", dimOf(getVector(), 0)},
                           {"result", dimOf(getResult(), 0)}})))
    return failure();
  return verifySameStaticDim(*this, "subset_c3", "E",
                             {{"logits", dimOf(getLogits(), 1)},
                              {"vector", dimOf(getVector(), 1)},
                              {"result", dimOf(getResult(), 1)}});
}

LogicalResult SubsetLogProbOp::verify() {
  if (failed(verifySubset(
          *this, getBand(), getLogits(),
          {{"ids", dimOf(getIds(), 0)}, {"result", dimOf(getLogProb(), 0)}})))
    return failure();
  return verifySameStaticDim(
      *this, "subset_c3", "columns",
      {{"the band", getBand().max}, {"ids", dimOf(getIds(), 1)}});
}

LogicalResult PhiloxOp::verify() {
  int64_t draws = dimOf(getNumbers(), 1);
  if (draws >= 1 && draws <= int64_t(1) << 31)
    return success();
  return emitOpError("draws ")
         << describeDim(draws) << " numbers a token, not 1 to 2^31 (philox_c1)";
}

LogicalResult PhiloxOp::reifyResultShapes(OpBuilder &b,
                                          ReifiedRankedShapedTypeDims &shapes) {
  auto type = getNumbers().getType();
  OpFoldResult tokens = getTokens();
  if (!type.isDynamicDim(0))
    tokens = b.getIndexAttr(type.getDimSize(0));
  shapes = {{tokens, b.getIndexAttr(type.getDimSize(1))}};
  return success();
}
