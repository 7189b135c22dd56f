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
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"

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
  for (Operation &inner : epilogue.without_terminator())
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
