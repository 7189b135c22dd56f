//===- MoeVerify.h - Shared checks of op shapes -----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H
#define MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H

#include "moe/Dialect/Moe/IR/Moe.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

namespace mlir::moe {

inline int64_t dimOf(Value value, unsigned dim) {
  return cast<ShapedType>(value.getType()).getDimSize(dim);
}

/// One named size of an operand or result.
struct NamedDim {
  StringRef owner;
  int64_t size;
};

/// Whether two sizes can be equal: they are, or one is not known.
inline bool mayEqual(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}

/// Reports the first two sizes of `dims` that cannot be equal.
inline LogicalResult verifySameDim(Operation *op, StringRef label,
                                   StringRef dimName,
                                   ArrayRef<NamedDim> dims) {
  for (size_t i = 0; i < dims.size(); ++i)
    for (size_t j = i + 1; j < dims.size(); ++j)
      if (!mayEqual(dims[i].size, dims[j].size))
        return op->emitOpError()
               << dims[i].owner << " has " << dimName << " = " << dims[i].size
               << " but " << dims[j].owner << " has " << dims[j].size << " ("
               << label << ")";
  return success();
}

/// A size plus a constant, dynamic staying dynamic.
inline int64_t addDim(int64_t size, int64_t addend) {
  return ShapedType::isDynamic(size) ? size : size + addend;
}

inline int64_t mulDim(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b)
             ? ShapedType::kDynamic
             : a * b;
}

/// Appends a dimension for each optional operand that is present.
inline void appendDim(SmallVectorImpl<NamedDim> &dims, StringRef owner,
                      Value value, unsigned dim) {
  if (value)
    dims.push_back({owner, dimOf(value, dim)});
}

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H
