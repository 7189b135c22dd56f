//===- GatingTile.cpp - A gate and a route that one kernel runs -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GatingTile.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

std::optional<int64_t> GatingTile::getStep() {
  if (!loop)
    return std::nullopt;
  return getConstantIntValue(loop.getMixedStep().front());
}

namespace {

/// Reads the tile off the IR, checking on the way that it is what fusing over
/// tokens makes.
class TileMatcher {
public:
  explicit TileMatcher(RouteOp route) { tile.route = route; }

  FailureOr<GatingTile> run();

private:
  LogicalResult matchOps();
  LogicalResult matchTypes();
  LogicalResult matchLoop();
  LogicalResult checkLoopBody();
  LogicalResult matchRows(Value value, TokenRows &rows);
  LogicalResult matchSlice(Operation *op, ArrayRef<OpFoldResult> offsets,
                           ArrayRef<OpFoldResult> sizes,
                           ArrayRef<OpFoldResult> strides,
                           ArrayRef<int64_t> shape);
  LogicalResult matchOutputs(Value result);
  LogicalResult addStores(Value result, Value stored, OpFoldResult first);
  bool isOutside(Value value) {
    return !value || !tile.loop || tile.loop.isDefinedOutsideOfLoop(value);
  }
  InFlightDiagnostic refuse(Operation *op) {
    return op->emitOpError("has no GPU code: ");
  }

