//===- MoeSlotOps.cpp - Verifiers and shapes of the slot ops --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeVerify.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// UnitRowsOp, UnitRowsVJPOp
//===----------------------------------------------------------------------===//

LogicalResult UnitRowsOp::verify() {
  if (failed(verifySameDim(
          *this, "unit_rows_c1", "T",
          {{"rows", dimOf(getRows(), 0)}, {"result", dimOf(getUnit(), 0)}})) ||
      failed(verifySameStaticDim(
          *this, "unit_rows_c1", "D",
          {{"rows", dimOf(getRows(), 1)}, {"result", dimOf(getUnit(), 1)}})))
    return failure();
  if (!getEps().isFinite() || getEps().convertToDouble() < 0.0)
    return emitOpError("eps is negative or not finite (unit_rows_c2)");
  return success();
}

LogicalResult
UnitRowsOp::reifyResultShapes(OpBuilder &b,
                              ReifiedRankedShapedTypeDims &shapes) {
  shapes = {detail::reifyTokenResult(b, *this, getRows())};
  return success();
}

LogicalResult UnitRowsVJPOp::verify() {
  if (!isFiniteNotNegative(getEps().convertToDouble()))
    return emitOpError("eps is negative or not finite (unit_rows_vjp_c2)");
  ResultRange results = getGradients();
  size_t numResults = getScale() ? 2 : 1;
  if (results.size() != numResults)
    return emitOpError("has ") << results.size() << " results, not "
                               << numResults << " (unit_rows_vjp_c3)";
  if (getScale() &&
      (failed(verifySameDim(*this, "unit_rows_vjp_c3", "T",
                            {{"rows", dimOf(getRows(), 0)},
                             {"result", dimOf(results[1], 0)}})) ||
       failed(verifySameStaticDim(
           *this, "unit_rows_vjp_c3", "columns",
           {{"a share", 1}, {"result", dimOf(results[1], 1)}}))))
    return failure();
  return verifySameShape(*this, "unit_rows_vjp_c1",
                         {{"rows", getRows()},
                          {"cotangent", getCotangent()},
                          {"result", results[0]}});
}

LogicalResult
UnitRowsVJPOp::reifyResultShapes(OpBuilder &b,
                                 ReifiedRankedShapedTypeDims &shapes) {
  shapes = {detail::reifyTokenResult(b, *this, getRows())};
  if (getScale())
    shapes.push_back({shapes[0][0], b.getIndexAttr(1)});
  return success();
}

//===----------------------------------------------------------------------===//
// RouteSlotsOp
//===----------------------------------------------------------------------===//

LogicalResult RouteSlotsOp::verify() {
  int64_t slots = dimOf(getLogits(), 1);
  if (failed(verifySameStaticDim(*this, "route_slots_c1", "S",
                                 {{"logits", slots},
                                  {"dispatch", dimOf(getDispatch(), 1)},
                                  {"combine", dimOf(getCombine(), 1)}})))
    return failure();
  if (slots < 1)
    return emitOpError("has no slots (route_slots_c1)");
  SmallVector<NamedDim> tokens = {{"logits", dimOf(getLogits(), 0)},
                                  {"dispatch", dimOf(getDispatch(), 0)},
                                  {"combine", dimOf(getCombine(), 0)}};
  appendDim(tokens, "mask", getTokenMask(), 0);
  return verifySameDim(*this, "route_slots_c2", "T", tokens);
}

LogicalResult
RouteSlotsOp::reifyResultShapes(OpBuilder &b,
                                ReifiedRankedShapedTypeDims &shapes) {
  SmallVector<OpFoldResult> shape =
      detail::reifyTokenResult(b, *this, getLogits());
  shapes = {shape, shape};
  return success();
}

//===----------------------------------------------------------------------===//
// SoftDispatchOp, SoftCombineOp
//===----------------------------------------------------------------------===//

LogicalResult SoftDispatchOp::verify() {
  int64_t slots = dimOf(getDispatch(), 1);
  auto experts = static_cast<int64_t>(getNumExperts());
  if (failed(verifySameDim(*this, "soft_dispatch_c1", "T",
                           {{"input", dimOf(getInput(), 0)},
                            {"dispatch", dimOf(getDispatch(), 0)}})) ||
      failed(verifySameStaticDim(
          *this, "soft_dispatch_c2", "D",
          {{"input", dimOf(getInput(), 1)}, {"rows", dimOf(getRows(), 1)}})) ||
      failed(verifySlots(*this, "soft_dispatch_c3", experts, slots)) ||
      failed(verifySlotRows(*this, "soft_dispatch_c4", getGroupOffsets(), slots,
                            getRows())))
    return failure();
  return verifySameStaticDim(
      *this, "soft_dispatch_c5", "length",
      {{"experts + 1", experts + 1}, {"offsets", dimOf(getOffsets(), 0)}});
}

LogicalResult
SoftDispatchOp::reifyResultShapes(OpBuilder &b,
                                  ReifiedRankedShapedTypeDims &shapes) {
  Location loc = getLoc();
  int64_t slots = dimOf(getDispatch(), 1);
  OpFoldResult rows = b.getIndexAttr(slots);
  if (Value offsets = getGroupOffsets()) {
    int64_t length = dimOf(offsets, 0);
    if (!ShapedType::isDynamic(length)) {
      rows = b.getIndexAttr(slots * (length - 1));
    } else {
      Value groups = arith::SubIOp::create(
          b, loc, tensor::DimOp::create(b, loc, offsets, 0),
          arith::ConstantIndexOp::create(b, loc, 1));
      rows = arith::MulIOp::create(
                 b, loc, groups, arith::ConstantIndexOp::create(b, loc, slots))
                 .getResult();
    }
  }
  shapes = {{rows, b.getIndexAttr(dimOf(getRows(), 1))},
            {b.getIndexAttr(dimOf(getOffsets(), 0))}};
  return success();
}

LogicalResult SoftCombineOp::verify() {
  int64_t slots = dimOf(getCombine(), 1);
  if (failed(verifySameDim(*this, "soft_combine_c1", "T",
                           {{"combine", dimOf(getCombine(), 0)},
                            {"output", dimOf(getOutput(), 0)}})) ||
      failed(verifySameStaticDim(*this, "soft_combine_c2", "D",
                                 {{"rows", dimOf(getRows(), 1)},
                                  {"output", dimOf(getOutput(), 1)}})) ||
      failed(verifySlots(*this, "soft_combine_c3",
                         static_cast<int64_t>(getNumExperts()), slots)))
    return failure();
  return verifySlotRows(*this, "soft_combine_c4", getGroupOffsets(), slots,
                        getRows());
}

LogicalResult
SoftCombineOp::reifyResultShapes(OpBuilder &b,
                                 ReifiedRankedShapedTypeDims &shapes) {
  shapes = {{tensor::getMixedSize(b, getLoc(), getCombine(), 0),
             b.getIndexAttr(dimOf(getOutput(), 1))}};
  return success();
}
