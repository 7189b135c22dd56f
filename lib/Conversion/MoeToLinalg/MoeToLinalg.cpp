//===- MoeToLinalg.cpp - The pass convert-moe-to-linalg -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Conversion/MoeToLinalg.h"
#include "Lowering.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Transforms/DialectConversion.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETOLINALGPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

std::string tolinalg::findObstacle(Operation *op) {
  std::string reason;
  llvm::raw_string_ostream os(reason);
  auto values = llvm::concat<const Value>(SmallVector<Value>(op->getOperands()),
                                          SmallVector<Value>(op->getResults()));
  for (Value value : values) {
    auto type = dyn_cast<ShapedType>(value.getType());
    if (!type)
      continue;
    auto element = dyn_cast<FloatType>(type.getElementType());
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor) {
      os << "works on buffers, of type " << type
         << "; convert-moe-to-linalg takes tensors";
      return reason;
    }
    if (tensor.getEncoding()) {
      os << "works on a tensor with an encoding, " << type;
      return reason;
    }
    if (element && element.getWidth() > 64) {
      os << "computes in f32 or f64 and cannot hold " << element;
      return reason;
    }
  }
  if (auto route = dyn_cast<RouteOp>(op))
    if (!isa<TokenBodyAttrInterface>(route.getRouter()))
      os << "has a router without a token body, " << route.getRouter();
  return reason;
}

void moe::populateMoeToLinalgPatterns(RewritePatternSet &patterns) {
  populateMoeToLinalgRoutingPatterns(patterns);
  populateMoeToLinalgDispatchPatterns(patterns);
  populateMoeToLinalgExpertsPatterns(patterns);
  populateMoeToLinalgPrimitivesPatterns(patterns);
  populateMoeToLinalgLossesPatterns(patterns);
}

namespace {
struct ConvertMoeToLinalg final
    : public moe::impl::ConvertMoeToLinalgPassBase<ConvertMoeToLinalg> {
  void runOnOperation() override {
    // Patterns name their reasons in debug output alone; a user needs them.
    bool isFree = true;
    getOperation()->walk([&](Operation *op) {
      if (!isa_and_nonnull<MoeDialect>(op->getDialect()) || isa<YieldOp>(op))
        return;
      ++numLowered;
      std::string obstacle = tolinalg::findObstacle(op);
      if (obstacle.empty())
        return;
      op->emitOpError(obstacle);
      isFree = false;
    });
    if (!isFree)
      return signalPassFailure();

    MLIRContext *context = &getContext();
    ConversionTarget target(*context);
    target.addIllegalDialect<MoeDialect>();
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    RewritePatternSet patterns(context);
    populateMoeToLinalgPatterns(patterns);
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
