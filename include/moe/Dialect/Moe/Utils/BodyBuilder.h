//===- BodyBuilder.h - Scalar code of token bodies --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Short names for what token bodies are made of: see TokenBodyAttrInterface for
// the rules that they keep.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_UTILS_BODYBUILDER_H
#define MOE_DIALECT_MOE_UTILS_BODYBUILDER_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {

class BodyBuilder {
public:
  BodyBuilder(ImplicitLocOpBuilder &b, FloatType type) : b(b), type(type) {}

  FloatType getType() const { return type; }
  ImplicitLocOpBuilder &getBuilder() { return b; }

  Value real(double value); ///< Of the compute type; so are all floats here.
  Value infinity(bool isNegative = false);
  Value nan();
  Value index(int64_t value);
  Value id(int64_t value); ///< An i32.
  Value flag(bool value);

  Value add(Value x, Value y);
  Value sub(Value x, Value y);
  Value mul(Value x, Value y);
  Value div(Value x, Value y);
  Value fma(Value x, Value y, Value z); ///< x * y + z, rounded once.
  Value exp(Value x);
  Value log(Value x);
  Value logistic(Value x); ///< 1 / (1 + exp(-x)), 0 and 1 at the infinities.
  /// cap * tanh(x / cap); x where the cap is 0.
  Value softcap(Value x, double cap);
  /// A score function of one logit: not softmax, which needs its row.
  Value score(ScoreKind kind, Value logit);
  /// Of ordered numbers; a NaN in x gives y.
  Value larger(Value x, Value y);
  Value smaller(Value x, Value y);

  Value isLess(Value x, Value y);    ///< Of floats: false for NaN.
  Value isGreater(Value x, Value y); ///< Likewise.
  Value isEqual(Value x, Value y);   ///< Of i32.
  Value isNatural(Value x);          ///< Of i32: not below 0.
  Value both(Value x, Value y);
  Value either(Value x, Value y);
  Value negate(Value flag);
  Value select(Value condition, Value x, Value y);
  /// values[place] for an i32 in [0, values.size()), any of them for another.
  Value pick(ArrayRef<Value> values, Value place);

  Value idOf(Value index); ///< An index as i32.
  Value addId(Value x, Value y);
  Value subId(Value x, Value y);

  using Loop =
      llvm::function_ref<SmallVector<Value>(Value index, ValueRange carried)>;
  /// A loop over [0, count) that carries values; and one from count - 1 down.
  SmallVector<Value> loop(int64_t count, ValueRange inits, Loop body);
  SmallVector<Value> loopDown(int64_t count, ValueRange inits, Loop body);
  /// A loop over low, low + step, .. below high, which no token has alone.
  SmallVector<Value> loopRange(Value low, Value high, int64_t step,
                               ValueRange inits, Loop body);

  /// read(id) for every id, found by comparing each of `count` numbers with all
  /// of them; 0 for an id that is none. No load depends on a token's value.
  SmallVector<Value> gather(ValueRange ids, int64_t count,
                            llvm::function_ref<Value(Value)> read);

  /// Rows that belong to the token.
  Value makeRow(ArrayRef<int64_t> shape);
  /// A row made place by place.
  Value mapRow(int64_t count, llvm::function_ref<Value(Value place)> value);
  Value read(Value row, ValueRange indices);
  /// An element of a tensor of any floating-point type that all tokens share.
  Value readShared(Value tensor, ValueRange indices);
  Value write(Value value, Value row, ValueRange indices);

  /// Runs `body`, which few tokens need; `values` are what it changes.
  SmallVector<Value> rarely(Value condition, ValueRange values,
                            llvm::function_ref<SmallVector<Value>()> body);

protected:
  ImplicitLocOpBuilder &b;
  FloatType type;
};

/// A float, or a vector of them, in another float type: one rounding, or exact.
/// Two types of one width meet in f32. What is no float stays as it is.
Value convertFloat(ImplicitLocOpBuilder &b, Value value, Type element);

/// f64 where a token operand or result of the op is, f32 otherwise.
FloatType getTokenComputeType(TokenBodyOpInterface op);

/// The four words of a Philox4x32-10 block of a token, as i32: the key is
/// `random.seed`, the counter token, `block` (i32) and layer.
std::array<Value, 4> emitPhilox(BodyBuilder &b, const TokenRandom &random,
                                Value block);

/// (word >> 8) * 2^-24, in [0, 1).
Value emitUniform(BodyBuilder &b, Value word);

/// A row of `count` numbers, one a draw: `spread` makes four of a block's
/// words, and value(place, drawn) is what stands at a place.
Value emitDrawnRow(
    BodyBuilder &b, const TokenRandom &random, int64_t count,
    llvm::function_ref<SmallVector<Value>(ArrayRef<Value> words)> spread,
    llvm::function_ref<Value(Value place, Value drawn)> value);
/// The same where `number` (emitUniform, emitGumbel) makes one of each word.
Value emitDrawnRow(BodyBuilder &b, const TokenRandom &random, int64_t count,
                   Value (*number)(BodyBuilder &b, Value word),
                   llvm::function_ref<Value(Value place, Value drawn)> value);

/// Normal numbers of two experts, by Box and Muller, from two words.
std::pair<Value, Value> emitNormals(BodyBuilder &b, Value word, Value next);

/// -log(-log(u + 2^-25)) of a word's uniform number u.
Value emitGumbel(BodyBuilder &b, Value word);

/// The uniform number of one draw, which is the same for all tokens.
Value emitDraw(BodyBuilder &b, const TokenRandom &random, int64_t draw);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_UTILS_BODYBUILDER_H
