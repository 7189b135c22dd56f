//===- MoeToCPU.cpp - The primitives as CPU code --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeToCPU.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/Utils/Utils.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "mlir/Transforms/DialectConversion.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETOCPUPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {
/// A copy between strided buffers as a loop nest; LLVM would call a function of
/// MLIR's runner libraries, which compiled layers do without.
struct StridedCopyPattern : public OpRewritePattern<memref::CopyOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(memref::CopyOp op,
                                PatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, linalg::makeMemRefCopyOp(rewriter, op.getLoc(),
                                                    op.getSource(),
                                                    op.getTarget()));
    return success();
  }

  static bool isCompact(Value buffer) {
    auto type = dyn_cast<MemRefType>(buffer.getType());
    return type && type.getLayout().isIdentity();
  }
};

struct ConvertMoeToCPU
    : public moe::impl::ConvertMoeToCPUPassBase<ConvertMoeToCPU> {
  using ConvertMoeToCPUPassBase::ConvertMoeToCPUPassBase;

  void runOnOperation() override {
    MLIRContext *context = &getContext();
    ConversionTarget target(*context);
    target.addIllegalDialect<MoeDialect>();
    target.addDynamicallyLegalOp<memref::CopyOp>([](memref::CopyOp op) {
      return StridedCopyPattern::isCompact(op.getSource()) &&
             StridedCopyPattern::isCompact(op.getTarget());
    });
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    RewritePatternSet patterns(context);
    patterns.add<StridedCopyPattern>(context);
    populateGroupToLoopsPatterns(patterns);
    populateCombineSlotsToVectorPatterns(patterns);
    populateGroupedMatmulToVectorPatterns(patterns);
    populatePanelProductToVectorPatterns(patterns, vectorBits);
    populateGroupedOuterToVectorPatterns(patterns);
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
