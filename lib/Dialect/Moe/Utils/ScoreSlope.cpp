//===- ScoreSlope.cpp - Derivatives of scores -----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/ScoreSlope.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;

Value moe::emitScoreSlope(BodyBuilder &body, ScoreKind kind, Value logit,
                          Value score) {
  switch (kind) {
  case ScoreKind::softmax:
    llvm_unreachable("softmax is of a row");
  case ScoreKind::sigmoid:
    return body.mul(score, body.sub(body.real(1.0), score));
  case ScoreKind::sqrt_softplus: {
    // Of sqrt(u): u' / (2 sqrt(u)), and softplus' is the logistic function.
    Value slope =
        body.div(body.logistic(logit), body.mul(body.real(2.0), score));
    Value isZero = arith::CmpFOp::create(
        body.getBuilder(), arith::CmpFPredicate::OEQ, score, body.real(0.0));
    return body.select(isZero, body.real(0.0), slope);
  }
  case ScoreKind::none:
    return body.real(1.0);
  }
  llvm_unreachable("all kinds are covered");
}

Value moe::emitSoftcapSlope(BodyBuilder &body, Value capped, double cap) {
  if (cap <= 0.0)
    return body.real(1.0);
  Value share = body.mul(capped, body.real(1.0 / cap));
  return body.sub(body.real(1.0), body.mul(share, share));
}
