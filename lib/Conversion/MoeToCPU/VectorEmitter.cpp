//===- VectorEmitter.cpp - Vectors of a row, tails masked -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "VectorEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

Value VectorEmitter::index(int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

Value VectorEmitter::zero() {
  return arith::ConstantOp::create(b, b.getZeroAttr(getType()));
}

Value VectorEmitter::add(Value x, Value y) {
  return arith::AddFOp::create(b, x, y);
}

Value VectorEmitter::convert(Value value, Type element) {
  Type type = value.getType();
  unsigned from = getElementTypeOrSelf(type).getIntOrFloatBitWidth();
  unsigned to = element.getIntOrFloatBitWidth();
  if (getElementTypeOrSelf(type) == element)
    return value;
  if (auto vector = dyn_cast<VectorType>(type))
    type = vector.clone(element);
  else
    type = element;
  if (from < to)
    return arith::ExtFOp::create(b, type, value);
  return arith::TruncFOp::create(b, type, value);
}

Value VectorEmitter::mask(int64_t size) {
  return vector::CreateMaskOp::create(
      b, VectorType::get({lanes}, b.getI1Type()), ValueRange{index(size)});
}

bool VectorEmitter::hasUnitStride(Value memref) {
  // Not areTrailingDimsContiguous, which passes over a stride of one element.
  return cast<MemRefType>(memref.getType()).isLastDimUnitStride();
}

Value VectorEmitter::loadScalar(Value memref, ValueRange indices) {
  return convert(memref::LoadOp::create(b, memref, indices), compute);
}

Value VectorEmitter::load(Value memref, ValueRange indices, int64_t size) {
  auto type = cast<MemRefType>(memref.getType());
  auto vectorType = VectorType::get({lanes}, type.getElementType());
  if (!hasUnitStride(memref)) {
    // Every other element, as interleaved weights have it.
    Value none =
        arith::ConstantOp::create(b, b.getZeroAttr(type.getElementType()));
    SmallVector<Value> elements;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      if (lane >= size) {
        elements.push_back(none);
        continue;
      }
      SmallVector<Value> at(indices);
      at.back() = arith::AddIOp::create(b, at.back(), index(lane));
      elements.push_back(memref::LoadOp::create(b, memref, at));
    }
    return convert(vector::FromElementsOp::create(b, vectorType, elements),
                   compute);
  }
  if (size == lanes)
    return convert(vector::LoadOp::create(b, vectorType, memref, indices),
                   compute);
  Value none = arith::ConstantOp::create(b, b.getZeroAttr(vectorType));
  return convert(vector::MaskedLoadOp::create(b, vectorType, memref, indices,
                                              mask(size), none),
                 compute);
}

Value VectorEmitter::loadUpTo(Value memref, ValueRange indices, Value count) {
  auto type = VectorType::get(
      {lanes}, cast<MemRefType>(memref.getType()).getElementType());
  Value isInside = vector::CreateMaskOp::create(
      b, VectorType::get({lanes}, b.getI1Type()), count);
  Value none = arith::ConstantOp::create(b, b.getZeroAttr(type));
  return convert(
      vector::MaskedLoadOp::create(b, type, memref, indices, isInside, none),
      compute);
}

void VectorEmitter::store(Value vector, Value memref, ValueRange indices,
                          int64_t size) {
  vector = convert(vector, cast<MemRefType>(memref.getType()).getElementType());
  if (!hasUnitStride(memref)) {
    for (int64_t lane = 0; lane < size; ++lane) {
      SmallVector<Value> at(indices);
      at.back() = arith::AddIOp::create(b, at.back(), index(lane));
      Value element =
          vector::ExtractOp::create(b, vector, ArrayRef<int64_t>{lane});
      memref::StoreOp::create(b, element, memref, at);
    }
    return;
  }
  if (size == lanes)
    vector::StoreOp::create(b, vector, memref, indices);
  else
    vector::MaskedStoreOp::create(b, memref, indices, mask(size), vector);
}

Value VectorEmitter::broadcast(Value scalar) {
  return vector::BroadcastOp::create(b, getType(), scalar);
}

Value VectorEmitter::sumLanes(Value vector) {
  int64_t size = lanes;
  while (size > 1) {
    size /= 2;
    auto half = [&](int64_t offset) -> Value {
      return vector::ExtractStridedSliceOp::create(
          b, vector, ArrayRef<int64_t>{offset}, ArrayRef<int64_t>{size},
          ArrayRef<int64_t>{1});
    };
    vector = add(half(0), half(size));
  }
  return vector::ExtractOp::create(b, vector, ArrayRef<int64_t>{0});
}

Value VectorEmitter::loadIndex(Value memref, Value position) {
  Value value = memref::LoadOp::create(b, memref, position);
  return arith::IndexCastOp::create(b, b.getIndexType(), value);
}

void VectorEmitter::loop(Value begin, Value end, int64_t step,
                         llvm::function_ref<void(Value)> body) {
  auto loop = scf::ForOp::create(b, begin, end, index(step));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}

void VectorEmitter::forEachVector(
    int64_t extent, llvm::function_ref<void(Value, int64_t)> body) {
  int64_t full = extent / lanes * lanes;
  if (full > 0)
    loop(index(0), index(full), lanes,
         [&](Value column) { body(column, lanes); });
  if (full < extent)
    body(index(full), extent - full);
}

void moe::emitTasks(ImplicitLocOpBuilder &b, Operation *anchor, Value count,
                    llvm::function_ref<void(Value task)> body) {
  Value zero = arith::ConstantIndexOp::create(b, 0);
  Value one = arith::ConstantIndexOp::create(b, 1);
  OpBuilder::InsertionGuard guard(b);
  if (anchor->getParentOfType<scf::ForallOp>()) {
    auto loop = scf::ForOp::create(b, zero, count, one);
    b.setInsertionPointToStart(loop.getBody());
    body(loop.getInductionVar());
    return;
  }
  auto loop = scf::ForallOp::create(
      b, ArrayRef<OpFoldResult>{b.getIndexAttr(0)},
      ArrayRef<OpFoldResult>{count}, ArrayRef<OpFoldResult>{b.getIndexAttr(1)},
      /*outputs=*/ValueRange(), /*mapping=*/std::nullopt);
  b.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar(0));
}
