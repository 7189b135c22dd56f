//===- Primitives.cpp - The grouped primitives as loops -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Assignments.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

SmallVector<Value> getDestinations(LoopBuilder &b, ValueRange inits) {
  return llvm::map_to_vector(inits,
                             [&](Value init) { return b.destination(init); });
}

/// Replaces an op by its destinations, which are its results on tensors.
void finish(PatternRewriter &rewriter, LoopBuilder &b, Operation *op,
            ArrayRef<Value> destinations) {
  SmallVector<Value> results;
  for (auto [result, buffer] : llvm::zip(op->getResultTypes(), destinations))
    results.push_back(b.tensorOf(buffer, result));
  rewriter.replaceOp(op, results);
}

struct LowerGroup : public OpRewritePattern<GroupOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value ids = b.input(op.getIds()), weights = b.input(op.getWeights());
    SmallVector<Value> outs = getDestinations(b, op.getInits());
    Value offsets = outs[0], token = outs[1], first = outs[2], slot = outs[3];
    Value numTokens = b.sub(b.size(first, 0), b.index(1));
    Assignments assignments(b, ids, op.getChoice(), numTokens,
                            b.index(op.getNumExperts()));
    assignments.storeOffsets(offsets);
    assignments.visitAll([&](Value row, Value t, ValueRange at) {
      b.store(t, token, row);
      if (weights)
        b.store(b.load(weights, at), outs[4], row);
    });

    Value count = b.scratch(b.getIndexType(), {});
    b.fill(count, b.index(0));
    b.loop(numTokens, [&](Value t) {
      b.store(b.load(count, {}), first, t);
      assignments.visitToken(t, [&](Value row, ValueRange) {
        Value place = b.load(count, {});
        b.store(row, slot, place);
        b.store(b.add(place, b.index(1)), count, {});
      });
    });
    b.store(b.load(count, {}), first, numTokens);
    finish(rewriter, b, op, outs);
    return success();
  }
};

/// One element of a grouped product.
class GroupedProduct {
public:
  GroupedProduct(LoopBuilder &b, GroupedMatmulOp op)
      : b(b), op(op), lhs(inputs(op.getLhs())),
        weights(inputs(op.getWeights())), biases(inputs(op.getBiases())),
        elements(inputs(op.getElements())),
        rowValues(inputs(op.getRowValues())), rows(b.input(op.getRows())),
        rowScale(b.input(op.getRowScale())) {}

  SmallVector<Value> emit(Value expert, Value n, Value j);

private:
  SmallVector<Value> inputs(ValueRange values) {
    return llvm::map_to_vector(values,
                               [&](Value value) { return b.input(value); });
  }
  Value loadLhs(Value buffer, Value n, Value d);
  Value loadPacked(int64_t side, Value expert, Value j, Value d);

  LoopBuilder &b;
  GroupedMatmulOp op;
  SmallVector<Value> lhs, weights, biases, elements, rowValues;
  Value rows, rowScale; ///< Null where absent.
};

Value GroupedProduct::loadLhs(Value buffer, Value n, Value d) {
  Value value = b.load(buffer, {rows ? b.load(rows, n) : n, d});
  if (!rowScale)
    return value;
  auto type = cast<FloatType>(getElementTypeOrSelf(buffer));
  return b.roundThrough(b.mul(value, b.load(rowScale, n)), type);
}

/// weight[expert, j, d] of a side, where it lies in panels.
Value GroupedProduct::loadPacked(int64_t side, Value expert, Value j, Value d) {
  Value width = b.index(op.getPanels()->getWidth());
  Value steps = b.index(op.getPanels()->getSteps());
  Value column = b.add(b.mul(b.index(side), width), b.rem(j, width));
  return b.load(weights[0], {expert, b.div(j, width), b.div(d, steps), column,
                             b.rem(d, steps)});
}

SmallVector<Value> GroupedProduct::emit(Value expert, Value n, Value j) {
  SmallVector<Value> arguments;
  for (int64_t place = 0; place < op.getNumSums(); ++place) {
    Value source = lhs[lhs.size() > 1 ? place : 0];
    arguments.push_back(
        b.sum(b.index(0), b.index(op.getInSize()), [&](Value d) {
          Value factor;
          if (op.getPanels())
            factor = loadPacked(place, expert, j, d);
          else if (op.getInOut())
            factor = b.load(weights[place], {expert, d, j});
          else
            factor = b.load(weights[place], {expert, j, d});
          return b.mul(loadLhs(source, n, d), factor);
        }));
  }
  for (Value bias : biases)
    arguments.push_back(b.load(bias, {expert, j}));
  for (Value own : elements)
    arguments.push_back(b.load(own, {n, j}));
  for (Value own : rowValues)
    arguments.push_back(b.load(own, n));

  Block &epilogue = op.getEpilogue().front();
  IRMapping mapping;
  mapping.map(epilogue.getArguments(), arguments);
  for (Operation &inner : epilogue.without_terminator())
    b.clone(inner, mapping);
  auto yield = cast<YieldOp>(epilogue.getTerminator());
  return llvm::map_to_vector(yield.getValues(), [&](Value value) {
    return mapping.lookupOrDefault(value);
  });
}

