//===- MoeActivation.cpp - Generated bodies of activations ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

namespace {
/// Arithmetic on scalars of one floating-point type.
struct Scalars {
  ImplicitLocOpBuilder &b;
  Type type;

  Value constant(double value) {
    return arith::ConstantOp::create(b, b.getFloatAttr(type, value));
  }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, x, y); }
  Value scale(Value x, double factor) { return mul(x, constant(factor)); }

  /// x * sigmoid(alpha * x), as x / (1 + exp(-alpha * x)).
  Value sigmoidLinear(Value x, double alpha) {
    Value power = math::ExpOp::create(b, scale(x, -alpha));
    return arith::DivFOp::create(b, x, add(constant(1.0), power));
  }

  Value gelu(Value x) {
    Value erf = math::ErfOp::create(b, scale(x, 1.0 / std::sqrt(2.0)));
    return mul(scale(x, 0.5), add(constant(1.0), erf));
  }

  Value geluTanh(Value x) {
    Value cube = mul(mul(x, x), x);
    Value inner = scale(add(x, scale(cube, 0.044715)), std::sqrt(2.0 / M_PI));
    Value tanh = math::TanhOp::create(b, inner);
    return mul(scale(x, 0.5), add(constant(1.0), tanh));
  }

  /// NaN stays NaN in all three.
  Value relu(Value x) { return arith::MaximumFOp::create(b, x, constant(0.0)); }
  Value atMost(Value x, double limit) {
    return arith::MinimumFOp::create(b, x, constant(limit));
  }
  Value within(Value x, double limit) {
    return arith::MaximumFOp::create(b, atMost(x, limit), constant(-limit));
  }

  /// The derivative of sigmoidLinear: s (1 + alpha x (1 - s)). Nothing in it
  /// leaves the range where the function does not.
  Value sigmoidLinearSlope(Value x, double alpha) {
    Value one = constant(1.0);
    Value power = math::ExpOp::create(b, scale(x, -alpha));
    Value share = arith::DivFOp::create(b, one, add(one, power));
    Value rest = arith::SubFOp::create(b, one, share);
    return mul(share, add(one, mul(scale(x, alpha), rest)));
  }

  Value apply(ActivationKind kind, Value x) {
    switch (kind) {
    case ActivationKind::silu:
      return sigmoidLinear(x, 1.0);
    case ActivationKind::gelu:
      return gelu(x);
    case ActivationKind::gelu_tanh:
      return geluTanh(x);
    case ActivationKind::relu:
      return relu(x);
    case ActivationKind::relu2: {
      Value positive = relu(x);
      return mul(positive, positive);
    }
    case ActivationKind::identity:
      return x;
    }
    llvm_unreachable("all kinds are covered");
  }
};
} // namespace

FailureOr<std::pair<Value, Value>>
ActivationAttr::buildActivationVJP(ImplicitLocOpBuilder &b, Value gate,
                                   Value up, Value cotangent) const {
  bool isOai = getStyle() == ActivationStyle::oai;
  // exp(-x) of the others' own ops overflows for x of -100, and inf * 0 is NaN.
  if (!isOai && getKind() != ActivationKind::silu)
    return detail::buildActivationVJP(*this, b, gate, up, cotangent);
  Scalars s{b, gate.getType()};
  double alpha = isOai ? getAlpha().convertToDouble() : 1.0;
  double limit = getLimit().convertToDouble();
  Value cutGate = gate, cutUp = up;
  if (limit > 0.0) {
    cutGate = s.atMost(gate, limit);
    cutUp = up ? s.within(up, limit) : up;
  }
  Value factor = cutUp;
  if (up && isOai)
    factor = s.add(cutUp, s.constant(1.0));
  Value slope = s.sigmoidLinearSlope(cutGate, alpha);
  Value gateCotangent = s.mul(cotangent, slope);
  if (up)
    gateCotangent = s.mul(gateCotangent, factor);
  Value upCotangent =
      up ? s.mul(cotangent, s.sigmoidLinear(cutGate, alpha)) : Value();
  if (limit > 0.0) {
    auto pass = [&](Value isInside, Value value) -> Value {
      return arith::SelectOp::create(b, isInside, value, s.constant(0.0));
    };
    // A NaN passes, as it does forward.
    auto isAtMost = [&](Value x, double bound) -> Value {
      return arith::CmpFOp::create(b, arith::CmpFPredicate::ULE, x,
                                   s.constant(bound));
    };
    gateCotangent = pass(isAtMost(gate, limit), gateCotangent);
    if (up) {
      Value negated = arith::NegFOp::create(b, up);
      Value isInside = arith::AndIOp::create(b, isAtMost(up, limit),
                                             isAtMost(negated, limit));
      upCotangent = pass(isInside, upCotangent);
    }
  }
  return std::make_pair(gateCotangent, upCotangent);
}

Value ActivationAttr::buildActivation(ImplicitLocOpBuilder &b, Value gate,
                                      Value up) const {
  Scalars s{b, gate.getType()};
  double limit = getLimit().convertToDouble();
  if (limit > 0.0) {
    gate = s.atMost(gate, limit);
    up = up ? s.within(up, limit) : up;
  }
  if (getStyle() == ActivationStyle::oai) {
    Value activated = s.sigmoidLinear(gate, getAlpha().convertToDouble());
    return up ? s.mul(activated, s.add(up, s.constant(1.0))) : activated;
  }
  Value activated = s.apply(getKind(), gate);
  return up ? s.mul(activated, up) : activated;
}
