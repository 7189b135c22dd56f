//===- MoeToLoops.cpp - The oracle ----------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Conversion/MoeToLoops.h"
#include "Losses.h"
#include "Subsets.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Transforms/DialectConversion.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETOLOOPSPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

void moe::populateMoeToLoopsPatterns(RewritePatternSet &patterns) {
  loops::populateRoutingPatterns(patterns);
  loops::populateSubsetPatterns(patterns);
  loops::populateChoicePatterns(patterns);
  loops::populateMixPatterns(patterns);
  loops::populateSlotPatterns(patterns);
  loops::populateTokenPatterns(patterns);
  loops::populateLossPatterns(patterns);
  loops::populateLossGradientPatterns(patterns);
  loops::populateNoisePatterns(patterns);
  loops::populateTrainingPatterns(patterns);
  loops::populateDispatchPatterns(patterns);
  loops::populateExpertPatterns(patterns);
  loops::populateGradientPatterns(patterns);
  loops::populatePrimitivePatterns(patterns);
}

namespace {
struct ConvertMoeToLoops
    : public moe::impl::ConvertMoeToLoopsPassBase<ConvertMoeToLoops> {
  void runOnOperation() override {
    WalkResult walk = getOperation()->walk([](moe::RouteOp op) {
      if (moe::loops::hasKnownRouter(op))
        return WalkResult::advance();
      op.emitOpError("has a router without a token body: ") << op.getRouter();
      return WalkResult::interrupt();
    });
    if (walk.wasInterrupted())
      return signalPassFailure();
    RewritePatternSet patterns(&getContext());
    moe::populateMoeToLoopsPatterns(patterns);
    ConversionTarget target(getContext());
    target.addIllegalDialect<moe::MoeDialect>();
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
