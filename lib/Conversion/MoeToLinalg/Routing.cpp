//===- Routing.cpp - gate, score, route, top_k ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "Patterns.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Conversion/MoeToLinalg.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

class GateLowering final : public Lowering<GateOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(GateOp op, ImplicitLocOpBuilder &b) const override {
    FloatType compute = getComputeType(
        b, {op.getInput(), op.getWeight(), op.getBias(), op.getLogits()});
    Value dest = emitDestinations(b, op)[0];
    Value acc = emitEmptyLike(b, dest, compute);
    if (Value bias = op.getBias())
      acc = emitMap(b, bias, {{1}}, acc, [&](ValueRange scalars) {
        return emitConvert(b, scalars[0], compute);
      });
    else
      acc = emitFill(b, emitFloat(b, compute, 0.0), acc);
    Value logits = emitMatmul(b, op.getInput(), op.getWeight(),
                              /*isRhsTransposed=*/true, acc);
    if (getElementType(dest) == compute)
      return {logits};
    return {emitConvertInto(b, logits, dest)};
  }
};

class ScoreLowering final : public Lowering<ScoreOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(ScoreOp op, ImplicitLocOpBuilder &b) const override {
    FloatType compute = getComputeType(b, {op.getLogits(), op.getScores()});
    double softcap = op.getSoftcap().convertToDouble();
    Value dest = emitDestinations(b, op)[0];
    BodyBuilder body(b, compute);
    auto prepare = [&](Value logit) {
      return body.softcap(emitConvert(b, logit, compute), softcap);
    };
    if (op.getKind() != ScoreKind::softmax)
      return {emitElementwise(b, op.getLogits(), dest, [&](ValueRange in) {
        Value score = body.score(op.getKind(), prepare(in[0]));
        return emitConvert(b, score, getElementType(dest));
      })};
    Value logits = op.getLogits();
    if (softcap > 0.0 || getElementType(logits) != compute)
      logits = emitElementwise(b, logits, emitEmptyLike(b, dest, compute),
                               [&](ValueRange in) { return prepare(in[0]); });
    return {emitConvertInto(b, emitSoftmax(b, logits, /*dim=*/1), dest)};
  }
};

/// A loop over the tokens around an op's token body.
template <typename OpTy> class TokenLowering final : public Lowering<OpTy> {
  using Lowering<OpTy>::Lowering;

  SmallVector<Value> emit(OpTy op, ImplicitLocOpBuilder &b) const override {
    auto tokenOp = cast<TokenBodyOpInterface>(op.getOperation());
    FloatType compute = getTokenComputeType(tokenOp);
    tokenOp.emitChecks(b);
    SmallVector<Value> operands(op->getOperands());
    for (OpOperand *operand : tokenOp.getTokenOperands())
      if (isa<FloatType>(getElementType(operand->get())))
        operands[operand->getOperandNumber()] =
            emitConvertTensor(b, operand->get(), compute);
    SmallVector<Value> dests = emitDestinations(b, op);
    return emitLoop(b, emitIndex(b, 0), emitDim(b, dests[0], 0), dests,
                    [&](Value token, ValueRange carried) {
                      return emitToken(b, tokenOp, compute, operands, token,
                                       carried);
                    });
  }

  static SmallVector<Value> emitToken(ImplicitLocOpBuilder &b,
                                      TokenBodyOpInterface op,
                                      FloatType compute, ValueRange operands,
                                      Value token, ValueRange dests) {
    SmallVector<Value> values(operands);
    for (OpOperand *operand : op.getTokenOperands()) {
      Value &value = values[operand->getOperandNumber()];
      bool isRow = cast<RankedTensorType>(value.getType()).getRank() > 1;
      value = isRow ? emitSliceRow(b, value, token) : emitRead(b, value, token);
    }
    Value number;
    if (op.isNumbered()) {
      number = arith::IndexCastOp::create(b, b.getI64Type(), token);
      if (OpOperand *first = op.getFirstTokenOperand())
        number = arith::AddIOp::create(b, first->get(), number);
    }
    SmallVector<Value> written;
    for (auto [result, dest] :
         llvm::zip(op.buildTokenBody(b, values, number, compute), dests))
      written.push_back(emitTokenValue(b, result, token, dest));
    return written;
  }

  /// Writes what a token gives for one result.
  static Value emitTokenValue(ImplicitLocOpBuilder &b, const TokenValue &value,
                              Value token, Value dest) {
    Type element = getElementType(dest);
    auto convert = [&](Value scalar) {
      return isa<FloatType>(element) ? emitConvert(b, scalar, element) : scalar;
    };
    if (value.row)
      return emitInsertRow(b, emitConvertTensor(b, value.row, element), dest,
                           token);
    if (cast<RankedTensorType>(dest.getType()).getRank() == 1)
      return emitWrite(b, convert(value.columns[0]), dest, token);
    for (auto [place, column] : llvm::enumerate(value.columns))
      dest = emitWrite(b, convert(column), dest, {token, emitIndex(b, place)});
    return dest;
  }
};

