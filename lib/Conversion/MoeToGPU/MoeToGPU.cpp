//===- MoeToGPU.cpp - Gate and token choice as GPU kernels ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GatingKernel.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/MemRef/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOEGATINGTOGPUPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// What the hardware allows in a block.
constexpr int64_t kMaxThreads = 1024;

struct ConvertMoeGatingToGPU
    : public moe::impl::ConvertMoeGatingToGPUPassBase<ConvertMoeGatingToGPU> {
  using ConvertMoeGatingToGPUPassBase::ConvertMoeGatingToGPUPassBase;

  /// Names the first op that no kernel covers, before anything is changed.
  LogicalResult checkOps() {
    WalkResult result = getOperation()->walk([](Operation *op) {
      if (!isa_and_nonnull<MoeDialect>(op->getDialect()) || isa<RouteOp>(op))
        return WalkResult::advance();
      // A gate's user is looked at itself: a route's match, or an op to name.
      bool hasMoeUser = llvm::any_of(op->getUsers(), [](Operation *user) {
        return isa_and_nonnull<MoeDialect>(user->getDialect());
      });
      if (isa<GateOp>(op) && hasMoeUser)
        return WalkResult::advance();
      op->emitOpError("has no GPU code");
      return WalkResult::interrupt();
    });
    return failure(result.wasInterrupted());
  }

  LogicalResult convert(RouteOp route) {
    FailureOr<GatingTile> tile = matchGatingTile(route);
    if (failed(tile))
      return failure();
    int64_t size = tile->getStep().value_or(threads);
    if (size < 1 || size > kMaxThreads)
      return route.emitOpError("has no GPU code: a block of ")
             << size << " threads; 1 to " << kMaxThreads << " are possible";
    emitGatingKernel(*tile, threads);
    ++numKernels;
    return success();
  }

  void runOnOperation() override {
    // Fusing leaves the whole gate behind where its shape is asked for.
    RewritePatternSet patterns(&getContext());
    memref::populateResolveRankedShapedTypeResultDimsPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))) ||
        failed(checkOps()))
      return signalPassFailure();
    SmallVector<RouteOp> routes;
    getOperation()->walk([&](RouteOp op) { routes.push_back(op); });
    for (RouteOp route : routes)
      if (failed(convert(route)))
        return signalPassFailure();
  }
};

} // namespace
