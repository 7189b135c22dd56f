//===- VerifyStage.cpp - What a stage must have left behind ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEVERIFYSTAGEPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

bool isMoeOp(Operation *op) {
  return isa_and_nonnull<MoeDialect>(op->getDialect());
}

bool isPrimitive(Operation *op) {
  return isa<GroupOp, GroupedMatmulOp, GroupedOuterOp, CombineSlotsOp, TopKOp,
             YieldOp>(op);
}

bool usesTensors(Operation *op) {
  auto isTensor = [](Type type) { return isa<TensorType>(type); };
  if (auto function = dyn_cast<FunctionOpInterface>(op))
    return llvm::any_of(function.getArgumentTypes(), isTensor) ||
           llvm::any_of(function.getResultTypes(), isTensor);
  return llvm::any_of(op->getOperandTypes(), isTensor) ||
         llvm::any_of(op->getResultTypes(), isTensor);
}

/// Whether an op of the host touches memory of the device: all but what it
/// copied to its own stack.
bool touchesMemory(Operation *op) {
  if (isa<memref::AllocaOp, memref::GlobalOp, gpu::MemcpyOp>(op))
    return false;
  if (auto load = dyn_cast<memref::LoadOp>(op))
    if (load.getMemRef().getDefiningOp<memref::AllocaOp>())
      return false;
  return !op->getParentOfType<gpu::GPUModuleOp>() && op->getNumRegions() == 0 &&
         !isMemoryEffectFree(op) && !op->hasTrait<OpTrait::IsTerminator>() &&
         !isa<cf::AssertOp, gpu::LaunchFuncOp>(op);
}

struct MoeVerifyStage
    : public moe::impl::MoeVerifyStagePassBase<MoeVerifyStage> {
  using MoeVerifyStagePassBase::MoeVerifyStagePassBase;

  /// Why an op may not stand in this stage, or an empty text.
  StringRef getObjection(Operation *op) {
    if (stage == "grouped")
      return isMoeOp(op) && !isPrimitive(op) ? "is still a layer op" : "";
    if (stage == "llvm")
      return isa<ModuleOp>(op) ||
                     isa_and_nonnull<LLVM::LLVMDialect>(op->getDialect())
                 ? ""
                 : "is not of the LLVM dialect";
    if (usesTensors(op))
      return "still works on tensors";
    if (stage == "gpu") {
      if (isMoeOp(op) || touchesMemory(op))
        return "has no GPU code";
      if (isa<memref::AllocOp>(op))
        return "allocates in a kernel";
    }
    if (stage == "cpu") {
      if (isMoeOp(op))
        return "has no CPU code";
      if (isa<memref::AllocOp>(op))
        return "allocates in a call";
    }
    return "";
  }

  void runOnOperation() override {
    if (!llvm::is_contained({"grouped", "buffers", "cpu", "gpu", "llvm"},
                            StringRef(stage))) {
      getOperation()->emitError("moe-verify-stage knows no stage '")
          << stage << "'";
      return signalPassFailure();
    }
    // An op is named before what is in its regions.
    auto check = [&](Operation *op) {
      StringRef objection = getObjection(op);
      if (objection.empty())
        return WalkResult::advance();
      op->emitOpError(objection) << " after stage '" << stage << "'";
      return WalkResult::interrupt();
    };
    WalkResult result = getOperation()->walk<WalkOrder::PreOrder>(check);
    if (result.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
