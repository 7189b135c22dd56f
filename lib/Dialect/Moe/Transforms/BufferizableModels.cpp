//===- BufferizableModels.cpp - Bufferization of the primitives -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace mlir::moe;

namespace {

/// Whether an op may leave a part of its destination as it was: what no row of
/// the last expert reaches.
bool keepsPart(Operation *op, OpOperand &operand) {
  if (auto product = dyn_cast<GroupedMatmulOp>(op))
    return static_cast<bool>(product.getOffsets());
  if (auto group = dyn_cast<GroupOp>(op))
    return operand.get() != group.getOffsetsInit() &&
           operand.get() != group.getFirstInit();
  return false;
}

/// A primitive on tensors becomes the same op on buffers. What a destination
/// held before is read only as far as it is kept.
template <typename OpTy>
struct PrimitiveModel
    : public DstBufferizableOpInterfaceExternalModel<PrimitiveModel<OpTy>,
                                                     OpTy> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    return cast<DestinationStyleOpInterface>(op).isDpsInput(&operand) ||
           keepsPart(op, operand);
  }

  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto dps = cast<DestinationStyleOpInterface>(op);
    SmallVector<Value> operands, results;
    for (OpOperand &operand : op->getOpOperands()) {
      Value value = operand.get();
      if (isa<TensorType>(value.getType())) {
        FailureOr<Value> buffer = getBuffer(rewriter, value, options, state);
        if (failed(buffer))
          return failure();
        value = *buffer;
      }
      operands.push_back(value);
      if (dps.isDpsInit(&operand))
        results.push_back(value);
    }
    OperationState newState(op->getLoc(), op->getName(), operands,
                            /*types=*/TypeRange(),
                            llvm::to_vector(op->getDiscardableAttrs()));
    newState.propertiesAttr = op->getPropertiesAsAttribute();
    for (Region &region : op->getRegions())
      newState.addRegion()->takeBody(region);
    rewriter.create(newState);
    replaceOpWithBufferizedValues(rewriter, op, results);
    return success();
  }
};

} // namespace

void moe::registerBufferizableModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    GroupOp::attachInterface<PrimitiveModel<GroupOp>>(*context);
    GroupedMatmulOp::attachInterface<PrimitiveModel<GroupedMatmulOp>>(*context);
    GroupedOuterOp::attachInterface<PrimitiveModel<GroupedOuterOp>>(*context);
    CombineSlotsOp::attachInterface<PrimitiveModel<CombineSlotsOp>>(*context);
    TopKOp::attachInterface<PrimitiveModel<TopKOp>>(*context);
  });
}
