//===- MoeMixOps.cpp - Verifiers and shapes of the mixes ------------------===//
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

/// T of what is seen and of what sees; without `from` they are one.
template <typename OpTy>
static LogicalResult verifyTokens(OpTy op, StringRef label,
                                  SmallVector<NamedDim> seen,
                                  SmallVector<NamedDim> seeing) {
  seen.push_back({"values", dimOf(op.getValues(), 0)});
  appendDim(seen, "mask", op.getTokenMask(), 0);
  seeing.push_back({"result", dimOf(op.getMixed(), 0)});
  appendDim(seeing, "posterior", op.getPosterior(), 0);
  if (!op.getFirstToken()) {
    seen.append(seeing);
    return verifySameDim(op, label, "T", seen);
  }
  return success(succeeded(verifySameDim(op, label, "T", seen)) &&
                 succeeded(verifySameDim(op, label, "rows", seeing)));
}

template <typename OpTy>
static LogicalResult verifyWidth(OpTy op, StringRef label) {
  return verifySameStaticDim(op, label, "R",
                             {{"values", dimOf(op.getValues(), 1)},
                              {"result", dimOf(op.getMixed(), 1)}});
}

//===----------------------------------------------------------------------===//
// MixOp
//===----------------------------------------------------------------------===//

LogicalResult MixOp::verify() {
  if (failed(verifyWidth(*this, "mix_c1")) ||
      failed(verifyTokens(*this, "mix_c2", {{"key", dimOf(getKey(), 0)}},
                          {{"query", dimOf(getQuery(), 0)}})))
    return failure();
  auto heads = static_cast<int64_t>(getHeads());
  if (heads < 1)
    return emitOpError("has ") << heads << " heads (mix_c3)";
  SmallVector<NamedDim> counts = {{"the op", heads}};
  appendDim(counts, "posterior", getPosterior(), 1);
  if (failed(verifySameStaticDim(*this, "mix_c3", "heads", counts)))
    return failure();
  int64_t query = dimOf(getQuery(), 1), key = dimOf(getKey(), 1);
  if (ShapedType::isDynamic(query) || ShapedType::isDynamic(key))
    return emitOpError("query and key need static widths (mix_c4)");
  if (query < heads || query % heads != 0)
    return emitOpError("query has ")
           << query << " columns, which are no " << heads << " heads (mix_c4)";
  int64_t width = query / heads;
  if (key < width || key % width != 0 || heads % (key / width) != 0)
    return emitOpError("key has ")
           << key << " columns; heads of " << width << " columns that divide "
           << heads << " heads are needed (mix_c4)";
  double scale = getScale().convertToDouble();
  if (!getScale().isFinite() || scale <= 0.0)
    return emitOpError("scale is not finite and positive (mix_c5)");
  return success();
}

LogicalResult MixOp::reifyResultShapes(OpBuilder &b,
                                       ReifiedRankedShapedTypeDims &shapes) {
  shapes = {detail::reifyTokenResult(b, *this, getQuery())};
  return success();
}

//===----------------------------------------------------------------------===//
// MixMatrixOp
//===----------------------------------------------------------------------===//

LogicalResult MixMatrixOp::verify() {
  if (failed(verifyWidth(*this, "mix_matrix_c1")) ||
      failed(verifyTokens(*this, "mix_matrix_c2",
                          {{"matrices' last axis", dimOf(getMatrices(), 2)}},
                          {{"matrices", dimOf(getMatrices(), 1)}})))
    return failure();
  int64_t heads = dimOf(getMatrices(), 0);
  SmallVector<NamedDim> counts = {{"matrices", heads}};
  appendDim(counts, "posterior", getPosterior(), 1);
  if (failed(verifySameStaticDim(*this, "mix_matrix_c3", "heads", counts)))
    return failure();
  if (heads < 1)
    return emitOpError("has ") << heads << " heads (mix_matrix_c3)";
  return success();
}

LogicalResult
MixMatrixOp::reifyResultShapes(OpBuilder &b,
                               ReifiedRankedShapedTypeDims &shapes) {
  shapes = {{tensor::getMixedSize(b, getLoc(), getMatrices(), 1),
             b.getIndexAttr(dimOf(getMixed(), 1))}};
  return success();
}
