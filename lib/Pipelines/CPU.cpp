//===- CPU.cpp - The road to CPU code -------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"

using namespace mlir;
using namespace mlir::moe;

void moe::buildRoutedStage(OpPassManager &pm,
                           const CPUPipelineOptions &options) {
  MoeFuseGatingPassOptions fusion;
  fusion.tileSize = options.tileSize;
  pm.addNestedPass<func::FuncOp>(createMoeFuseGatingPass(fusion));
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

void moe::buildGroupedStage(OpPassManager &pm,
                            const CPUPipelineOptions &options) {
  MoeLowerRoutingPassOptions routing;
  routing.lanes = options.lanes;
  pm.addNestedPass<func::FuncOp>(createMoeLowerRoutingPass(routing));
  pm.addNestedPass<func::FuncOp>(createMoeLowerToGroupedPass());
  // What has no fused form yet: expert choice, capacity, losses, relayouts.
  ConvertMoeToLinalgPassOptions rest;
  rest.keepPrimitives = true;
  pm.addNestedPass<func::FuncOp>(createConvertMoeToLinalgPass(rest));
  if (options.packWeights) {
    MoePackWeightsPassOptions packing;
    packing.columns = options.panelColumns;
    packing.dot = options.bf16Dot;
    pm.addPass(createMoePackWeightsPass(packing));
  }
  MoeVerifyStagePassOptions check;
  check.stage = stringifyStage(Stage::grouped).str();
  pm.addPass(createMoeVerifyStagePass(check));
}

void moe::buildCPUStage(OpPassManager &pm, const CPUPipelineOptions &options) {
  ConvertMoeToCPUPassOptions vectors;
  vectors.vectorBits = options.vectorBits;
  pm.addNestedPass<func::FuncOp>(createConvertMoeToCPUPass(vectors));
  pm.addNestedPass<func::FuncOp>(createConvertLinalgToLoopsPass());
  pm.addNestedPass<func::FuncOp>(bufferization::createBufferLoopHoistingPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createMoePlanWorkspacePass());
  pm.addPass(createMoeAssertsToStatusPass());
  pm.addPass(createMoeOutlineParallelPass());
  pm.addPass(createMoeEmitEntryPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  MoeVerifyStagePassOptions check;
  check.stage = stringifyStage(Stage::cpu).str();
  pm.addPass(createMoeVerifyStagePass(check));
}

void moe::buildCPUPipeline(OpPassManager &pm, const CPUPipelineOptions &options,
                           Stage last) {
  auto reaches = [&](Stage stage) { return last >= stage; };
  buildMoeStage(pm);
  if (reaches(Stage::routed))
    buildRoutedStage(pm, options);
  if (reaches(Stage::grouped))
    buildGroupedStage(pm, options);
  if (reaches(Stage::buffers))
    buildBuffersStage(pm);
  if (reaches(Stage::cpu))
    buildCPUStage(pm, options);
  if (reaches(Stage::llvm))
    buildLLVMStage(pm);
}
