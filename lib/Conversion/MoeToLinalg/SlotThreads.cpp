//===- SlotThreads.cpp - Soft slots, a parallel iteration a number --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The same numbers as in Slots.cpp, for threads that share nothing: each makes
// one number, or one column of a group, and sums in the order of the tokens, of
// the slots or of D.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "Patterns.h"
#include "Threads.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Conversion/MoeToLinalg.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// Where the rows of a group's slots stand: by expert, then group, then slot.
/// An expert has `slots` in each group.
Value getSlotRow(ImplicitLocOpBuilder &b, const TokenGroups &groups,
                 Value group, Value slot, int64_t slots) {
  Value own = emitIndex(b, slots);
  Value expert = arith::DivUIOp::create(b, slot, own);
  Value block =
      emitAdd(b, arith::MulIOp::create(b, expert, groups.getCount()), group);
  return emitAdd(b, arith::MulIOp::create(b, block, own),
                 arith::RemUIOp::create(b, slot, own));
}

class RouteSlotsThreads final : public Lowering<RouteSlotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteSlotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value logits = op.getLogits(), mask = op.getTokenMask();
    Value zero = emitIndex(b, 0);
    FloatType compute =
        getComputeType(b, {logits, op.getDispatch(), op.getCombine()});
    TokenGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
                       emitDim(b, logits, 0));
    SmallVector<Value> dests = emitDestinations(b, op);
    for (Value &dest : dests)
      dest = emitFill(b, emitFloat(b, getElementType(dest), 0.0), dest);
    Value dispatch = emitColumns(
        b, groups, dests[0],
        [&](Value begin, Value end, Value slot, Value part) {
          return emitShares(
              b, compute, mask, begin, end,
              [&](Value token) { return emitRead(b, logits, {token, slot}); },
              part,
              [&](Value token) -> SmallVector<Value> {
                return {emitSub(b, token, begin), zero};
              });
        });
    Value combine = emitRows(b, dests[1], [&](Value token, Value part) {
      auto run = [&]() -> SmallVector<Value> {
        return {emitShares(
            b, compute, /*mask=*/Value(), zero, emitDim(b, logits, 1),
            [&](Value slot) { return emitRead(b, logits, {token, slot}); },
            part,
            [&](Value slot) -> SmallVector<Value> { return {zero, slot}; })};
      };
      return mask ? emitIf(b, emitRead(b, mask, token), part, run)[0]
                  : run()[0];
    });
    return {dispatch, combine};
  }
};

class SoftDispatchThreads final : public Lowering<SoftDispatchOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftDispatchOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value input = op.getInput(), weights = op.getDispatch();
    auto numExperts = static_cast<int64_t>(op.getNumExperts());
    Value own =
        emitIndex(b, op.getDispatch().getType().getDimSize(1) / numExperts);
    FloatType compute = getComputeType(b, {input, weights, op.getRows()});
    TokenGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
                       emitDim(b, input, 0));
    Value ofExpert = arith::MulIOp::create(b, groups.getCount(), own);
    SmallVector<Value> dests = emitDestinations(b, op);
    Value rows = emitNumbers(b, dests[0], [&](Value row, Value place) {
      Value expert = arith::DivUIOp::create(b, row, ofExpert);
      Value rest = arith::RemUIOp::create(b, row, ofExpert);
      Value group = arith::DivUIOp::create(b, rest, own);
      Value slot = emitAdd(b, arith::MulIOp::create(b, expert, own),
                           arith::RemUIOp::create(b, rest, own));
      return emitLoop(
          b, groups.getBegin(group), groups.getEnd(group),
          emitFloat(b, compute, 0.0),
          [&](Value token, ValueRange so) -> SmallVector<Value> {
            Value weight =
                emitConvert(b, emitRead(b, weights, {token, slot}), compute);
            Value number =
                emitConvert(b, emitRead(b, input, {token, place}), compute);
            Value sum = math::FmaOp::create(b, weight, number, so[0]);
            // A weight of 0 adds nothing, be the row NaN.
            Value isZero =
                arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, weight,
                                      emitFloat(b, compute, 0.0));
            return {arith::SelectOp::create(b, isZero, so[0], sum)};
          })[0];
    });
    Value bounds = emitMapIndexed(b, dests[1], [&](Value expert) {
      return emitToI32(b, arith::MulIOp::create(b, expert, ofExpert));
    });
    return {rows, bounds};
  }
};

