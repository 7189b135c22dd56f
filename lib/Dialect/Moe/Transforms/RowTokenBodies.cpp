//===- RowTokenBodies.cpp - Token bodies from rows to rows ----------------===//
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
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct ScoreModel
    : public TokenBodyOpInterface::ExternalModel<ScoreModel, ScoreOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&op->getOpOperand(0)};
  }

  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value,
                                         FloatType type) const {
    auto score = cast<ScoreOp>(op);
    int64_t width = score.getLogits().getType().getDimSize(1);
    BodyBuilder body(b, type);
    auto logit = [&](Value expert) {
      return body.softcap(body.read(values[0], expert),
                          score.getSoftcap().convertToDouble());
    };
    if (score.getKind() != ScoreKind::softmax)
      return {{{}, body.mapRow(width, [&](Value expert) {
                 return body.score(score.getKind(), logit(expert));
               })}};
    Value largest =
        body.loop(width, body.infinity(/*isNegative=*/true),
                  [&](Value expert, ValueRange so) -> SmallVector<Value> {
                    return {arith::MaximumFOp::create(b, so[0], logit(expert))};
                  })[0];
    SmallVector<Value> powers = body.loop(
        width, {body.makeRow({width}), body.real(0.0)},
        [&](Value expert, ValueRange so) -> SmallVector<Value> {
          Value power = body.exp(body.sub(logit(expert), largest));
          return {body.write(power, so[0], expert), body.add(so[1], power)};
        });
    return {{{}, body.mapRow(width, [&](Value expert) {
               return body.div(body.read(powers[0], expert), powers[1]);
             })}};
  }
};

struct UnitRowsModel
    : public TokenBodyOpInterface::ExternalModel<UnitRowsModel, UnitRowsOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    return {&op->getOpOperand(0)};
  }

  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value,
                                         FloatType type) const {
    auto unit = cast<UnitRowsOp>(op);
    int64_t width = unit.getRows().getType().getDimSize(1);
    BodyBuilder body(b, type);
    Value square =
        body.loop(width, body.real(0.0),
                  [&](Value place, ValueRange so) -> SmallVector<Value> {
                    Value value = body.read(values[0], place);
                    return {body.fma(value, value, so[0])};
                  })[0];
    Value eps = body.real(unit.getEps().convertToDouble());
    bool isAdded = unit.getMode() == EpsMode::add;
    Value length =
        math::SqrtOp::create(b, isAdded ? body.add(square, eps) : square);
    if (!isAdded)
      length = arith::MaximumFOp::create(b, length, eps);
    Value scale =
        unit.getScale() ? body.readShared(values[1], {}) : body.real(1.0);
    Value factor = body.div(scale, length);
    return {{{}, body.mapRow(width, [&](Value place) {
               return body.mul(body.read(values[0], place), factor);
             })}};
  }
};

} // namespace

void moe::registerRowTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    ScoreOp::attachInterface<ScoreModel>(*context);
    UnitRowsOp::attachInterface<UnitRowsModel>(*context);
  });
}
