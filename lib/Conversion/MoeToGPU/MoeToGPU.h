//===- MoeToGPU.h - Primitives as threads ----------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOGPU_MOETOGPU_H
#define MOE_LIB_CONVERSION_MOETOGPU_MOETOGPU_H

#include "mlir/IR/PatternMatch.h"

namespace mlir::moe {

/// Each primitive on buffers as loops over threads of scalar code.
void populateGroupToThreadsPatterns(RewritePatternSet &patterns);
void populateCombineSlotsToThreadsPatterns(RewritePatternSet &patterns);
/// What products may do to be fast.
struct ProductOptions {
  /// Experts of few rows have a kernel whose sums are in another order.
  bool mayHaveFewRows = true;
  /// Tensor cores multiply f32 as tf32, of 11 significant bits.
  bool mayRound = false;
};

void populateGroupedMatmulToThreadsPatterns(RewritePatternSet &patterns,
                                            const ProductOptions &options);
/// Products on tensor cores as kernels of their own.
void populateGroupedMatmulToTensorCoresPatterns(RewritePatternSet &patterns,
                                                const ProductOptions &options);
void populateGroupedOuterToThreadsPatterns(RewritePatternSet &patterns);
void populateGroupedOuterToTensorCoresPatterns(RewritePatternSet &patterns,
                                               const ProductOptions &options);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_MOETOGPU_H
