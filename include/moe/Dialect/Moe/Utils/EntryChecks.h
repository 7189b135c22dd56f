//===- EntryChecks.h - Errors of an entry, in front of its loops -*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a call can get wrong is an error of the entry and not a read out of
// bounds. A task cannot leave the entry, so that all of these assertions stand
// in front of the loops over tiles that the builder is in, and speak of whole
// operands rather than of their tiles.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_ENTRYCHECKS_H
#define MOE_DIALECT_MOE_UTILS_ENTRYCHECKS_H

#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// Emits whether `init` holds, and a test for every place in [0, count).
using HoldsBuilder = llvm::function_ref<Value(
    Value count, Value init, llvm::function_ref<Value(Value place)> test)>;

/// Asserts that offsets [G+1] (i32) are not empty and ascend from 0 to the
/// number of tokens (an index); the message names `opName`. Neighbours are
/// compared by a loop, or as `emitHolds` has it.
void emitGroupOffsetsCheck(ImplicitLocOpBuilder &b, StringRef opName,
                           Value offsets, Value numTokens,
                           HoldsBuilder emitHolds = nullptr);

/// Asserts that every one of the ids [T, k] (i32) is in [-1, bound).
void emitIdsCheck(ImplicitLocOpBuilder &b, StringRef opName, Value ids,
                  int64_t bound);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_ENTRYCHECKS_H
