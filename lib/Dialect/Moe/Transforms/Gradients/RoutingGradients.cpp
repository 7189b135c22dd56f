//===- RoutingGradients.cpp - Backwards of gates, scores and routes -------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/GroupedProduct.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct GateModel
    : public DifferentiableOpInterface::ExternalModel<GateModel, GateOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto gate = cast<GateOp>(op);
    Value cotangent = cotangents.of(gate.getLogits());
    Value input = gate.getInput(), weight = gate.getWeight();
    if (cotangents.isActive(input)) {
      GroupedProduct product;
      product.lhs = {cotangent};
      product.weights = {addLeadingOne(b, weight)};
      product.inOut = true;
      RankedTensorType type = gate.getInput().getType();
      Value dest = emitNew(b, tensor::getMixedSizes(b, b.getLoc(), input),
                           type.getElementType());
      cotangents.add(b, input, emitGroupedSum(b, product, dest));
    }
    if (cotangents.isActive(weight)) {
      RankedTensorType type = gate.getWeight().getType();
      SmallVector<int64_t> shape = {1};
      llvm::append_range(shape, type.getShape());
      Value dest = tensor::EmptyOp::create(b, shape, type.getElementType());
      Value gradient = emitOuter(b, {cotangent, {}}, {input, {}},
                                 /*offsets=*/Value(), dest);
      cotangents.add(b, weight, joinFirstTwo(b, gradient));
    }
    if (Value bias = gate.getBias(); bias && cotangents.isActive(bias))
      cotangents.add(b, bias, emitColumnSums(b, cotangent));
    return success();
  }
};

struct ScoreModel
    : public DifferentiableOpInterface::ExternalModel<ScoreModel, ScoreOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto score = cast<ScoreOp>(op);
    Value gradient =
        ScoreVJPOp::create(b, score.getLogits().getType(), score.getLogits(),
                           cotangents.of(score.getScores()),
                           score.getKindAttr(), score.getSoftcapAttr());
    cotangents.add(b, score.getLogits(), gradient);
    return success();
  }
  Residual getResidual(Operation *, unsigned) const {
    return Residual::recomputed;
  }
};

struct RouteModel
    : public DifferentiableOpInterface::ExternalModel<RouteModel, RouteOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto route = cast<RouteOp>(op);
    if (!isa<TokenVJPAttrInterface>(route.getRouter()))
      return op->emitOpError("has a router without a backward: ")
             << route.getRouter();
    RankedTensorType logits = route.getLogits().getType();
    SmallVector<Type> types = {logits};
    if (route.getNoise())
      types.push_back(route.getNoise().getType());
    Value scale = route.getExpertScale();
    if (scale)
      types.push_back(logits.clone(
          getWidestType(b, {route.getLogits(), route.getWeights()})));
    auto vjp = RouteVJPOp::create(
        b, types, route.getLogits(), route.getIds(), route.getWeights(),
        cotangents.of(route.getWeights()), scale, route.getNoise(),
        route.getSeed(), route.getLayer(), route.getFirstToken(),
        route.getRouter());
    unsigned next = 0;
    cotangents.add(b, route.getLogits(), vjp.getGradients()[next++]);
    if (Value noise = route.getNoise())
      cotangents.add(b, noise, vjp.getGradients()[next++]);
    if (scale && cotangents.isActive(scale))
      cotangents.add(b, scale, emitColumnSums(b, vjp.getGradients()[next]));
    return success();
  }
};

/// Kept weights as they are: a dropped one has no cotangent.
struct LimitCapacityModel
    : public DifferentiableOpInterface::ExternalModel<LimitCapacityModel,
                                                      LimitCapacityOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto limit = cast<LimitCapacityOp>(op);
    Value weights = limit.getWeights();
    Value cotangent = cotangents.of(limit.getKeptWeights());
    if (limit.getNormalize())
      cotangent = unnormalize(b, limit, cotangent);
    cotangents.add(b, weights,
                   mapSlots(b, {limit.getKeptIds(), cotangent}, weights,
                            [](ImplicitLocOpBuilder &nested, ValueRange in) {
                              return keep(nested, in[0], in[1]);
                            }));
    return success();
  }

private:
  /// The value where the slot is kept, 0 elsewhere.
  static Value keep(ImplicitLocOpBuilder &b, Value id, Value value) {
    Value none = arith::ConstantOp::create(b, b.getI32IntegerAttr(0));
    Value isKept =
        arith::CmpIOp::create(b, arith::CmpIPredicate::sge, id, none);
    return arith::SelectOp::create(b, isKept, value, emitSplat(b, value, 0.0));
  }

  /// The cotangent of kept weights u from that of u / max(sum u, eps):
  /// (g - [sum u > eps] sum_j g_j y_j) / max(sum u, eps), y what came out.
  static Value unnormalize(ImplicitLocOpBuilder &b, LimitCapacityOp limit,
                           Value cotangent) {
    Value ids = limit.getKeptIds(), weights = limit.getWeights();
    Value kept = limit.getKeptWeights();
    double eps = limit.getNormalize()->convertToDouble();
    Value sums = mapSlots(
        b, {ids, weights}, weights,
        [](ImplicitLocOpBuilder &nested, ValueRange in) {
          return keep(nested, in[0], in[1]);
        },
        /*isSum=*/true);
    Value dots = mapSlots(
        b, {kept, cotangent}, weights,
        [](ImplicitLocOpBuilder &nested, ValueRange in) -> Value {
          return arith::MulFOp::create(nested, in[0], in[1]);
        },
        /*isSum=*/true);
    return mapSlots(b, {cotangent, sums, dots}, weights,
                    [&](ImplicitLocOpBuilder &nested, ValueRange in) -> Value {
                      Value least = emitSplat(nested, in[1], eps);
                      Value divisor =
                          arith::MaximumFOp::create(nested, in[1], least);
                      Value isSum = arith::CmpFOp::create(
                          nested, arith::CmpFPredicate::OGT, in[1], least);
                      Value dot = arith::SelectOp::create(
                          nested, isSum, in[2], emitSplat(nested, in[2], 0.0));
                      Value rest = arith::SubFOp::create(nested, in[0], dot);
                      return arith::DivFOp::create(nested, rest, divisor);
                    });
  }
};

} // namespace

void moe::registerRoutingGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    GateOp::attachInterface<GateModel>(*context);
    ScoreOp::attachInterface<ScoreModel>(*context);
    RouteOp::attachInterface<RouteModel>(*context);
    LimitCapacityOp::attachInterface<LimitCapacityModel>(*context);
  });
}
