//===- GroupedProduct.cpp - Making grouped products -----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/GroupedProduct.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe;

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Emits the product into `inits`.
static GroupedMatmulOp emitInto(ImplicitLocOpBuilder &b,
                                const GroupedProduct &product, ValueRange inits,
                                EpilogueBody epilogue) {
  auto op = GroupedMatmulOp::create(
      b, inits.getTypes(), product.lhs, product.rows, product.rowScale,
      product.offsets, product.weights, product.biases, product.elements,
      product.rowValues, inits, product.inOut, /*panels=*/PanelsAttr());
  OpBuilder::InsertionGuard guard(b);
  Block *body = b.createBlock(&op.getEpilogue());
  size_t numArguments = product.weights.size() + product.biases.size() +
                        product.elements.size() + product.rowValues.size();
  for (size_t i = 0; i < numArguments; ++i)
    body->addArgument(op.getComputeType(), op.getLoc());
  b.setInsertionPointToEnd(body);
  YieldOp::create(b, epilogue(b, body->getArguments()));
  return op;
}

SmallVector<Value> moe::emitGroupedProduct(ImplicitLocOpBuilder &b,
                                           const GroupedProduct &product,
                                           ArrayRef<Type> elementTypes,
                                           EpilogueBody epilogue) {
  int64_t width =
      typeOf(product.weights.front()).getDimSize(product.inOut ? 2 : 1);
  SmallVector<Value> inits;
  for (Type type : elementTypes)
    inits.push_back(tensor::EmptyOp::create(
        b, ArrayRef<OpFoldResult>{product.numRows, b.getIndexAttr(width)},
        type));
  return llvm::to_vector_of<Value>(
      emitInto(b, product, inits, epilogue).getResults());
}

Value moe::emitGroupedSum(ImplicitLocOpBuilder &b,
                          const GroupedProduct &product, Value dest) {
  return emitInto(b, product, dest,
                  [](ImplicitLocOpBuilder &, ValueRange sums) {
                    return SmallVector<Value>{sums[0]};
                  })
      .getResult(0);
}

GroupOp moe::emitGroup(ImplicitLocOpBuilder &b, Value ids, Value weights,
                       int64_t numExperts, Choice choice,
                       OpFoldResult numTokens) {
  AffineExpr s0 = b.getAffineSymbolExpr(0), s1 = b.getAffineSymbolExpr(1);
  OpFoldResult capacity = affine::makeComposedFoldedAffineApply(
      b, b.getLoc(), AffineMap::get(0, 2, s0 * s1),
      {tensor::getMixedSize(b, b.getLoc(), ids, 0),
       tensor::getMixedSize(b, b.getLoc(), ids, 1)});
  OpFoldResult ends = affine::makeComposedFoldedAffineApply(
      b, b.getLoc(), AffineMap::get(0, 1, s0 + 1), {numTokens});
  auto list = [&](OpFoldResult size, Type element) -> Value {
    return tensor::EmptyOp::create(b, ArrayRef<OpFoldResult>{size}, element);
  };
  Type i32 = b.getI32Type();
  SmallVector<Value> inits = {list(b.getIndexAttr(numExperts + 1), i32),
                              list(capacity, i32), list(ends, i32),
                              list(capacity, i32)};
  if (weights)
    inits.push_back(list(capacity, typeOf(weights).getElementType()));
  return GroupOp::create(b, ValueRange(inits).getTypes(), ids, weights, inits,
                         choice);
}

Value moe::addLeadingOne(ImplicitLocOpBuilder &b, Value value) {
  RankedTensorType type = typeOf(value);
  SmallVector<int64_t> shape = {1};
  llvm::append_range(shape, type.getShape());
  SmallVector<ReassociationIndices> groups = {{0, 1}};
  for (int64_t dim = 1; dim < type.getRank(); ++dim)
    groups.push_back({dim + 1});
  return tensor::ExpandShapeOp::create(
      b, RankedTensorType::get(shape, type.getElementType()), value, groups);
}

/// A weight with a folded expert axis as [E, rows, cols].
static Value unfold(ImplicitLocOpBuilder &b, Value tensor, int64_t numExperts) {
  RankedTensorType type = typeOf(tensor);
  if (type.getRank() == 3)
    return tensor;
  SmallVector<int64_t> shape = {numExperts, type.getDimSize(0) / numExperts,
                                type.getDimSize(1)};
  return tensor::ExpandShapeOp::create(
      b, RankedTensorType::get(shape, type.getElementType()), tensor,
      ArrayRef<ReassociationIndices>{{0, 1}, {2}});
}

SmallVector<Value> moe::viewUp(ImplicitLocOpBuilder &b, ExpertsOp op,
                               ValueRange tensors, bool isBias) {
  LayoutAttr layout = op.getLayout();
  int64_t width = op.getIntermediateSize();
  SmallVector<Value> views;
  for (Value tensor : tensors)
    views.push_back(isBias ? tensor : unfold(b, tensor, op.getNumExperts()));
  if (!op.getGated() || !layout.isFused() || views.empty())
    return views;

  Value fused = views.front();
  RankedTensorType type = typeOf(fused);
  int64_t axis =
      isBias || layout.getOrientation() == Orientation::out_in ? 1 : 2;
  auto slice = [&](int64_t side) -> Value {
    SmallVector<OpFoldResult> offsets(type.getRank(), b.getIndexAttr(0));
    SmallVector<OpFoldResult> strides(type.getRank(), b.getIndexAttr(1));
    SmallVector<OpFoldResult> sizes;
    for (int64_t size : type.getShape())
      sizes.push_back(b.getIndexAttr(size));
    bool interleaved = layout.getPairing() == Pairing::interleaved;
    offsets[axis] = b.getIndexAttr(interleaved ? side : side * width);
    strides[axis] = b.getIndexAttr(interleaved ? 2 : 1);
    sizes[axis] = b.getIndexAttr(width);
    return tensor::ExtractSliceOp::create(b, fused, offsets, sizes, strides);
  };
  int64_t gateSide = layout.getOrder() == PairOrder::gate_up ? 0 : 1;
  return {slice(gateSide), slice(1 - gateSide)};
}

Value moe::viewDown(ImplicitLocOpBuilder &b, ExpertsOp op) {
  return unfold(b, op.getDown(), op.getNumExperts());
}

LayoutAttr moe::withOneShard(LayoutAttr layout) {
  return LayoutAttr::get(layout.getContext(), layout.getOrientation(),
                         layout.getDown(), layout.getPairing(),
                         layout.getOrder(), layout.getExpertAxis(),
                         /*shards=*/1);
}

SmallVector<Value> moe::unshard(ImplicitLocOpBuilder &b, ExpertsOp op,
                                Projection projection) {
  ValueRange tensors =
      projection == Projection::up ? op.getUp() : op.getUpBias();
  LayoutAttr layout = op.getLayout();
  if (tensors.empty() || layout.getShards() == 1 || !op.getGated())
    return tensors;
  auto converted = RelayoutOp::create(
      b, tensors.getTypes(), projection, tensors, op.getNumExperts(),
      op.getGated(), layout, withOneShard(layout));
  return llvm::to_vector_of<Value>(converted.getResults());
}
