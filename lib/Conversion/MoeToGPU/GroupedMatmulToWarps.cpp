//===- GroupedMatmulToWarps.cpp - Experts of few rows --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// With up to four rows an expert's product is a read of its weight. A warp
// makes four outputs of all rows (two of each of two weights): a lane sums
// every 32nd piece of 16 bytes, then lanes add up by shuffles. Blocks look for
// the experts that have so few rows; there are no more than rows.
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ProductParts.h"
#include "TensorTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr int64_t kMostRows = 4;
/// Of all weights together, a warp's.
constexpr int64_t kWarpOutputs = 4;
constexpr int64_t kLanes = 32;
/// Where experts have more rows than those on average, most blocks would find
/// nothing to do: there are fewer, of as many groups of outputs.
constexpr int64_t kGroupsOfBlock = 16;

class FewRowsProduct {
public:
  FewRowsProduct(ImplicitLocOpBuilder &b, GroupedMatmulOp op, int64_t size)
      : b(b), emit(b, op.getComputeType()), tile(b, emit), op(op), size(size),
        numWeights(op.getWeights().size()),
        numOutputs(kWarpOutputs / numWeights) {}

  void run();

private:
  Value chooseBlocks(Value numRows);
  void emitRows(int64_t numRows);
  void emitGroups(llvm::function_ref<void()> body);
  SmallVector<Value> loadPiece(Value memref, ValueRange at);
  SmallVector<Value> loadRow(Value lhs, int64_t row, Value place);
  SmallVector<Value> emitSums(int64_t numRows);
  Value addLanes(Value sum);
  void emitResults(int64_t numRows, ArrayRef<Value> sums);

  /// Of outputs, one a block at a time.
  int64_t getNumGroups() {
    return llvm::divideCeil(op.getOutSize(), kTileWarps * numOutputs);
  }
  int64_t place(int64_t row, int64_t output, int64_t weight) const {
    return (row * numOutputs + output) * numWeights + weight;
  }

  ImplicitLocOpBuilder &b;
  ThreadEmitter emit;
  TileEmitter tile;
  GroupedMatmulOp op;
  int64_t size; ///< Neighbours that a lane reads at once.
  int64_t numWeights, numOutputs;
  Value expert, begin, end;
  Value firstGroup, groupStep;      ///< Of outputs, a block's.
  Value firstOutput;                ///< A warp's.
  SmallVector<Value> rows, sources; ///< Numbers, and where they are read.
};

SmallVector<Value> FewRowsProduct::loadPiece(Value memref, ValueRange at) {
  Value loaded = loadNeighbours(b, emit, memref, at, size);
  if (size == 1)
    return {loaded};
  SmallVector<Value> numbers;
  for (int64_t i = 0; i < size; ++i)
    numbers.push_back(vector::ExtractOp::create(b, loaded, i));
  return numbers;
}

/// A piece of a row, scaled as the op has it.
SmallVector<Value> FewRowsProduct::loadRow(Value lhs, int64_t row,
                                           Value place) {
  SmallVector<Value> numbers = loadPiece(lhs, {sources[row], place});
  if (!op.getRowScale())
    return numbers;
  Value scale = emit.load(op.getRowScale(), rows[row]);
  for (Value &number : numbers)
    number = scaleNumber(b, emit, lhs, number, scale);
  return numbers;
}

/// What this lane adds to each sum.
SmallVector<Value> FewRowsProduct::emitSums(int64_t numRows) {
  SmallVector<Value> outputs;
  Value last = emit.index(op.getOutSize() - 1);
  for (int64_t i = 0; i < numOutputs; ++i)
    outputs.push_back(
        b.createOrFold<arith::MinUIOp>(tile.plus(firstOutput, i), last));
  SmallVector<Value> zeros(place(numRows, 0, 0), emit.real(0.0));
  auto loop = scf::ForOp::create(
      b, tile.times(tile.getLane(), size), emit.index(op.getInSize()),
      emit.index(kLanes * size), zeros,
      [&](OpBuilder &, Location, Value at, ValueRange carried) {
        SmallVector<Value> sums(carried);
        SmallVector<SmallVector<SmallVector<Value>>> read;
        for (Value lhs : op.getLhs()) {
          read.emplace_back();
          for (int64_t row = 0; row < numRows; ++row)
            read.back().push_back(loadRow(lhs, row, at));
        }
        for (auto [number, output] : llvm::enumerate(outputs))
          for (auto [which, weight] : llvm::enumerate(op.getWeights())) {
            SmallVector<Value> w = loadPiece(weight, {expert, output, at});
            for (int64_t row = 0; row < numRows; ++row) {
              ArrayRef<Value> x = read[read.size() > 1 ? which : 0][row];
              Value &sum = sums[place(row, number, which)];
              for (int64_t i = 0; i < size; ++i)
                sum = emit.multiplyAdd(x[i], w[i], sum);
            }
          }
        scf::YieldOp::create(b, sums);
      });
  return SmallVector<Value>(loop.getResults());
}

/// The sum over all lanes, in all lanes.
Value FewRowsProduct::addLanes(Value sum) {
  for (int64_t distance = kLanes / 2; distance > 0; distance /= 2) {
    Value other = gpu::ShuffleOp::create(b, sum, emit.id(distance),
                                         emit.id(kLanes), gpu::ShuffleMode::XOR)
                      .getShuffleResult();
    sum = arith::AddFOp::create(b, sum, other);
  }
  return sum;
}

