//===- ScoreSlope.h - Derivatives of scores ---------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_SCORESLOPE_H
#define MOE_DIALECT_MOE_UTILS_SCORESLOPE_H

#include "moe/Dialect/Moe/Utils/BodyBuilder.h"

namespace mlir::moe {

/// The derivative of a score function of one logit; not softmax. 0 where the
/// score has underflowed, NaN for NaN.
Value emitScoreSlope(BodyBuilder &body, ScoreKind kind, Value logit,
                     Value score);

/// The derivative of softcap, from the capped logit; 1 where the cap is 0.
Value emitSoftcapSlope(BodyBuilder &body, Value capped, double cap);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_SCORESLOPE_H
