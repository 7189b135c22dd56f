//===- ArithGradients.cpp - Backwards of arith and math ops ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// On scalars, vectors and tensors alike: all of these ops work element by
// element.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// One op's rule: `cotangent` is that of its result.
struct Rule {
  ImplicitLocOpBuilder &b;
  Cotangents &cotangents;
  Operation *op;
  Value cotangent;

  Value in(unsigned place) { return op->getOperand(place); }
  Value out() { return op->getResult(0); }
  void add(unsigned place, Value value) { cotangents.add(b, in(place), value); }
  bool wants(unsigned place) { return cotangents.isActive(in(place)); }

  Value real(double number) { return emitSplat(b, out(), number); }
  Value plus(Value x, Value y) { return arith::AddFOp::create(b, x, y); }
  Value minus(Value x, Value y) { return arith::SubFOp::create(b, x, y); }
  Value times(Value x, Value y) { return arith::MulFOp::create(b, x, y); }
  Value over(Value x, Value y) { return arith::DivFOp::create(b, x, y); }
  Value negative(Value x) { return arith::NegFOp::create(b, x); }
  Value pick(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, condition, x, y);
  }
  Value compare(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(b, predicate, x, y);
  }
  /// The cotangent times a factor, for the only operand.
  void scaled(Value factor) { add(0, times(cotangent, factor)); }
  /// The cotangent for the operand that the condition names.
  void routed(Value isFirst) {
    Value none = real(0.0);
    if (wants(0))
      add(0, pick(isFirst, cotangent, none));
    if (wants(1))
      add(1, pick(isFirst, none, cotangent));
  }
};

void pull(Rule &r, arith::AddFOp) {
  r.add(0, r.cotangent);
  r.add(1, r.cotangent);
}
void pull(Rule &r, arith::SubFOp) {
  r.add(0, r.cotangent);
  if (r.wants(1))
    r.add(1, r.negative(r.cotangent));
}
void pull(Rule &r, arith::MulFOp) {
  if (r.wants(0))
    r.add(0, r.times(r.cotangent, r.in(1)));
  if (r.wants(1))
    r.add(1, r.times(r.cotangent, r.in(0)));
}
void pull(Rule &r, arith::DivFOp) {
  Value share = r.over(r.cotangent, r.in(1));
  r.add(0, share);
  if (r.wants(1))
    r.add(1, r.negative(r.times(share, r.out())));
}
void pull(Rule &r, arith::NegFOp) { r.add(0, r.negative(r.cotangent)); }
// One rounding, or none: as if it were the identity.
void pull(Rule &r, arith::ExtFOp) { r.add(0, r.cotangent); }
void pull(Rule &r, arith::TruncFOp) { r.add(0, r.cotangent); }
// Equal operands: a maximum's cotangent goes to the second, so that a relu at 0
// has none; a minimum's to the first, so that a clamp passes it at its limit.
void pull(Rule &r, arith::MaximumFOp) {
  r.routed(r.compare(arith::CmpFPredicate::OGT, r.in(0), r.in(1)));
}
void pull(Rule &r, arith::MaxNumFOp) {
  r.routed(r.compare(arith::CmpFPredicate::OGT, r.in(0), r.in(1)));
}
void pull(Rule &r, arith::MinimumFOp) {
  r.routed(r.compare(arith::CmpFPredicate::ULE, r.in(0), r.in(1)));
}
void pull(Rule &r, arith::MinNumFOp) {
  r.routed(r.compare(arith::CmpFPredicate::OLE, r.in(0), r.in(1)));
}
void pull(Rule &r, arith::SelectOp op) {
  Value none = r.real(0.0);
  if (r.wants(1))
    r.add(1, r.pick(op.getCondition(), r.cotangent, none));
  if (r.wants(2))
    r.add(2, r.pick(op.getCondition(), none, r.cotangent));
}
void pull(Rule &r, math::ExpOp) { r.scaled(r.out()); }
void pull(Rule &r, math::Exp2Op) {
  r.scaled(r.times(r.out(), r.real(std::log(2.0))));
}
void pull(Rule &r, math::ExpM1Op) { r.scaled(r.plus(r.out(), r.real(1.0))); }
void pull(Rule &r, math::LogOp) { r.add(0, r.over(r.cotangent, r.in(0))); }
void pull(Rule &r, math::Log1pOp) {
  r.add(0, r.over(r.cotangent, r.plus(r.in(0), r.real(1.0))));
}
void pull(Rule &r, math::TanhOp) {
  r.scaled(r.minus(r.real(1.0), r.times(r.out(), r.out())));
}
void pull(Rule &r, math::SqrtOp) {
  r.add(0, r.over(r.times(r.cotangent, r.real(0.5)), r.out()));
}
void pull(Rule &r, math::RsqrtOp) {
  Value cube = r.times(r.times(r.out(), r.out()), r.out());
  r.scaled(r.times(cube, r.real(-0.5)));
}
void pull(Rule &r, math::ErfOp) {
  Value square = r.times(r.in(0), r.in(0));
  Value bell = math::ExpOp::create(r.b, r.negative(square));
  r.scaled(r.times(bell, r.real(2.0 / std::sqrt(M_PI))));
}
void pull(Rule &r, math::SinOp) { r.scaled(math::CosOp::create(r.b, r.in(0))); }
void pull(Rule &r, math::CosOp) {
  r.scaled(r.negative(math::SinOp::create(r.b, r.in(0))));
}
void pull(Rule &r, math::AbsFOp) {
  Value zero = r.real(0.0);
  Value isPositive = r.compare(arith::CmpFPredicate::OGT, r.in(0), zero);
  Value isNegative = r.compare(arith::CmpFPredicate::OLT, r.in(0), zero);
  Value sign = r.pick(isNegative, r.real(-1.0), zero);
  r.scaled(r.pick(isPositive, r.real(1.0), sign));
}
void pull(Rule &r, math::FmaOp) {
  if (r.wants(0))
    r.add(0, r.times(r.cotangent, r.in(1)));
  if (r.wants(1))
    r.add(1, r.times(r.cotangent, r.in(0)));
  r.add(2, r.cotangent);
}
void pull(Rule &r, math::PowFOp) {
  Value base = r.in(0), power = r.in(1);
  if (r.wants(0)) {
    Value less = math::PowFOp::create(r.b, base, r.minus(power, r.real(1.0)));
    r.add(0, r.times(r.cotangent, r.times(power, less)));
  }
  if (r.wants(1)) {
    // 0 to a positive power is 0, whatever its logarithm.
    Value log = math::LogOp::create(r.b, base);
    Value isZero = r.compare(arith::CmpFPredicate::OEQ, r.out(), r.real(0.0));
    Value slope = r.pick(isZero, r.real(0.0), r.times(r.out(), log));
    r.add(1, r.times(r.cotangent, slope));
  }
}

