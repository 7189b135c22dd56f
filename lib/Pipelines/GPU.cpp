//===- GPU.cpp - The road to GPU code -------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/NVGPUToNVVM/NVGPUToNVVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"

using namespace mlir;
using namespace mlir::moe;

/// Of a thread's own memory, the largest buffer.
static constexpr int64_t kPrivateBytes = 1 << 16;

/// One token in each iteration of a fused loop, which is a thread later.
static void buildThreadStages(OpPassManager &pm) {
  buildMoeStage(pm);
  CPUPipelineOptions fusion;
  fusion.tileSize = 1;
  buildRoutedStage(pm, fusion);
  MoeLowerToGroupedPassOptions products;
  products.panels = false;
  pm.addNestedPass<func::FuncOp>(createMoeLowerToGroupedPass(products));
  ConvertMoeToLinalgPassOptions rest;
  rest.keepPrimitives = true;
  rest.threads = true;
  pm.addNestedPass<func::FuncOp>(createConvertMoeToLinalgPass(rest));
  MoeVerifyStagePassOptions check;
  check.stage = stringifyStage(Stage::grouped).str();
  pm.addPass(createMoeVerifyStagePass(check));
  buildBuffersStage(pm);
}

void moe::buildGPUKernels(OpPassManager &pm,
                          const GPUPipelineOptions &options) {
  buildThreadStages(pm);
  ConvertMoeToGPUPassOptions primitives;
  primitives.batchInvariant = options.batchInvariant;
  primitives.tf32 = options.tf32;
  pm.addNestedPass<func::FuncOp>(createConvertMoeToGPUPass(primitives));
  pm.addNestedPass<func::FuncOp>(bufferization::createBufferLoopHoistingPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  // From here on a loop of one thread stands for a kernel: nothing that makes
  // straight code of it may run in front of the launches.
  pm.addNestedPass<func::FuncOp>(createMoeSplitHostPass());
  pm.addPass(createCSEPass());
  MoePlanWorkspacePassOptions memory;
  memory.maxStackBytes = kPrivateBytes;
  memory.padding = options.padding;
  pm.addPass(createMoePlanWorkspacePass(memory));
  MoeParallelToLaunchPassOptions launch;
  launch.threads = options.threads;
  pm.addNestedPass<func::FuncOp>(createMoeParallelToLaunchPass(launch));
  pm.addPass(createCanonicalizerPass());
  // The CPU's polynomials: equal logits give equal weights, bit for bit, and
  // f32 needs no device library.
  pm.addNestedPass<func::FuncOp>(createMoeApproximateMathPass());
  // Constants and sizes are computed in the kernel instead of passed to it.
  pm.addPass(createGpuLaunchSinkIndexComputationsPass());
  pm.addPass(createGpuKernelOutliningPass());
  pm.addPass(createMoeMergeKernelsPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  MoeVerifyStagePassOptions check;
  check.stage = "gpu";
  pm.addPass(createMoeVerifyStagePass(check));
}

/// Outlined kernels to a gpu.binary.
static void buildGPUBinary(OpPassManager &pm,
                           const GPUPipelineOptions &options) {
  MoeAttachNVVMTargetPassOptions target;
  target.chip = options.chip;
  pm.addPass(createMoeAttachNVVMTargetPass(target));
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  OpPassManager &kernels = pm.nest<gpu::GPUModuleOp>();
  kernels.addPass(createMoeAlignWorkgroupPass());
  kernels.addPass(createMoeMmaToNVVMPass());
  kernels.addPass(createConvertNVGPUToNVVMPass());
  kernels.addPass(createConvertGpuOpsToNVVMOps());
  kernels.addPass(createMoeMathToIntrinsicsPass());
  kernels.addPass(createCanonicalizerPass());
  kernels.addPass(createCSEPass());
  kernels.addPass(createReconcileUnrealizedCastsPass());
  // A line of the PTX names the layer's line, without sections of DWARF.
  LLVM::DIScopeForLLVMFuncOpPassOptions lines;
  lines.emissionKind = LLVM::DIEmissionKind::DebugDirectivesOnly;
  pm.addPass(LLVM::createDIScopeForLLVMFuncOpPass(lines));
  GpuModuleToBinaryPassOptions binary;
  binary.compilationTarget = options.format == GPUFormat::isa ? "isa" : "bin";
  pm.addPass(createGpuModuleToBinaryPass(binary));
}

void moe::buildGPUPipeline(OpPassManager &pm,
                           const GPUPipelineOptions &options) {
  buildGPUKernels(pm, options);
  buildGPUBinary(pm, options);
}

void moe::buildGPUEntries(OpPassManager &pm,
                          const GPUPipelineOptions &options) {
  buildGPUBinary(pm, options);
  pm.addPass(createMoeAssertsToStatusPass());
  pm.addPass(createMoeLaunchToRuntimePass());
  MoeEmitEntryPassOptions entry;
  entry.gpu = true;
  pm.addPass(createMoeEmitEntryPass(entry));
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  buildLLVMStage(pm);
}

void moe::buildGPUEntryPipeline(OpPassManager &pm,
                                const GPUPipelineOptions &options) {
  buildGPUKernels(pm, options);
  buildGPUEntries(pm, options);
}
