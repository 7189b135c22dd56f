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
/// Experts of few rows may have a kernel whose sums are in another order.
void populateGroupedMatmulToThreadsPatterns(RewritePatternSet &patterns,
                                            bool mayHaveFewRows);
/// Products of 16-bit numbers as kernels of their own.
void populateGroupedMatmulToTensorCoresPatterns(RewritePatternSet &patterns,
                                                bool mayHaveFewRows);
void populateGroupedOuterToThreadsPatterns(RewritePatternSet &patterns);
void populateGroupedOuterToTensorCoresPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_MOETOGPU_H
