//===- Lowering.h - The pattern that every op's lowering is -----*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_LOWERING_H
#define MOE_LIB_CONVERSION_MOETOLINALG_LOWERING_H

#include "Emit.h"
#include "mlir/IR/PatternMatch.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe::tolinalg {

/// Why an op has no form on upstream tensors, or an empty string.
std::string findObstacle(Operation *op);

/// Replaces an op by what `emit` gives for its results.
template <typename SourceOp>
class Lowering : public OpRewritePattern<SourceOp> {
public:
  using OpRewritePattern<SourceOp>::OpRewritePattern;

  LogicalResult matchAndRewrite(SourceOp op,
                                PatternRewriter &rewriter) const final {
    std::string obstacle = findObstacle(op);
    if (!obstacle.empty())
      return rewriter.notifyMatchFailure(op, obstacle);
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    rewriter.replaceOp(op, emit(op, b));
    return success();
  }

protected:
  virtual SmallVector<Value> emit(SourceOp op,
                                  ImplicitLocOpBuilder &b) const = 0;
};

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_LOWERING_H
