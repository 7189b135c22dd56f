//===- ProductParts.cpp - What kernels of products share -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ProductParts.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

/// The buffer that a view is of.
static Value getBase(Value view) {
  while (Operation *op = view.getDefiningOp()) {
    if (!isa<memref::SubViewOp, memref::ExpandShapeOp, memref::CollapseShapeOp,
             memref::CastOp>(op))
      break;
    view = op->getOperand(0);
  }
  return view;
}

/// Whether exp and quotients may be the hardware's approximations, of 2 units
/// in the last place of f32: numbers of 16 bits have no use for more. Not for
/// what a token's thread computes, where choices are made.
static bool isApproximate(GroupedMatmulOp op) {
  return isa<FunctionOpInterface>(op->getParentOp()) &&
         typeOf(op.getLhs()[0]).getElementTypeBitWidth() == 16 &&
         op.getComputeType().isF32();
}

/// An op of an epilogue as an approximation; null if it has none.
static Value approximate(ImplicitLocOpBuilder &b, Operation *op,
                         const IRMapping &mapping) {
  if (auto quotient = dyn_cast<arith::DivFOp>(op))
    return arith::DivFOp::create(b, mapping.lookupOrDefault(quotient.getLhs()),
                                 mapping.lookupOrDefault(quotient.getRhs()),
                                 arith::FastMathFlags::afn);
  auto exp = dyn_cast<math::ExpOp>(op);
  if (!exp || !exp.getType().isF32())
    return Value();
  Value factor =
      arith::ConstantOp::create(b, b.getF32FloatAttr(llvm::numbers::log2ef));
  Value scaled = arith::MulFOp::create(
      b, mapping.lookupOrDefault(exp.getOperand()), factor);
  // math.exp2 would be a call of the device library.
  auto power = LLVM::CallIntrinsicOp::create(
      b, scaled.getType(), b.getStringAttr("llvm.nvvm.ex2.approx"), scaled);
  return power.getResult(0);
}

SmallVector<Value> moe::emitEpilogueValues(ImplicitLocOpBuilder &b,
                                           ThreadEmitter &emit,
                                           GroupedMatmulOp op,
                                           const ProductPlace &place,
                                           ArrayRef<Value> sums) {
  SmallVector<Value> arguments(sums);
  for (Value bias : op.getBiases())
    arguments.push_back(emit.load(bias, {place.expert, place.output}));
  for (Value element : op.getElements())
    arguments.push_back(emit.load(element, {place.row, place.output}));
  for (Value value : op.getRowValues())
    arguments.push_back(emit.load(value, place.row));
  Block &epilogue = op.getEpilogue().front();
  IRMapping mapping;
  mapping.map(epilogue.getArguments(), arguments);
  bool mayApproximate = isApproximate(op);
  for (Operation &inner : epilogue.without_terminator())
    if (Value value =
            mayApproximate ? approximate(b, &inner, mapping) : Value())
      mapping.map(inner.getResult(0), value);
    else
      b.clone(inner, mapping);
  return llvm::map_to_vector(
      epilogue.getTerminator()->getOperands(),
      [&](Value yielded) { return mapping.lookupOrDefault(yielded); });
}

void moe::emitEpilogue(ImplicitLocOpBuilder &b, ThreadEmitter &emit,
                       GroupedMatmulOp op, const ProductPlace &place,
                       ArrayRef<Value> sums) {
  SmallVector<Value> values = emitEpilogueValues(b, emit, op, place, sums);
  for (auto [init, value] : llvm::zip(op.getInits(), values))
    emit.store(value, init, {place.row, place.output});
}

Value moe::loadNeighbours(ImplicitLocOpBuilder &b, ThreadEmitter &emit,
                          Value memref, ValueRange indices, int64_t size) {
  if (size == 1)
    return emit.load(memref, indices);
  Type element = typeOf(memref).getElementType();
  int64_t bytes = size * element.getIntOrFloatBitWidth() / 8;
  Value loaded = vector::LoadOp::create(
      b, VectorType::get({size}, element), memref, indices,
      /*nontemporal=*/false, llvm::MaybeAlign(bytes));
  return convertFloat(b, loaded, emit.getComputeType());
}

Value moe::scaleNumber(ImplicitLocOpBuilder &b, ThreadEmitter &emit, Value lhs,
                       Value number, Value scale) {
  if (number.getType() != scale.getType())
    scale = vector::BroadcastOp::create(b, number.getType(), scale);
  Value scaled = arith::MulFOp::create(b, number, scale);
  return convertFloat(b, convertFloat(b, scaled, typeOf(lhs).getElementType()),
                      emit.getComputeType());
}

void moe::storeNeighbours(ImplicitLocOpBuilder &b, ArrayRef<Value> numbers,
                          Value memref, ValueRange at) {
  Type element = typeOf(memref).getElementType();
  SmallVector<Value> rounded = llvm::map_to_vector(
      numbers, [&](Value number) { return convertFloat(b, number, element); });
  if (rounded.size() == 1) {
    memref::StoreOp::create(b, rounded.front(), memref, at);
    return;
  }
  int64_t size = rounded.size();
  Value all = vector::FromElementsOp::create(
      b, VectorType::get({size}, element), rounded);
  vector::StoreOp::create(
      b, all, memref, at, /*nontemporal=*/false,
      llvm::MaybeAlign(size * element.getIntOrFloatBitWidth() / 8));
}

bool moe::isRowOfBlocks(Value view, int64_t size) {
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(typeOf(view).getStridesAndOffset(strides, offset)) ||
      strides.back() != 1)
    return false;
  for (int64_t stride : ArrayRef(strides).drop_back())
    if (ShapedType::isDynamic(stride) || stride % size != 0)
      return false;
  for (Value at = view; Operation *def = at.getDefiningOp();
       at = def->getOperand(0)) {
    if (isa<memref::AllocOp>(def))
      return true;
    if (auto part = dyn_cast<memref::SubViewOp>(def)) {
      // Offsets of the other dimensions are multiples of strides.
      int64_t last = part.getStaticOffsets().back();
      if (ShapedType::isDynamic(last) || last % size != 0)
        return false;
    } else if (!isa<memref::ExpandShapeOp, memref::CollapseShapeOp,
                    memref::CastOp>(def)) {
      return false;
    }
  }
  return isa<BlockArgument>(getBase(view));
}

bool moe::isTensorCoreType(Type element, bool mayRound) {
  return element.isBF16() || element.isF16() || (mayRound && element.isF32());
}

void moe::assertAligned(ImplicitLocOpBuilder &b, Operation *op, Value view,
                        int64_t bytes) {
  auto argument = dyn_cast<BlockArgument>(getBase(view));
  if (!argument)
    return;
  OpBuilder::InsertionGuard guard(b);
  Operation *outer = op;
  while (outer->getBlock() != argument.getOwner())
    outer = outer->getParentOp();
  b.setInsertionPoint(outer);
  auto index = [&](int64_t value) {
    return arith::ConstantIndexOp::create(b, value);
  };
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(b, argument);
  Value rest = arith::AndIOp::create(b, address, index(bytes - 1));
  Value fits =
      arith::CmpIOp::create(b, arith::CmpIPredicate::eq, rest, index(0));
  cf::AssertOp::create(
      b, fits,
      b.getStringAttr("argument " + Twine(argument.getArgNumber()) +
                      " is not aligned to " + Twine(bytes) + " bytes"));
}
