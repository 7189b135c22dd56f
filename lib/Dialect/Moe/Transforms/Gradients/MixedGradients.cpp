//===- MixedGradients.cpp - Backwards beyond a token ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Expert choice, soft slots and mixes: ops in which a token reads others.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

struct RouteExpertsModel
    : public DifferentiableOpInterface::ExternalModel<RouteExpertsModel,
                                                      RouteExpertsOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto route = cast<RouteExpertsOp>(op);
    auto router = dyn_cast<ExpertChoiceAttr>(route.getRouter());
    if (!router)
      return op->emitOpError("has a router without a backward: ")
             << route.getRouter();
    if (router.getWeights() != ChoiceWeights::scores)
      return op->emitOpError("has no backward where the weights are the capped "
                             "assignment: weights = scores has one");
    cotangents.add(b, route.getLogits(),
                   RouteExpertsVJPOp::create(
                       b, route.getLogits().getType(), route.getLogits(),
                       route.getIds(), cotangents.of(route.getWeights()),
                       route.getTokenMask(), route.getGroupOffsets(),
                       route.getRouter()));
    return success();
  }
};

struct RouteSlotsModel
    : public DifferentiableOpInterface::ExternalModel<RouteSlotsModel,
                                                      RouteSlotsOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto route = cast<RouteSlotsOp>(op);
    Value dDispatch = cotangents.ofOrZero(b, route.getDispatch());
    Value dCombine = cotangents.ofOrZero(b, route.getCombine());
    cotangents.add(b, route.getLogits(),
                   RouteSlotsVJPOp::create(
                       b, route.getLogits().getType(), route.getDispatch(),
                       route.getCombine(), dDispatch, dCombine,
                       route.getTokenMask(), route.getGroupOffsets()));
    return success();
  }
};

/// A dispatch's backward is a combine by the same weights, and the other way
/// round.
struct SoftDispatchModel
    : public DifferentiableOpInterface::ExternalModel<SoftDispatchModel,
                                                      SoftDispatchOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto dispatch = cast<SoftDispatchOp>(op);
    Value given = cotangents.of(dispatch.getRows());
    Value input = dispatch.getInput(), weights = dispatch.getDispatch();
    Value groups = dispatch.getGroupOffsets();
    if (cotangents.isActive(input))
      cotangents.add(b, input,
                     SoftCombineOp::create(b, input.getType(), given, weights,
                                           groups, dispatch.getNumExperts()));
    if (cotangents.isActive(weights))
      cotangents.add(b, weights,
                     SoftDotsOp::create(b, weights.getType(), input, given,
                                        groups, dispatch.getNumExperts()));
    return success();
  }
};

struct SoftCombineModel
    : public DifferentiableOpInterface::ExternalModel<SoftCombineModel,
                                                      SoftCombineOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto combine = cast<SoftCombineOp>(op);
    Value given = cotangents.of(combine.getOutput());
    Value rows = combine.getRows(), weights = combine.getCombine();
    Value groups = combine.getGroupOffsets();
    auto numExperts = static_cast<int64_t>(combine.getNumExperts());
    if (cotangents.isActive(rows)) {
      auto offsets = RankedTensorType::get({numExperts + 1}, b.getI32Type());
      auto dispatch = SoftDispatchOp::create(b, rows.getType(), offsets, given,
                                             weights, groups, numExperts);
      cotangents.add(b, rows, dispatch.getRows());
    }
    if (cotangents.isActive(weights))
      cotangents.add(b, weights,
                     SoftDotsOp::create(b, weights.getType(), given, rows,
                                        groups, numExperts));
    return success();
  }
};

struct MixModel
    : public DifferentiableOpInterface::ExternalModel<MixModel, MixOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto mix = cast<MixOp>(op);
    if (mix.getFirstToken())
      return op->emitOpError("has no backward with 'from'");
    Value given = cotangents.of(mix.getMixed());
    Value values = mix.getValues(), query = mix.getQuery(), key = mix.getKey();
    Value posterior = mix.getPosterior();
    Type wide = getWidestType(b, {query, key, values, posterior, given});
    auto perHead =
        RankedTensorType::get({mix.getQuery().getType().getDimSize(0),
                               static_cast<int64_t>(mix.getHeads())},
                              wide);
    auto byQuery = MixQueryVJPOp::create(
        b, query.getType(), perHead, perHead, values, given, query, key,
        posterior, mix.getTokenMask(), mix.getGroupOffsets(),
        /*first_token=*/Value(), mix.getHeadsAttr(), mix.getScaleAttr(),
        mix.getCausalAttr());
    cotangents.add(b, query, byQuery.getGradient());
    if (posterior)
      cotangents.add(b, posterior, byQuery.getDots());
    if (!cotangents.isActive(key) && !cotangents.isActive(values))
      return success();
    auto byKey = MixKeyVJPOp::create(
        b, key.getType(), values.getType(), values, given, query, key,
        byQuery.getDots(), byQuery.getLogSums(), posterior, mix.getTokenMask(),
        mix.getGroupOffsets(), /*first_token=*/Value(), mix.getHeadsAttr(),
        mix.getScaleAttr(), mix.getCausalAttr());
    cotangents.add(b, key, byKey.getDKey());
    cotangents.add(b, values, byKey.getDValues());
    return success();
  }
};

struct MixMatrixModel
    : public DifferentiableOpInterface::ExternalModel<MixMatrixModel,
                                                      MixMatrixOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto mix = cast<MixMatrixOp>(op);
    Value given = cotangents.of(mix.getMixed());
    Value values = mix.getValues(), matrices = mix.getMatrices();
    Value posterior = mix.getPosterior();
    RankedTensorType type = mix.getMatrices().getType();
    auto dots = RankedTensorType::get(
        {type.getDimSize(1), type.getDimSize(0)},
        getWidestType(b, {matrices, values, posterior, given}));
    auto vjp = MixMatrixVJPOp::create(b, values.getType(), type, dots, values,
                                      matrices, given, posterior,
                                      mix.getTokenMask(), mix.getGroupOffsets(),
                                      mix.getFirstToken(), mix.getCausalAttr());
    cotangents.add(b, values, vjp.getDValues());
    cotangents.add(b, matrices, vjp.getDMatrices());
    if (posterior)
      cotangents.add(b, posterior, vjp.getDots());
    return success();
  }
};

} // namespace

void moe::registerMixedGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    RouteExpertsOp::attachInterface<RouteExpertsModel>(*context);
    RouteSlotsOp::attachInterface<RouteSlotsModel>(*context);
    SoftDispatchOp::attachInterface<SoftDispatchModel>(*context);
    SoftCombineOp::attachInterface<SoftCombineModel>(*context);
    MixOp::attachInterface<MixModel>(*context);
    MixMatrixOp::attachInterface<MixMatrixModel>(*context);
  });
}
