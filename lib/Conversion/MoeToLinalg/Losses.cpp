//===- Losses.cpp - aux_loss ----------------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Conversion/MoeToLinalg.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// Emits one loss; sums are of the compute type.
class AuxLoss {
public:
  AuxLoss(ImplicitLocOpBuilder &b, AuxLossOp op)
      : b(b), op(op), width(op.getScores().getType().getDimSize(1)),
        compute(getComputeType(b, {op.getScores(), op.getLoss()})) {}

  Value emit();

private:
  SmallVector<Value> emitGroup(Value begin, Value count, ValueRange carried);
  Value
  emitLiveLoop(Value begin, Value count, Value init,
               llvm::function_ref<Value(Value token, Value carried)> body);
  Value emitScoreSums(Value begin, Value count);
  Value emitCounts(Value begin, Value count);
  Value emitBalance(Value begin, Value count, Value numTokens);
  Value emitImportance(Value begin, Value count);
  Value emitZ(Value begin, Value count, Value numTokens);
  Value emitSum(llvm::function_ref<Value(Value expert)> term);
  Value emitLogSumExp(Value token);

  Value constant(double value) { return emitFloat(b, compute, value); }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, x, y); }
  Value square(Value x) { return mul(x, x); }
  Value readScore(Value token, Value expert) {
    return emitConvert(b, emitRead(b, op.getScores(), {token, expert}),
                       compute);
  }
  Value asFloat(Value count) {
    return arith::SIToFPOp::create(b, compute, count);
  }

  ImplicitLocOpBuilder &b;
  AuxLossOp op;
  int64_t width;
  FloatType compute;
};

Value AuxLoss::emit() {
  // Carried: the sum over the groups, and the number of groups with tokens.
  SmallVector<Value> total = emitForGroups(
      b, op->getName().getStringRef(), op.getGroupOffsets(),
      emitDim(b, op.getScores(), 0), {constant(0.0), emitI32(b, 0)},
      [&](Value begin, Value count, ValueRange carried) {
        return emitGroup(begin, count, carried);
      });
  Value numGroups = arith::MaxSIOp::create(b, total[1], emitI32(b, 1));
  Value loss = div(total[0], asFloat(numGroups));
  loss = mul(loss, constant(op.getCoefficient().convertToDouble()));
  Value dest = emitDestinations(b, op)[0];
  return emitWrite(b, emitConvert(b, loss, getElementType(dest)), dest, {});
}

SmallVector<Value> AuxLoss::emitGroup(Value begin, Value count,
                                      ValueRange carried) {
  Value numTokens =
      emitLiveLoop(begin, count, emitI32(b, 0), [&](Value, Value sum) {
        return emitAdd(b, sum, emitI32(b, 1));
      });
  Value hasTokens = arith::CmpIOp::create(b, arith::CmpIPredicate::sgt,
                                          numTokens, emitI32(b, 0));
  Value divisor = asFloat(numTokens), loss;
  switch (op.getKind()) {
  case AuxLossKind::balance:
    loss = emitBalance(begin, count, divisor);
    break;
  case AuxLossKind::importance:
    loss = emitImportance(begin, count);
    break;
  case AuxLossKind::z:
    loss = emitZ(begin, count, divisor);
    break;
  }
  loss = arith::SelectOp::create(b, hasTokens, loss, constant(0.0));
  Value one = arith::ExtUIOp::create(b, b.getI32Type(), hasTokens);
  return {add(carried[0], loss), emitAdd(b, carried[1], one)};
}

/// A loop over the group's tokens that are not masked.
Value AuxLoss::emitLiveLoop(
    Value begin, Value count, Value init,
    llvm::function_ref<Value(Value token, Value carried)> body) {
  return emitLoop(b, begin, emitAdd(b, begin, count), init,
                  [&](Value token, ValueRange carried) -> SmallVector<Value> {
                    if (!op.getTokenMask())
                      return {body(token, carried[0])};
                    Value isLive = emitRead(b, op.getTokenMask(), token);
                    return emitIf(b, isLive, carried,
                                  [&]() -> SmallVector<Value> {
                                    return {body(token, carried[0])};
                                  });
                  })[0];
}

