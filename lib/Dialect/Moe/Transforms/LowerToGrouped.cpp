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

/// A tensor with a leading axis of size 1.
Value withLeadingOne(ImplicitLocOpBuilder &b, Value value) {
  RankedTensorType type = typeOf(value);
  SmallVector<int64_t> shape = {1};
  llvm::append_range(shape, type.getShape());
  SmallVector<ReassociationIndices> groups = {{0, 1}};
  for (int64_t dim = 1; dim < type.getRank(); ++dim)
    groups.push_back({dim + 1});
  return tensor::ExpandShapeOp::create(
      b, RankedTensorType::get(shape, type.getElementType()), value, groups);
}

/// Emits a grouped product; `emitEpilogue` maps accumulators and biases to the
/// result.
struct ProductSpec {
  Value lhs, rows, rowScale, offsets;
  SmallVector<Value> weights, biases;
  bool inOut = false;
};

Value emitProduct(ImplicitLocOpBuilder &b, const ProductSpec &spec,
                  RankedTensorType type, OpFoldResult numRows,
                  llvm::function_ref<Value(ImplicitLocOpBuilder &, ValueRange)>
                      emitEpilogue) {
  Value init = tensor::EmptyOp::create(
      b, ArrayRef<OpFoldResult>{numRows, b.getIndexAttr(type.getDimSize(1))},
      type.getElementType());
  auto op = GroupedMatmulOp::create(
      b, TypeRange{init.getType()}, spec.lhs, spec.rows, spec.rowScale,
      spec.offsets, spec.weights, spec.biases, ValueRange{init}, spec.inOut);
  OpBuilder::InsertionGuard guard(b);
  Block *body = b.createBlock(&op.getEpilogue());
  FloatType compute = op.getComputeType();
  for (size_t i = 0, e = spec.weights.size() + spec.biases.size(); i < e; ++i)
    body->addArgument(compute, op.getLoc());
  b.setInsertionPointToEnd(body);
  YieldOp::create(b, emitEpilogue(b, body->getArguments()));
  Value result = op.getResult(0);
  if (result.getType() == type)
    return result;
  b.setInsertionPointAfter(op);
  return tensor::CastOp::create(b, type, result);
}

/// The sum of one accumulator and its bias, where there is one.
Value addBias(ImplicitLocOpBuilder &b, ValueRange values) {
  return values.size() == 1
             ? values[0]
             : arith::AddFOp::create(b, values[0], values[1]).getResult();
}

/// Lowers the ops of one function. Dispatch, experts and combine of one routing
/// share its grouping.
class GroupedLowering {
public:
  GroupedLowering(FunctionOpInterface function)
      : function(function), dominance(function) {}

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
  SmallVector<Value> viewUp(ImplicitLocOpBuilder &b, ExpertsOp op,
                            ValueRange tensors, bool isBias);
  Value viewDown(ImplicitLocOpBuilder &b, ExpertsOp op);

  FunctionOpInterface function;
  DominanceInfo dominance;
  SmallVector<GroupOp> groups;
};

