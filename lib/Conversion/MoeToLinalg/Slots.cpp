//===- Slots.cpp - route_slots, soft_dispatch, soft_combine ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "Patterns.h"
#include "Threads.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"
#include "moe/Dialect/Moe/Utils/GroupedProduct.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

//===----------------------------------------------------------------------===//
// RouteSlotsOp
//===----------------------------------------------------------------------===//

/// Softmax down the columns of each group, and along the rows.
class SlotRouting {
public:
  SlotRouting(ImplicitLocOpBuilder &b, RouteSlotsOp op)
      : b(b), op(op), logits(op.getLogits()),
        compute(getComputeType(
            b, {op.getLogits(), op.getDispatch(), op.getCombine()})) {}

  SmallVector<Value> emit();

private:
  Value emitDispatch(Value dest);
  Value emitCombine(Value dest);
  Value emitColumns(Value begin, Value end, Value powers);
  Value emitLiveLoop(Value begin, Value end, Value init,
                     llvm::function_ref<Value(Value token, Value so)> body);
  Value emitRow(double value) {
    int64_t slots = op.getLogits().getType().getDimSize(1);
    Value fill = std::isinf(value) ? emitNegativeInfinity(b, compute)
                                   : emitFloat(b, compute, value);
    return emitFill(b, fill, emitList(b, b.getIndexAttr(slots), compute));
  }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, x, y); }

  ImplicitLocOpBuilder &b;
  RouteSlotsOp op;
  Value logits;
  FloatType compute;
};

Value SlotRouting::emitLiveLoop(
    Value begin, Value end, Value init,
    llvm::function_ref<Value(Value token, Value so)> body) {
  return emitLive(b, op.getTokenMask(), begin, end, init, body);
}

/// The shares of one group's tokens, in `powers` [T, S].
Value SlotRouting::emitColumns(Value begin, Value end, Value powers) {
  Value largest = emitLiveLoop(
      begin, end, emitRow(-std::numeric_limits<double>::infinity()),
      [&](Value token, Value so) {
        return emitAccumulate(
            b, emitSliceRow(b, logits, token), so, [&](Value logit, Value max) {
              return arith::MaximumFOp::create(b, max,
                                               emitConvert(b, logit, compute))
                  .getResult();
            });
      });
  powers = emitLiveLoop(begin, end, powers, [&](Value token, Value so) {
    Value row =
        emitElementwise(b, {emitSliceRow(b, logits, token), largest},
                        emitRow(0.0), [&](ValueRange in) {
                          Value distance =
                              sub(emitConvert(b, in[0], compute), in[1]);
                          return math::ExpOp::create(b, distance).getResult();
                        });
    return emitInsertRow(b, row, so, token);
  });
  Value totals =
      emitLiveLoop(begin, end, emitRow(0.0), [&](Value token, Value so) {
        return emitAccumulate(
            b, emitSliceRow(b, powers, token), so, [&](Value power, Value sum) {
              return arith::AddFOp::create(b, sum, power).getResult();
            });
      });
  return emitLiveLoop(begin, end, powers, [&](Value token, Value so) {
    Value row = emitElementwise(
        b, {emitSliceRow(b, so, token), totals}, emitRow(0.0),
        [&](ValueRange in) {
          return arith::DivFOp::create(b, in[0], in[1]).getResult();
        });
    return emitInsertRow(b, row, so, token);
  });
}

Value SlotRouting::emitDispatch(Value dest) {
  // A masked token's row stays zero.
  Value shares =
      emitFill(b, emitFloat(b, compute, 0.0), emitEmptyLike(b, dest, compute));
  shares = emitForGroups(
      b, op->getName().getStringRef(), op.getGroupOffsets(),
      emitDim(b, logits, 0), shares,
      [&](Value begin, Value count, ValueRange so) -> SmallVector<Value> {
        return {emitColumns(begin, emitAdd(b, begin, count), so[0])};
      })[0];
  return emitConvertInto(b, shares, dest);
}

