//===- LayerCost.h - Work of one call of a layer ----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOERUN_LAYERCOST_H
#define MOE_TOOLS_MOERUN_LAYERCOST_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Run/Benchmark.h"

namespace mlir::moe {

/// Reads from a layer's ops what a call computes: the products of its gates,
/// experts and dense branches. Rows and touched experts come from the result
/// `expert_loads` where the entry has one, else from the routing's bounds
/// (every token fills its slots; as many experts as slots allow are touched).
::moe::run::CostFn makeCostFunction(func::FuncOp layer);

} // namespace mlir::moe

#endif // MOE_TOOLS_MOERUN_LAYERCOST_H
