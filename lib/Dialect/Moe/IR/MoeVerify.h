//===- MoeVerify.h - Shared checks of op shapes -----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H
#define MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "llvm/Support/MathExtras.h"
#include <limits>
#include <string>

namespace mlir::moe {

inline int64_t dimOf(Value value, unsigned dim) {
  return cast<ShapedType>(value.getType()).getDimSize(dim);
}

/// Ids, offsets and token numbers are i32, so nothing they count is larger.
constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max();

/// One named size of an operand or result.
struct NamedDim {
  StringRef owner;
  int64_t size;
};

/// A size as types write it.
inline std::string describeDim(int64_t size) {
  return ShapedType::isDynamic(size) ? "?" : std::to_string(size);
}

/// Whether two sizes can be equal: they are, or one is not known.
inline bool mayEqual(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}

/// Reports the first two sizes of `dims` that cannot be equal. A size that is
/// derived from another one (a length less one) may turn out negative.
inline LogicalResult verifySameDim(Operation *op, StringRef label,
                                   StringRef dimName, ArrayRef<NamedDim> dims) {
  for (const NamedDim &dim : dims)
    if (!ShapedType::isDynamic(dim.size) && dim.size < 0)
      return op->emitOpError() << dim.owner << " has " << dimName << " = "
                               << dim.size << " (" << label << ")";
  for (size_t i = 0; i < dims.size(); ++i)
    for (size_t j = i + 1; j < dims.size(); ++j)
      if (!mayEqual(dims[i].size, dims[j].size))
        return op->emitOpError()
               << dims[i].owner << " has " << dimName << " = " << dims[i].size
               << " but " << dims[j].owner << " has " << dims[j].size << " ("
               << label << ")";
  return success();
}

/// The same for a dimension that is static by the dialect's rules, so that
/// shapes can be reified from the types.
inline LogicalResult verifySameStaticDim(Operation *op, StringRef label,
                                         StringRef dimName,
                                         ArrayRef<NamedDim> dims) {
  for (const NamedDim &dim : dims)
    if (ShapedType::isDynamic(dim.size))
      return op->emitOpError()
             << dim.owner << " has " << dimName
             << " = ?, which must be static (" << label << ")";
  return verifySameDim(op, label, dimName, dims);
}

/// A length without its last element, as of offsets; dynamic stays dynamic.
inline int64_t lessOne(int64_t size) {
  return ShapedType::isDynamic(size) ? size : size - 1;
}

/// The product of two sizes; dynamic if one is, the largest if too large.
inline int64_t mulDim(int64_t a, int64_t b) {
  if (ShapedType::isDynamic(a) || ShapedType::isDynamic(b))
    return ShapedType::kDynamic;
  int64_t product;
  return llvm::MulOverflow(a, b, product) ? std::numeric_limits<int64_t>::max()
                                          : product;
}

/// An expert's id and the length of the offsets are i32.
inline LogicalResult verifyNumExperts(Operation *op, StringRef label,
                                      int64_t numExperts) {
  if (numExperts >= 1 && numExperts < kMaxCount)
    return success();
  return op->emitOpError() << "has " << describeDim(numExperts)
                           << " experts, not 1 to " << kMaxCount - 1 << " ("
                           << label << ")";
}

/// N, the largest possible number of assignments, against all that have it.
inline LogicalResult verifyAssignments(Operation *op, StringRef label,
                                       Value ids, ArrayRef<NamedDim> others) {
  int64_t first = dimOf(ids, 0), second = dimOf(ids, 1);
  int64_t count = mulDim(first, second);
  if (count > kMaxCount)
    return op->emitOpError()
           << "ids have " << first << " x " << second
           << " slots, more than i32 offsets count (" << label << ")";
  SmallVector<NamedDim> dims = {{"ids", count}};
  dims.append(others.begin(), others.end());
  return verifySameDim(op, label, "N", dims);
}

/// Operands that have the shape of ids.
inline LogicalResult verifyLikeIds(Operation *op, StringRef label, Value ids,
                                   StringRef owner, Value value) {
  for (unsigned dim : {0, 1})
    if (failed(verifySameDim(
            op, label, dim ? "second size" : "first size",
            {{"ids", dimOf(ids, dim)}, {owner, dimOf(value, dim)}})))
      return failure();
  return success();
}

/// Matrices of one shape, the second size static.
inline LogicalResult
verifySameShape(Operation *op, StringRef label,
                ArrayRef<std::pair<StringRef, Value>> values) {
  SmallVector<NamedDim> first, second;
  for (auto [owner, value] : values) {
    first.push_back({owner, dimOf(value, 0)});
    second.push_back({owner, dimOf(value, 1)});
  }
  if (failed(verifySameDim(op, label, "first size", first)))
    return failure();
  return verifySameStaticDim(op, label, "second size", second);
}

/// A factor that the op multiplies with.
inline LogicalResult verifyFinite(Operation *op, StringRef label,
                                  StringRef name, const APFloat &value) {
  if (value.isFinite())
    return success();
  return op->emitOpError() << name << " is not finite (" << label << ")";
}

/// Not NaN, not infinite, not negative.
inline bool isFiniteNotNegative(double value) {
  return value >= 0.0 && value <= std::numeric_limits<double>::max();
}

/// Experts, and S as whole slots of them.
inline LogicalResult verifySlots(Operation *op, StringRef label,
                                 int64_t numExperts, int64_t slots) {
  if (failed(verifyNumExperts(op, label, numExperts)))
    return failure();
  if (ShapedType::isDynamic(slots) || slots < 1 || slots % numExperts != 0)
    return op->emitOpError("has S = ")
           << describeDim(slots) << ", which are no slots of " << numExperts
           << " experts (" << label << ")";
  return success();
}

/// The rows of the slots of all groups, G * S.
inline LogicalResult verifySlotRows(Operation *op, StringRef label,
                                    Value offsets, int64_t slots, Value rows) {
  int64_t groups = offsets ? lessOne(dimOf(offsets, 0)) : 1;
  int64_t count = mulDim(groups, slots);
  if (count > kMaxCount)
    return op->emitOpError()
           << "has more slots than i32 offsets count (" << label << ")";
  return verifySameDim(op, label, "G * S",
                       {{"the slots", count}, {"rows", dimOf(rows, 0)}});
}

/// The numbers of columns of query and key, as whole heads.
inline LogicalResult verifyHeadWidths(Operation *op, StringRef label,
                                      int64_t heads, int64_t query,
                                      int64_t key) {
  if (ShapedType::isDynamic(query) || ShapedType::isDynamic(key))
    return op->emitOpError("query and key need static widths (")
           << label << ")";
  if (query < heads || query % heads != 0)
    return op->emitOpError("query has ") << query << " columns, which are no "
                                         << heads << " heads (" << label << ")";
  int64_t width = query / heads;
  if (key < width || key % width != 0 || heads % (key / width) != 0)
    return op->emitOpError("key has ")
           << key << " columns; heads of " << width << " columns that divide "
           << heads << " heads are needed (" << label << ")";
  return success();
}

/// A factor of similarities.
inline LogicalResult verifyScale(Operation *op, StringRef label,
                                 const APFloat &scale) {
  if (scale.isFinite() && scale.convertToDouble() > 0.0)
    return success();
  return op->emitOpError("scale is not finite and positive (") << label << ")";
}

/// At least one head, and as many of all.
inline LogicalResult verifyHeads(Operation *op, StringRef label,
                                 ArrayRef<NamedDim> counts) {
  if (failed(verifySameStaticDim(op, label, "heads", counts)))
    return failure();
  if (counts.front().size < 1)
    return op->emitOpError("has ")
           << counts.front().size << " heads (" << label << ")";
  return success();
}

/// T of what is seen and of what sees; with `from` they are two numbers.
inline LogicalResult verifyTokensOfMix(Operation *op, StringRef label,
                                       bool isTile, SmallVector<NamedDim> seen,
                                       ArrayRef<NamedDim> seeing) {
  if (!isTile) {
    llvm::append_range(seen, seeing);
    return verifySameDim(op, label, "T", seen);
  }
  return success(succeeded(verifySameDim(op, label, "T", seen)) &&
                 succeeded(verifySameDim(op, label, "rows", seeing)));
}

/// Appends a dimension for each optional operand that is present.
inline void appendDim(SmallVectorImpl<NamedDim> &dims, StringRef owner,
                      Value value, unsigned dim) {
  if (value)
    dims.push_back({owner, dimOf(value, dim)});
}

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_IR_MOEVERIFY_H
