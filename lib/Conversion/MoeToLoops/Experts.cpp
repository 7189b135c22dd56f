//===- Experts.cpp - Expert functions and layouts as loops ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LoopBuilder.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

namespace {

/// Which of the two halves of a gated up projection; `whole` where there is
/// nothing to take apart.
enum class Part { gate, up, whole };

/// One projection of every expert, whatever the layout: element (expert, out,
/// in) of a matrix with `numOut` outputs, or (expert, out) of a bias.
class ExpertMatrix {
public:
  ExpertMatrix(LoopBuilder &b, LayoutAttr layout, Projection projection,
               ArrayRef<Value> tensors, Part part, int64_t numOut,
               int64_t numIn)
      : b(b), layout(layout), projection(projection), tensors(tensors),
        part(part), numOut(numOut), numIn(numIn) {}

  /// `in` is not looked at for a bias.
  Value load(Value expert, Value out, Value in) const {
    return b.load(getTensor(), getPlace(expert, out, in));
  }
  void store(Value value, Value expert, Value out, Value in) const {
    b.store(value, getTensor(), getPlace(expert, out, in));
  }

private:
  /// Separate tensors are the gate, then up.
  bool isSeparate() const {
    return part != Part::whole && layout.getPairing() == Pairing::separate;
  }
  bool isFused() const { return part != Part::whole && !isSeparate(); }
  Value getTensor() const {
    return tensors[isSeparate() && part == Part::up ? 1 : 0];
  }
  Value getFusedOut(Value out) const;
  SmallVector<Value> getPlace(Value expert, Value out, Value in) const;

  LoopBuilder &b;
  LayoutAttr layout;
  Projection projection;
  SmallVector<Value> tensors; ///< Buffers.
  Part part;
  int64_t numOut, numIn;
};

/// Where output `out` of this part lies among the outputs of both parts.
Value ExpertMatrix::getFusedOut(Value out) const {
  bool comesFirst =
      (part == Part::gate) == (layout.getOrder() == PairOrder::gate_up);
  if (layout.getPairing() == Pairing::interleaved)
    return b.add(b.mul(out, b.index(2)), b.index(comesFirst ? 0 : 1));
  // Each shard holds a block of the first part, then one of the second.
  int64_t block = numOut / layout.getShards();
  Value shard = b.div(out, b.index(block));
  Value inBlock = b.rem(out, b.index(block));
  Value start =
      b.add(b.mul(shard, b.index(2 * block)), b.index(comesFirst ? 0 : block));
  return b.add(start, inBlock);
}

SmallVector<Value> ExpertMatrix::getPlace(Value expert, Value out,
                                          Value in) const {
  Value row = isFused() ? getFusedOut(out) : out;
  if (projection == Projection::up_bias)
    return {expert, row};
  int64_t numRows = isFused() ? 2 * numOut : numOut;
  Orientation orientation = projection == Projection::down
                                ? layout.getDown()
                                : layout.getOrientation();
  Value first = row, second = in;
  int64_t numFirst = numRows;
  if (orientation == Orientation::in_out) {
    std::swap(first, second);
    numFirst = numIn;
  }
  if (layout.getExpertAxis() == ExpertAxis::lead)
    return {expert, first, second};
  return {b.add(b.mul(expert, b.index(numFirst)), first), second};
}

//===----------------------------------------------------------------------===//
// Activations
//===----------------------------------------------------------------------===//

Value emitNamedActivation(LoopBuilder &b, ActivationKind kind, Value x) {
  switch (kind) {
  case ActivationKind::silu:
    return b.mul(x, b.sigmoid(x));
  case ActivationKind::gelu: {
    // x * Phi(x), with Phi(x) = erfc(-x / sqrt(2)) / 2
    Value scaled = b.mul(x, b.real(-1.0 / std::sqrt(2.0)));
    Value tail = math::ErfcOp::create(b, scaled);
    return b.mul(b.mul(b.real(0.5), x), tail);
  }
  case ActivationKind::gelu_tanh: {
    const double root = std::sqrt(2.0 / 3.14159265358979323846);
    Value cube = b.mul(b.mul(x, x), x);
    Value inner = b.mul(b.real(root), b.add(x, b.mul(b.real(0.044715), cube)));
    Value tanh = math::TanhOp::create(b, inner);
    return b.mul(b.mul(b.real(0.5), x), b.add(b.real(1.0), tanh));
  }
  case ActivationKind::relu:
    return b.larger(x, b.real(0.0));
  case ActivationKind::relu2: {
    Value positive = b.larger(x, b.real(0.0));
    return b.mul(positive, positive);
  }
  case ActivationKind::identity:
    return x;
  }
  llvm_unreachable("all kinds are covered");
}

/// #moe.activation on a gate value and an up value, which is null where the
/// experts are not gated.
Value emitActivation(LoopBuilder &b, ActivationAttr activation, Value gate,
                     Value up) {
  double limit = activation.getLimit().convertToDouble();
  if (limit > 0.0) {
    gate = b.smaller(gate, b.real(limit));
    if (up)
      up = b.larger(b.smaller(up, b.real(limit)), b.real(-limit));
  }
  if (activation.getStyle() == ActivationStyle::oai) {
    Value inner = b.mul(b.real(activation.getAlpha()), gate);
    Value activated = b.mul(gate, b.sigmoid(inner));
    return up ? b.mul(activated, b.add(up, b.real(1.0))) : activated;
  }
  Value activated = emitNamedActivation(b, activation.getKind(), gate);
  return up ? b.mul(activated, up) : activated;
}

//===----------------------------------------------------------------------===//
// ExpertsOp
//===----------------------------------------------------------------------===//

SmallVector<Value> getInputs(LoopBuilder &b, ValueRange tensors) {
  return llvm::map_to_vector(tensors,
                             [&](Value tensor) { return b.input(tensor); });
}

/// The expert function on one row after the other.
class ExpertFunction {
public:
  ExpertFunction(LoopBuilder &b, ExpertsOp op)
      : b(b), op(op), rows(b.input(op.getRows())), up(getInputs(b, op.getUp())),
        upBias(getInputs(b, op.getUpBias())), down({b.input(op.getDown())}),
        downBias(b.input(op.getDownBias())),
        hidden(b.scratch(op.getRows().getType().getElementType(),
                         b.index(op.getIntermediateSize()))) {}

