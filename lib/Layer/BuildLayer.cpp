//===- BuildLayer.cpp - From a layer's keys to its function ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Utils/StructuredOpsUtils.h"
#include "moe/Layer/LayerSpec.h"
#include "llvm/ADT/StringMap.h"

#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

namespace {
/// Ids and weights of a routing, [T, k] or, where experts choose, [E, C].
struct Routing {
  Value ids;
  Value weights;
};

/// Builds one layer. The parts are emitted in the order of the data.
class LayerBuilder {
public:
  LayerBuilder(ImplicitLocOpBuilder &builder, const LayerSpec &spec)
      : b(builder), spec(spec),
        tokens(spec.tokens ? spec.tokens : ShapedType::kDynamic),
        xType(getType(spec.xDtype)),
        fineType(spec.xDtype == DType::f64 ? b.getF64Type() : b.getF32Type()),
        sumType(
            llvm::is_contained(
                {spec.xDtype, spec.routerDtype, spec.weightDtype}, DType::f64)
                ? b.getF64Type()
                : b.getF32Type()) {}

  void build(ModuleOp module);

private:
  // The function's face.
  void addOperand(StringRef name, ArrayRef<int64_t> shape, Type element,
                  LayoutAttr layoutAttr = {});
  void addOperands();
  void addExpertOperands();
  void addResult(func::FuncOp function, SmallVectorImpl<Value> &values,
                 StringRef name, Value value);
  ArrayAttr nameDims(StringRef name, RankedTensorType type);
  func::FuncOp createFunction();

  // Settings as attributes.
  FloatType getType(DType dtype);
  APFloat number(double value) { return APFloat(value); }
  TopKAttr getTopK();
  CapacityAttr getCapacity();
  LayoutAttr getLayout(Pairing pairing);
  LayoutAttr getSharedLayout(ExpertAxis axis);
  ActivationAttr getActivation();

  // Upstream ops.
  using Body = llvm::function_ref<Value(ValueRange)>;
  OpFoldResult getTokens();
  Value createEmpty(ArrayRef<int64_t> shape, Type element);
  Value createZeros(ArrayRef<int64_t> shape, Type element);
  Value map(ArrayRef<int64_t> shape, Type element, ValueRange inputs,
            ArrayRef<AffineMap> maps, Body body);
  Value widen(Value scalar);
  Value narrow(Value scalar, Type type);
  Value constant(double value);
  Value project(Value rows, Value weight);
  Value round(Value rows);

  // The layer.
  Value buildRouterInput();
  Routing buildTokenChoice(Value logits);
  Routing buildExpertChoice(Value logits);
  Routing buildRouting();
  Value buildCombineWeights(const Routing &routing);
  Value buildExperts(Value rows, Value offsets);
  Value buildShared();
  Value buildCombine(Value rows, const Routing &routing, Value residual);
  Value buildLatentOut(Value combined, Value residual);
  Value buildOutputBias();
  Value buildLoads(Value offsets);

  Value operand(StringRef name) const { return operands.lookup(name); }
  int64_t getRows(Value ids);

  ImplicitLocOpBuilder &b;
  const LayerSpec &spec;
  const int64_t tokens;
  FloatType xType;
  /// Of the operands that stay exact whatever the others are stored in.
  FloatType fineType;
  /// Of the sums of a phase, until its one rounding.
  FloatType sumType;

  SmallVector<Type> operandTypes;
  SmallVector<DictionaryAttr> operandAttrs;
  SmallVector<std::string> operandNames;
  llvm::StringMap<Value> operands;
  OpFoldResult numTokens;
};
} // namespace

//===----------------------------------------------------------------------===//
// Settings as attributes
//===----------------------------------------------------------------------===//

FloatType LayerBuilder::getType(DType dtype) {
  switch (dtype) {
  case DType::f32:
    return b.getF32Type();
  case DType::bf16:
    return b.getBF16Type();
  case DType::f16:
    return b.getF16Type();
  case DType::f64:
    return b.getF64Type();
  }
  llvm_unreachable("all types are covered");
}

