//===- MixWalk.h - Over the tokens that a token meets -----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What one token's part of a mix and of its backward share. Other tokens are
// taken a few at a time, so that a number of the token's own is loaded once for
// all of them. Blocks begin at the group's first token, and a block that ends
// behind the group, or where not all of it is met, is the same code with these
// left out: a row does not depend, to the last bit, on what it does not meet,
// nor on which tokens share its lanes.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_DIALECT_MOE_TRANSFORMS_MIXWALK_H
#define MOE_LIB_DIALECT_MOE_TRANSFORMS_MIXWALK_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"

namespace mlir::moe {

/// Some other tokens, and whether the token meets them; it meets all of a whole
/// block, where `isMet` is empty.
struct MixBlock {
  SmallVector<Value> others, isMet;
};

/// Who meets whom.
struct MixTokens {
  Value mask, offsets; ///< As of the op; null where absent.
  Value numTokens;     ///< Of all, index.
  Value token;         ///< The token's number.
  bool isCausal;
  bool isSeen = false; ///< The others see the token, rather than it them.
};

/// The heads of an op's query and key.
struct MixHeads {
  int64_t heads, width, shared;

  template <typename OpTy>
  explicit MixHeads(OpTy op)
      : heads(static_cast<int64_t>(op.getHeads())),
        width(op.getQuery().getType().getDimSize(1) / heads),
        shared(op.getKey().getType().getDimSize(1) / width) {}
};

/// How the ops of a mix count their tokens: always, from an operand where there
/// is one.
template <typename Model, typename OpTy>
struct MixTokenModel : public TokenBodyOpInterface::ExternalModel<Model, OpTy> {
  OpOperand *getFirstTokenOperand(Operation *op) const {
    MutableOperandRange range = cast<OpTy>(op).getFirstTokenMutable();
    return range.empty() ? nullptr : &range[0];
  }
  bool isNumbered(Operation *) const { return true; }
  void setFirstToken(Operation *op, Value first) const {
    cast<OpTy>(op).getFirstTokenMutable().assign(first);
  }
  /// Model::getAllTokens is an operand that has all tokens.
  void emitChecks(Operation *op, ImplicitLocOpBuilder &b) const {
    auto mix = cast<OpTy>(op);
    if (Value offsets = mix.getGroupOffsets())
      emitGroupOffsetsCheck(
          b, OpTy::getOperationName(), offsets,
          b.createOrFold<tensor::DimOp>(Model::getAllTokens(mix), 0));
  }
};

class MixWalk : public BodyBuilder {
public:
  MixWalk(ImplicitLocOpBuilder &b, FloatType type, MixTokens tokens,
          MixHeads heads)
      : BodyBuilder(b, type), heads(heads), tokens(tokens) {}

protected:
  using Read = llvm::function_ref<Value(Value other, Value place)>;
  using BlockBody = llvm::function_ref<SmallVector<Value>(const MixBlock &block,
                                                          ValueRange state)>;

  /// Runs `body` on one block after the other. A flag follows the state in what
  /// comes back: whether the token itself is not masked.
  SmallVector<Value> walk(ValueRange state, BlockBody body);

  /// The first column of a head of the query, and of the key.
  Value columnOfQuery(Value head) { return mulIndex(head, heads.width); }
  Value columnOfKey(Value head);
  Value addIndex(Value x, Value y);

  /// The sum over the places of own(place) * read(other, place), for each of a
  /// block's tokens.
  SmallVector<Value> emitDots(const MixBlock &block, int64_t width,
                              llvm::function_ref<Value(Value place)> own,
                              Read read);
  /// row[first + place] * shrink + the sum of factor * read(other, place) over
  /// the tokens that are met; null stands for no shrinking.
  Value accumulate(const MixBlock &block, Value row, Value first, int64_t width,
                   Value shrink, ArrayRef<Value> factors, Read read);
  /// The value where a block's token is met, `otherwise` elsewhere.
  Value whereMet(const MixBlock &block, size_t place, Value value,
                 Value otherwise);
  /// exp(x), and 0 for what is far below the rounding of a sum that has a term
  /// of 1: products of numbers below the normal range take many times as long.
  Value emitPower(Value x);
  Value fillRow(Value row, int64_t width, Value value);
  /// Zeros where a flag is not set.
  Value keepRow(Value row, int64_t width, Value isKept);

  MixHeads heads;

private:
  Value mulIndex(Value x, int64_t y);
  Value isIndexLess(Value x, Value y);
  Value compareToken(arith::CmpIPredicate predicate, Value place);
  Value readOffset(Value group);
  SmallVector<Value> walkGroup(Value low, Value high, ValueRange state,
                               BlockBody body);
  SmallVector<Value> visit(Value first, Value high, ValueRange state,
                           bool isWhole, BlockBody body);

  MixTokens tokens;
};

} // namespace mlir::moe

#endif // MOE_LIB_DIALECT_MOE_TRANSFORMS_MIXWALK_H
