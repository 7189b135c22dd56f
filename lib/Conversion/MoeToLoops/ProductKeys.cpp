//===- ProductKeys.cpp - Product keys as loops ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SampledRule.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

/// All n m sums, one after the other.
class ProductKeysRule {
public:
  ProductKeysRule(LoopBuilder &b, RouteOp op, ProductKeysAttr router)
      : b(b), router(router), logits(b.input(op.getLogits())),
        left(b.index(router.getLeft())), right(b.sub(b.size(logits, 1), left)),
        numExperts(b.mul(left, right)),
        sums(b.scratch(b.getComputeType(), numExperts)),
        taken(b.scratch(b.getI1Type(), numExperts)),
        shares(b.scratch(b.getComputeType(), numExperts)),
        wanted(b.scratch(b.getI1Type(), numExperts)) {}

  void routeToken(Value token, Value ids, Value weights);

private:
  Value isNone(Value sum) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, sum,
                                 b.negativeInfinity());
  }

  LoopBuilder &b;
  ProductKeysAttr router;
  Value logits, left, right, numExperts;
  Value sums, taken, shares, wanted; ///< [n m]
};

void ProductKeysRule::routeToken(Value token, Value ids, Value weights) {
  b.loop(numExperts, [&](Value e) {
    Value first = b.load(logits, {token, b.div(e, right)});
    Value second = b.load(logits, {token, b.add(left, b.rem(e, right))});
    b.store(b.add(first, second), sums, e);
  });
  b.fill(taken, b.boolean(false));
  b.fill(wanted, b.boolean(router.getDomain() == ScoreDomain::all));
  b.visitLargest(
      b.index(0), numExperts, b.index(router.getK()), taken,
      [&](Value e) { return b.load(sums, e); },
      [&](Value rank, Value e) {
        b.when(b.negate(isNone(b.load(sums, e))), [&] {
          b.store(e, ids, {token, rank});
          b.store(b.boolean(true), wanted, e);
        });
      });
  b.softmax(
      b.index(0), numExperts, [&](Value e) { return b.load(wanted, e); },
      [&](Value e) { return b.load(sums, e); },
      [&](Value e, Value share) { b.store(share, shares, e); });
  b.loop(b.index(router.getK()), [&](Value slot) {
    Value e = b.load(ids, {token, slot});
    b.when(b.lessEqual(b.index(0), e),
           [&] { b.store(b.load(shares, e), weights, {token, slot}); });
  });
}

} // namespace

bool loops::routeByProductKeys(LoopBuilder &b, RouteOp op, Value ids,
                               Value weights) {
  auto router = dyn_cast<ProductKeysAttr>(op.getRouter());
  if (router)
    routeTokens(b, op, ProductKeysRule(b, op, router), ids, weights);
  return static_cast<bool>(router);
}