void GroupedLowering::lowerGate(GateOp op) {
  if (Value logits = emitTiledGate(op)) {
    op.replaceAllUsesWith(logits);
    op.erase();
    return;
  }
  ImplicitLocOpBuilder b(op.getLoc(), op);
  ProductSpec spec;
  spec.lhs = op.getInput();
  spec.weights = {withLeadingOne(b, op.getWeight())};
  if (op.getBias())
    spec.biases = {withLeadingOne(b, op.getBias())};
  Value logits =
      emitProduct(b, spec, op.getLogits().getType(),
                  tensor::getMixedSize(b, op.getLoc(), op.getInput(), 0),
                  [](ImplicitLocOpBuilder &nested, ValueRange args) {
                    return addBias(nested, args);
                  });
  op.replaceAllUsesWith(logits);
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
  AffineExpr s0 = b.getAffineSymbolExpr(0), s1 = b.getAffineSymbolExpr(1);
  OpFoldResult capacity = affine::makeComposedFoldedAffineApply(
      b, b.getLoc(), AffineMap::get(0, 2, s0 * s1),
      {tensor::getMixedSize(b, b.getLoc(), ids, 0),
       tensor::getMixedSize(b, b.getLoc(), ids, 1)});
  OpFoldResult ends = affine::makeComposedFoldedAffineApply(
      b, b.getLoc(), AffineMap::get(0, 1, s0 + 1), {tokens});
  auto list = [&](OpFoldResult size, Type element) -> Value {
    return tensor::EmptyOp::create(b, ArrayRef<OpFoldResult>{size}, element);
  };
  Type i32 = b.getI32Type();
  SmallVector<Value> inits = {list(b.getIndexAttr(numExperts + 1), i32),
                              list(capacity, i32), list(ends, i32),
                              list(capacity, i32)};
  if (weights)
    inits.push_back(list(capacity, typeOf(weights).getElementType()));
  auto group = GroupOp::create(b, ValueRange(inits).getTypes(), ids, weights,
                               inits, choice);
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

/// One to two views [E, out, in] (or [E, in, out]; [E, out] for biases): the
/// gate's and the up projection's part of each tensor.
SmallVector<Value> GroupedLowering::viewUp(ImplicitLocOpBuilder &b,
                                           ExpertsOp op, ValueRange tensors,
                                           bool isBias) {
  LayoutAttr layout = op.getLayout();
  int64_t numExperts = op.getNumExperts(), width = op.getIntermediateSize();
  SmallVector<Value> views;
  for (Value tensor : tensors) {
    RankedTensorType type = typeOf(tensor);
    if (!isBias && type.getRank() == 2) {
      SmallVector<int64_t> shape = {numExperts, type.getDimSize(0) / numExperts,
                                    type.getDimSize(1)};
      tensor = tensor::ExpandShapeOp::create(
          b, RankedTensorType::get(shape, type.getElementType()), tensor,
          ArrayRef<ReassociationIndices>{{0, 1}, {2}});
    }
    views.push_back(tensor);
  }
  if (!op.getGated() || !layout.isFused() || views.empty())
    return views;

  Value fused = views.front();
  RankedTensorType type = typeOf(fused);
  int64_t axis =
      isBias || layout.getOrientation() == Orientation::out_in ? 1 : 2;
  auto slice = [&](int64_t side) -> Value {
    SmallVector<OpFoldResult> offsets(type.getRank(), b.getIndexAttr(0));
    SmallVector<OpFoldResult> strides(type.getRank(), b.getIndexAttr(1));
    SmallVector<OpFoldResult> sizes;
    for (int64_t size : type.getShape())
      sizes.push_back(b.getIndexAttr(size));
    bool interleaved = layout.getPairing() == Pairing::interleaved;
    offsets[axis] = b.getIndexAttr(interleaved ? side : side * width);
    strides[axis] = b.getIndexAttr(interleaved ? 2 : 1);
    sizes[axis] = b.getIndexAttr(width);
    return tensor::ExtractSliceOp::create(b, fused, offsets, sizes, strides);
  };
  int64_t gateSide = layout.getOrder() == PairOrder::gate_up ? 0 : 1;
  return {slice(gateSide), slice(1 - gateSide)};
}

Value GroupedLowering::viewDown(ImplicitLocOpBuilder &b, ExpertsOp op) {
  RankedTensorType type = typeOf(op.getDown());
  if (type.getRank() == 3)
    return op.getDown();
  int64_t numExperts = op.getNumExperts();
  return tensor::ExpandShapeOp::create(
      b,
      RankedTensorType::get(
          {numExperts, type.getDimSize(0) / numExperts, type.getDimSize(1)},
          type.getElementType()),
      op.getDown(), ArrayRef<ReassociationIndices>{{0, 1}, {2}});
}

/// The same op with its up weights and biases in one shard; other layouts are
/// views and need no copy.
ExpertsOp withOneShard(ExpertsOp op) {
  LayoutAttr from = op.getLayout();
  if (from.getShards() == 1 || !op.getGated())
    return op;
  ImplicitLocOpBuilder b(op.getLoc(), op);
  auto to = LayoutAttr::get(op.getContext(), from.getOrientation(),
                            from.getDown(), from.getPairing(), from.getOrder(),
                            from.getExpertAxis(), /*shards=*/1);
  auto relayout = [&](Projection projection, OperandRange tensors) {
    if (tensors.empty())
      return;
    auto converted =
        RelayoutOp::create(b, tensors.getTypes(), projection, tensors,
                           op.getNumExperts(), op.getGated(), from, to);
    for (auto [index, result] : llvm::enumerate(converted.getResults()))
      op->setOperand(tensors.getBeginOperandIndex() + index, result);
  };
  relayout(Projection::up, op.getUp());
  relayout(Projection::up_bias, op.getUpBias());
  op.setLayoutAttr(to);
  return op;
}

void GroupedLowering::lowerExperts(ExpertsOp op) {
  op = withOneShard(op);
  ImplicitLocOpBuilder b(op.getLoc(), op);
  ProductSpec up;
  up.lhs = op.getRows();
  up.offsets = op.getOffsets();
  up.inOut = op.getLayout().getOrientation() == Orientation::in_out;
  OpFoldResult numRows;
  auto dispatch = op.getRows().getDefiningOp<DispatchOp>();
  if (dispatch && dispatch.getOffsets() == op.getOffsets()) {
    GroupOp group = getDispatchGroup(dispatch);
    b.setInsertionPoint(op);
    up.lhs = dispatch.getInput();
    up.rows = group.getResult(1);
    up.offsets = group.getResult(0);
    if (dispatch.getWeights())
      up.rowScale = group.getResult(4);
    numRows = tensor::getMixedSize(b, op.getLoc(), up.rows, 0);
    ++numGathersFused;
  } else {
    numRows = tensor::getMixedSize(b, op.getLoc(), op.getRows(), 0);
  }
  up.weights = viewUp(b, op, op.getUp(), /*isBias=*/false);
  up.biases = viewUp(b, op, op.getUpBias(), /*isBias=*/true);
  int64_t numWeights = up.weights.size();
  auto hiddenType = RankedTensorType::get(
      {op.getOutput().getType().getDimSize(0), op.getIntermediateSize()},
      typeOf(op.getRows()).getElementType());
  ActivationAttrInterface activation = op.getActivation();
  Value hidden =
      emitProduct(b, up, hiddenType, numRows,
                  [&](ImplicitLocOpBuilder &nested, ValueRange args) {
                    SmallVector<Value> sides;
                    for (int64_t i = 0; i < numWeights; ++i) {
                      SmallVector<Value> parts = {args[i]};
                      if (static_cast<int64_t>(args.size()) > numWeights)
                        parts.push_back(args[numWeights + i]);
                      sides.push_back(addBias(nested, parts));
                    }
                    return activation.buildActivation(
                        nested, sides[0], numWeights > 1 ? sides[1] : Value());
                  });

  ProductSpec down;
  down.lhs = hidden;
  down.offsets = up.offsets;
  down.weights = {viewDown(b, op)};
  if (op.getDownBias())
    down.biases = {op.getDownBias()};
  down.inOut = op.getLayout().getDown() == Orientation::in_out;
  Value output = emitProduct(b, down, op.getOutput().getType(), numRows,
                             [](ImplicitLocOpBuilder &nested, ValueRange args) {
                               return addBias(nested, args);
                             });
  op.replaceAllUsesWith(output);
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
  Value rows = gather.getResult(0);
  return rows.getType() == type
             ? rows
             : tensor::CastOp::create(b, type, rows).getResult();
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
  Value output = combined.getResult(0);
  if (output.getType() != type)
    output = tensor::CastOp::create(b, type, output);
  op.replaceAllUsesWith(output);
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
  void runOnOperation() override {
    GroupedLowering lowering(getOperation());
    if (failed(lowering.run()))
      return signalPassFailure();
    numGathersFused += lowering.numGathersFused;
  }
};

} // namespace
