//===- TokenBodyModels.cpp - The token bodies of ops ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What one token of an op is: a route runs its router's body, the subset ops,
// moe.philox, moe.jitter and moe.noisy_logits have bodies of their own.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"
#include "moe/Dialect/Moe/Utils/NoiseBody.h"
#include "moe/Dialect/Moe/Utils/SubsetBody.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

using Values = SmallVector<TokenValue>;

struct RouteModel
    : public TokenBodyOpInterface::ExternalModel<RouteModel, RouteOp> {
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

  void emitChecks(Operation *op, ImplicitLocOpBuilder &b) const {
    auto route = cast<RouteOp>(op);
    if (Value indices = route.getIndices())
      emitIdsCheck(b, route.getOperationName(), indices,
                   route.getLogits().getType().getDimSize(1));
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

/// The first token of the ops that have one always.
OpOperand *getFirstToken(SubsetSampleOp op) {
  return &op.getFirstTokenMutable();
}
OpOperand *getFirstToken(PhiloxOp op) { return &op.getFirstTokenMutable(); }
OpOperand *getFirstToken(Operation *) { return nullptr; }

Values emitToken(SubsetPartitionOp, SubsetBody &body, ValueRange, Value) {
  return {TokenValue{body.emitLogPartition(), {}}};
}

Values emitToken(SubsetMarginalsOp, SubsetBody &body, ValueRange, Value) {
  return {TokenValue{{}, body.emitMarginals()}};
}

Values emitToken(SubsetEntropyOp op, SubsetBody &body, ValueRange values,
                 Value) {
  SmallVector<Value> logs = body.emitLogPartition();
  Value none = body.infinity(/*isNegative=*/true), largest = none;
  for (Value log : logs)
    largest = body.larger(largest, log);
  Value total = body.real(0.0);
  for (Value log : logs)
    total = body.add(total, body.exp(body.sub(log, largest)));
  Value logSum = body.add(largest, body.log(total));
  Value margins = body.emitMarginals();
  int64_t width = op.getLogits().getType().getDimSize(1);
  Value mean = body.loop(
      width, body.real(0.0),
      [&](Value expert, ValueRange so) -> SmallVector<Value> {
        Value margin = body.read(margins, expert);
        Value term = body.mul(margin, body.read(values[0], expert));
        // 0 times -inf, of an expert that is never taken.
        Value counts = body.isGreater(margin, body.real(0.0));
        return {body.add(so[0], body.select(counts, term, body.real(0.0)))};
      })[0];
  // Too few experts: all are taken, and there is no size of the band.
  Value isForced = arith::CmpFOp::create(
      body.getBuilder(), arith::CmpFPredicate::OEQ, largest, none);
  Value entropy = body.select(isForced, body.real(0.0), body.sub(logSum, mean));
  return {TokenValue{{entropy}, {}}};
}

Values emitToken(SubsetCovarianceOp, SubsetBody &body, ValueRange values,
                 Value) {
  return {TokenValue{{}, body.emitCovariance(values[1])}};
}

Values emitToken(SubsetSampleOp, SubsetBody &body, ValueRange values,
                 Value token) {
  return {TokenValue{body.emitSample({values[1], values[2], token}), {}}};
}

Values emitToken(SubsetLogProbOp op, SubsetBody &body, ValueRange values,
                 Value) {
  SmallVector<Value> ids;
  for (int64_t slot = 0, end = op.getBand().max; slot < end; ++slot)
    ids.push_back(body.read(values[1], body.index(slot)));
  return {TokenValue{{body.emitLogProb(ids)}, {}}};
}

/// A subset op: its tensors are rows of tokens, and the first is the logits.
template <typename OpTy>
struct SubsetModel
    : public TokenBodyOpInterface::ExternalModel<SubsetModel<OpTy>, OpTy> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    SmallVector<OpOperand *> operands;
    for (OpOperand &operand : op->getOpOperands())
      if (isa<RankedTensorType>(operand.get().getType()))
        operands.push_back(&operand);
    return operands;
  }

  OpOperand *getFirstTokenOperand(Operation *op) const {
    return getFirstToken(cast<OpTy>(op));
  }

  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value token, FloatType type) const {
    auto subsetOp = cast<OpTy>(op);
    int64_t width = subsetOp.getLogits().getType().getDimSize(1);
    SubsetBody body(b, type, values[0], width, subsetOp.getBand());
    return emitToken(subsetOp, body, values, token);
  }
};

