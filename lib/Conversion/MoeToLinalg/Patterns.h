//===- Patterns.h - Who adds which patterns ---------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_PATTERNS_H
#define MOE_LIB_CONVERSION_MOETOLINALG_PATTERNS_H

namespace mlir {
class RewritePatternSet;
} // namespace mlir

namespace mlir::moe::tolinalg {

void addGatePatterns(RewritePatternSet &patterns);
void addExpertChoicePatterns(RewritePatternSet &patterns);
void addMixPatterns(RewritePatternSet &patterns);
void addSlotPatterns(RewritePatternSet &patterns);
void addCapacityPatterns(RewritePatternSet &patterns);
void addHashPatterns(RewritePatternSet &patterns);
void addGroupPatterns(RewritePatternSet &patterns);
void addGroupedMatmulPatterns(RewritePatternSet &patterns);
/// Load loss, expert load and selection bias.
void addTrainingPatterns(RewritePatternSet &patterns);
/// The backwards of losses.
void addLossGradientPatterns(RewritePatternSet &patterns);
void addLossGradientThreadPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_PATTERNS_H
