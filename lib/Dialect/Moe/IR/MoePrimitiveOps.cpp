//===- MoePrimitiveOps.cpp - Verifiers and effects of the primitives ---*- C++
//-*-===//
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

using EffectList =
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>;

/// Reads of the memref inputs and writes to the memref destinations; on
/// tensors there are none.
static void getPrimitiveEffects(DestinationStyleOpInterface op,
                                EffectList &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType>(operand.get().getType()))
      continue;
    if (op.isDpsInit(&operand))
      effects.emplace_back(MemoryEffects::Write::get(), &operand, /*stage=*/0,
                           /*effectOnFullRegion=*/true,
                           SideEffects::DefaultResource::get());
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand, /*stage=*/0,
                           /*effectOnFullRegion=*/true,
                           SideEffects::DefaultResource::get());
  }
}

static Type elementOf(Value value) {
  return cast<ShapedType>(value.getType()).getElementType();
}

/// A primitive works on tensors or, once bufferized, on memrefs.
static LogicalResult verifyOneKind(Operation *op, StringRef label) {
  if (llvm::all_of(op->getOperandTypes(), llvm::IsaPred<TensorType>) ||
      llvm::all_of(op->getOperandTypes(), llvm::IsaPred<MemRefType>))
    return success();
  return op->emitOpError() << "mixes tensors and memrefs (" << label << ")";
}

//===----------------------------------------------------------------------===//
// GroupOp
//===----------------------------------------------------------------------===//

void GroupOp::getEffects(EffectList &effects) {
  getPrimitiveEffects(*this, effects);
}

LogicalResult GroupOp::verify() {
  size_t expected = getWeights() ? 5 : 4;
  if (getInits().size() != expected)
    return emitOpError("writes ")
           << expected << " results, not " << getInits().size()
           << "; weights and weight come together (group_c3)";
  for (auto [index, init] : llvm::enumerate(getInits()))
    if (isa<FloatType>(elementOf(init)) != (index == 4))
      return emitOpError("result ")
             << index << " has the wrong element type (group_c3)";
  if (Value weights = getWeights()) {
    if (elementOf(weights) != elementOf(getWeightInit()))
      return emitOpError("weights and weight differ in type (group_c3)");
    if (failed(verifyLikeIds(*this, "group_c3", getIds(), "weights", weights)))
      return failure();
  }
  if (failed(verifyOneKind(*this, "group_c6")))
    return failure();
  int64_t numExperts = lessOne(dimOf(getOffsetsInit(), 0));
  if (failed(verifyNumExperts(*this, "group_c1", numExperts)))
    return failure();
  SmallVector<NamedDim> rows = {{"token", dimOf(getTokenInit(), 0)},
                                {"slot", dimOf(getSlotInit(), 0)}};
  appendDim(rows, "weight", getWeightInit(), 0);
  if (failed(verifyAssignments(*this, "group_c2", getIds(), rows)))
    return failure();
  bool byToken = getChoice() == Choice::token;
  SmallVector<NamedDim> tokens = {
      {"first (less one)", lessOne(dimOf(getFirstInit(), 0))}};
  if (byToken)
    tokens.push_back({"ids", dimOf(getIds(), 0)});
  if (failed(verifySameDim(*this, "group_c4", "T", tokens)))
    return failure();
  if (byToken)
    return success();
  return verifySameDim(
      *this, "group_c5", "E",
      {{"offsets (less one)", numExperts}, {"ids", dimOf(getIds(), 0)}});
}

//===----------------------------------------------------------------------===//
// GroupedMatmulOp
//===----------------------------------------------------------------------===//

void GroupedMatmulOp::getEffects(EffectList &effects) {
  getPrimitiveEffects(*this, effects);
}

/// f64 where one of the values holds it, f32 otherwise.
static FloatType getWidestCompute(MLIRContext *context,
                                  ArrayRef<ValueRange> values) {
  for (ValueRange range : values)
    for (Value value : range)
      if (elementOf(value).isF64())
        return Float64Type::get(context);
  return Float32Type::get(context);
}

