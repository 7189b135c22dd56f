//===- ResolveSizes.cpp - Sizes of results from sizes of operands ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Transforms/ResolveSizes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOERESOLVESIZESPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Follows a value to the first one of the same size: through destinations,
/// and through loops and branches that hand on what they were given.
class SizeTracer {
public:
  Value trace(Value value, int64_t dim);

private:
  /// Whether every iteration yields the size that it got.
  bool isPreserved(scf::ForOp loop, unsigned index, int64_t dim);
  Value traceBranches(scf::IfOp op, unsigned index, int64_t dim);
  /// One step back, or null where `value` is the first.
  Value step(Value value, int64_t dim);

  /// Loops being looked at: their own values are where a trace ends.
  SmallVector<std::pair<Operation *, unsigned>> open;
};

bool SizeTracer::isPreserved(scf::ForOp loop, unsigned index, int64_t dim) {
  std::pair<Operation *, unsigned> place(loop, index);
  if (llvm::is_contained(open, place))
    return false;
  open.push_back(place);
  Value end = trace(loop.getYieldedValues()[index], dim);
  open.pop_back();
  return end == loop.getRegionIterArg(index);
}

Value SizeTracer::traceBranches(scf::IfOp op, unsigned index, int64_t dim) {
  Value first = trace(op.thenYield().getOperand(index), dim);
  Value second = trace(op.elseYield().getOperand(index), dim);
  bool isOutside = !op->isAncestor(first.getParentBlock()->getParentOp());
  return first == second && isOutside ? first : Value();
}

Value SizeTracer::step(Value value, int64_t dim) {
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    Operation *parent = argument.getOwner()->getParentOp();
    if (auto loop = dyn_cast_or_null<scf::ForOp>(parent)) {
      if (argument.getArgNumber() < loop.getNumInductionVars())
        return {};
      unsigned index = argument.getArgNumber() - loop.getNumInductionVars();
      return isPreserved(loop, index, dim) ? loop.getInitArgs()[index]
                                           : Value();
    }
    if (auto loop = dyn_cast_or_null<scf::ForallOp>(parent))
      return argument.getArgNumber() < loop.getRank()
                 ? Value()
                 : loop.getTiedOpOperand(argument)->get();
    return {};
  }
  auto result = cast<OpResult>(value);
  Operation *op = result.getOwner();
  unsigned index = result.getResultNumber();
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return isPreserved(loop, index, dim) ? loop.getInitArgs()[index] : Value();
  if (auto loop = dyn_cast<scf::ForallOp>(op))
    return loop.getTiedOpOperand(result)->get();
  if (auto branch = dyn_cast<scf::IfOp>(op))
    return traceBranches(branch, index, dim);
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    return cast.getSource();
  if (auto dps = dyn_cast<DestinationStyleOpInterface>(op))
    return dps.getTiedOpOperand(result)->get();
  return {};
}

Value SizeTracer::trace(Value value, int64_t dim) {
  while (Value before = step(value, dim))
    value = before;
  return value;
}

/// The size as the value's own op states it, or nothing.
OpFoldResult stateSize(OpBuilder &b, Value value, int64_t dim) {
  auto type = cast<RankedTensorType>(value.getType());
  if (!type.isDynamicDim(dim))
    return b.getIndexAttr(type.getDimSize(dim));
  Operation *op = value.getDefiningOp();
  if (auto empty = dyn_cast_or_null<tensor::EmptyOp>(op))
    return empty.getMixedSizes()[dim];
  auto slice = dyn_cast_or_null<tensor::ExtractSliceOp>(op);
  if (slice && slice.getDroppedDims().none())
    return slice.getMixedSizes()[dim];
  if (!op ||
      op->getDialect()->getNamespace() != MoeDialect::getDialectNamespace())
    return {};
  auto reifiable = dyn_cast<ReifyRankedShapedTypeOpInterface>(op);
  ReifiedRankedShapedTypeDims shapes;
  if (!reifiable || failed(reifiable.reifyResultShapes(b, shapes)))
    return {};
  return shapes[cast<OpResult>(value).getResultNumber()][dim];
}

} // namespace

void moe::resolveSizes(FunctionOpInterface function) {
  SmallVector<tensor::DimOp> work;
  function->walk([&](tensor::DimOp op) { work.push_back(op); });
  while (!work.empty()) {
    tensor::DimOp op = work.pop_back_val();
    std::optional<int64_t> dim = op.getConstantIndex();
    auto type = dyn_cast<RankedTensorType>(op.getSource().getType());
    if (!dim || !type || *dim < 0 || *dim >= type.getRank())
      continue;
    Value origin = SizeTracer().trace(op.getSource(), *dim);
    OpBuilder b(op);
    // What a statement emits may ask for further sizes.
    Operation *before = op->getPrevNode();
    OpFoldResult size = stateSize(b, origin, *dim);
    Operation *first =
        before ? before->getNextNode() : &op->getBlock()->front();
    for (Operation *added = first; added != op; added = added->getNextNode())
      if (auto further = dyn_cast<tensor::DimOp>(added))
        work.push_back(further);
    if (!size) {
      op.getSourceMutable().assign(origin);
      continue;
    }
    op.replaceAllUsesWith(
        getValueOrCreateConstantIndexOp(b, op.getLoc(), size));
    op.erase();
  }
}

namespace {
struct MoeResolveSizes
    : public moe::impl::MoeResolveSizesPassBase<MoeResolveSizes> {
  void runOnOperation() override { resolveSizes(getOperation()); }
};
} // namespace
