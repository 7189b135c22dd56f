//===- PackFunction.h - What makes packed weights of stored ones -*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_PACKFUNCTION_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_PACKFUNCTION_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

/// The weights of one product, and the arguments they are views of.
struct PackedWeight {
  mutable GroupedMatmulOp product;
  SmallVector<BlockArgument, 2> sources; ///< In the entry's order, each once.
  PanelsAttr panels;
  RankedTensorType type; ///< Packed.
};

/// Makes @NAME.pack in front of an entry whose arguments are still as stored.
func::FuncOp createPackFunction(func::FuncOp entry,
                                ArrayRef<PackedWeight> packed);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_PACKFUNCTION_H
