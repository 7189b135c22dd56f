//===- ProductKeysTokenVJP.cpp - The backward of #moe.product_keys --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TokenVJPBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class ProductKeysBackward : public TokenVJPBody {
public:
  ProductKeysBackward(ImplicitLocOpBuilder &b, const TokenVJPInputs &inputs,
                      ProductKeysAttr router)
      : TokenVJPBody(b, inputs), router(router), numLeft(router.getLeft()),
        numRight(inputs.forward.width - numLeft) {}

  TokenVJPResult build();

private:
  /// The places of the chosen in the row of logits, by half; -1 where empty.
  void findPlaces();
  SmallVector<Value> gatherHalf(ArrayRef<Value> places);
  /// The weights of a softmax over all, products of the halves' shares.
  SmallVector<Value> weighAll(ArrayRef<Value> left, ArrayRef<Value> right);
  Value shareAt(const PowerSum &half, Value logit);

  ProductKeysAttr router;
  int64_t numLeft, numRight;
  SmallVector<Value> leftPlaces, rightPlaces;
  PowerSum leftSum, rightSum; ///< Of the softmax over all.
};

void ProductKeysBackward::findPlaces() {
  for (auto [own, isValid] : llvm::zip(ids, valid)) {
    Value count = id(numRight), none = id(-1);
    Value left = arith::DivSIOp::create(b, own, count);
    Value right = arith::RemSIOp::create(b, own, count);
    leftPlaces.push_back(select(isValid, left, none));
    rightPlaces.push_back(select(isValid, addId(right, id(numLeft)), none));
  }
}

SmallVector<Value> ProductKeysBackward::gatherHalf(ArrayRef<Value> places) {
  return gather(places, in.width,
                [&](Value column) { return readLogit(column); });
}

Value ProductKeysBackward::shareAt(const PowerSum &half, Value logit) {
  return div(exp(sub(logit, half.largest)), half.total);
}

SmallVector<Value> ProductKeysBackward::weighAll(ArrayRef<Value> left,
                                                 ArrayRef<Value> right) {
  leftSum = sumPowers(0, numLeft);
  rightSum = sumPowers(numLeft, numRight);
  SmallVector<Value> shares;
  for (auto [first, second, isValid] : llvm::zip(left, right, valid)) {
    Value share = mul(shareAt(leftSum, first), shareAt(rightSum, second));
    shares.push_back(select(isValid, share, real(0.0)));
  }
  return shares;
}

/// A half's logit has the gradient of every chosen sum that it is part of;
/// over all, less its own share of them all.
TokenVJPResult ProductKeysBackward::build() {
  findPlaces();
  SmallVector<Value> left = gatherHalf(leftPlaces);
  SmallVector<Value> right = gatherHalf(rightPlaces);
  bool isOverAll = router.getDomain() == ScoreDomain::all;
  SmallVector<Value> slopes;
  Value total = real(0.0);
  if (isOverAll) {
    for (auto [share, cotangent] :
         llvm::zip(weighAll(left, right), cotangents)) {
      slopes.push_back(mul(share, cotangent));
      total = add(total, slopes.back());
    }
  } else {
    SmallVector<Value> sums;
    for (auto [first, second] : llvm::zip(left, right))
      sums.push_back(add(first, second));
    slopes = pullChosenSoftmax(weighChosenLogits(sums), cotangents);
  }
  TokenVJPResult result;
  result.logits = mapRow([&](Value column) {
    Value number = idOf(column), sum = real(0.0);
    for (auto [slot, slope] : llvm::enumerate(slopes)) {
      Value isOwn = either(isEqual(leftPlaces[slot], number),
                           isEqual(rightPlaces[slot], number));
      sum = add(sum, select(isOwn, slope, real(0.0)));
    }
    if (!isOverAll)
      return sum;
    Value isLeft = arith::CmpIOp::create(b, arith::CmpIPredicate::slt, number,
                                         id(numLeft));
    PowerSum half = {select(isLeft, leftSum.largest, rightSum.largest),
                     select(isLeft, leftSum.total, rightSum.total)};
    return sub(sum, mul(total, shareAt(half, readLogit(column))));
  });
  return result;
}

struct ProductKeysVJPModel
    : public TokenVJPAttrInterface::ExternalModel<ProductKeysVJPModel,
                                                  ProductKeysAttr> {
  TokenVJPResult buildTokenVJP(Attribute attr, ImplicitLocOpBuilder &b,
                               const TokenVJPInputs &inputs) const {
    return ProductKeysBackward(b, inputs, cast<ProductKeysAttr>(attr)).build();
  }
};

} // namespace

void moe::registerProductKeysVJPModel(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    ProductKeysAttr::attachInterface<ProductKeysVJPModel>(*context);
  });
}