TopKAttr LayerBuilder::getTopK() {
  // Groups that are all kept restrict nothing.
  int64_t groups = spec.dropsGroups() ? spec.groups : 1;
  int64_t keptGroups = spec.dropsGroups() ? spec.keptGroups : 1;
  // Scores are computed in the logits' type, f32 at least; only a rounding to
  // a narrower type is one.
  FloatType exact =
      spec.logitDtype == DType::f64 ? b.getF64Type() : b.getF32Type();
  FloatType score = getType(spec.scoreDtype);
  bool rounds = score.getWidth() < exact.getWidth();
  return TopKAttr::get(b.getContext(), spec.topK, spec.score, spec.scoreDomain,
                       number(spec.softcap), groups, keptGroups,
                       spec.groupScore, spec.groupFill, spec.normalize,
                       number(spec.normP), number(spec.eps), spec.epsMode,
                       number(spec.scale), rounds ? score : FloatType());
}

CapacityAttr LayerBuilder::getCapacity() {
  return CapacityAttr::get(b.getContext(), spec.capacityFixed,
                           number(spec.capacityFactor), spec.capacityRounding,
                           spec.capacityPer, spec.capacityMultiple,
                           spec.capacityMin);
}

/// Two tensors have names and no order; a bias that lies beside them has one.
LayoutAttr LayerBuilder::getLayout(Pairing pairing) {
  PairOrder order =
      pairing == Pairing::separate ? PairOrder::gate_up : spec.order;
  return LayoutAttr::get(b.getContext(), spec.orientation, spec.downOrientation,
                         pairing, order, spec.expertAxis,
                         /*shards=*/1);
}

/// A shared expert is stored as a dense MLP is: out by in, gate before up.
LayoutAttr LayerBuilder::getSharedLayout(ExpertAxis axis) {
  return LayoutAttr::get(b.getContext(), Orientation::out_in,
                         Orientation::out_in, Pairing::cat, PairOrder::gate_up,
                         axis, /*shards=*/1);
}

ActivationAttr LayerBuilder::getActivation() {
  return ActivationAttr::get(b.getContext(), spec.activation, spec.actStyle,
                             number(spec.actLimit), number(spec.actAlpha));
}

//===----------------------------------------------------------------------===//
// The function's face
//===----------------------------------------------------------------------===//

/// Names the dynamic dimensions, so that a call's sizes can be checked
/// against each other; null where all are static.
ArrayAttr LayerBuilder::nameDims(StringRef name, RankedTensorType type) {
  if (type.hasStaticShape())
    return {};
  StringRef dynamic = name == "group_offsets"                      ? "G1"
                      : type.getDimSize(0) == ShapedType::kDynamic ? "T"
                                                                   : "C";
  SmallVector<StringRef> dims;
  for (int64_t size : type.getShape())
    dims.push_back(ShapedType::isDynamic(size) ? dynamic : "");
  return b.getStrArrayAttr(dims);
}

void LayerBuilder::addOperand(StringRef name, ArrayRef<int64_t> shape,
                              Type element, LayoutAttr layoutAttr) {
  auto type = RankedTensorType::get(shape, element);
  NamedAttrList attrs;
  attrs.set(kNameAttrName, b.getStringAttr(name));
  if (ArrayAttr dims = nameDims(name, type))
    attrs.set(kDimsAttrName, dims);
  if (layoutAttr)
    attrs.set(kLayoutAttrName, layoutAttr);
  operandTypes.push_back(type);
  operandAttrs.push_back(attrs.getDictionary(b.getContext()));
  operandNames.push_back(name.str());
}

void LayerBuilder::addExpertOperands() {
  Type weight = getType(spec.weightDtype);
  int64_t experts = spec.experts, depth = spec.getExpertWidth();
  int64_t upRows = spec.gated ? 2 * spec.inter : spec.inter;
  LayoutAttr layoutAttr = getLayout(spec.pairing);
  auto add = [&](StringRef name, Projection projection, int64_t out,
                 int64_t in) {
    addOperand(name, layoutAttr.getShape(projection, experts, out, in), weight,
               layoutAttr);
  };
  if (spec.pairing == Pairing::separate) {
    add("gate", Projection::up, spec.inter, depth);
    add("up", Projection::up, spec.inter, depth);
  } else {
    add("gate_up", Projection::up, upRows, depth);
  }
  // Biases of separate weights are still one tensor, one block after the
  // other.
  if (spec.expertBias)
    addOperand("gate_up_bias", {experts, upRows}, weight,
               getLayout(spec.pairing == Pairing::separate ? Pairing::cat
                                                           : spec.pairing));
  add("down", Projection::down, depth, spec.inter);
  if (spec.expertBias)
    addOperand("down_bias", {experts, depth}, weight);
}