// Steps are flat.
void pull(Rule &, math::FloorOp) {}
void pull(Rule &, math::CeilOp) {}
void pull(Rule &, math::RoundOp) {}
void pull(Rule &, math::RoundEvenOp) {}
void pull(Rule &, math::TruncOp) {}

template <typename OpTy>
struct ElementModel
    : public DifferentiableOpInterface::ExternalModel<ElementModel<OpTy>,
                                                      OpTy> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    Rule rule{b, cotangents, op, cotangents.of(op->getResult(0))};
    pull(rule, cast<OpTy>(op));
    return success();
  }
  Residual getResidual(Operation *, unsigned) const {
    return Residual::recomputed;
  }
};

template <typename... OpTys> void attach(MLIRContext &context) {
  (OpTys::template attachInterface<ElementModel<OpTys>>(context), ...);
}

} // namespace

void moe::registerArithGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, arith::ArithDialect *) {
    attach<arith::AddFOp, arith::SubFOp, arith::MulFOp, arith::DivFOp,
           arith::NegFOp, arith::ExtFOp, arith::TruncFOp, arith::MaximumFOp,
           arith::MaxNumFOp, arith::MinimumFOp, arith::MinNumFOp,
           arith::SelectOp>(*context);
  });
  registry.addExtension(+[](MLIRContext *context, math::MathDialect *) {
    attach<math::ExpOp, math::Exp2Op, math::ExpM1Op, math::LogOp, math::Log1pOp,
           math::TanhOp, math::SqrtOp, math::RsqrtOp, math::ErfOp, math::SinOp,
           math::CosOp, math::AbsFOp, math::FmaOp, math::PowFOp, math::FloorOp,
           math::CeilOp, math::RoundOp, math::RoundEvenOp, math::TruncOp>(
        *context);
  });
}
