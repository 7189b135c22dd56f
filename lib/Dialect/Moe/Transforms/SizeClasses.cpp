//===- SizeClasses.cpp - Sizes that are equal
//------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SizeClasses.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

void SizeClasses::visitLayerOp(Operation *op) {
  if (auto gate = dyn_cast<GateOp>(op))
    return uniteFirst({gate.getInput(), gate.getLogits()});
  if (auto route = dyn_cast<RouteExpertsOp>(op)) {
    unite(route.getIds(), 1, route.getWeights(), 1);
    return uniteFirst({route.getLogits(), route.getTokenMask()});
  }
  if (auto mix = dyn_cast<MixOp>(op)) {
    uniteFirst({mix.getValues(), mix.getKey(), mix.getTokenMask()});
    uniteFirst({mix.getQuery(), mix.getPosterior(), mix.getMixed()});
    if (!mix.getFirstToken())
      uniteFirst({mix.getQuery(), mix.getKey()});
    return;
  }
  if (auto mix = dyn_cast<MixMatrixOp>(op)) {
    uniteFirst({mix.getValues(), mix.getTokenMask()});
    uniteFirst({mix.getPosterior(), mix.getMixed()});
    unite(mix.getMatrices(), 1, mix.getMixed(), 0);
    unite(mix.getMatrices(), 2, mix.getValues(), 0);
    if (!mix.getFirstToken())
      uniteFirst({mix.getMixed(), mix.getValues()});
    return;
  }
  if (auto route = dyn_cast<RouteSlotsOp>(op))
    return uniteFirst({route.getLogits(), route.getDispatch(),
                       route.getCombine(), route.getTokenMask()});
  if (auto dispatch = dyn_cast<SoftDispatchOp>(op))
    return uniteFirst({dispatch.getInput(), dispatch.getDispatch()});
  if (auto combine = dyn_cast<SoftCombineOp>(op))
    return uniteFirst({combine.getCombine(), combine.getOutput()});
  if (auto limit = dyn_cast<LimitCapacityOp>(op))
    return uniteFirst({limit.getIds(), limit.getWeights(), limit.getKeptIds(),
                       limit.getKeptWeights()});
  if (auto route = dyn_cast<RouteHashOp>(op))
    return uniteFirst({route.getTokenIds(), route.getIds(), route.getWeights(),
                       route.getTokenMask()});
  if (auto loss = dyn_cast<AuxLossOp>(op))
    return uniteFirst({loss.getScores(), loss.getIds(), loss.getTokenMask()});
  if (auto loss = dyn_cast<LoadLossOp>(op))
    return uniteFirst({loss.getClean(), loss.getNoisy(), loss.getSigma(),
                       loss.getTokenMask()});
  if (auto load = dyn_cast<ExpertLoadOp>(op))
    return uniteFirst({load.getIds(), load.getWeights()});
  if (auto vjp = dyn_cast<AuxLossVJPOp>(op))
    return uniteFirst(
        {vjp.getScores(), vjp.getIds(), vjp.getTokenMask(), vjp.getGradient()});
  if (auto vjp = dyn_cast<LoadLossVJPOp>(op)) {
    uniteFirst(llvm::to_vector_of<Value>(vjp.getGradients()));
    return uniteFirst({vjp.getClean(), vjp.getNoisy(), vjp.getSigma(),
                       vjp.getTokenMask(), vjp.getGradients().front()});
  }
  if (auto dots = dyn_cast<SlotDotsOp>(op)) {
    uniteAll(dots.getIds(), dots.getDots());
    uniteFirst({dots.getTokens(), dots.getIdentity()});
    if (dots.getChoice() == Choice::token)
      uniteFirst({dots.getIds(), dots.getTokens()});
    return;
  }
  if (auto experts = dyn_cast<ExpertsOp>(op)) {
    uniteFirst({experts.getRows(), experts.getOutput()});
    for (Value kept : experts.getKept())
      unite(experts.getRows(), 0, kept, 0);
    return;
  }
  if (auto dispatch = dyn_cast<DispatchOp>(op)) {
    if (dispatch.getWeights())
      uniteAll(dispatch.getIds(), dispatch.getWeights());
    if (dispatch.getChoice() == Choice::token)
      uniteFirst({dispatch.getInput(), dispatch.getIds()});
    return;
  }
  if (auto combine = dyn_cast<CombineOp>(op)) {
    uniteFirst(
        {combine.getOutput(), combine.getIdentity(), combine.getResidual()});
    if (combine.getWeights())
      uniteAll(combine.getIds(), combine.getWeights());
    if (combine.getChoice() == Choice::token)
      uniteFirst({combine.getOutput(), combine.getIds()});
    if (Value tokens = combine.getNumTokens())
      if (auto dim = tokens.getDefiningOp<tensor::DimOp>())
        if (auto index = dim.getConstantIndex())
          unite(combine.getOutput(), 0, dim.getSource(), *index);
  }
}

