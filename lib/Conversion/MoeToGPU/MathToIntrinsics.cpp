//===- MathToIntrinsics.cpp - What a GPU computes without a library -------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Target/LLVM/NVVM/Utils.h"
#include "moe/Conversion/Passes.h"
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

  template <typename IntrinsicOp>
  static void replace(IRRewriter &rewriter, LLVM::CallOp call) {
    rewriter.setInsertionPoint(call);
    rewriter.replaceOpWithNewOp<IntrinsicOp>(call, call->getResultTypes(),
                                             call.getArgOperands());
  }

  /// Whether the call of a library function became an instruction.
  static bool convert(IRRewriter &rewriter, LLVM::CallOp call,
                      StringRef function) {
    function.consume_back("f"); // The f32 form.
    if (function == "__nv_fma")
      replace<LLVM::FMAOp>(rewriter, call);
    else if (function == "__nv_floor")
      replace<LLVM::FFloorOp>(rewriter, call);
    else if (function == "__nv_fabs")
      replace<LLVM::FAbsOp>(rewriter, call);
    else if (function == "__nv_sqrt")
      replace<LLVM::SqrtOp>(rewriter, call);
    else
      return false;
    return true;
  }

  void runOnOperation() override {
    SmallVector<LLVM::CallOp> calls;
    SmallVector<math::CountLeadingZerosOp> counts;
    getOperation()->walk([&](Operation *op) {
      if (auto call = dyn_cast<LLVM::CallOp>(op);
          call && call.getCallee().value_or("").starts_with("__nv_"))
        calls.push_back(call);
      if (auto count = dyn_cast<math::CountLeadingZerosOp>(op))
        counts.push_back(count);
    });
    IRRewriter rewriter(&getContext());
    for (math::CountLeadingZerosOp count : counts) {
      rewriter.setInsertionPoint(count);
      rewriter.replaceOpWithNewOp<LLVM::CountLeadingZerosOp>(
          count, count.getType(), count.getOperand(),
          /*is_zero_poison=*/false);
    }
    for (LLVM::CallOp call : calls) {
      StringRef function = *call.getCallee();
      if (convert(rewriter, call, function) || hasDeviceLibrary())
        continue;
      emitError(call.getLoc())
          << "'" << function
          << "' is of CUDA's device library, which is not found; set "
             "CUDA_HOME to the toolkit";
      return signalPassFailure();
    }
    for (auto function :
         llvm::make_early_inc_range(getOperation().getOps<LLVM::LLVMFuncOp>()))
      if (function.isExternal() && function.getName().starts_with("__nv_") &&
          SymbolTable::symbolKnownUseEmpty(function, getOperation()))
        function.erase();
  }
};

} // namespace
