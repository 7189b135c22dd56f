//===- LaneIO.h - Token rows to lanes and back ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Loads and stores of a block of token rows, transposed in registers so that
// one token is one lane. The lanes of a last block that has fewer tokens repeat
// the last token: its results are written again, all equal, so that no row
// needs a condition.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_LANEIO_H
#define MOE_DIALECT_MOE_UTILS_LANEIO_H

#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

class LaneIO {
public:
  /// The block of tokens [first, first + lanes) of `tokens`; `lanes` is a power
  /// of two.
  LaneIO(ImplicitLocOpBuilder &b, int64_t lanes, Value tokens, Value first);

  /// The block's rows of `rows` [T, n] as tensor<n x lanes x type>.
  Value readRows(Value rows, Type type);
  /// The block's elements of `values` [T].
  Value readScalars(Value values, Type type);
  /// The numbers of the block's tokens as i64, from that of token 0 (null: 0).
  Value readNumbers(Value firstNumber);
  /// Writes the block's values into `dest`, whose first dimension is T.
  Value write(const TokenValue &value, Value dest);

private:
  /// A vector into [T].
  Value writeScalars(Value values, Value dest);
  /// One vector a column into [T, n].
  Value writeColumns(ArrayRef<Value> columns, Value dest, Value place);
  /// [n x lanes] into [T, n].
  Value writeRows(Value rows, Value dest);
  Value
  forBlocks(int64_t width, Value init,
            llvm::function_ref<Value(Value column, int64_t size, Value carried)>
                block);
  Value shuffle(Value low, Value high, ArrayRef<int64_t> mask);
  SmallVector<Value> turn(SmallVector<Value> rows);
  SmallVector<Value> turnBack(SmallVector<Value> columns);

  ImplicitLocOpBuilder &b;
  int64_t lanes;
  Value first, last;        ///< Tokens: the block's, and the last of all.
  SmallVector<Value> token; ///< The token of each lane.
};

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_LANEIO_H
