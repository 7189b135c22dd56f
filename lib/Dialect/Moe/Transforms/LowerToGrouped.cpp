//===- LowerToGrouped.cpp - Layer ops as grouped primitives ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GateProduct.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Dominance.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Dialect/Moe/Utils/GroupedProduct.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOWERTOGROUPEDPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// A value of a type that may know more sizes.
Value castTo(ImplicitLocOpBuilder &b, Value value, RankedTensorType type) {
  if (value.getType() == type)
    return value;
  return tensor::CastOp::create(b, type, value);
}

/// The sum of one accumulator and its bias, where there is one.
SmallVector<Value> addBias(ImplicitLocOpBuilder &b, ValueRange values) {
  if (values.size() == 1)
    return values;
  return {arith::AddFOp::create(b, values[0], values[1])};
}

/// Lowers the ops of one function. Dispatch, experts and combine of one routing
/// share its grouping.
class GroupedLowering {
public:
  GroupedLowering(FunctionOpInterface function, bool panels)
      : function(function), panels(panels), dominance(function) {}

  LogicalResult run();
  int64_t numGathersFused = 0;

private:
  void lowerGate(GateOp op);
  void lowerExperts(ExpertsOp op);
  void lowerDispatch(DispatchOp op);
  void lowerCombine(CombineOp op);
  GroupOp getGroup(Operation *user, Value ids, Value weights,
                   int64_t numExperts, Choice choice, OpFoldResult tokens);
  Value findSharedWeights(Operation *user, Value ids, int64_t numExperts);
  GroupOp getDispatchGroup(DispatchOp op);

  FunctionOpInterface function;
  bool panels;
  DominanceInfo dominance;
  SmallVector<GroupOp> groups;
};

void GroupedLowering::lowerGate(GateOp op) {
  if (Value logits = panels ? emitTiledGate(op) : Value()) {
    op.replaceAllUsesWith(logits);
    op.erase();
    return;
  }
  ImplicitLocOpBuilder b(op.getLoc(), op);
  GroupedProduct product;
  product.lhs = {op.getInput()};
  product.weights = {addLeadingOne(b, op.getWeight())};
  if (op.getBias())
    product.biases = {addLeadingOne(b, op.getBias())};
  product.numRows = tensor::getMixedSize(b, op.getLoc(), op.getInput(), 0);
  RankedTensorType type = op.getLogits().getType();
  Value logits =
      emitGroupedProduct(b, product, type.getElementType(), addBias)[0];
  op.replaceAllUsesWith(castTo(b, logits, type));
  op.erase();
}

/// Weights of a combine of the same routing that a group made for `user` can
/// carry, so that one grouping serves both.
Value GroupedLowering::findSharedWeights(Operation *user, Value ids,
                                         int64_t numExperts) {
  for (Operation *other : ids.getUsers()) {
    auto combine = dyn_cast<CombineOp>(other);
    if (combine && combine.getIds() == ids && combine.getWeights() &&
        static_cast<int64_t>(combine.getNumExperts()) == numExperts &&
        dominance.properlyDominates(combine.getWeights(), user))
      return combine.getWeights();
  }
  return {};
}

GroupOp GroupedLowering::getGroup(Operation *user, Value ids, Value weights,
                                  int64_t numExperts, Choice choice,
                                  OpFoldResult tokens) {
  for (GroupOp group : groups)
    if (group.getIds() == ids && group.getNumExperts() == numExperts &&
        (!weights || group.getWeights() == weights) &&
        dominance.properlyDominates(group.getOperation(), user))
      return group;
  if (!weights)
    weights = findSharedWeights(user, ids, numExperts);

  ImplicitLocOpBuilder b(user->getLoc(), user);
  GroupOp group = emitGroup(b, ids, weights, numExperts, choice, tokens);
  groups.push_back(group);
  return group;
}

