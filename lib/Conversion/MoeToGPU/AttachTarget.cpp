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
};

/// The oldest PTX version that has all a chip's code may use; an older one ends
/// the process inside LLVM, so no chip is guessed.
constexpr Chip kChips[] = {
    {"sm_80", "+ptx78"},   {"sm_86", "+ptx78"},  {"sm_89", "+ptx78"},
    {"sm_90", "+ptx80"},   {"sm_90a", "+ptx80"}, {"sm_100", "+ptx86"},
    {"sm_100a", "+ptx86"}, {"sm_120", "+ptx87"},
};

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
    for (auto kernels : getOperation().getOps<gpu::GPUModuleOp>())
      kernels.setTargetsAttr(ArrayAttr::get(&getContext(), {target}));
  }
};

} // namespace
