//===- TensorTile.cpp - Tiles of products on tensor cores ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TensorTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

MemRefType TilePanel::getType(Type element, int64_t stages, int64_t extent,
                              bool isDepthMajor) {
  auto workgroup = gpu::AddressSpaceAttr::get(
      element.getContext(), gpu::GPUDialect::getWorkgroupAddressSpace());
  int64_t lines = isDepthMajor ? kTileDepth : extent;
  int64_t length = isDepthMajor ? extent : kTileDepth;
  return MemRefType::get({stages, lines, length}, element,
                         MemRefLayoutAttrInterface(), workgroup);
}

int64_t TilePanel::getLines() const {
  return cast<MemRefType>(buffer.getType()).getDimSize(1);
}

int64_t TilePanel::getPieces() const {
  return cast<MemRefType>(buffer.getType()).getDimSize(2) / kTilePiece;
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
/// ldmatrix reads together are 64 bytes, or 128 and more, apart.
Value TileEmitter::getColumn(const TilePanel &panel, Value line, Value piece) {
  int64_t pieces = panel.getPieces();
  Value turn = pieces >= 8 ? rem(line, 8) : rem(div(line, 8 / pieces), pieces);
  return times(b.createOrFold<arith::XOrIOp>(piece, turn), kTilePiece);
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
  Value size = select(counts, emit.index(kTilePiece), emit.index(0));
  nvgpu::DeviceAsyncCopyOp::create(
      b, panel.buffer, ValueRange{stage, line, column}, source, at,
      b.getIndexAttr(kTilePiece), size, b.getUnitAttr());
}

void TileEmitter::commit() {
  token = nvgpu::DeviceAsyncCreateGroupOp::create(
      b, nvgpu::DeviceAsyncTokenType::get(b.getContext()), ValueRange());
}

void TileEmitter::wait(int64_t youngest) {
  nvgpu::DeviceAsyncWaitOp::create(b, token, b.getI32IntegerAttr(youngest));
  gpu::BarrierOp::create(b);
}

/// Four 8 x 8 matrices; every lane names a line of one.
Value TileEmitter::loadMatrices(const TilePanel &panel, Value stage, Value line,
                                Value piece, bool transpose) {
  Type element = cast<MemRefType>(panel.buffer.getType()).getElementType();
  return nvgpu::LdMatrixOp::create(
      b, VectorType::get({4, 2}, element), panel.buffer,
      ValueRange{stage, line, getColumn(panel, line, piece)}, transpose,
      /*numTiles=*/4);
}

/// The matrices are rows 0-7 and 8-15 of the first half of the depth, then of
/// the second.
Value TileEmitter::loadRows(const TilePanel &panel, Value stage, Value first,
                            int64_t step) {
  if (!panel.isDepthMajor)
    return loadMatrices(panel, stage, emit.add(first, rem(lane, kMmaRows)),
                        plus(div(lane, kMmaRows), step * 2),
                        /*transpose=*/false);
  Value matrix = div(lane, 8);
  Value line = emit.add(times(div(matrix, 2), 8), rem(lane, 8));
  return loadMatrices(panel, stage, plus(line, step * kMmaDepth),
                      emit.add(div(first, kTilePiece), rem(matrix, 2)),
                      /*transpose=*/true);
}

/// The matrices are both halves of the depth of outputs 0-7, then of 8-15.
std::array<Value, 2> TileEmitter::loadOutputs(const TilePanel &panel,
                                              Value stage, Value first,
                                              int64_t step) {
  Value matrix = div(lane, 8), own = rem(lane, 8);
  Value matrices;
  if (!panel.isDepthMajor)
    matrices = loadMatrices(
        panel, stage, emit.add(first, emit.add(own, times(div(matrix, 2), 8))),
        plus(rem(matrix, 2), step * 2), /*transpose=*/false);
  else
    matrices = loadMatrices(
        panel, stage,
        plus(emit.add(own, times(rem(matrix, 2), 8)), step * kMmaDepth),
        emit.add(div(first, kTilePiece), div(matrix, 2)), /*transpose=*/true);
  auto half = [&](int64_t number) -> Value {
    return vector::ExtractStridedSliceOp::create(
        b, matrices, ArrayRef<int64_t>{2 * number}, ArrayRef<int64_t>{2},
        ArrayRef<int64_t>{1});
  };
  return {half(0), half(1)};
}

Value TileEmitter::multiply(Value rows, Value outputs, Value sum) {
  return nvgpu::MmaSyncOp::create(
      b, sum.getType(), rows, outputs, sum,
      b.getI64ArrayAttr({kMmaRows, kMmaOutputs, kMmaDepth}),
      /*tf32Enabled=*/UnitAttr());
}

Value TileEmitter::getZeroSum() {
  return arith::ConstantOp::create(
      b, b.getZeroAttr(VectorType::get({2, 2}, b.getF32Type())));
}