FloatType GroupedMatmulOp::getComputeType() {
  return getWidestCompute(getContext(), {getLhs(), getWeights(), getInits()});
}

int64_t GroupedMatmulOp::getNumExperts() {
  return dimOf(getWeights().front(), 0);
}

int64_t GroupedMatmulOp::getNumSums() {
  return getPanels() ? getPanels()->getSides() : getWeights().size();
}

int64_t GroupedMatmulOp::getOutSize() {
  if (getPanels())
    return dimOf(getInit(), 1);
  return dimOf(getWeights().front(), getInOut() ? 2 : 1);
}

int64_t GroupedMatmulOp::getInSize() {
  if (getPanels())
    return dimOf(getLhs().front(), 1);
  return dimOf(getWeights().front(), getInOut() ? 1 : 2);
}

static LogicalResult verifyOperandCounts(GroupedMatmulOp op) {
  size_t numWeights = op.getWeights().size();
  if (numWeights < 1 || numWeights > 2 || op.getInits().empty())
    return op.emitOpError("takes one or two weights and a destination, not ")
           << numWeights << " and " << op.getInits().size()
           << " (grouped_matmul_c1)";
  if (op.getLhs().size() != 1 && op.getLhs().size() != numWeights)
    return op.emitOpError("takes one lhs or one for each weight, not ")
           << op.getLhs().size() << " (grouped_matmul_c1)";
  int64_t rank = op.getPanels() ? 5 : 3;
  for (Value weight : op.getWeights()) {
    auto type = cast<ShapedType>(weight.getType());
    if (type.getRank() != rank)
      return op.emitOpError("weights have ")
             << type.getRank() << " dimensions, not " << rank
             << (op.getPanels() ? " as in panels (grouped_matmul_c9)"
                                : " (grouped_matmul_c1)");
    auto first = cast<ShapedType>(op.getWeights().front().getType());
    if (type.getShape() != first.getShape() ||
        type.getElementType() != first.getElementType())
      return op.emitOpError("weights differ in type (grouped_matmul_c1)");
    if (!type.hasStaticShape())
      return op.emitOpError("weights need static sizes (grouped_matmul_c1)");
  }
  return success();
}

/// Panels against the sizes that lhs and results have.
static LogicalResult verifyPanels(GroupedMatmulOp op) {
  std::optional<PanelsAttr> panels = op.getPanels();
  if (!panels)
    return success();
  if (op.getWeights().size() != 1 || op.getLhs().size() != 1 || op.getInOut())
    return op.emitOpError("with panels takes one weight tensor, one lhs and no "
                          "in_out (grouped_matmul_c9)");
  if (ShapedType::isDynamic(op.getInSize()) ||
      ShapedType::isDynamic(op.getOutSize()))
    return op.emitOpError("with panels needs static J and D "
                          "(grouped_matmul_c9)");
  auto expected =
      panels->getShape(op.getNumExperts(), op.getOutSize(), op.getInSize());
  auto type = cast<ShapedType>(op.getWeights().front().getType());
  if (type.getShape() != ArrayRef<int64_t>(expected))
    return op.emitOpError("has panels of shape [")
           << type.getShape() << "], expected [" << ArrayRef<int64_t>(expected)
           << "] (grouped_matmul_c9)";
  return success();
}

