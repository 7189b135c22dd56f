//===- TokenVJPBody.cpp - What backwards of routers share -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TokenVJPBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"

using namespace mlir;
using namespace mlir::moe;

TokenVJPBody::TokenVJPBody(ImplicitLocOpBuilder &b,
                           const TokenVJPInputs &inputs)
    : SampledBody(b, inputs.forward), ids(inputs.ids), weights(inputs.weights),
      cotangents(inputs.cotangents) {
  for (auto [own, cotangent] : llvm::zip(ids, cotangents)) {
    valid.push_back(isNatural(own));
    cotangent = select(valid.back(), cotangent, real(0.0));
  }
}

Value TokenVJPBody::scatter(
    ArrayRef<Value> values,
    llvm::function_ref<Value(Value expert, Value sum)> value) {
  return mapRow([&](Value expert) {
    Value number = idOf(expert), sum = real(0.0);
    for (auto [own, held] : llvm::zip(ids, values))
      sum = add(sum, select(isEqual(own, number), held, real(0.0)));
    return value(expert, sum);
  });
}

Value TokenVJPBody::scatter(ArrayRef<Value> values) {
  return scatter(values, [](Value, Value sum) { return sum; });
}

Value TokenVJPBody::dot(ArrayRef<Value> x, ArrayRef<Value> y) {
  Value sum = real(0.0);
  for (auto [left, right] : llvm::zip(x, y))
    sum = fma(left, right, sum);
  return sum;
}

Value TokenVJPBody::pullSoftmax(ArrayRef<Value> shares, ArrayRef<Value> own) {
  Value mean = dot(shares, own);
  return scatter(own, [&](Value expert, Value sum) {
    Value value = mul(shareOf(readLogit(expert)), sub(sum, mean));
    return scale == 1.0 ? value : mul(value, real(scale));
  });
}

SmallVector<Value> TokenVJPBody::pullChosenSoftmax(ArrayRef<Value> shares,
                                                   ArrayRef<Value> own) {
  Value mean = dot(shares, own);
  SmallVector<Value> pulled;
  for (auto [share, cotangent] : llvm::zip(shares, own))
    pulled.push_back(mul(share, sub(cotangent, mean)));
  return pulled;
}

SmallVector<Value> TokenVJPBody::weighChosenLogits(ArrayRef<Value> logits) {
  Value most = infinity(/*isNegative=*/true);
  for (auto [logit, isValid] : llvm::zip(logits, valid))
    most = arith::MaximumFOp::create(
        b, most, select(isValid, logit, infinity(/*isNegative=*/true)));
  Value total = real(0.0);
  SmallVector<Value> powers;
  for (auto [logit, isValid] : llvm::zip(logits, valid)) {
    powers.push_back(select(isValid, exp(sub(logit, most)), real(0.0)));
    total = add(total, powers.back());
  }
  for (auto [power, isValid] : llvm::zip(powers, valid))
    power = select(isValid, div(power, total), real(0.0));
  return powers;
}

SmallVector<Value> TokenVJPBody::pullSlots(ValueRange outputs,
                                           ArrayRef<Value> own,
                                           ValueRange inputs) {
  auto pulled = pullBack(b, outputs, own, inputs);
  // Bodies are made of ops that have backwards; else an error was reported.
  SmallVector<Value> found(inputs.size());
  if (succeeded(pulled))
    found = *pulled;
  for (Value &value : found)
    if (!value)
      value = real(0.0);
  return found;
}