void LayerBuilder::addOperands() {
  int64_t hidden = spec.hidden, width = spec.getRouterWidth();
  Type router = getType(spec.routerDtype), weight = getType(spec.weightDtype);
  addOperand("x", {tokens, hidden}, xType);
  addOperand("router_weight", {width, hidden}, router);
  if (spec.routerBias)
    addOperand("router_bias", {width}, router);
  if (spec.routerNorm)
    addOperand("router_scale", {hidden}, router);
  if (spec.selectBias)
    addOperand("selection_bias", {width}, fineType);
  if (spec.expertScale)
    addOperand("expert_scale", {width}, fineType);
  if (spec.indices)
    addOperand("indices", {tokens, spec.topK}, b.getI32Type());
  if (spec.tokenMask)
    addOperand("token_mask", {tokens}, b.getI1Type());
  if (spec.groupOffsets)
    addOperand("group_offsets", {ShapedType::kDynamic}, b.getI32Type());
  addExpertOperands();
  if (int64_t shared = spec.sharedInter) {
    LayoutAttr layoutAttr = getSharedLayout(ExpertAxis::folded);
    addOperand("shared_gate_up", {spec.gated ? 2 * shared : shared, hidden},
               weight, layoutAttr);
    addOperand("shared_down", {hidden, shared}, weight, layoutAttr);
  }
  if (spec.sharedGate)
    addOperand("shared_gate", {1, hidden}, weight);
  if (spec.latent) {
    addOperand("latent_in", {spec.latent, hidden}, weight);
    addOperand("latent_out", {hidden, spec.latent}, weight);
  }
  if (spec.outputBias)
    addOperand("output_bias", {hidden}, weight);
}

func::FuncOp LayerBuilder::createFunction() {
  addOperands();
  auto function = func::FuncOp::create(
      b, spec.name, FunctionType::get(b.getContext(), operandTypes, {}));
  function->setAttr(kEntryAttrName, b.getUnitAttr());
  function.setAllArgAttrs(operandAttrs);
  Block *block = function.addEntryBlock();
  for (auto [name, value] :
       llvm::zip_equal(operandNames, block->getArguments()))
    operands[name] = value;
  b.setInsertionPointToStart(block);
  return function;
}

void LayerBuilder::addResult(func::FuncOp function,
                             SmallVectorImpl<Value> &values, StringRef name,
                             Value value) {
  NamedAttrList attrs;
  attrs.set(kNameAttrName, b.getStringAttr(name));
  auto type = cast<RankedTensorType>(value.getType());
  if (ArrayAttr dims = nameDims(name, type))
    attrs.set(kDimsAttrName, dims);
  (void)function.insertResult(values.size(), type,
                              attrs.getDictionary(b.getContext()));
  values.push_back(value);
}

//===----------------------------------------------------------------------===//
// Upstream ops
//===----------------------------------------------------------------------===//

/// T, read once.
OpFoldResult LayerBuilder::getTokens() {
  if (!numTokens)
    numTokens = tensor::getMixedSize(b, b.getLoc(), operand("x"), 0);
  return numTokens;
}

/// The one dynamic size of the tensors built here is T.
Value LayerBuilder::createEmpty(ArrayRef<int64_t> shape, Type element) {
  SmallVector<OpFoldResult> sizes;
  for (int64_t size : shape)
    sizes.push_back(ShapedType::isDynamic(size)
                        ? getTokens()
                        : OpFoldResult(b.getIndexAttr(size)));
  return tensor::EmptyOp::create(b, sizes, element);
}

Value LayerBuilder::createZeros(ArrayRef<int64_t> shape, Type element) {
  Value zero = arith::ConstantOp::create(b, b.getZeroAttr(element));
  return linalg::FillOp::create(b, zero, createEmpty(shape, element))
      .getResult(0);
}

