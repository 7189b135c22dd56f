//===- Subsets.cpp - Subset inference as loops in log space ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Subsets.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

//===----------------------------------------------------------------------===//
// Random numbers
//===----------------------------------------------------------------------===//

namespace {
/// Philox on 32-bit words that are kept in i64.
class Philox {
public:
  explicit Philox(LoopBuilder &b) : b(b) {}

  Value uniform(Value seed, Value layer, Value token, Value draw);

private:
  Value constant(uint64_t value) {
    return arith::ConstantOp::create(
        b, b.getI64IntegerAttr(static_cast<int64_t>(value)));
  }
  Value low(Value x) {
    return arith::AndIOp::create(b, x, constant(0xffffffff));
  }
  Value high(Value x) { return arith::ShRUIOp::create(b, x, constant(32)); }
  Value exclusiveOr(Value x, Value y, Value z) {
    return arith::XOrIOp::create(b, arith::XOrIOp::create(b, x, y), z);
  }

  LoopBuilder &b;
};

Value Philox::uniform(Value seed, Value layer, Value token, Value draw) {
  Value number = arith::IndexCastOp::create(b, b.getI64Type(), draw);
  Value block = arith::ShRUIOp::create(b, number, constant(2));
  Value c0 = low(token), c1 = high(token), c2 = low(block), c3 = low(layer);
  Value k0 = low(seed), k1 = high(seed);
  for (int round = 0; round < 10; ++round) {
    Value p0 = arith::MulIOp::create(b, c0, constant(0xD2511F53));
    Value p1 = arith::MulIOp::create(b, c2, constant(0xCD9E8D57));
    Value n0 = exclusiveOr(high(p1), c1, k0),
          n2 = exclusiveOr(high(p0), c3, k1);
    c0 = n0;
    c1 = low(p1);
    c2 = n2;
    c3 = low(p0);
    k0 = low(arith::AddIOp::create(b, k0, constant(0x9E3779B9)));
    k1 = low(arith::AddIOp::create(b, k1, constant(0xBB67AE85)));
  }
  Value place = arith::AndIOp::create(b, number, constant(3));
  auto isPlace = [&](uint64_t value) -> Value {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::eq, place,
                                 constant(value));
  };
  Value word = b.select(isPlace(0), c0,
                        b.select(isPlace(1), c1, b.select(isPlace(2), c2, c3)));
  Value bits = arith::ShRUIOp::create(b, word, constant(8));
  Value real = arith::SIToFPOp::create(b, b.getComputeType(), bits);
  return b.mul(real, b.real(0x1p-24));
}
} // namespace

Value loops::emitUniform(LoopBuilder &b, Value seed, Value layer, Value token,
                         Value draw) {
  return Philox(b).uniform(seed, layer, token, draw);
}

Value loops::emitTokenNumber(LoopBuilder &b, Value firstToken, Value token) {
  Value own = arith::IndexCastOp::create(b, b.getI64Type(), token);
  return arith::AddIOp::create(b, firstToken, own);
}

//===----------------------------------------------------------------------===//
// SubsetRule
//===----------------------------------------------------------------------===//

SubsetRule::SubsetRule(LoopBuilder &b, Value logits, SubsetBand band)
    : b(b), logits(logits), numExperts(b.size(logits, 1)),
      numColumns(b.index(band.max + 1)), band(band) {
  FloatType real = b.getComputeType();
  Value rows = b.add(numExperts, b.index(1));
  row = b.scratch(real, numExperts);
  bad = b.scratch(b.getI1Type(), b.index(1));
  bounds = b.scratch(b.getIndexType(), b.index(2));
  prefix = b.scratch(real, {rows, numColumns});
  suffix = b.scratch(real, {rows, numColumns});
  logSum = b.scratch(real, b.index(1));
  meansBefore = b.scratch(real, {rows, numColumns});
  meansBehind = b.scratch(real, {rows, numColumns});
  margins = b.scratch(real, numExperts);
}

/// log(exp(x) + exp(y)), where either may be -inf.
Value SubsetRule::logAdd(Value x, Value y) {
  Value none = b.negativeInfinity();
  auto isNone = [&](Value value) -> Value {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, value, none);
  };
  return b.pick(
      b.getComputeType(), isNone(x), [&] { return y; },
      [&] {
        return b.pick(
            b.getComputeType(), isNone(y), [&] { return x; },
            [&] {
              Value large = b.larger(x, y), small = b.smaller(x, y);
              Value power = math::ExpOp::create(b, b.sub(small, large));
              return b.add(large, math::Log1pOp::create(b, power));
            });
      });
}

