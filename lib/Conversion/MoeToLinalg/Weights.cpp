//===- Weights.cpp - Expert weights of any layout as matrices -------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Weights.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

WeightForm::WeightForm(LayoutAttr layout, Projection projection,
                       int64_t numExperts, bool isPaired, RankedTensorType type)
    : type(type), numExperts(numExperts), paired(isPaired) {
  bool isBias = projection == Projection::up_bias;
  Orientation orientation = projection == Projection::down
                                ? layout.getDown()
                                : layout.getOrientation();
  inOut = !isBias && orientation == Orientation::in_out;
  outAxis = inOut ? 1 : 0;
  folded = !isBias && layout.getExpertAxis() == ExpertAxis::folded;
  ArrayRef<int64_t> shape = type.getShape();
  matrix.assign(shape.begin() + (folded ? 0 : 1), shape.end());
  if (folded)
    matrix[0] /= numExperts;
  if (!paired)
    return;
  int64_t width = matrix[outAxis] / 2;
  before =
      layout.getPairing() == Pairing::interleaved ? width : layout.getShards();
  after = width / before;
}

/// Shape with the experts in front of the matrix axes, of which the output
/// axis is replaced.
static SmallVector<int64_t> replaceOutAxis(int64_t numExperts,
                                           ArrayRef<int64_t> matrix,
                                           unsigned outAxis,
                                           ArrayRef<int64_t> out) {
  SmallVector<int64_t> shape;
  if (numExperts > 0)
    shape.push_back(numExperts);
  for (auto [axis, size] : llvm::enumerate(matrix)) {
    if (axis == outAxis)
      llvm::append_range(shape, out);
    else
      shape.push_back(size);
  }
  return shape;
}

RankedTensorType WeightForm::getUnfoldedType() const {
  SmallVector<int64_t> out = {before, 2, after};
  if (!paired)
    out = {matrix[outAxis]};
  return type.clone(replaceOutAxis(numExperts, matrix, outAxis, out));
}

RankedTensorType WeightForm::getSideType() const {
  int64_t width = paired ? before * after : matrix[outAxis];
  return type.clone(replaceOutAxis(numExperts, matrix, outAxis, {width}));
}

/// Which axes of the unfolded form make up each axis of the weight.
SmallVector<ReassociationIndices> WeightForm::getFolding() const {
  SmallVector<ReassociationIndices> groups = {{0}};
  int64_t next = 1;
  for (size_t axis = 0; axis < matrix.size(); ++axis) {
    if (axis > 0 || !folded)
      groups.emplace_back();
    for (int64_t part = axis == outAxis && paired ? 3 : 1; part > 0; --part)
      groups.back().push_back(next++);
  }
  return groups;
}

Value WeightForm::emitUnfold(ImplicitLocOpBuilder &b, Value weight) const {
  RankedTensorType unfolded = getUnfoldedType();
  if (unfolded == type)
    return weight;
  return tensor::ExpandShapeOp::create(b, unfolded, weight, getFolding());
}

Value WeightForm::emitFold(ImplicitLocOpBuilder &b, Value unfolded) const {
  if (unfolded.getType() == type)
    return unfolded;
  return tensor::CollapseShapeOp::create(b, type, unfolded, getFolding());
}

/// Offsets, sizes and strides of one side, and the shape of the slice without
/// the middle axis and without the axes around it that have size 1.
struct WeightForm::Slice {
  Slice(ImplicitLocOpBuilder &b, const WeightForm &form, OpFoldResult expert,
        int64_t side) {
    bool isOne = static_cast<bool>(expert);
    add(isOne ? expert : b.getIndexAttr(0),
        b.getIndexAttr(isOne ? 1 : form.numExperts));
    for (auto [axis, size] : llvm::enumerate(form.matrix)) {
      if (axis != form.outAxis || !form.paired) {
        add(b.getIndexAttr(0), b.getIndexAttr(size));
        continue;
      }
      add(b.getIndexAttr(0), b.getIndexAttr(form.before));
      add(b.getIndexAttr(side), b.getIndexAttr(1));
      add(b.getIndexAttr(0), b.getIndexAttr(form.after));
    }
    strides.assign(sizes.size(), b.getIndexAttr(1));
    SmallVector<int64_t> out = {form.before, form.after};
    if (!form.paired)
      out = {form.matrix[form.outAxis]};
    else if (form.before == 1 || form.after == 1)
      out = {form.before * form.after};
    type = form.type.clone(replaceOutAxis(isOne ? 0 : form.numExperts,
                                          form.matrix, form.outAxis, out));
    isSplit = out.size() == 2;
    for (size_t axis = 0, rank = type.getRank(); axis < rank; ++axis) {
      bool isSecondPart = isSplit && axis == form.outAxis + (isOne ? 0 : 1) + 1;
      if (!isSecondPart)
        joining.emplace_back();
      joining.back().push_back(axis);
    }
  }
  void add(OpFoldResult offset, OpFoldResult size) {
    offsets.push_back(offset);
    sizes.push_back(size);
  }
  SmallVector<OpFoldResult> offsets, sizes, strides;
  RankedTensorType type;
  bool isSplit; ///< Whether the output axis is still in two parts.
  SmallVector<ReassociationIndices> joining; ///< Which makes it one.
};

Value WeightForm::emitSlice(ImplicitLocOpBuilder &b, Value unfolded,
                            OpFoldResult expert, int64_t side) const {
  Slice slice(b, *this, expert, side);
  Value values = unfolded;
  if (slice.type != unfolded.getType())
    values = tensor::ExtractSliceOp::create(
        b, slice.type, unfolded, slice.offsets, slice.sizes, slice.strides);
  if (!slice.isSplit)
    return values;
  return tensor::CollapseShapeOp::create(b, values, slice.joining);
}

Value WeightForm::emitExpertSide(ImplicitLocOpBuilder &b, Value unfolded,
                                 Value expert, int64_t side) const {
  return emitSlice(b, unfolded, expert, side);
}

Value WeightForm::emitSide(ImplicitLocOpBuilder &b, Value unfolded,
                           int64_t side) const {
  return emitSlice(b, unfolded, OpFoldResult(), side);
}

Value WeightForm::emitInsertSide(ImplicitLocOpBuilder &b, Value values,
                                 Value unfolded, int64_t side) const {
  Slice slice(b, *this, OpFoldResult(), side);
  if (slice.isSplit)
    values =
        tensor::ExpandShapeOp::create(b, slice.type, values, slice.joining);
  if (slice.type == unfolded.getType())
    return values;
  return tensor::InsertSliceOp::create(b, values, unfolded, slice.offsets,
                                       slice.sizes, slice.strides);
}
