//===- Gradients.cpp - Ops of backwards -----------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Assignments.h"
#include "Subsets.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

struct LowerSlotDots : public OpRewritePattern<SlotDotsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SlotDotsOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    Value rows = b.input(op.getRows()), ids = b.input(op.getIds());
    Value tokens = b.input(op.getTokens());
    Value identity = b.input(op.getIdentity());
    Type type = op.getDots().getType();
    Value dots = b.output(type, reifyShapes(op, b)[0]);
    b.fill(dots, b.real(0.0));
    Value width = b.size(rows, 1), numExperts = b.index(op.getNumExperts());
    Value numTokens = op.getNumTokens();
    if (op.getChoice() == Choice::token)
      numTokens = b.size(ids, 0);
    else if (tokens)
      numTokens = b.size(tokens, 0);
    Assignments(b, ids, op.getChoice(), numTokens, numExperts)
        .visitAll([&](Value row, Value token, ValueRange at) {
          Value sum = b.sum(b.index(0), width, [&](Value d) {
            Value value = b.load(rows, {row, d});
            return tokens ? b.mul(value, b.load(tokens, {token, d})) : value;
          });
          b.store(sum, dots, at);
        });
    if (identity)
      b.loopAll(ids, [&](ValueRange at) {
        b.when(b.lessEqual(numExperts, b.load(ids, at)), [&] {
          Value sum = b.sum(b.index(0), width, [&](Value d) {
            return b.mul(b.load(identity, {at[0], d}),
                         b.load(tokens, {at[0], d}));
          });
          b.store(sum, dots, at);
        });
      });
    rewriter.replaceOp(op, b.tensorOf(dots, type));
    return success();
  }
};

/// The backward of a token-local op runs its token body. Its formulas have
/// other judges: finite differences of forwards, and closed forms.
template <typename OpTy> struct LowerByBody : public OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;

  LogicalResult matchAndRewrite(OpTy op,
                                PatternRewriter &rewriter) const override {
    auto tokenOp = cast<TokenBodyOpInterface>(op.getOperation());
    LoopBuilder b(op, rewriter);
    SmallVector<Value> outs;
    for (auto [type, shape] :
         llvm::zip(op->getResultTypes(), reifyShapes(op, b)))
      outs.push_back(b.output(type, shape));
    b.loop(b.size(outs[0], 0),
           [&](Value token) { emitToken(b, tokenOp, token, outs); });
    SmallVector<Value> results;
    for (auto [out, type] : llvm::zip(outs, op->getResultTypes()))
      results.push_back(b.tensorOf(out, type));
    rewriter.replaceOp(op, results);
    return success();
  }

  static void emitToken(LoopBuilder &b, TokenBodyOpInterface op, Value token,
                        ArrayRef<Value> outs) {
    SmallVector<Value> values(op->getOperands());
    for (OpOperand *operand : op.getTokenOperands()) {
      Value tensor = operand->get();
      auto type = cast<RankedTensorType>(tensor.getType());
      Type element = type.getElementType();
      if (isa<FloatType>(element))
        element = b.getComputeType();
      values[operand->getOperandNumber()] =
          readRow(b, tensor, token, type.getDimSize(1), element);
    }
    Value number;
    if (op.isNumbered()) {
      OpOperand *first = op.getFirstTokenOperand();
      number = emitTokenNumber(b, first ? first->get() : Value(), token);
    }
    auto results = op.buildTokenBody(b, values, number, b.getComputeType());
    for (auto [result, out] : llvm::zip(results, outs)) {
      Value row = result.row, buffer = out;
      b.loop(b.size(buffer, 1), [&](Value at) {
        b.store(tensor::ExtractOp::create(b, row, at), buffer, {token, at});
      });
    }
  }
};

} // namespace

void loops::populateGradientPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerSlotDots, LowerByBody<RouteVJPOp>, LowerByBody<ScoreVJPOp>,
               LowerByBody<NoisyLogitsVJPOp>, LowerByBody<UnitRowsVJPOp>,
               LowerByBody<SubsetPartitionVJPOp>>(patterns.getContext());
}
