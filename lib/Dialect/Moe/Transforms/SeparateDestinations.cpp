//===- SeparateDestinations.cpp - One tensor for each destination ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESEPARATEDESTINATIONSPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

/// Gives a destination an empty or filled tensor of its own.
static bool separate(OpOperand &init) {
  Operation *source = init.get().getDefiningOp();
  auto fill = dyn_cast_or_null<linalg::FillOp>(source);
  Operation *empty = fill ? fill.getDpsInits()[0].getDefiningOp() : source;
  if (!isa_and_nonnull<tensor::EmptyOp>(empty) || source->hasOneUse())
    return false;
  OpBuilder b(init.getOwner());
  IRMapping mapping;
  b.clone(*empty, mapping);
  if (fill)
    b.clone(*fill, mapping);
  init.set(mapping.lookup(init.get()));
  return true;
}

namespace {
struct MoeSeparateDestinations
    : public moe::impl::MoeSeparateDestinationsPassBase<
          MoeSeparateDestinations> {
  void runOnOperation() override {
    getOperation()->walk([&](Operation *op) {
      if (auto writer = dyn_cast<DestinationStyleOpInterface>(op))
        for (OpOperand &init : writer.getDpsInitsMutable())
          numSeparated += separate(init);
      else if (auto loop = dyn_cast<LoopLikeOpInterface>(op))
        for (OpOperand &init : loop.getInitsMutable())
          numSeparated += separate(init);
    });
  }
};
} // namespace
