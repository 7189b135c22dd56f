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

/// One expert's product: rows [n, D], the same for all weights or one for each,
/// with one or two weights ([J, D], or [D, J] where `isInOut`), and what the
/// epilogue reads beside the sums: biases [J], elements [n, J], values [n].
struct ExpertProduct {
  SmallVector<Value> rows, weights, biases, elements, rowValues;
  bool isInOut = false;
  FloatType compute;
};

/// The values of an epilogue, one for each destination.
using Epilogue = llvm::function_ref<SmallVector<Value>(ValueRange scalars)>;

/// Writes epilogue(sums, biases, elements, values) to every element of dests
/// [n, J], computed in the compute type and rounded once.
SmallVector<Value> emitProduct(ImplicitLocOpBuilder &b,
                               const ExpertProduct &product, ValueRange dests,
                               Epilogue epilogue);

/// One expert's own rows: begin .. begin + count of all.
struct ExpertRows {
  Value expert, begin, count;

  /// The rows of a list or matrix [N, ..]; null for null.
  Value of(ImplicitLocOpBuilder &b, Value all) const;
};

/// Emits `body` for every expert, or once for expert 0 and all rows where there
/// are no offsets (null). The body gives the expert's rows of every result from
/// those of dests.
SmallVector<Value>
emitForExperts(ImplicitLocOpBuilder &b, Value offsets, ValueRange dests,
               llvm::function_ref<SmallVector<Value>(const ExpertRows &own,
                                                     ValueRange dests)>
                   body);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_PRODUCTS_H
