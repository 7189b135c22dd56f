//===- ProductParts.h - What kernels of products share ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOGPU_PRODUCTPARTS_H
#define MOE_LIB_CONVERSION_MOETOGPU_PRODUCTPARTS_H

#include "ThreadEmitter.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

inline MemRefType typeOf(Value memref) {
  return cast<MemRefType>(memref.getType());
}

/// A number of a product: its row, the row's expert, and the column.
struct ProductPlace {
  Value row, expert, output;
};

/// What the epilogue yields for one number, in the compute type.
SmallVector<Value> emitEpilogueValues(ImplicitLocOpBuilder &b,
                                      ThreadEmitter &emit, GroupedMatmulOp op,
                                      const ProductPlace &place,
                                      ArrayRef<Value> sums);

/// The same, and its results where they belong.
void emitEpilogue(ImplicitLocOpBuilder &b, ThreadEmitter &emit,
                  GroupedMatmulOp op, const ProductPlace &place,
                  ArrayRef<Value> sums);

/// `size` neighbours in the compute type; a scalar if it is one. They lie at a
/// multiple of their size.
Value loadNeighbours(ImplicitLocOpBuilder &b, ThreadEmitter &emit, Value memref,
                     ValueRange indices, int64_t size);

/// A number of lhs, or a vector of them, times its row's scale; it has lhs's
/// type before it is multiplied with a weight.
Value scaleNumber(ImplicitLocOpBuilder &b, ThreadEmitter &emit, Value lhs,
                  Value number, Value scale);

/// Neighbours of a row, or one number, by one store, rounded to the memref's
/// type. They lie at a multiple of their size.
void storeNeighbours(ImplicitLocOpBuilder &b, ArrayRef<Value> numbers,
                     Value memref, ValueRange at);

/// Whether every row begins a whole number of blocks of `size` elements behind
/// the first number of its buffer, and lies contiguously.
bool isRowOfBlocks(Value view, int64_t size);

/// A kernel of its own for the experts of few rows. Returns how many rows it
/// takes at most; 0 where there is none.
int64_t emitFewRows(ImplicitLocOpBuilder &b, GroupedMatmulOp op);

/// Whether tensor cores multiply numbers of a type; f32 is rounded to tf32.
bool isTensorCoreType(Type element, bool mayRound);

/// Asserts in front of everything that the argument behind a view, if it is
/// one, is aligned: wide loads of a pointer that is not would trap.
void assertAligned(ImplicitLocOpBuilder &b, Operation *op, Value view,
                   int64_t bytes);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_PRODUCTPARTS_H
