//===- MoeRoutingOps.cpp - Verifiers and shapes of the routing ops ---*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeVerify.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/DialectImplementation.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

/// The size of a dimension as reification wants it.
static OpFoldResult getDim(OpBuilder &b, Location loc, Value value,
                           int64_t dim) {
  return tensor::getMixedSize(b, loc, value, dim);
}

static OpFoldResult getStaticDim(OpBuilder &b, Value value, int64_t dim) {
  return b.getIndexAttr(dimOf(value, dim));
}

//===----------------------------------------------------------------------===//
// Custom syntax
//===----------------------------------------------------------------------===//

static ParseResult parseScoreKind(OpAsmParser &parser, ScoreKindAttr &kind) {
  FailureOr<ScoreKind> parsed = FieldParser<ScoreKind>::parse(parser);
  if (failed(parsed))
    return failure();
  kind = ScoreKindAttr::get(parser.getContext(), *parsed);
  return success();
}

static void printScoreKind(OpAsmPrinter &printer, Operation *,
                           ScoreKindAttr kind) {
  printer << stringifyScoreKind(kind.getValue());
}

//===----------------------------------------------------------------------===//
// GateOp, ScoreOp
//===----------------------------------------------------------------------===//

LogicalResult GateOp::verify() {
  if (failed(verifySameStaticDim(*this, "gate_c1", "H",
                                 {{"input", dimOf(getInput(), 1)},
                                  {"weight", dimOf(getWeight(), 1)}})))
    return failure();
  SmallVector<NamedDim> widths = {{"weight", dimOf(getWeight(), 0)},
                                  {"logits", dimOf(getLogits(), 1)}};
  appendDim(widths, "bias", getBias(), 0);
  if (failed(verifySameStaticDim(*this, "gate_c2", "R", widths)))
    return failure();
  return verifySameDim(
      *this, "gate_c3", "T",
      {{"input", dimOf(getInput(), 0)}, {"logits", dimOf(getLogits(), 0)}});
}

LogicalResult GateOp::reifyResultShapes(OpBuilder &b,
                                        ReifiedRankedShapedTypeDims &shapes) {
  shapes = {
      {getDim(b, getLoc(), getInput(), 0), getStaticDim(b, getLogits(), 1)}};
  return success();
}

LogicalResult ScoreOp::verify() {
  if (failed(verifySameDim(*this, "score_c1", "T",
                           {{"logits", dimOf(getLogits(), 0)},
                            {"scores", dimOf(getScores(), 0)}})) ||
      failed(verifySameStaticDim(*this, "score_c1", "R",
                                 {{"logits", dimOf(getLogits(), 1)},
                                  {"scores", dimOf(getScores(), 1)}})))
    return failure();
  if (!getSoftcap().isFinite() || getSoftcap().convertToDouble() < 0.0)
    return emitOpError("softcap is negative or not finite (score_c2)");
  return success();
}

LogicalResult ScoreOp::reifyResultShapes(OpBuilder &b,
                                         ReifiedRankedShapedTypeDims &shapes) {
  shapes = {
      {getDim(b, getLoc(), getLogits(), 0), getStaticDim(b, getScores(), 1)}};
  return success();
}

//===----------------------------------------------------------------------===//
// RouteOp, RouteExpertsOp
//===----------------------------------------------------------------------===//

/// What a route draws, and what scales it.
static LogicalResult verifyTraining(RouteOp op) {
  int given = !!op.getSeed() + !!op.getLayer() + !!op.getFirstToken();
  if (given != 0 && given != 3)
    return op.emitOpError("training takes seed, layer and first token together "
                          "(route_c6)");
  if (given != 0 && !op.getRouter().isSampled())
    return op.emitOpError("router ")
           << op.getRouter() << " draws nothing in training (route_c6)";
  Value noise = op.getNoise();
  if (!noise)
    return success();
  if (given == 0)
    return op.emitOpError("noise is for training alone (route_c7)");
  if (failed(verifySameDim(
          op, "route_c7", "T",
          {{"logits", dimOf(op.getLogits(), 0)}, {"noise", dimOf(noise, 0)}})))
    return failure();
  return verifySameStaticDim(
      op, "route_c7", "R",
      {{"logits", dimOf(op.getLogits(), 1)}, {"noise", dimOf(noise, 1)}});
}

