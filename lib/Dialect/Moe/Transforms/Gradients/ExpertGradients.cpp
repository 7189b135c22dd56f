//===- ExpertGradients.cpp - Backwards of experts, dispatch, combine ------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A combine of an expert function's rows goes backward together with it, so
// that no row of the experts' output is needed. With g the cotangent of the
// combine, h the hidden row and w the weight of an assignment, and
// v = down^T g (one product, whose epilogue does the rest of this line),
//   dh = w v, dw = <h, v>, and (dgate, dup) from dh by the activation;
//   ddown = sum of (w h) x g, dup's weight = sum of dup x x, likewise the gate,
//   dx = sum over the token's assignments of gate^T dgate + up^T dup.
// Rows of g and x are gathered where they are read.
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/GroupedProduct.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// The backward of one moe.experts.
class ExpertsBackward {
public:
  ExpertsBackward(ImplicitLocOpBuilder &b, ExpertsOp op, Cotangents &cotangents)
      : b(b), op(op), cotangents(cotangents), offsets(op.getOffsets()),
        input{op.getRows(), {}} {}

  ImplicitLocOpBuilder &b;
  ExpertsOp op;
  Cotangents &cotangents;
  Value offsets;
  OuterSide output;  ///< The cotangent of the result.
  OuterSide input;   ///< What the op reads.
  Value weight;      ///< Of the cotangent's rows [N]; null: 1.
  Value inputWeight; ///< Of the input's rows [N]; null: 1.

  /// Everything but the gradient of the input.
  LogicalResult run(bool wantsDots);
  /// The cotangents of the op's rows [N, D].
  Value emitRows();
  /// With `wantsDots`, terms [N, I] whose sums are <output, result> of each
  /// row, less the part of the down bias.
  Value dots;

private:
  bool isUpOutIn() {
    return op.getLayout().getOrientation() == Orientation::out_in;
  }
  bool isDownOutIn() { return op.getLayout().getDown() == Orientation::out_in; }
  bool wants(ValueRange values) {
    return llvm::any_of(
        values, [&](Value value) { return cotangents.isActive(value); });
  }
  OpFoldResult getNumRows() {
    Value rows = input.numbers ? input.numbers : input.rows;
    return tensor::getMixedSize(b, b.getLoc(), rows, 0);
  }
  SmallVector<Value> getUpViews() {
    return viewUp(b, op, unshard(b, op, Projection::up), /*isBias=*/false);
  }
  SmallVector<Value> getGiven();
  LogicalResult emitHidden(bool wantsDots);
  void addDown();
  void addUp();
  void addUpBias();
  void addTensors(Projection projection, ValueRange tensors,
                  llvm::function_ref<Value(size_t side, Value dest)> emit);
  Value emitOnes();

  SmallVector<Value> sides;  ///< Cotangents of gate and up [N, I].
  SmallVector<Value> scaled; ///< The same times the input's weights.
  Value hidden;              ///< Hidden rows times `weight`.
};

/// What the activation was given: kept by the forward, or computed again.
SmallVector<Value> ExpertsBackward::getGiven() {
  if (!op.getKept().empty())
    return llvm::to_vector_of<Value>(op.getKept());
  GroupedProduct up;
  up.lhs = {input.rows};
  up.rows = input.numbers;
  up.rowScale = inputWeight;
  up.offsets = offsets;
  up.weights = getUpViews();
  up.biases =
      viewUp(b, op, unshard(b, op, Projection::up_bias), /*isBias=*/true);
  up.inOut = !isUpOutIn();
  up.numRows = getNumRows();
  size_t numSides = up.weights.size();
  SmallVector<Type> elements(numSides, typeOf(op.getRows()).getElementType());
  return emitGroupedProduct(
      b, up, elements, [&](ImplicitLocOpBuilder &nested, ValueRange args) {
        SmallVector<Value> values(args.take_front(numSides));
        for (auto [value, bias] : llvm::zip(values, args.drop_front(numSides)))
          value = arith::AddFOp::create(nested, value, bias);
        return values;
      });
}

