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

/// What the mix and its backward share: which rows see which tokens.
template <typename OpTy> class MatrixRows {
public:
  MatrixRows(ImplicitLocOpBuilder &b, OpTy op, FloatType compute)
      : b(b), op(op), values(op.getValues()), matrices(op.getMatrices()),
        compute(compute), heads(op.getMatrices().getType().getDimSize(0)),
        first(emitIndex(b, 0)) {
    if (Value given = op.getFirstToken())
      first = arith::IndexCastOp::create(b, b.getIndexType(), given);
  }

protected:
  using RowBody = llvm::function_ref<SmallVector<Value>(
      Value row, llvm::function_ref<SmallVector<Value>(ValueRange, LoopBody)>,
      ValueRange carried)>;

  Value isLive(Value token) { return emitRead(b, op.getTokenMask(), token); }

  /// Runs `body` where a token is live.
  SmallVector<Value> whereLive(Value token, ValueRange carried,
                               llvm::function_ref<SmallVector<Value>()> body) {
    if (!op.getTokenMask())
      return body();
    return emitIf(b, isLive(token), carried, body);
  }

  /// Runs `body` on the rows of live tokens, and gives it a loop over the
  /// tokens that the row's sees.
  SmallVector<Value> forRows(ValueRange inits, RowBody body) {
    Value numRows = emitDim(b, matrices, 1);
    return emitForGroups(
        b, op->getName().getStringRef(), op.getGroupOffsets(),
        emitDim(b, values, 0), inits,
        [&](Value low, Value count, ValueRange carried) {
          // The rows whose tokens are in the group.
          Value high = emitAdd(b, low, count), zero = emitIndex(b, 0);
          Value begin = arith::MaxSIOp::create(b, emitSub(b, low, first), zero);
          Value end =
              arith::MinSIOp::create(b, emitSub(b, high, first), numRows);
          return emitLoop(
              b, begin, end, carried, [&](Value row, ValueRange so) {
                Value token = emitAdd(b, first, row);
                auto forSeen = [&](ValueRange own, LoopBody visit) {
                  Value stop = high;
                  if (op.getCausal())
                    stop = emitAdd(b, token, emitIndex(b, 1));
                  return emitLoop(
                      b, low, stop, own, [&](Value other, ValueRange inner) {
                        return whereLive(other, inner,
                                         [&] { return visit(other, inner); });
                      });
                };
                return whereLive(token, so,
                                 [&] { return body(row, forSeen, so); });
              });
        });
  }

  Value readMatrix(Value head, Value row, Value other) {
    return emitConvert(b, emitRead(b, matrices, {head, row, other}), compute);
  }
  /// P(head | row)
  Value readShare(Value head, Value row) {
    if (Value posterior = op.getPosterior())
      return emitConvert(b, emitRead(b, posterior, {row, head}), compute);
    return emitFloat(b, compute, 1.0 / static_cast<double>(heads));
  }
  /// sum + factor * row
  Value addRow(Value factor, Value row, Value sum) {
    return emitAccumulate(b, row, sum, [&](Value value, Value so) {
      Value term =
          arith::MulFOp::create(b, factor, emitConvert(b, value, compute));
      return arith::AddFOp::create(b, so, term).getResult();
    });
  }
  Value emitZeros(ArrayRef<OpFoldResult> sizes) {
    return emitFill(b, emitFloat(b, compute, 0.0),
                    emitEmpty(b, sizes, compute));
  }

  ImplicitLocOpBuilder &b;
  OpTy op;
  Value values, matrices;
  FloatType compute;
  int64_t heads;
  Value first; ///< The token of the result's first row.
};

/// Row by row: sums of the rows of the tokens that are seen, head by head.
class MatrixMix : public MatrixRows<MixMatrixOp> {
public:
  MatrixMix(ImplicitLocOpBuilder &b, MixMatrixOp op)
      : MatrixRows(b, op,
                   getComputeType(
                       b, {op.getValues(), op.getMatrices(), op.getMixed()})) {}

  Value emit();
};

