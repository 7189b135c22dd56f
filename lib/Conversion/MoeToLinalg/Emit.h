//===- Emit.h - Short forms of what the lowerings emit ----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_EMIT_H
#define MOE_LIB_CONVERSION_MOETOLINALG_EMIT_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"

namespace mlir::moe::tolinalg {

using LoopBody =
    llvm::function_ref<SmallVector<Value>(Value index, ValueRange carried)>;
using GroupBody = llvm::function_ref<SmallVector<Value>(
    Value begin, Value count, ValueRange carried)>;
using ScalarBody = llvm::function_ref<Value(ValueRange scalars)>;

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

Type getElementType(Value shaped);
/// What sums are taken in: f64 where one of the values has f64 elements, f32
/// otherwise. Absent values (null) do not count.
FloatType getComputeType(ImplicitLocOpBuilder &b, ArrayRef<Value> values);

Value emitFloat(ImplicitLocOpBuilder &b, Type type, double value);
Value emitNegativeInfinity(ImplicitLocOpBuilder &b, FloatType type);
Value emitI32(ImplicitLocOpBuilder &b, int64_t value);
Value emitIndex(ImplicitLocOpBuilder &b, int64_t value);
/// One rounding, or an exact extension, or nothing.
Value emitConvert(ImplicitLocOpBuilder &b, Value scalar, Type type);
/// From i32 to index (signed), and from index to i32.
Value emitToIndex(ImplicitLocOpBuilder &b, Value id);
Value emitToI32(ImplicitLocOpBuilder &b, Value index);
/// Whether 0 <= id < bound, all i32.
Value emitIsWithin(ImplicitLocOpBuilder &b, Value id, Value bound);
Value emitAdd(ImplicitLocOpBuilder &b, Value index, Value other);
Value emitSub(ImplicitLocOpBuilder &b, Value index, Value other);

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

Value emitDim(ImplicitLocOpBuilder &b, Value tensor, int64_t dim);
Value emitEmpty(ImplicitLocOpBuilder &b, ArrayRef<OpFoldResult> sizes,
                Type elementType);
/// A tensor of one dimension, uninitialised.
Value emitList(ImplicitLocOpBuilder &b, OpFoldResult length, Type elementType);
/// An uninitialised tensor of the sizes of another one.
Value emitEmptyLike(ImplicitLocOpBuilder &b, Value tensor, Type elementType);
Value emitFill(ImplicitLocOpBuilder &b, Value scalar, Value dest);
/// A destination for every result of an op, of exactly the result's type.
SmallVector<Value> emitDestinations(ImplicitLocOpBuilder &b,
                                    ReifyRankedShapedTypeOpInterface op);

/// tensor[indices] as it is, or as an index where the tensor holds i32.
Value emitRead(ImplicitLocOpBuilder &b, Value tensor, ValueRange indices);
Value emitReadIndex(ImplicitLocOpBuilder &b, Value tensor, ValueRange indices);
Value emitWrite(ImplicitLocOpBuilder &b, Value scalar, Value tensor,
                ValueRange indices);

/// Rows begin .. begin + count along the first dimension.
Value emitSliceRows(ImplicitLocOpBuilder &b, Value tensor, OpFoldResult begin,
                    OpFoldResult count);
Value emitInsertRows(ImplicitLocOpBuilder &b, Value rows, Value dest,
                     OpFoldResult begin, OpFoldResult count);
/// One row, without the first dimension.
Value emitSliceRow(ImplicitLocOpBuilder &b, Value tensor, OpFoldResult row);
Value emitInsertRow(ImplicitLocOpBuilder &b, Value values, Value dest,
                    OpFoldResult row);

//===----------------------------------------------------------------------===//
// Structured ops
//===----------------------------------------------------------------------===//

/// Writes every element of dest from the elements of the inputs that `dims`
/// name: input i has the dimensions dims[i] of dest.
Value emitMap(ImplicitLocOpBuilder &b, ValueRange inputs,
              ArrayRef<SmallVector<int64_t>> dims, Value dest, ScalarBody body);
/// Writes every element of a list from its position.
Value emitMapIndexed(ImplicitLocOpBuilder &b, Value dest,
                     llvm::function_ref<Value(Value index)> body);
/// As emitMap, for inputs of dest's shape.
Value emitElementwise(ImplicitLocOpBuilder &b, ValueRange inputs, Value dest,
                      ScalarBody body);
/// Replaces every element of acc by what `body` makes of it and of the input's
/// element at its place.
Value emitAccumulate(
    ImplicitLocOpBuilder &b, Value input, Value acc,
    llvm::function_ref<Value(Value scalar, Value accumulated)> body);
/// A tensor in another float type.
Value emitConvertTensor(ImplicitLocOpBuilder &b, Value tensor, Type type);
/// Writes a tensor to dest, in dest's element type.
Value emitConvertInto(ImplicitLocOpBuilder &b, Value tensor, Value dest);
/// lhs [m, d] times rhs ([d, j], or [j, d] where transposed) on top of acc, in
/// acc's type and in the order of d.
Value emitMatmul(ImplicitLocOpBuilder &b, Value lhs, Value rhs,
                 bool isRhsTransposed, Value acc);
/// Softmax over one dimension.
Value emitSoftmax(ImplicitLocOpBuilder &b, Value tensor, int64_t dim);
/// Whether a test holds for every element of a tensor.
Value emitAll(ImplicitLocOpBuilder &b, Value tensor,
              llvm::function_ref<Value(Value scalar)> test);

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

/// A loop over [begin, end) that carries values.
SmallVector<Value> emitLoop(ImplicitLocOpBuilder &b, Value begin, Value end,
                            ValueRange inits, LoopBody body);
/// What `body` gives where the condition holds, `otherwise` elsewhere.
SmallVector<Value> emitIf(ImplicitLocOpBuilder &b, Value condition,
                          ValueRange otherwise,
                          llvm::function_ref<SmallVector<Value>()> body);
void emitAssert(ImplicitLocOpBuilder &b, Value condition, const Twine &message);

/// The groups of tokens of an op: emits `body` for every group of `offsets`,
/// or once for all tokens where there are none (null). Asserts before that the
/// offsets ascend from 0 to the number of tokens.
SmallVector<Value> emitForGroups(ImplicitLocOpBuilder &b, StringRef opName,
                                 Value offsets, Value numTokens,
                                 ValueRange inits, GroupBody body);
/// The same for offsets that an assertion has seen.
SmallVector<Value> emitForCheckedGroups(ImplicitLocOpBuilder &b, Value offsets,
                                        Value numTokens, ValueRange inits,
                                        GroupBody body);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_EMIT_H
