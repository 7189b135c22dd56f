//===- Gradients.h - Compiling what a gradient check needs ------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOE_RUN_GRADIENTS_H
#define MOE_TOOLS_MOE_RUN_GRADIENTS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Run/Options.h"
#include "moe/Runtime/moe_rt.h"

namespace mlir::moe {

/// Compares the gradients of a module's entry with differences; returns the
/// exit code.
int runGradientCheck(const ::moe::run::Options &options, ModuleOp module,
                     func::FuncOp layer, moe_context *context);

} // namespace mlir::moe

#endif // MOE_TOOLS_MOE_RUN_GRADIENTS_H
