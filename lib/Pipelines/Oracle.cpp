//===- Oracle.cpp - The naive road ----------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "moe/Conversion/Passes.h"
#include "moe/Pipelines/Pipelines.h"

using namespace mlir;
using namespace mlir::moe;

void moe::buildOraclePipeline(OpPassManager &pm, Stage last) {
  auto reaches = [&](Stage stage) { return last >= stage; };
  buildMoeStage(pm);
  // The oracle has no routed or grouped form: its loops are all there is.
  if (reaches(Stage::routed))
    pm.addNestedPass<func::FuncOp>(createConvertMoeToLoopsPass());
  if (reaches(Stage::buffers))
    buildBuffersStage(pm);
  if (reaches(Stage::cpu))
    buildCPUStage(pm, CPUPipelineOptions());
  if (reaches(Stage::llvm))
    buildLLVMStage(pm);
}
