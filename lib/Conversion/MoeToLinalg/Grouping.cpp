//===- Grouping.cpp - Assignments in expert order, group, combine_slots ---===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Grouping.h"
#include "Lowering.h"
#include "Patterns.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

//===----------------------------------------------------------------------===//
// Grouping
//===----------------------------------------------------------------------===//

namespace {

/// Two stable counting sorts of the assignments, first by token and then by
/// expert, so that an expert's assignments come in token order and a token's
/// in slot or expert order, whoever chose.
class Grouper {
public:
  Grouper(ImplicitLocOpBuilder &b, const Assignments &routing,
          const Grouping &dests)
      : b(b), routing(routing), dests(dests), zero(emitIndex(b, 0)),
        one(emitIndex(b, 1)), numColumns(emitDim(b, routing.ids, 1)),
        numExperts(emitSub(b, emitDim(b, dests.offsets, 0), one)),
        numTokens(emitSub(b, emitDim(b, dests.first, 0), one)) {}

  Grouping emit();

private:
  SmallVector<Value> emitScan(
      ValueRange inits,
      llvm::function_ref<SmallVector<Value>(Value row, Value column,
                                            Value chosen, ValueRange carried)>
          body);
  SmallVector<Value> emitCounts();
  Value emitPrefixSums(Value counts);
  Value emitByToken(Value first);
  SmallVector<Value> emitByExpert(Value offsets, Value byToken,
                                  Value numAssignments);
  Value emitTake(Value cursors, Value at, Value &next);

  bool isTokenChoice() const { return routing.choice == Choice::token; }
  Value emitIncrement(Value counts, Value at) {
    Value more = emitAdd(b, emitRead(b, counts, at), emitI32(b, 1));
    return emitWrite(b, more, counts, at);
  }

  ImplicitLocOpBuilder &b;
  const Assignments &routing;
  const Grouping &dests;
  Value zero, one, numColumns, numExperts, numTokens;
};

Grouping Grouper::emit() {
  SmallVector<Value> counts = emitCounts();
  Grouping result;
  result.offsets = emitPrefixSums(counts[0]);
  result.first = emitPrefixSums(counts[1]);
  Value numAssignments = emitReadIndex(b, result.offsets, numExperts);
  Value byToken = emitByToken(result.first);
  SmallVector<Value> sorted =
      emitByExpert(result.offsets, byToken, numAssignments);
  result.token = sorted[0];
  result.slot = sorted[1];
  result.weight = routing.weights ? sorted[2] : Value();
  return result;
}

/// A loop over the entries of ids that are assignments; `chosen` is an entry's
/// id as an index.
SmallVector<Value> Grouper::emitScan(
    ValueRange inits,
    llvm::function_ref<SmallVector<Value>(Value row, Value column, Value chosen,
                                          ValueRange carried)>
        body) {
  Value bound = emitToI32(b, isTokenChoice() ? numExperts : numTokens);
  return emitLoop(
      b, zero, emitDim(b, routing.ids, 0), inits,
      [&](Value row, ValueRange outer) {
        return emitLoop(
            b, zero, numColumns, outer, [&](Value column, ValueRange inner) {
              Value id = emitRead(b, routing.ids, {row, column});
              return emitIf(b, emitIsWithin(b, id, bound), inner, [&] {
                return body(row, column, emitToIndex(b, id), inner);
              });
            });
      });
}

/// Assignments of each expert and of each token, one place further on.
SmallVector<Value> Grouper::emitCounts() {
  Value none = emitI32(b, 0);
  SmallVector<Value> inits = {emitFill(b, none, dests.offsets),
                              emitFill(b, none, dests.first)};
  return emitScan(inits,
                  [&](Value row, Value, Value chosen,
                      ValueRange carried) -> SmallVector<Value> {
                    Value expert = isTokenChoice() ? chosen : row;
                    Value token = isTokenChoice() ? row : chosen;
                    return {emitIncrement(carried[0], emitAdd(b, expert, one)),
                            emitIncrement(carried[1], emitAdd(b, token, one))};
                  });
}

Value Grouper::emitPrefixSums(Value counts) {
  return emitLoop(b, one, emitDim(b, counts, 0), counts,
                  [&](Value at, ValueRange carried) -> SmallVector<Value> {
                    Value before = emitRead(b, carried[0], emitSub(b, at, one));
                    Value sum = emitAdd(b, before, emitRead(b, carried[0], at));
                    return {emitWrite(b, sum, carried[0], at)};
                  })[0];
}

/// Reads the cursor at a place, as an index, and moves it on by one.
Value Grouper::emitTake(Value cursors, Value at, Value &next) {
  Value taken = emitReadIndex(b, cursors, at);
  next = emitIncrement(cursors, at);
  return taken;
}

/// The flat places in ids of all assignments, by token.
Value Grouper::emitByToken(Value first) {
  Value places = emitEmptyLike(b, dests.slot, b.getI32Type());
  return emitScan({places, first},
                  [&](Value row, Value column, Value chosen,
                      ValueRange carried) -> SmallVector<Value> {
                    Value next;
                    Value at = emitTake(carried[1],
                                        isTokenChoice() ? row : chosen, next);
                    Value flat = arith::MulIOp::create(b, row, numColumns);
                    flat = emitToI32(b, emitAdd(b, flat, column));
                    return {emitWrite(b, flat, carried[0], at), next};
                  })[0];
}

/// Gives every assignment, taken by token, the next row of its expert.
SmallVector<Value> Grouper::emitByExpert(Value offsets, Value byToken,
                                         Value numAssignments) {
  SmallVector<Value> inits = {dests.token, dests.slot};
  if (routing.weights)
    inits.push_back(dests.weight);
  inits.push_back(offsets);
  return emitLoop(
      b, zero, numAssignments, inits,
      [&](Value place, ValueRange carried) -> SmallVector<Value> {
        Value flat = emitReadIndex(b, byToken, place);
        Value row = arith::DivUIOp::create(b, flat, numColumns);
        Value column = arith::RemUIOp::create(b, flat, numColumns);
        Value chosen = emitReadIndex(b, routing.ids, {row, column});
        Value expert = isTokenChoice() ? chosen : row;
        Value token = isTokenChoice() ? row : chosen;
        Value next;
        Value at = emitTake(carried.back(), expert, next);
        SmallVector<Value> results = {
            emitWrite(b, emitToI32(b, token), carried[0], at),
            emitWrite(b, emitToI32(b, at), carried[1], place)};
        if (routing.weights)
          results.push_back(emitWrite(
              b, emitRead(b, routing.weights, {row, column}), carried[2], at));
        results.push_back(next);
        return results;
      });
}

} // namespace

