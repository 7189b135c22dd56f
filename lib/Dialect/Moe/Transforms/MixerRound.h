//===- MixerRound.h - A round of SparseMixer --------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_MIXERROUND_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_MIXERROUND_H

#include "SampledBody.h"

namespace mlir::moe {

/// The softmax over those near the best of one round of #moe.sparse_mixer.
class MixerRound {
public:
  /// `best` is the largest logit left, `struckOut` the id of the first round;
  /// null in the first.
  MixerRound(SampledBody &body, SparseMixerAttr router, Value best,
             Value struckOut);

  /// The logit of an expert of this round, -inf where it is masked.
  Value readMasked(Value expert);
  /// The share of one that is not masked.
  Value shareOf(Value logit);
  Value getTotal() const { return total; }

private:
  SampledBody &body;
  SparseMixerAttr router;
  Value struckOut;
  Value top;   ///< Largest logit of the round; 0 where there is none.
  Value total; ///< Sum of exp(logit - top) of those not masked.
};

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_MIXERROUND_H
