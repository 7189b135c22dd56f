//===- MoeCapacity.cpp - The capacity rule as index arithmetic ---*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

static Value asValue(ImplicitLocOpBuilder &b, OpFoldResult size) {
  if (auto value = dyn_cast<Value>(size))
    return value;
  return arith::ConstantIndexOp::create(b, *getConstantIntValue(size));
}

int64_t CapacityAttr::getCapacity(int64_t tokens, int64_t numExperts,
                                  int64_t numSlots) const {
  if (getFixed() > 0)
    return getFixed();
  double exact = getFactor().convertToDouble() * static_cast<double>(tokens);
  if (getPer() == CapacityPer::slots)
    exact *= static_cast<double>(numSlots);
  exact /= static_cast<double>(numExperts);
  switch (getRounding()) {
  case Rounding::floor:
    exact = std::floor(exact);
    break;
  case Rounding::ceil:
    exact = std::ceil(exact);
    break;
  case Rounding::nearest:
    exact = std::floor(exact + 0.5);
    break;
  }
  // Far more tokens than ids can name would leave the range of the cast.
  exact = std::min(exact, 0x1p62);
  int64_t rounded = llvm::divideCeil(static_cast<uint64_t>(exact),
                                     static_cast<uint64_t>(getMultiple())) *
                    getMultiple();
  return std::max(getMin(), rounded);
}

int64_t CapacityAttr::getChoiceBound(int64_t tokens, int64_t groups,
                                     int64_t numExperts) const {
  if (groups == 1)
    return std::min(tokens, getCapacity(tokens, numExperts, /*numSlots=*/1));
  // Each group rounds up by less than 1 + (multiple - 1), or is lifted to min.
  int64_t share = 0, slack = getFixed();
  if (getFixed() == 0) {
    share = getShareRule().getCapacity(tokens, numExperts, /*numSlots=*/1);
    slack = getMultiple() + getMin();
  }
  int64_t bound;
  if (llvm::MulOverflow(groups, slack, bound) ||
      llvm::AddOverflow(bound, share, bound))
    return tokens;
  return std::min(tokens, bound);
}

CapacityAttr CapacityAttr::getShareRule() const {
  return get(getContext(), /*fixed=*/0, getFactor(), Rounding::ceil, getPer(),
             /*multiple=*/1, /*min=*/0);
}

OpFoldResult CapacityAttr::build(OpBuilder &builder, Location loc,
                                 OpFoldResult tokens, int64_t numExperts,
                                 int64_t numSlots) const {
  if (getFixed() > 0)
    return builder.getIndexAttr(getFixed());
  if (std::optional<int64_t> constant = getConstantIntValue(tokens))
    return builder.getIndexAttr(getCapacity(*constant, numExperts, numSlots));

  ImplicitLocOpBuilder b(loc, builder);
  auto f64 = [&](double value) -> Value {
    return arith::ConstantOp::create(b, b.getF64FloatAttr(value));
  };
  Value count =
      arith::IndexCastOp::create(b, b.getI64Type(), cast<Value>(tokens));
  Value exact = arith::SIToFPOp::create(b, b.getF64Type(), count);
  exact = arith::MulFOp::create(b, f64(getFactor().convertToDouble()), exact);
  if (getPer() == CapacityPer::slots)
    exact = arith::MulFOp::create(b, exact, f64(numSlots));
  exact = arith::DivFOp::create(b, exact, f64(numExperts));
  if (getRounding() == Rounding::nearest)
    exact = arith::AddFOp::create(b, exact, f64(0.5));
  // The value is not negative: truncation is floor, and one more where
  // something was cut off is ceil.
  Value whole = arith::FPToSIOp::create(b, b.getI64Type(), exact);
  if (getRounding() == Rounding::ceil) {
    Value back = arith::SIToFPOp::create(b, b.getF64Type(), whole);
    Value cut =
        arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, back, exact);
    whole = arith::AddIOp::create(
        b, whole, arith::ExtUIOp::create(b, b.getI64Type(), cut));
  }
  Value rounded = arith::IndexCastOp::create(b, b.getIndexType(), whole);
  if (getMultiple() > 1) {
    Value multiple = arith::ConstantIndexOp::create(b, getMultiple());
    rounded = arith::MulIOp::create(
        b, arith::CeilDivUIOp::create(b, rounded, multiple), multiple);
  }
  Value least = arith::ConstantIndexOp::create(b, getMin());
  return arith::MaxUIOp::create(b, rounded, least).getResult();
}

OpFoldResult CapacityAttr::buildChoiceBound(OpBuilder &builder, Location loc,
                                            OpFoldResult tokens,
                                            OpFoldResult groups,
                                            int64_t numExperts) const {
  ImplicitLocOpBuilder b(loc, builder);
  Value exact; ///< The rule itself, for one group.
  std::optional<int64_t> constantTokens = getConstantIntValue(tokens);
  std::optional<int64_t> constantGroups = getConstantIntValue(groups);
  if (constantTokens && constantGroups)
    return b.getIndexAttr(
        getChoiceBound(*constantTokens, *constantGroups, numExperts));
  Value all = asValue(b, tokens);
  if (getFixed() == 0 || constantGroups == 1) {
    Value rule =
        asValue(b, build(builder, loc, tokens, numExperts, /*numSlots=*/1));
    exact = arith::MinUIOp::create(b, all, rule);
    if (constantGroups == 1)
      return exact;
  }
  Value count = asValue(b, groups);
  Value bound;
  if (getFixed() > 0) {
    bound = arith::MulIOp::create(
        b, count, arith::ConstantIndexOp::create(b, getFixed()));
  } else {
    Value share = asValue(b, getShareRule().build(builder, loc, all, numExperts,
                                                  /*numSlots=*/1));
    Value slack = arith::MulIOp::create(
        b, count, arith::ConstantIndexOp::create(b, getMultiple() + getMin()));
    bound = arith::AddIOp::create(b, share, slack);
  }
  bound = arith::MinUIOp::create(b, bound, all);
  if (!exact) // A fixed capacity times one is itself.
    return bound;
  Value one = arith::ConstantIndexOp::create(b, 1);
  Value isOne = arith::CmpIOp::create(b, arith::CmpIPredicate::eq, count, one);
  return arith::SelectOp::create(b, isOne, exact, bound).getResult();
}
