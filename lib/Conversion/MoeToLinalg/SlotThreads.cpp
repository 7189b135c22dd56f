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
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Conversion/MoeToLinalg.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// The groups of an op's tokens, and where the rows of their slots stand: by
/// expert, then group, then slot.
class SlotGroups {
public:
  /// Asserts that offsets, which may be null, ascend to the number of tokens.
  SlotGroups(ImplicitLocOpBuilder &b, StringRef opName, Value offsets,
             Value numTokens)
      : b(b), offsets(offsets), numTokens(numTokens) {
    if (offsets)
      emitGroupOffsetsCheck(b, opName, offsets, numTokens);
    count = offsets ? emitSub(b, emitDim(b, offsets, 0), emitIndex(b, 1))
                    : emitIndex(b, 1);
  }

  Value getCount() const { return count; }
  Value getBegin(Value group) const {
    return offsets ? emitReadIndex(b, offsets, group) : emitIndex(b, 0);
  }
  Value getEnd(Value group) const {
    return offsets
               ? emitReadIndex(b, offsets, emitAdd(b, group, emitIndex(b, 1)))
               : numTokens;
  }
  /// The group of a token: so many others end in front of it.
  Value getGroup(Value token) const {
    Value zero = emitIndex(b, 0), one = emitIndex(b, 1);
    if (!offsets)
      return zero;
    return emitLoop(
        b, zero, count, zero,
        [&](Value group, ValueRange before) -> SmallVector<Value> {
          Value isBefore = arith::CmpIOp::create(b, arith::CmpIPredicate::ule,
                                                 getEnd(group), token);
          Value next = emitAdd(b, before[0], one);
          return {arith::SelectOp::create(b, isBefore, next, before[0])};
        })[0];
  }
  /// The row of a group's slot; `slots` is how many an expert has.
  Value getRow(Value group, Value slot, int64_t slots) const {
    Value own = emitIndex(b, slots);
    Value expert = arith::DivUIOp::create(b, slot, own);
    Value block = emitAdd(b, arith::MulIOp::create(b, expert, count), group);
    return emitAdd(b, arith::MulIOp::create(b, block, own),
                   arith::RemUIOp::create(b, slot, own));
  }

private:
  ImplicitLocOpBuilder &b;
  Value offsets, numTokens, count;
};

/// What an iteration makes of its part of a destination.
using PartBody = llvm::function_ref<Value(ValueRange place, Value part)>;
/// Offsets and sizes of such a part.
using PartRange =
    llvm::function_ref<std::pair<SmallVector<OpFoldResult>,
                                 SmallVector<OpFoldResult>>(ValueRange place)>;

/// A parallel loop over disjoint parts of `dest`.
Value emitParts(ImplicitLocOpBuilder &b, ArrayRef<Value> counts, Value dest,
                PartRange range, PartBody body) {
  SmallVector<OpFoldResult> ones(2, b.getIndexAttr(1));
  auto loop = scf::ForallOp::create(
      b, getAsOpFoldResult(ValueRange(counts)), dest,
      /*mapping=*/std::nullopt, [&](OpBuilder &, Location, ValueRange args) {
        ValueRange place = args.drop_back();
        auto [offsets, sizes] = range(place);
        Value part = tensor::ExtractSliceOp::create(b, args.back(), offsets,
                                                    sizes, ones);
        part = body(place, part);
        auto parallel = scf::InParallelOp::create(b);
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPointToStart(parallel.getBody());
        tensor::ParallelInsertSliceOp::create(b, part, args.back(), offsets,
                                              sizes, ones);
      });
  return loop.getResult(0);
}

/// dest [m, n], each number by an iteration of its own.
Value emitNumbers(ImplicitLocOpBuilder &b, Value dest,
                  llvm::function_ref<Value(Value row, Value column)> number) {
  Type element = getElementType(dest);
  Value zero = emitIndex(b, 0);
  return emitParts(
      b, {emitDim(b, dest, 0), emitDim(b, dest, 1)}, dest,
      [&](ValueRange place) {
        return std::pair(getAsOpFoldResult(place),
                         SmallVector<OpFoldResult>(2, b.getIndexAttr(1)));
      },
      [&](ValueRange place, Value part) {
        Value value = emitConvert(b, number(place[0], place[1]), element);
        return emitWrite(b, value, part, {zero, zero});
      });
}

/// dest [T, S], the tokens of a group in one column by an iteration.
Value emitColumns(
    ImplicitLocOpBuilder &b, const SlotGroups &groups, Value dest,
    llvm::function_ref<Value(Value begin, Value end, Value slot, Value part)>
        body) {
  return emitParts(
      b, {groups.getCount(), emitDim(b, dest, 1)}, dest,
      [&](ValueRange place) {
        Value begin = groups.getBegin(place[0]);
        OpFoldResult count = emitSub(b, groups.getEnd(place[0]), begin);
        return std::pair(SmallVector<OpFoldResult>{begin, place[1]},
                         SmallVector<OpFoldResult>{count, b.getIndexAttr(1)});
      },
      [&](ValueRange place, Value part) {
        Value begin = groups.getBegin(place[0]);
        return body(begin, groups.getEnd(place[0]), place[1], part);
      });
}

/// A loop over the tokens of [begin, end) that are not masked.
Value emitLive(ImplicitLocOpBuilder &b, Value mask, Value begin, Value end,
               Value init,
               llvm::function_ref<Value(Value token, Value so)> body) {
  return emitLoop(b, begin, end, init, [&](Value token, ValueRange so) {
    auto run = [&]() -> SmallVector<Value> { return {body(token, so[0])}; };
    return mask ? emitIf(b, emitRead(b, mask, token), so, run) : run();
  })[0];
}

