//===- GroupedOuterToTensorCores.cpp - mma.sync weight gradients ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A block of four warps makes 64 by 128 numbers of one expert's gradient, in
// f32 and in the order of the expert's rows, 32 of which (16 of f32) come at a
// time by cp.async, gathered where they are read. Rows lie in workgroup memory
// as in global memory and are transposed by ldmatrix. An expert without rows
// has zeros: its sums are what they began with.
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ProductParts.h"
#include "TensorTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr int64_t kRows = 64, kColumns = 128;
constexpr int64_t kStages = 4;
constexpr int64_t kWarpsAcross = 2;
constexpr int64_t kWarpRows = kRows / (kTileWarps / kWarpsAcross);
constexpr int64_t kWarpColumns = kColumns / kWarpsAcross;
constexpr int64_t kRowTiles = kWarpRows / kMmaRows;
constexpr int64_t kColumnTiles = kWarpColumns / kMmaOutputs;

class TensorCoreOuter {
public:
  TensorCoreOuter(ImplicitLocOpBuilder &b, GroupedOuterOp op)
      : b(b), emit(b, b.getF32Type()), tile(b, emit), op(op) {}

  void run();

private:
  using Sums = SmallVector<Value>; ///< By row and column tile.

  /// One side of the product.
  struct Side {
    TilePanel panel;
    Value buffer, list;
    Value column, isInside; ///< Of this thread's piece of every line.
  };

  void findSide(const TilePanel &panel, Value buffer, Value list, Value first,
                int64_t size);
  void startStep(int64_t stage, Value step);
  Sums multiply(int64_t stage, ValueRange sums);
  Sums emitSums();
  void emitResults(ValueRange sums);

  ImplicitLocOpBuilder &b;
  ThreadEmitter emit;
  TileEmitter tile;
  GroupedOuterOp op;
  int64_t depth = 0; ///< Rows of a stage.
  SmallVector<Side> sides;
  Value expert, begin, end, numSteps;
  Value firstRow, firstColumn; ///< Of the warp.
};

void TensorCoreOuter::findSide(const TilePanel &panel, Value buffer, Value list,
                               Value first, int64_t size) {
  Value column = emit.add(first, tile.times(tile.getPiece(panel),
                                            getPieceSize(panel.getElement())));
  Value isInside = tile.less(column, emit.index(size));
  sides.push_back({panel, buffer, list,
                   tile.select(isInside, column, emit.index(0)), isInside});
}

/// Starts the copies of the `step`-th part of the rows, if there is one.
void TensorCoreOuter::startStep(int64_t stage, Value step) {
  emit.when(tile.less(step, numSteps), [&] {
    Value first = emit.add(begin, tile.times(step, depth));
    for (const Side &side : sides)
      for (int64_t i = 0; i < side.panel.getCopies(); ++i) {
        Value line = tile.getLine(side.panel, i);
        Value row = emit.add(first, line);
        Value counts = tile.less(row, end);
        row = tile.select(counts, row, begin);
        if (side.list)
          row = emit.loadIndex(side.list, row);
        tile.copy(side.panel, emit.index(stage), line, side.buffer,
                  {row, side.column}, tile.both(counts, side.isInside));
      }
  });
  tile.commit();
}

TensorCoreOuter::Sums TensorCoreOuter::multiply(int64_t stageNumber,
                                                ValueRange given) {
  Sums sums(given);
  Value stage = emit.index(stageNumber);
  Value warp = tile.getWarp();
  Value row = tile.times(tile.div(warp, kWarpsAcross), kWarpRows);
  Value column = tile.times(tile.rem(warp, kWarpsAcross), kWarpColumns);
  for (int64_t step = 0; step < kTilePieces / kMmaPieces; ++step) {
    SmallVector<Value> rows;
    for (int64_t m = 0; m < kRowTiles; ++m)
      rows.push_back(tile.loadRows(sides[0].panel, stage,
                                   tile.plus(row, m * kMmaRows), step));
    for (int64_t n = 0; n < kColumnTiles; n += 2) {
      std::array<Value, 2> columns = tile.loadOutputs(
          sides[1].panel, stage, tile.plus(column, n * kMmaOutputs), step);
      for (int64_t half = 0; half < 2; ++half)
        for (int64_t m = 0; m < kRowTiles; ++m) {
          Value &sum = sums[m * kColumnTiles + n + half];
          sum = tile.multiply(rows[m], columns[half], sum);
        }
    }
  }
  return sums;
}

TensorCoreOuter::Sums TensorCoreOuter::emitSums() {
  for (int64_t stage = 0; stage < kStages - 1; ++stage)
    startStep(stage, emit.index(stage));
  Sums zeros(kRowTiles * kColumnTiles, tile.getZeroSum());
  Value rounds = tile.div(tile.plus(numSteps, kStages - 1), kStages);
  // A step that does not exist has no copies: its stage holds older numbers.
  return tile.loop(
      emit.index(0), rounds, zeros, [&](Value round, ValueRange carried) {
        Sums sums(carried);
        for (int64_t stage = 0; stage < kStages; ++stage) {
          Value step = tile.plus(tile.times(round, kStages), stage);
          tile.wait(kStages - 2);
          startStep((stage + kStages - 1) % kStages,
                    tile.plus(step, kStages - 1));
          auto branch = scf::IfOp::create(
              b, ValueRange(sums).getTypes(), tile.less(step, numSteps),
              /*addThenBlock=*/true, /*addElseBlock=*/true);
          {
            OpBuilder::InsertionGuard guard(b);
            b.setInsertionPointToStart(branch.thenBlock());
            scf::YieldOp::create(b, multiply(stage, sums));
            b.setInsertionPointToStart(branch.elseBlock());
            scf::YieldOp::create(b, sums);
          }
          sums.assign(branch.getResults().begin(), branch.getResults().end());
        }
        return sums;
      });
}