void SubsetRule::readToken(Value token) {
  Value none = b.negativeInfinity();
  Value infinite = arith::NegFOp::create(b, none);
  SmallVector<Value> facts = b.fold(
      b.index(0), numExperts, {b.boolean(false), b.index(0)},
      [&](Value e, ValueRange so) -> SmallVector<Value> {
        Value logit = b.load(logits, {token, e});
        Value isLower = arith::CmpFOp::create(b, arith::CmpFPredicate::OLT,
                                              logit, infinite);
        Value isNone =
            arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, logit, none);
        Value more = b.add(so[1], b.index(1));
        return {b.either(so[0], b.negate(isLower)),
                b.select(isNone, so[1], more)};
      });
  b.store(facts[0], bad, b.index(0));
  Value count = b.select(facts[0], numExperts, facts[1]);
  b.store(b.smallerIndex(count, b.index(band.min)), bounds, b.index(0));
  b.store(b.smallerIndex(count, b.index(band.max)), bounds, b.index(1));
  b.loop(numExperts, [&](Value e) {
    Value logit = b.load(logits, {token, e});
    b.store(b.select(facts[0], b.real(0.0), logit), row, e);
  });

  b.fill(prefix, none);
  b.fill(suffix, none);
  b.store(b.real(0.0), prefix, {b.index(0), b.index(0)});
  b.store(b.real(0.0), suffix, {numExperts, b.index(0)});
  auto extend = [&](Value table, Value from, Value to, Value e) {
    b.loop(numColumns, [&](Value j) {
      Value without = b.load(table, {from, j});
      Value with = b.pick(
          b.getComputeType(), b.equal(j, b.index(0)), [&] { return none; },
          [&] {
            Value fewer = b.sub(j, b.index(1));
            return b.add(b.load(table, {from, fewer}), b.load(row, e));
          });
      b.store(logAdd(without, with), table, {to, j});
    });
  };
  b.loop(numExperts, [&](Value e) {
    extend(prefix, e, b.add(e, b.index(1)), e);
    Value last = b.sub(b.sub(numExperts, b.index(1)), e);
    extend(suffix, b.add(last, b.index(1)), last, last);
  });
  b.store(none, logSum, b.index(0));
  loopSizes([&](Value j) {
    b.store(logAdd(getLogSum(), b.load(prefix, {numExperts, j})), logSum,
            b.index(0));
  });
}

Value SubsetRule::getLogPolynomial(Value size) {
  return b.select(isBad(), b.nan(), b.load(prefix, {numExperts, size}));
}

Value SubsetRule::logTerm(Value expert, Value before, Value behind) {
  Value next = b.add(expert, b.index(1));
  Value others =
      b.add(b.load(prefix, {expert, before}), b.load(suffix, {next, behind}));
  return b.sub(b.add(others, b.load(row, expert)), getLogSum());
}

void SubsetRule::computeMarginals(Value dest) {
  b.loop(numExperts, [&](Value e) {
    b.store(b.real(0.0), dest, e);
    loopSizes([&](Value j) {
      b.loop(j, [&](Value before) {
        Value behind = b.sub(b.sub(j, b.index(1)), before);
        Value term = math::ExpOp::create(b, logTerm(e, before, behind));
        b.store(b.add(b.load(dest, e), term), dest, e);
      });
    });
    b.store(b.select(isBad(), b.nan(), b.load(dest, e)), dest, e);
  });
}

/// Tables of the mean of v's sum over subsets, by the law of each part: a
/// subset of j of the experts up to one has it with some probability.
void SubsetRule::computeCovariance(llvm::function_ref<Value(Value)> vector,
                                   Value dest) {
  Value one = b.index(1);
  auto extend = [&](Value table, Value means, Value from, Value to, Value e) {
    b.loop(one, numColumns, [&](Value j) {
      Value fewer = b.sub(j, one);
      Value whole = b.load(table, {to, j});
      Value isEmpty = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, whole,
                                            b.negativeInfinity());
      Value mean = b.pick(
          b.getComputeType(), isEmpty, [&] { return b.real(0.0); },
          [&] {
            Value with = b.add(b.load(table, {from, fewer}), b.load(row, e));
            Value share = math::ExpOp::create(b, b.sub(with, whole));
            Value more = b.add(b.load(means, {from, fewer}), vector(e));
            Value rest = b.sub(b.real(1.0), share);
            return b.add(b.mul(share, more),
                         b.mul(rest, b.load(means, {from, j})));
          });
      b.store(mean, means, {to, j});
    });
  };
  b.fill(meansBefore, b.real(0.0));
  b.fill(meansBehind, b.real(0.0));
  b.loop(numExperts, [&](Value e) {
    extend(prefix, meansBefore, e, b.add(e, one), e);
    Value last = b.sub(b.sub(numExperts, one), e);
    extend(suffix, meansBehind, b.add(last, one), last, last);
  });
  computeMarginals(margins);
  Value mean = b.sum(b.index(0), numExperts, [&](Value e) {
    return b.mul(b.load(margins, e), vector(e));
  });
  b.loop(numExperts, [&](Value e) {
    b.store(b.real(0.0), dest, e);
    loopSizes([&](Value j) {
      b.loop(j, [&](Value before) {
        Value behind = b.sub(b.sub(j, one), before);
        Value next = b.add(e, one);
        Value term = math::ExpOp::create(b, logTerm(e, before, behind));
        Value others = b.add(b.load(meansBefore, {e, before}),
                             b.load(meansBehind, {next, behind}));
        Value distance = b.sub(b.add(others, vector(e)), mean);
        b.store(b.add(b.load(dest, e), b.mul(term, distance)), dest, e);
      });
    });
  });
}