Value SlotRouting::emitCombine(Value dest) {
  Value shares = emitSoftmax(b, emitConvertTensor(b, logits, compute),
                             /*dim=*/1);
  if (!op.getTokenMask())
    return emitConvertInto(b, shares, dest);
  return emitMap(b, {shares, op.getTokenMask()}, {{0, 1}, {0}}, dest,
                 [&](ValueRange in) {
                   Value zero = emitFloat(b, compute, 0.0);
                   Value share = arith::SelectOp::create(b, in[1], in[0], zero);
                   return emitConvert(b, share, getElementType(dest));
                 });
}

SmallVector<Value> SlotRouting::emit() {
  SmallVector<Value> dests = emitDestinations(b, op);
  Value dispatch = emitDispatch(dests[0]);
  return {dispatch, emitCombine(dests[1])};
}

class RouteSlotsLowering final : public Lowering<RouteSlotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteSlotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    return SlotRouting(b, op).emit();
  }
};

//===----------------------------------------------------------------------===//
// SoftDispatchOp, SoftCombineOp
//===----------------------------------------------------------------------===//

OpFoldResult getNumGroups(ImplicitLocOpBuilder &b, Value offsets) {
  if (!offsets)
    return b.getIndexAttr(1);
  return getAsOpFoldResult(emitSub(b, emitDim(b, offsets, 0), emitIndex(b, 1)));
}

/// acc [p, D] plus weights [n, p] transposed times rows [n, D], in the order of
/// the rows; a weight of 0 adds nothing, be the row NaN.
Value emitWeightedRows(ImplicitLocOpBuilder &b, Value weights, Value rows,
                       Value acc) {
  auto compute = cast<FloatType>(getElementType(acc));
  AffineExpr slot, token, place;
  bindDims(b.getContext(), slot, token, place);
  auto map = [&](AffineExpr x, AffineExpr y) {
    return AffineMap::get(3, 0, {x, y}, b.getContext());
  };
  SmallVector<AffineMap> maps = {map(token, slot), map(token, place),
                                 map(slot, place)};
  SmallVector<utils::IteratorType> iterators = {utils::IteratorType::parallel,
                                                utils::IteratorType::reduction,
                                                utils::IteratorType::parallel};
  auto generic = linalg::GenericOp::create(
      b, acc.getType(), ValueRange{weights, rows}, acc, maps, iterators,
      [&](OpBuilder &, Location, ValueRange args) {
        Value weight = emitConvert(b, args[0], compute);
        Value term =
            arith::MulFOp::create(b, weight, emitConvert(b, args[1], compute));
        Value sum = arith::AddFOp::create(b, args[2], term);
        Value isZero = arith::CmpFOp::create(
            b, arith::CmpFPredicate::OEQ, weight, emitFloat(b, compute, 0.0));
        linalg::YieldOp::create(
            b, arith::SelectOp::create(b, isZero, args[2], sum).getResult());
      });
  return generic.getResult(0);
}

