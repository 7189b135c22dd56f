//===- Cotangents.cpp - Reverse mode over straight-line code --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

static bool isReal(Type type) {
  return isa<FloatType>(getElementTypeOrSelf(type));
}

Value moe::convertElements(ImplicitLocOpBuilder &b, Value value, Type element) {
  auto from = cast<FloatType>(getElementTypeOrSelf(value.getType()));
  auto to = cast<FloatType>(element);
  if (from == to)
    return value;
  auto typeOf = [&](Type scalar) -> Type {
    if (auto shaped = dyn_cast<ShapedType>(value.getType()))
      return shaped.clone(scalar);
    return scalar;
  };
  if (from.getWidth() == to.getWidth())
    value = arith::ExtFOp::create(b, typeOf(b.getF32Type()), value);
  if (from.getWidth() < to.getWidth())
    return arith::ExtFOp::create(b, typeOf(to), value);
  return arith::TruncFOp::create(b, typeOf(to), value);
}

Value moe::emitSplat(ImplicitLocOpBuilder &b, Value like, double number) {
  Type type = like.getType();
  auto element = cast<FloatType>(getElementTypeOrSelf(type));
  TypedAttr attr = b.getFloatAttr(element, number);
  auto shaped = dyn_cast<ShapedType>(type);
  if (!shaped)
    return arith::ConstantOp::create(b, attr);
  if (shaped.hasStaticShape())
    return arith::ConstantOp::create(b, DenseElementsAttr::get(shaped, attr));
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < shaped.getRank(); ++dim)
    if (shaped.isDynamicDim(dim))
      sizes.push_back(b.createOrFold<tensor::DimOp>(like, dim));
  Value scalar = arith::ConstantOp::create(b, attr);
  return tensor::SplatOp::create(b, type, scalar, sizes);
}

void Cotangents::propagate(Operation *op) {
  if (llvm::any_of(op->getOperands(),
                   [&](Value operand) { return isActive(operand); }))
    for (Value result : op->getResults())
      if (isReal(result.getType()))
        activate(result);
}

Value Cotangents::ofOrZero(ImplicitLocOpBuilder &b, Value value) {
  if (Value known = of(value))
    return known;
  return emitSplat(b, value, 0.0);
}

void Cotangents::add(ImplicitLocOpBuilder &b, Value value, Value cotangent) {
  if (!isActive(value))
    return;
  cotangent =
      convertElements(b, cotangent, getElementTypeOrSelf(value.getType()));
  if (cotangent.getType() != value.getType())
    cotangent = tensor::CastOp::create(b, value.getType(), cotangent);
  Value &sum = sums[value];
  sum = sum ? arith::AddFOp::create(b, sum, cotangent).getResult() : cotangent;
}

void Cotangents::replace(Value value, Value by) {
  if (isActive(value))
    activate(by);
  if (Value known = of(value))
    sums[by] = known;
}

LogicalResult moe::differentiate(ImplicitLocOpBuilder &b,
                                 ArrayRef<Operation *> ops,
                                 Cotangents &cotangents) {
  for (Operation *op : llvm::reverse(ops)) {
    bool hasCotangent = llvm::any_of(
        op->getResults(), [&](Value result) { return cotangents.of(result); });
    bool isWanted = llvm::any_of(op->getOperands(), [&](Value operand) {
      return cotangents.isActive(operand);
    });
    if (!hasCotangent || !isWanted)
      continue;
    auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
    if (!differentiable)
      return op->emitOpError("has no backward, and stands between a result "
                             "and what it is differentiated by");
    b.setLoc(op->getLoc());
    if (failed(differentiable.buildVJP(b, cotangents)))
      return failure();
  }
  return success();
}

/// The ops that outputs depend on and that depend on inputs, in order.
static SmallVector<Operation *> getOpsBetween(Block *block, ValueRange outputs,
                                              Cotangents &cotangents) {
  llvm::DenseSet<Operation *> needed;
  SmallVector<Value> left(outputs);
  while (!left.empty()) {
    Operation *op = left.pop_back_val().getDefiningOp();
    if (!op || op->getBlock() != block || !needed.insert(op).second)
      continue;
    llvm::append_range(left, op->getOperands());
  }
  SmallVector<Operation *> ops(needed.begin(), needed.end());
  llvm::sort(ops,
             [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  SmallVector<Operation *> between;
  for (Operation *op : ops) {
    bool isInput = llvm::any_of(op->getResults(), [&](Value result) {
      return cotangents.isActive(result);
    });
    if (isInput)
      continue;
    cotangents.propagate(op);
    between.push_back(op);
  }
  return between;
}

FailureOr<SmallVector<Value>> moe::pullBack(ImplicitLocOpBuilder &b,
                                            ValueRange outputs,
                                            ArrayRef<Value> given,
                                            ValueRange inputs) {
  Cotangents cotangents;
  for (Value input : inputs)
    if (input)
      cotangents.activate(input);
  SmallVector<Operation *> ops =
      getOpsBetween(b.getInsertionBlock(), outputs, cotangents);
  for (auto [output, cotangent] : llvm::zip(outputs, given))
    if (cotangent)
      cotangents.add(b, output, cotangent);
  if (failed(differentiate(b, ops, cotangents)))
    return failure();
  return llvm::map_to_vector(inputs, [&](Value input) {
    return input ? cotangents.of(input) : Value();
  });
}

FailureOr<std::pair<Value, Value>>
moe::detail::buildActivationVJP(ActivationAttrInterface activation,
                                ImplicitLocOpBuilder &b, Value gate, Value up,
                                Value cotangent) {
  Value value = activation.buildActivation(b, gate, up);
  SmallVector<Value> inputs = {gate};
  if (up)
    inputs.push_back(up);
  auto found = pullBack(b, value, cotangent, inputs);
  if (failed(found))
    return failure();
  auto orZero = [&](size_t place) {
    Value known = (*found)[place];
    return known ? known : emitSplat(b, gate, 0.0);
  };
  return std::make_pair(orZero(0), up ? orZero(1) : Value());
}