LogicalResult ExpertsBackward::emitHidden(bool wantsDots) {
  GroupedProduct product;
  product.lhs = {output.rows};
  product.rows = output.numbers;
  product.offsets = offsets;
  product.weights = {viewDown(b, op)};
  product.inOut = isDownOutIn();
  product.elements = getGiven();
  if (weight)
    product.rowValues.push_back(weight);
  if (inputWeight)
    product.rowValues.push_back(inputWeight);
  product.numRows = getNumRows();
  size_t numSides = product.elements.size();
  Type element = typeOf(op.getRows()).getElementType();
  SmallVector<Type> elements(1 + numSides * (inputWeight ? 2 : 1), element);
  if (wantsDots)
    elements.push_back(getWidestType(b, {output.rows, op.getRows()}));

  LogicalResult status = success();
  SmallVector<Value> results = emitGroupedProduct(
      b, product, elements, [&](ImplicitLocOpBuilder &nested, ValueRange args) {
        auto times = [&](Value x, Value y) -> Value {
          return y ? arith::MulFOp::create(nested, x, y).getResult() : x;
        };
        Value raw = args[0], gate = args[1];
        Value up = numSides > 1 ? args[2] : Value();
        ValueRange rowValues = args.drop_front(1 + numSides);
        Value own = weight ? rowValues.front() : Value();
        Value value = op.getActivation().buildActivation(nested, gate, up);
        auto pulled = op.getActivation().buildActivationVJP(nested, gate, up,
                                                            times(raw, own));
        SmallVector<Value> values = {times(value, own)};
        if (failed(pulled)) {
          status = failure();
          values.resize(elements.size(), value);
          return values;
        }
        values.push_back(pulled->first);
        if (up)
          values.push_back(pulled->second);
        if (inputWeight)
          for (size_t side = 0; side < numSides; ++side)
            values.push_back(times(values[1 + side], rowValues.back()));
        if (wantsDots)
          values.push_back(times(raw, value));
        return values;
      });
  hidden = results[0];
  sides = llvm::to_vector(ArrayRef(results).slice(1, numSides));
  scaled = sides;
  if (inputWeight)
    scaled = llvm::to_vector(ArrayRef(results).slice(1 + numSides, numSides));
  if (wantsDots)
    dots = results.back();
  return status;
}

/// A column of ones [N, 1].
Value ExpertsBackward::emitOnes() {
  Value list = emitNew(b, getNumRows(), typeOf(hidden).getElementType());
  return asColumn(b, emitSplat(b, list, 1.0));
}

void ExpertsBackward::addDown() {
  if (cotangents.isActive(op.getDown())) {
    RankedTensorType type = typeOf(op.getDown());
    RankedTensorType whole = typeOf(viewDown(b, op));
    Value dest = tensor::EmptyOp::create(b, whole, ValueRange());
    OuterSide inner{hidden, {}};
    Value gradient = isDownOutIn() ? emitOuter(b, output, inner, offsets, dest)
                                   : emitOuter(b, inner, output, offsets, dest);
    if (type.getRank() == 2)
      gradient = joinFirstTwo(b, gradient);
    cotangents.add(b, op.getDown(), gradient);
  }
  if (Value bias = op.getDownBias(); bias && cotangents.isActive(bias)) {
    RankedTensorType type = typeOf(bias);
    Value dest = tensor::EmptyOp::create(
        b, ArrayRef<int64_t>{type.getDimSize(0), 1, type.getDimSize(1)},
        type.getElementType());
    OuterSide ones{weight ? asColumn(b, weight) : emitOnes(), {}};
    cotangents.add(b, bias,
                   joinFirstTwo(b, emitOuter(b, ones, output, offsets, dest)));
  }
}

