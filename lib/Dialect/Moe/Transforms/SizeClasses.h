//===- SizeClasses.h - Sizes that are equal ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_SIZECLASSES_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_SIZECLASSES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/LinalgInterfaces.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/EquivalenceClasses.h"

namespace mlir::moe {

/// Which sizes of a function's values are equal whatever the input. A size is a
/// value and a dimension, numbered once.
class SizeClasses {
public:
  explicit SizeClasses(func::FuncOp function) {
    function.walk([&](Operation *op) { visit(op); });
  }

  int64_t getClass(Value value, int64_t dim) {
    return *classes.findLeader(classes.insert(number(value, dim)));
  }

private:
  int64_t number(Value value, int64_t dim) {
    return numbers.try_emplace({value, dim}, numbers.size()).first->second;
  }
  void unite(Value a, int64_t dimA, Value b, int64_t dimB) {
    classes.unionSets(number(a, dimA), number(b, dimB));
  }
  void uniteFirst(ArrayRef<Value> values) {
    Value leader;
    for (Value value : values) {
      if (!value)
        continue;
      if (leader)
        unite(leader, 0, value, 0);
      else
        leader = value;
    }
  }
  void uniteAll(Value a, Value b) {
    auto type = dyn_cast<RankedTensorType>(a.getType());
    auto other = dyn_cast<RankedTensorType>(b.getType());
    if (type && other && type.getRank() == other.getRank())
      for (int64_t dim = 0; dim < type.getRank(); ++dim)
        unite(a, dim, b, dim);
  }
  void visitLayerOp(Operation *op);
  /// Backwards of what reads beyond a token.
  void visitMixedBackward(Operation *op);
  void visitStructured(linalg::LinalgOp op);
  void visit(Operation *op);

  DenseMap<std::pair<Value, int64_t>, int64_t> numbers;
  llvm::EquivalenceClasses<int64_t> classes;
};

/// Names of dynamic sizes, one for sizes that are equal whatever the input.
class SizeNames {
public:
  explicit SizeNames(SizeClasses &classes) : classes(classes) {}

  /// Takes over the names in a moe.dims attribute (null: none) of a value; of
  /// two for one size the first stays.
  void give(Value value, Attribute names);
  /// The moe.dims attribute of a value: names as they were given, "T" and then
  /// "D1", .. for the others, and "" for static sizes.
  ArrayAttr get(Value value);

private:
  SizeClasses &classes;
  llvm::DenseMap<int64_t, StringAttr> names;
  llvm::DenseSet<Attribute> taken;
  /// The sizes that get has seen; their number names the next one.
  llvm::DenseSet<int64_t> named;
};

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_SIZECLASSES_H
