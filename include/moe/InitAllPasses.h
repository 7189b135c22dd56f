//===- InitAllPasses.h - Every pass and pipeline ----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_INITALLPASSES_H
#define MOE_INITALLPASSES_H

#include "mlir/InitAllPasses.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"

namespace mlir::moe {

/// The project's passes and pipelines, and MLIR's own.
inline void registerAllPasses() {
  ::mlir::registerAllPasses();
  registerMoeTransformsPasses();
  registerMoeConversionPasses();
  registerPipelines();
}

} // namespace mlir::moe

#endif // MOE_INITALLPASSES_H