/// Adds the gradients of up weights or biases: `emit` fills the part of one
/// side, which is a view of the op's own tensor in the layout with one shard.
void ExpertsBackward::addTensors(
    Projection projection, ValueRange tensors,
    llvm::function_ref<Value(size_t side, Value dest)> emit) {
  if (!wants(tensors))
    return;
  bool isBias = projection == Projection::up_bias;
  LayoutAttr layout = op.getLayout();
  int64_t width = op.getIntermediateSize();
  SmallVector<Value> gradients;
  for (auto [place, tensor] : llvm::enumerate(tensors)) {
    RankedTensorType type = typeOf(tensor);
    SmallVector<int64_t> shape(type.getShape());
    bool isFolded = !isBias && type.getRank() == 2;
    if (isFolded)
      shape = {op.getNumExperts(), shape[0] / op.getNumExperts(), shape[1]};
    Value whole = tensor::EmptyOp::create(b, shape, type.getElementType());
    if (!op.getGated() || !layout.isFused()) {
      whole = emit(place, whole);
    } else {
      int64_t axis = isBias || isUpOutIn() ? 1 : 2;
      bool interleaved = layout.getPairing() == Pairing::interleaved;
      int64_t gateSide = layout.getOrder() == PairOrder::gate_up ? 0 : 1;
      for (int64_t side : {0, 1}) {
        int64_t half = side == 0 ? gateSide : 1 - gateSide;
        SmallVector<OpFoldResult> starts(shape.size(), b.getIndexAttr(0));
        SmallVector<OpFoldResult> strides(shape.size(), b.getIndexAttr(1));
        SmallVector<OpFoldResult> sizes =
            getAsIndexOpFoldResult(b.getContext(), shape);
        starts[axis] = b.getIndexAttr(interleaved ? half : half * width);
        strides[axis] = b.getIndexAttr(interleaved ? 2 : 1);
        sizes[axis] = b.getIndexAttr(width);
        Value part =
            tensor::ExtractSliceOp::create(b, whole, starts, sizes, strides);
        part = emit(side, part);
        whole = tensor::InsertSliceOp::create(b, part, whole, starts, sizes,
                                              strides);
      }
    }
    gradients.push_back(isFolded ? joinFirstTwo(b, whole) : whole);
  }
  if (op.getGated() && layout.getShards() > 1) {
    auto back = RelayoutOp::create(b, tensors.getTypes(), projection, gradients,
                                   op.getNumExperts(), op.getGated(),
                                   withOneShard(layout), layout);
    gradients = llvm::to_vector_of<Value>(back.getResults());
  }
  for (auto [tensor, gradient] : llvm::zip(tensors, gradients))
    cotangents.add(b, tensor, gradient);
}

void ExpertsBackward::addUp() {
  addTensors(Projection::up, op.getUp(), [&](size_t side, Value dest) {
    OuterSide own{scaled[side], {}};
    return isUpOutIn() ? emitOuter(b, own, input, offsets, dest)
                       : emitOuter(b, input, own, offsets, dest);
  });
}

void ExpertsBackward::addUpBias() {
  addTensors(Projection::up_bias, op.getUpBias(), [&](size_t side, Value dest) {
    RankedTensorType type = typeOf(dest);
    Value sums = tensor::EmptyOp::create(
        b, ArrayRef<int64_t>{type.getDimSize(0), 1, type.getDimSize(1)},
        type.getElementType());
    sums = emitOuter(b, {emitOnes(), {}}, {sides[side], {}}, offsets, sums);
    return joinFirstTwo(b, sums);
  });
}

LogicalResult ExpertsBackward::run(bool wantsDots) {
  if (failed(emitHidden(wantsDots)))
    return failure();
  addDown();
  addUp();
  addUpBias();
  return success();
}

Value ExpertsBackward::emitRows() {
  GroupedProduct product;
  product.lhs = sides;
  product.offsets = offsets;
  product.weights = getUpViews();
  product.inOut = isUpOutIn();
  product.numRows = getNumRows();
  return emitGroupedProduct(b, product, typeOf(op.getRows()).getElementType(),
                            [&](ImplicitLocOpBuilder &nested, ValueRange sums) {
                              if (sums.size() == 1)
                                return SmallVector<Value>{sums[0]};
                              return SmallVector<Value>{arith::AddFOp::create(
                                  nested, sums[0], sums[1])};
                            })[0];
}

//===----------------------------------------------------------------------===//
// moe.experts alone
//===----------------------------------------------------------------------===//

