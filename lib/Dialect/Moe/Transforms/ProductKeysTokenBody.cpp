//===- ProductKeysTokenBody.cpp - The token body of #moe.product_keys -----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A sum of the a-th largest left half and the b-th largest right half is beaten
// by those of all larger halves, (a + 1)(b + 1) - 1 of them: where that is k or
// more it is not among the k largest. About k log k sums are left of k^2.
//
//===----------------------------------------------------------------------===//

#include "SampledBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class ProductKeysBody : public SampledBody {
public:
  ProductKeysBody(ImplicitLocOpBuilder &b, const TokenBodyInputs &inputs,
                  ProductKeysAttr router)
      : SampledBody(b, inputs), router(router), order(b, type),
        numLeft(router.getLeft()), numRight(inputs.width - numLeft) {}

  TokenBodyResult build();

private:
  /// The largest of a half, as numbers, with their ids in it.
  RankedKeys rankHalf(int64_t first, int64_t count);
  struct HalfRows {
    Value values, ids;
  };
  HalfRows emitRows(const RankedKeys &half);
  RankedKeys rankSums(const RankedKeys &left, const RankedKeys &right);
  SmallVector<Value> weigh(ArrayRef<Value> sums, ValueRange absent);

  ProductKeysAttr router;
  KeyOrder order;
  int64_t numLeft, numRight;
};

RankedKeys ProductKeysBody::rankHalf(int64_t first, int64_t count) {
  int64_t kept = std::min(router.getK(), count);
  RankedKeys best = emitTopK(b, order, kept, count, [&](Value place) {
    Value column = arith::AddIOp::create(b, place, index(first));
    return order.encode(readLogit(column));
  });
  for (Value &key : best.keys)
    key = order.decode(key);
  return best;
}

/// Rows of a ranked half, which loops can read at a place.
ProductKeysBody::HalfRows ProductKeysBody::emitRows(const RankedKeys &half) {
  auto count = static_cast<int64_t>(half.ids.size());
  Value values = makeRow({count});
  Value ids =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{count}, b.getI32Type());
  for (int64_t place = 0; place < count; ++place) {
    values = write(half.keys[place], values, index(place));
    ids = write(half.ids[place], ids, index(place));
  }
  return {values, ids};
}

/// Inserts the sums that may be among the k largest; equal ones by their ids,
/// as they do not come in the order of these.
RankedKeys ProductKeysBody::rankSums(const RankedKeys &left,
                                     const RankedKeys &right) {
  int64_t k = router.getK();
  const HalfRows first = emitRows(left), second = emitRows(right);
  auto insert = [&](Value a, Value c, ValueRange so) {
    Value key =
        order.encode(add(read(first.values, a), read(second.values, c)));
    Value own = arith::MulIOp::create(b, read(first.ids, a), id(numRight));
    own = addId(own, read(second.ids, c));
    SmallVector<Value> best(so);
    for (int64_t place = 0; place < k; ++place) {
      Value &bestKey = best[place], &bestId = best[k + place];
      Value isEqualKey =
          arith::CmpIOp::create(b, arith::CmpIPredicate::eq, key, bestKey);
      Value isLower =
          arith::CmpIOp::create(b, arith::CmpIPredicate::slt, own, bestId);
      Value wins =
          either(order.isGreater(key, bestKey), both(isEqualKey, isLower));
      // What loses its place goes on to the next one.
      Value lostKey = select(wins, bestKey, key);
      Value lostId = select(wins, bestId, own);
      bestKey = select(wins, key, bestKey);
      bestId = select(wins, own, bestId);
      key = lostKey;
      own = lostId;
    }
    return best;
  };
  RankedKeys best = emitEmptyRanking(b, order, k);
  SmallVector<Value> state(best.keys);
  llvm::append_range(state, best.ids);
  state = loop(left.ids.size(), state, [&](Value a, ValueRange outer) {
    Value divisor = arith::AddIOp::create(b, a, index(1));
    Value most = arith::DivUIOp::create(b, index(k), divisor);
    Value end = arith::MinUIOp::create(b, most, index(right.ids.size()));
    return loopRange(index(0), end, 1, outer,
                     [&](Value c, ValueRange so) { return insert(a, c, so); });
  });
  best.keys.assign(state.begin(), state.begin() + k);
  best.ids.assign(state.begin() + k, state.end());
  return best;
}

SmallVector<Value> ProductKeysBody::weigh(ArrayRef<Value> sums,
                                          ValueRange absent) {
  if (router.getDomain() == ScoreDomain::topk)
    return weighChosen(sums, absent);
  // A half without any admissible one leaves all sums at -inf.
  auto [leftMax, leftSum] = sumPowers(0, numLeft);
  auto [rightMax, rightSum] = sumPowers(numLeft, numRight);
  SmallVector<Value> weights;
  for (Value logit : sums) {
    Value distance = sub(logit, add(leftMax, rightMax));
    weights.push_back(div(exp(distance), mul(leftSum, rightSum)));
  }
  return weights;
}

TokenBodyResult ProductKeysBody::build() {
  RankedKeys best = rankSums(rankHalf(0, numLeft), rankHalf(numLeft, numRight));
  SmallVector<Value> sums, absent;
  for (Value key : best.keys) {
    sums.push_back(order.decode(key));
    absent.push_back(isAbsent(sums.back()));
  }
  TokenBodyResult slots{best.ids, weigh(sums, absent)};
  return emptyAbsent(slots, absent);
}

struct ProductKeysModel
    : public TokenBodyAttrInterface::ExternalModel<ProductKeysModel,
                                                   ProductKeysAttr> {
  TokenBodyResult buildTokenBody(Attribute attr, ImplicitLocOpBuilder &b,
                                 const TokenBodyInputs &inputs) const {
    return ProductKeysBody(b, inputs, cast<ProductKeysAttr>(attr)).build();
  }
};

} // namespace

void moe::registerProductKeysTokenBodyModel(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    ProductKeysAttr::attachInterface<ProductKeysModel>(*context);
  });
}
