//===- InitAllDialects.h - Everything a tool registers ----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_INITALLDIALECTS_H
#define MOE_INITALLDIALECTS_H

#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

namespace mlir::moe {

/// The moe dialect with its external models, and the dialects of MLIR, which
/// layers are mixed with and lowered to.
inline void registerAllDialects(DialectRegistry &registry) {
  ::mlir::registerAllDialects(registry);
  ::mlir::registerAllExtensions(registry);
  // Kernels become PTX inside a pass.
  ::mlir::registerAllGPUToLLVMIRTranslations(registry);
  registry.insert<MoeDialect>();
  registerAllInterfaces(registry);
}

} // namespace mlir::moe

#endif // MOE_INITALLDIALECTS_H