struct ExpertsModel
    : public DifferentiableOpInterface::ExternalModel<ExpertsModel, ExpertsOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto experts = cast<ExpertsOp>(op);
    if (llvm::any_of(experts.getKept(),
                     [&](Value kept) { return cotangents.of(kept); }))
      return op->emitOpError("has no backward through results that are kept");
    ExpertsBackward backward(b, experts, cotangents);
    backward.output = {cotangents.of(experts.getOutput()), {}};
    if (failed(backward.run(/*wantsDots=*/false)))
      return failure();
    if (cotangents.isActive(experts.getRows()))
      cotangents.add(b, experts.getRows(), backward.emitRows());
    return success();
  }
  /// Its output has as many rows as there are assignments, and is never kept.
  Residual getResidual(Operation *, unsigned result) const {
    return result == 0 ? Residual::recomputed : Residual::saved;
  }
};

//===----------------------------------------------------------------------===//
// moe.dispatch
//===----------------------------------------------------------------------===//

/// T as moe.combine wants it: only where experts chose and T is not known.
Value getNumTokens(ImplicitLocOpBuilder &b, Choice choice, Value tokens) {
  if (choice == Choice::token || !typeOf(tokens).isDynamicDim(0))
    return {};
  return b.createOrFold<tensor::DimOp>(tokens, 0);
}

struct DispatchModel
    : public DifferentiableOpInterface::ExternalModel<DispatchModel,
                                                      DispatchOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    auto dispatch = cast<DispatchOp>(op);
    Value rows = cotangents.of(dispatch.getRows());
    Value input = dispatch.getInput(), weights = dispatch.getWeights();
    if (cotangents.isActive(input)) {
      auto combine = CombineOp::create(
          b, input.getType(), rows, dispatch.getIds(), weights,
          /*identity=*/Value(), /*residual=*/Value(), /*bias=*/Value(),
          getNumTokens(b, dispatch.getChoice(), input),
          dispatch.getNumExperts(), dispatch.getChoice(), APFloat(1.0),
          /*average=*/false);
      cotangents.add(b, input, combine);
    }
    if (weights && cotangents.isActive(weights))
      cotangents.add(b, weights,
                     SlotDotsOp::create(
                         b, weights.getType(), rows, dispatch.getIds(), input,
                         /*identity=*/Value(), /*num_tokens=*/Value(),
                         dispatch.getNumExperts(), dispatch.getChoice()));
    return success();
  }
  Residual getResidual(Operation *, unsigned) const {
    return Residual::recomputed;
  }
};

//===----------------------------------------------------------------------===//
// moe.combine
//===----------------------------------------------------------------------===//

class CombineBackward {
public:
  CombineBackward(ImplicitLocOpBuilder &b, CombineOp op, Cotangents &cotangents)
      : b(b), op(op), cotangents(cotangents) {}

  LogicalResult run();

private:
  bool wants(Value value) { return value && cotangents.isActive(value); }
  void addIdentity();
  void addAlone();
  LogicalResult addThroughExperts(ExpertsOp experts, DispatchOp dispatch);
  Value emitBiasDots(ExpertsOp experts);
  Value emitIdentityDots();
  Value addDots(Value dots, Value more);
  Value emitPicked(Value matrix, bool isIdentity);

  ImplicitLocOpBuilder &b;
  CombineOp op;
  Cotangents &cotangents;
  Value sum; ///< The cotangent of the sum over slots.
};