LogicalResult RouteOp::verify() {
  RouterAttrInterface router = getRouter();
  std::optional<int64_t> numSlots = router.getNumSlots();
  if (!numSlots || router.getLocality() == Locality::global)
    return emitOpError("needs a router by which a token chooses for itself; "
                       "experts choose in moe.route_experts (route_c1)");
  if (failed(verifySameStaticDim(*this, "route_c2", "k",
                                 {{"router", *numSlots},
                                  {"ids", dimOf(getIds(), 1)},
                                  {"weights", dimOf(getWeights(), 1)}})))
    return failure();
  SmallVector<NamedDim> tokens = {{"logits", dimOf(getLogits(), 0)},
                                  {"ids", dimOf(getIds(), 0)},
                                  {"weights", dimOf(getWeights(), 0)}};
  appendDim(tokens, "indices", getIndices(), 0);
  appendDim(tokens, "mask", getTokenMask(), 0);
  if (failed(verifySameDim(*this, "route_c3", "T", tokens)))
    return failure();
  SmallVector<NamedDim> widths = {{"logits", dimOf(getLogits(), 1)}};
  appendDim(widths, "bias", getSelectionBias(), 0);
  appendDim(widths, "expert_scale", getExpertScale(), 0);
  if (failed(verifySameStaticDim(*this, "route_c4", "R", widths)))
    return failure();
  if (Value indices = getIndices())
    if (failed(verifySameStaticDim(
            *this, "route_c5", "k",
            {{"router", *numSlots}, {"indices", dimOf(indices, 1)}})))
      return failure();
  if (failed(verifyTraining(*this)))
    return failure();
  RouteOperandSet operands;
  operands.selectionBias = static_cast<bool>(getSelectionBias());
  operands.expertScale = static_cast<bool>(getExpertScale());
  operands.indices = static_cast<bool>(getIndices());
  operands.noise = static_cast<bool>(getNoise());
  operands.training = isTraining();
  return router.verifyRoute([&] { return emitOpError(); },
                            dimOf(getLogits(), 1), operands);
}

LogicalResult RouteOp::reifyResultShapes(OpBuilder &b,
                                         ReifiedRankedShapedTypeDims &shapes) {
  SmallVector<OpFoldResult> shape = {getDim(b, getLoc(), getLogits(), 0),
                                     getStaticDim(b, getIds(), 1)};
  shapes = {shape, shape};
  return success();
}

/// T and G of an expert choice, as its capacity rule takes them.
static OpFoldResult buildChoiceCapacity(OpBuilder &b, RouteExpertsOp op,
                                        ExpertChoiceAttr router) {
  Location loc = op.getLoc();
  OpFoldResult tokens = getDim(b, loc, op.getLogits(), 0);
  OpFoldResult groups = b.getIndexAttr(1);
  if (Value offsets = op.getGroupOffsets()) {
    int64_t size = dimOf(offsets, 0);
    if (!ShapedType::isDynamic(size)) {
      groups = b.getIndexAttr(size - 1);
    } else {
      Value length = cast<Value>(getDim(b, loc, offsets, 0));
      Value one = arith::ConstantIndexOp::create(b, loc, 1);
      groups = arith::SubIOp::create(b, loc, length, one).getResult();
    }
  }
  return router.getCapacity().buildChoiceBound(b, loc, tokens, groups,
                                               dimOf(op.getLogits(), 1));
}

LogicalResult RouteExpertsOp::verify() {
  auto router = dyn_cast<ExpertChoiceAttr>(getRouter());
  if (!router)
    return emitOpError("needs a router by which experts choose "
                       "(route_experts_c1)");
  int64_t numExperts = dimOf(getLogits(), 1);
  if (failed(verifySameStaticDim(*this, "route_experts_c2", "E",
                                 {{"logits", numExperts},
                                  {"ids", dimOf(getIds(), 0)},
                                  {"weights", dimOf(getWeights(), 0)}})) ||
      failed(verifyNumExperts(*this, "route_experts_c2", numExperts)))
    return failure();
  if (failed(verifySameDim(
          *this, "route_experts_c3", "C",
          {{"ids", dimOf(getIds(), 1)}, {"weights", dimOf(getWeights(), 1)}})))
    return failure();
  int64_t tokens = dimOf(getLogits(), 0), capacity = dimOf(getIds(), 1);
  if (getTokenMask() &&
      failed(verifySameDim(
          *this, "route_experts_c4", "T",
          {{"logits", tokens}, {"mask", dimOf(getTokenMask(), 0)}})))
    return failure();
  int64_t groups = getGroupOffsets() ? lessOne(dimOf(getGroupOffsets(), 0)) : 1;
  if (ShapedType::isDynamic(tokens) || ShapedType::isDynamic(groups) ||
      ShapedType::isDynamic(capacity))
    return success();
  int64_t rule =
      router.getCapacity().getChoiceBound(tokens, groups, numExperts);
  if (rule != capacity)
    return emitOpError("ids have C = ")
           << capacity << " but the capacity rule gives " << rule
           << " (route_experts_c5)";
  return success();
}

LogicalResult
RouteExpertsOp::reifyResultShapes(OpBuilder &b,
                                  ReifiedRankedShapedTypeDims &shapes) {
  SmallVector<OpFoldResult> shape = {
      getStaticDim(b, getIds(), 0),
      buildChoiceCapacity(b, *this, cast<ExpertChoiceAttr>(getRouter()))};
  if (!ShapedType::isDynamic(dimOf(getIds(), 1)))
    shape[1] = getStaticDim(b, getIds(), 1);
  shapes = {shape, shape};
  return success();
}