/// The scores [R] summed over the group's tokens.
Value AuxLoss::emitScoreSums(Value begin, Value count) {
  Value zero =
      emitFill(b, constant(0.0), emitList(b, b.getIndexAttr(width), compute));
  return emitLiveLoop(begin, count, zero, [&](Value token, Value sums) {
    Value row = emitSliceRow(b, op.getScores(), token);
    return emitAccumulate(b, row, sums, [&](Value score, Value sum) {
      return add(sum, emitConvert(b, score, compute));
    });
  });
}

/// How many slots of the group chose each expert, [R] i32.
Value AuxLoss::emitCounts(Value begin, Value count) {
  Value zero = emitFill(b, emitI32(b, 0),
                        emitList(b, b.getIndexAttr(width), b.getI32Type()));
  return emitLiveLoop(begin, count, zero, [&](Value token, Value counts) {
    return emitLoop(
        b, emitIndex(b, 0), emitDim(b, op.getIds(), 1), counts,
        [&](Value slot, ValueRange carried) {
          Value id = emitRead(b, op.getIds(), {token, slot});
          Value isExpert = emitIsWithin(b, id, emitI32(b, width));
          return emitIf(b, isExpert, carried, [&]() -> SmallVector<Value> {
            Value expert = emitToIndex(b, id);
            Value more =
                emitAdd(b, emitRead(b, carried[0], expert), emitI32(b, 1));
            return {emitWrite(b, more, carried[0], expert)};
          });
        })[0];
  });
}

Value AuxLoss::emitBalance(Value begin, Value count, Value numTokens) {
  Value sums = emitScoreSums(begin, count);
  Value counts = emitCounts(begin, count);
  Value sum = emitSum([&](Value expert) {
    Value share = div(asFloat(emitRead(b, counts, expert)), numTokens);
    return mul(share, div(emitRead(b, sums, expert), numTokens));
  });
  return mul(constant(width), sum);
}

Value AuxLoss::emitImportance(Value begin, Value count) {
  Value sums = emitScoreSums(begin, count);
  Value mean =
      div(emitSum([&](Value expert) { return emitRead(b, sums, expert); }),
          constant(width));
  Value squares = emitSum([&](Value expert) {
    Value score = emitRead(b, sums, expert);
    return square(arith::SubFOp::create(b, score, mean));
  });
  return div(div(squares, constant(width)), square(mean));
}

Value AuxLoss::emitZ(Value begin, Value count, Value numTokens) {
  Value sum = emitLiveLoop(begin, count, constant(0.0),
                           [&](Value token, Value carried) {
                             return add(carried, square(emitLogSumExp(token)));
                           });
  return div(sum, numTokens);
}

/// The sum of a term over the experts.
Value AuxLoss::emitSum(llvm::function_ref<Value(Value expert)> term) {
  return emitLoop(b, emitIndex(b, 0), emitIndex(b, width), constant(0.0),
                  [&](Value expert, ValueRange carried) -> SmallVector<Value> {
                    return {add(carried[0], term(expert))};
                  })[0];
}

Value AuxLoss::emitLogSumExp(Value token) {
  Value largest = emitLoop(
      b, emitIndex(b, 0), emitIndex(b, width), emitNegativeInfinity(b, compute),
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        return {
            arith::MaximumFOp::create(b, carried[0], readScore(token, expert))};
      })[0];
  // The difference of two infinities would be NaN.
  Value isFinite = math::IsFiniteOp::create(b, largest);
  Value shift = arith::SelectOp::create(b, isFinite, largest, constant(0.0));
  Value sum = emitSum([&](Value expert) -> Value {
    Value shifted = arith::SubFOp::create(b, readScore(token, expert), shift);
    return math::ExpOp::create(b, shifted);
  });
  return add(shift, math::LogOp::create(b, sum));
}

class AuxLossLowering final : public Lowering<AuxLossOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(AuxLossOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {AuxLoss(b, op).emit()};
  }
};

} // namespace

void moe::populateMoeToLinalgLossesPatterns(RewritePatternSet &patterns) {
  patterns.add<AuxLossLowering>(patterns.getContext());
}
