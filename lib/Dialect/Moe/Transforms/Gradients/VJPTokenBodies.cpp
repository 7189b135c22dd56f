//===- VJPTokenBodies.cpp - The token bodies of backward ops --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/ScoreSlope.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct RouteVJPModel
    : public TokenBodyOpInterface::ExternalModel<RouteVJPModel, RouteVJPOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto vjp = cast<RouteVJPOp>(op);
    SmallVector<OpOperand *> operands = {
        &vjp.getLogitsMutable(), &vjp.getIdsMutable(), &vjp.getWeightsMutable(),
        &vjp.getCotangentMutable()};
    if (MutableOperandRange noise = vjp.getNoiseMutable(); !noise.empty())
      operands.push_back(&noise[0]);
    return operands;
  }

  OpOperand *getFirstTokenOperand(Operation *op) const {
    MutableOperandRange range = cast<RouteVJPOp>(op).getFirstTokenMutable();
    return range.empty() ? nullptr : &range[0];
  }

  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value token,
                                         FloatType type) const {
    auto vjp = cast<RouteVJPOp>(op);
    auto valueOf = [&](MutableOperandRange range) -> Value {
      return range.empty() ? Value() : values[range[0].getOperandNumber()];
    };
    BodyBuilder body(b, type);
    TokenVJPInputs inputs;
    inputs.forward.logits = values[0];
    inputs.forward.expertScale = valueOf(vjp.getExpertScaleMutable());
    inputs.forward.noise = valueOf(vjp.getNoiseMutable());
    inputs.forward.width = vjp.getLogits().getType().getDimSize(1);
    inputs.forward.computeType = type;
    if (vjp.getSeed())
      inputs.forward.random = TokenRandom{
          valueOf(vjp.getSeedMutable()), valueOf(vjp.getLayerMutable()), token};
    Value hasAny = body.flag(false);
    int64_t numSlots = vjp.getIds().getType().getDimSize(1);
    for (int64_t slot = 0; slot < numSlots; ++slot) {
      Value place = body.index(slot);
      inputs.ids.push_back(body.read(values[1], place));
      inputs.weights.push_back(body.read(values[2], place));
      inputs.cotangents.push_back(body.read(values[3], place));
      hasAny = body.either(hasAny, body.isNatural(inputs.ids.back()));
    }
    TokenVJPResult result =
        cast<TokenVJPAttrInterface>(vjp.getRouter()).buildTokenVJP(b, inputs);
    // The logits of a masked token may be anything.
    int64_t width = inputs.forward.width;
    auto keep = [&](Value row) -> TokenValue {
      return {{},
              body.loop(width, body.makeRow({width}),
                        [&](Value expert, ValueRange so) -> SmallVector<Value> {
                          Value value = body.select(
                              hasAny, body.read(row, expert), body.real(0.0));
                          return {body.write(value, so[0], expert)};
                        })[0]};
    };
    SmallVector<TokenValue> results = {keep(result.logits)};
    if (vjp.getNoise())
      results.push_back(keep(result.noise));
    if (vjp.getExpertScale())
      results.push_back(keep(result.expertScale));
    return results;
  }
};

struct ScoreVJPModel
    : public TokenBodyOpInterface::ExternalModel<ScoreVJPModel, ScoreVJPOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&op->getOpOperand(0), &op->getOpOperand(1)};
  }

  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value,
                                         FloatType type) const {
    auto vjp = cast<ScoreVJPOp>(op);
    int64_t width = vjp.getLogits().getType().getDimSize(1);
    double cap = vjp.getSoftcap().convertToDouble();
    BodyBuilder body(b, type);
    auto logit = [&](Value expert) {
      return body.softcap(body.read(values[0], expert), cap);
    };
    auto mapRow = [&](llvm::function_ref<Value(Value, Value)> slope) -> Value {
      return body.loop(width, body.makeRow({width}),
                       [&](Value expert, ValueRange so) -> SmallVector<Value> {
                         Value capped = logit(expert);
                         Value value = slope(expert, capped);
                         value = body.mul(value,
                                          emitSoftcapSlope(body, capped, cap));
                         return {body.write(value, so[0], expert)};
                       })[0];
    };
    if (vjp.getKind() != ScoreKind::softmax)
      return {{{}, mapRow([&](Value expert, Value capped) {
                 Value score = body.score(vjp.getKind(), capped);
                 return body.mul(
                     body.read(values[1], expert),
                     emitScoreSlope(body, vjp.getKind(), capped, score));
               })}};
    Value largest =
        body.loop(width, body.infinity(/*isNegative=*/true),
                  [&](Value expert, ValueRange so) -> SmallVector<Value> {
                    return {arith::MaximumFOp::create(b, so[0], logit(expert))};
                  })[0];
    SmallVector<Value> sums = body.loop(
        width, {body.real(0.0), body.real(0.0)},
        [&](Value expert, ValueRange so) -> SmallVector<Value> {
          Value power = body.exp(body.sub(logit(expert), largest));
          return {body.add(so[0], power),
                  body.fma(power, body.read(values[1], expert), so[1])};
        });
    Value mean = body.div(sums[1], sums[0]);
    return {
        {{}, mapRow([&](Value expert, Value capped) {
           Value share = body.div(body.exp(body.sub(capped, largest)), sums[0]);
           return body.mul(share, body.sub(body.read(values[1], expert), mean));
         })}};
  }
};

} // namespace

void moe::registerVJPTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    RouteVJPOp::attachInterface<RouteVJPModel>(*context);
    ScoreVJPOp::attachInterface<ScoreVJPModel>(*context);
  });
}
