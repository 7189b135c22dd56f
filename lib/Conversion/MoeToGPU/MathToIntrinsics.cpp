//===- MathToIntrinsics.cpp - What a GPU computes without a library -------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Conversion/Passes.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Target/LLVM/NVVM/Utils.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEMATHTOINTRINSICSPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

bool hasDeviceLibrary() {
  SmallString<128> path(NVVM::getCUDAToolkitPath());
  if (path.empty())
    return false;
  llvm::sys::path::append(path, "nvvm", "libdevice", "libdevice.10.bc");
  return llvm::sys::fs::exists(path);
}

struct MoeMathToIntrinsics
    : public moe::impl::MoeMathToIntrinsicsPassBase<MoeMathToIntrinsics> {
  using MoeMathToIntrinsicsPassBase::MoeMathToIntrinsicsPassBase;

  template <typename MathOp, typename IntrinsicOp>
  static bool replace(IRRewriter &rewriter, Operation *op) {
    if (!isa<MathOp>(op))
      return false;
    rewriter.setInsertionPoint(op);
    rewriter.replaceOpWithNewOp<IntrinsicOp>(op, op->getResultTypes(),
                                             op->getOperands());
    return true;
  }

  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    SmallVector<Operation *> ops;
    getOperation()->walk([&](Operation *op) {
      if (isa_and_nonnull<math::MathDialect>(op->getDialect()))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      Type type = op->getResult(0).getType();
      bool isInstruction =
          (type.isF32() || type.isF64()) &&
          (replace<math::FmaOp, LLVM::FMAOp>(rewriter, op) ||
           replace<math::FloorOp, LLVM::FFloorOp>(rewriter, op) ||
           replace<math::AbsFOp, LLVM::FAbsOp>(rewriter, op) ||
           replace<math::SqrtOp, LLVM::SqrtOp>(rewriter, op));
      if (isInstruction || hasDeviceLibrary())
        continue;
      op->emitOpError("of ") << type
                             << " needs CUDA's device library, which is not "
                                "found; set CUDA_HOME to the toolkit";
      return signalPassFailure();
    }
  }
};

} // namespace
