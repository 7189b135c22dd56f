//===- LoopBuilder.h - Scalar loops on buffers ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the oracle is written in: counted loops, conditions, loads and stores
// of one element. Nothing here knows how a value will be vectorised, fused or
// reused, and nothing here should.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLOOPS_LOOPBUILDER_H
#define MOE_LIB_CONVERSION_MOETOLOOPS_LOOPBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe::loops {

/// f64 where an operand or result of `op` is, f32 otherwise.
FloatType getComputeType(Operation *op);

/// Emits loops for one op. Floats are read into the compute type and rounded
/// where they are stored; indices are of type index until they are stored.
class LoopBuilder : public ImplicitLocOpBuilder {
public:
  LoopBuilder(Operation *op, OpBuilder &builder)
      : LoopBuilder(op, builder, loops::getComputeType(op)) {}
  LoopBuilder(Operation *op, OpBuilder &builder, FloatType compute)
      : ImplicitLocOpBuilder(op->getLoc(), builder), compute(compute) {}

  FloatType getComputeType() const { return compute; }

  //===--------------------------------------------------------------------===//
  // Scalars
  //===--------------------------------------------------------------------===//

  Value index(int64_t value);
  Value boolean(bool value);
  Value real(double value);
  Value real(const APFloat &value) { return real(value.convertToDouble()); }
  Value nan();
  Value negativeInfinity();

  Value add(Value x, Value y); ///< Of floats or of integers, as are the next.
  Value sub(Value x, Value y);
  Value mul(Value x, Value y);
  Value div(Value x,
            Value y); ///< Of indices: of numbers that are not negative.
  Value rem(Value x, Value y); ///< Of indices alone.
  /// The larger or smaller of two floats, NaN where either is.
  Value larger(Value x, Value y);
  Value smaller(Value x, Value y);
  Value smallerIndex(Value x, Value y);

  Value equal(Value x, Value y); ///< Of integers.
  Value less(Value x, Value y);  ///< Of signed integers, as is the next.
  Value lessEqual(Value x, Value y);
  Value both(Value x, Value y);
  Value either(Value x, Value y);
  Value negate(Value condition);
  /// low <= x < high.
  Value inRange(Value x, Value low, Value high);
  Value select(Value condition, Value x, Value y);

  /// A float in another float type; one rounding where that is narrower.
  Value cast(Value value, FloatType type);
  /// The value after a round trip through a type, null meaning none.
  Value roundThrough(Value value, FloatType type);
  Value toReal(Value count);

  //===--------------------------------------------------------------------===//
  // Control flow
  //===--------------------------------------------------------------------===//

  using Body = llvm::function_ref<void(Value)>;
  using Fold =
      llvm::function_ref<SmallVector<Value>(Value iv, ValueRange carried)>;

  /// for (iv = low; iv < high; ++iv)
  void loop(Value low, Value high, Body body);
  void loop(Value high, Body body) { loop(index(0), high, body); }
  /// The same with carried values.
  SmallVector<Value> fold(Value low, Value high, ValueRange init, Fold body);
  /// The sum of term(iv), in order, from 0.
  Value sum(Value low, Value high, llvm::function_ref<Value(Value)> term);

  void when(Value condition, llvm::function_ref<void()> body,
            llvm::function_ref<void()> otherwise = nullptr);
  /// The value of one branch; the other is not run.
  Value pick(Type type, Value condition, llvm::function_ref<Value()> body,
             llvm::function_ref<Value()> otherwise);

  //===--------------------------------------------------------------------===//
  // Buffers
  //===--------------------------------------------------------------------===//

  /// The memory of a tensor that is only read, or a memref itself; null for
  /// null.
  Value input(Value tensorOrMemref);
  /// A new buffer for a result of this shape.
  Value output(Type type, ArrayRef<OpFoldResult> shape);
  /// The buffer a destination-style op writes: a memref itself, or a new buffer
  /// with the content of the tensor.
  Value destination(Value init);
  /// Memory for the op's own use.
  Value scratch(Type element, ArrayRef<Value> shape);
  Value tensorOf(Value buffer, Type type);

