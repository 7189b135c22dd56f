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
  return verifyTokensOfMix(op, label, static_cast<bool>(op.getFirstToken()),
                           seen, seeing);
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
  SmallVector<NamedDim> counts = {{"the op", heads}};
  appendDim(counts, "posterior", getPosterior(), 1);
  if (failed(verifyHeads(*this, "mix_c3", counts)) ||
      failed(verifyHeadWidths(*this, "mix_c4", heads, dimOf(getQuery(), 1),
                              dimOf(getKey(), 1))))
    return failure();
  return verifyScale(*this, "mix_c5", getScale());
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
  SmallVector<NamedDim> counts = {{"matrices", dimOf(getMatrices(), 0)}};
  appendDim(counts, "posterior", getPosterior(), 1);
  return verifyHeads(*this, "mix_matrix_c3", counts);
}

LogicalResult
MixMatrixOp::reifyResultShapes(OpBuilder &b,
                               ReifiedRankedShapedTypeDims &shapes) {
  shapes = {{tensor::getMixedSize(b, getLoc(), getMatrices(), 1),
             b.getIndexAttr(dimOf(getMixed(), 1))}};
  return success();
}