/// A tensor whose elements are `body` of the inputs' elements under `maps`.
Value LayerBuilder::map(ArrayRef<int64_t> shape, Type element,
                        ValueRange inputs, ArrayRef<AffineMap> maps,
                        Body body) {
  SmallVector<AffineMap> allMaps(maps);
  allMaps.push_back(b.getMultiDimIdentityMap(shape.size()));
  SmallVector<utils::IteratorType> iterators(shape.size(),
                                             utils::IteratorType::parallel);
  return linalg::GenericOp::create(
             b, RankedTensorType::get(shape, element), inputs,
             createEmpty(shape, element), allMaps, iterators,
             [&](OpBuilder &nested, Location, ValueRange scalars) {
               OpBuilder::InsertionGuard guard(b);
               b.setInsertionPointToEnd(nested.getInsertionBlock());
               linalg::YieldOp::create(b, body(scalars.drop_back()));
             })
      .getResult(0);
}

Value LayerBuilder::widen(Value scalar) {
  auto type = cast<FloatType>(scalar.getType());
  if (type.getWidth() < sumType.getWidth())
    return arith::ExtFOp::create(b, sumType, scalar);
  return narrow(scalar, sumType);
}

Value LayerBuilder::narrow(Value scalar, Type type) {
  if (scalar.getType() == type)
    return scalar;
  return arith::TruncFOp::create(b, type, scalar);
}

Value LayerBuilder::constant(double value) {
  return arith::ConstantOp::create(b, b.getFloatAttr(sumType, value));
}

/// rows [T, N] times weight [M, N] transposed: [T, M], not rounded yet.
Value LayerBuilder::project(Value rows, Value weight) {
  int64_t out = cast<RankedTensorType>(weight.getType()).getDimSize(0);
  Value zeros = createZeros({tokens, out}, sumType);
  return linalg::MatmulTransposeBOp::create(
             b, b.getLoc(), TypeRange(zeros.getType()),
             ValueRange{rows, weight}, ValueRange(zeros))
      .getResult(0);
}

/// Sums [T, N] rounded to the type of x.
Value LayerBuilder::round(Value rows) {
  if (xType == sumType)
    return rows;
  AffineMap identity = b.getMultiDimIdentityMap(2);
  return map(cast<RankedTensorType>(rows.getType()).getShape(), xType, rows,
             identity, [&](ValueRange in) { return narrow(in[0], xType); });
}

//===----------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------===//

/// x, or x / sqrt(mean x^2 + eps) * router_scale * H^-1/2, not rounded: it is
/// inside the phase of the logits.
Value LayerBuilder::buildRouterInput() {
  Value x = operand("x");
  if (!spec.routerNorm)
    return x;
  AffineMap identity = b.getMultiDimIdentityMap(2);
  AffineMap perToken = identity.getSubMap({0}),
            perColumn = identity.getSubMap({1});
  Value zeros = createZeros({tokens}, sumType);
  Value squares =
      linalg::GenericOp::create(
          b, zeros.getType(), x, zeros, ArrayRef{identity, perToken},
          ArrayRef{utils::IteratorType::parallel,
                   utils::IteratorType::reduction},
          [&](OpBuilder &nested, Location, ValueRange in) {
            OpBuilder::InsertionGuard guard(b);
            b.setInsertionPointToEnd(nested.getInsertionBlock());
            Value value = widen(in[0]);
            Value square = arith::MulFOp::create(b, value, value);
            linalg::YieldOp::create(
                b, arith::AddFOp::create(b, in[1], square).getResult());
          })
          .getResult(0);
  double hidden = static_cast<double>(spec.hidden);
  constexpr double kEps = 1.0e-6;
  Value factor =
      map({tokens}, sumType, squares, b.getMultiDimIdentityMap(1),
          [&](ValueRange in) -> Value {
            Value mean = arith::DivFOp::create(b, in[0], constant(hidden));
            Value root = math::SqrtOp::create(
                b, arith::AddFOp::create(b, mean, constant(kEps)));
            return arith::DivFOp::create(b, constant(1.0 / std::sqrt(hidden)),
                                         root);
          });
  return map({tokens, spec.hidden}, sumType,
             {x, factor, operand("router_scale")},
             {identity, perToken, perColumn}, [&](ValueRange in) -> Value {
               Value normed = arith::MulFOp::create(b, widen(in[0]), in[1]);
               return arith::MulFOp::create(b, normed, widen(in[2]));
             });
}

