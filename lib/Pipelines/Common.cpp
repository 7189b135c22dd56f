//===- Common.cpp - Stages, registration, the steps all roads share -------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"

using namespace mlir;
using namespace mlir::moe;

static constexpr StringLiteral kStageNames[] = {"moe",     "routed", "grouped",
                                                "buffers", "cpu",    "llvm"};

StringRef moe::stringifyStage(Stage stage) {
  return kStageNames[static_cast<size_t>(stage)];
}

std::optional<Stage> moe::symbolizeStage(StringRef name) {
  for (auto [index, known] : llvm::enumerate(kStageNames))
    if (known == name)
      return static_cast<Stage>(index);
  return std::nullopt;
}

void moe::buildMoeStage(OpPassManager &pm) {
  pm.addPass(createInlinerPass());
  pm.addPass(createMoePrepareEntryPass());
  // Residuals, scales and masks around a layer are arith on tensors.
  pm.addNestedPass<func::FuncOp>(createConvertElementwiseToLinalgPass());
}

void moe::buildBuffersStage(OpPassManager &pm) {
  // While tensors still tell; a buffer's size is that of its destination.
  pm.addNestedPass<func::FuncOp>(createMoeResolveSizesPass());
  pm.addPass(createCanonicalizerPass());
  // Not shared before they are buffers: two results never want one, nor what
  // was filled alike.
  pm.addNestedPass<func::FuncOp>(createMoeSeparateDestinationsPass());
  pm.addPass(bufferization::createEmptyTensorEliminationPass());
  pm.addPass(bufferization::createEmptyTensorToAllocTensorPass());
  pm.addPass(createCSEPass());
  bufferization::OneShotBufferizePassOptions options;
  options.bufferizeFunctionBoundaries = true;
  options.functionBoundaryTypeConversion =
      bufferization::LayoutMapOption::IdentityLayoutMap;
  pm.addPass(bufferization::createOneShotBufferizePass(options));
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  // Copies of a buffer onto itself are seen only now.
  pm.addPass(createCanonicalizerPass());
  MoeVerifyStagePassOptions check;
  check.stage = stringifyStage(Stage::buffers).str();
  pm.addPass(createMoeVerifyStagePass(check));
}

void moe::buildLLVMStage(OpPassManager &pm) {
  pm.addNestedPass<func::FuncOp>(createMoeApproximateMathPass());
  pm.addPass(createConvertVectorToSCFPass(
      VectorTransferToSCFOptions().enableFullUnroll()));
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  // Upstream's own form of log1p is log(1 + x); the math library's is exact.
  ConvertMathToLLVMPassOptions math;
  math.approximateLog1p = false;
  pm.addPass(createConvertMathToLLVMPass(math));
  // Takes vectors apart, so in front of their conversion.
  pm.addPass(createConvertMathToLibmPass());
  ConvertVectorToLLVMPassOptions vectors;
  vectors.x86Vector = true; // Where an op of it stands.
  vectors.force32BitVectorIndices = false;
  vectors.vectorTransposeLowering =
      vector::VectorTransposeLowering::Shuffle16x16;
  pm.addPass(createConvertVectorToLLVMPass(vectors));
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createUBToLLVMConversionPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  MoeVerifyStagePassOptions check;
  check.stage = stringifyStage(Stage::llvm).str();
  pm.addPass(createMoeVerifyStagePass(check));
}

void moe::registerPipelines() {
  PassPipelineRegistration<>("moe-to-moe", "entries, ready for lowering (S1)",
                             buildMoeStage);
  PassPipelineRegistration<CPUPipelineOptions>(
      "moe-to-routed", "gating fused over tokens (S2)", buildRoutedStage);
  PassPipelineRegistration<CPUPipelineOptions>(
      "moe-to-grouped", "layer ops as grouped primitives (S3)",
      buildGroupedStage);
  PassPipelineRegistration<>("moe-to-buffers", "tensors as buffers (S4)",
                             buildBuffersStage);
  PassPipelineRegistration<CPUPipelineOptions>(
      "moe-to-cpu", "primitives as CPU code (S5)", buildCPUStage);
  PassPipelineRegistration<>("moe-to-llvm", "the LLVM dialect (S6)",
                             buildLLVMStage);
  PassPipelineRegistration<CPUPipelineOptions>(
      "moe-cpu", "the whole road from layers to the LLVM dialect",
      [](OpPassManager &pm, const CPUPipelineOptions &options) {
        buildCPUPipeline(pm, options);
      });
  PassPipelineRegistration<GPUPipelineOptions>(
      "moe-to-gpu", "layers as outlined GPU kernels on buffers",
      buildGPUKernels);
  PassPipelineRegistration<GPUPipelineOptions>(
      "moe-gpu", "layers to PTX or cubins of one chip", buildGPUPipeline);
  PassPipelineRegistration<GPUPipelineOptions>(
      "moe-gpu-entry", "layers to entries that launch such kernels",
      buildGPUEntryPipeline);
  PassPipelineRegistration<>(
      "moe-oracle", "the naive road, the judge of the other",
      [](OpPassManager &pm) { buildOraclePipeline(pm); });
}