  GatingTile tile;
};

LogicalResult TileMatcher::matchOps() {
  RouteOp route = tile.route;
  if (route.getRouter().getLocality() != Locality::token)
    return refuse(route) << "its router looks beyond the token";
  if (!isa<TokenBodyAttrInterface>(route.getRouter()))
    return refuse(route) << "router " << route.getRouter()
                         << " has no token body";
  if (route.getIndices())
    return refuse(route) << "a given index out of range could not be reported";
  if (route.isTraining())
    return refuse(route) << "it draws, and no kernel counts tokens yet";
  tile.gate = route.getLogits().getDefiningOp<GateOp>();
  if (!tile.gate || tile.gate->getBlock() != route->getBlock())
    return refuse(route) << "its logits do not come from a gate beside it";
  return success();
}

LogicalResult TileMatcher::matchTypes() {
  auto check = [&](Operation *op, Value value) -> LogicalResult {
    Type type = value ? getElementTypeOrSelf(value.getType()) : Type();
    if (!type || type.isF16() || type.isBF16() || type.isF32() || type.isF64())
      return success();
    return refuse(op) << type << " is none of bf16, f16, f32 and f64";
  };
  GateOp gate = tile.gate;
  RouteOp route = tile.route;
  for (Value value : {Value(gate.getInput()), Value(gate.getWeight()),
                      Value(gate.getBias()), Value(gate.getLogits())})
    if (failed(check(gate, value)))
      return failure();
  for (Value value : {Value(route.getSelectionBias()),
                      Value(route.getExpertScale()), Value(route.getWeights())})
    if (failed(check(route, value)))
      return failure();
  return success();
}

/// The tile's ops may only slice tokens and compute sizes beside the pair.
LogicalResult TileMatcher::checkLoopBody() {
  for (Operation &op : tile.loop.getBody()->without_terminator()) {
    bool isIndexOp = isMemoryEffectFree(&op) && op.getNumRegions() == 0 &&
                     llvm::all_of(op.getResultTypes(),
                                  [](Type type) { return type.isIndex(); });
    if (isIndexOp || isa<tensor::ExtractSliceOp>(op) || &op == tile.gate ||
        &op == tile.route)
      continue;
    return refuse(&op) << "it stands in a loop over tiles of tokens";
  }
  return success();
}

LogicalResult TileMatcher::matchLoop() {
  tile.loop = dyn_cast<scf::ForallOp>(tile.route->getParentOp());
  if (!tile.loop)
    return success();
  scf::ForallOp loop = tile.loop;
  if (loop.getRank() != 1 ||
      getConstantIntValue(loop.getMixedLowerBound().front()) != 0 ||
      !tile.getStep())
    return refuse(loop) << "it does not count tokens from 0 by a constant";
  for (Value value : {Value(tile.gate.getWeight()), Value(tile.gate.getBias()),
                      Value(tile.route.getSelectionBias()),
                      Value(tile.route.getExpertScale())})
    if (!isOutside(value))
      return refuse(loop) << "what all tokens share is made inside it";
  return checkLoopBody();
}

/// A slice of whole rows, as many as every other slice of the tile has.
LogicalResult TileMatcher::matchSlice(Operation *op,
                                      ArrayRef<OpFoldResult> offsets,
                                      ArrayRef<OpFoldResult> sizes,
                                      ArrayRef<OpFoldResult> strides,
                                      ArrayRef<int64_t> shape) {
  auto isAll = [](ArrayRef<OpFoldResult> values, int64_t number) {
    return llvm::all_of(values, [&](OpFoldResult value) {
      return getConstantIntValue(value) == number;
    });
  };
  bool wholeRows = isAll(strides, 1) && isAll(offsets.drop_front(), 0);
  for (size_t dim = 1; dim < shape.size(); ++dim)
    wholeRows &= getConstantIntValue(sizes[dim]) == shape[dim];
  if (!tile.size)
    tile.size = sizes.front();
  if (!wholeRows || !isEqualConstantIntOrValue(tile.size, sizes.front()))
    return refuse(op) << "it is not the loop's tile of whole rows";
  return success();
}

LogicalResult TileMatcher::matchRows(Value value, TokenRows &rows) {
  if (!value)
    return success();
  rows = {value, OpFoldResult()};
  if (!tile.loop)
    return success();
  auto slice = value.getDefiningOp<tensor::ExtractSliceOp>();
  if (!slice || !isOutside(slice.getSource()) || slice.getDroppedDims().any())
    return refuse(tile.route) << "it reads a value made in its loop";
  rows = {slice.getSource(), slice.getMixedOffsets().front()};
  return matchSlice(slice, slice.getMixedOffsets(), slice.getMixedSizes(),
                    slice.getMixedStrides(), slice.getSourceType().getShape());
}

/// Every use of `stored`, all of a result's rows, must write it to a memref.
LogicalResult TileMatcher::addStores(Value result, Value stored,
                                     OpFoldResult first) {
  for (Operation *user : stored.getUsers()) {
    if (user == tile.route)
      continue;
    if (auto cast = dyn_cast<tensor::CastOp>(user)) {
      if (failed(addStores(result, cast.getResult(), first)))
        return failure();
      continue;
    }
    auto store = dyn_cast<bufferization::MaterializeInDestinationOp>(user);
    if (!store || !isa<BaseMemRefType>(store.getDest().getType())) {
      InFlightDiagnostic diag = refuse(tile.route);
      diag << "its routing is not written to a memref alone";
      diag.attachNote(user->getLoc())
          << "used here; a function marked " << kEntryAttrName
          << " returns nothing after stage 'moe'";
      return diag;
    }
    DominanceInfo dominance;
    if (!dominance.properlyDominates(store.getDest(), tile.getRoot()))
      return refuse(tile.route) << "a destination is made only after it";
    tile.outputs.push_back({result, {store.getDest(), first}, store});
  }
  return success();
}

LogicalResult TileMatcher::matchOutputs(Value result) {
  if (!tile.loop)
    return addStores(result, result, OpFoldResult());
  for (Operation *user : result.getUsers()) {
    if (user == tile.route)
      continue;
    auto insert = dyn_cast<tensor::ParallelInsertSliceOp>(user);
    if (!insert || insert.getSource() != result)
      return refuse(tile.route) << "its loop computes with the routing";
    if (failed(matchSlice(insert.getParallelCombiningParent(),
                          insert.getMixedOffsets(), insert.getMixedSizes(),
                          insert.getMixedStrides(),
                          insert.getDestType().getShape())))
      return failure();
    OpOperand *init =
        tile.loop.getTiedOpOperand(cast<BlockArgument>(insert.getDest()));
    if (failed(addStores(result, tile.loop.getTiedOpResult(init),
                         insert.getMixedOffsets().front())))
      return failure();
  }
  return success();
}

FailureOr<GatingTile> TileMatcher::run() {
  if (failed(matchOps()) || failed(matchTypes()) || failed(matchLoop()) ||
      failed(matchRows(tile.gate.getInput(), tile.input)) ||
      failed(matchRows(tile.route.getTokenMask(), tile.mask)))
    return failure();
  for (Value result : {Value(tile.gate.getLogits()), Value(tile.route.getIds()),
                       Value(tile.route.getWeights())})
    if (failed(matchOutputs(result)))
      return failure();
  return tile;
}

} // namespace

FailureOr<GatingTile> moe::matchGatingTile(RouteOp route) {
  return TileMatcher(route).run();
}
