//===- TokenBodyModels.cpp - The token bodies of ops ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What one token of an op is: a route runs its router's body, the subset ops
// and moe.philox have bodies of their own.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/SubsetBody.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

template <typename ModelTy, typename OpTy>
struct TokenBodyModel
    : public TokenBodyOpInterface::ExternalModel<ModelTy, OpTy> {
  using Values = SmallVector<TokenValue>;
};

struct RouteModel : public TokenBodyModel<RouteModel, RouteOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto route = cast<RouteOp>(op);
    SmallVector<OpOperand *> operands = {&route.getLogitsMutable()};
    for (MutableOperandRange range :
         {route.getIndicesMutable(), route.getTokenMaskMutable(),
          route.getNoiseMutable()})
      if (!range.empty())
        operands.push_back(&range[0]);
    return operands;
  }

  OpOperand *getFirstTokenOperand(Operation *op) const {
    auto route = cast<RouteOp>(op);
    MutableOperandRange range = route.getFirstTokenMutable();
    return range.empty() ? nullptr : &range[0];
  }

  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value token, FloatType type) const {
    auto route = cast<RouteOp>(op);
    auto valueOf = [&](MutableOperandRange range) -> Value {
      return range.empty() ? Value() : values[range[0].getOperandNumber()];
    };
    TokenBodyInputs inputs;
    inputs.logits = values[0];
    inputs.selectionBias = valueOf(route.getSelectionBiasMutable());
    inputs.expertScale = valueOf(route.getExpertScaleMutable());
    inputs.indices = valueOf(route.getIndicesMutable());
    inputs.noise = valueOf(route.getNoiseMutable());
    inputs.width = route.getLogits().getType().getDimSize(1);
    inputs.computeType = type;
    if (route.isTraining())
      inputs.random = TokenRandom{valueOf(route.getSeedMutable()),
                                  valueOf(route.getLayerMutable()), token};
    TokenBodyResult slots = cast<TokenBodyAttrInterface>(route.getRouter())
                                .buildTokenBody(b, inputs);
    if (Value isLive = valueOf(route.getTokenMaskMutable())) {
      BodyBuilder body(b, type);
      for (Value &id : slots.ids)
        id = body.select(isLive, id, body.id(-1));
      for (Value &weight : slots.weights)
        weight = body.select(isLive, weight, body.real(0.0));
    }
    return {TokenValue{slots.ids, {}}, TokenValue{slots.weights, {}}};
  }
};

template <typename OpTy>
SubsetBody makeSubsetBody(OpTy op, ImplicitLocOpBuilder &b, ValueRange values,
                          FloatType type) {
  int64_t width = cast<ShapedType>(op.getLogits().getType()).getDimSize(1);
  return SubsetBody(b, type, values[0], width, op.getBand());
}

struct PartitionModel
    : public TokenBodyModel<PartitionModel, SubsetPartitionOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&cast<SubsetPartitionOp>(op).getLogitsMutable()};
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value, FloatType type) const {
    auto body = makeSubsetBody(cast<SubsetPartitionOp>(op), b, values, type);
    return {TokenValue{body.emitLogPartition(), {}}};
  }
};

struct MarginalsModel
    : public TokenBodyModel<MarginalsModel, SubsetMarginalsOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&cast<SubsetMarginalsOp>(op).getLogitsMutable()};
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value, FloatType type) const {
    auto body = makeSubsetBody(cast<SubsetMarginalsOp>(op), b, values, type);
    return {TokenValue{{}, body.emitMarginals()}};
  }
};

struct CovarianceModel
    : public TokenBodyModel<CovarianceModel, SubsetCovarianceOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto covariance = cast<SubsetCovarianceOp>(op);
    return {&covariance.getLogitsMutable(), &covariance.getVectorMutable()};
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value, FloatType type) const {
    auto body = makeSubsetBody(cast<SubsetCovarianceOp>(op), b, values, type);
    return {TokenValue{{}, body.emitCovariance(values[1])}};
  }
};

struct SampleModel : public TokenBodyModel<SampleModel, SubsetSampleOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&cast<SubsetSampleOp>(op).getLogitsMutable()};
  }
  OpOperand *getFirstTokenOperand(Operation *op) const {
    return &cast<SubsetSampleOp>(op).getFirstTokenMutable();
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value token, FloatType type) const {
    auto body = makeSubsetBody(cast<SubsetSampleOp>(op), b, values, type);
    return {TokenValue{body.emitSample({values[1], values[2], token}), {}}};
  }
};

struct LogProbModel : public TokenBodyModel<LogProbModel, SubsetLogProbOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto logProb = cast<SubsetLogProbOp>(op);
    return {&logProb.getLogitsMutable(), &logProb.getIdsMutable()};
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value, FloatType type) const {
    auto logProb = cast<SubsetLogProbOp>(op);
    auto body = makeSubsetBody(logProb, b, values, type);
    int64_t slots = logProb.getBand().max;
    SmallVector<Value> ids;
    for (int64_t slot = 0; slot < slots; ++slot)
      ids.push_back(body.read(values[1], body.index(slot)));
    return {TokenValue{{body.emitLogProb(ids)}, {}}};
  }
};

struct PhiloxModel : public TokenBodyModel<PhiloxModel, PhiloxOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *) const { return {}; }
  OpOperand *getFirstTokenOperand(Operation *op) const {
    return &cast<PhiloxOp>(op).getFirstTokenMutable();
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value token, FloatType type) const {
    BodyBuilder body(b, type);
    TokenRandom random{values[1], values[2], token};
    int64_t draws = cast<PhiloxOp>(op).getNumbers().getType().getDimSize(1);
    Value row = body.makeRow({draws});
    auto writeBlock = [&](Value block, Value row, int64_t count) {
      auto words = emitPhilox(body, random, body.idOf(block));
      Value first = arith::MulIOp::create(b, block, body.index(4));
      for (int64_t draw = 0; draw < count; ++draw) {
        Value place = arith::AddIOp::create(b, first, body.index(draw));
        row = body.write(emitUniform(body, words[draw]), row, place);
      }
      return row;
    };
    if (draws >= 4)
      row = body.loop(draws / 4, row, [&](Value block, ValueRange carried) {
        return SmallVector<Value>{writeBlock(block, carried[0], 4)};
      })[0];
    if (draws % 4 != 0)
      row = writeBlock(body.index(draws / 4), row, draws % 4);
    return {TokenValue{{}, row}};
  }
};

} // namespace

void moe::registerTokenBodyOpModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    RouteOp::attachInterface<RouteModel>(*context);
    SubsetPartitionOp::attachInterface<PartitionModel>(*context);
    SubsetMarginalsOp::attachInterface<MarginalsModel>(*context);
    SubsetCovarianceOp::attachInterface<CovarianceModel>(*context);
    SubsetSampleOp::attachInterface<SampleModel>(*context);
    SubsetLogProbOp::attachInterface<LogProbModel>(*context);
    PhiloxOp::attachInterface<PhiloxModel>(*context);
  });
}