/// Every expert fills its own rows, beside the others.
class SoftDispatchLowering final : public Lowering<SoftDispatchOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftDispatchOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value input = op.getInput(), offsets = op.getGroupOffsets();
    auto numExperts = static_cast<int64_t>(op.getNumExperts());
    int64_t slots = op.getDispatch().getType().getDimSize(1) / numExperts;
    int64_t width = op.getInput().getType().getDimSize(1);
    FloatType compute =
        getComputeType(b, {input, op.getDispatch(), op.getRows()});
    SmallVector<Value> dests = emitDestinations(b, op);
    OpFoldResult zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
    Value numGroups = getValueOrCreateConstantIndexOp(b, b.getLoc(),
                                                      getNumGroups(b, offsets));
    Value rowsOfExpert =
        arith::MulIOp::create(b, numGroups, emitIndex(b, slots));
    // Checked in front: a task cannot leave the entry.
    if (offsets)
      emitGroupOffsetsCheck(b, op.getOperationName(), offsets,
                            emitDim(b, input, 0));

    auto loop = scf::ForallOp::create(
        b, ArrayRef<OpFoldResult>{b.getIndexAttr(numExperts)}, dests[0],
        /*mapping=*/std::nullopt, [&](OpBuilder &, Location, ValueRange args) {
          Value expert = args[0], dest = args[1];
          Value column = arith::MulIOp::create(b, expert, emitIndex(b, slots));
          Value first = arith::MulIOp::create(b, expert, rowsOfExpert);
          Value own = emitSliceRows(b, dest, first, rowsOfExpert);
          own = emitLoop(
              b, emitIndex(b, 0), numGroups, own,
              [&](Value group, ValueRange so) -> SmallVector<Value> {
                Value begin = emitIndex(b, 0), end = emitDim(b, input, 0);
                if (offsets) {
                  begin = emitReadIndex(b, offsets, group);
                  end = emitReadIndex(b, offsets,
                                      emitAdd(b, group, emitIndex(b, 1)));
                }
                OpFoldResult count = emitSub(b, end, begin);
                Value weights = tensor::ExtractSliceOp::create(
                    b, op.getDispatch(), ArrayRef<OpFoldResult>{begin, column},
                    ArrayRef<OpFoldResult>{count, b.getIndexAttr(slots)},
                    ArrayRef<OpFoldResult>{one, one});
                Value acc = emitEmpty(
                    b, {b.getIndexAttr(slots), b.getIndexAttr(width)}, compute);
                acc = emitFill(b, emitFloat(b, compute, 0.0), acc);
                acc = emitWeightedRows(
                    b, weights, emitSliceRows(b, input, begin, count), acc);
                acc = emitConvertTensor(b, acc, getElementType(dest));
                Value place =
                    arith::MulIOp::create(b, group, emitIndex(b, slots));
                return {emitInsertRows(b, acc, so[0], place,
                                       b.getIndexAttr(slots))};
              })[0];
          auto parallel = scf::InParallelOp::create(b);
          OpBuilder::InsertionGuard guard(b);
          b.setInsertionPointToStart(parallel.getBody());
          tensor::ParallelInsertSliceOp::create(
              b, own, dest, ArrayRef<OpFoldResult>{first, zero},
              ArrayRef<OpFoldResult>{rowsOfExpert, b.getIndexAttr(width)},
              ArrayRef<OpFoldResult>{one, one});
        });
    Value bounds = emitMapIndexed(b, dests[1], [&](Value expert) {
      return emitToI32(b, arith::MulIOp::create(b, expert, rowsOfExpert));
    });
    return {loop.getResult(0), bounds};
  }
};

/// The rows of a group's slots, [1, S, D].
template <typename OpTy>
Value emitSlots(ImplicitLocOpBuilder &b, OpTy op, int64_t slots, Value group) {
  Value rows = op.getRows();
  Type element = getElementType(rows);
  int64_t width = op.getRows().getType().getDimSize(1);
  auto numExperts = static_cast<int64_t>(op.getNumExperts());
  auto slotsType = RankedTensorType::get({1, slots, width}, element);
  if (!op.getGroupOffsets()) {
    auto type = RankedTensorType::get({slots, width}, element);
    if (rows.getType() != type)
      rows = tensor::CastOp::create(b, type, rows);
    return tensor::ExpandShapeOp::create(
        b, slotsType, rows, ArrayRef<ReassociationIndices>{{0, 1}, {2}});
  }
  // By expert, group, slot: those of one group, expert after expert.
  int64_t own = slots / numExperts;
  Value numGroups = getValueOrCreateConstantIndexOp(
      b, b.getLoc(), getNumGroups(b, op.getGroupOffsets()));
  Value rowsOfExpert = arith::MulIOp::create(b, numGroups, emitIndex(b, own));
  Value place = arith::MulIOp::create(b, group, emitIndex(b, own));
  Value gathered =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{slots, width}, element);
  gathered = emitLoop(
      b, emitIndex(b, 0), emitIndex(b, numExperts), gathered,
      [&](Value expert, ValueRange so) -> SmallVector<Value> {
        Value first =
            emitAdd(b, arith::MulIOp::create(b, expert, rowsOfExpert), place);
        Value block = emitSliceRows(b, rows, first, b.getIndexAttr(own));
        Value at = arith::MulIOp::create(b, expert, emitIndex(b, own));
        return {emitInsertRows(b, block, so[0], at, b.getIndexAttr(own))};
      })[0];
  return tensor::ExpandShapeOp::create(
      b, slotsType, gathered, ArrayRef<ReassociationIndices>{{0, 1}, {2}});
}

