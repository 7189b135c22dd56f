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

/// Why a type is not one that tensors of a lowering have, or an empty string.
static std::string findObstacle(ShapedType type) {
  std::string reason;
  llvm::raw_string_ostream os(reason);
  auto tensor = dyn_cast<RankedTensorType>(type);
  auto element = dyn_cast<FloatType>(type.getElementType());
  if (!tensor)
    os << "works on buffers, of type " << type
       << ", and convert-moe-to-linalg on tensors";
  else if (tensor.getEncoding())
    os << "works on a tensor with an encoding, " << type;
  else if (element && element.getWidth() > 64)
    os << "holds " << element << ", which f64 sums would round";
  return reason;
}

std::string tolinalg::findObstacle(Operation *op) {
  SmallVector<Type> types(op->getOperandTypes());
  llvm::append_range(types, op->getResultTypes());
  for (Type type : types)
    if (auto shaped = dyn_cast<ShapedType>(type))
      if (std::string reason = ::findObstacle(shaped); !reason.empty())
        return reason;

  std::string reason;
  llvm::raw_string_ostream os(reason);
  if (auto route = dyn_cast<RouteOp>(op))
    if (!isa<TokenBodyAttrInterface>(route.getRouter()))
      os << "has a router without a token body, " << route.getRouter();
  if (auto product = dyn_cast<GroupedMatmulOp>(op))
    if (product.getPanels())
      os << "has packed weights, which convert-moe-to-cpu reads";
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
  using ConvertMoeToLinalgPassBase::ConvertMoeToLinalgPassBase;

  bool isKept(Operation *op) {
    return keepPrimitives && isa<GroupOp, GroupedMatmulOp, GroupedOuterOp,
                                 CombineSlotsOp, TopKOp>(op);
  }

  void runOnOperation() override {
    // Patterns name their reasons in debug output alone; a user needs them.
    bool isFree = true;
    getOperation()->walk([&](Operation *op) {
      if (!isa_and_nonnull<MoeDialect>(op->getDialect()) || isa<YieldOp>(op) ||
          isKept(op))
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
    if (keepPrimitives)
      target.addLegalOp<GroupOp, GroupedMatmulOp, GroupedOuterOp,
                        CombineSlotsOp, TopKOp, YieldOp>();
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    RewritePatternSet patterns(context);
    populateMoeToLinalgPatterns(patterns);
    if (threads) {
      populateSlotThreadPatterns(patterns);
      populateExpertChoiceThreadPatterns(patterns);
      populateCapacityThreadPatterns(patterns);
      populateLossThreadPatterns(patterns);
    }
    if (failed(applyPartialConversion(getOperation(), target,
                                      std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
