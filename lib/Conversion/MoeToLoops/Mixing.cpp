//===- Mixing.cpp - Mixes over tokens as loops ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LoopBuilder.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

/// What the mixes and their backwards share: who sees whom, and the sum over
/// heads. `all` has a row of every token.
template <typename OpTy> class MixRule {
public:
  MixRule(LoopBuilder &b, OpTy op, Value all)
      : b(b), op(op), values(b.input(op.getValues())),
        posterior(b.input(op.getPosterior())), mask(b.input(op.getTokenMask())),
        offsets(b.input(op.getGroupOffsets())), numTokens(b.size(all, 0)),
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

  Value isLive(Value token) { return b.isLive(mask, token); }

  /// P(head | row)
  Value shareOf(Value row, Value head, Value heads) {
    return posterior ? b.load(posterior, {row, head})
                     : b.div(b.real(1.0), b.toReal(heads));
  }

  /// The sum over the tokens of low .. high - 1 that a live token sees.
  Value sumSeen(Value token, Value low, Value high,
                llvm::function_ref<Value(Value other)> term) {
    return b.sum(low, high, [&](Value other) {
      return b.pick(
          b.getComputeType(), sees(token, other), [&] { return term(other); },
          [&] { return b.real(0.0); });
    });
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
          Value share = shareOf(row, head, heads);
          b.loop(numExperts, [&](Value e) {
            Value part = sumSeen(token, low, high, [&](Value other) {
              return b.mul(weight(head, other), b.load(values, {other, e}));
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

/// scale * <query_h[i], key_h[j]>, and the columns of heads.
struct HeadProducts {
  LoopBuilder &b;
  Value query, key, heads, width, shared, scale;

  template <typename OpTy>
  HeadProducts(LoopBuilder &b, OpTy op)
      : b(b), query(b.input(op.getQuery())), key(b.input(op.getKey())),
        heads(b.index(static_cast<int64_t>(op.getHeads()))),
        width(b.div(b.size(query, 1), heads)),
        shared(b.div(b.size(key, 1), width)), scale(b.real(op.getScale())) {}

  Value columnOfQuery(Value head, Value place) {
    return b.add(b.mul(head, width), place);
  }
  Value columnOfKey(Value head, Value place) {
    Value keyHead = b.div(b.mul(head, shared), heads);
    return b.add(b.mul(keyHead, width), place);
  }
  Value product(Value head, Value row, Value other) {
    Value sum = b.sum(b.index(0), width, [&](Value place) {
      return b.mul(b.load(query, {row, columnOfQuery(head, place)}),
                   b.load(key, {other, columnOfKey(head, place)}));
    });
    return b.mul(scale, sum);
  }
};

struct LowerMix : public OpRewritePattern<MixOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MixOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    MixRule<MixOp> rule(b, op, b.input(op.getValues()));
    HeadProducts products(b, op);
    Value mixed = b.output(op.getMixed().getType(), reifyShapes(op, b)[0]);
    Value weights = b.scratch(b.getComputeType(), rule.getNumTokens());
    b.loop(b.size(mixed, 0), [&](Value row) {
      Value token = rule.tokenOf(row);
      auto ready = [&](Value head, Value low, Value high) {
        b.softmax(
            low, high, [&](Value other) { return rule.sees(token, other); },
            [&](Value other) { return products.product(head, row, other); },
            [&](Value other, Value share) { b.store(share, weights, other); });
      };
      rule.mixRow(row, products.heads, mixed, ready,
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
    MixRule<MixMatrixOp> rule(b, op, b.input(op.getValues()));
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

//===----------------------------------------------------------------------===//
// Backwards
//===----------------------------------------------------------------------===//

/// <x[row, :], y[other, :]>
Value emitRowDot(LoopBuilder &b, Value x, Value row, Value y, Value other) {
  return b.sum(b.index(0), b.size(x, 1), [&](Value place) {
    return b.mul(b.load(x, {row, place}), b.load(y, {other, place}));
  });
}

void addTo(LoopBuilder &b, Value term, Value buffer, ValueRange at) {
  b.store(b.add(b.load(buffer, at), term), buffer, at);
}

struct LowerMixQueryVJP : public OpRewritePattern<MixQueryVJPOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MixQueryVJPOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value values = b.input(op.getValues()), given = b.input(op.getCotangent());
    MixRule<MixQueryVJPOp> rule(b, op, values);
    HeadProducts products(b, op);
    SmallVector<Value> outs;
    for (auto [type, shape] :
         llvm::zip(op->getResultTypes(), reifyShapes(op, b))) {
      outs.push_back(b.output(type, shape));
      b.fill(outs.back(), b.real(0.0));
    }
    Value gradient = outs[0], dots = outs[1], sums = outs[2];
    Value shares = b.scratch(b.getComputeType(), rule.getNumTokens());
    Value slopes = b.scratch(b.getComputeType(), rule.getNumTokens());
    auto emitHead = [&](Value row, Value token, Value head, Value low,
                        Value high) {
      auto product = [&](Value other) {
        return products.product(head, row, other);
      };
      Value largest =
          b.fold(low, high, b.negativeInfinity(),
                 [&](Value other, ValueRange so) -> SmallVector<Value> {
                   return {b.pick(
                       b.getComputeType(), rule.sees(token, other),
                       [&] { return b.larger(so[0], product(other)); },
                       [&] { return so[0]; })};
                 })[0];
      Value total = rule.sumSeen(token, low, high, [&](Value other) {
        Value distance = b.sub(product(other), largest);
        Value power = math::ExpOp::create(b, distance);
        b.store(power, shares, other);
        b.store(emitRowDot(b, given, row, values, other), slopes, other);
        return power;
      });
      Value dot = rule.sumSeen(token, low, high, [&](Value other) {
        Value share = b.div(b.load(shares, other), total);
        return b.mul(share, b.load(slopes, other));
      });
      b.store(dot, dots, {row, head});
      b.store(b.add(largest, math::LogOp::create(b, total)), sums, {row, head});
      Value factor =
          b.mul(products.scale, rule.shareOf(row, head, products.heads));
      b.loop(products.width, [&](Value place) {
        Value sum = rule.sumSeen(token, low, high, [&](Value other) {
          Value share = b.div(b.load(shares, other), total);
          Value slope = b.mul(share, b.sub(b.load(slopes, other), dot));
          Value column = products.columnOfKey(head, place);
          return b.mul(slope, b.load(products.key, {other, column}));
        });
        b.store(b.mul(factor, sum), gradient,
                {row, products.columnOfQuery(head, place)});
      });
    };
    b.loop(b.size(gradient, 0), [&](Value row) {
      Value token = rule.tokenOf(row);
      b.when(rule.isLive(token), [&] {
        rule.withGroup(token, [&](Value low, Value high) {
          b.loop(products.heads,
                 [&](Value head) { emitHead(row, token, head, low, high); });
        });
      });
    });
    SmallVector<Value> results;
    for (auto [out, type] : llvm::zip(outs, op->getResultTypes()))
      results.push_back(b.tensorOf(out, type));
    rewriter.replaceOp(op, results);
    return success();
  }
};

struct LowerMixKeyVJP : public OpRewritePattern<MixKeyVJPOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MixKeyVJPOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value values = b.input(op.getValues()), given = b.input(op.getCotangent());
    Value dots = b.input(op.getDots()), sums = b.input(op.getLogSums());
    MixRule<MixKeyVJPOp> rule(b, op, given);
    HeadProducts products(b, op);
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value dKey = b.output(op.getDKey().getType(), shapes[0]);
    Value dValues = b.output(op.getDValues().getType(), shapes[1]);
    // Sums of a row, which round once.
    Value ofKey = b.scratch(b.getComputeType(), b.size(dKey, 1));
    Value ofValues = b.scratch(b.getComputeType(), b.size(dValues, 1));
    auto emitPair = [&](Value row, Value head, Value other) {
      Value distance = b.sub(products.product(head, other, row),
                             b.load(sums, {other, head}));
      Value share = b.mul(rule.shareOf(other, head, products.heads),
                          math::ExpOp::create(b, distance));
      Value slope = b.sub(emitRowDot(b, given, other, values, row),
                          b.load(dots, {other, head}));
      slope = b.mul(products.scale, b.mul(share, slope));
      b.loop(b.size(dValues, 1), [&](Value e) {
        addTo(b, b.mul(share, b.load(given, {other, e})), ofValues, e);
      });
      b.loop(products.width, [&](Value place) {
        Value column = products.columnOfQuery(head, place);
        addTo(b, b.mul(slope, b.load(products.query, {other, column})), ofKey,
              products.columnOfKey(head, place));
      });
    };
    b.loop(b.size(dKey, 0), [&](Value row) {
      Value token = rule.tokenOf(row);
      b.fill(ofKey, b.real(0.0));
      b.fill(ofValues, b.real(0.0));
      rule.withGroup(token, [&](Value low, Value high) {
        b.loop(products.heads, [&](Value head) {
          b.loop(low, high, [&](Value other) {
            b.when(b.both(rule.isLive(other), rule.sees(other, token)),
                   [&] { emitPair(row, head, other); });
          });
        });
      });
      for (auto [sum, out] :
           {std::make_pair(ofKey, dKey), std::make_pair(ofValues, dValues)}) {
        Value from = sum, to = out;
        b.loop(b.size(from, 0), [&](Value place) {
          b.store(b.load(from, place), to, {row, place});
        });
      }
    });
    rewriter.replaceOp(op, {b.tensorOf(dKey, op.getDKey().getType()),
                            b.tensorOf(dValues, op.getDValues().getType())});
    return success();
  }
};

struct LowerMixMatrixVJP : public OpRewritePattern<MixMatrixVJPOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MixMatrixVJPOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value values = b.input(op.getValues()), given = b.input(op.getCotangent());
    Value matrices = b.input(op.getMatrices());
    MixRule<MixMatrixVJPOp> rule(b, op, values);
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value dValues = b.output(op.getDValues().getType(), shapes[0]);
    Value dMatrices = b.output(op.getDMatrices().getType(), shapes[1]);
    Value dots = b.output(op.getDots().getType(), shapes[2]);
    Value heads = b.size(matrices, 0);
    // Sums, which round once.
    Value ofValues =
        b.scratch(b.getComputeType(), {b.size(values, 0), b.size(values, 1)});
    Value ofDots = b.scratch(b.getComputeType(), {b.size(dots, 0), heads});
    for (Value buffer : {dMatrices, ofValues, ofDots})
      b.fill(buffer, b.real(0.0));
    auto emitPair = [&](Value row, Value other) {
      Value slope = emitRowDot(b, given, row, values, other);
      b.loop(heads, [&](Value head) {
        Value share = rule.shareOf(row, head, heads);
        Value weight = b.load(matrices, {head, row, other});
        b.store(b.mul(share, slope), dMatrices, {head, row, other});
        addTo(b, b.mul(weight, slope), ofDots, {row, head});
        b.loop(b.size(values, 1), [&](Value e) {
          Value part = b.mul(b.mul(share, weight), b.load(given, {row, e}));
          addTo(b, part, ofValues, {other, e});
        });
      });
    };
    b.loop(b.size(dots, 0), [&](Value row) {
      Value token = rule.tokenOf(row);
      b.when(rule.isLive(token), [&] {
        rule.withGroup(token, [&](Value low, Value high) {
          b.loop(low, high, [&](Value other) {
            b.when(rule.sees(token, other), [&] { emitPair(row, other); });
          });
        });
      });
    });
    for (auto [sum, out] :
         {std::make_pair(ofValues, dValues), std::make_pair(ofDots, dots)}) {
      Value from = sum, to = out;
      b.loopAll(to, [&](ValueRange at) { b.store(b.load(from, at), to, at); });
    }
    rewriter.replaceOp(op, {b.tensorOf(dValues, op.getDValues().getType()),
                            b.tensorOf(dMatrices, op.getDMatrices().getType()),
                            b.tensorOf(dots, op.getDots().getType())});
    return success();
  }
};

} // namespace

void loops::populateMixPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerMix, LowerMixMatrix, LowerMixQueryVJP, LowerMixKeyVJP,
               LowerMixMatrixVJP>(patterns.getContext());
}
