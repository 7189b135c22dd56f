//===- MoeExpertOps.cpp - Verifiers and shapes of experts and layouts ---*- C++
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

//===----------------------------------------------------------------------===//
// LayoutAttr's shapes
//===----------------------------------------------------------------------===//

static Orientation orientationOf(LayoutAttr layout, Projection projection) {
  return projection == Projection::down ? layout.getDown()
                                        : layout.getOrientation();
}

SmallVector<int64_t> LayoutAttr::getShape(Projection projection,
                                          int64_t numExperts, int64_t out,
                                          int64_t in) const {
  if (projection == Projection::up_bias)
    return {numExperts, out};
  int64_t first = out, second = in;
  if (orientationOf(*this, projection) == Orientation::in_out)
    std::swap(first, second);
  if (getExpertAxis() == ExpertAxis::folded)
    return {mulDim(numExperts, first), second};
  return {numExperts, first, second};
}

FailureOr<std::pair<int64_t, int64_t>>
LayoutAttr::getFeatures(Projection projection, int64_t numExperts,
                        ArrayRef<int64_t> shape) const {
  if (ShapedType::isDynamicShape(shape) || numExperts < 1)
    return failure();
  if (projection == Projection::up_bias) {
    if (shape.size() != 2 || shape[0] != numExperts)
      return failure();
    return std::make_pair(shape[1], int64_t(0));
  }
  int64_t first, second;
  if (getExpertAxis() == ExpertAxis::folded) {
    if (shape.size() != 2 || shape[0] % numExperts != 0)
      return failure();
    first = shape[0] / numExperts;
    second = shape[1];
  } else {
    if (shape.size() != 3 || shape[0] != numExperts)
      return failure();
    first = shape[1];
    second = shape[2];
  }
  if (orientationOf(*this, projection) == Orientation::in_out)
    std::swap(first, second);
  return std::make_pair(first, second);
}

//===----------------------------------------------------------------------===//
// ExpertsOp
//===----------------------------------------------------------------------===//

int64_t ExpertsOp::getNumExperts() {
  return getOffsets() ? dimOf(getOffsets(), 0) - 1 : 1;
}

static std::pair<int64_t, int64_t>
getVerifiedFeatures(ExpertsOp op, Projection projection, Value weight) {
  return *op.getLayout().getFeatures(
      projection, op.getNumExperts(),
      cast<ShapedType>(weight.getType()).getShape());
}

int64_t ExpertsOp::getIntermediateSize() {
  return getVerifiedFeatures(*this, Projection::up, getUp().front()).first /
         getUpFactor(getGated(), getLayout());
}

int64_t ExpertsOp::getInSize() {
  return getVerifiedFeatures(*this, Projection::up, getUp().front()).second;
}

int64_t ExpertsOp::getOutSize() {
  return getVerifiedFeatures(*this, Projection::down, getDown()).first;
}

/// Writes a shape as `8x128x64`.
static std::string describe(ArrayRef<int64_t> shape) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::interleave(
      shape, os, [&](int64_t size) { os << describeDim(size); }, "x");
  return text;
}

/// Output and input features of one weight, or an error that names it.
static FailureOr<std::pair<int64_t, int64_t>>
verifyFeatures(ExpertsOp op, Projection projection, Value weight,
               StringRef name) {
  ArrayRef<int64_t> shape = cast<ShapedType>(weight.getType()).getShape();
  auto features =
      op.getLayout().getFeatures(projection, op.getNumExperts(), shape);
  if (failed(features))
    op.emitOpError() << name << " of shape " << describe(shape)
                     << " is no weight of " << op.getNumExperts()
                     << " experts in layout " << op.getLayout()
                     << " (experts_c3)";
  return features;
}

static LogicalResult verifyUpBiases(ExpertsOp op, int64_t upOut) {
  int64_t numExperts = op.getNumExperts();
  for (Value bias : op.getUpBias()) {
    ArrayRef<int64_t> shape = cast<ShapedType>(bias.getType()).getShape();
    if (shape[0] != numExperts || shape[1] != upOut)
      return op.emitOpError("up bias of shape ")
             << describe(shape) << " should be " << numExperts << "x" << upOut
             << " (experts_c7)";
  }
  return success();
}

