//===- Cotangents.h - Reverse mode over straight-line code ------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A backward is made op by op, from the last to the first, by what each op's
// DifferentiableOpInterface emits. The same code serves functions on tensors
// and bodies on scalars.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_COTANGENTS_H
#define MOE_DIALECT_MOE_IR_COTANGENTS_H

#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

namespace mlir::moe {

/// Which values of a forward a backward finds saved.
enum class SaveMode {
  minimal,  ///< The routing, and what activations were given.
  recompute ///< The routing alone.
};

/// The cotangents found so far. A value without one has a cotangent of zeros.
class Cotangents {
public:
  explicit Cotangents(SaveMode mode = SaveMode::minimal) : mode(mode) {}

  SaveMode getMode() const { return mode; }

  /// Whether a value depends on what is differentiated by, in a way that has a
  /// derivative.
  bool isActive(Value value) const { return active.contains(value); }
  /// Makes a value active: one that is differentiated by.
  void activate(Value value) { active.insert(value); }
  /// Makes results of floating-point type active where an operand is.
  void propagate(Operation *op);

  /// The cotangent of a value, of the value's type; null where it is zero.
  Value of(Value value) const { return sums.lookup(value); }
  /// The same, with zeros where there is none; a scalar or of static shape, or
  /// of the shape of `value`.
  Value ofOrZero(ImplicitLocOpBuilder &b, Value value);
  /// Adds to the cotangent of a value, converted to its type; does nothing for
  /// a value that is not active.
  void add(ImplicitLocOpBuilder &b, Value value, Value cotangent);
  /// Moves what is known of a value to another one that takes its place.
  void replace(Value value, Value by);

private:
  SaveMode mode;
  llvm::DenseMap<Value, Value> sums;
  llvm::DenseSet<Value> active;
};

/// Emits the backwards of `ops`, from the last to the first, at the builder's
/// place. An op in the way that has none is named in an error.
LogicalResult differentiate(ImplicitLocOpBuilder &b, ArrayRef<Operation *> ops,
                            Cotangents &cotangents);

/// The cotangents of `inputs` (null for zero) from those of `outputs`, by what
/// lies between them in the builder's block. Null cotangents are zeros.
FailureOr<SmallVector<Value>> pullBack(ImplicitLocOpBuilder &b,
                                       ValueRange outputs,
                                       ArrayRef<Value> cotangents,
                                       ValueRange inputs);

/// A number as a scalar, vector or tensor of the type of `like`.
Value emitSplat(ImplicitLocOpBuilder &b, Value like, double number);

/// A floating-point scalar, vector or tensor with another element type.
Value convertElements(ImplicitLocOpBuilder &b, Value value, Type element);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_IR_COTANGENTS_H