  Value size(Value buffer, int64_t dim);
  /// A float in the compute type, an i32 as an index, an i1 as it is.
  Value load(Value buffer, ValueRange at);
  /// The reverse of `load`; a float rounds to the buffer's type.
  void store(Value value, Value buffer, ValueRange at);
  /// Runs `body` on every place of a buffer.
  void loopAll(Value buffer, llvm::function_ref<void(ValueRange)> body);
  /// Stores one value everywhere.
  void fill(Value buffer, Value value);

  //===--------------------------------------------------------------------===//
  // What several ops need
  //===--------------------------------------------------------------------===//

  /// Whether a later key replaces an earlier one: it is larger, or it is a
  /// number and the earlier is NaN.
  Value beats(Value later, Value earlier);

  /// Visits the `count` largest of key(low) .. key(high - 1), the largest
  /// first, ties to the lower index: each round looks at every index whose flag
  /// in `taken` is not set, and sets that of the winner. Where nothing is left,
  /// nothing is visited.
  void visitLargest(Value low, Value high, Value count, Value taken,
                    llvm::function_ref<Value(Value)> key,
                    llvm::function_ref<void(Value rank, Value at)> visit);

  /// exp(x - max) / sum of the same, over the members of low .. high - 1, or
  /// over all of them where `isMember` is null.
  void softmax(Value low, Value high, llvm::function_ref<Value(Value)> isMember,
               llvm::function_ref<Value(Value)> read,
               llvm::function_ref<void(Value at, Value share)> write);

  /// The backward of a softmax: share (slope - the sum of share * slope) of
  /// each of its members, as `softmax` knows them.
  void pullSoftmax(Value low, Value high,
                   llvm::function_ref<Value(Value)> isMember,
                   llvm::function_ref<Value(Value)> share,
                   llvm::function_ref<Value(Value)> slope,
                   llvm::function_ref<void(Value at, Value pulled)> write);

  /// 1 / (1 + exp(-x)), accurate on both sides.
  Value sigmoid(Value x);
  /// cap * tanh(x / cap); x where cap is 0.
  Value softcap(Value x, double cap);
  /// A score function of one logit; not softmax, which needs its row.
  Value score(ScoreKind kind, Value logit);

  /// cf.assert with a message that names the op.
  void assertThat(Operation *op, Value condition, StringRef message);
  /// The assertion that the offsets of groups ascend from 0 to `tokens`.
  void checkGroups(Operation *op, Value offsets, Value tokens);
  /// Runs `body` on the bounds of every group of tokens: those of `offsets`, or
  /// 0 and `tokens` where that is null.
  void loopGroups(Value offsets, Value tokens,
                  llvm::function_ref<void(Value low, Value high)> body);

  /// Whether a token takes part; always where there is no mask.
  Value isLive(Value mask, Value token);

private:
  FloatType compute;
};

/// reifyResultShapes, which no op of the dialect fails.
ReifiedRankedShapedTypeDims reifyShapes(Operation *op, OpBuilder &builder);

/// Whether the oracle has a rule for the router, or the router a token body.
bool hasKnownRouter(RouteOp op);

/// A token's row of a tensor, in another element type, as a tensor.
Value readRow(LoopBuilder &b, Value tensor, Value token, int64_t width,
              Type element);

void populateRoutingPatterns(RewritePatternSet &patterns);
void populateChoicePatterns(RewritePatternSet &patterns);
void populateMixPatterns(RewritePatternSet &patterns);
void populateSlotPatterns(RewritePatternSet &patterns);
void populateTokenPatterns(RewritePatternSet &patterns);
void populateLossPatterns(RewritePatternSet &patterns);
void populateDispatchPatterns(RewritePatternSet &patterns);
void populateExpertPatterns(RewritePatternSet &patterns);
void populateGradientPatterns(RewritePatternSet &patterns);
void populatePrimitivePatterns(RewritePatternSet &patterns);

} // namespace mlir::moe::loops

#endif // MOE_LIB_CONVERSION_MOETOLOOPS_LOOPBUILDER_H