GroupOp GroupedLowering::getDispatchGroup(DispatchOp op) {
  ImplicitLocOpBuilder b(op.getLoc(), op);
  OpFoldResult tokens = tensor::getMixedSize(
      b, op.getLoc(),
      op.getChoice() == Choice::token ? op.getIds() : op.getInput(), 0);
  return getGroup(op, op.getIds(), op.getWeights(), op.getNumExperts(),
                  op.getChoice(), tokens);
}

void GroupedLowering::lowerExperts(ExpertsOp op) {
  ImplicitLocOpBuilder b(op.getLoc(), op);
  GroupedProduct up;
  up.lhs = {op.getRows()};
  up.offsets = op.getOffsets();
  up.inOut = op.getLayout().getOrientation() == Orientation::in_out;
  auto dispatch = op.getRows().getDefiningOp<DispatchOp>();
  if (dispatch && dispatch.getOffsets() == op.getOffsets()) {
    GroupOp group = getDispatchGroup(dispatch);
    b.setInsertionPoint(op);
    up.lhs = {dispatch.getInput()};
    up.rows = group.getResult(1);
    up.offsets = group.getResult(0);
    if (dispatch.getWeights())
      up.rowScale = group.getResult(4);
    up.numRows = tensor::getMixedSize(b, op.getLoc(), up.rows, 0);
    ++numGathersFused;
  } else {
    up.numRows = tensor::getMixedSize(b, op.getLoc(), op.getRows(), 0);
  }
  // Other layouts than shards are views and need no copy.
  SmallVector<Value> weights = unshard(b, op, Projection::up);
  SmallVector<Value> biases = unshard(b, op, Projection::up_bias);
  up.weights = viewUp(b, op, weights, /*isBias=*/false);
  up.biases = viewUp(b, op, biases, /*isBias=*/true);
  size_t numSides = up.weights.size();
  SmallVector<Type> elements = {typeOf(op.getRows()).getElementType()};
  for (Value kept : op.getKept())
    elements.push_back(typeOf(kept).getElementType());
  ActivationAttrInterface activation = op.getActivation();
  SmallVector<Value> hidden = emitGroupedProduct(
      b, up, elements, [&](ImplicitLocOpBuilder &nested, ValueRange args) {
        SmallVector<Value> sides;
        for (size_t i = 0; i < numSides; ++i) {
          SmallVector<Value> parts = {args[i]};
          if (args.size() > numSides)
            parts.push_back(args[numSides + i]);
          sides.push_back(addBias(nested, parts)[0]);
        }
        Value value = activation.buildActivation(
            nested, sides[0], numSides > 1 ? sides[1] : Value());
        SmallVector<Value> values = {value};
        if (!op.getKept().empty())
          llvm::append_range(values, sides);
        return values;
      });

  GroupedProduct down;
  down.lhs = {hidden[0]};
  down.offsets = up.offsets;
  down.weights = {viewDown(b, op)};
  if (op.getDownBias())
    down.biases = {op.getDownBias()};
  down.inOut = op.getLayout().getDown() == Orientation::in_out;
  down.numRows = up.numRows;
  SmallVector<Value> results = emitGroupedProduct(
      b, down, op.getOutput().getType().getElementType(), addBias);
  llvm::append_range(results, ArrayRef(hidden).drop_front());
  for (auto [result, value] : llvm::zip(op->getResults(), results))
    result.replaceAllUsesWith(
        castTo(b, value, cast<RankedTensorType>(result.getType())));
  op.erase();
}