struct LowerGroupedMatmul : public OpRewritePattern<GroupedMatmulOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupedMatmulOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter, op.getComputeType());
    Value offsets = b.input(op.getOffsets());
    GroupedProduct product(b, op);
    SmallVector<Value> outs = getDestinations(b, op.getInits());
    b.loop(b.index(op.getNumExperts()), [&](Value expert) {
      Value low = b.index(0), high = b.size(outs[0], 0);
      if (offsets) {
        low = b.load(offsets, expert);
        high = b.load(offsets, b.add(expert, b.index(1)));
      }
      b.loop(low, high, [&](Value n) {
        b.loop(b.size(outs[0], 1), [&](Value j) {
          SmallVector<Value> values = product.emit(expert, n, j);
          for (auto [value, out] : llvm::zip(values, outs))
            b.store(value, out, {n, j});
        });
      });
    });
    finish(rewriter, b, op, outs);
    return success();
  }
};

struct LowerGroupedOuter : public OpRewritePattern<GroupedOuterOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupedOuterOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter, op.getComputeType());
    Value lhs = b.input(op.getLhs()), rhs = b.input(op.getRhs());
    Value lhsRows = b.input(op.getLhsRows());
    Value rhsRows = b.input(op.getRhsRows()),
          offsets = b.input(op.getOffsets());
    Value out = b.destination(op.getInit());
    Value numRows = b.size(lhsRows ? lhsRows : lhs, 0);
    b.loopAll(out, [&](ValueRange at) {
      Value low = b.index(0), high = numRows;
      if (offsets) {
        low = b.load(offsets, at[0]);
        high = b.load(offsets, b.add(at[0], b.index(1)));
      }
      Value sum = b.sum(low, high, [&](Value n) {
        Value left = lhsRows ? b.load(lhsRows, n) : n;
        Value right = rhsRows ? b.load(rhsRows, n) : n;
        return b.mul(b.load(lhs, {left, at[1]}), b.load(rhs, {right, at[2]}));
      });
      b.store(sum, out, at);
    });
    finish(rewriter, b, op, out);
    return success();
  }
};

struct LowerCombineSlots : public OpRewritePattern<CombineSlotsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(CombineSlotsOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value rows = b.input(op.getRows()), first = b.input(op.getFirst());
    Value slot = b.input(op.getSlot()), weight = b.input(op.getWeight());
    Value identityWeight = b.input(op.getIdentityWeight());
    Value identity = b.input(op.getIdentity());
    Value residual = b.input(op.getResidual()), bias = b.input(op.getBias());
    Value out = b.destination(op.getInit());
    b.loopAll(out, [&](ValueRange at) {
      Value t = at[0], d = at[1];
      Value end = b.load(first, b.add(t, b.index(1)));
      Value sum = b.sum(b.load(first, t), end, [&](Value place) {
        Value n = b.load(slot, place);
        Value value = b.load(rows, {n, d});
        return weight ? b.mul(b.load(weight, n), value) : value;
      });
      if (identity)
        sum = b.add(sum,
                    b.mul(b.load(identityWeight, t), b.load(identity, {t, d})));
      sum = b.mul(b.real(op.getScale()), sum);
      if (bias)
        sum = b.add(sum, b.load(bias, d));
      if (residual)
        sum = b.add(sum, b.load(residual, {t, d}));
      if (op.getAverage())
        sum = b.mul(sum, b.real(0.5));
      b.store(sum, out, at);
    });
    finish(rewriter, b, op, out);
    return success();
  }
};

struct LowerTopK : public OpRewritePattern<TopKOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(TopKOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value values = b.input(op.getValues());
    SmallVector<Value> outs = getDestinations(b, op.getInits());
    Value width = b.size(values, 1);
    Value taken = b.scratch(b.getI1Type(), width);
    b.loop(b.size(values, 0), [&](Value t) {
      b.fill(taken, b.boolean(false));
      b.visitLargest(
          b.index(0), width, b.size(outs[0], 1), taken,
          [&](Value e) { return b.load(values, {t, e}); },
          [&](Value rank, Value e) {
            // Both zeros are written as +0.
            Value value = b.load(values, {t, e});
            Value isZero = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ,
                                                 value, b.real(0.0));
            b.store(b.select(isZero, b.real(0.0), value), outs[0], {t, rank});
            b.store(e, outs[1], {t, rank});
          });
    });
    finish(rewriter, b, op, outs);
    return success();
  }
};

} // namespace

void loops::populatePrimitivePatterns(RewritePatternSet &patterns) {
  patterns.add<LowerGroup, LowerGroupedMatmul, LowerGroupedOuter,
               LowerCombineSlots, LowerTopK>(patterns.getContext());
}
