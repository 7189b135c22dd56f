//===- GatingTile.h - A gate and a route that one kernel runs ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOGPU_GATINGTILE_H
#define MOE_LIB_CONVERSION_MOETOGPU_GATINGTILE_H

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

/// Where a tile's rows lie in a value: from `first` on. A null `first` is the
/// tile's own first token.
struct TokenRows {
  Value value;
  OpFoldResult first;
};

/// A result of the tile's ops and the memref that takes its rows.
struct TileOutput {
  Value result;
  TokenRows dest;
  bufferization::MaterializeInDestinationOp store;
};

/// A gate and the route that reads its logits, on a tile of tokens: the body of
/// a fused scf.forall, or the plain pair where the loop had one iteration.
struct GatingTile {
  scf::ForallOp loop; ///< Null for the plain pair.
  GateOp gate;
  RouteOp route;
  OpFoldResult size; ///< Tokens of the tile; null for the plain pair.
  TokenRows input, mask;
  SmallVector<TileOutput> outputs;

  /// The op that the kernel replaces.
  Operation *getRoot() {
    return loop ? loop.getOperation() : route.getOperation();
  }
  /// Tokens of a full tile, where a loop fixes them.
  std::optional<int64_t> getStep();
};

/// Finds the tile of a route, or reports why it has no GPU code.
FailureOr<GatingTile> matchGatingTile(RouteOp route);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_GATINGTILE_H
