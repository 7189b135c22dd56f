//===- GateProduct.h - The product of a fused gate --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_GATEPRODUCT_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_GATEPRODUCT_H

#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

/// Emits the logits of a gate that stands inside a loop over tiles of tokens,
/// and in front of that loop a copy of the weight in panels that the product
/// streams through. Null where the gate is in no such loop.
Value emitTiledGate(GateOp op);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_GATEPRODUCT_H