/// A sum of products in the order of a dimension.
Value emitSum(ImplicitLocOpBuilder &b, FloatType compute, Value count,
              llvm::function_ref<std::pair<Value, Value>(Value at)> factors) {
  return emitLoop(b, emitIndex(b, 0), count, emitFloat(b, compute, 0.0),
                  [&](Value at, ValueRange so) -> SmallVector<Value> {
                    auto [x, y] = factors(at);
                    return {math::FmaOp::create(b, emitConvert(b, x, compute),
                                                emitConvert(b, y, compute),
                                                so[0])};
                  })[0];
}

class RouteSlotsThreads final : public Lowering<RouteSlotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteSlotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value logits = op.getLogits(), mask = op.getTokenMask();
    FloatType compute =
        getComputeType(b, {logits, op.getDispatch(), op.getCombine()});
    SlotGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
                      emitDim(b, logits, 0));
    SmallVector<Value> dests = emitDestinations(b, op);
    for (Value &dest : dests)
      dest = emitFill(b, emitFloat(b, getElementType(dest), 0.0), dest);
    auto load = [&](Value token, Value slot) {
      return emitConvert(b, emitRead(b, logits, {token, slot}), compute);
    };
    Value zero = emitIndex(b, 0);
    int64_t numSlots = op.getLogits().getType().getDimSize(1);
    Value dispatch =
        emitColumns(b, groups, dests[0],
                    [&](Value begin, Value end, Value slot, Value part) {
                      auto loop = [&](Value init, auto body) {
                        return emitLive(b, mask, begin, end, init, body);
                      };
                      return emitShares(
                          b, compute, loop,
                          [&](Value token) { return load(token, slot); }, part,
                          [&](Value token) -> SmallVector<Value> {
                            return {emitSub(b, token, begin), zero};
                          });
                    });
    Value combine = emitParts(
        b, {emitDim(b, logits, 0)}, dests[1],
        [&](ValueRange place) {
          return std::pair(
              SmallVector<OpFoldResult>{place[0], b.getIndexAttr(0)},
              SmallVector<OpFoldResult>{b.getIndexAttr(1),
                                        b.getIndexAttr(numSlots)});
        },
        [&](ValueRange place, Value part) {
          auto loop = [&](Value init, auto body) {
            return emitLoop(
                b, zero, emitDim(b, logits, 1), init,
                [&](Value slot, ValueRange so) -> SmallVector<Value> {
                  return {body(slot, so[0])};
                })[0];
          };
          auto run = [&]() -> SmallVector<Value> {
            return {emitShares(
                b, compute, loop,
                [&](Value slot) { return load(place[0], slot); }, part,
                [&](Value slot) -> SmallVector<Value> {
                  return {zero, slot};
                })};
          };
          return mask ? emitIf(b, emitRead(b, mask, place[0]), part, run)[0]
                      : run()[0];
        });
    return {dispatch, combine};
  }

private:
  /// Softmax of what a loop visits, into `part` at the places that it has.
  template <typename Loop>
  static Value
  emitShares(ImplicitLocOpBuilder &b, FloatType compute, const Loop &loop,
             llvm::function_ref<Value(Value at)> load, Value part,
             llvm::function_ref<SmallVector<Value>(Value at)> place) {
    Value largest = loop(emitNegativeInfinity(b, compute),
                         [&](Value at, Value so) -> Value {
                           return arith::MaximumFOp::create(b, so, load(at));
                         });
    auto emitPower = [&](Value at) -> Value {
      return math::ExpOp::create(b,
                                 arith::SubFOp::create(b, load(at), largest));
    };
    Value total =
        loop(emitFloat(b, compute, 0.0), [&](Value at, Value so) -> Value {
          return arith::AddFOp::create(b, so, emitPower(at));
        });
    return loop(part, [&](Value at, Value so) -> Value {
      Value share = arith::DivFOp::create(b, emitPower(at), total);
      return emitWrite(b, emitConvert(b, share, getElementType(part)), so,
                       place(at));
    });
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
    SlotGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
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

class SoftCombineThreads final : public Lowering<SoftCombineOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftCombineOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value rows = op.getRows(), weights = op.getCombine();
    int64_t slots = op.getCombine().getType().getDimSize(1) /
                    static_cast<int64_t>(op.getNumExperts());
    FloatType compute = getComputeType(b, {rows, weights, op.getOutput()});
    SlotGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
                      emitDim(b, weights, 0));
    Value dest = emitDestinations(b, op)[0];
    return {emitNumbers(b, dest, [&](Value token, Value place) {
      Value group = groups.getGroup(token);
      return emitSum(b, compute, emitDim(b, weights, 1), [&](Value slot) {
        Value row = groups.getRow(group, slot, slots);
        return std::pair(emitRead(b, weights, {token, slot}),
                         emitRead(b, rows, {row, place}));
      });
    })};
  }
};

class SoftDotsThreads final : public Lowering<SoftDotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(SoftDotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value rows = op.getRows(), tokens = op.getTokens();
    int64_t slots = op.getDots().getType().getDimSize(1) /
                    static_cast<int64_t>(op.getNumExperts());
    FloatType compute = getComputeType(b, {rows, tokens, op.getDots()});
    SlotGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
                      emitDim(b, tokens, 0));
    Value dest = emitDestinations(b, op)[0];
    return {emitNumbers(b, dest, [&](Value token, Value slot) {
      Value row = groups.getRow(groups.getGroup(token), slot, slots);
      return emitSum(b, compute, emitDim(b, tokens, 1), [&](Value place) {
        return std::pair(emitRead(b, tokens, {token, place}),
                         emitRead(b, rows, {row, place}));
      });
    })};
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
    SlotGroups groups(b, op.getOperationName(), op.getGroupOffsets(),
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