Value MatrixMix::emit() {
  Value dest = emitDestinations(b, op)[0];
  int64_t width = op.getValues().getType().getDimSize(1);
  dest = emitFill(b, emitFloat(b, getElementType(dest), 0.0), dest);
  return forRows(
      dest, [&](Value row, auto forSeen, ValueRange so) -> SmallVector<Value> {
        Value sum = emitZeros({OpFoldResult(b.getIndexAttr(width))});
        sum = emitLoop(
            b, emitIndex(b, 0), emitIndex(b, heads), sum,
            [&](Value head, ValueRange outer) {
              return forSeen(outer, [&](Value other, ValueRange inner) {
                Value weight = readMatrix(head, row, other);
                weight = arith::MulFOp::create(b, readShare(head, row), weight);
                return SmallVector<Value>{
                    addRow(weight, emitSliceRow(b, values, other), inner[0])};
              });
            })[0];
        sum = emitConvertTensor(b, sum, getElementType(dest));
        return {emitInsertRow(b, sum, so[0], row)};
      })[0];
}

/// Pair by pair of a row and a token that it sees.
class MatrixMixBackward : public MatrixRows<MixMatrixVJPOp> {
public:
  MatrixMixBackward(ImplicitLocOpBuilder &b, MixMatrixVJPOp op)
      : MatrixRows(b, op,
                   getComputeType(b, {op.getValues(), op.getMatrices(),
                                      op.getCotangent(), op.getDValues(),
                                      op.getDMatrices(), op.getDots()})) {}

  SmallVector<Value> emit();

private:
  Value emitSlope(Value row, Value other);
};

/// <cotangent[row], values[other]>
Value MatrixMixBackward::emitSlope(Value row, Value other) {
  return emitLoop(
      b, emitIndex(b, 0), emitDim(b, values, 1), emitFloat(b, compute, 0.0),
      [&](Value place, ValueRange so) -> SmallVector<Value> {
        Value given = emitRead(b, op.getCotangent(), {row, place});
        Value value = emitRead(b, values, {other, place});
        Value term = arith::MulFOp::create(b, emitConvert(b, given, compute),
                                           emitConvert(b, value, compute));
        return {arith::AddFOp::create(b, so[0], term)};
      })[0];
}

SmallVector<Value> MatrixMixBackward::emit() {
  SmallVector<Value> dests = emitDestinations(b, op);
  Type element = getElementType(dests[1]);
  Location loc = b.getLoc();
  SmallVector<Value> sums = {
      emitZeros(tensor::getMixedSizes(b, loc, values)),
      emitFill(b, emitFloat(b, element, 0.0), dests[1]),
      emitZeros(tensor::getMixedSizes(b, loc, dests[2]))};
  sums = forRows(sums, [&](Value row, auto forSeen, ValueRange carried) {
    return forSeen(
        carried, [&](Value other, ValueRange so) -> SmallVector<Value> {
          Value slope = emitSlope(row, other);
          // The sum of P A over the heads, the matrices and the dots.
          SmallVector<Value> found =
              emitLoop(b, emitIndex(b, 0), emitIndex(b, heads),
                       {emitFloat(b, compute, 0.0), so[1], so[2]},
                       [&](Value head, ValueRange in) -> SmallVector<Value> {
                         Value share = readShare(head, row);
                         Value weight = readMatrix(head, row, other);
                         Value pulled = arith::MulFOp::create(b, share, slope);
                         Value term = arith::MulFOp::create(b, weight, slope);
                         Value dot = emitRead(b, in[2], {row, head});
                         dot = arith::AddFOp::create(b, dot, term);
                         Value factor = arith::MulFOp::create(b, share, weight);
                         return {arith::AddFOp::create(b, in[0], factor),
                                 emitWrite(b, emitConvert(b, pulled, element),
                                           in[1], {head, row, other}),
                                 emitWrite(b, dot, in[2], {row, head})};
                       });
          Value own = addRow(found[0], emitSliceRow(b, op.getCotangent(), row),
                             emitSliceRow(b, so[0], other));
          return {emitInsertRow(b, own, so[0], other), found[1], found[2]};
        });
  });
  return {emitConvertInto(b, sums[0], dests[0]), sums[1],
          emitConvertInto(b, sums[2], dests[2])};
}

class MixMatrixVJPLowering final : public Lowering<MixMatrixVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(MixMatrixVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    return MatrixMixBackward(b, op).emit();
  }
};

class MixMatrixLowering final : public Lowering<MixMatrixOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(MixMatrixOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {MatrixMix(b, op).emit()};
  }
};

} // namespace

void tolinalg::addMixPatterns(RewritePatternSet &patterns) {
  patterns.add<MixMatrixLowering, MixMatrixVJPLowering>(patterns.getContext());
}