void SubsetRule::drawSample(llvm::function_ref<Value(Value)> uniform,
                            Value ids) {
  b.fill(ids, b.index(-1));
  Value one = b.index(1);
  Value size = highest();
  if (band.min != band.max) {
    Value number = uniform(numExperts);
    // Found, cumulative share, size: the first that is above the number.
    size = b.fold(
        lowest(), b.add(highest(), one),
        {b.boolean(false), b.real(0.0), highest()},
        [&](Value j, ValueRange so) -> SmallVector<Value> {
          Value log = b.sub(b.load(prefix, {numExperts, j}), getLogSum());
          Value sum = b.add(so[1], math::ExpOp::create(b, log));
          Value isAbove =
              arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, number, sum);
          Value isFirst = b.both(b.negate(so[0]), isAbove);
          return {b.either(so[0], isAbove), sum, b.select(isFirst, j, so[2])};
        })[2];
  }
  b.fold(b.index(0), numExperts, size,
         [&](Value step, ValueRange so) -> SmallVector<Value> {
           Value left = so[0];
           Value e = b.sub(b.sub(numExperts, one), step);
           Value isTaken = b.pick(
               b.getI1Type(), b.equal(left, b.index(0)),
               [&] { return b.boolean(false); },
               [&]() -> Value {
                 Value fewer = b.sub(left, one);
                 Value with = b.add(b.load(prefix, {e, fewer}), b.load(row, e));
                 Value whole = b.load(prefix, {b.add(e, one), left});
                 Value share = math::ExpOp::create(b, b.sub(with, whole));
                 return arith::CmpFOp::create(b, arith::CmpFPredicate::OLT,
                                              uniform(e), share);
               });
           b.when(isTaken, [&] { b.store(e, ids, b.sub(left, one)); });
           return {b.select(isTaken, b.sub(left, one), left)};
         });
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

namespace {

/// An op of one result, a token after the other, in f64.
template <typename OpTy> struct LowerSubset : public OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;

  LogicalResult matchAndRewrite(OpTy op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter, rewriter.getF64Type());
    Type type = op->getResult(0).getType();
    Value result = b.output(type, reifyShapes(op, b)[0]);
    emit(op, b, result);
    rewriter.replaceOp(op, b.tensorOf(result, type));
    return success();
  }

  static void emit(OpTy op, LoopBuilder &b, Value result);
};

/// Copies a row of scratch memory into a result.
void copyRow(LoopBuilder &b, Value from, Value to, Value token) {
  b.loop(b.size(to, 1),
         [&](Value at) { b.store(b.load(from, at), to, {token, at}); });
}

template <>
void LowerSubset<SubsetPartitionOp>::emit(SubsetPartitionOp op, LoopBuilder &b,
                                          Value result) {
  SubsetRule rule(b, b.input(op.getLogits()), op.getBand());
  b.loop(b.size(result, 0), [&](Value t) {
    rule.readToken(t);
    b.loop(b.size(result, 1), [&](Value place) {
      Value size = b.add(place, b.index(op.getBand().min));
      b.store(rule.getLogPolynomial(size), result, {t, place});
    });
  });
}

template <>
void LowerSubset<SubsetMarginalsOp>::emit(SubsetMarginalsOp op, LoopBuilder &b,
                                          Value result) {
  SubsetRule rule(b, b.input(op.getLogits()), op.getBand());
  Value row = b.scratch(b.getComputeType(), b.size(result, 1));
  b.loop(b.size(result, 0), [&](Value t) {
    rule.readToken(t);
    rule.computeMarginals(row);
    copyRow(b, row, result, t);
  });
}

