//===- Epilogue.h - What a product does to its sums -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOCPU_EPILOGUE_H
#define MOE_LIB_CONVERSION_MOETOCPU_EPILOGUE_H

#include "VectorEmitter.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

/// Runs a product's epilogue on `sums` of row `row`, one vector a sum, for the
/// `size` columns from `column` on, and stores what it gives.
LogicalResult emitEpilogue(ImplicitLocOpBuilder &b, VectorEmitter &emit,
                           GroupedMatmulOp op, ValueRange sums, Value expert,
                           Value row, Value column, int64_t size);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOCPU_EPILOGUE_H
