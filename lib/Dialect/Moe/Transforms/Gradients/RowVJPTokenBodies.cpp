//===- RowVJPTokenBodies.cpp - Token bodies of backwards of rows ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/NoiseBody.h"
#include "moe/Dialect/Moe/Utils/SubsetBody.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// sigma = softplus(noise) + floor has the slope 1 / (1 + exp(-noise)).
struct NoisyLogitsVJPModel
    : public TokenBodyOpInterface::ExternalModel<NoisyLogitsVJPModel,
                                                 NoisyLogitsVJPOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto vjp = cast<NoisyLogitsVJPOp>(op);
    SmallVector<OpOperand *> operands = {&vjp.getNoiseMutable(),
                                         &vjp.getCotangentMutable()};
    if (vjp.getSigmaCotangent())
      operands.push_back(&vjp.getSigmaCotangentMutable()[0]);
    return operands;
  }

  OpOperand *getFirstTokenOperand(Operation *op) const {
    return &cast<NoisyLogitsVJPOp>(op).getFirstTokenMutable();
  }

  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value token,
                                         FloatType type) const {
    auto vjp = cast<NoisyLogitsVJPOp>(op);
    auto valueOf = [&](OpOperand &operand) {
      return values[operand.getOperandNumber()];
    };
    int64_t width = vjp.getNoise().getType().getDimSize(1);
    TokenRandom random = {valueOf(vjp.getSeedMutable()),
                          valueOf(vjp.getLayerMutable()), token};
    BodyBuilder body(b, type);
    Value normals = emitNormalRow(body, random, width);
    return {{{}, body.mapRow(width, [&](Value expert) {
               Value sum = body.mul(body.read(values[1], expert),
                                    body.read(normals, expert));
               if (vjp.getSigmaCotangent())
                 sum = body.add(sum, body.read(values[2], expert));
               return body.mul(sum,
                               body.logistic(body.read(values[0], expert)));
             })}};
  }
};

struct UnitRowsVJPModel
    : public TokenBodyOpInterface::ExternalModel<UnitRowsVJPModel,
                                                 UnitRowsVJPOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&op->getOpOperand(0), &op->getOpOperand(1)};
  }

  /// s (g - u (u . g)) / l, and u . g.
  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value,
                                         FloatType type) const {
    auto vjp = cast<UnitRowsVJPOp>(op);
    int64_t width = vjp.getRows().getType().getDimSize(1);
    BodyBuilder body(b, type);
    SmallVector<Value> sums = body.loop(
        width, {body.real(0.0), body.real(0.0)},
        [&](Value place, ValueRange so) -> SmallVector<Value> {
          Value value = body.read(values[0], place);
          return {body.fma(value, value, so[0]),
                  body.fma(value, body.read(values[1], place), so[1])};
        });
    Value eps = body.real(vjp.getEps().convertToDouble());
    bool isAdded = vjp.getMode() == EpsMode::add;
    Value length =
        math::SqrtOp::create(b, isAdded ? body.add(sums[0], eps) : sums[0]);
    Value isClamped;
    if (!isAdded) {
      isClamped =
          arith::CmpFOp::create(b, arith::CmpFPredicate::OLE, length, eps);
      length = arith::MaximumFOp::create(b, length, eps);
    }
    Value share = body.div(sums[1], length);
    // A length that is eps does not move with the row.
    Value along =
        isClamped ? body.select(isClamped, body.real(0.0), share) : share;
    along = body.div(along, length);
    Value factor = body.div(vjp.getScale() ? body.readShared(values[2], {})
                                           : body.real(1.0),
                            length);
    SmallVector<TokenValue> results = {
        {{}, body.mapRow(width, [&](Value place) {
           Value pull = body.mul(body.read(values[0], place), along);
           Value rest = body.sub(body.read(values[1], place), pull);
           return body.mul(rest, factor);
         })}};
    if (vjp.getScale())
      results.push_back({{}, body.mapRow(1, [&](Value) { return share; })});
    return results;
  }
};

struct SubsetPartitionVJPModel
    : public TokenBodyOpInterface::ExternalModel<SubsetPartitionVJPModel,
                                                 SubsetPartitionVJPOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&op->getOpOperand(0), &op->getOpOperand(1)};
  }

  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value,
                                         FloatType type) const {
    auto vjp = cast<SubsetPartitionVJPOp>(op);
    int64_t width = vjp.getLogits().getType().getDimSize(1);
    SubsetBand band = vjp.getBand();
    SubsetBody body(b, type, values[0], width, band);
    SmallVector<Value> cotangents;
    for (int64_t place = 0; place <= band.max - band.min; ++place)
      cotangents.push_back(body.read(values[1], body.index(place)));
    return {{{}, body.emitPartitionVJP(cotangents)}};
  }
};

} // namespace

void moe::registerRowVJPTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    NoisyLogitsVJPOp::attachInterface<NoisyLogitsVJPModel>(*context);
    UnitRowsVJPOp::attachInterface<UnitRowsVJPModel>(*context);
    SubsetPartitionVJPOp::attachInterface<SubsetPartitionVJPModel>(*context);
  });
}
