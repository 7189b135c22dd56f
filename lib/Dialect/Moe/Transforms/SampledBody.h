//===- SampledBody.h - What bodies of sampling routers share ----*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_SAMPLEDBODY_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_SAMPLEDBODY_H

#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

namespace mlir::moe {

/// An expert and its logit, -inf where there is none.
struct Pick {
  Value id;
  Value logit;
};

/// Numbers x as their largest, 0 where that is -inf, and the sum of
/// exp(x - largest).
struct PowerSum {
  Value largest;
  Value total;
};

/// What these routers share: a softmax over all experts, and the k largest.
class SampledBody : public BodyBuilder {
public:
  SampledBody(ImplicitLocOpBuilder &b, const TokenBodyInputs &inputs)
      : BodyBuilder(b, inputs.computeType), in(inputs) {}

  int64_t getWidth() const { return in.width; }
  Value readLogit(Value expert) { return read(in.logits, expert); }
  /// A logit, or -inf for the expert `struckOut`; null means nobody.
  Value readLeft(Value expert, Value struckOut);

protected:
  /// The largest logit and the sum of exp(scale (logit - largest)): NaN for a
  /// row with a NaN.
  void emitSoftmax(double scale = 1.0);
  /// The share of a logit.
  Value shareOf(Value logit);
  Value isAbsent(Value logit); ///< -inf: cannot be chosen.
  TokenBodyResult emptyAbsent(TokenBodyResult slots, ValueRange absent);
  /// A softmax over the chosen alone, the largest first; 0 for absent ones.
  SmallVector<Value> weighChosen(ValueRange logits, ValueRange absent);
  /// The k largest logits in descending order, as keys hold them.
  RankedKeys chooseLargest(int64_t k, SmallVectorImpl<Value> &chosenLogits);
  /// Of `count` logits from `first` on.
  PowerSum sumPowers(int64_t first, int64_t count);
  /// The expert with the largest of the values.
  Pick chooseOne(llvm::function_ref<Value(Value expert)> value);

  TokenBodyInputs in;
  Value largest, sum;
  double scale = 1.0;
};

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_SAMPLEDBODY_H