/// identity[t] has the weights of the token's identity slots.
void CombineBackward::addIdentity() {
  if (!wants(op.getIdentity()))
    return;
  FloatType compute = getWidestType(b, {sum});
  Value list = emitZeros(
      b,
      emitNew(b, tensor::getMixedSize(b, b.getLoc(), op.getIds(), 0), compute));
  AffineMap both = b.getMultiDimIdentityMap(2), first = both.getSubMap({0});
  SmallVector<Value> inputs = {op.getIds()};
  SmallVector<AffineMap> maps = {both};
  if (op.getWeights()) {
    inputs.push_back(op.getWeights());
    maps.push_back(both);
  }
  maps.push_back(first);
  int64_t numExperts = op.getNumExperts();
  SmallVector<utils::IteratorType> sumOverSlots = {
      utils::IteratorType::parallel, utils::IteratorType::reduction};
  Value weights =
      linalg::GenericOp::create(
          b, list.getType(), inputs, list, maps, sumOverSlots,
          [&](OpBuilder &builder, Location loc, ValueRange args) {
            ImplicitLocOpBuilder nested(loc, builder);
            Value bound = arith::ConstantOp::create(
                nested, nested.getI32IntegerAttr(numExperts));
            Value isIdentity = arith::CmpIOp::create(
                nested, arith::CmpIPredicate::sge, args[0], bound);
            Value weight = op.getWeights()
                               ? convertElements(nested, args[1], compute)
                               : emitSplat(nested, args.back(), 1.0);
            Value none = emitSplat(nested, args.back(), 0.0);
            Value term =
                arith::SelectOp::create(nested, isIdentity, weight, none);
            Value total = arith::AddFOp::create(nested, args.back(), term);
            linalg::YieldOp::create(nested, total);
          })
          .getResult(0);
  SmallVector<OpFoldResult> sizes =
      tensor::getMixedSizes(b, b.getLoc(), op.getIdentity());
  Value dest = emitNew(b, sizes, typeOf(op.getIdentity()).getElementType());
  SmallVector<utils::IteratorType> all(2, utils::IteratorType::parallel);
  Value gradient =
      linalg::GenericOp::create(
          b, dest.getType(), ValueRange{sum, weights}, dest,
          ArrayRef<AffineMap>{both, first, both}, all,
          [&](OpBuilder &builder, Location loc, ValueRange args) {
            ImplicitLocOpBuilder nested(loc, builder);
            Value value = convertElements(nested, args[0], compute);
            Value product = arith::MulFOp::create(nested, value, args[1]);
            linalg::YieldOp::create(
                nested,
                convertElements(nested, product, args.back().getType()));
          })
          .getResult(0);
  cotangents.add(b, op.getIdentity(), gradient);
}

/// From rows that something else than experts made.
void CombineBackward::addAlone() {
  if (wants(op.getRows())) {
    SmallVector<int64_t> numOffsets = {
        static_cast<int64_t>(op.getNumExperts()) + 1};
    auto rowsType = typeOf(op.getRows()).clone(typeOf(sum).getElementType());
    auto dispatch = DispatchOp::create(
        b,
        TypeRange{rowsType, RankedTensorType::get(numOffsets, b.getI32Type())},
        sum, op.getIds(), op.getWeights(), op.getNumExperts(), op.getChoice());
    cotangents.add(b, op.getRows(), dispatch.getRows());
  }
  if (wants(op.getWeights()))
    cotangents.add(b, op.getWeights(),
                   SlotDotsOp::create(b, op.getWeights().getType(),
                                      op.getRows(), op.getIds(), sum,
                                      op.getIdentity(),
                                      /*num_tokens=*/Value(),
                                      op.getNumExperts(), op.getChoice()));
}

