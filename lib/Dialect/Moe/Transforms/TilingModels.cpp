//===- TilingModels.cpp - Tiling over tokens of the routing ops -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Gate, score and token choice treat each token apart, so a tile of tokens is
// the same op on slices of the operands that have a token axis. Upstream's
// tile-and-fuse does the rest.
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

/// The operands of an op that have the token axis in front.
SmallVector<Value> getTokenOperands(Operation *op) {
  SmallVector<Value> operands;
  if (auto gate = dyn_cast<GateOp>(op))
    operands = {gate.getInput()};
  else if (auto score = dyn_cast<ScoreOp>(op))
    operands = {score.getLogits()};
  else if (auto tokenOp = dyn_cast<TokenBodyOpInterface>(op))
    for (OpOperand *operand : tokenOp.getTokenOperands())
      operands.push_back(operand->get());
  return operands;
}

/// Offsets, sizes and unit strides of a tile of a value with a token axis.
struct TileSlice {
  SmallVector<OpFoldResult> offsets, sizes, strides;

  TileSlice(OpBuilder &b, ShapedType type, OpFoldResult offset,
            OpFoldResult size) {
    offsets.assign(type.getRank(), b.getIndexAttr(0));
    strides.assign(type.getRank(), b.getIndexAttr(1));
    for (int64_t extent : type.getShape())
      sizes.push_back(b.getIndexAttr(extent));
    offsets[0] = offset;
    sizes[0] = size;
  }
};

/// The number of a tile's first token, where the op asks for it.
Value moveFirstToken(Operation *op, OpBuilder &b, OpFoldResult offset) {
  auto tokenOp = dyn_cast<TokenBodyOpInterface>(op);
  OpOperand *first = tokenOp ? tokenOp.getFirstTokenOperand() : nullptr;
  if (!first)
    return {};
  Location loc = op->getLoc();
  Value moved = getValueOrCreateConstantIndexOp(b, loc, offset);
  moved = arith::IndexCastOp::create(b, loc, b.getI64Type(), moved);
  return arith::AddIOp::create(b, loc, first->get(), moved);
}

template <typename OpTy>
struct TokenTiling
    : public TilingInterface::ExternalModel<TokenTiling<OpTy>, OpTy> {
  SmallVector<utils::IteratorType> getLoopIteratorTypes(Operation *) const {
    return {utils::IteratorType::parallel};
  }

  SmallVector<Range> getIterationDomain(Operation *op, OpBuilder &b) const {
    OpFoldResult tokens =
        tensor::getMixedSize(b, op->getLoc(), getTokenOperands(op).front(), 0);
    return {Range{b.getIndexAttr(0), tokens, b.getIndexAttr(1)}};
  }

  FailureOr<TilingResult>
  getTiledImplementation(Operation *op, OpBuilder &b,
                         ArrayRef<OpFoldResult> offsets,
                         ArrayRef<OpFoldResult> sizes) const {
    Location loc = op->getLoc();
    IRMapping mapping;
    SmallVector<Operation *> slices;
    for (Value operand : getTokenOperands(op)) {
      TileSlice tile(b, cast<ShapedType>(operand.getType()), offsets[0],
                     sizes[0]);
      auto slice = tensor::ExtractSliceOp::create(b, loc, operand, tile.offsets,
                                                  tile.sizes, tile.strides);
      mapping.map(operand, slice.getResult());
      slices.push_back(slice);
    }
    // Made in front of the tile; other operands may hold the same number.
    Value firstToken = moveFirstToken(op, b, offsets[0]);
    Operation *tiled = b.clone(*op, mapping);
    if (firstToken)
      cast<TokenBodyOpInterface>(tiled).getFirstTokenOperand()->set(firstToken);
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
                   offsets[0], sizes[0]);
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
    RouteOp::attachInterface<TokenTiling<RouteOp>>(*context);
    SubsetPartitionOp::attachInterface<TokenTiling<SubsetPartitionOp>>(
        *context);
    SubsetMarginalsOp::attachInterface<TokenTiling<SubsetMarginalsOp>>(
        *context);
    SubsetCovarianceOp::attachInterface<TokenTiling<SubsetCovarianceOp>>(
        *context);
    SubsetSampleOp::attachInterface<TokenTiling<SubsetSampleOp>>(*context);
    SubsetLogProbOp::attachInterface<TokenTiling<SubsetLogProbOp>>(*context);
    NoisyLogitsOp::attachInterface<TokenTiling<NoisyLogitsOp>>(*context);
  });
}
