//===- NoiseBody.h - Noise on the logits of one token -----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One code for #moe.noisy_top_k and for moe.noisy_logits, so that their numbers
// are equal to the last bit.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_NOISEBODY_H
#define MOE_DIALECT_MOE_UTILS_NOISEBODY_H

#include "moe/Dialect/Moe/Utils/BodyBuilder.h"

namespace mlir::moe {

/// The standard deviation of normal or learned noise; `raw` is what softplus
/// is taken of, null for normal noise.
Value emitSigma(BodyBuilder &b, const NoiseSettings &settings, Value raw);

/// A row of the token's logits with noise; `raw` is a row, or null.
Value emitNoisyRow(BodyBuilder &b, const NoiseSettings &settings,
                   const TokenRandom &random, Value logits, Value raw,
                   int64_t width);

/// The normal numbers that normal and learned noise is made of: a row [width].
Value emitNormalRow(BodyBuilder &body, const TokenRandom &random,
                    int64_t width);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_NOISEBODY_H
