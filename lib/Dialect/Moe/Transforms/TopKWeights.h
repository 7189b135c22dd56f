//===- TopKWeights.h - From scores of the chosen to weights -----*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_TOPKWEIGHTS_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_TOPKWEIGHTS_H

#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"

namespace mlir::moe {

/// What #moe.top_k makes of the scores of the chosen: normalises unless they
/// are already, scales, multiplies with the experts' own factors (none, or one
/// a slot), and empties the slots that are not valid (none, or one flag a
/// slot). Straight-line code, from which its backward is made.
void emitTopKWeights(BodyBuilder &body, TopKAttr router, bool isNormalized,
                     SmallVectorImpl<Value> &weights, ArrayRef<Value> factors,
                     ValueRange valid);

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_TOPKWEIGHTS_H