Routing LayerBuilder::buildTokenChoice(Value logits) {
  SmallVector<int64_t> shape = {tokens, spec.topK};
  auto route = RouteOp::create(
      b, RankedTensorType::get(shape, b.getI32Type()),
      RankedTensorType::get(shape, getType(spec.routeDtype)), logits,
      operand("selection_bias"), operand("expert_scale"), operand("indices"),
      operand("token_mask"), /*noise=*/Value(), /*seed=*/Value(),
      /*layer=*/Value(), /*first_token=*/Value(), getTopK());
  Routing routing = {route.getIds(), route.getWeights()};
  if (spec.capacity == CapacityMode::none)
    return routing;
  QueueOrder queue = spec.capacity == CapacityMode::first_come
                         ? QueueOrder::first_come
                         : QueueOrder::prioritized;
  auto limit = LimitCapacityOp::create(b, routing.ids, routing.weights,
                                       operand("group_offsets"), spec.experts,
                                       getCapacity(), queue,
                                       /*normalize=*/FloatAttr());
  return {limit.getKeptIds(), limit.getKeptWeights()};
}

Routing LayerBuilder::buildExpertChoice(Value logits) {
  CapacityAttr capacity = getCapacity();
  auto router = ExpertChoiceAttr::get(b.getContext(), capacity, spec.choiceAxis,
                                      spec.choiceNormalize ? Normalize::sum
                                                           : Normalize::none);
  int64_t slots = ShapedType::kDynamic;
  if (spec.tokens && !spec.groupOffsets)
    slots = *getConstantIntValue(
        capacity.buildChoiceBound(b, b.getLoc(), b.getIndexAttr(tokens),
                                  b.getIndexAttr(1), spec.experts));
  SmallVector<int64_t> shape = {spec.experts, slots};
  auto route = RouteExpertsOp::create(
      b, RankedTensorType::get(shape, b.getI32Type()),
      RankedTensorType::get(shape, getType(spec.routeDtype)), logits,
      operand("token_mask"), operand("group_offsets"), router);
  return {route.getIds(), route.getWeights()};
}

Routing LayerBuilder::buildRouting() {
  auto type = RankedTensorType::get({tokens, spec.getRouterWidth()},
                                    getType(spec.logitDtype));
  Value logits =
      GateOp::create(b, type, buildRouterInput(), operand("router_weight"),
                     operand("router_bias"));
  return spec.expertsChoose() ? buildExpertChoice(logits)
                              : buildTokenChoice(logits);
}

//===----------------------------------------------------------------------===//
// Experts
//===----------------------------------------------------------------------===//

Value LayerBuilder::buildExperts(Value rows, Value offsets) {
  SmallVector<Value> up, upBias;
  if (spec.pairing == Pairing::separate)
    up = {operand("gate"), operand("up")};
  else
    up = {operand("gate_up")};
  if (Value bias = operand("gate_up_bias")) {
    if (spec.pairing == Pairing::separate) {
      auto type = RankedTensorType::get({spec.experts, spec.inter},
                                        getType(spec.weightDtype));
      auto take = [&](int64_t column) -> Value {
        return tensor::ExtractSliceOp::create(
            b, type, bias, getAsIndexOpFoldResult(b.getContext(), {0, column}),
            getAsIndexOpFoldResult(b.getContext(), type.getShape()),
            getAsIndexOpFoldResult(b.getContext(), {1, 1}));
      };
      bool gateFirst = spec.order == PairOrder::gate_up;
      upBias = {take(gateFirst ? 0 : spec.inter),
                take(gateFirst ? spec.inter : 0)};
    } else {
      upBias = {bias};
    }
  }
  return ExpertsOp::create(b, rows.getType(), rows, offsets, up, upBias,
                           operand("down"), operand("down_bias"), spec.gated,
                           getActivation(), getLayout(spec.pairing))
      .getOutput();
}

