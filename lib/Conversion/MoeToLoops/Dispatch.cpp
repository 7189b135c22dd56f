//===- Dispatch.cpp - Dispatch and combine as loops -----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Assignments.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

struct LowerDispatch : public OpRewritePattern<DispatchOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(DispatchOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value input = b.input(op.getInput()), ids = b.input(op.getIds());
    Value weights = b.input(op.getWeights());
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    Value rows = b.output(op.getRows().getType(), shapes[0]);
    Value offsets = b.output(op.getOffsets().getType(), shapes[1]);

    Assignments assignments(b, ids, op.getChoice(), b.size(input, 0),
                            b.index(op.getNumExperts()));
    assignments.storeOffsets(offsets);
    // Rows without an assignment are unspecified: nobody may read them.
    b.fill(rows, b.nan());
    assignments.visitAll([&](Value row, Value token, ValueRange at) {
      b.loop(b.size(rows, 1), [&](Value d) {
        Value value = b.load(input, {token, d});
        if (weights)
          value = b.mul(b.load(weights, at), value);
        b.store(value, rows, {row, d});
      });
    });
    rewriter.replaceOp(op, {b.tensorOf(rows, op.getRows().getType()),
                            b.tensorOf(offsets, op.getOffsets().getType())});
    return success();
  }
};

/// The sum of one output element.
class CombineSum {
public:
  CombineSum(LoopBuilder &b, CombineOp op)
      : b(b), op(op), rows(b.input(op.getRows())), ids(b.input(op.getIds())),
        weights(b.input(op.getWeights())), identity(b.input(op.getIdentity())),
        residual(b.input(op.getResidual())), bias(b.input(op.getBias())),
        sum(b.scratch(b.getComputeType(), {})) {}

  Value emit(Assignments &assignments, Value token, Value d);

private:
  void addIdentity(Value token, Value d);
  Value weightAt(ValueRange at) {
    return weights ? b.load(weights, at) : b.real(1.0);
  }
  void addToSum(Value term) { b.store(b.add(b.load(sum, {}), term), sum, {}); }

  LoopBuilder &b;
  CombineOp op;
  Value rows, ids, weights, identity, residual, bias; ///< Null where absent.
  Value sum;
};

/// Adds the weights of the identity slots times the row, where there are any:
/// zero times a row that is not finite would be NaN.
void CombineSum::addIdentity(Value token, Value d) {
  Value numExperts = b.index(op.getNumExperts());
  SmallVector<Value> found = b.fold(
      b.index(0), b.size(ids, 1), {b.real(0.0), b.boolean(false)},
      [&](Value slot, ValueRange so) -> SmallVector<Value> {
        Value isIdentity = b.lessEqual(numExperts, b.load(ids, {token, slot}));
        Value more = b.add(so[0], weightAt({token, slot}));
        return {b.select(isIdentity, more, so[0]), b.either(so[1], isIdentity)};
      });
  b.when(found[1],
         [&] { addToSum(b.mul(found[0], b.load(identity, {token, d}))); });
}

Value CombineSum::emit(Assignments &assignments, Value token, Value d) {
  b.fill(sum, b.real(0.0));
  assignments.visitToken(token, [&](Value row, ValueRange at) {
    addToSum(b.mul(weightAt(at), b.load(rows, {row, d})));
  });
  if (identity)
    addIdentity(token, d);
  Value result = b.mul(b.real(op.getScale()), b.load(sum, {}));
  if (bias)
    result = b.add(result, b.load(bias, d));
  if (residual)
    result = b.add(result, b.load(residual, {token, d}));
  if (op.getAverage())
    result = b.mul(result, b.real(0.5));
  return result;
}

struct LowerCombine : public OpRewritePattern<CombineOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(CombineOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Type type = op.getOutput().getType();
    Value output = b.output(type, reifyShapes(op, b)[0]);
    Assignments assignments(b, b.input(op.getIds()), op.getChoice(),
                            b.size(output, 0), b.index(op.getNumExperts()));
    CombineSum sum(b, op);
    b.loopAll(output, [&](ValueRange at) {
      b.store(sum.emit(assignments, at[0], at[1]), output, at);
    });
    rewriter.replaceOp(op, b.tensorOf(output, type));
    return success();
  }
};

} // namespace

void loops::populateDispatchPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerDispatch, LowerCombine>(patterns.getContext());
}
