//===- MixerRound.cpp - A round of SparseMixer ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MixerRound.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;

MixerRound::MixerRound(SampledBody &body, SparseMixerAttr router, Value best,
                       Value struckOut)
    : body(body), router(router), struckOut(struckOut) {
  Value none = body.infinity(/*isNegative=*/true);
  Value isNone = arith::CmpFOp::create(body.getBuilder(),
                                       arith::CmpFPredicate::OEQ, best, none);
  top = body.select(isNone, body.real(0.0), best);
  total = body.loop(body.getWidth(), body.real(0.0),
                    [&](Value expert, ValueRange so) -> SmallVector<Value> {
                      Value power = body.exp(body.sub(readMasked(expert), top));
                      return {body.add(so[0], power)};
                    })[0];
}

Value MixerRound::readMasked(Value expert) {
  Value logit = body.readLogit(expert);
  Value below =
      body.larger(math::AbsFOp::create(body.getBuilder(), logit), top);
  // Not a number where both are 0, and masks nothing then.
  Value distance = body.div(body.sub(top, logit), below);
  Value limit = body.real(2.0 * router.getEps().convertToDouble());
  return body.select(body.isGreater(distance, limit),
                     body.infinity(/*isNegative=*/true),
                     body.readLeft(expert, struckOut));
}

Value MixerRound::shareOf(Value logit) {
  return body.div(body.exp(body.sub(logit, top)), total);
}
