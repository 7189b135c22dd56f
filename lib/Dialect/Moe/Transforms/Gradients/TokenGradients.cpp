//===- TokenGradients.cpp - Backwards of rows and of subsets --------------===//
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

using namespace mlir;
using namespace mlir::moe;

namespace {

RankedTensorType typeWith(Value value, Type element) {
  return cast<RankedTensorType>(value.getType()).clone(element);
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

/// The same factors, drawn again.
struct JitterModel
    : public DifferentiableOpInterface::ExternalModel<JitterModel, JitterOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto jitter = cast<JitterOp>(op);
    Value input = jitter.getInput();
    Value gradient = JitterOp::create(
        b, input.getType(), cotangents.of(jitter.getOutput()), jitter.getSeed(),
        jitter.getLayer(), jitter.getFirstToken(), jitter.getEpsAttr());
    cotangents.add(b, input, gradient);
    return success();
  }
  /// As large as the tokens, and cheap.
  Residual getResidual(Operation *, unsigned) const {
    return Residual::recomputed;
  }
};

struct UnitRowsModel
    : public DifferentiableOpInterface::ExternalModel<UnitRowsModel,
                                                      UnitRowsOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto unit = cast<UnitRowsOp>(op);
    Value rows = unit.getRows(), scale = unit.getScale();
    Value cotangent = cotangents.of(unit.getUnit());
    SmallVector<Type> types = {rows.getType()};
    if (scale)
      types.push_back(
          RankedTensorType::get({unit.getRows().getType().getDimSize(0), 1},
                                getWidestType(b, {rows, cotangent})));
    auto vjp = UnitRowsVJPOp::create(b, types, rows, cotangent, scale,
                                     unit.getModeAttr(), unit.getEpsAttr());
    cotangents.add(b, rows, vjp.getGradients()[0]);
    if (scale && cotangents.isActive(scale)) {
      Value sum = emitColumnSums(b, vjp.getGradients()[1]);
      Type element = getElementTypeOrSelf(sum.getType());
      cotangents.add(b, scale,
                     tensor::CollapseShapeOp::create(
                         b, RankedTensorType::get({}, element), sum,
                         ArrayRef<ReassociationIndices>()));
    }
    return success();
  }
  /// As large as the tokens, and cheap.
  Residual getResidual(Operation *, unsigned) const {
    return Residual::recomputed;
  }
};

//===----------------------------------------------------------------------===//
// Subsets
//===----------------------------------------------------------------------===//

struct SubsetPartitionModel
    : public DifferentiableOpInterface::ExternalModel<SubsetPartitionModel,
                                                      SubsetPartitionOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto subset = cast<SubsetPartitionOp>(op);
    Value logits = subset.getLogits();
    Value gradient = SubsetPartitionVJPOp::create(
        b, logits.getType(), logits, cotangents.of(subset.getLogPartition()),
        subset.getMinAttr(), subset.getMaxAttr());
    cotangents.add(b, logits, gradient);
    return success();
  }
};

/// The Jacobian of marginals is the covariance, which is symmetric.
struct SubsetMarginalsModel
    : public DifferentiableOpInterface::ExternalModel<SubsetMarginalsModel,
                                                      SubsetMarginalsOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto subset = cast<SubsetMarginalsOp>(op);
    Value logits = subset.getLogits();
    Value gradient = SubsetCovarianceOp::create(
        b, logits.getType(), logits, cotangents.of(subset.getMarginals()),
        subset.getMinAttr(), subset.getMaxAttr());
    cotangents.add(b, logits, gradient);
    return success();
  }
};

/// log Z - m r has the gradient m - m - Cov(z) r, as Cov(z) is dm / dr.
struct SubsetEntropyModel
    : public DifferentiableOpInterface::ExternalModel<SubsetEntropyModel,
                                                      SubsetEntropyOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto subset = cast<SubsetEntropyOp>(op);
    Value logits = subset.getLogits();
    Value cotangent = cotangents.of(subset.getEntropy());
    FloatType compute = getWidestType(b, {logits, cotangent});
    Value wide = convertElements(b, logits, compute);
    Value direction =
        mapSlots(b, {wide, cotangent}, wide,
                 [&](ImplicitLocOpBuilder &nested, ValueRange in) -> Value {
                   // An expert that is never taken: 0 times -inf.
                   Value isNone = arith::CmpFOp::create(
                       nested, arith::CmpFPredicate::OEQ, in[0],
                       emitSplat(nested, in[0],
                                 -std::numeric_limits<double>::infinity()));
                   Value logit = arith::SelectOp::create(
                       nested, isNone, emitSplat(nested, in[0], 0.0), in[0]);
                   Value own = convertElements(nested, in[1], compute);
                   return arith::MulFOp::create(
                       nested, logit, arith::NegFOp::create(nested, own));
                 });
    Value gradient =
        SubsetCovarianceOp::create(b, logits.getType(), logits, direction,
                                   subset.getMinAttr(), subset.getMaxAttr());
    cotangents.add(b, logits, gradient);
    return success();
  }
};