/// Rows that another op than experts reads are copied.
Value emitGather(ImplicitLocOpBuilder &b, DispatchOp op, GroupOp group) {
  RankedTensorType type = op.getRows().getType();
  Value count = tensor::ExtractOp::create(
      b, group.getResult(0),
      ValueRange{arith::ConstantIndexOp::create(b, group.getNumExperts())});
  SmallVector<Value> inputs = {group.getResult(1)};
  SmallVector<AffineMap> maps = {AffineMap::get(2, 0, b.getAffineDimExpr(0))};
  if (op.getWeights()) {
    inputs.push_back(group.getResult(4));
    maps.push_back(maps.front());
  }
  maps.push_back(b.getMultiDimIdentityMap(2));
  Value init = tensor::EmptyOp::create(
      b,
      ArrayRef<OpFoldResult>{
          tensor::getMixedSize(b, b.getLoc(), group.getResult(1), 0),
          b.getIndexAttr(type.getDimSize(1))},
      type.getElementType());
  SmallVector<utils::IteratorType> iterators(2, utils::IteratorType::parallel);
  auto gather = linalg::GenericOp::create(
      b, init.getType(), inputs, init, maps, iterators,
      [&](OpBuilder &builder, Location loc, ValueRange args) {
        ImplicitLocOpBuilder nested(loc, builder);
        // Rows past the last assignment have no token; they read the first.
        Value row = linalg::IndexOp::create(nested, 0);
        Value column = linalg::IndexOp::create(nested, 1);
        Value rowId =
            arith::IndexCastOp::create(nested, nested.getI32Type(), row);
        Value isUsed = arith::CmpIOp::create(nested, arith::CmpIPredicate::slt,
                                             rowId, count);
        Value first =
            arith::ConstantOp::create(nested, nested.getI32IntegerAttr(0));
        Value token = arith::SelectOp::create(nested, isUsed, args[0], first);
        Value source =
            arith::IndexCastOp::create(nested, nested.getIndexType(), token);
        Value value = tensor::ExtractOp::create(nested, op.getInput(),
                                                ValueRange{source, column});
        if (op.getWeights()) {
          FloatType wide = value.getType().isF64() ? nested.getF64Type()
                                                   : nested.getF32Type();
          auto widen = [&](Value narrow) -> Value {
            if (narrow.getType() == wide)
              return narrow;
            return arith::ExtFOp::create(nested, wide, narrow);
          };
          Value product =
              arith::MulFOp::create(nested, widen(value), widen(args[1]));
          value =
              value.getType() == wide
                  ? product
                  : arith::TruncFOp::create(nested, value.getType(), product)
                        .getResult();
        }
        linalg::YieldOp::create(nested, value);
      });
  return castTo(b, gather.getResult(0), type);
}

void GroupedLowering::lowerDispatch(DispatchOp op) {
  GroupOp group = getDispatchGroup(op);
  op.getOffsets().replaceAllUsesWith(group.getResult(0));
  // A size of the rows is no reason to copy them.
  for (Operation *user : llvm::make_early_inc_range(op.getRows().getUsers())) {
    auto dim = dyn_cast<tensor::DimOp>(user);
    if (!dim || dim.getConstantIndex() != 0)
      continue;
    dim.getSourceMutable().assign(group.getResult(1));
  }
  if (!op.getRows().use_empty()) {
    ImplicitLocOpBuilder b(op.getLoc(), op);
    op.getRows().replaceAllUsesWith(emitGather(b, op, group));
  }
  op.erase();
}

