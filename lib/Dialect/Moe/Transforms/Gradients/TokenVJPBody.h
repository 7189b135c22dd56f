//===- TokenVJPBody.h - What backwards of routers share ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_GRADIENTS_TOKENVJPBODY_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_GRADIENTS_TOKENVJPBODY_H

#include "../SampledBody.h"

namespace mlir::moe {

/// The chosen of a token and their cotangents, which are 0 at empty slots. The
/// backward of a router goes in two steps: from the weights to the shares of
/// the chosen, slot by slot, and from these to the row of logits.
class TokenVJPBody : public SampledBody {
public:
  TokenVJPBody(ImplicitLocOpBuilder &b, const TokenVJPInputs &inputs);

protected:
  /// The values of the slots that hold an expert, added up, at every expert: a
  /// row made place by place from `value(expert, sum)`.
  Value scatter(ArrayRef<Value> values,
                llvm::function_ref<Value(Value expert, Value sum)> value);
  /// The same as it is.
  Value scatter(ArrayRef<Value> values);
  /// A row of the experts made place by place.
  Value mapRow(llvm::function_ref<Value(Value expert)> value) {
    return SampledBody::mapRow(in.width, value);
  }
  /// The sum of products.
  Value dot(ArrayRef<Value> x, ArrayRef<Value> y);
  /// read(id) of every slot; 0 for empty ones.
  SmallVector<Value> gatherChosen(llvm::function_ref<Value(Value)> read) {
    return gather(ids, in.width, read);
  }
  /// The row of logits from the cotangents of the chosen's shares of a softmax
  /// over all: scale s_e (d_e - sum_j d_j s_j). emitSoftmax was called.
  Value pullSoftmax(ArrayRef<Value> shares, ArrayRef<Value> cotangents);
  /// The logits of the chosen from the cotangents of a softmax over them alone.
  SmallVector<Value> pullChosenSoftmax(ArrayRef<Value> shares,
                                       ArrayRef<Value> cotangents);
  /// The softmax over the logits of the chosen alone; 0 for empty slots.
  SmallVector<Value> weighChosenLogits(ArrayRef<Value> logits);
  /// The cotangents of `inputs` from those of `outputs`; 0 where there is none.
  SmallVector<Value> pullSlots(ValueRange outputs, ArrayRef<Value> cotangents,
                               ValueRange inputs);

  SmallVector<Value> ids, weights, cotangents;
  SmallVector<Value> valid; ///< Whether a slot holds an expert.
};

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_GRADIENTS_TOKENVJPBODY_H
