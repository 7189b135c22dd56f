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

class SlotDotsLowering final : public Lowering<SlotDotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SlotDotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    FloatType compute = getComputeType(
        b, {op.getRows(), op.getTokens(), op.getIdentity(), op.getDots()});
    Value zero = emitIndex(b, 0), one = emitIndex(b, 1);
    Value none = emitFloat(b, compute, 0.0), ids = op.getIds();
    Value dest = emitDestinations(b, op)[0];
    Type element = getElementType(dest);
    dest = emitFill(b, emitFloat(b, element, 0.0), dest);
    bool byToken = op.getChoice() == Choice::token;
    Value numTokens = op.getNumTokens();
    if (!numTokens)
      numTokens = emitDim(b, byToken ? ids : op.getTokens(), 0);
    Grouping grouping =
        emitGrouping(b, {ids, /*weights=*/Value(), op.getChoice()},
                     op.getNumExperts(), numTokens);
    Value width = emitDim(b, op.getRows(), 1);
    auto dot = [&](Value values, Value row, Value token) -> Value {
      Value sum = emitLoop(
          b, zero, width, none,
          [&](Value d, ValueRange so) -> SmallVector<Value> {
            Value term = emitConvert(b, emitRead(b, values, {row, d}), compute);
            if (op.getTokens()) {
              Value other = emitRead(b, op.getTokens(), {token, d});
              term = arith::MulFOp::create(b, term,
                                           emitConvert(b, other, compute));
            }
            return {arith::AddFOp::create(b, so[0], term)};
          })[0];
      return emitConvert(b, sum, element);
    };
    Value bound =
        emitToI32(b, byToken ? emitIndex(b, op.getNumExperts()) : numTokens);
    // The assignments of a token are its rows first[t] .. in the order of its
    // slots; where experts chose, in the order of the experts.
    auto visit = [&](Value chooser, Value slot, Value token, Value place,
                     Value all) -> SmallVector<Value> {
      Value row = emitReadIndex(b, grouping.slot, place);
      Value sum = dot(op.getRows(), row, token);
      return {emitWrite(b, sum, all, {chooser, slot}), emitAdd(b, place, one)};
    };
    auto scan = [&](Value chooser, Value all) {
      return emitLoop(
          b, zero, emitDim(b, ids, 1),
          {all, byToken ? emitReadIndex(b, grouping.first, chooser) : zero},
          [&](Value slot, ValueRange so) {
            Value id = emitRead(b, ids, {chooser, slot});
            Value isOwn = emitIsWithin(b, id, bound);
            SmallVector<Value> next = emitIf(b, isOwn, so, [&] {
              if (byToken)
                return visit(chooser, slot, chooser, so[1], so[0]);
              Value token = emitToIndex(b, id);
              Value place = findPlace(b, grouping, chooser, token);
              SmallVector<Value> found =
                  visit(chooser, slot, token, place, so[0]);
              return SmallVector<Value>{found[0], so[1]};
            });
            if (!op.getIdentity())
              return next;
            Value isIdentity =
                arith::CmpIOp::create(b, arith::CmpIPredicate::sge, id, bound);
            return emitIf(b, isIdentity, next, [&]() -> SmallVector<Value> {
              Value sum = dot(op.getIdentity(), chooser, chooser);
              return {emitWrite(b, sum, next[0], {chooser, slot}), next[1]};
            });
          })[0];
    };
    return {emitLoop(b, zero, emitDim(b, ids, 0), dest,
                     [&](Value chooser, ValueRange so) -> SmallVector<Value> {
                       return {scan(chooser, so[0])};
                     })[0]};
  }

  /// The place in `slot` of a token's row that an expert owns.
  static Value findPlace(ImplicitLocOpBuilder &b, const Grouping &grouping,
                         Value expert, Value token) {
    Value one = emitIndex(b, 1);
    Value begin = emitReadIndex(b, grouping.first, token);
    Value end = emitReadIndex(b, grouping.first, emitAdd(b, token, one));
    Value low = emitReadIndex(b, grouping.offsets, expert);
    Value high = emitReadIndex(b, grouping.offsets, emitAdd(b, expert, one));
    return emitLoop(b, begin, end, begin,
                    [&](Value place, ValueRange so) -> SmallVector<Value> {
                      Value row = emitReadIndex(b, grouping.slot, place);
                      auto compare = [&](arith::CmpIPredicate predicate,
                                         Value other) -> Value {
                        return arith::CmpIOp::create(b, predicate, row, other);
                      };
                      Value isOwn = arith::AndIOp::create(
                          b, compare(arith::CmpIPredicate::uge, low),
                          compare(arith::CmpIPredicate::ult, high));
                      return {arith::SelectOp::create(b, isOwn, place, so[0])};
                    })[0];
  }
};

} // namespace

void moe::populateMoeToLinalgDispatchPatterns(RewritePatternSet &patterns) {
  patterns.add<DispatchLowering, CombineLowering, SlotDotsLowering>(
      patterns.getContext());
}
