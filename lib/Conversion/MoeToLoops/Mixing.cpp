//===- Mixing.cpp - Mixes over tokens as loops ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LoopBuilder.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

/// What both mixes share: who sees whom, and the sum over heads.
template <typename OpTy> class MixRule {
public:
  MixRule(LoopBuilder &b, OpTy op)
      : b(b), op(op), values(b.input(op.getValues())),
        posterior(b.input(op.getPosterior())), mask(b.input(op.getTokenMask())),
        offsets(b.input(op.getGroupOffsets())), numTokens(b.size(values, 0)),
        numExperts(b.size(values, 1)) {
    if (offsets)
      b.checkGroups(op, offsets, numTokens);
  }

  Value getNumTokens() const { return numTokens; }

  /// The number of a row's token.
  Value tokenOf(Value row) {
    if (!op.getFirstToken())
      return row;
    Value first =
        arith::IndexCastOp::create(b, b.getIndexType(), op.getFirstToken());
    return b.add(first, row);
  }

  /// Runs `body` on the bounds of the group that a token is in.
  void withGroup(Value token, llvm::function_ref<void(Value, Value)> body) {
    b.loopGroups(offsets, numTokens, [&](Value low, Value high) {
      b.when(b.inRange(token, low, high), [&] { body(low, high); });
    });
  }

  /// Whether a live token sees another one of its group.
  Value sees(Value token, Value other) {
    Value isSeen = b.isLive(mask, other);
    return op.getCausal() ? b.both(isSeen, b.lessEqual(other, token)) : isSeen;
  }

  /// mixed[row, :] from A_h[token, other].
  void mixRow(Value row, Value heads, Value mixed,
              llvm::function_ref<void(Value head, Value low, Value high)> ready,
              llvm::function_ref<Value(Value head, Value other)> weight) {
    Value token = tokenOf(row);
    Value sum = b.scratch(b.getComputeType(), numExperts);
    b.fill(sum, b.real(0.0));
    b.when(b.isLive(mask, token), [&] {
      withGroup(token, [&](Value low, Value high) {
        b.loop(heads, [&](Value head) {
          ready(head, low, high);
          Value share = posterior ? b.load(posterior, {row, head})
                                  : b.div(b.real(1.0), b.toReal(heads));
          b.loop(numExperts, [&](Value e) {
            Value part = b.sum(low, high, [&](Value other) {
              return b.pick(
                  b.getComputeType(), sees(token, other),
                  [&] {
                    return b.mul(weight(head, other),
                                 b.load(values, {other, e}));
                  },
                  [&] { return b.real(0.0); });
            });
            b.store(b.add(b.load(sum, e), b.mul(share, part)), sum, e);
          });
        });
      });
    });
    b.loop(numExperts,
           [&](Value e) { b.store(b.load(sum, e), mixed, {row, e}); });
  }

private:
  LoopBuilder &b;
  OpTy op;
  Value values, posterior, mask, offsets; ///< Operands; null where absent.
  Value numTokens, numExperts;
};

struct LowerMix : public OpRewritePattern<MixOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MixOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    MixRule<MixOp> rule(b, op);
    Value query = b.input(op.getQuery()), key = b.input(op.getKey());
    Value mixed = b.output(op.getMixed().getType(), reifyShapes(op, b)[0]);
    Value heads = b.index(static_cast<int64_t>(op.getHeads()));
    Value width = b.div(b.size(query, 1), heads);
    Value shared = b.div(b.size(key, 1), width);
    Value scale = b.real(op.getScale());
    Value weights = b.scratch(b.getComputeType(), rule.getNumTokens());
    b.loop(b.size(mixed, 0), [&](Value row) {
      Value token = rule.tokenOf(row);
      auto ready = [&](Value head, Value low, Value high) {
        Value keyHead = b.div(b.mul(head, shared), heads);
        auto product = [&](Value other) {
          Value sum = b.sum(b.index(0), width, [&](Value place) {
            Value own = b.add(b.mul(head, width), place);
            Value column = b.add(b.mul(keyHead, width), place);
            return b.mul(b.load(query, {row, own}),
                         b.load(key, {other, column}));
          });
          return b.mul(scale, sum);
        };
        b.softmax(
            low, high, [&](Value other) { return rule.sees(token, other); },
            product,
            [&](Value other, Value share) { b.store(share, weights, other); });
      };
      rule.mixRow(row, heads, mixed, ready,
                  [&](Value, Value other) { return b.load(weights, other); });
    });
    rewriter.replaceOp(op, b.tensorOf(mixed, op.getMixed().getType()));
    return success();
  }
};

struct LowerMixMatrix : public OpRewritePattern<MixMatrixOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MixMatrixOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    MixRule<MixMatrixOp> rule(b, op);
    Value matrices = b.input(op.getMatrices());
    Value mixed = b.output(op.getMixed().getType(), reifyShapes(op, b)[0]);
    b.loop(b.size(mixed, 0), [&](Value row) {
      rule.mixRow(
          row, b.size(matrices, 0), mixed, [](Value, Value, Value) {},
          [&](Value head, Value other) {
            return b.load(matrices, {head, row, other});
          });
    });
    rewriter.replaceOp(op, b.tensorOf(mixed, op.getMixed().getType()));
    return success();
  }
};

} // namespace

void loops::populateMixPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerMix, LowerMixMatrix>(patterns.getContext());
}
