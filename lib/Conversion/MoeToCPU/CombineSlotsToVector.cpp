//===- CombineSlotsToVector.cpp - moe.combine_slots on buffers ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeToCPU.h"
#include "VectorEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The weighted sum of `columns` neighbours of one token's rows.
class TokenSum {
public:
  TokenSum(ImplicitLocOpBuilder &b, VectorEmitter &emit, CombineSlotsOp op,
           Value token)
      : b(b), emit(emit), op(op), token(token) {}

  void emitColumns(Value column, int64_t size);

private:
  Value constant(double value) {
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(
               emit.getType(), b.getFloatAttr(emit.getComputeType(), value)));
  }
  Value multiplyAdd(Value x, Value y, Value sum) {
    return vector::FMAOp::create(b, x, y, sum);
  }
  Value sumRows(Value column, int64_t size);

  ImplicitLocOpBuilder &b;
  VectorEmitter &emit;
  CombineSlotsOp op;
  Value token;
};

Value TokenSum::sumRows(Value column, int64_t size) {
  Value next = arith::AddIOp::create(b, token, emit.index(1));
  Value begin = emit.loadIndex(op.getFirst(), token);
  Value end = emit.loadIndex(op.getFirst(), next);
  auto loop = scf::ForOp::create(
      b, begin, end, emit.index(1), ValueRange{emit.zero()},
      [&](OpBuilder &, Location, Value place, ValueRange carried) {
        Value row = emit.loadIndex(op.getSlot(), place);
        Value values = emit.load(op.getRows(), {row, column}, size);
        Value sum;
        if (op.getWeight()) {
          Value weight = emit.broadcast(emit.loadScalar(op.getWeight(), row));
          sum = multiplyAdd(weight, values, carried[0]);
        } else {
          sum = emit.add(carried[0], values);
        }
        scf::YieldOp::create(b, sum);
      });
  return loop.getResult(0);
}

void TokenSum::emitColumns(Value column, int64_t size) {
  Value sum = sumRows(column, size);
  if (op.getIdentity()) {
    Value weight =
        emit.broadcast(emit.loadScalar(op.getIdentityWeight(), token));
    // A token without identity slots must not make NaN of an infinite input.
    Value values = emit.load(op.getIdentity(), {token, column}, size);
    Value isUsed = arith::CmpFOp::create(b, arith::CmpFPredicate::UNE, weight,
                                         constant(0.0));
    sum = arith::SelectOp::create(b, isUsed, multiplyAdd(weight, values, sum),
                                  sum);
  }
  double scale = op.getScale().convertToDouble();
  if (scale != 1.0)
    sum = arith::MulFOp::create(b, sum, constant(scale));
  if (op.getBias())
    sum = emit.add(sum, emit.load(op.getBias(), {column}, size));
  if (op.getResidual())
    sum = emit.add(sum, emit.load(op.getResidual(), {token, column}, size));
  if (op.getAverage())
    sum = arith::MulFOp::create(b, sum, constant(0.5));
  emit.store(sum, op.getInit(), {token, column}, size);
}

struct CombineSlotsPattern : public OpRewritePattern<CombineSlotsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(CombineSlotsOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0)
      return rewriter.notifyMatchFailure(op, "is on tensors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    auto type = cast<MemRefType>(op.getInit().getType());
    bool wide =
        type.getElementType().isF64() ||
        cast<MemRefType>(op.getRows().getType()).getElementType().isF64();
    VectorEmitter emit(b, wide ? FloatType(b.getF64Type())
                               : FloatType(b.getF32Type()));
    Value tokens = b.createOrFold<memref::DimOp>(op.getInit(), 0);
    emitTasks(b, op, tokens, [&](Value token) {
      TokenSum sum(b, emit, op, token);
      emit.forEachVector(type.getDimSize(1), [&](Value column, int64_t size) {
        sum.emitColumns(column, size);
      });
    });
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateCombineSlotsToVectorPatterns(RewritePatternSet &patterns) {
  patterns.add<CombineSlotsPattern>(patterns.getContext());
}
