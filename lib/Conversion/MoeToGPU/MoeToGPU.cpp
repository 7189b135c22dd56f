//===- MoeToGPU.cpp - Primitives as loops over threads -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Transforms.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETOGPUPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A copy as an op that is lowered like all others.
struct CopyPattern : public OpRewritePattern<memref::CopyOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(memref::CopyOp op,
                                PatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, linalg::makeMemRefCopyOp(rewriter, op.getLoc(),
                                                    op.getSource(),
                                                    op.getTarget()));
    return success();
  }
};

/// Constants that are written anew in every call have as many numbers at most.
constexpr int64_t kMostConstants = 64;

/// A constant buffer lies with the host: it is made anew where it is used.
struct ConstantPattern : public OpRewritePattern<memref::GetGlobalOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(memref::GetGlobalOp op,
                                PatternRewriter &rewriter) const override {
    auto global = SymbolTable::lookupNearestSymbolFrom<memref::GlobalOp>(
        op, op.getNameAttr());
    auto values = dyn_cast_or_null<DenseElementsAttr>(
        global ? global.getConstantInitValue() : Attribute());
    if (!values ||
        !(values.isSplat() || values.getNumElements() <= kMostConstants))
      return rewriter.notifyMatchFailure(op, "is no small constant");
    Location loc = op.getLoc();
    MemRefType type = op.getType();
    auto make = [&](Attribute value) -> Value {
      return arith::ConstantOp::create(rewriter, loc, type.getElementType(),
                                       cast<TypedAttr>(value));
    };
    Value buffer = memref::AllocOp::create(rewriter, loc, type);
    if (values.isSplat()) {
      linalg::FillOp::create(rewriter, loc,
                             make(values.getSplatValue<Attribute>()), buffer);
    } else {
      SmallVector<int64_t> strides = computeStrides(type.getShape());
      for (auto [place, value] :
           llvm::enumerate(values.getValues<Attribute>())) {
        SmallVector<Value> at;
        for (int64_t index : delinearize(place, strides))
          at.push_back(arith::ConstantIndexOp::create(rewriter, loc, index));
        memref::StoreOp::create(rewriter, loc, make(value), buffer, at);
      }
    }
    rewriter.replaceOp(op, buffer);
    return success();
  }
};

/// A structured op of the function itself has a thread for each place of its
/// parallel loops; any other is a loop nest of the thread it is in.
struct StructuredPattern : public OpInterfaceRewritePattern<linalg::LinalgOp> {
  using OpInterfaceRewritePattern::OpInterfaceRewritePattern;

  LogicalResult matchAndRewrite(linalg::LinalgOp op,
                                PatternRewriter &rewriter) const override {
    if (!op.hasPureBufferSemantics())
      return rewriter.notifyMatchFailure(op, "is on tensors");
    bool isOwn = isa<FunctionOpInterface>(op->getParentOp());
    FailureOr<linalg::LinalgLoops> loops =
        isOwn ? linalg::linalgOpToParallelLoops(rewriter, op)
              : linalg::linalgOpToLoops(rewriter, op);
    if (failed(loops))
      return failure();
    rewriter.eraseOp(op);
    return success();
  }
};

struct ConvertMoeToGPU
    : public moe::impl::ConvertMoeToGPUPassBase<ConvertMoeToGPU> {
  using ConvertMoeToGPUPassBase::ConvertMoeToGPUPassBase;

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ConstantPattern, CopyPattern, StructuredPattern>(
        &getContext());
    populateGroupToThreadsPatterns(patterns);
    populateCombineSlotsToThreadsPatterns(patterns);
    ProductOptions options;
    options.mayHaveFewRows = !batchInvariant;
    options.mayRound = tf32;
    populateGroupedMatmulToTensorCoresPatterns(patterns, options);
    populateGroupedMatmulToThreadsPatterns(patterns, options);
    populateGroupedOuterToTensorCoresPatterns(patterns, options);
    populateGroupedOuterToThreadsPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    WalkResult result = getOperation()->walk([](Operation *op) {
      if (isa<memref::GetGlobalOp>(op)) {
        op->emitOpError("has no GPU code: a constant of more than ")
            << kMostConstants << " numbers; make it an argument";
        return WalkResult::interrupt();
      }
      if (!isa_and_nonnull<MoeDialect>(op->getDialect()))
        return WalkResult::advance();
      op->emitOpError("has no GPU code");
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