LogicalResult GroupedMatmulOp::verify() {
  if (failed(verifyOperandCounts(*this)) ||
      failed(verifyOneKind(*this, "grouped_matmul_c8")) ||
      failed(verifyPanels(*this)))
    return failure();
  SmallVector<NamedDim> depths = {{"weights", getInSize()}};
  SmallVector<NamedDim> outs = {{"weights", getOutSize()}};
  SmallVector<NamedDim> experts = {{"weights", getNumExperts()}};
  SmallVector<NamedDim> rows;
  for (Value lhs : getLhs()) {
    depths.push_back({"lhs", dimOf(lhs, 1)});
    if (!getRows())
      rows.push_back({"lhs", dimOf(lhs, 0)});
  }
  for (Value bias : getBiases()) {
    outs.push_back({"bias", dimOf(bias, 1)});
    experts.push_back({"bias", dimOf(bias, 0)});
  }
  auto addElements = [&](StringRef name, ValueRange values) {
    for (Value value : values) {
      outs.push_back({name, dimOf(value, 1)});
      rows.push_back({name, dimOf(value, 0)});
    }
  };
  addElements("elements", getElements());
  addElements("result", getInits());
  for (Value values : getRowValues())
    rows.push_back({"row_values", dimOf(values, 0)});
  appendDim(rows, "rows", getRows(), 0);
  appendDim(rows, "row_scale", getRowScale(), 0);
  if (Value offsets = getOffsets())
    experts.push_back({"offsets (less one)", lessOne(dimOf(offsets, 0))});
  else if (getNumExperts() != 1)
    return emitOpError("has ")
           << getNumExperts()
           << " experts but no offsets to give them rows (grouped_matmul_c7)";
  if (failed(verifySameDim(*this, "grouped_matmul_c2", "D", depths)) ||
      failed(verifySameDim(*this, "grouped_matmul_c3", "J", outs)) ||
      failed(verifyNumExperts(*this, "grouped_matmul_c4", getNumExperts())) ||
      failed(verifySameDim(*this, "grouped_matmul_c4", "E", experts)))
    return failure();
  return verifySameDim(*this, "grouped_matmul_c5", "N", rows);
}

LogicalResult GroupedMatmulOp::verifyRegions() {
  Block &body = getEpilogue().front();
  Type compute = getComputeType();
  size_t expected = getNumSums() + getBiases().size() + getElements().size() +
                    getRowValues().size();
  auto isCompute = [&](Type type) { return type == compute; };
  auto yield = cast<YieldOp>(body.getTerminator());
  if (body.getNumArguments() != expected ||
      yield.getValues().size() != getInits().size() ||
      !llvm::all_of(body.getArgumentTypes(), isCompute) ||
      !llvm::all_of(yield.getValues().getTypes(), isCompute))
    return emitOpError("epilogue takes ")
           << expected << " values of type " << compute << " and yields "
           << getInits().size() << " (grouped_matmul_c6)";
  return success();
}

//===----------------------------------------------------------------------===//
// GroupedOuterOp
//===----------------------------------------------------------------------===//

void GroupedOuterOp::getEffects(EffectList &effects) {
  getPrimitiveEffects(*this, effects);
}

FloatType GroupedOuterOp::getComputeType() {
  return getWidestCompute(
      getContext(), {ValueRange(getLhs()), ValueRange(getRhs()), getInits()});
}

LogicalResult GroupedOuterOp::verify() {
  if (getInits().size() != 1)
    return emitOpError("has one destination, not ")
           << getInits().size() << " (grouped_outer_c1)";
  auto type = cast<ShapedType>(getInit().getType());
  if (!type.hasStaticShape())
    return emitOpError("result needs static sizes (grouped_outer_c1)");
  if (failed(verifyOneKind(*this, "grouped_outer_c7")) ||
      failed(verifySameDim(
          *this, "grouped_outer_c2", "J",
          {{"lhs", dimOf(getLhs(), 1)}, {"result", type.getDimSize(1)}})) ||
      failed(verifySameDim(
          *this, "grouped_outer_c3", "D",
          {{"rhs", dimOf(getRhs(), 1)}, {"result", type.getDimSize(2)}})) ||
      failed(verifyNumExperts(*this, "grouped_outer_c4", type.getDimSize(0))))
    return failure();
  if (Value offsets = getOffsets()) {
    if (failed(
            verifySameDim(*this, "grouped_outer_c4", "E",
                          {{"offsets (less one)", lessOne(dimOf(offsets, 0))},
                           {"result", type.getDimSize(0)}})))
      return failure();
  } else if (type.getDimSize(0) != 1) {
    return emitOpError("has ")
           << type.getDimSize(0)
           << " experts but no offsets to give them rows (grouped_outer_c6)";
  }
  SmallVector<NamedDim> rows;
  auto addRows = [&](StringRef name, Value numbers, Value side) {
    rows.push_back({name, dimOf(numbers ? numbers : side, 0)});
  };
  addRows("lhs", getLhsRows(), getLhs());
  addRows("rhs", getRhsRows(), getRhs());
  return verifySameDim(*this, "grouped_outer_c5", "N", rows);
}