/// The shared expert's output [T, H]; null where there is none.
Value LayerBuilder::buildShared() {
  if (!spec.sharedInter)
    return {};
  Value x = operand("x");
  auto asOneExpert = [&](StringRef name) -> Value {
    auto type = cast<RankedTensorType>(operand(name).getType());
    SmallVector<int64_t> shape = {1, type.getDimSize(0), type.getDimSize(1)};
    SmallVector<ReassociationIndices> groups = {{0, 1}, {2}};
    return tensor::ExpandShapeOp::create(
        b, RankedTensorType::get(shape, type.getElementType()), operand(name),
        groups);
  };
  Value output =
      ExpertsOp::create(b, x.getType(), x, /*offsets=*/Value(),
                        asOneExpert("shared_gate_up"),
                        /*up_bias=*/ValueRange(), asOneExpert("shared_down"),
                        /*down_bias=*/Value(), spec.gated, getActivation(),
                        getSharedLayout(ExpertAxis::lead))
          .getOutput();
  if (!spec.sharedGate)
    return output;

  SmallVector<ReassociationIndices> joined = {{0, 1}};
  Value column = tensor::CollapseShapeOp::create(
      b, project(x, operand("shared_gate")), joined);
  Value gate =
      map({tokens}, sumType, column, b.getMultiDimIdentityMap(1),
          [&](ValueRange in) -> Value {
            Value power =
                math::ExpOp::create(b, arith::NegFOp::create(b, in[0]));
            Value one = constant(1.0);
            return arith::DivFOp::create(b, one,
                                         arith::AddFOp::create(b, one, power));
          });
  AffineMap identity = b.getMultiDimIdentityMap(2);
  return map({tokens, spec.hidden}, xType, {output, gate},
             {identity, identity.getSubMap({0})}, [&](ValueRange in) -> Value {
               Value product = arith::MulFOp::create(b, widen(in[0]), in[1]);
               return narrow(product, xType);
             });
}

//===----------------------------------------------------------------------===//
// Combine
//===----------------------------------------------------------------------===//

/// The weights of the sum over slots; null where all are 1.
Value LayerBuilder::buildCombineWeights(const Routing &routing) {
  if (spec.weightSite == WeightSite::output)
    return routing.weights;
  if (!spec.zeroExperts)
    return {};
  // Experts have applied theirs already, identity slots have not.
  Type type = getType(spec.routeDtype);
  AffineMap identity = b.getMultiDimIdentityMap(2);
  return map(
      {tokens, spec.topK}, type, {routing.ids, routing.weights},
      {identity, identity}, [&](ValueRange in) -> Value {
        Value first =
            arith::ConstantOp::create(b, b.getI32IntegerAttr(spec.experts));
        Value isIdentity =
            arith::CmpIOp::create(b, arith::CmpIPredicate::sge, in[0], first);
        Value one = arith::ConstantOp::create(b, b.getFloatAttr(type, 1.0));
        return arith::SelectOp::create(b, isIdentity, in[1], one);
      });
}

/// The output bias as the combine takes it. An average halves all it adds, and
/// the bias is meant to be whole.
Value LayerBuilder::buildOutputBias() {
  Value bias = operand("output_bias");
  if (!bias || spec.sharedMode != SharedMode::average)
    return bias;
  return map({spec.hidden}, sumType, bias, b.getMultiDimIdentityMap(1),
             [&](ValueRange in) -> Value {
               Value value = widen(in[0]);
               return arith::AddFOp::create(b, value, value);
             });
}

Value LayerBuilder::buildCombine(Value rows, const Routing &routing,
                                 Value residual) {
  // With a latent what follows the sum acts behind its way out.
  bool last = !spec.latent;
  bool needsTokens = spec.expertsChoose() && !spec.tokens;
  return CombineOp::create(
      b, RankedTensorType::get({tokens, spec.getExpertWidth()}, xType), rows,
      routing.ids, buildCombineWeights(routing),
      spec.zeroExperts ? operand("x") : Value(), last ? residual : Value(),
      last ? buildOutputBias() : Value(),
      needsTokens ? cast<Value>(getTokens()) : Value(), spec.experts,
      spec.expertsChoose() ? Choice::expert : Choice::token,
      number(last ? spec.outputScale : 1.0),
      last && spec.sharedMode == SharedMode::average);
}

