//===- TensorTile.cpp - Tiles of products on tensor cores ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TensorTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

int64_t moe::getPieceSize(Type element) {
  return kPieceBytes * 8 / element.getIntOrFloatBitWidth();
}

MemRefType TilePanel::getType(Type element, int64_t stages, int64_t extent,
                              bool isDepthMajor) {
  auto workgroup = gpu::AddressSpaceAttr::get(
      element.getContext(), gpu::GPUDialect::getWorkgroupAddressSpace());
  int64_t depth = getTileDepth(element);
  int64_t lines = isDepthMajor ? depth : extent;
  int64_t length = isDepthMajor ? extent : depth;
  return MemRefType::get({stages, lines, length}, element,
                         MemRefLayoutAttrInterface(), workgroup);
}

Type TilePanel::getElement() const {
  return cast<MemRefType>(buffer.getType()).getElementType();
}

int64_t TilePanel::getLines() const {
  return cast<MemRefType>(buffer.getType()).getDimSize(1);
}

int64_t TilePanel::getPieces() const {
  return cast<MemRefType>(buffer.getType()).getDimSize(2) /
         getPieceSize(getElement());
}

void TileEmitter::setThread(Value number) {
  thread = number;
  lane = rem(thread, 32);
  warp = div(thread, 32);
}

Value TileEmitter::less(Value x, Value y) {
  return b.createOrFold<arith::CmpIOp>(arith::CmpIPredicate::ult, x, y);
}

Value TileEmitter::both(Value x, Value y) {
  return b.createOrFold<arith::AndIOp>(x, y);
}

Value TileEmitter::select(Value condition, Value x, Value y) {
  return b.createOrFold<arith::SelectOp>(condition, x, y);
}

Value TileEmitter::div(Value x, int64_t y) {
  return b.createOrFold<arith::DivUIOp>(x, emit.index(y));
}

Value TileEmitter::rem(Value x, int64_t y) {
  return b.createOrFold<arith::RemUIOp>(x, emit.index(y));
}

Value TileEmitter::times(Value x, int64_t y) {
  return emit.mul(x, emit.index(y));
}

Value TileEmitter::plus(Value x, int64_t y) {
  return emit.add(x, emit.index(y));
}

/// The place in a line where a piece lies. Eight lines of a piece that
/// ldmatrix reads together are 64 bytes, or 128 and more, apart; numbers of 32
/// bits are read from pairs of pieces in four lines.
Value TileEmitter::getColumn(const TilePanel &panel, Value line, Value piece) {
  int64_t pieces = panel.getPieces();
  Value turn;
  if (panel.isDepthMajor && panel.getElement().isF32())
    turn = times(rem(line, 4), 2);
  else
    turn = pieces >= 8 ? rem(line, 8) : rem(div(line, 8 / pieces), pieces);
  return times(b.createOrFold<arith::XOrIOp>(piece, turn),
               getPieceSize(panel.getElement()));
}

Value TileEmitter::getLine(const TilePanel &panel, int64_t copy) {
  return plus(div(thread, panel.getPieces()), copy * panel.getLinesAtOnce());
}

Value TileEmitter::getPiece(const TilePanel &panel) {
  return rem(thread, panel.getPieces());
}

void TileEmitter::copy(const TilePanel &panel, Value stage, Value line,
                       Value source, ValueRange at, Value counts) {
  Value column = getColumn(panel, line, getPiece(panel));
  int64_t numbers = getPieceSize(panel.getElement());
  Value size = select(counts, emit.index(numbers), emit.index(0));
  nvgpu::DeviceAsyncCopyOp::create(
      b, panel.buffer, ValueRange{stage, line, column}, source, at,
      b.getIndexAttr(numbers), size, b.getUnitAttr());
}

void TileEmitter::commit() {
  token = nvgpu::DeviceAsyncCreateGroupOp::create(
      b, nvgpu::DeviceAsyncTokenType::get(b.getContext()), ValueRange());
}

void TileEmitter::wait(int64_t youngest) {
  nvgpu::DeviceAsyncWaitOp::create(b, token, b.getI32IntegerAttr(youngest));
  gpu::BarrierOp::create(b);
}

/// Four matrices of 8 lines of a piece; every lane names a line of one.
Value TileEmitter::loadMatrices(const TilePanel &panel, Value stage, Value line,
                                Value piece, bool transpose) {
  Type element = panel.getElement();
  int64_t inWord = 32 / element.getIntOrFloatBitWidth();
  return nvgpu::LdMatrixOp::create(
      b, VectorType::get({4, inWord}, element), panel.buffer,
      ValueRange{stage, line, getColumn(panel, line, piece)}, transpose,
      /*numTiles=*/4);
}

