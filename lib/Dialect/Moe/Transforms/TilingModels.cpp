//===- TilingModels.cpp - Tiling over tokens of the routing ops -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Gate, score and token choice treat each token apart, so a tile of tokens is
// the same op on slices of the operands that have a token axis. A mix reads the
// other tokens too, from operands that stay whole. Upstream's tile-and-fuse
// does the rest.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/TilingInterface.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// The axis of an operand that is the op's tokens.
struct TokenAxis {
  OpOperand *operand;
  int64_t dim = 0;
};

SmallVector<TokenAxis> getTokenAxes(Operation *op) {
  SmallVector<TokenAxis> axes;
  if (auto gate = dyn_cast<GateOp>(op)) {
    axes = {{&gate.getInputMutable()}};
  } else if (auto mix = dyn_cast<MixMatrixOp>(op)) {
    axes = {{&mix.getMatricesMutable(), 1}};
    if (MutableOperandRange range = mix.getPosteriorMutable(); !range.empty())
      axes.push_back({&range[0]});
  } else if (auto tokenOp = dyn_cast<TokenBodyOpInterface>(op)) {
    for (OpOperand *operand : tokenOp.getTokenOperands())
      axes.push_back({operand});
  }
  return axes;
}

/// Offsets, sizes and unit strides of a tile of a value with a token axis.
struct TileSlice {
  SmallVector<OpFoldResult> offsets, sizes, strides;

  /// A tile of an operand.
  TileSlice(OpBuilder &b, Location loc, Value value, int64_t dim,
            OpFoldResult offset, OpFoldResult size)
      : TileSlice(b, cast<ShapedType>(value.getType()), dim, offset, size) {
    for (auto [place, extent] : llvm::enumerate(sizes))
      if (!extent)
        extent = tensor::getMixedSize(b, loc, value, place);
  }
  /// A tile of a type whose other sizes are static.
  TileSlice(OpBuilder &b, ShapedType type, int64_t dim, OpFoldResult offset,
            OpFoldResult size) {
    offsets.assign(type.getRank(), b.getIndexAttr(0));
    strides.assign(type.getRank(), b.getIndexAttr(1));
    for (int64_t extent : type.getShape())
      sizes.push_back(ShapedType::isDynamic(extent) ? OpFoldResult()
                                                    : b.getIndexAttr(extent));
    offsets[dim] = offset;
    sizes[dim] = size;
  }
};

/// Tells the tile at `offset` the number of its first token, where it asks.
void moveFirstToken(Operation *tile, OpBuilder &b, OpFoldResult offset) {
  auto tokenOp = dyn_cast<TokenBodyOpInterface>(tile);
  auto matrix = dyn_cast<MixMatrixOp>(tile);
  if (!matrix && (!tokenOp || !tokenOp.isNumbered()))
    return;
  Location loc = tile->getLoc();
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(tile);
  Value first = getValueOrCreateConstantIndexOp(b, loc, offset);
  first = arith::IndexCastOp::create(b, loc, b.getI64Type(), first);
  Value before;
  if (matrix)
    before = matrix.getFirstToken();
  else if (OpOperand *operand = tokenOp.getFirstTokenOperand())
    before = operand->get();
  if (before)
    first = arith::AddIOp::create(b, loc, before, first);
  if (matrix)
    matrix.getFirstTokenMutable().assign(first);
  else
    tokenOp.setFirstToken(first);
}

