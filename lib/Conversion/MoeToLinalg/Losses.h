//===- Losses.h - What losses share -----------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_LOSSES_H
#define MOE_LIB_CONVERSION_MOETOLINALG_LOSSES_H

#include "Emit.h"

namespace mlir::moe::tolinalg {

/// Emits a loss: its value for every group of tokens, and their mean. Sums are
/// of the compute type.
class LossEmitter {
public:
  /// `mask` and `offsets` are operands of the op, or null.
  LossEmitter(ImplicitLocOpBuilder &b, int64_t width, FloatType compute,
              Value mask, Value offsets)
      : b(b), width(width), compute(compute), mask(mask), offsets(offsets) {}
  virtual ~LossEmitter() = default;

  /// `coefficient` times the mean over the groups that have tokens, as `op`'s
  /// result.
  Value emit(ReifyRankedShapedTypeOpInterface op, Value tokens,
             const APFloat &coefficient);

protected:
  /// The loss of the tokens from `begin` on, `numTokens` of which (a float)
  /// take part.
  virtual Value emitLoss(Value begin, Value count, Value numTokens) = 0;

  /// A loop over the group's tokens that are not masked.
  Value
  emitLiveLoop(Value begin, Value count, Value init,
               llvm::function_ref<Value(Value token, Value carried)> body);
  /// The sum of a term over the group's tokens that are not masked.
  Value emitLiveSum(Value begin, Value count,
                    llvm::function_ref<Value(Value token)> term);
  /// The sum of a term over the experts.
  Value emitSum(llvm::function_ref<Value(Value expert)> term);
  /// Variance of a list [R] over its squared mean + eps.
  Value emitSquaredVariation(Value list, bool isUnbiased, double eps);
  /// A list [R] of zeros.
  Value emitZeros();

  Value constant(double value) { return emitFloat(b, compute, value); }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, x, y); }
  Value square(Value x) { return mul(x, x); }
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, condition, x, y);
  }
  Value isEqual(Value x, Value y) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, x, y);
  }
  Value asFloat(Value count) {
    return arith::SIToFPOp::create(b, compute, count);
  }
  Value read(Value tensor, Value token, Value expert) {
    return emitConvert(b, emitRead(b, tensor, {token, expert}), compute);
  }

  ImplicitLocOpBuilder &b;
  int64_t width;
  FloatType compute;
  Value mask, offsets;

private:
  SmallVector<Value> emitGroup(Value begin, Value count, ValueRange carried);
};

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_LOSSES_H
