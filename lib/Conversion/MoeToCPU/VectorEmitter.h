//===- VectorEmitter.h - Vectors of a row, tails masked ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOCPU_VECTOREMITTER_H
#define MOE_LIB_CONVERSION_MOETOCPU_VECTOREMITTER_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// Loads and stores of up to `lanes` neighbours of a memref's last dimension,
/// computed in one floating-point type.
class VectorEmitter {
public:
  VectorEmitter(ImplicitLocOpBuilder &b, FloatType compute)
      : VectorEmitter(b, compute, compute.getWidth() == 64 ? 8 : 16) {}
  VectorEmitter(ImplicitLocOpBuilder &b, FloatType compute, int64_t lanes)
      : b(b), compute(compute), lanes(lanes) {}

  int64_t getLanes() const { return lanes; }
  FloatType getComputeType() const { return compute; }
  VectorType getType() const { return VectorType::get({lanes}, compute); }

  Value index(int64_t value);
  Value zero();
  Value add(Value x, Value y);
  /// A scalar read and widened to the compute type.
  Value loadScalar(Value memref, ValueRange indices);
  /// `size` neighbours from `indices` on; the other lanes are zero.
  Value load(Value memref, ValueRange indices, int64_t size);
  /// The same for a number of neighbours that a value says; contiguous alone.
  Value loadUpTo(Value memref, ValueRange indices, Value count);
  /// Rounds once to the memref's type and writes the first `size` lanes.
  void store(Value vector, Value memref, ValueRange indices, int64_t size);
  Value broadcast(Value scalar);
  /// The sum of all lanes, always in the same order (halves on halves).
  Value sumLanes(Value vector);
  /// value as a scalar or vector of the compute type, or of `element`.
  Value convert(Value value, Type element);
  /// An i32 read as an index.
  Value loadIndex(Value memref, Value position);

  /// Emits `body` for each full vector of `extent` columns in a loop and once
  /// for the rest; `body` gets the first column and the number of columns.
  void forEachVector(int64_t extent,
                     llvm::function_ref<void(Value column, int64_t size)> body);

  /// Emits a loop over [begin, end) by `step`.
  void loop(Value begin, Value end, int64_t step,
            llvm::function_ref<void(Value)> body);

private:
  Value mask(int64_t size);
  bool hasUnitStride(Value memref);

  ImplicitLocOpBuilder &b;
  FloatType compute;
  int64_t lanes;
};

/// Emits `body` for each of `count` tasks: in parallel, or one after the other
/// inside another parallel loop.
void emitTasks(ImplicitLocOpBuilder &b, Operation *anchor, Value count,
               llvm::function_ref<void(Value task)> body);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOCPU_VECTOREMITTER_H