LogicalResult ExpertsOp::verify() {
  unsigned numUp = getNumUpTensors(getGated(), getLayout());
  if (getUp().size() != numUp ||
      (!getUpBias().empty() && getUpBias().size() != numUp))
    return emitOpError("takes ")
           << numUp << " up weight(s) and none or as many up biases, but has "
           << getUp().size() << " and " << getUpBias().size()
           << " (experts_c1)";
  if (Value offsets = getOffsets()) {
    if (failed(
            verifyNumExperts(*this, "experts_c3", lessOne(dimOf(offsets, 0)))))
      return failure();
  } else if (Value up = getUp().front();
             getLayout().getExpertAxis() == ExpertAxis::lead &&
             dimOf(up, 0) != 1 &&
             cast<ShapedType>(up.getType()).getRank() == 3) {
    return emitOpError("has ")
           << describeDim(dimOf(up, 0))
           << " experts but no offsets to give them rows (experts_c9)";
  }

  int64_t upOut = 0;
  for (Value up : getUp()) {
    auto features = verifyFeatures(*this, Projection::up, up, "up weight");
    if (failed(features))
      return failure();
    if (up.getType() != getUp().front().getType())
      return emitOpError("gate and up weights have different types "
                         "(experts_c1)");
    if (failed(verifySameStaticDim(
            *this, "experts_c2", "D",
            {{"rows", dimOf(getRows(), 1)}, {"up weight", features->second}})))
      return failure();
    upOut = features->first;
  }
  int64_t factor = getUpFactor(getGated(), getLayout());
  int64_t shards = getGated() ? getLayout().getShards() : 1;
  if (upOut % factor != 0 || upOut / factor % shards != 0)
    return emitOpError("the up weight's ")
           << upOut << " outputs do not divide into gate and up of " << shards
           << " equal shards (experts_c4)";

  auto down = verifyFeatures(*this, Projection::down, getDown(), "down weight");
  if (failed(down))
    return failure();
  if (down->second != upOut / factor)
    return emitOpError("down weight takes ")
           << down->second << " inputs but the experts' width is "
           << upOut / factor << " (experts_c5)";
  SmallVector<NamedDim> outs = {{"down weight", down->first},
                                {"output", dimOf(getOutput(), 1)}};
  appendDim(outs, "down_bias", getDownBias(), 1);
  if (failed(verifySameStaticDim(*this, "experts_c6", "D'", outs)))
    return failure();
  if (getDownBias() && dimOf(getDownBias(), 0) != getNumExperts())
    return emitOpError("down_bias has ")
           << describeDim(dimOf(getDownBias(), 0)) << " experts, not "
           << getNumExperts() << " (experts_c3)";
  if (failed(verifyUpBiases(*this, upOut)))
    return failure();
  size_t numSides = getGated() ? 2 : 1;
  if (!getKept().empty() && getKept().size() != numSides)
    return emitOpError("keeps ") << getKept().size() << " results, not "
                                 << numSides << " (experts_c10)";
  SmallVector<NamedDim> rows = {{"rows", dimOf(getRows(), 0)},
                                {"output", dimOf(getOutput(), 0)}};
  for (Value kept : getKept()) {
    if (dimOf(kept, 1) != upOut / factor)
      return emitOpError("keeps a result of width ")
             << describeDim(dimOf(kept, 1)) << " but the experts' width is "
             << upOut / factor << " (experts_c10)";
    rows.push_back({"kept", dimOf(kept, 0)});
  }
  return verifySameDim(*this, "experts_c8", "N", rows);
}

LogicalResult
ExpertsOp::reifyResultShapes(OpBuilder &b,
                             ReifiedRankedShapedTypeDims &shapes) {
  OpFoldResult numRows = tensor::getMixedSize(b, getLoc(), getRows(), 0);
  for (Value result : getResults())
    shapes.push_back({numRows, b.getIndexAttr(dimOf(result, 1))});
  return success();
}

//===----------------------------------------------------------------------===//
// RelayoutOp
//===----------------------------------------------------------------------===//

/// How many tensors hold a projection in a layout.
static unsigned getNumTensors(RelayoutOp op, LayoutAttr layout) {
  return op.getProjection() == Projection::down
             ? 1
             : ExpertsOp::getNumUpTensors(op.getGated(), layout);
}

LogicalResult RelayoutOp::verify() {
  LayoutAttr from = getFrom(), to = getTo();
  if (getSources().size() != getNumTensors(*this, from) ||
      getNumResults() != getNumTensors(*this, to))
    return emitOpError("takes ")
           << getNumTensors(*this, from) << " tensor(s) to "
           << getNumTensors(*this, to) << ", not " << getSources().size()
           << " to " << getNumResults() << " (relayout_c1)";
  int64_t numExperts = getNumExperts();
  if (failed(verifyNumExperts(*this, "relayout_c5", numExperts)))
    return failure();
  auto source = cast<RankedTensorType>(getSources().front().getType());
  auto features =
      from.getFeatures(getProjection(), numExperts, source.getShape());
  bool paired = getProjection() != Projection::down && getGated();
  int64_t fromFactor = paired && from.isFused() ? 2 : 1;
  int64_t toFactor = paired && to.isFused() ? 2 : 1;
  bool sameSources = llvm::all_of(
      getSources(), [&](Value value) { return value.getType() == source; });
  if (!sameSources)
    return emitOpError("sources have different types (relayout_c4)");
  if (failed(features) || features->first % fromFactor != 0)
    return emitOpError("source of shape ")
           << describe(source.getShape()) << " does not fit layout " << from
           << " of " << numExperts << " experts (relayout_c4)";
  int64_t perSide = features->first / fromFactor;
  for (LayoutAttr layout : {from, to})
    if (paired && perSide % layout.getShards() != 0)
      return emitOpError("the width ")
             << perSide << " does not divide into " << layout.getShards()
             << " shards (relayout_c4)";
  SmallVector<int64_t> expected = to.getShape(
      getProjection(), numExperts, mulDim(perSide, toFactor), features->second);
  for (Type type : getResultTypes()) {
    auto result = cast<RankedTensorType>(type);
    if (result.getShape() != ArrayRef<int64_t>(expected))
      return emitOpError("result of shape ")
             << describe(result.getShape()) << " should be "
             << describe(expected) << " (relayout_c2)";
    if (result.getElementType() != source.getElementType())
      return emitOpError("changes the element type from ")
             << source.getElementType() << " to " << result.getElementType()
             << " (relayout_c3)";
  }
  return success();
}

LogicalResult
RelayoutOp::reifyResultShapes(OpBuilder &b,
                              ReifiedRankedShapedTypeDims &shapes) {
  for (Type type : getResultTypes()) {
    SmallVector<OpFoldResult> shape;
    for (int64_t size : cast<ShapedType>(type).getShape())
      shape.push_back(b.getIndexAttr(size));
    shapes.push_back(shape);
  }
  return success();
}