/// lhs [n, S] times the rows, or lhs [n, D] times their transpose.
Value emitProduct(ImplicitLocOpBuilder &b, Value lhs, Value slots, bool inOut,
                  Value dest) {
  GroupedProduct product;
  product.lhs = {lhs};
  product.weights = {slots};
  product.inOut = inOut;
  return emitGroupedSum(b, product, dest);
}

/// Per group a product of its tokens' rows with those of its slots, or with
/// their transpose; `slots` is S.
template <typename OpTy>
Value emitSlotGroups(ImplicitLocOpBuilder &b, OpTy op, int64_t slots,
                     Value tokens, bool inOut) {
  Value dest = emitDestinations(b, op)[0];
  // The number of the group counts up beside the result.
  return emitForGroups(
      b, op->getName().getStringRef(), op.getGroupOffsets(),
      emitDim(b, tokens, 0), {dest, emitIndex(b, 0)},
      [&](Value begin, Value count, ValueRange so) -> SmallVector<Value> {
        Value rows = emitSliceRows(b, so[0], begin, count);
        rows = emitProduct(b, emitSliceRows(b, tokens, begin, count),
                           emitSlots(b, op, slots, so[1]), inOut, rows);
        return {emitInsertRows(b, rows, so[0], begin, count),
                emitAdd(b, so[1], emitIndex(b, 1))};
      })[0];
}

class SoftCombineLowering final : public Lowering<SoftCombineOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftCombineOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {emitSlotGroups(b, op, op.getCombine().getType().getDimSize(1),
                           op.getCombine(), /*inOut=*/true)};
  }
};

class SoftDotsLowering final : public Lowering<SoftDotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftDotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {emitSlotGroups(b, op, op.getDots().getType().getDimSize(1),
                           op.getTokens(), /*inOut=*/false)};
  }
};

//===----------------------------------------------------------------------===//
// RouteSlotsVJPOp
//===----------------------------------------------------------------------===//

/// The softmax along the rows, then those down the columns of each group.
class SlotRoutingBackward {
public:
  SlotRoutingBackward(ImplicitLocOpBuilder &b, RouteSlotsVJPOp op)
      : b(b), op(op), mask(op.getTokenMask()),
        compute(getComputeType(b, {op.getDispatch(), op.getCombine(),
                                   op.getDDispatch(), op.getDCombine(),
                                   op.getGradient()})) {}

  Value emit();

private:
  Value emitZeros() {
    int64_t slots = op.getDispatch().getType().getDimSize(1);
    return emitFill(b, emitFloat(b, compute, 0.0),
                    emitList(b, b.getIndexAttr(slots), compute));
  }
  Value emitLiveLoop(Value begin, Value end, Value init,
                     llvm::function_ref<Value(Value token, Value so)> body);
  Value pullRow(Value token);
  Value pullColumns(Value begin, Value end, Value sums);

  ImplicitLocOpBuilder &b;
  RouteSlotsVJPOp op;
  Value mask;
  FloatType compute;
};

