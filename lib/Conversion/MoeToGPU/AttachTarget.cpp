//===- AttachTarget.cpp - The GPU that kernels are compiled for -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEATTACHNVVMTARGETPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

struct Chip {
  StringLiteral name;
  StringLiteral features;
  /// Warps of tiles on tensor cores that a multiprocessor has workgroup memory
  /// for, of those there may be; they get the registers for as many.
  int64_t tileWarps;
};

/// The oldest PTX version that has all a chip's code may use; an older one ends
/// the process inside LLVM, so no chip is guessed.
constexpr Chip kChips[] = {
    {"sm_80", "+ptx78", 12},   {"sm_86", "+ptx78", 8},
    {"sm_89", "+ptx78", 8},    {"sm_90", "+ptx80", 12},
    {"sm_90a", "+ptx80", 12},  {"sm_100", "+ptx86", 12},
    {"sm_100a", "+ptx86", 12}, {"sm_120", "+ptx87", 8},
};

/// Warps of other kernels that are to fit a multiprocessor at once. Without a
/// number ptxas spills a register or two for more.
constexpr int64_t kWarps = 16;

/// The fewest blocks that registers are to leave room for.
std::optional<int64_t> countBlocks(gpu::GPUFuncOp kernel, const Chip &chip) {
  std::optional<ArrayRef<int32_t>> block = kernel.getKnownBlockSize();
  if (!kernel.isKernel() || !block)
    return std::nullopt;
  int64_t threads = 1;
  for (int32_t extent : *block)
    threads *= extent;
  bool isTile = kernel.getNumWorkgroupAttributions() > 0;
  int64_t warps = llvm::divideCeil(threads, 32);
  return std::max<int64_t>((isTile ? chip.tileWarps : kWarps) / warps, 1);
}

struct MoeAttachNVVMTarget
    : public moe::impl::MoeAttachNVVMTargetPassBase<MoeAttachNVVMTarget> {
  using MoeAttachNVVMTargetPassBase::MoeAttachNVVMTargetPassBase;

  void runOnOperation() override {
    const Chip *known = llvm::find_if(
        kChips, [&](const Chip &entry) { return entry.name == chip; });
    if (known == std::end(kChips)) {
      auto diag = getOperation()->emitError("no GPU code for chip '")
                  << chip << "'; known are ";
      llvm::interleaveComma(kChips, diag,
                            [&](const Chip &entry) { diag << entry.name; });
      return signalPassFailure();
    }
    auto target = NVVM::NVVMTargetAttr::get(&getContext(), /*optLevel=*/3,
                                            "nvptx64-nvidia-cuda", known->name,
                                            known->features);
    Builder b(&getContext());
    for (auto kernels : getOperation().getOps<gpu::GPUModuleOp>()) {
      kernels.setTargetsAttr(b.getArrayAttr(target));
      for (auto kernel : kernels.getOps<gpu::GPUFuncOp>())
        if (std::optional<int64_t> blocks = countBlocks(kernel, *known))
          kernel->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(),
                          b.getI32IntegerAttr(*blocks));
    }
  }
};

} // namespace