/// combined [T, L] back to [T, H], with what the combine does elsewhere.
Value LayerBuilder::buildLatentOut(Value combined, Value residual) {
  Value sums = project(combined, operand("latent_out"));
  AffineMap identity = b.getMultiDimIdentityMap(2);
  SmallVector<Value> inputs = {sums};
  SmallVector<AffineMap> maps = {identity};
  if (Value bias = buildOutputBias()) {
    inputs.push_back(bias);
    maps.push_back(identity.getSubMap({1}));
  }
  if (residual) {
    inputs.push_back(residual);
    maps.push_back(identity);
  }
  bool average = spec.sharedMode == SharedMode::average;
  if (inputs.size() == 1 && spec.outputScale == 1.0)
    return round(sums);
  return map(
      {tokens, spec.hidden}, xType, inputs, maps, [&](ValueRange in) -> Value {
        Value sum = in[0];
        if (spec.outputScale != 1.0)
          sum = arith::MulFOp::create(b, sum, constant(spec.outputScale));
        for (Value term : in.drop_front())
          sum = arith::AddFOp::create(b, sum, widen(term));
        if (average)
          sum = arith::MulFOp::create(b, sum, constant(0.5));
        return narrow(sum, xType);
      });
}

/// How many rows every expert has.
Value LayerBuilder::buildLoads(Value offsets) {
  int64_t experts = spec.experts;
  auto type = RankedTensorType::get({experts}, b.getI32Type());
  auto slice = [&](int64_t first) -> Value {
    OpFoldResult one = b.getIndexAttr(1);
    return tensor::ExtractSliceOp::create(b, type, offsets,
                                          {b.getIndexAttr(first)},
                                          {b.getIndexAttr(experts)}, {one});
  };
  AffineMap identity = b.getMultiDimIdentityMap(1);
  return map({experts}, b.getI32Type(), {slice(1), slice(0)},
             {identity, identity}, [&](ValueRange in) -> Value {
               return arith::SubIOp::create(b, in[0], in[1]);
             });
}

//===----------------------------------------------------------------------===//
// The layer
//===----------------------------------------------------------------------===//

/// N of a routing: the product of the sizes of its ids.
int64_t LayerBuilder::getRows(Value ids) {
  auto type = cast<RankedTensorType>(ids.getType());
  return type.hasStaticShape() ? type.getNumElements() : ShapedType::kDynamic;
}

void LayerBuilder::build(ModuleOp module) {
  b.setInsertionPointToEnd(module.getBody());
  func::FuncOp function = createFunction();
  Routing routing = buildRouting();

  Value input = operand("x");
  if (spec.latent)
    input = round(project(input, operand("latent_in")));
  bool weighted = spec.weightSite == WeightSite::input;
  auto dispatch = DispatchOp::create(
      b,
      RankedTensorType::get({getRows(routing.ids), spec.getExpertWidth()},
                            xType),
      RankedTensorType::get({spec.experts + 1}, b.getI32Type()), input,
      routing.ids, weighted ? routing.weights : Value(), spec.experts,
      spec.expertsChoose() ? Choice::expert : Choice::token);
  Value rows = buildExperts(dispatch.getRows(), dispatch.getOffsets());
  Value residual = buildShared();
  Value y = buildCombine(rows, routing, residual);
  if (spec.latent)
    y = buildLatentOut(y, residual);

  SmallVector<Value> results;
  addResult(function, results, "y", y);
  if (spec.expertLoads)
    addResult(function, results, "expert_loads",
              buildLoads(dispatch.getOffsets()));
  if (spec.ids)
    addResult(function, results, "ids", routing.ids);
  if (spec.weights)
    addResult(function, results, "weights", routing.weights);
  func::ReturnOp::create(b, results);
}

OwningOpRef<ModuleOp> layer::buildLayer(MLIRContext *context,
                                        const LayerSpec &spec) {
  context->loadDialect<MoeDialect, affine::AffineDialect, arith::ArithDialect,
                       func::FuncDialect, linalg::LinalgDialect,
                       math::MathDialect, tensor::TensorDialect>();
  Location loc = NameLoc::get(
      StringAttr::get(context, spec.name.empty() ? "layer" : spec.name));
  std::string error;
  if (failed(validate(spec, error))) {
    emitError(loc) << error;
    return {};
  }
  OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
  ImplicitLocOpBuilder builder(loc, context);
  LayerBuilder(builder, spec).build(*module);
  return module;
}