/// The numbers of 32 bits that a lane has of 8 places of the depth, which
/// ldmatrix can't transpose: for each half of the depth, `numRows` rows that
/// are 8 apart.
Value TileEmitter::loadNumbers(const TilePanel &panel, Value stage, Value first,
                               int64_t step, int64_t numRows) {
  int64_t size = getPieceSize(panel.getElement());
  Value row = emit.add(first, div(lane, 4));
  SmallVector<Value> numbers;
  for (int64_t half = 0; half < 2; ++half) {
    Value line = plus(rem(lane, 4), step * kMmaPieces * size + half * size);
    for (int64_t i = 0; i < numRows; ++i) {
      Value own = plus(row, 8 * i);
      Value column =
          emit.add(getColumn(panel, line, div(own, size)), rem(own, size));
      numbers.push_back(memref::LoadOp::create(
          b, panel.buffer, ValueRange{stage, line, column}));
    }
  }
  return vector::FromElementsOp::create(
      b, VectorType::get({2 * numRows, 1}, panel.getElement()), numbers);
}

Value TileEmitter::roundFragment(Value fragment) {
  auto type = cast<VectorType>(fragment.getType());
  if (!type.getElementType().isF32())
    return fragment;
  SmallVector<Value> rounded;
  for (int64_t i = 0; i < type.getDimSize(0); ++i) {
    Value number =
        vector::ExtractOp::create(b, fragment, ArrayRef<int64_t>{i, 0});
    Value bits = NVVM::ConvertFloatToTF32Op::create(
        b, b.getI32Type(), number, NVVM::FPRoundingMode::RNA,
        NVVM::SaturationMode::NONE, /*relu=*/false);
    rounded.push_back(arith::BitcastOp::create(b, b.getF32Type(), bits));
  }
  return vector::FromElementsOp::create(b, type, rounded);
}

/// The matrices are rows 0-7 and 8-15 of the first half of the depth, then of
/// the second.
Value TileEmitter::loadRows(const TilePanel &panel, Value stage, Value first,
                            int64_t step) {
  if (!panel.isDepthMajor)
    return roundFragment(
        loadMatrices(panel, stage, emit.add(first, rem(lane, kMmaRows)),
                     plus(div(lane, kMmaRows), step * kMmaPieces),
                     /*transpose=*/false));
  int64_t size = getPieceSize(panel.getElement());
  if (panel.getElement().isF32())
    return roundFragment(loadNumbers(panel, stage, first, step, 2));
  Value matrix = div(lane, 8);
  Value line = emit.add(times(div(matrix, 2), 8), rem(lane, 8));
  return loadMatrices(panel, stage, plus(line, step * kMmaPieces * size),
                      emit.add(div(first, size), rem(matrix, 2)),
                      /*transpose=*/true);
}

/// The matrices are both halves of the depth of outputs 0-7, then of 8-15.
std::array<Value, 2> TileEmitter::loadOutputs(const TilePanel &panel,
                                              Value stage, Value first,
                                              int64_t step) {
  int64_t size = getPieceSize(panel.getElement());
  if (panel.isDepthMajor && panel.getElement().isF32()) {
    auto load = [&](Value outputs) {
      return roundFragment(loadNumbers(panel, stage, outputs, step, 1));
    };
    return {load(first), load(plus(first, kMmaOutputs))};
  }
  Value matrix = div(lane, 8), own = rem(lane, 8);
  Value matrices;
  if (!panel.isDepthMajor)
    matrices = roundFragment(loadMatrices(
        panel, stage, emit.add(first, emit.add(own, times(div(matrix, 2), 8))),
        plus(rem(matrix, 2), step * kMmaPieces), /*transpose=*/false));
  else
    matrices = loadMatrices(
        panel, stage,
        plus(emit.add(own, times(rem(matrix, 2), 8)), step * kMmaPieces * size),
        emit.add(div(first, size), div(matrix, 2)), /*transpose=*/true);
  auto half = [&](int64_t number) -> Value {
    return vector::ExtractStridedSliceOp::create(
        b, matrices, ArrayRef<int64_t>{2 * number}, ArrayRef<int64_t>{2},
        ArrayRef<int64_t>{1});
  };
  return {half(0), half(1)};
}

Value TileEmitter::multiply(Value rows, Value outputs, Value sum) {
  Type element = cast<VectorType>(rows.getType()).getElementType();
  return nvgpu::MmaSyncOp::create(
      b, sum.getType(), rows, outputs, sum,
      b.getI64ArrayAttr(
          {kMmaRows, kMmaOutputs, kMmaPieces * getPieceSize(element)}),
      element.isF32() ? b.getUnitAttr() : UnitAttr());
}

Value TileEmitter::getZeroSum() {
  return arith::ConstantOp::create(
      b, b.getZeroAttr(VectorType::get({2, 2}, b.getF32Type())));
}
