//===- Dispatch.cpp - dispatch, combine -----------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Grouping.h"
#include "Lowering.h"
#include "moe/Conversion/MoeToLinalg.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

class DispatchLowering final : public Lowering<DispatchOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(DispatchOp op,
                          ImplicitLocOpBuilder &b) const override {
    int64_t numExperts = op.getNumExperts();
    Grouping grouping =
        emitGrouping(b, {op.getIds(), op.getWeights(), op.getChoice()},
                     numExperts, emitDim(b, op.getInput(), 0));
    OpFoldResult begin = b.getIndexAttr(0);
    OpFoldResult count =
        emitReadIndex(b, grouping.offsets, emitIndex(b, numExperts));
    // Rows past the last assignment have no token to be read from.
    auto assigned = [&](Value list) {
      return list ? emitSliceRows(b, list, begin, count) : Value();
    };
    Value dest = emitDestinations(b, op)[0];
    Value rows = emitGather(b, op.getInput(), assigned(grouping.token),
                            assigned(grouping.weight), assigned(dest));
    return {emitInsertRows(b, rows, dest, begin, count), grouping.offsets};
  }
};

class CombineLowering final : public Lowering<CombineOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(CombineOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value dest = emitDestinations(b, op)[0];
    Grouping grouping =
        emitGrouping(b, {op.getIds(), op.getWeights(), op.getChoice()},
                     op.getNumExperts(), emitDim(b, dest, 0));
    SlotSum sum;
    sum.rows = op.getRows();
    sum.first = grouping.first;
    sum.slot = grouping.slot;
    sum.weight = grouping.weight;
    sum.identity = op.getIdentity();
    if (sum.identity)
      sum.identityWeight = emitIdentityWeights(op, b, dest);
    sum.residual = op.getResidual();
    sum.bias = op.getBias();
    sum.scale = op.getScale().convertToDouble();
    sum.average = op.getAverage();
    return {emitSlotSum(b, sum, dest)};
  }

  /// The summed weights of every token's slots that hold identity experts.
  static Value emitIdentityWeights(CombineOp op, ImplicitLocOpBuilder &b,
                                   Value output) {
    FloatType compute = getComputeType(b, {op.getRows(), output});
    Value dest =
        emitList(b, tensor::getMixedSize(b, b.getLoc(), output, 0), compute);
    return emitMapIndexed(b, dest, [&](Value token) {
      return emitLoop(
          b, emitIndex(b, 0), emitDim(b, op.getIds(), 1),
          emitFloat(b, compute, 0.0),
          [&](Value slot, ValueRange carried) -> SmallVector<Value> {
            Value id = emitRead(b, op.getIds(), {token, slot});
            Value isIdentity =
                arith::CmpIOp::create(b, arith::CmpIPredicate::sge, id,
                                      emitI32(b, op.getNumExperts()));
            Value weight = emitFloat(b, compute, 1.0);
            if (op.getWeights())
              weight = emitConvert(
                  b, emitRead(b, op.getWeights(), {token, slot}), compute);
            Value sum = arith::AddFOp::create(b, carried[0], weight);
            return {arith::SelectOp::create(b, isIdentity, sum, carried[0])};
          })[0];
    });
  }
};

} // namespace

void moe::populateMoeToLinalgDispatchPatterns(RewritePatternSet &patterns) {
  patterns.add<DispatchLowering, CombineLowering>(patterns.getContext());
}
