//===- GroupFolds.h - Sums over the tokens of groups, by chunks -*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A group's tokens come in chunks from its first on; the last is never full and
// may have none. An iteration folds one column of a chunk in the order of its
// tokens, another the group's chunks in theirs, so that the order of a sum
// follows from the groups alone. Chunks of all groups share one list, in which
// group g begins at row begin(g) / kChunk + g: behind all that the groups in
// front may need.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_GROUPFOLDS_H
#define MOE_LIB_CONVERSION_MOETOLINALG_GROUPFOLDS_H

#include "Threads.h"

namespace mlir::moe::tolinalg {

class GroupFolds {
public:
  /// Asserts that offsets, which may be null, ascend; `mask` may be null.
  GroupFolds(ImplicitLocOpBuilder &b, StringRef opName, Value offsets,
             Value mask, Value numTokens);

  using Visit = llvm::function_ref<Value(Value token, Value column, Value so)>;
  using Combine = llvm::function_ref<Value(Value so, Value other)>;

  /// A table [groups, width] of init's type: what `visit` makes of the tokens
  /// of a group that take part, from `init` on, by chunks that `combine` puts
  /// together.
  Value emit(int64_t width, Value init, Visit visit, Combine combine);
  /// The same of the slots [first, last) of ids [T, K] that chose column, for
  /// each of which `next` goes on.
  Value
  emitOfSlots(Value ids, int64_t width, Value first, Value last, Value init,
              llvm::function_ref<Value(Value token, Value slot, Value so)> next,
              Combine combine);
  /// How many these are, i32.
  Value emitSlotCounts(Value ids, int64_t width, Value first, Value last);
  /// Sums of a term, of its type.
  Value emitSums(int64_t width, FloatType type,
                 llvm::function_ref<Value(Value token, Value column)> term);
  /// Softmax of each of `width` columns over the tokens of a group that take
  /// part, [T, width]; others have a number that means nothing.
  Value emitShares(int64_t width, FloatType type,
                   llvm::function_ref<Value(Value token, Value column)> load);

  /// A table without contents.
  Value emitTable(int64_t width, Type type);
  /// How many tokens of a group take part, i32.
  Value getNumTokens(Value group);
  /// The group of a token, by a list that is made for this.
  Value getGroup(Value token);
  Value getNumGroups() const { return groups.getCount(); }
  Value getCountOfTokens() const { return numTokens; }
  /// What `body` gives where a token takes part, `otherwise` elsewhere.
  SmallVector<Value>
  emitWhereLive(Value token, ValueRange otherwise,
                llvm::function_ref<SmallVector<Value>()> body);

private:
  /// The first chunk of a group, and one behind its last.
  Value getFirstChunk(Value group);
  Value getLastChunk(Value group);

  ImplicitLocOpBuilder &b;
  Value mask, numTokens;
  TokenGroups groups;
  Value zero, size;
  Value numChunks;
  Value ofChunks, ofTokens; ///< Lists of groups, [n, 1] i32; null for one.
  Value live;               ///< [groups, 1] i32, null without a mask.
};

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_GROUPFOLDS_H