template <typename OpTy>
struct TokenTiling
    : public TilingInterface::ExternalModel<TokenTiling<OpTy>, OpTy> {
  SmallVector<utils::IteratorType> getLoopIteratorTypes(Operation *) const {
    return {utils::IteratorType::parallel};
  }

  SmallVector<Range> getIterationDomain(Operation *op, OpBuilder &b) const {
    TokenAxis axis = getTokenAxes(op).front();
    OpFoldResult tokens =
        tensor::getMixedSize(b, op->getLoc(), axis.operand->get(), axis.dim);
    return {Range{b.getIndexAttr(0), tokens, b.getIndexAttr(1)}};
  }

  FailureOr<TilingResult>
  getTiledImplementation(Operation *op, OpBuilder &b,
                         ArrayRef<OpFoldResult> offsets,
                         ArrayRef<OpFoldResult> sizes) const {
    Location loc = op->getLoc();
    // By operand: what is sliced for one may stay whole for another.
    SmallVector<Value> operands(op->getOperands());
    SmallVector<Operation *> slices;
    for (TokenAxis axis : getTokenAxes(op)) {
      Value operand = axis.operand->get();
      TileSlice tile(b, loc, operand, axis.dim, offsets[0], sizes[0]);
      auto slice = tensor::ExtractSliceOp::create(b, loc, operand, tile.offsets,
                                                  tile.sizes, tile.strides);
      operands[axis.operand->getOperandNumber()] = slice;
      slices.push_back(slice);
    }
    Operation *tiled = b.clone(*op);
    for (auto [number, operand] : llvm::enumerate(operands))
      tiled->setOperand(number, operand);
    moveFirstToken(tiled, b, offsets[0]);
    int64_t tokens =
        getConstantIntValue(sizes[0]).value_or(ShapedType::kDynamic);
    for (OpResult result : tiled->getResults()) {
      auto type = cast<RankedTensorType>(result.getType());
      SmallVector<int64_t> shape(type.getShape());
      shape[0] = tokens;
      result.setType(RankedTensorType::get(shape, type.getElementType()));
    }
    return TilingResult{
        {tiled}, llvm::to_vector_of<Value>(tiled->getResults()), slices};
  }

  LogicalResult
  getResultTilePosition(Operation *op, OpBuilder &b, unsigned resultNumber,
                        ArrayRef<OpFoldResult> offsets,
                        ArrayRef<OpFoldResult> sizes,
                        SmallVector<OpFoldResult> &resultOffsets,
                        SmallVector<OpFoldResult> &resultSizes) const {
    TileSlice tile(b, cast<ShapedType>(op->getResult(resultNumber).getType()),
                   /*dim=*/0, offsets[0], sizes[0]);
    resultOffsets = tile.offsets;
    resultSizes = tile.sizes;
    return success();
  }

  FailureOr<TilingResult>
  generateResultTileValue(Operation *op, OpBuilder &b, unsigned resultNumber,
                          ArrayRef<OpFoldResult> offsets,
                          ArrayRef<OpFoldResult> sizes) const {
    auto tiled =
        getTiledImplementation(op, b, offsets.take_front(), sizes.take_front());
    if (failed(tiled))
      return failure();
    return TilingResult{tiled->tiledOps,
                        {tiled->tiledValues[resultNumber]},
                        tiled->generatedSlices};
  }

  /// A consumer's tile names all columns, so its token range is the domain's.
  LogicalResult getIterationDomainTileFromResultTile(
      Operation *, OpBuilder &, unsigned, ArrayRef<OpFoldResult> offsets,
      ArrayRef<OpFoldResult> sizes,
      SmallVectorImpl<OpFoldResult> &domainOffsets,
      SmallVectorImpl<OpFoldResult> &domainSizes) const {
    domainOffsets.assign({offsets[0]});
    domainSizes.assign({sizes[0]});
    return success();
  }
};

} // namespace

void moe::registerTilingModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    GateOp::attachInterface<TokenTiling<GateOp>>(*context);
    ScoreOp::attachInterface<TokenTiling<ScoreOp>>(*context);
    UnitRowsOp::attachInterface<TokenTiling<UnitRowsOp>>(*context);
    MixOp::attachInterface<TokenTiling<MixOp>>(*context);
    MixMatrixOp::attachInterface<TokenTiling<MixMatrixOp>>(*context);
    RouteOp::attachInterface<TokenTiling<RouteOp>>(*context);
    SubsetPartitionOp::attachInterface<TokenTiling<SubsetPartitionOp>>(
        *context);
    SubsetMarginalsOp::attachInterface<TokenTiling<SubsetMarginalsOp>>(
        *context);
    SubsetEntropyOp::attachInterface<TokenTiling<SubsetEntropyOp>>(*context);
    SubsetCovarianceOp::attachInterface<TokenTiling<SubsetCovarianceOp>>(
        *context);
    SubsetSampleOp::attachInterface<TokenTiling<SubsetSampleOp>>(*context);
    SubsetLogProbOp::attachInterface<TokenTiling<SubsetLogProbOp>>(*context);
    JitterOp::attachInterface<TokenTiling<JitterOp>>(*context);
    RouteVJPOp::attachInterface<TokenTiling<RouteVJPOp>>(*context);
    ScoreVJPOp::attachInterface<TokenTiling<ScoreVJPOp>>(*context);
    NoisyLogitsVJPOp::attachInterface<TokenTiling<NoisyLogitsVJPOp>>(*context);
    UnitRowsVJPOp::attachInterface<TokenTiling<UnitRowsVJPOp>>(*context);
    SubsetPartitionVJPOp::attachInterface<TokenTiling<SubsetPartitionVJPOp>>(
        *context);
    MixQueryVJPOp::attachInterface<TokenTiling<MixQueryVJPOp>>(*context);
    MixKeyVJPOp::attachInterface<TokenTiling<MixKeyVJPOp>>(*context);
    NoisyLogitsOp::attachInterface<TokenTiling<NoisyLogitsOp>>(*context);
  });
}