template <>
void LowerSubset<SubsetEntropyOp>::emit(SubsetEntropyOp op, LoopBuilder &b,
                                        Value result) {
  Value logits = b.input(op.getLogits());
  SubsetRule rule(b, logits, op.getBand());
  Value numExperts = b.size(logits, 1);
  Value row = b.scratch(b.getComputeType(), numExperts);
  b.loop(b.size(result, 0), [&](Value t) {
    rule.readToken(t);
    rule.computeMarginals(row);
    Value mean = b.sum(b.index(0), numExperts, [&](Value e) {
      Value margin = b.load(row, e);
      Value isZero = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, margin,
                                           b.real(0.0));
      return b.pick(
          b.getComputeType(), isZero, [&] { return b.real(0.0); },
          [&] { return b.mul(margin, b.load(logits, {t, e})); });
    });
    Value entropy = b.sub(rule.getLogSum(), mean);
    entropy = b.select(rule.hasBand(), entropy, b.real(0.0));
    b.store(b.select(rule.isBad(), b.nan(), entropy), result, t);
  });
}

template <>
void LowerSubset<SubsetCovarianceOp>::emit(SubsetCovarianceOp op,
                                           LoopBuilder &b, Value result) {
  SubsetRule rule(b, b.input(op.getLogits()), op.getBand());
  Value vector = b.input(op.getVector());
  Value row = b.scratch(b.getComputeType(), b.size(result, 1));
  b.loop(b.size(result, 0), [&](Value t) {
    rule.readToken(t);
    rule.computeCovariance([&](Value e) { return b.load(vector, {t, e}); },
                           row);
    b.loop(b.size(result, 1), [&](Value e) {
      b.store(b.select(rule.isBad(), b.nan(), b.load(row, e)), result, {t, e});
    });
  });
}

template <>
void LowerSubset<SubsetSampleOp>::emit(SubsetSampleOp op, LoopBuilder &b,
                                       Value result) {
  SubsetRule rule(b, b.input(op.getLogits()), op.getBand());
  Value row = b.scratch(b.getIndexType(), b.size(result, 1));
  b.loop(b.size(result, 0), [&](Value t) {
    rule.readToken(t);
    Value number = emitTokenNumber(b, op.getFirstToken(), t);
    rule.drawSample(
        [&](Value draw) {
          return emitUniform(b, op.getSeed(), op.getLayer(), number, draw);
        },
        row);
    copyRow(b, row, result, t);
  });
}

template <>
void LowerSubset<SubsetLogProbOp>::emit(SubsetLogProbOp op, LoopBuilder &b,
                                        Value result) {
  Value logits = b.input(op.getLogits()), ids = b.input(op.getIds());
  SubsetRule rule(b, logits, op.getBand());
  Value numExperts = b.size(logits, 1);
  b.loop(b.size(result, 0), [&](Value t) {
    rule.readToken(t);
    SmallVector<Value> sums =
        b.fold(b.index(0), b.size(ids, 1), {b.real(0.0), b.index(0)},
               [&](Value slot, ValueRange so) -> SmallVector<Value> {
                 Value id = b.load(ids, {t, slot});
                 Value term = b.pick(
                     b.getComputeType(), b.inRange(id, b.index(0), numExperts),
                     [&] { return b.load(logits, {t, id}); },
                     [&] { return b.real(0.0); });
                 Value isFull = b.lessEqual(b.index(0), id);
                 Value more = b.add(so[1], b.index(1));
                 return {b.add(so[0], term), b.select(isFull, more, so[1])};
               });
    Value fits = b.inRange(sums[1], b.index(op.getBand().min),
                           b.index(op.getBand().max + 1));
    fits = b.both(fits, rule.hasBand());
    Value logSum = b.select(rule.isBad(), b.nan(), rule.getLogSum());
    b.store(b.select(fits, b.sub(sums[0], logSum), b.negativeInfinity()),
            result, t);
  });
}

template <>
void LowerSubset<PhiloxOp>::emit(PhiloxOp op, LoopBuilder &b, Value result) {
  b.loop(b.size(result, 0), [&](Value t) {
    Value number = emitTokenNumber(b, op.getFirstToken(), t);
    b.loop(b.size(result, 1), [&](Value draw) {
      b.store(emitUniform(b, op.getSeed(), op.getLayer(), number, draw), result,
              {t, draw});
    });
  });
}

} // namespace

void loops::populateSubsetPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerSubset<SubsetPartitionOp>, LowerSubset<SubsetMarginalsOp>,
               LowerSubset<SubsetEntropyOp>, LowerSubset<SubsetCovarianceOp>,
               LowerSubset<SubsetSampleOp>, LowerSubset<SubsetLogProbOp>,
               LowerSubset<PhiloxOp>>(patterns.getContext());
}