  /// `kept` are buffers of what the activation is given, or none.
  void apply(Value expert, Value row, Value output, ValueRange kept);

private:
  Value project(Part part, Value expert, Value row, Value i);
  Value activate(Value gate, Value upValue);

  LoopBuilder &b;
  ExpertsOp op;
  Value rows;
  SmallVector<Value> up, upBias, down; ///< Buffers.
  Value downBias;                      ///< Null where absent.
  Value hidden;                        ///< [I], of the rows' type
};

/// Hidden unit `i` of one part before the activation.
Value ExpertFunction::project(Part part, Value expert, Value row, Value i) {
  int64_t numOut = op.getIntermediateSize(), numIn = op.getInSize();
  ExpertMatrix weight(b, op.getLayout(), Projection::up, up, part, numOut,
                      numIn);
  Value sum = b.sum(b.index(0), b.index(numIn), [&](Value d) {
    return b.mul(b.load(rows, {row, d}), weight.load(expert, i, d));
  });
  if (upBias.empty())
    return sum;
  ExpertMatrix bias(b, op.getLayout(), Projection::up_bias, upBias, part,
                    numOut, numIn);
  return b.add(sum, bias.load(expert, i, /*in=*/nullptr));
}

Value ExpertFunction::activate(Value gate, Value upValue) {
  if (auto known = dyn_cast<ActivationAttr>(op.getActivation()))
    return emitActivation(b, known, gate, upValue);
  return op.getActivation().buildActivation(b, gate, upValue);
}

void ExpertFunction::apply(Value expert, Value row, Value output,
                           ValueRange kept) {
  b.loop(b.size(hidden, 0), [&](Value i) {
    bool gated = op.getGated();
    Value gate = project(gated ? Part::gate : Part::whole, expert, row, i);
    Value upValue = gated ? project(Part::up, expert, row, i) : Value();
    b.store(activate(gate, upValue), hidden, i);
    if (!kept.empty())
      b.store(gate, kept[0], {row, i});
    if (kept.size() > 1)
      b.store(upValue, kept[1], {row, i});
  });
  ExpertMatrix weight(b, op.getLayout(), Projection::down, down, Part::whole,
                      op.getOutSize(), op.getIntermediateSize());
  b.loop(b.size(output, 1), [&](Value d) {
    Value sum = b.sum(b.index(0), b.size(hidden, 0), [&](Value i) {
      return b.mul(b.load(hidden, i), weight.load(expert, d, i));
    });
    if (downBias)
      sum = b.add(sum, b.load(downBias, {expert, d}));
    b.store(sum, output, {row, d});
  });
}

struct LowerExperts : public OpRewritePattern<ExpertsOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ExpertsOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    SmallVector<Value> outs;
    for (auto [type, shape] :
         llvm::zip(op.getResultTypes(), reifyShapes(op, b))) {
      outs.push_back(b.output(type, shape));
      // Rows that no expert owns are unspecified: nobody may read them.
      b.fill(outs.back(), b.nan());
    }
    Value offsets = b.input(op.getOffsets());
    ExpertFunction function(b, op);
    b.loop(b.index(op.getNumExperts()), [&](Value expert) {
      Value low = b.index(0), high = b.size(outs[0], 0);
      if (offsets) {
        low = b.load(offsets, expert);
        high = b.load(offsets, b.add(expert, b.index(1)));
      }
      b.loop(low, high, [&](Value row) {
        function.apply(expert, row, outs[0], ArrayRef(outs).drop_front());
      });
    });
    SmallVector<Value> results;
    for (auto [type, out] : llvm::zip(op.getResultTypes(), outs))
      results.push_back(b.tensorOf(out, type));
    rewriter.replaceOp(op, results);
    return success();
  }
};