/// Per token, the sum of the weights of its identity slots, in slot order.
Value emitIdentityWeight(ImplicitLocOpBuilder &b, CombineOp op) {
  Value tokens = b.createOrFold<tensor::DimOp>(op.getIds(), 0);
  FloatType type = op.getOutput().getType().getElementType().isF64()
                       ? b.getF64Type()
                       : b.getF32Type();
  Value empty = tensor::EmptyOp::create(
      b, ArrayRef<OpFoldResult>{getAsOpFoldResult(tokens)}, type);
  Value zero = arith::ConstantOp::create(b, b.getFloatAttr(type, 0.0));
  Value init = linalg::FillOp::create(b, zero, empty).getResult(0);
  SmallVector<Value> inputs = {op.getIds()};
  SmallVector<AffineMap> maps = {b.getMultiDimIdentityMap(2)};
  if (op.getWeights()) {
    inputs.push_back(op.getWeights());
    maps.push_back(maps.front());
  }
  maps.push_back(AffineMap::get(2, 0, b.getAffineDimExpr(0)));
  SmallVector<utils::IteratorType> iterators = {utils::IteratorType::parallel,
                                                utils::IteratorType::reduction};
  int64_t numExperts = op.getNumExperts();
  return linalg::GenericOp::create(
             b, init.getType(), inputs, init, maps, iterators,
             [&](OpBuilder &builder, Location loc, ValueRange args) {
               ImplicitLocOpBuilder nested(loc, builder);
               Value limit = arith::ConstantOp::create(
                   nested, nested.getI32IntegerAttr(numExperts));
               Value isIdentity = arith::CmpIOp::create(
                   nested, arith::CmpIPredicate::sge, args[0], limit);
               Value weight = op.getWeights()
                                  ? args[1]
                                  : arith::ConstantOp::create(
                                        nested, nested.getFloatAttr(type, 1.0))
                                        .getResult();
               unsigned width = weight.getType().getIntOrFloatBitWidth();
               if (width < type.getWidth())
                 weight = arith::ExtFOp::create(nested, type, weight);
               else if (width > type.getWidth())
                 weight = arith::TruncFOp::create(nested, type, weight);
               Value none = arith::ConstantOp::create(
                   nested, nested.getFloatAttr(type, 0.0));
               Value term =
                   arith::SelectOp::create(nested, isIdentity, weight, none);
               Value sum = arith::AddFOp::create(nested, args.back(), term);
               linalg::YieldOp::create(nested, sum);
             })
      .getResult(0);
}

void GroupedLowering::lowerCombine(CombineOp op) {
  ImplicitLocOpBuilder b(op.getLoc(), op);
  RankedTensorType type = op.getOutput().getType();
  OpFoldResult tokens;
  if (!type.isDynamicDim(0))
    tokens = b.getIndexAttr(type.getDimSize(0));
  else if (op.getNumTokens())
    tokens = op.getNumTokens();
  else
    tokens = tensor::getMixedSize(b, op.getLoc(), op.getIds(), 0);
  GroupOp group = getGroup(op, op.getIds(), op.getWeights(), op.getNumExperts(),
                           op.getChoice(), tokens);
  b.setInsertionPoint(op);
  Value identityWeight = op.getIdentity() ? emitIdentityWeight(b, op) : Value();
  Value init = tensor::EmptyOp::create(
      b, ArrayRef<OpFoldResult>{tokens, b.getIndexAttr(type.getDimSize(1))},
      type.getElementType());
  auto combined = CombineSlotsOp::create(
      b, TypeRange{init.getType()}, op.getRows(), group.getResult(2),
      group.getResult(3), op.getWeights() ? group.getResult(4) : Value(),
      identityWeight, op.getIdentity(), op.getResidual(), op.getBias(),
      ValueRange{init}, op.getScaleAttr(), op.getAverageAttr());
  op.replaceAllUsesWith(castTo(b, combined.getResult(0), type));
  op.erase();
}

template <typename OpTy>
SmallVector<OpTy> collect(FunctionOpInterface function) {
  SmallVector<OpTy> ops;
  function->walk([&](OpTy op) { ops.push_back(op); });
  return ops;
}

LogicalResult GroupedLowering::run() {
  for (GateOp op : collect<GateOp>(function))
    lowerGate(op);
  for (ExpertsOp op : collect<ExpertsOp>(function))
    lowerExperts(op);
  for (DispatchOp op : collect<DispatchOp>(function))
    lowerDispatch(op);
  for (CombineOp op : collect<CombineOp>(function))
    lowerCombine(op);
  return success();
}

struct MoeLowerToGrouped
    : public moe::impl::MoeLowerToGroupedPassBase<MoeLowerToGrouped> {
  using MoeLowerToGroupedPassBase::MoeLowerToGroupedPassBase;

  void runOnOperation() override {
    GroupedLowering lowering(getOperation(), panels);
    if (failed(lowering.run()))
      return signalPassFailure();
    numGathersFused += lowering.numGathersFused;
  }
};

} // namespace
