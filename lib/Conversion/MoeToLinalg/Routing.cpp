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
    auto prepare = [&](Value logit) -> Value {
      logit = emitConvert(b, logit, compute);
      if (softcap <= 0.0)
        return logit;
      Value cap = emitFloat(b, compute, softcap);
      Value inner = arith::DivFOp::create(b, logit, cap);
      return arith::MulFOp::create(b, cap, math::TanhOp::create(b, inner));
    };
    if (op.getKind() != ScoreKind::softmax)
      return {emitElementwise(b, op.getLogits(), dest, [&](ValueRange in) {
        Value score = emitScalarScore(b, op.getKind(), prepare(in[0]));
        return emitConvert(b, score, getElementType(dest));
      })};
    Value logits = op.getLogits();
    if (softcap > 0.0 || getElementType(logits) != compute)
      logits = emitElementwise(b, logits, emitEmptyLike(b, dest, compute),
                               [&](ValueRange in) { return prepare(in[0]); });
    return {emitConvertInto(b, emitSoftmax(b, logits, /*dim=*/1), dest)};
  }

  static Value emitScalarScore(ImplicitLocOpBuilder &b, ScoreKind kind,
                               Value x) {
    if (kind == ScoreKind::none)
      return x;
    if (kind == ScoreKind::sigmoid) {
      Value one = emitFloat(b, x.getType(), 1.0);
      Value power = math::ExpOp::create(b, arith::NegFOp::create(b, x));
      return arith::DivFOp::create(b, one,
                                   arith::AddFOp::create(b, one, power));
    }
    // sqrt(log(1 + exp(x))), with exp taken where it cannot overflow.
    Value distance = math::AbsFOp::create(b, x);
    Value small = math::ExpOp::create(b, arith::NegFOp::create(b, distance));
    Value positive =
        arith::MaximumFOp::create(b, x, emitFloat(b, x.getType(), 0.0));
    Value softplus =
        arith::AddFOp::create(b, positive, math::Log1pOp::create(b, small));
    return math::SqrtOp::create(b, softplus);
  }
};

class RouteLowering final : public Lowering<RouteOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteOp op, ImplicitLocOpBuilder &b) const override {
    int64_t width = op.getLogits().getType().getDimSize(1);
    FloatType compute = getComputeType(b, {op.getLogits(), op.getWeights()});
    Value logits = emitConvertTensor(b, op.getLogits(), compute);
    Value indices = op.getIndices();
    if (indices)
      indices = emitCheckedIndices(b, op, width);
    SmallVector<Value> dests = emitDestinations(b, op);
    Value numTokens = emitDim(b, dests[0], 0);
    return emitLoop(b, emitIndex(b, 0), numTokens, dests,
                    [&](Value token, ValueRange carried) -> SmallVector<Value> {
                      TokenBodyInputs inputs;
                      inputs.logits = emitSliceRow(b, logits, token);
                      inputs.selectionBias = op.getSelectionBias();
                      inputs.expertScale = op.getExpertScale();
                      inputs.indices =
                          indices ? emitSliceRow(b, indices, token) : Value();
                      inputs.width = width;
                      inputs.computeType = compute;
                      TokenBodyResult slots =
                          cast<TokenBodyAttrInterface>(op.getRouter())
                              .buildTokenBody(b, inputs);
                      return emitSlots(b, op, token, slots, carried);
                    });
  }

  /// Writes the slots of a token, empty ones where it is masked.
  static SmallVector<Value> emitSlots(ImplicitLocOpBuilder &b, RouteOp op,
                                      Value token, const TokenBodyResult &slots,
                                      ValueRange dests) {
    Value ids = dests[0], weights = dests[1];
    Value isLive =
        op.getTokenMask() ? emitRead(b, op.getTokenMask(), token) : Value();
    auto unlessMasked = [&](Value value, Value empty) -> Value {
      if (!isLive)
        return value;
      return arith::SelectOp::create(b, isLive, value, empty);
    };
    for (size_t slot = 0, end = slots.ids.size(); slot < end; ++slot) {
      Value place = emitIndex(b, slot);
      Value weight =
          emitConvert(b, slots.weights[slot], getElementType(weights));
      Value id = unlessMasked(slots.ids[slot], emitI32(b, -1));
      weight = unlessMasked(weight, emitFloat(b, weight.getType(), 0.0));
      ids = emitWrite(b, id, ids, {token, place});
      weights = emitWrite(b, weight, weights, {token, place});
    }
    return {ids, weights};
  }

  /// Given indices, asserted to be in [-1, R).
  static Value emitCheckedIndices(ImplicitLocOpBuilder &b, RouteOp op,
                                  int64_t width) {
    Value indices = op.getIndices();
    Value inRange = emitAll(b, indices, [&](Value id) -> Value {
      Value shifted = arith::AddIOp::create(b, id, emitI32(b, 1));
      return emitIsWithin(b, shifted, emitI32(b, width + 1));
    });
    emitAssert(b, inRange,
               Twine("moe.route: an index is outside [-1, ") + Twine(width) +
                   ")");
    return indices;
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
  patterns.add<GateLowering, ScoreLowering, RouteLowering>(
      patterns.getContext());
}

void moe::populateMoeToLinalgRoutingPatterns(RewritePatternSet &patterns) {
  addGatePatterns(patterns);
  addExpertChoicePatterns(patterns);
  addCapacityPatterns(patterns);
}

void moe::populateMoeToLinalgPrimitivesPatterns(RewritePatternSet &patterns) {
  patterns.add<TopKLowering>(patterns.getContext());
  addGroupPatterns(patterns);
  addGroupedMatmulPatterns(patterns);
}