/// result [T, n] from lhs [T, m] and the rows of each token's group. `factor`
/// gives the slot and the place of the row that lhs's `inner`-th number meets.
template <typename OpTy>
Value emitSlotProduct(
    ImplicitLocOpBuilder &b, OpTy op, Value lhs, int64_t numSlots,
    llvm::function_ref<std::pair<Value, Value>(Value inner, Value column)>
        factor) {
  Value rows = op.getRows(), dest = emitDestinations(b, op)[0];
  int64_t slots = numSlots / static_cast<int64_t>(op.getNumExperts());
  FloatType compute = getComputeType(b, {rows, lhs, op->getResult(0)});
  TokenGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
                     emitDim(b, lhs, 0));
  return emitNumbers(b, dest, [&](Value token, Value column) {
    Value group = groups.getGroup(token);
    return emitSum(b, compute, emitDim(b, lhs, 1), [&](Value inner) {
      auto [slot, place] = factor(inner, column);
      Value row = getSlotRow(b, groups, group, slot, slots);
      return std::pair(emitRead(b, lhs, {token, inner}),
                       emitRead(b, rows, {row, place}));
    });
  });
}

class SoftCombineThreads final : public Lowering<SoftCombineOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftCombineOp op,
                          ImplicitLocOpBuilder &b) const override {
    int64_t numSlots = op.getCombine().getType().getDimSize(1);
    return {emitSlotProduct(
        b, op, op.getCombine(), numSlots,
        [](Value slot, Value place) { return std::pair(slot, place); })};
  }
};

class SoftDotsThreads final : public Lowering<SoftDotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftDotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    int64_t numSlots = op.getDots().getType().getDimSize(1);
    return {emitSlotProduct(
        b, op, op.getTokens(), numSlots,
        [](Value place, Value slot) { return std::pair(slot, place); })};
  }
};

/// C (dC - sum of C dC) along the rows, and D (dD - sum of D dD) down the
/// columns of a group, which have the sum of both.
class RouteSlotsVJPThreads final : public Lowering<RouteSlotsVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteSlotsVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value combine = op.getCombine(), dispatch = op.getDispatch();
    Value dCombine = op.getDCombine(), dDispatch = op.getDDispatch();
    Value mask = op.getTokenMask();
    FloatType compute = getComputeType(
        b, {dispatch, combine, dDispatch, dCombine, op.getGradient()});
    Value numTokens = emitDim(b, dispatch, 0), zero = emitIndex(b, 0);
    TokenGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
                       numTokens);
    auto load = [&](Value tensor, Value token, Value slot) {
      return emitConvert(b, emitRead(b, tensor, {token, slot}), compute);
    };
    Value dest = emitDestinations(b, op)[0];
    // A token's sum of C dC.
    Value means = emitEmpty(
        b, {getAsOpFoldResult(numTokens), b.getIndexAttr(1)}, compute);
    means = emitNumbers(b, means, [&](Value token, Value) {
      return emitSum(b, compute, emitDim(b, combine, 1), [&](Value slot) {
        return std::pair(emitRead(b, combine, {token, slot}),
                         emitRead(b, dCombine, {token, slot}));
      });
    });
    // A masked token's row stays zero.
    dest = emitFill(b, emitFloat(b, getElementType(dest), 0.0), dest);
    auto emitTerm = [&](Value share, Value slope, Value mean) -> Value {
      return arith::MulFOp::create(b, share,
                                   arith::SubFOp::create(b, slope, mean));
    };
    return {emitColumns(
        b, groups, dest, [&](Value begin, Value end, Value slot, Value part) {
          Value mean = emitLive(b, mask, begin, end, emitFloat(b, compute, 0.0),
                                [&](Value token, Value so) -> Value {
                                  return math::FmaOp::create(
                                      b, load(dispatch, token, slot),
                                      load(dDispatch, token, slot), so);
                                });
          return emitLive(
              b, mask, begin, end, part, [&](Value token, Value so) -> Value {
                Value row = emitTerm(load(combine, token, slot),
                                     load(dCombine, token, slot),
                                     emitRead(b, means, {token, zero}));
                Value column = emitTerm(load(dispatch, token, slot),
                                        load(dDispatch, token, slot), mean);
                Value sum = arith::AddFOp::create(b, row, column);
                return emitWrite(b, emitConvert(b, sum, getElementType(part)),
                                 so, {emitSub(b, token, begin), zero});
              });
        })};
  }
};

} // namespace

void moe::populateSlotThreadPatterns(RewritePatternSet &patterns) {
  // In front of those for CPUs.
  patterns.add<RouteSlotsThreads, SoftDispatchThreads, SoftCombineThreads,
               SoftDotsThreads, RouteSlotsVJPThreads>(patterns.getContext(),
                                                      /*benefit=*/2);
}
