//===- Emit.h - What backwards are made of ----------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_GRADIENTS_EMIT_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_GRADIENTS_EMIT_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// What a backward computes in: f64 where one of the values (null: none) holds
/// it, f32 otherwise.
FloatType getWidestType(ImplicitLocOpBuilder &b, ArrayRef<Value> values);

/// A tensor filled with zeros.
Value emitZeros(ImplicitLocOpBuilder &b, Value dest);

/// A new tensor of these sizes and element type.
Value emitNew(ImplicitLocOpBuilder &b, ArrayRef<OpFoldResult> sizes,
              Type element);

/// value * factor, element by element; the value itself for 1.
Value emitTimes(ImplicitLocOpBuilder &b, Value value, double factor);

/// The sums [D] of the columns of matrix [T, D], in the order of T, in f32 (f64
/// for f64).
Value emitColumnSums(ImplicitLocOpBuilder &b, Value matrix);

/// A tensor of the type of `like` [T, k], made slot by slot from inputs [T, k],
/// and from one value a token where an input is a list [T]; with `isSum` a list
/// [T] of the sums over the slots.
Value mapSlots(
    ImplicitLocOpBuilder &b, ValueRange inputs, Value like,
    llvm::function_ref<Value(ImplicitLocOpBuilder &, ValueRange)> body,
    bool isSum = false);

/// One side of an outer product: rows, and which of them where not all in
/// order.
struct OuterSide {
  Value rows;
  Value numbers;
};

/// A moe.grouped_outer into dest [E, J, D]; offsets null for one expert.
Value emitOuter(ImplicitLocOpBuilder &b, OuterSide lhs, OuterSide rhs,
                Value offsets, Value dest);

/// A tensor with its first two dimensions as one.
Value joinFirstTwo(ImplicitLocOpBuilder &b, Value value);
/// A list [N] as a column [N, 1].
Value asColumn(ImplicitLocOpBuilder &b, Value list);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_GRADIENTS_EMIT_H
