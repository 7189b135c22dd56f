//===- RegisterTile.h - A tile of sums in registers -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOCPU_REGISTERTILE_H
#define MOE_LIB_CONVERSION_MOETOCPU_REGISTERTILE_H

#include "VectorEmitter.h"
#include <functional>

namespace mlir::moe {

/// Rows and vectors of a tile: 24 sums beside their operands.
constexpr int64_t kTileRows = 6;
constexpr int64_t kTileVectors = 4;

/// What a tile's sums are made of, in the compute type: for step k a factor of
/// each row and vectors of columns.
struct TileOperands {
  Value sums; ///< memref [panel rows, columns], what the sums start from.
  std::function<Value(Value step, Value row)> factor; ///< A scalar.
  std::function<Value(Value step, int64_t vector)> columns;
};

/// Adds `count` steps to the rows row .. row + kTileRows and the first
/// `numVectors` vectors of `sums`, each in the order of the steps.
void emitRegisterTile(ImplicitLocOpBuilder &b, VectorEmitter &emit,
                      const TileOperands &operands, Value row, Value count,
                      int64_t numVectors);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOCPU_REGISTERTILE_H