class TopKLowering final : public Lowering<TopKOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(TopKOp op, ImplicitLocOpBuilder &b) const override {
    Value values = op.getValues();
    auto element = cast<FloatType>(getElementType(values));
    int64_t width = cast<ShapedType>(values.getType()).getDimSize(1);
    int64_t k = cast<ShapedType>(op.getInits()[0].getType()).getDimSize(1);
    return emitLoop(
        b, emitIndex(b, 0), emitDim(b, values, 0), op.getInits(),
        [&](Value row, ValueRange carried) -> SmallVector<Value> {
          KeyOrder order(b, element);
          RankedKeys best = emitTopK(b, order, k, width, [&](Value column) {
            return order.encode(emitRead(b, values, {row, column}));
          });
          Value largest = carried[0], ids = carried[1];
          for (int64_t place = 0; place < k; ++place) {
            Value at = emitIndex(b, place);
            largest = emitWrite(b, order.decode(best.keys[place]), largest,
                                {row, at});
            ids = emitWrite(b, best.ids[place], ids, {row, at});
          }
          return {largest, ids};
        });
  }
};

} // namespace

void tolinalg::addGatePatterns(RewritePatternSet &patterns) {
  patterns
      .add<GateLowering, ScoreLowering, TokenLowering<RouteOp>,
           TokenLowering<SubsetPartitionOp>, TokenLowering<SubsetMarginalsOp>,
           TokenLowering<SubsetEntropyOp>, TokenLowering<SubsetCovarianceOp>,
           TokenLowering<SubsetSampleOp>, TokenLowering<SubsetLogProbOp>,
           TokenLowering<PhiloxOp>, TokenLowering<UnitRowsOp>,
           TokenLowering<JitterOp>, TokenLowering<NoisyLogitsOp>,
           TokenLowering<MixOp>, TokenLowering<RouteVJPOp>,
           TokenLowering<ScoreVJPOp>, TokenLowering<NoisyLogitsVJPOp>,
           TokenLowering<UnitRowsVJPOp>, TokenLowering<SubsetPartitionVJPOp>,
           TokenLowering<MixQueryVJPOp>, TokenLowering<MixKeyVJPOp>>(
          patterns.getContext());
}

void moe::populateMoeToLinalgRoutingPatterns(RewritePatternSet &patterns) {
  addGatePatterns(patterns);
  addExpertChoicePatterns(patterns);
  addMixPatterns(patterns);
  addSlotPatterns(patterns);
  addCapacityPatterns(patterns);
  addHashPatterns(patterns);
}

void moe::populateMoeToLinalgPrimitivesPatterns(RewritePatternSet &patterns) {
  patterns.add<TopKLowering>(patterns.getContext());
  addGroupPatterns(patterns);
  addGroupedMatmulPatterns(patterns);
}