Grouping tolinalg::emitGrouping(ImplicitLocOpBuilder &b,
                                const Assignments &routing,
                                const Grouping &dests) {
  return Grouper(b, routing, dests).emit();
}

Grouping tolinalg::emitGrouping(ImplicitLocOpBuilder &b,
                                const Assignments &routing, int64_t numExperts,
                                Value numTokens) {
  Value size = arith::MulIOp::create(b, emitDim(b, routing.ids, 0),
                                     emitDim(b, routing.ids, 1));
  auto list = [&](OpFoldResult length, Type type) {
    return emitList(b, length, type);
  };
  Grouping dests;
  Type i32 = b.getI32Type();
  dests.offsets = list(b.getIndexAttr(numExperts + 1), i32);
  dests.first =
      list(getAsOpFoldResult(emitAdd(b, numTokens, emitIndex(b, 1))), i32);
  dests.token = list(getAsOpFoldResult(size), i32);
  dests.slot = list(getAsOpFoldResult(size), i32);
  if (routing.weights)
    dests.weight =
        list(getAsOpFoldResult(size), getElementType(routing.weights));
  return emitGrouping(b, routing, dests);
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

Value tolinalg::emitGather(ImplicitLocOpBuilder &b, Value source, Value rows,
                           Value scale, Value dest) {
  SmallVector<Value> inputs;
  if (rows)
    inputs.push_back(rows);
  if (scale)
    inputs.push_back(scale);
  SmallVector<SmallVector<int64_t>> dims(inputs.size(), {0});
  FloatType compute = getComputeType(b, {source, scale});
  return emitMap(b, inputs, dims, dest, [&](ValueRange scalars) {
    Value row = rows ? emitToIndex(b, scalars.front())
                     : linalg::IndexOp::create(b, /*dim=*/0).getResult();
    Value column = linalg::IndexOp::create(b, /*dim=*/1);
    Value value = emitRead(b, source, {row, column});
    if (scale) {
      Value factor = emitConvert(b, scalars[inputs.size() - 1], compute);
      value = arith::MulFOp::create(b, emitConvert(b, value, compute), factor);
    }
    return emitConvert(b, value, getElementType(dest));
  });
}

namespace {

/// Emits a weighted sum; the sum of one token is a row of the compute type.
class SlotSummer {
public:
  SlotSummer(ImplicitLocOpBuilder &b, const SlotSum &sum, Value dest)
      : b(b), sum(sum), dest(dest),
        compute(getComputeType(b, {sum.rows, dest})) {}

  Value emit() {
    return emitLoop(b, emitIndex(b, 0), emitDim(b, dest, 0), dest,
                    [&](Value token, ValueRange carried) -> SmallVector<Value> {
                      Value row = emitFinish(token, emitSum(token), carried[0]);
                      return {emitInsertRow(b, row, carried[0], token)};
                    })[0];
  }

private:
  Value emitSum(Value token) {
    OpFoldResult width = tensor::getMixedSize(b, b.getLoc(), dest, 1);
    Value zero =
        emitFill(b, emitFloat(b, compute, 0.0), emitList(b, width, compute));
    Value next = emitAdd(b, token, emitIndex(b, 1));
    return emitLoop(
        b, emitReadIndex(b, sum.first, token),
        emitReadIndex(b, sum.first, next), zero,
        [&](Value place, ValueRange carried) -> SmallVector<Value> {
          Value row = emitReadIndex(b, sum.slot, place);
          Value weight;
          if (sum.weight)
            weight = emitConvert(b, emitRead(b, sum.weight, row), compute);
          Value values = emitSliceRow(b, sum.rows, row);
          return {emitAccumulate(
              b, values, carried[0], [&](Value value, Value acc) -> Value {
                value = emitConvert(b, value, compute);
                if (weight)
                  value = arith::MulFOp::create(b, weight, value);
                return arith::AddFOp::create(b, acc, value);
              })};
        })[0];
  }

  /// Adds what stands beside the sum and rounds.
  Value emitFinish(Value token, Value total, Value tokens) {
    SmallVector<Value> inputs = {total};
    Value identityWeight;
    if (sum.identity) {
      identityWeight =
          emitConvert(b, emitRead(b, sum.identityWeight, token), compute);
      inputs.push_back(emitSliceRow(b, sum.identity, token));
    }
    if (sum.bias)
      inputs.push_back(sum.bias);
    if (sum.residual)
      inputs.push_back(emitSliceRow(b, sum.residual, token));
    Value row = emitSliceRow(b, tokens, token);
    return emitElementwise(b, inputs, row, [&](ValueRange scalars) {
      unsigned position = 0;
      auto take = [&] { return emitConvert(b, scalars[position++], compute); };
      Value value = take();
      if (sum.identity) {
        Value share = arith::MulFOp::create(b, identityWeight, take());
        value = arith::AddFOp::create(b, value, share);
      }
      if (sum.scale != 1.0)
        value =
            arith::MulFOp::create(b, emitFloat(b, compute, sum.scale), value);
      if (sum.bias)
        value = arith::AddFOp::create(b, value, take());
      if (sum.residual)
        value = arith::AddFOp::create(b, value, take());
      if (sum.average)
        value = arith::MulFOp::create(b, value, emitFloat(b, compute, 0.5));
      return emitConvert(b, value, getElementType(dest));
    });
  }

  ImplicitLocOpBuilder &b;
  const SlotSum &sum;
  Value dest;
  FloatType compute;
};

} // namespace

Value tolinalg::emitSlotSum(ImplicitLocOpBuilder &b, const SlotSum &sum,
                            Value dest) {
  return SlotSummer(b, sum, dest).emit();
}

//===----------------------------------------------------------------------===//
// Patterns
//===----------------------------------------------------------------------===//

namespace {

class GroupLowering final : public Lowering<GroupOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(GroupOp op, ImplicitLocOpBuilder &b) const override {
    Assignments routing = {op.getIds(), op.getWeights(), op.getChoice()};
    Grouping dests = {op.getOffsetsInit(), op.getTokenInit(), op.getFirstInit(),
                      op.getSlotInit(), op.getWeightInit()};
    Grouping grouping = emitGrouping(b, routing, dests);
    SmallVector<Value> results = {grouping.offsets, grouping.token,
                                  grouping.first, grouping.slot};
    if (grouping.weight)
      results.push_back(grouping.weight);
    return results;
  }
};

class CombineSlotsLowering final : public Lowering<CombineSlotsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(CombineSlotsOp op,
                          ImplicitLocOpBuilder &b) const override {
    SlotSum sum = {op.getRows(),
                   op.getFirst(),
                   op.getSlot(),
                   op.getWeight(),
                   op.getIdentityWeight(),
                   op.getIdentity(),
                   op.getResidual(),
                   op.getBias(),
                   op.getScale().convertToDouble(),
                   op.getAverage()};
    return {emitSlotSum(b, sum, op.getInit())};
  }
};

} // namespace

void tolinalg::addGroupPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupLowering, CombineSlotsLowering>(patterns.getContext());
}
