//===- GroupOffsets.h - The check of group offsets --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_GROUPOFFSETS_H
#define MOE_DIALECT_MOE_UTILS_GROUPOFFSETS_H

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// Emits the assertions that offsets [G+1] (i32) are not empty and ascend from
/// 0 to the number of tokens (an index); the message names `opName`. They stand
/// in front of loops over tiles that the builder is in.
void emitGroupOffsetsCheck(ImplicitLocOpBuilder &b, StringRef opName,
                           Value offsets, Value numTokens);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_GROUPOFFSETS_H
