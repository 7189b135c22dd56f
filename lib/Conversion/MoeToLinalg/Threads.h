//===- Threads.h - Parallel loops whose iterations share nothing *- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_THREADS_H
#define MOE_LIB_CONVERSION_MOETOLINALG_THREADS_H

#include "Emit.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

namespace mlir::moe::tolinalg {

/// Tokens, or groups, in a chunk: what one iteration counts, adds or compares.
constexpr int64_t kChunk = 32;

/// The groups of an op's tokens, which iterations look up.
class TokenGroups {
public:
  /// Asserts that offsets, which may be null, ascend to the number of tokens.
  TokenGroups(ImplicitLocOpBuilder &b, StringRef opName, Value offsets,
              Value numTokens);

  Value getCount() const { return count; }
  Value getBegin(Value group) const;
  Value getEnd(Value group) const;
  /// The group of a token: so many others end in front of it.
  Value getGroup(Value token) const;

private:
  ImplicitLocOpBuilder &b;
  Value offsets, numTokens, count;
};

/// dest [m, n], each number by an iteration of its own, in dest's type.
Value emitNumbers(ImplicitLocOpBuilder &b, Value dest,
                  llvm::function_ref<Value(Value row, Value column)> number);

/// dest [m, n], a row [1, n] by an iteration.
Value emitRows(ImplicitLocOpBuilder &b, Value dest,
               llvm::function_ref<Value(Value row, Value part)> body);
/// The same rows of some [m, n], each of its own n.
SmallVector<Value> emitRows(
    ImplicitLocOpBuilder &b, ValueRange dests,
    llvm::function_ref<SmallVector<Value>(Value row, ValueRange parts)> body);

/// The inverse of a permutation: writes `row` to dest [m, 1] at each
/// place(row).
Value emitInverse(ImplicitLocOpBuilder &b, Value dest,
                  llvm::function_ref<Value(Value row)> place);

/// dest [T, n], the tokens of a group in one column, [count, 1], by an
/// iteration.
Value emitColumns(
    ImplicitLocOpBuilder &b, const TokenGroups &groups, Value dest,
    llvm::function_ref<Value(Value begin, Value end, Value column, Value part)>
        body);

/// Adds one where a condition holds.
Value emitCountIf(ImplicitLocOpBuilder &b, Value condition, Value count);

/// How many tokens of its group stand in front of a token in each column of
/// keys [T, n], as i32: those with a greater key, and the earlier ones with the
/// same.
Value emitRanks(ImplicitLocOpBuilder &b, const TokenGroups &groups,
                KeyOrder &order, Value keys);

/// A loop over the places of [begin, end) that a mask, which may be null, has.
Value emitLive(ImplicitLocOpBuilder &b, Value mask, Value begin, Value end,
               Value init, llvm::function_ref<Value(Value at, Value so)> body);

/// A sum of products in the order of [0, count).
Value emitSum(ImplicitLocOpBuilder &b, FloatType compute, Value count,
              llvm::function_ref<std::pair<Value, Value>(Value at)> factors);

/// Softmax over such a loop, of what `load` reads, in the compute type; written
/// to `part` where `place` says.
Value emitShares(ImplicitLocOpBuilder &b, FloatType compute, Value mask,
                 Value begin, Value end,
                 llvm::function_ref<Value(Value at)> load, Value part,
                 llvm::function_ref<SmallVector<Value>(Value at)> place);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_THREADS_H