void TensorCoreOuter::emitResults(ValueRange sums) {
  Value init = op.getInit();
  int64_t numRows = typeOf(init).getDimSize(1);
  int64_t numColumns = typeOf(init).getDimSize(2);
  Value lane = tile.getLane();
  Value laneRow = emit.add(firstRow, tile.div(lane, 4));
  Value laneColumn = emit.add(firstColumn, tile.times(tile.rem(lane, 4), 2));
  for (int64_t m = 0; m < kRowTiles; ++m)
    for (int64_t half = 0; half < 2; ++half) {
      Value row = tile.plus(laneRow, m * kMmaRows + half * 8);
      emit.when(tile.less(row, emit.index(numRows)), [&] {
        for (int64_t n = 0; n < kColumnTiles; ++n) {
          Value column = tile.plus(laneColumn, n * kMmaOutputs);
          auto get = [&](int64_t i) -> Value {
            return vector::ExtractOp::create(b, sums[m * kColumnTiles + n],
                                             ArrayRef<int64_t>{half, i});
          };
          emit.when(tile.less(column, emit.index(numColumns)), [&] {
            storeNeighbours(b, {get(0), get(1)}, init, {expert, row, column});
          });
        }
      });
    }
}

void TensorCoreOuter::run() {
  Value init = op.getInit();
  for (Value side : {op.getLhs(), op.getRhs()})
    assertAligned(b, op, side, kPieceBytes);
  assertAligned(b, op, init, typeOf(init).getElementTypeBitWidth() / 4);
  Type element = typeOf(op.getLhs()).getElementType();
  depth = getTileDepth(element);
  int64_t numRows = typeOf(init).getDimSize(1);
  int64_t numColumns = typeOf(init).getDimSize(2);
  Value one = emit.index(1);
  auto launch = gpu::LaunchOp::create(
      b, emit.index(llvm::divideCeil(numColumns, kColumns)),
      emit.index(llvm::divideCeil(numRows, kRows)), emit.dim(init, 0),
      emit.index(kTileThreads), one, one, /*dynamicSharedMemorySize=*/Value(),
      /*asyncTokenType=*/Type(), /*asyncDependencies=*/ValueRange(),
      TypeRange{TilePanel::getType(element, kStages, kRows, true),
                TilePanel::getType(element, kStages, kColumns, true)});
  OpBuilder::InsertionGuard guard(b);
  Block *body = &launch.getBody().front();
  b.setInsertionPointToEnd(body);
  gpu::TerminatorOp::create(b);
  b.setInsertionPointToStart(body);
  tile.setThread(launch.getThreadIds().x);
  gpu::KernelDim3 block = launch.getBlockIds();
  expert = block.z;
  if (Value offsets = op.getOffsets()) {
    begin = emit.loadIndex(offsets, expert);
    end = emit.loadIndex(offsets, tile.plus(expert, 1));
  } else {
    begin = emit.index(0);
    end = emit.dim(op.getLhsRows() ? op.getLhsRows() : op.getLhs(), 0);
  }
  numSteps = tile.div(tile.plus(emit.sub(end, begin), depth - 1), depth);
  ValueRange buffers = launch.getWorkgroupAttributions();
  Value top = tile.times(block.y, kRows), left = tile.times(block.x, kColumns);
  findSide({buffers[0], true}, op.getLhs(), op.getLhsRows(), top, numRows);
  findSide({buffers[1], true}, op.getRhs(), op.getRhsRows(), left, numColumns);
  Value warp = tile.getWarp();
  firstRow = emit.add(top, tile.times(tile.div(warp, kWarpsAcross), kWarpRows));
  firstColumn =
      emit.add(left, tile.times(tile.rem(warp, kWarpsAcross), kWarpColumns));
  emitResults(emitSums());
}

/// As of products.
bool isForTensorCores(GroupedOuterOp op, bool mayRound) {
  Type element = typeOf(op.getLhs()).getElementType();
  if (!isTensorCoreType(element, mayRound))
    return false;
  int64_t piece = getPieceSize(element);
  for (Value side : {op.getLhs(), op.getRhs()})
    if (typeOf(side).getElementType() != element ||
        !isRowOfBlocks(side, piece) || typeOf(side).getDimSize(1) % piece != 0)
      return false;
  return isa<FunctionOpInterface>(op->getParentOp()) &&
         op.getComputeType().isF32() && isRowOfBlocks(op.getInit(), 2);
}

struct GroupedOuterPattern : public OpRewritePattern<GroupedOuterOp> {
  GroupedOuterPattern(MLIRContext *context, const ProductOptions &options,
                      PatternBenefit benefit)
      : OpRewritePattern(context, benefit), options(options) {}

  LogicalResult matchAndRewrite(GroupedOuterOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0 || !isForTensorCores(op, options.mayRound))
      return rewriter.notifyMatchFailure(op, "is no product of tensor cores");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    TensorCoreOuter(b, op).run();
    rewriter.eraseOp(op);
    return success();
  }

  ProductOptions options;
};

} // namespace

void moe::populateGroupedOuterToTensorCoresPatterns(
    RewritePatternSet &patterns, const ProductOptions &options) {
  // In front of the pattern that takes all products.
  patterns.add<GroupedOuterPattern>(patterns.getContext(), options,
                                    /*benefit=*/2);
}
