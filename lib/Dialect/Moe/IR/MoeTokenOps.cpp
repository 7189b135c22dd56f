//===- MoeTokenOps.cpp - Verifiers and shapes of jitter and hashing -------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeVerify.h"
#include "mlir/IR/Matchers.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// JitterOp
//===----------------------------------------------------------------------===//

LogicalResult JitterOp::verify() {
  int64_t width = dimOf(getInput(), 1);
  if (failed(verifySameDim(*this, "jitter_c1", "T",
                           {{"input", dimOf(getInput(), 0)},
                            {"output", dimOf(getOutput(), 0)}})) ||
      failed(verifySameStaticDim(
          *this, "jitter_c1", "H",
          {{"input", width}, {"output", dimOf(getOutput(), 1)}})))
    return failure();
  if (width < 1 || width > int64_t(1) << 31)
    return emitOpError("draws ")
           << width << " numbers a token, not 1 to 2^31 (jitter_c1)";
  double eps = getEps().convertToDouble();
  if (!(eps >= 0.0 && eps <= 1.0))
    return emitOpError("eps is not within 0 and 1 (jitter_c2)");
  return success();
}

LogicalResult JitterOp::reifyResultShapes(OpBuilder &b,
                                          ReifiedRankedShapedTypeDims &shapes) {
  shapes = {detail::reifyTokenResult(b, *this, getInput())};
  return success();
}

//===----------------------------------------------------------------------===//
// RouteHashOp
//===----------------------------------------------------------------------===//

LogicalResult RouteHashOp::verify() {
  if (failed(verifySameStaticDim(*this, "route_hash_c1", "k",
                                 {{"table", dimOf(getTable(), 1)},
                                  {"ids", dimOf(getIds(), 1)},
                                  {"weights", dimOf(getWeights(), 1)}})))
    return failure();
  SmallVector<NamedDim> tokens = {{"token ids", dimOf(getTokenIds(), 0)},
                                  {"ids", dimOf(getIds(), 0)},
                                  {"weights", dimOf(getWeights(), 0)}};
  appendDim(tokens, "mask", getTokenMask(), 0);
  if (failed(verifySameDim(*this, "route_hash_c2", "T", tokens)) ||
      failed(verifyNumExperts(*this, "route_hash_c3", getNumExperts())))
    return failure();
  DenseIntElementsAttr table;
  if (!matchPattern(getTable(), m_Constant(&table)))
    return success();
  int64_t place = 0, width = dimOf(getTable(), 1);
  for (const APInt &expert : table.getValues<APInt>()) {
    int64_t id = expert.getSExtValue();
    if (id < 0 || id >= static_cast<int64_t>(getNumExperts()))
      return emitOpError("table names expert ")
             << id << " of " << getNumExperts() << " for token id "
             << place / width << " (route_hash_c4)";
    ++place;
  }
  return success();
}

LogicalResult
RouteHashOp::reifyResultShapes(OpBuilder &b,
                               ReifiedRankedShapedTypeDims &shapes) {
  SmallVector<OpFoldResult> shape =
      detail::reifyTokenResult(b, *this, getTokenIds());
  shapes = {shape, shape};
  return success();
}
