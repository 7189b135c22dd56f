//===- ThreadEmitter.cpp - Code of one GPU thread ------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ThreadEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"

using namespace mlir;
using namespace mlir::moe;

Value ThreadEmitter::index(int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

Value ThreadEmitter::id(int64_t value) {
  return arith::ConstantOp::create(b, b.getI32IntegerAttr(value));
}

Value ThreadEmitter::real(double value) {
  return arith::ConstantOp::create(b, b.getFloatAttr(compute, value));
}

Value ThreadEmitter::add(Value x, Value y) {
  return b.createOrFold<arith::AddIOp>(x, y);
}

Value ThreadEmitter::sub(Value x, Value y) {
  return b.createOrFold<arith::SubIOp>(x, y);
}

Value ThreadEmitter::mul(Value x, Value y) {
  return b.createOrFold<arith::MulIOp>(x, y);
}

Value ThreadEmitter::dim(Value memref, int64_t dimension) {
  return b.createOrFold<memref::DimOp>(memref, dimension);
}

Value ThreadEmitter::multiplyAdd(Value x, Value y, Value sum) {
  return math::FmaOp::create(b, x, y, sum);
}

Value ThreadEmitter::load(Value memref, ValueRange indices) {
  return convertFloat(b, memref::LoadOp::create(b, memref, indices), compute);
}

void ThreadEmitter::store(Value value, Value memref, ValueRange indices) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  memref::StoreOp::create(b, convertFloat(b, value, element), memref, indices);
}

Value ThreadEmitter::loadIndex(Value memref, ValueRange indices) {
  return arith::IndexCastOp::create(b, b.getIndexType(),
                                    memref::LoadOp::create(b, memref, indices));
}

void ThreadEmitter::storeIndex(Value value, Value memref, ValueRange indices) {
  Value narrow = arith::IndexCastOp::create(b, b.getI32Type(), value);
  memref::StoreOp::create(b, narrow, memref, indices);
}

Value ThreadEmitter::isBelow(Value number, Value limit) {
  // As unsigned, a negative number is past every limit.
  Value bound = arith::IndexCastOp::create(b, b.getI32Type(), limit);
  return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, number, bound);
}

SmallVector<Value> ThreadEmitter::loop(Value begin, Value end, ValueRange inits,
                                       Body body) {
  auto loop = scf::ForOp::create(
      b, begin, end, index(1), inits,
      [&](OpBuilder &, Location, Value place, ValueRange carried) {
        scf::YieldOp::create(b, body(place, carried));
      });
  return SmallVector<Value>(loop.getResults());
}

void ThreadEmitter::loop(Value begin, Value end,
                         llvm::function_ref<void(Value)> body) {
  loop(begin, end, ValueRange(), [&](Value place, ValueRange) {
    body(place);
    return SmallVector<Value>();
  });
}

void ThreadEmitter::when(Value condition, llvm::function_ref<void()> body) {
  auto conditional = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(conditional.thenBlock());
  body();
}

void ThreadEmitter::threads(Operation *anchor, ArrayRef<Value> counts,
                            llvm::function_ref<void(ValueRange)> body) {
  OpBuilder::InsertionGuard guard(b);
  if (!anchor->getParentOfType<scf::ForallOp>()) {
    auto loop = scf::ForallOp::create(b, getAsOpFoldResult(ValueRange(counts)),
                                      /*outputs=*/ValueRange(),
                                      /*mapping=*/std::nullopt);
    b.setInsertionPointToStart(loop.getBody());
    return body(loop.getInductionVars());
  }
  SmallVector<Value> places;
  for (Value count : counts) {
    auto loop = scf::ForOp::create(b, index(0), count, index(1));
    places.push_back(loop.getInductionVar());
    b.setInsertionPointToStart(loop.getBody());
  }
  body(places);
}
