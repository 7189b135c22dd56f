//===- Statistics.h - What emulated kernels executed ------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOE_RUN_STATISTICS_H
#define MOE_TOOLS_MOE_RUN_STATISTICS_H

#include "moe/ExecutionEngine/GPUPlan.h"
#include "moe/Runtime/moe_rt.h"

namespace mlir::moe {

/// A line for each kernel: what it executed, what that allows known devices.
void printStatistics(moe_gpu *gpu);
/// One JSON object of all kernels.
void printStatisticsJson(moe_gpu *gpu);
/// The plan with what was executed beside its kernels.
void printExecutedPlan(const GPUPlan &plan, moe_gpu *gpu);

} // namespace mlir::moe

#endif // MOE_TOOLS_MOE_RUN_STATISTICS_H