struct PhiloxModel
    : public TokenBodyOpInterface::ExternalModel<PhiloxModel, PhiloxOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *) const { return {}; }
  OpOperand *getFirstTokenOperand(Operation *op) const {
    return getFirstToken(cast<PhiloxOp>(op));
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value token, FloatType type) const {
    BodyBuilder body(b, type);
    int64_t draws = cast<PhiloxOp>(op).getNumbers().getType().getDimSize(1);
    Value row =
        emitDrawnRow(body, {values[1], values[2], token}, draws, emitUniform,
                     [](Value, Value number) { return number; });
    return {TokenValue{{}, row}};
  }
};

struct JitterModel
    : public TokenBodyOpInterface::ExternalModel<JitterModel, JitterOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&cast<JitterOp>(op).getInputMutable()};
  }
  OpOperand *getFirstTokenOperand(Operation *op) const {
    return &cast<JitterOp>(op).getFirstTokenMutable();
  }
  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value token, FloatType type) const {
    auto jitter = cast<JitterOp>(op);
    BodyBuilder body(b, type);
    double eps = jitter.getEps().convertToDouble();
    Value low = body.real(1.0 - eps), range = body.real(2.0 * eps);
    int64_t width = jitter.getInput().getType().getDimSize(1);
    Value row =
        emitDrawnRow(body, {values[1], values[2], token}, width, emitUniform,
                     [&](Value place, Value number) {
                       Value factor = body.add(low, body.mul(range, number));
                       return body.mul(body.read(values[0], place), factor);
                     });
    return {TokenValue{{}, row}};
  }
};

struct NoisyLogitsModel
    : public TokenBodyOpInterface::ExternalModel<NoisyLogitsModel,
                                                 NoisyLogitsOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto noisy = cast<NoisyLogitsOp>(op);
    SmallVector<OpOperand *> operands = {&noisy.getLogitsMutable()};
    if (noisy.getNoise())
      operands.push_back(&noisy.getNoiseMutable()[0]);
    return operands;
  }

  OpOperand *getFirstTokenOperand(Operation *op) const {
    return &cast<NoisyLogitsOp>(op).getFirstTokenMutable();
  }

  Values buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                        ValueRange values, Value token, FloatType type) const {
    auto noisy = cast<NoisyLogitsOp>(op);
    NoiseSettings settings = noisy.getSettings();
    BodyBuilder body(b, type);
    int64_t width = noisy.getLogits().getType().getDimSize(1);
    Value raw;
    if (noisy.getNoise())
      raw = values[noisy.getNoiseMutable()[0].getOperandNumber()];
    TokenRandom random = {values[noisy.getSeedMutable().getOperandNumber()],
                          values[noisy.getLayerMutable().getOperandNumber()],
                          token};
    Values results = {TokenValue{
        {}, emitNoisyRow(body, settings, random, values[0], raw, width)}};
    if (noisy.getSigma())
      results.push_back(TokenValue{
          {},
          body.loop(width, body.makeRow({width}),
                    [&](Value expert, ValueRange row) -> SmallVector<Value> {
                      Value sigma =
                          emitSigma(body, settings, body.read(raw, expert));
                      return {body.write(sigma, row[0], expert)};
                    })[0]});
    return results;
  }
};

template <typename... OpTys> void attachSubsetModels(MLIRContext &context) {
  (OpTys::template attachInterface<SubsetModel<OpTys>>(context), ...);
}

} // namespace

void moe::registerTokenBodyOpModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    RouteOp::attachInterface<RouteModel>(*context);
    attachSubsetModels<SubsetPartitionOp, SubsetMarginalsOp, SubsetEntropyOp,
                       SubsetCovarianceOp, SubsetSampleOp, SubsetLogProbOp>(
        *context);
    PhiloxOp::attachInterface<PhiloxModel>(*context);
    JitterOp::attachInterface<JitterModel>(*context);
    NoisyLogitsOp::attachInterface<NoisyLogitsModel>(*context);
  });
}
