//===- MoeToLoops.h - The oracle's patterns ---------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_CONVERSION_MOETOLOOPS_H
#define MOE_CONVERSION_MOETOLOOPS_H

namespace mlir {
class RewritePatternSet;
} // namespace mlir

namespace mlir::moe {

/// Patterns that rewrite every op of the dialect as scalar loops on buffers.
void populateMoeToLoopsPatterns(RewritePatternSet &patterns);

} // namespace mlir::moe

#endif // MOE_CONVERSION_MOETOLOOPS_H