void SizeClasses::visitMixedBackward(Operation *op) {
  if (auto vjp = dyn_cast<RouteExpertsVJPOp>(op)) {
    unite(vjp.getIds(), 1, vjp.getCotangent(), 1);
    return uniteFirst({vjp.getLogits(), vjp.getTokenMask(), vjp.getGradient()});
  }
  if (auto vjp = dyn_cast<RouteSlotsVJPOp>(op))
    return uniteFirst({vjp.getDispatch(), vjp.getCombine(), vjp.getDDispatch(),
                       vjp.getDCombine(), vjp.getTokenMask(),
                       vjp.getGradient()});
  if (auto dots = dyn_cast<SoftDotsOp>(op))
    return uniteFirst({dots.getTokens(), dots.getDots()});
  if (auto vjp = dyn_cast<MixQueryVJPOp>(op)) {
    uniteFirst({vjp.getValues(), vjp.getKey(), vjp.getTokenMask()});
    uniteFirst({vjp.getQuery(), vjp.getCotangent(), vjp.getPosterior(),
                vjp.getGradient(), vjp.getDots(), vjp.getLogSums()});
    if (!vjp.getFirstToken())
      uniteFirst({vjp.getQuery(), vjp.getKey()});
    return;
  }
  if (auto vjp = dyn_cast<MixKeyVJPOp>(op)) {
    uniteFirst({vjp.getQuery(), vjp.getCotangent(), vjp.getPosterior(),
                vjp.getDots(), vjp.getLogSums(), vjp.getTokenMask()});
    uniteFirst(
        {vjp.getValues(), vjp.getKey(), vjp.getDValues(), vjp.getDKey()});
    if (!vjp.getFirstToken())
      uniteFirst({vjp.getQuery(), vjp.getKey()});
    return;
  }
  if (auto vjp = dyn_cast<MixMatrixVJPOp>(op)) {
    uniteFirst({vjp.getValues(), vjp.getTokenMask(), vjp.getDValues()});
    uniteFirst({vjp.getPosterior(), vjp.getCotangent(), vjp.getDots()});
    unite(vjp.getMatrices(), 1, vjp.getCotangent(), 0);
    unite(vjp.getMatrices(), 2, vjp.getValues(), 0);
    uniteAll(vjp.getMatrices(), vjp.getDMatrices());
    if (!vjp.getFirstToken())
      uniteFirst({vjp.getCotangent(), vjp.getValues()});
  }
}

void SizeClasses::visitStructured(linalg::LinalgOp op) {
  SmallVector<std::pair<Value, int64_t>> byLoop(op.getNumLoops());
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<RankedTensorType>(operand.get().getType()))
      continue;
    AffineMap map = op.getMatchingIndexingMap(&operand);
    for (auto [dim, expr] : llvm::enumerate(map.getResults()))
      if (auto loop = dyn_cast<AffineDimExpr>(expr)) {
        auto &[value, valueDim] = byLoop[loop.getPosition()];
        if (value)
          unite(value, valueDim, operand.get(), dim);
        else
          byLoop[loop.getPosition()] = {operand.get(), dim};
      }
  }
}

void SizeClasses::visit(Operation *op) {
  visitLayerOp(op);
  visitMixedBackward(op);
  if (auto tokenOp = dyn_cast<TokenBodyOpInterface>(op)) {
    SmallVector<Value> values(op->getResults());
    for (OpOperand *operand : tokenOp.getTokenOperands())
      values.push_back(operand->get());
    uniteFirst(values);
  }
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    visitStructured(structured);
  if (auto dps = dyn_cast<DestinationStyleOpInterface>(op))
    for (auto [init, result] : llvm::zip(dps.getDpsInits(), op->getResults()))
      uniteAll(init, result);
  if (auto loop = dyn_cast<LoopLikeOpInterface>(op))
    if (auto results = loop.getLoopResults())
      for (auto [init, result] : llvm::zip(loop.getInits(), *results))
        uniteAll(init, result);
  if (auto empty = dyn_cast<tensor::EmptyOp>(op)) {
    unsigned next = 0;
    for (int64_t dim = 0; dim < empty.getType().getRank(); ++dim) {
      if (!empty.getType().isDynamicDim(dim))
        continue;
      Value size = empty.getDynamicSizes()[next++];
      if (auto source = size.getDefiningOp<tensor::DimOp>())
        if (auto index = source.getConstantIndex())
          unite(empty, dim, source.getSource(), *index);
    }
  }
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    uniteAll(cast.getSource(), cast.getDest());
  if (op->hasTrait<OpTrait::Elementwise>())
    for (Value operand : op->getOperands())
      for (Value other : op->getResults())
        uniteAll(operand, other);
}

void SizeNames::give(Value value, Attribute given) {
  auto list = dyn_cast_or_null<ArrayAttr>(given);
  if (!list)
    return;
  auto type = cast<RankedTensorType>(value.getType());
  for (auto [dim, name] : llvm::enumerate(list.getAsRange<StringAttr>()))
    if (type.isDynamicDim(dim) && !name.empty()) {
      names.try_emplace(classes.getClass(value, dim), name);
      taken.insert(name);
    }
}

ArrayAttr SizeNames::get(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  Builder b(value.getContext());
  SmallVector<Attribute> found;
  for (int64_t dim = 0; dim < type.getRank(); ++dim) {
    if (!type.isDynamicDim(dim)) {
      found.push_back(b.getStringAttr(""));
      continue;
    }
    int64_t sizeClass = classes.getClass(value, dim);
    named.insert(sizeClass);
    StringAttr &name = names[sizeClass];
    // The first dynamic size of a layer is its number of tokens.
    for (size_t number = named.size() - 1; !name; ++number) {
      StringAttr next =
          b.getStringAttr(number == 0 ? Twine("T") : "D" + Twine(number));
      if (taken.insert(next).second)
        name = next;
    }
    found.push_back(name);
  }
  return b.getArrayAttr(found);
}