/// An element of a matrix for every slot: matrix[t, e] for an assignment of
/// token t to expert e, or matrix[t, 0] for slots of identity experts; 0 for
/// the others.
Value CombineBackward::emitPicked(Value matrix, bool isIdentity) {
  bool byToken = op.getChoice() == Choice::token;
  Value dest = emitNew(b, tensor::getMixedSizes(b, b.getLoc(), op.getIds()),
                       typeOf(matrix).getElementType());
  AffineMap both = b.getMultiDimIdentityMap(2);
  SmallVector<utils::IteratorType> all(2, utils::IteratorType::parallel);
  Value tokens = b.createOrFold<tensor::DimOp>(matrix, 0);
  int64_t numExperts = op.getNumExperts();
  return linalg::GenericOp::create(
             b, dest.getType(), op.getIds(), dest,
             ArrayRef<AffineMap>{both, both}, all,
             [&](OpBuilder &builder, Location loc, ValueRange args) {
               ImplicitLocOpBuilder nested(loc, builder);
               auto compare = [&](arith::CmpIPredicate predicate,
                                  Value bound) -> Value {
                 return arith::CmpIOp::create(nested, predicate, args[0],
                                              bound);
               };
               auto number = [&](int64_t value) -> Value {
                 return arith::ConstantOp::create(
                     nested, nested.getI32IntegerAttr(value));
               };
               Value bound = byToken ? number(numExperts)
                                     : arith::IndexCastOp::create(
                                           nested, nested.getI32Type(), tokens)
                                           .getResult();
               Value isValid =
                   isIdentity
                       ? compare(arith::CmpIPredicate::sge, bound)
                       : arith::AndIOp::create(
                             nested,
                             compare(arith::CmpIPredicate::sge, number(0)),
                             compare(arith::CmpIPredicate::slt, bound))
                             .getResult();
               Value id =
                   arith::SelectOp::create(nested, isValid, args[0], number(0));
               if (isIdentity)
                 id = number(0);
               id = arith::IndexCastOp::create(nested, nested.getIndexType(),
                                               id);
               Value own = linalg::IndexOp::create(nested, 0);
               SmallVector<Value> at = {own, id};
               if (!byToken)
                 at = {id, own};
               Value value = tensor::ExtractOp::create(nested, matrix, at);
               Value none = emitSplat(nested, value, 0.0);
               Value picked =
                   arith::SelectOp::create(nested, isValid, value, none);
               linalg::YieldOp::create(nested, picked);
             })
      .getResult(0);
}

/// <g_t, bias_e> for every assignment.
Value CombineBackward::emitBiasDots(ExpertsOp experts) {
  Value bias = experts.getDownBias();
  auto type = RankedTensorType::get(
      {typeOf(sum).getDimSize(0), typeOf(bias).getDimSize(0)},
      getWidestType(b, {sum, bias}));
  Value products = GateOp::create(b, type, sum, bias, /*bias=*/Value());
  return emitPicked(products, /*isIdentity=*/false);
}

/// <g_t, identity_t> for every slot of an identity expert.
Value CombineBackward::emitIdentityDots() {
  FloatType compute = getWidestType(b, {sum, op.getIdentity()});
  Value list = emitZeros(
      b, emitNew(b, tensor::getMixedSize(b, b.getLoc(), sum, 0), compute));
  AffineMap both = b.getMultiDimIdentityMap(2), first = both.getSubMap({0});
  SmallVector<utils::IteratorType> iterators = {utils::IteratorType::parallel,
                                                utils::IteratorType::reduction};
  Value products = linalg::GenericOp::create(
                       b, list.getType(), ValueRange{sum, op.getIdentity()},
                       list, ArrayRef<AffineMap>{both, both, first}, iterators,
                       [&](OpBuilder &builder, Location loc, ValueRange args) {
                         ImplicitLocOpBuilder nested(loc, builder);
                         Value product = arith::MulFOp::create(
                             nested, convertElements(nested, args[0], compute),
                             convertElements(nested, args[1], compute));
                         Value total =
                             arith::AddFOp::create(nested, args[2], product);
                         linalg::YieldOp::create(nested, total);
                       })
                       .getResult(0);
  return emitPicked(asColumn(b, products), /*isIdentity=*/true);
}

/// A sum, in the type of the first.
Value CombineBackward::addDots(Value dots, Value more) {
  more = convertElements(b, more, typeOf(dots).getElementType());
  if (more.getType() != dots.getType())
    more = tensor::CastOp::create(b, dots.getType(), more);
  return arith::AddFOp::create(b, dots, more);
}