/// Each of the first lanes finishes one output of one row.
void FewRowsProduct::emitResults(int64_t numRows, ArrayRef<Value> sums) {
  Value lane = tile.getLane();
  SmallVector<Value> own(sums.take_front(numWeights));
  for (int64_t i = 1; i < numRows * numOutputs; ++i) {
    Value isOwn =
        arith::CmpIOp::create(b, arith::CmpIPredicate::eq, lane, emit.index(i));
    for (int64_t weight = 0; weight < numWeights; ++weight)
      own[weight] =
          tile.select(isOwn, sums[i * numWeights + weight], own[weight]);
  }
  Value row = emit.add(begin, tile.div(lane, numOutputs));
  Value output = emit.add(firstOutput, tile.rem(lane, numOutputs));
  // Where there are rows, those of the lanes behind are past the expert's.
  Value isRow = numRows == 1 ? tile.less(lane, emit.index(numOutputs))
                             : tile.less(row, end);
  Value isInside =
      tile.both(isRow, tile.less(output, emit.index(op.getOutSize())));
  emit.when(isInside,
            [&] { emitEpilogue(b, emit, op, {row, expert, output}, own); });
}

void FewRowsProduct::emitRows(int64_t numRows) {
  rows.clear();
  sources.clear();
  Value last = emit.sub(end, emit.index(1));
  for (int64_t i = 0; i < numRows; ++i) {
    rows.push_back(b.createOrFold<arith::MinUIOp>(tile.plus(begin, i), last));
    sources.push_back(op.getRows() ? emit.loadIndex(op.getRows(), rows.back())
                                   : rows.back());
  }
  emitGroups([&] {
    SmallVector<Value> sums = emitSums(numRows);
    for (Value &sum : sums)
      sum = addLanes(sum);
    emitResults(numRows, sums);
  });
}

/// The groups of outputs of a block, one after the other.
void FewRowsProduct::emitGroups(llvm::function_ref<void()> body) {
  auto loop =
      scf::ForOp::create(b, firstGroup, emit.index(getNumGroups()), groupStep);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value group =
      emit.add(tile.times(loop.getInductionVar(), kTileWarps), tile.getWarp());
  firstOutput = tile.times(group, numOutputs);
  body();
}

/// How many blocks share the outputs of an expert.
Value FewRowsProduct::chooseBlocks(Value numRows) {
  int64_t numGroups = getNumGroups();
  Value isDecoding =
      tile.less(numRows, emit.index(kMostRows * op.getNumExperts() + 1));
  return tile.select(isDecoding, emit.index(numGroups),
                     emit.index(llvm::divideCeil(numGroups, kGroupsOfBlock)));
}

void FewRowsProduct::run() {
  if (size > 1)
    for (ValueRange views :
         {ValueRange(op.getLhs()), ValueRange(op.getWeights())})
      for (Value view : views)
        assertAligned(b, op, view,
                      size * typeOf(view).getElementTypeBitWidth() / 8);
  Value one = emit.index(1), numRows = emit.dim(op.getInit(), 0);
  Value numBlocks = arith::MaxUIOp::create(
      b, arith::MinUIOp::create(b, numRows, emit.index(op.getNumExperts())),
      one);
  auto launch = gpu::LaunchOp::create(b, chooseBlocks(numRows), numBlocks, one,
                                      emit.index(kTileThreads), one, one);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(&launch.getBody().front());
  gpu::TerminatorOp::create(b);
  b.setInsertionPointToStart(&launch.getBody().front());
  tile.setThread(launch.getThreadIds().x);
  firstGroup = launch.getBlockIds().x;
  groupStep = launch.getGridSize().x;
  Value isThere;
  if (op.getOffsets()) {
    ExpertTile own = findExpertTile(
        b, emit, tile.getLane(), op.getOffsets(), op.getNumExperts(),
        launch.getBlockIds().y, [&](Value count) -> Value {
          Value isFew = arith::CmpIOp::create(
              b, arith::CmpIPredicate::ult,
              arith::SubIOp::create(b, count, emit.id(1)), emit.id(kMostRows));
          return arith::ExtUIOp::create(b, b.getI32Type(), isFew);
        });
    isThere = own.isThere;
    expert = own.expert;
    begin = own.begin;
    end = own.end;
  } else {
    expert = begin = emit.index(0);
    end = numRows;
    isThere = tile.less(emit.sub(numRows, one), emit.index(kMostRows));
  }
  emit.when(isThere, [&] {
    Value isOne = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                        emit.sub(end, begin), one);
    auto branch = scf::IfOp::create(b, isOne, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard inner(b);
    b.setInsertionPointToStart(branch.thenBlock());
    emitRows(1);
    b.setInsertionPointToStart(branch.elseBlock());
    emitRows(kMostRows);
  });
}

/// Neighbours that can be read at once; 0 where the product is none for warps.
int64_t getReadSize(GroupedMatmulOp op) {
  if (!isa<FunctionOpInterface>(op->getParentOp()) || op.getInOut() ||
      !op.getComputeType().isF32() || op.getOutSize() == 0)
    return 0;
  int64_t size = 16;
  auto limit = [&](Value view) {
    size = std::min<int64_t>(size, 128 / typeOf(view).getElementTypeBitWidth());
    size = std::gcd(size, op.getInSize());
    while (size > 1 && !isRowOfBlocks(view, size))
      size /= 2;
  };
  for (ValueRange views :
       {ValueRange(op.getLhs()), ValueRange(op.getWeights())})
    llvm::for_each(views, limit);
  return std::max<int64_t>(size, 1);
}

} // namespace

int64_t moe::emitFewRows(ImplicitLocOpBuilder &b, GroupedMatmulOp op) {
  int64_t size = getReadSize(op);
  if (size == 0)
    return 0;
  FewRowsProduct(b, op, size).run();
  return kMostRows;
}
