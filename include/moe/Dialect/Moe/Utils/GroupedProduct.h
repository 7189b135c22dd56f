//===- GroupedProduct.h - Making grouped products ---------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_GROUPEDPRODUCT_H
#define MOE_DIALECT_MOE_UTILS_GROUPEDPRODUCT_H

#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

/// What a moe.grouped_matmul on tensors is made of; see there.
struct GroupedProduct {
  SmallVector<Value> lhs;
  Value rows, rowScale, offsets;
  SmallVector<Value> weights, biases, elements, rowValues;
  bool inOut = false;
  OpFoldResult numRows; ///< N of the results.
};

/// The values of an epilogue, one for each result, from its arguments.
using EpilogueBody =
    llvm::function_ref<SmallVector<Value>(ImplicitLocOpBuilder &, ValueRange)>;

/// Emits a grouped product with one new result [N, J] of each element type.
SmallVector<Value> emitGroupedProduct(ImplicitLocOpBuilder &b,
                                      const GroupedProduct &product,
                                      ArrayRef<Type> elementTypes,
                                      EpilogueBody epilogue);

/// The same with one sum and nothing done to it, into `dest`.
Value emitGroupedSum(ImplicitLocOpBuilder &b, const GroupedProduct &product,
                     Value dest);

/// Emits a grouping of ids for which all results are new tensors: `numTokens`
/// is T; with weights the fifth result is those in expert order.
GroupOp emitGroup(ImplicitLocOpBuilder &b, Value ids, Value weights,
                  int64_t numExperts, Choice choice, OpFoldResult numTokens);

/// A tensor with a first dimension of 1: a matrix as the weight of one expert.
Value addLeadingOne(ImplicitLocOpBuilder &b, Value value);

/// One to two views [E, out, in] (or [E, in, out]; [E, out] for biases): the
/// gate's and the up projection's part of each tensor, or the only one. The
/// layout has one shard.
SmallVector<Value> viewUp(ImplicitLocOpBuilder &b, ExpertsOp op,
                          ValueRange tensors, bool isBias);

/// The down weight as [E, out, in] or [E, in, out].
Value viewDown(ImplicitLocOpBuilder &b, ExpertsOp op);

/// The layout of an op's up weights and biases with one shard.
LayoutAttr withOneShard(LayoutAttr layout);

/// The op's up weights or up biases in the layout with one shard.
SmallVector<Value> unshard(ImplicitLocOpBuilder &b, ExpertsOp op,
                           Projection projection);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_GROUPEDPRODUCT_H
