//===- Emit.cpp - What backwards are made of ------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

FloatType moe::getWidestType(ImplicitLocOpBuilder &b, ArrayRef<Value> values) {
  for (Value value : values)
    if (value && getElementTypeOrSelf(value.getType()).isF64())
      return b.getF64Type();
  return b.getF32Type();
}

Value moe::emitZeros(ImplicitLocOpBuilder &b, Value dest) {
  Value zero = arith::ConstantOp::create(
      b, b.getFloatAttr(typeOf(dest).getElementType(), 0.0));
  return linalg::FillOp::create(b, zero, dest).getResult(0);
}

Value moe::emitNew(ImplicitLocOpBuilder &b, ArrayRef<OpFoldResult> sizes,
                   Type element) {
  return tensor::EmptyOp::create(b, sizes, element);
}

Value moe::emitTimes(ImplicitLocOpBuilder &b, Value value, double factor) {
  if (factor == 1.0)
    return value;
  return arith::MulFOp::create(b, value, emitSplat(b, value, factor));
}

Value moe::emitColumnSums(ImplicitLocOpBuilder &b, Value matrix) {
  RankedTensorType type = typeOf(matrix);
  FloatType compute = getWidestType(b, matrix);
  Value dest = emitZeros(
      b, emitNew(b, OpFoldResult(b.getIndexAttr(type.getDimSize(1))), compute));
  AffineMap identity = b.getMultiDimIdentityMap(2);
  SmallVector<AffineMap> maps = {identity, identity.getSubMap({1})};
  SmallVector<utils::IteratorType> iterators = {utils::IteratorType::reduction,
                                                utils::IteratorType::parallel};
  return linalg::GenericOp::create(
             b, dest.getType(), matrix, dest, maps, iterators,
             [&](OpBuilder &builder, Location loc, ValueRange args) {
               ImplicitLocOpBuilder nested(loc, builder);
               Value value = convertElements(nested, args[0], compute);
               Value sum = arith::AddFOp::create(nested, args[1], value);
               linalg::YieldOp::create(nested, sum);
             })
      .getResult(0);
}

Value moe::mapSlots(
    ImplicitLocOpBuilder &b, ValueRange inputs, Value like,
    llvm::function_ref<Value(ImplicitLocOpBuilder &, ValueRange)> body,
    bool isSum) {
  AffineMap both = b.getMultiDimIdentityMap(2), first = both.getSubMap({0});
  SmallVector<AffineMap> maps;
  for (Value input : inputs)
    maps.push_back(typeOf(input).getRank() == 2 ? both : first);
  maps.push_back(isSum ? first : both);
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, b.getLoc(), like);
  if (isSum)
    sizes.pop_back();
  Value dest = emitNew(b, sizes, typeOf(like).getElementType());
  if (isSum)
    dest = emitZeros(b, dest);
  SmallVector<utils::IteratorType> iterators = {
      utils::IteratorType::parallel,
      isSum ? utils::IteratorType::reduction : utils::IteratorType::parallel};
  return linalg::GenericOp::create(
             b, dest.getType(), inputs, dest, maps, iterators,
             [&](OpBuilder &builder, Location loc, ValueRange args) {
               ImplicitLocOpBuilder nested(loc, builder);
               Value value = convertElements(nested, body(nested, args),
                                             args.back().getType());
               if (isSum)
                 value = arith::AddFOp::create(nested, args.back(), value);
               linalg::YieldOp::create(nested, value);
             })
      .getResult(0);
}

Value moe::emitOuter(ImplicitLocOpBuilder &b, OuterSide lhs, OuterSide rhs,
                     Value offsets, Value dest) {
  return GroupedOuterOp::create(b, TypeRange{dest.getType()}, lhs.rows,
                                lhs.numbers, rhs.rows, rhs.numbers, offsets,
                                ValueRange{dest})
      .getResult(0);
}

Value moe::joinFirstTwo(ImplicitLocOpBuilder &b, Value value) {
  RankedTensorType type = typeOf(value);
  SmallVector<ReassociationIndices> groups = {{0, 1}};
  for (int64_t dim = 2; dim < type.getRank(); ++dim)
    groups.push_back({dim});
  return tensor::CollapseShapeOp::create(b, value, groups);
}

Value moe::asColumn(ImplicitLocOpBuilder &b, Value list) {
  RankedTensorType type = typeOf(list);
  SmallVector<OpFoldResult> sizes = {
      tensor::getMixedSize(b, b.getLoc(), list, 0), b.getIndexAttr(1)};
  return tensor::ExpandShapeOp::create(
      b, RankedTensorType::get({type.getDimSize(0), 1}, type.getElementType()),
      list, ArrayRef<ReassociationIndices>{{0, 1}}, sizes);
}
