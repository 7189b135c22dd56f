//===- ThreadEmitter.h - Code of one GPU thread ----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOGPU_THREADEMITTER_H
#define MOE_LIB_CONVERSION_MOETOGPU_THREADEMITTER_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// Scalar code on memrefs, computed in one floating-point type.
class ThreadEmitter {
public:
  ThreadEmitter(ImplicitLocOpBuilder &b, FloatType compute)
      : b(b), compute(compute) {}

  FloatType getComputeType() const { return compute; }

  Value index(int64_t value);
  Value id(int64_t value); ///< An i32.
  Value real(double value);
  Value add(Value x, Value y); ///< Of indices, as the next two.
  Value sub(Value x, Value y);
  Value mul(Value x, Value y);
  Value dim(Value memref, int64_t dimension);
  Value multiplyAdd(Value x, Value y, Value sum);

  /// A number read and widened to the compute type.
  Value load(Value memref, ValueRange indices);
  /// Rounds once to the memref's type.
  void store(Value value, Value memref, ValueRange indices);
  Value loadIndex(Value memref, ValueRange indices); ///< An i32 as an index.
  void storeIndex(Value value, Value memref, ValueRange indices);
  /// Whether an i32 is in [0, limit), limit an index.
  Value isBelow(Value number, Value limit);

  using Body =
      llvm::function_ref<SmallVector<Value>(Value place, ValueRange carried)>;
  SmallVector<Value> loop(Value begin, Value end, ValueRange inits, Body body);
  void loop(Value begin, Value end, llvm::function_ref<void(Value)> body);
  void when(Value condition, llvm::function_ref<void()> body);

  /// One thread for each place in [0, counts[0]) x ..; threads whose last
  /// number is next to each other are neighbours. Inside a thread, loops.
  void threads(Operation *anchor, ArrayRef<Value> counts,
               llvm::function_ref<void(ValueRange places)> body);

private:
  ImplicitLocOpBuilder &b;
  FloatType compute;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_THREADEMITTER_H