Value SlotRoutingBackward::emitLiveLoop(
    Value begin, Value end, Value init,
    llvm::function_ref<Value(Value token, Value so)> body) {
  return emitLive(b, mask, begin, end, init, body);
}

/// C (dC - sum of C dC) of one token.
Value SlotRoutingBackward::pullRow(Value token) {
  Value share = emitSliceRow(b, op.getCombine(), token);
  Value slope = emitSliceRow(b, op.getDCombine(), token);
  Value zero = emitIndex(b, 0);
  Value mean =
      emitLoop(b, zero, emitDim(b, share, 0), emitFloat(b, compute, 0.0),
               [&](Value slot, ValueRange so) -> SmallVector<Value> {
                 Value term = arith::MulFOp::create(
                     b, emitConvert(b, emitRead(b, share, slot), compute),
                     emitConvert(b, emitRead(b, slope, slot), compute));
                 return {arith::AddFOp::create(b, so[0], term)};
               })[0];
  return emitElementwise(
      b, {share, slope}, emitZeros(), [&](ValueRange in) -> Value {
        Value rest =
            arith::SubFOp::create(b, emitConvert(b, in[1], compute), mean);
        return arith::MulFOp::create(b, emitConvert(b, in[0], compute), rest);
      });
}

/// Adds D (dD - sum of D dD) of one group's tokens to `sums` [T, S].
Value SlotRoutingBackward::pullColumns(Value begin, Value end, Value sums) {
  Value shares = op.getDispatch(), slopes = op.getDDispatch();
  auto emitTerm = [&](Value share, Value slope) -> Value {
    return arith::MulFOp::create(b, emitConvert(b, share, compute), slope);
  };
  Value means =
      emitLiveLoop(begin, end, emitZeros(), [&](Value token, Value so) {
        // The last scalar is what stands in the destination.
        return emitElementwise(
            b, {emitSliceRow(b, shares, token), emitSliceRow(b, slopes, token)},
            so, [&](ValueRange in) -> Value {
              Value term = emitTerm(in[0], emitConvert(b, in[1], compute));
              return arith::AddFOp::create(b, in[2], term);
            });
      });
  return emitLiveLoop(begin, end, sums, [&](Value token, Value so) {
    Value row = emitElementwise(
        b,
        {emitSliceRow(b, shares, token), emitSliceRow(b, slopes, token), means},
        emitSliceRow(b, so, token), [&](ValueRange in) -> Value {
          Value rest =
              arith::SubFOp::create(b, emitConvert(b, in[1], compute), in[2]);
          return arith::AddFOp::create(b, in[3], emitTerm(in[0], rest));
        });
    return emitInsertRow(b, row, so, token);
  });
}

Value SlotRoutingBackward::emit() {
  Value dest = emitDestinations(b, op)[0];
  Value numTokens = emitDim(b, op.getDispatch(), 0);
  // A masked token's row stays zero.
  Value sums =
      emitFill(b, emitFloat(b, compute, 0.0), emitEmptyLike(b, dest, compute));
  sums = emitLiveLoop(emitIndex(b, 0), numTokens, sums,
                      [&](Value token, Value so) {
                        return emitInsertRow(b, pullRow(token), so, token);
                      });
  sums = emitForGroups(
      b, op->getName().getStringRef(), op.getGroupOffsets(), numTokens, sums,
      [&](Value begin, Value count, ValueRange so) -> SmallVector<Value> {
        return {pullColumns(begin, emitAdd(b, begin, count), so[0])};
      })[0];
  return emitConvertInto(b, sums, dest);
}

class RouteSlotsVJPLowering final : public Lowering<RouteSlotsVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteSlotsVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {SlotRoutingBackward(b, op).emit()};
  }
};

} // namespace

void tolinalg::addSlotPatterns(RewritePatternSet &patterns) {
  patterns.add<RouteSlotsLowering, SoftDispatchLowering, SoftCombineLowering,
               SoftDotsLowering, RouteSlotsVJPLowering>(patterns.getContext());
}
