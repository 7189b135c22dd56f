//===- Selection.h - The k largest, as generated scalar code ----*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What routers and moe.top_k share. A choice compares integers: a float's bits,
// flipped so that signed integer order is the order of the floats, with NaN
// below everything. That order is total, so a loop needs no branch and no
// special case, and ties go to the lower index because a later equal key does
// not displace an earlier one.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_SELECTION_H
#define MOE_DIALECT_MOE_UTILS_SELECTION_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// Floats as integers of the same order.
class KeyOrder {
public:
  KeyOrder(ImplicitLocOpBuilder &b, FloatType type);

  IntegerType getKeyType() const { return keyType; }
  /// The key of a float; -0 and +0 have one key, and all NaN have one.
  Value encode(Value value);
  /// A float of that key; a NaN for the key of NaN.
  Value decode(Value key);
  /// A key below every float's and NaN's.
  Value getEmptyKey();
  Value isGreater(Value key, Value other);

private:
  /// Maps the order of float bits to that of signed integers, and back.
  Value flip(Value bits);
  Value keyConstant(const APInt &value);

  ImplicitLocOpBuilder &b;
  FloatType type;
  IntegerType keyType;
};

/// Keys in descending order, and the i32 ids they belong to.
struct RankedKeys {
  SmallVector<Value> keys;
  SmallVector<Value> ids;
};

/// Emits a loop over [0, count) that carries values.
SmallVector<Value> emitCountedLoop(
    ImplicitLocOpBuilder &b, int64_t count, ValueRange inits,
    llvm::function_ref<SmallVector<Value>(Value index, ValueRange carried)>
        body);

/// Updates the k best so far by one more key: those below it move down by one
/// place. The k comparisons do not depend on each other.
RankedKeys emitInsertion(ImplicitLocOpBuilder &b, KeyOrder &order,
                         const RankedKeys &best, Value key, Value id);

/// k empty places to insert into.
RankedKeys emitEmptyRanking(ImplicitLocOpBuilder &b, KeyOrder &order,
                            int64_t k);

/// Emits the choice of the k largest of `count` keys, in descending order.
RankedKeys emitTopK(ImplicitLocOpBuilder &b, KeyOrder &order, int64_t k,
                    int64_t count,
                    llvm::function_ref<Value(Value index)> emitKey);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_SELECTION_H
