//===- Mixing.cpp - mix_matrix --------------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "Patterns.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// Row by row: sums of the rows of the tokens that are seen, head by head.
class MatrixMix {
public:
  MatrixMix(ImplicitLocOpBuilder &b, MixMatrixOp op)
      : b(b), op(op), values(op.getValues()), matrices(op.getMatrices()),
        compute(getComputeType(b, {values, matrices, op.getMixed()})),
        heads(op.getMatrices().getType().getDimSize(0)),
        first(emitIndex(b, 0)) {
    if (Value given = op.getFirstToken())
      first = arith::IndexCastOp::create(b, b.getIndexType(), given);
  }

  Value emit();

private:
  Value emitRow(Value row, Value token, Value low, Value high);
  Value emitTerm(Value head, Value row, Value other, Value sum);
  Value isLive(Value token) { return emitRead(b, op.getTokenMask(), token); }

  ImplicitLocOpBuilder &b;
  MixMatrixOp op;
  Value values, matrices;
  FloatType compute;
  int64_t heads;
  Value first; ///< The token of the result's first row.
};

/// sum + P(head | row) A[head, row, other] values[other, :]
Value MatrixMix::emitTerm(Value head, Value row, Value other, Value sum) {
  Value weight =
      emitConvert(b, emitRead(b, matrices, {head, row, other}), compute);
  Value share = emitFloat(b, compute, 1.0 / static_cast<double>(heads));
  if (Value posterior = op.getPosterior())
    share = emitConvert(b, emitRead(b, posterior, {row, head}), compute);
  weight = arith::MulFOp::create(b, share, weight);
  return emitAccumulate(
      b, emitSliceRow(b, values, other), sum, [&](Value value, Value so) {
        Value term =
            arith::MulFOp::create(b, weight, emitConvert(b, value, compute));
        return arith::AddFOp::create(b, so, term).getResult();
      });
}

/// The row of a live token of the group low .. high - 1.
Value MatrixMix::emitRow(Value row, Value token, Value low, Value high) {
  if (op.getCausal())
    high = emitAdd(b, token, emitIndex(b, 1));
  int64_t width = op.getValues().getType().getDimSize(1);
  Value sum = emitFill(b, emitFloat(b, compute, 0.0),
                       emitList(b, b.getIndexAttr(width), compute));
  return emitLoop(b, emitIndex(b, 0), emitIndex(b, heads), sum,
                  [&](Value head, ValueRange outer) {
                    return emitLoop(
                        b, low, high, outer, [&](Value other, ValueRange so) {
                          auto term = [&]() -> SmallVector<Value> {
                            return {emitTerm(head, row, other, so[0])};
                          };
                          if (!op.getTokenMask())
                            return term();
                          return emitIf(b, isLive(other), so, term);
                        });
                  })[0];
}

Value MatrixMix::emit() {
  Value dest = emitDestinations(b, op)[0];
  Value numRows = emitDim(b, dest, 0);
  dest = emitFill(b, emitFloat(b, getElementType(dest), 0.0), dest);
  return emitForGroups(
      b, op->getName().getStringRef(), op.getGroupOffsets(),
      emitDim(b, values, 0), dest,
      [&](Value low, Value count, ValueRange carried) {
        // The rows whose tokens are in the group.
        Value high = emitAdd(b, low, count), zero = emitIndex(b, 0);
        Value begin = arith::MaxSIOp::create(b, emitSub(b, low, first), zero);
        Value end = arith::MinSIOp::create(b, emitSub(b, high, first), numRows);
        return emitLoop(b, begin, end, carried, [&](Value row, ValueRange so) {
          Value token = emitAdd(b, first, row);
          auto insert = [&]() -> SmallVector<Value> {
            Value sum = emitRow(row, token, low, high);
            sum = emitConvertTensor(b, sum, getElementType(dest));
            return {emitInsertRow(b, sum, so[0], row)};
          };
          if (!op.getTokenMask())
            return insert();
          return emitIf(b, isLive(token), so, insert);
        });
      })[0];
}

class MixMatrixLowering final : public Lowering<MixMatrixOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(MixMatrixOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {MatrixMix(b, op).emit()};
  }
};

} // namespace

void tolinalg::addMixPatterns(RewritePatternSet &patterns) {
  patterns.add<MixMatrixLowering>(patterns.getContext());
}