//===----------------------------------------------------------------------===//
// LimitCapacityOp, AuxLossOp, AuxLossVJPOp
//===----------------------------------------------------------------------===//

LogicalResult LimitCapacityOp::verify() {
  if (failed(verifySameDim(*this, "limit_capacity_c1", "T",
                           {{"ids", dimOf(getIds(), 0)},
                            {"weights", dimOf(getWeights(), 0)}})) ||
      failed(verifySameStaticDim(
          *this, "limit_capacity_c1", "k",
          {{"ids", dimOf(getIds(), 1)}, {"weights", dimOf(getWeights(), 1)}})))
    return failure();
  if (failed(verifyNumExperts(*this, "limit_capacity_c2", getNumExperts())))
    return failure();
  std::optional<APFloat> eps = getNormalize();
  if (eps && (!eps->isFinite() || eps->convertToDouble() <= 0.0))
    return emitOpError("normalize is not positive or not finite "
                       "(limit_capacity_c3)");
  return success();
}

LogicalResult
LimitCapacityOp::reifyResultShapes(OpBuilder &b,
                                   ReifiedRankedShapedTypeDims &shapes) {
  SmallVector<OpFoldResult> shape = {getDim(b, getLoc(), getIds(), 0),
                                     getDim(b, getLoc(), getIds(), 1)};
  shapes = {shape, shape};
  return success();
}

/// The settings that belong to some kinds of loss alone.
template <typename OpTy> static LogicalResult verifySettings(OpTy op) {
  AuxLossKind kind = op.getKind();
  bool takesK =
      kind == AuxLossKind::trimmed_lasso || kind == AuxLossKind::l1_balance;
  if (takesK != op.getK().has_value() || op.getK().value_or(1) < 1)
    return op.emitOpError("takes k, at least 1, for trimmed_lasso and "
                          "l1_balance and for no other (aux_loss_c5)");
  if (op.getPerSlot() && kind != AuxLossKind::balance)
    return op.emitOpError("takes per_slot for balance alone (aux_loss_c6)");
  if ((op.getUnbiased() || op.getEps()) && kind != AuxLossKind::importance)
    return op.emitOpError(
        "takes unbiased and eps for importance alone (aux_loss_c6)");
  if (!isFiniteNotNegative(op.getEpsOrZero()))
    return op.emitOpError("eps is negative or not finite (aux_loss_c7)");
  return success();
}

/// What a loss and its backward are held to alike.
template <typename OpTy> static LogicalResult verifyAuxLoss(OpTy op) {
  AuxLossKind kind = op.getKind();
  Value ids = op.getIds();
  bool takesIds = kind == AuxLossKind::balance ||
                  kind == AuxLossKind::first_place ||
                  kind == AuxLossKind::second_place;
  if (takesIds != static_cast<bool>(ids))
    return op.emitOpError("takes ids for balance, first_place and second_place "
                          "and for no other (aux_loss_c1)");
  SmallVector<NamedDim> tokens = {{"scores", dimOf(op.getScores(), 0)}};
  appendDim(tokens, "ids", ids, 0);
  appendDim(tokens, "mask", op.getTokenMask(), 0);
  if (failed(verifySameDim(op, "aux_loss_c2", "T", tokens)) ||
      failed(verifySameStaticDim(op, "aux_loss_c3", "R",
                                 {{"scores", dimOf(op.getScores(), 1)}})) ||
      (ids && failed(verifySameStaticDim(op, "aux_loss_c3", "K",
                                         {{"ids", dimOf(ids, 1)}}))))
    return failure();
  int64_t needed = kind == AuxLossKind::second_place ? 2 : 1;
  if (ids && dimOf(ids, 1) < needed)
    return op.emitOpError("needs ids of at least ")
           << needed << " slots (aux_loss_c8)";
  if (failed(verifySettings(op)))
    return failure();
  return verifyFinite(op, "aux_loss_c4", "coefficient", op.getCoefficient());
}

LogicalResult AuxLossOp::verify() { return verifyAuxLoss(*this); }

LogicalResult
AuxLossOp::reifyResultShapes(OpBuilder &, ReifiedRankedShapedTypeDims &shapes) {
  shapes = {SmallVector<OpFoldResult>()};
  return success();
}

LogicalResult AuxLossVJPOp::verify() {
  if (failed(verifyAuxLoss(*this)))
    return failure();
  return verifySameShape(*this, "aux_loss_vjp_c1",
                         {{"scores", getScores()}, {"result", getGradient()}});
}

LogicalResult
AuxLossVJPOp::reifyResultShapes(OpBuilder &b,
                                ReifiedRankedShapedTypeDims &shapes) {
  shapes = {detail::reifyTokenResult(b, *this, getScores())};
  return success();
}

#define GET_OP_CLASSES
#include "moe/Dialect/Moe/IR/MoeOps.cpp.inc"
