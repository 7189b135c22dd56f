//===- MoeToCPU.h - Patterns of the CPU lowering ----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOCPU_MOETOCPU_H
#define MOE_LIB_CONVERSION_MOETOCPU_MOETOCPU_H

#include "mlir/IR/PatternMatch.h"

namespace mlir::moe {

void populateGroupToLoopsPatterns(RewritePatternSet &patterns);
void populateCombineSlotsToVectorPatterns(RewritePatternSet &patterns);
void populateGroupedMatmulToVectorPatterns(RewritePatternSet &patterns);
/// Products on packed weights, in vectors of `vectorBits`.
void populatePanelProductToVectorPatterns(RewritePatternSet &patterns,
                                          int64_t vectorBits);
void populateGroupedOuterToVectorPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOCPU_MOETOCPU_H