//===----------------------------------------------------------------------===//
// CombineSlotsOp
//===----------------------------------------------------------------------===//

void CombineSlotsOp::getEffects(EffectList &effects) {
  getPrimitiveEffects(*this, effects);
}

LogicalResult CombineSlotsOp::verify() {
  if (getInits().size() != 1)
    return emitOpError("has one destination, not ")
           << getInits().size() << " (combine_slots_c1)";
  if (failed(verifyOneKind(*this, "combine_slots_c5")))
    return failure();
  SmallVector<NamedDim> widths = {{"rows", dimOf(getRows(), 1)},
                                  {"result", dimOf(getInit(), 1)}};
  appendDim(widths, "identity", getIdentity(), 1);
  appendDim(widths, "residual", getResidual(), 1);
  appendDim(widths, "bias", getBias(), 0);
  if (failed(verifySameDim(*this, "combine_slots_c1", "D", widths)))
    return failure();
  SmallVector<NamedDim> rows = {{"rows", dimOf(getRows(), 0)},
                                {"slot", dimOf(getSlot(), 0)}};
  appendDim(rows, "weight", getWeight(), 0);
  if (failed(verifySameDim(*this, "combine_slots_c2", "N", rows)))
    return failure();
  SmallVector<NamedDim> tokens = {
      {"result", dimOf(getInit(), 0)},
      {"first (less one)", lessOne(dimOf(getFirst(), 0))}};
  appendDim(tokens, "identity", getIdentity(), 0);
  appendDim(tokens, "identity weight", getIdentityWeight(), 0);
  appendDim(tokens, "residual", getResidual(), 0);
  if (failed(verifySameDim(*this, "combine_slots_c3", "T", tokens)))
    return failure();
  if (static_cast<bool>(getIdentity()) !=
      static_cast<bool>(getIdentityWeight()))
    return emitOpError("identity and its weight come together "
                       "(combine_slots_c4)");
  return verifyFinite(*this, "combine_slots_c6", "scale", getScale());
}

//===----------------------------------------------------------------------===//
// TopKOp
//===----------------------------------------------------------------------===//

void TopKOp::getEffects(EffectList &effects) {
  getPrimitiveEffects(*this, effects);
}

LogicalResult TopKOp::verify() {
  if (getInits().size() != 2 ||
      elementOf(getInits()[0]) != elementOf(getValues()) ||
      !elementOf(getInits()[1]).isInteger(32))
    return emitOpError("writes values of its input's type and i32 indices "
                       "(top_k_op_c1)");
  if (failed(verifyOneKind(*this, "top_k_op_c4")) ||
      failed(verifySameDim(*this, "top_k_op_c1", "T",
                           {{"values", dimOf(getValues(), 0)},
                            {"first result", dimOf(getInits()[0], 0)},
                            {"second result", dimOf(getInits()[1], 0)}})) ||
      failed(verifySameDim(*this, "top_k_op_c2", "k",
                           {{"first result", dimOf(getInits()[0], 1)},
                            {"second result", dimOf(getInits()[1], 1)}})))
    return failure();
  int64_t k = dimOf(getInits()[0], 1), width = dimOf(getValues(), 1);
  if (ShapedType::isDynamic(k) || ShapedType::isDynamic(width) || k < 1 ||
      k > width)
    return emitOpError("chooses k = ")
           << describeDim(k) << " of " << describeDim(width)
           << " (top_k_op_c3)";
  return success();
}
