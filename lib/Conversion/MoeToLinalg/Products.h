//===- Products.h - Products of each expert's rows --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_PRODUCTS_H
#define MOE_LIB_CONVERSION_MOETOLINALG_PRODUCTS_H

#include "Emit.h"

namespace mlir::moe::tolinalg {

/// One expert's product: its rows [n, D] with one or two weights ([J, D], or
/// [D, J] where `isInOut`) and as many biases [J] as the epilogue reads.
struct ExpertProduct {
  Value rows;
  SmallVector<Value> weights, biases;
  bool isInOut = false;
  FloatType compute;
};

/// Writes epilogue(sums, biases) to every element of dest [n, J], computed in
/// the compute type and rounded once.
Value emitProduct(ImplicitLocOpBuilder &b, const ExpertProduct &product,
                  Value dest, ScalarBody epilogue);

/// Emits `body` for every expert by its rows begin .. begin + count, or once
/// for expert 0 and all rows where there are no offsets (null). The body
/// gives the rows [count, J] from dest's.
Value emitForExperts(ImplicitLocOpBuilder &b, Value offsets, Value dest,
                     llvm::function_ref<Value(Value expert, Value begin,
                                              Value count, Value dest)>
                         body);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_PRODUCTS_H