//===----------------------------------------------------------------------===//
// RelayoutOp
//===----------------------------------------------------------------------===//

struct LowerRelayout : public OpRewritePattern<RelayoutOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RelayoutOp op,
                                PatternRewriter &rewriter) const override {
    LoopBuilder b(op, rewriter);
    SmallVector<Value> sources = getInputs(b, op.getSources());
    ReifiedRankedShapedTypeDims shapes = reifyShapes(op, b);
    SmallVector<Value> results;
    for (auto [type, shape] : llvm::zip(op.getResultTypes(), shapes))
      results.push_back(b.output(type, shape));

    bool paired = op.getProjection() != Projection::down && op.getGated();
    auto features = *op.getFrom().getFeatures(
        op.getProjection(), op.getNumExperts(),
        cast<ShapedType>(op.getSources().front().getType()).getShape());
    int64_t numOut = features.first, numIn = features.second;
    if (paired && op.getFrom().isFused())
      numOut /= 2;
    SmallVector<Part> parts = {Part::whole};
    if (paired)
      parts = {Part::gate, Part::up};
    for (Part part : parts)
      copyPart(b, op, {sources, results}, part, numOut, numIn);

    SmallVector<Value> tensors;
    for (auto [result, type] : llvm::zip(results, op.getResultTypes()))
      tensors.push_back(b.tensorOf(result, type));
    rewriter.replaceOp(op, tensors);
    return success();
  }

private:
  struct Buffers {
    ArrayRef<Value> sources, results;
  };

  static void copyPart(LoopBuilder &b, RelayoutOp op, Buffers buffers,
                       Part part, int64_t numOut, int64_t numIn) {
    ExpertMatrix from(b, op.getFrom(), op.getProjection(), buffers.sources,
                      part, numOut, numIn);
    ExpertMatrix to(b, op.getTo(), op.getProjection(), buffers.results, part,
                    numOut, numIn);
    // A bias has no input axis: once around.
    bool isBias = op.getProjection() == Projection::up_bias;
    b.loop(b.index(op.getNumExperts()), [&](Value expert) {
      b.loop(b.index(numOut), [&](Value out) {
        b.loop(b.index(isBias ? 1 : numIn), [&](Value in) {
          to.store(from.load(expert, out, in), expert, out, in);
        });
      });
    });
  }
};

} // namespace

void loops::populateExpertPatterns(RewritePatternSet &patterns) {
  patterns.add<LowerExperts, LowerRelayout>(patterns.getContext());
}
