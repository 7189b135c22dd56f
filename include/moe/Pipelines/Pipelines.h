//===- Pipelines.h - The road from layers to code ---------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// S1 moe -> S2 routed -> S3 grouped -> S4 buffers -> S5 cpu -> S6 llvm. Each
// step is a registered pipeline of its own and ends in a check; `moe-cpu` runs
// them all. `moe-oracle` takes the naive road to S6, and `moe-gpu` the way from
// S2 to kernels.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PIPELINES_PIPELINES_H
#define MOE_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

namespace mlir::moe {

/// The stages, in order; a tool can stop after any.
enum class Stage { moe, routed, grouped, buffers, cpu, llvm };

StringRef stringifyStage(Stage stage);
std::optional<Stage> symbolizeStage(StringRef name);

struct CPUPipelineOptions : public PassPipelineOptions<CPUPipelineOptions> {
  Option<int64_t> tileSize{*this, "tile-size",
                           llvm::cl::desc("tokens in a tile of the gating"),
                           llvm::cl::init(64)};
  Option<int64_t> lanes{*this, "lanes",
                        llvm::cl::desc("tokens side by side in a choice"),
                        llvm::cl::init(16)};
  Option<bool> packWeights{
      *this, "pack-weights",
      llvm::cl::desc("entries take expert weights packed, and pack them"),
      llvm::cl::init(false)};
  Option<int64_t> vectorBits{
      *this, "vector-bits",
      llvm::cl::desc("width of the vectors of packed products"),
      llvm::cl::init(512)};
  Option<int64_t> panelColumns{*this, "panel-columns",
                               llvm::cl::desc("columns of a packed panel"),
                               llvm::cl::init(64)};
  Option<bool> bf16Dot{*this, "bf16-dot",
                       llvm::cl::desc("packed products of bf16 use vdpbf16ps"),
                       llvm::cl::init(false)};
};

struct OraclePipelineOptions
    : public PassPipelineOptions<OraclePipelineOptions> {};

enum class GPUFormat { isa, bin };

struct GPUPipelineOptions : public PassPipelineOptions<GPUPipelineOptions> {
  Option<std::string> chip{*this, "chip", llvm::cl::desc("sm_80, sm_90a, ..."),
                           llvm::cl::init("sm_80")};
  Option<GPUFormat> format{
      *this, "format", llvm::cl::desc("what a gpu.binary holds"),
      llvm::cl::values(clEnumValN(GPUFormat::isa, "isa", "PTX"),
                       clEnumValN(GPUFormat::bin, "bin", "a cubin, by ptxas")),
      llvm::cl::init(GPUFormat::isa)};
  Option<int64_t> threads{*this, "threads",
                          llvm::cl::desc("tokens in a block of the gating"),
                          llvm::cl::init(128)};
  Option<int64_t> padding{
      *this, "padding",
      llvm::cl::desc("bytes between two buffers of the workspace"),
      llvm::cl::init(0)};
  Option<bool> batchInvariant{
      *this, "batch-invariant",
      llvm::cl::desc("no row's result depends on how many its expert has"),
      llvm::cl::init(false)};
  Option<bool> tf32{*this, "tf32",
                    llvm::cl::desc("products of f32 as tf32, of 11 bits"),
                    llvm::cl::init(false)};
};

/// The steps, each from the stage before.
void buildMoeStage(OpPassManager &pm);
void buildRoutedStage(OpPassManager &pm, const CPUPipelineOptions &options);
void buildGroupedStage(OpPassManager &pm, const CPUPipelineOptions &options);
void buildBuffersStage(OpPassManager &pm);
void buildCPUStage(OpPassManager &pm, const CPUPipelineOptions &options);
void buildLLVMStage(OpPassManager &pm);

/// All steps up to and including `last`.
void buildCPUPipeline(OpPassManager &pm, const CPUPipelineOptions &options,
                      Stage last = Stage::llvm);
void buildOraclePipeline(OpPassManager &pm, Stage last = Stage::llvm);

/// Layers to kernels on buffers, outlined, and from there to PTX or a cubin
/// inside a gpu.binary.
void buildGPUKernels(OpPassManager &pm, const GPUPipelineOptions &options);
void buildGPUPipeline(OpPassManager &pm, const GPUPipelineOptions &options);
/// Outlined kernels to that, and the host's part to entries of the runtime in
/// the LLVM dialect.
void buildGPUEntries(OpPassManager &pm, const GPUPipelineOptions &options);
/// Layers to such entries.
void buildGPUEntryPipeline(OpPassManager &pm,
                           const GPUPipelineOptions &options);

void registerPipelines();

} // namespace mlir::moe

#endif // MOE_PIPELINES_PIPELINES_H