/// The indicator of the subset less the marginals. What is -inf has none.
struct SubsetLogProbModel
    : public DifferentiableOpInterface::ExternalModel<SubsetLogProbModel,
                                                      SubsetLogProbOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto subset = cast<SubsetLogProbOp>(op);
    Value logits = subset.getLogits();
    Value cotangent = cotangents.of(subset.getLogProb());
    FloatType compute = getWidestType(b, {logits, cotangent});
    RankedTensorType type = typeWith(logits, compute);
    Value margins = SubsetMarginalsOp::create(
        b, type, logits, subset.getMinAttr(), subset.getMaxAttr());
    Value members = emitMembers(b, subset.getIds(), margins);
    Value gradient = mapSlots(
        b, {members, margins, cotangent, subset.getLogProb()}, margins,
        [&](ImplicitLocOpBuilder &nested, ValueRange in) -> Value {
          Value isNone = arith::CmpFOp::create(
              nested, arith::CmpFPredicate::OEQ, in[3],
              emitSplat(nested, in[3],
                        -std::numeric_limits<double>::infinity()));
          Value own = convertElements(nested, in[2], compute);
          Value slope = arith::MulFOp::create(
              nested, own, arith::SubFOp::create(nested, in[0], in[1]));
          return arith::SelectOp::create(nested, isNone,
                                         emitSplat(nested, slope, 0.0), slope);
        });
    cotangents.add(b, logits, gradient);
    return success();
  }

private:
  /// How many of the ids of a token name each expert, in the shape of `like`.
  static Value emitMembers(ImplicitLocOpBuilder &b, Value ids, Value like) {
    auto type = cast<RankedTensorType>(like.getType());
    Value dest =
        emitZeros(b, emitNew(b, tensor::getMixedSizes(b, b.getLoc(), like),
                             type.getElementType()));
    AffineMap all = b.getMultiDimIdentityMap(3);
    SmallVector<AffineMap> maps = {all.getSubMap({0, 2}),
                                   all.getSubMap({0, 1})};
    SmallVector<utils::IteratorType> iterators = {
        utils::IteratorType::parallel, utils::IteratorType::parallel,
        utils::IteratorType::reduction};
    return linalg::GenericOp::create(
               b, dest.getType(), ids, dest, maps, iterators,
               [&](OpBuilder &builder, Location loc, ValueRange args) {
                 ImplicitLocOpBuilder nested(loc, builder);
                 Value expert = linalg::IndexOp::create(nested, 1);
                 Value number = arith::IndexCastOp::create(
                     nested, nested.getI32Type(), expert);
                 Value isOwn = arith::CmpIOp::create(
                     nested, arith::CmpIPredicate::eq, args[0], number);
                 Value one = arith::SelectOp::create(
                     nested, isOwn, emitSplat(nested, args[1], 1.0),
                     emitSplat(nested, args[1], 0.0));
                 Value sum = arith::AddFOp::create(nested, args[1], one);
                 linalg::YieldOp::create(nested, sum);
               })
        .getResult(0);
  }
};

} // namespace

void moe::registerTokenGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    JitterOp::attachInterface<JitterModel>(*context);
    UnitRowsOp::attachInterface<UnitRowsModel>(*context);
    SubsetPartitionOp::attachInterface<SubsetPartitionModel>(*context);
    SubsetMarginalsOp::attachInterface<SubsetMarginalsModel>(*context);
    SubsetEntropyOp::attachInterface<SubsetEntropyModel>(*context);
    SubsetLogProbOp::attachInterface<SubsetLogProbModel>(*context);
  });
}