LogicalResult CombineBackward::addThroughExperts(ExpertsOp experts,
                                                 DispatchOp dispatch) {
  Value ids = op.getIds(), weights = op.getWeights();
  Value inputWeights = dispatch.getWeights();
  OpFoldResult tokens = tensor::getMixedSize(b, b.getLoc(), sum, 0);
  GroupOp group = emitGroup(b, ids, weights ? weights : inputWeights,
                            op.getNumExperts(), op.getChoice(), tokens);
  Value token = group.getResult(1);
  ExpertsBackward backward(b, experts, cotangents);
  backward.offsets = group.getResult(0);
  backward.output = {sum, token};
  backward.input = {dispatch.getInput(), token};
  if (weights)
    backward.weight = group.getResult(4);
  if (inputWeights) {
    GroupOp own = group;
    if (weights)
      own = emitGroup(b, ids, inputWeights, op.getNumExperts(), op.getChoice(),
                      tokens);
    backward.inputWeight = own.getResult(4);
  }
  bool wantsDots = weights && wants(weights);
  if (failed(backward.run(wantsDots)))
    return failure();
  if (wantsDots) {
    Value numTokens;
    if (op.getChoice() == Choice::expert)
      numTokens = getValueOrCreateConstantIndexOp(b, b.getLoc(), tokens);
    Value dots = SlotDotsOp::create(
        b, weights.getType(), backward.dots, ids, /*tokens=*/Value(),
        /*identity=*/Value(), numTokens, op.getNumExperts(), op.getChoice());
    if (experts.getDownBias())
      dots = addDots(dots, emitBiasDots(experts));
    if (op.getIdentity())
      dots = addDots(dots, emitIdentityDots());
    cotangents.add(b, weights, dots);
  }
  bool wantsInput = wants(dispatch.getInput());
  bool wantsInputWeights = wants(inputWeights);
  if (!wantsInput && !wantsInputWeights)
    return success();
  Value rows = backward.emitRows();
  if (wantsInputWeights)
    cotangents.add(b, inputWeights,
                   SlotDotsOp::create(b, inputWeights.getType(), rows, ids,
                                      dispatch.getInput(), /*identity=*/Value(),
                                      /*num_tokens=*/Value(),
                                      op.getNumExperts(), op.getChoice()));
  if (wantsInput) {
    RankedTensorType type = typeOf(dispatch.getInput());
    Value dest =
        emitNew(b, tensor::getMixedSizes(b, b.getLoc(), dispatch.getInput()),
                type.getElementType());
    auto combined = CombineSlotsOp::create(
        b, TypeRange{dest.getType()}, rows, group.getResult(2),
        group.getResult(3), backward.inputWeight, /*identity_weight=*/Value(),
        /*identity=*/Value(), /*residual=*/Value(), /*bias=*/Value(),
        ValueRange{dest}, APFloat(1.0), /*average=*/false);
    cotangents.add(b, dispatch.getInput(), combined.getResult(0));
  }
  return success();
}

LogicalResult CombineBackward::run() {
  Value cotangent = cotangents.of(op.getOutput());
  cotangent = emitTimes(b, cotangent, op.getAverage() ? 0.5 : 1.0);
  if (wants(op.getResidual()))
    cotangents.add(b, op.getResidual(), cotangent);
  if (wants(op.getBias()))
    cotangents.add(b, op.getBias(), emitColumnSums(b, cotangent));
  sum = emitTimes(b, cotangent, op.getScale().convertToDouble());
  addIdentity();

  auto experts = op.getRows().getDefiningOp<ExpertsOp>();
  auto dispatch =
      experts ? experts.getRows().getDefiningOp<DispatchOp>() : DispatchOp();
  // The backward of the combine alone reads its rows; with the experts in front
  // it does not, but only if the rows are theirs alone to explain.
  if (dispatch && experts.getOutput().hasOneUse() &&
      dispatch.getRows().hasOneUse() && experts.getOffsets() &&
      experts.getOffsets() == dispatch.getOffsets() &&
      dispatch.getIds() == op.getIds() &&
      dispatch.getNumExperts() == op.getNumExperts() &&
      dispatch.getChoice() == op.getChoice())
    return addThroughExperts(experts, dispatch);
  addAlone();
  return success();
}

struct CombineModel
    : public DifferentiableOpInterface::ExternalModel<CombineModel, CombineOp> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    return CombineBackward(b, cast<CombineOp>(op), cotangents).run();
  }
};

} // namespace

void moe::registerExpertGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    ExpertsOp::attachInterface<ExpertsModel>(*context);
    DispatchOp::attachInterface<DispatchModel>(*context);
    CombineOp::attachInterface<CombineModel>(*context);
  });
}
