//===- Experts.cpp - experts, relayout ------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "Products.h"
#include "Weights.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "moe/Conversion/MoeToLinalg.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// The matrices of one projection, gate before up, from as many tensors as the
/// layout has.
class ProjectionWeights {
public:
  ProjectionWeights(ImplicitLocOpBuilder &b, LayoutAttr layout,
                    Projection projection, int64_t numExperts, bool isGated,
                    ValueRange tensors)
      : form(layout, projection, numExperts,
             /*isPaired=*/isPaired(layout, projection, isGated),
             cast<RankedTensorType>(tensors.front().getType())) {
    for (Value tensor : tensors)
      unfolded.push_back(form.emitUnfold(b, tensor));
    for (Value tensor : unfolded)
      sides.emplace_back(tensor, 0);
    if (isPaired(layout, projection, isGated)) {
      int64_t gate = getGateSide(layout);
      sides = {{unfolded[0], gate}, {unfolded[0], 1 - gate}};
    }
  }

  /// Whether one tensor holds gate and up.
  static bool isPaired(LayoutAttr layout, Projection projection, bool isGated) {
    return isGated && projection != Projection::down && layout.isFused();
  }

  const WeightForm &getForm() const { return form; }

  SmallVector<Value> emitExpert(ImplicitLocOpBuilder &b, Value expert) const {
    return llvm::map_to_vector(sides, [&](auto side) {
      return form.emitExpertSide(b, side.first, expert, side.second);
    });
  }
  SmallVector<Value> emitAll(ImplicitLocOpBuilder &b) const {
    return llvm::map_to_vector(sides, [&](auto side) {
      return form.emitSide(b, side.first, side.second);
    });
  }

private:
  WeightForm form;
  SmallVector<Value> unfolded;
  SmallVector<std::pair<Value, int64_t>> sides;
};

class ExpertsLowering final : public Lowering<ExpertsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(ExpertsOp op,
                          ImplicitLocOpBuilder &b) const override {
    auto weightsOf = [&](Projection projection, ValueRange tensors) {
      return ProjectionWeights(b, op.getLayout(), projection,
                               op.getNumExperts(), op.getGated(), tensors);
    };
    ProjectionWeights up = weightsOf(Projection::up, op.getUp());
    ProjectionWeights down = weightsOf(Projection::down, op.getDown());
    std::optional<ProjectionWeights> upBias;
    if (!op.getUpBias().empty())
      upBias = weightsOf(Projection::up_bias, op.getUpBias());
    FloatType compute = getComputeType(b, {op.getRows(), op.getOutput()});
    Type hiddenType = getElementType(op.getRows());
    return emitForExperts(
        b, op.getOffsets(), emitDestinations(b, op),
        [&](const ExpertRows &own, ValueRange dests) {
          ExpertProduct first;
          first.rows = {own.of(b, op.getRows())};
          first.weights = up.emitExpert(b, own.expert);
          if (upBias)
            first.biases = upBias->emitExpert(b, own.expert);
          first.isInOut = up.getForm().isInOut();
          first.compute = compute;
          OpFoldResult width = b.getIndexAttr(op.getIntermediateSize());
          SmallVector<Value> middle = {
              emitEmpty(b, {getAsOpFoldResult(own.count), width}, hiddenType)};
          llvm::append_range(middle, dests.drop_front());
          middle = emitProduct(b, first, middle, [&](ValueRange values) {
            return emitActivation(op, b, values);
          });
          ExpertProduct second;
          second.rows = {middle[0]};
          second.weights = down.emitExpert(b, own.expert);
          if (Value bias = op.getDownBias())
            second.biases = {emitSliceRow(b, bias, own.expert)};
          second.isInOut = down.getForm().isInOut();
          second.compute = compute;
          SmallVector<Value> results =
              emitProduct(b, second, dests.front(), [&](ValueRange values) {
                return emitBiased(b, values, 1);
              });
          llvm::append_range(results, ArrayRef(middle).drop_front());
          return results;
        });
  }

  /// The sums, of which there are `numSums`, with their biases.
  static SmallVector<Value> emitBiased(ImplicitLocOpBuilder &b,
                                       ValueRange values, unsigned numSums) {
    SmallVector<Value> sums(values.take_front(numSums));
    for (auto [sum, bias] : llvm::zip(sums, values.drop_front(numSums)))
      sum = arith::AddFOp::create(b, sum, bias);
    return sums;
  }

  /// The hidden value, and what it was made of.
  static SmallVector<Value>
  emitActivation(ExpertsOp op, ImplicitLocOpBuilder &b, ValueRange values) {
    SmallVector<Value> sums = emitBiased(b, values, op.getGated() ? 2 : 1);
    Value up = op.getGated() ? sums[1] : Value();
    sums.insert(sums.begin(),
                op.getActivation().buildActivation(b, sums[0], up));
    return sums;
  }
};

class RelayoutLowering final : public Lowering<RelayoutOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RelayoutOp op,
                          ImplicitLocOpBuilder &b) const override {
    Projection projection = op.getProjection();
    ProjectionWeights source(b, op.getFrom(), projection, op.getNumExperts(),
                             op.getGated(), op.getSources());
    auto type = cast<RankedTensorType>(op.getResultTypes().front());
    bool isPaired =
        ProjectionWeights::isPaired(op.getTo(), projection, op.getGated());
    WeightForm target(op.getTo(), projection, op.getNumExperts(), isPaired,
                      type);
    SmallVector<Value> sides = source.emitAll(b);
    if (source.getForm().isInOut() != target.isInOut())
      for (Value &side : sides)
        side = emitTransposed(b, side, target.getSideType());
    if (!isPaired)
      return llvm::map_to_vector(
          sides, [&](Value side) { return target.emitFold(b, side); });
    Value dest =
        target.emitUnfold(b, tensor::EmptyOp::create(b, type, ValueRange()));
    int64_t gate = getGateSide(op.getTo());
    dest = target.emitInsertSide(b, sides[0], dest, gate);
    dest = target.emitInsertSide(b, sides[1], dest, 1 - gate);
    return {target.emitFold(b, dest)};
  }

  static Value emitTransposed(ImplicitLocOpBuilder &b, Value side,
                              RankedTensorType type) {
    Value dest = tensor::EmptyOp::create(b, type, ValueRange());
    return linalg::TransposeOp::create(b, side, dest,
                                       ArrayRef<int64_t>{0, 2, 1})
        ->getResult(0);
  }
};

} // namespace

void moe::populateMoeToLinalgExpertsPatterns(RewritePatternSet &patterns) {
  patterns.add<ExpertsLowering, RelayoutLowering>(patterns.getContext());
}
