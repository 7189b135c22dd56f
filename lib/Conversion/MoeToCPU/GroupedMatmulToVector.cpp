//===- GroupedMatmulToVector.cpp - moe.grouped_matmul on buffers ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// One task computes one panel of output columns of one expert. Its rows are
// taken in register tiles; for every tile the panel's accumulators are formed
// in registers, a few columns at a time, put into a small f32 buffer, and the
// epilogue then runs over that buffer with columns side by side.
//
// Two inner loops exist, by the weight's orientation. With [out, in] the lanes
// run along the inner dimension and are summed at the end; with [in, out] they
// run along the columns. In both, one element's sum has one order whatever the
// tile, so that a row's result depends on nothing but the row.
//
// A weight [in, out] is read with a stride for every inner step. For experts
// with many rows the panel is therefore taken in chunks of the inner dimension
// that are first widened into a small buffer, as are the rows; each row tile
// then adds the chunk to its sums, in the same order.
//
//===----------------------------------------------------------------------===//

#include "Epilogue.h"
#include "MoeToCPU.h"
#include "RegisterTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Rows of the register tiles, tried from the largest on.
constexpr int64_t kRowTiles[] = {kTileRows, 2, 1};
/// With at least so many rows the panel is worth copying. Its rows are taken so
/// many at a time, and so many inner steps.
constexpr int64_t kManyRows = 12;
constexpr int64_t kBlockRows = 48;
constexpr int64_t kChunkSteps = 256;
/// Accumulators that a tile keeps in registers, beside its operands.
constexpr int64_t kAccumulators = 24;
/// Weight bytes of a panel, so that it stays in a core's own cache while the
/// row tiles pass over it.
constexpr int64_t kPanelBytes = 256 * 1024;

class ProductEmitter {
public:
  ProductEmitter(ImplicitLocOpBuilder &b, GroupedMatmulOp op)
      : b(b), emit(b, op.getComputeType()), op(op), in(op.getInSize()),
        out(op.getOutSize()), numWeights(op.getWeights().size()) {
    panel = choosePanel();
  }

  LogicalResult run();

private:
  /// One register tile: rows [row, row + count) of the result.
  struct Tile {
    SmallVector<Value> rows;    ///< Rows of the result.
    SmallVector<Value> sources; ///< Rows of lhs.
    SmallVector<Value> scales;  ///< One a row, or none.
  };

  int64_t choosePanel();
  void emitTask(Value expert, Value panelIndex);
  void emitRowTiles(Value begin, Value end, Value column, Value columnEnd);
  void emitTile(const Tile &tile, Value column, Value columnEnd);
  void emitAlongInner(const Tile &tile, Value column, int64_t numColumns);
  void emitAlongColumns(const Tile &tile, Value column, int64_t size,
                        int64_t numVectors);
  LogicalResult emitEpilogues(const Tile &tile, Value column, int64_t size);

  Tile tileOf(ValueRange rows);
  void emitChunked(Value begin, Value end, Value columnEnd);
  void emitBlock(Value first, Value count, Value column, int64_t numVectors,
                 int64_t lastSize);
  void widenRows(Value lhs, Value first, Value count, Value step, Value steps);
  void widenColumns(Value weight, Value column, Value step, Value steps,
                    int64_t numVectors, int64_t lastSize);

  Value scaleRow(const Tile &tile, size_t row, Value values);
  /// What the rows of the tile hold at a place of the inner dimension, for each
  /// weight; loaded once where all weights share their rows.
  SmallVector<SmallVector<Value>>
  loadRows(const Tile &tile,
           llvm::function_ref<Value(Value lhs, size_t row)> load);
  Value offsetBy(Value index, int64_t offset) {
    return offset == 0 ? index
                       : arith::AddIOp::create(b, index, emit.index(offset))
                             .getResult();
  }
  /// Where a weight's element of (column, inner) lies.
  SmallVector<Value> weightAt(Value column, Value inner) {
    if (op.getInOut())
      return {expert, inner, column};
    return {expert, column, inner};
  }
  SmallVector<Value> accumulatorAt(int64_t weight, int64_t row, Value column) {
    Value place = arith::SubIOp::create(b, column, panelBegin);
    return {emit.index(weight), emit.index(row), place};
  }
  /// Emits an inner loop over vectors or scalars of the inner dimension that
  /// carries accumulators.
  SmallVector<Value>
  reduce(int64_t begin, int64_t end, int64_t step, ValueRange inits,
         llvm::function_ref<SmallVector<Value>(Value inner, ValueRange)> body);

  ImplicitLocOpBuilder &b;
  VectorEmitter emit;
  GroupedMatmulOp op;
  int64_t in, out, numWeights, panel = 0;
  Value expert, panelBegin, buffer;
  Value leftChunk, rightChunk;  ///< [rows, steps] and [steps, columns].
  SmallVector<Value> blockSums; ///< One a weight, [rows, columns].
  LogicalResult status = success();
};

/// A multiple of the lanes that keeps a panel of all weights in cache.
int64_t ProductEmitter::choosePanel() {
  int64_t lanes = emit.getLanes();
  // What is copied in chunks stays in cache whatever the inner dimension.
  if (op.getInOut())
    return std::min((out + lanes - 1) / lanes, kTileVectors) * lanes;
  auto weight = cast<MemRefType>(op.getWeights().front().getType());
  int64_t columnBytes = std::max<int64_t>(
      1, in * numWeights * (weight.getElementTypeBitWidth() / 8));
  int64_t columns = kPanelBytes / columnBytes / lanes * lanes;
  int64_t all = (out + lanes - 1) / lanes * lanes;
  return std::clamp(columns, lanes, std::min<int64_t>(all, 16 * lanes));
}

LogicalResult ProductEmitter::run() {
  int64_t numPanels = (out + panel - 1) / panel;
  Value count = emit.index(op.getNumExperts() * numPanels);
  emitTasks(b, op, count, [&](Value task) {
    Value panels = emit.index(numPanels);
    expert = arith::DivUIOp::create(b, task, panels);
    emitTask(expert, arith::RemUIOp::create(b, task, panels));
  });
  return status;
}

void ProductEmitter::emitTask(Value expertIndex, Value panelIndex) {
  Value begin = emit.index(0);
  Value end = b.createOrFold<memref::DimOp>(op.getInit(), 0);
  if (op.getOffsets()) {
    begin = emit.loadIndex(op.getOffsets(), expertIndex);
    end = emit.loadIndex(op.getOffsets(), offsetBy(expertIndex, 1));
  }
  panelBegin = arith::MulIOp::create(b, panelIndex, emit.index(panel));
  Value panelEnd =
      arith::MinUIOp::create(b, offsetBy(panelBegin, panel), emit.index(out));
  buffer = memref::AllocaOp::create(
      b, MemRefType::get({numWeights, kRowTiles[0], panel},
                         emit.getComputeType()));
  if (!op.getInOut())
    return emitRowTiles(begin, end, panelBegin, panelEnd);
  int64_t width = kTileVectors * emit.getLanes();
  auto allocate = [&](int64_t rows, int64_t columns) -> Value {
    return memref::AllocaOp::create(
        b, MemRefType::get({rows, columns}, emit.getComputeType()));
  };
  leftChunk = allocate(kBlockRows, kChunkSteps);
  rightChunk = allocate(kChunkSteps, width);
  blockSums.clear();
  for (int64_t weight = 0; weight < numWeights; ++weight)
    blockSums.push_back(allocate(kBlockRows, width));
  Value rows = arith::SubIOp::create(b, end, begin);
  Value isMany = arith::CmpIOp::create(b, arith::CmpIPredicate::uge, rows,
                                       emit.index(kManyRows));
  scf::IfOp::create(
      b, isMany,
      [&](OpBuilder &, Location) {
        emitChunked(begin, end, panelEnd);
        scf::YieldOp::create(b);
      },
      [&](OpBuilder &, Location) {
        emitRowTiles(begin, end, panelBegin, panelEnd);
        scf::YieldOp::create(b);
      });
}

ProductEmitter::Tile ProductEmitter::tileOf(ValueRange rows) {
  Tile tile;
  for (Value row : rows) {
    tile.rows.push_back(row);
    tile.sources.push_back(op.getRows() ? emit.loadIndex(op.getRows(), row)
                                        : row);
    if (op.getRowScale())
      tile.scales.push_back(emit.loadScalar(op.getRowScale(), row));
  }
  return tile;
}

/// All rows of a task, by blocks of rows and of columns.
void ProductEmitter::emitChunked(Value begin, Value end, Value columnEnd) {
  int64_t lanes = emit.getLanes(), width = kTileVectors * lanes;
  emit.loop(begin, end, kBlockRows, [&](Value first) {
    Value count = arith::MinUIOp::create(b, emit.index(kBlockRows),
                                         arith::SubIOp::create(b, end, first));
    Value extent = arith::SubIOp::create(b, columnEnd, panelBegin);
    Value rest = arith::RemUIOp::create(b, extent, emit.index(width));
    Value fullEnd = arith::SubIOp::create(b, columnEnd, rest);
    emit.loop(panelBegin, fullEnd, width, [&](Value column) {
      emitBlock(first, count, column, kTileVectors, lanes);
    });
    // Panels are whole vectors, but the last one.
    Value vectorEnd = arith::SubIOp::create(
        b, columnEnd, arith::RemUIOp::create(b, rest, emit.index(lanes)));
    emit.loop(fullEnd, vectorEnd, lanes, [&](Value column) {
      emitBlock(first, count, column, /*numVectors=*/1, lanes);
    });
    if (int64_t tail = out % lanes)
      emit.loop(vectorEnd, columnEnd, lanes, [&](Value column) {
        emitBlock(first, count, column, /*numVectors=*/1, tail);
      });
  });
}

void ProductEmitter::emitBlock(Value first, Value count, Value column,
                               int64_t numVectors, int64_t lastSize) {
  Value zero = emit.index(0);
  int64_t lanes = emit.getLanes();
  auto lane = [&](int64_t vector) { return emit.index(vector * lanes); };
  emit.loop(zero, emit.index(kBlockRows), 1, [&](Value row) {
    for (Value sums : blockSums)
      for (int64_t i = 0; i < numVectors; ++i)
        vector::StoreOp::create(b, emit.zero(), sums, ValueRange{row, lane(i)});
  });
  emit.loop(zero, emit.index(in), kChunkSteps, [&](Value step) {
    Value steps =
        arith::MinUIOp::create(b, emit.index(kChunkSteps),
                               arith::SubIOp::create(b, emit.index(in), step));
    for (auto [place, weight] : llvm::enumerate(op.getWeights())) {
      if (place < op.getLhs().size())
        widenRows(op.getLhs()[place], first, count, step, steps);
      widenColumns(weight, column, step, steps, numVectors, lastSize);
      TileOperands operands{blockSums[place],
                            [&](Value k, Value row) {
                              return emit.loadScalar(leftChunk, {row, k});
                            },
                            [&](Value k, int64_t i) {
                              return emit.load(rightChunk, {k, lane(i)}, lanes);
                            }};
      emit.loop(zero, count, kTileRows, [&](Value row) {
        emitRegisterTile(b, emit, operands, row, steps, numVectors);
      });
    }
  });
  emit.loop(zero, count, 1, [&](Value row) {
    Tile tile = tileOf(arith::AddIOp::create(b, first, row).getResult());
    for (int64_t i = 0; i < numVectors; ++i) {
      for (int64_t weight = 0; weight < numWeights; ++weight) {
        Value sums = emit.load(blockSums[weight], {row, lane(i)}, lanes);
        Value own = offsetBy(column, i * lanes);
        vector::StoreOp::create(b, sums, buffer, accumulatorAt(weight, 0, own));
      }
      int64_t size = i + 1 == numVectors ? lastSize : lanes;
      if (failed(emitEpilogues(tile, offsetBy(column, i * lanes), size)))
        status = failure();
    }
  });
}

/// `steps` elements of each row of a block from `step` on, in the compute type.
/// The rows of a last tile that is not full repeat the last one.
void ProductEmitter::widenRows(Value lhs, Value first, Value count, Value step,
                               Value steps) {
  int64_t lanes = emit.getLanes();
  Value zero = emit.index(0),
        last = arith::SubIOp::create(b, count, emit.index(1));
  Value all = arith::MulIOp::create(
      b, arith::CeilDivUIOp::create(b, count, emit.index(kTileRows)),
      emit.index(kTileRows));
  emit.loop(zero, all, 1, [&](Value place) {
    Value row = arith::MinUIOp::create(b, place, last);
    Tile tile = tileOf(arith::AddIOp::create(b, first, row).getResult());
    emit.loop(zero, steps, lanes, [&](Value at) {
      Value inner = arith::AddIOp::create(b, step, at);
      Value values = emit.loadUpTo(lhs, {tile.sources[0], inner},
                                   arith::SubIOp::create(b, steps, at));
      vector::StoreOp::create(b, scaleRow(tile, 0, values), leftChunk,
                              ValueRange{place, at});
    });
  });
}

/// `steps` rows of a weight's columns from `step` on, in the compute type.
void ProductEmitter::widenColumns(Value weight, Value column, Value step,
                                  Value steps, int64_t numVectors,
                                  int64_t lastSize) {
  int64_t lanes = emit.getLanes();
  emit.loop(emit.index(0), steps, 1, [&](Value k) {
    Value inner = arith::AddIOp::create(b, step, k);
    for (int64_t i = 0; i < numVectors; ++i) {
      int64_t size = i + 1 == numVectors ? lastSize : lanes;
      Value values =
          emit.load(weight, weightAt(offsetBy(column, i * lanes), inner), size);
      vector::StoreOp::create(b, values, rightChunk,
                              ValueRange{k, emit.index(i * lanes)});
    }
  });
}

void ProductEmitter::emitRowTiles(Value begin, Value end, Value column,
                                  Value columnEnd) {
  for (int64_t count : kRowTiles) {
    // The rows of all full tiles; the rest is left to the smaller tiles.
    Value rows = arith::SubIOp::create(b, end, begin);
    Value rest = arith::RemUIOp::create(b, rows, emit.index(count));
    Value fullEnd = arith::SubIOp::create(b, end, rest);
    emit.loop(begin, fullEnd, count, [&](Value first) {
      SmallVector<Value> rows;
      for (int64_t i = 0; i < count; ++i)
        rows.push_back(offsetBy(first, i));
      emitTile(tileOf(rows), column, columnEnd);
    });
    begin = fullEnd;
  }
}

void ProductEmitter::emitTile(const Tile &tile, Value column, Value columnEnd) {
  int64_t lanes = emit.getLanes();
  int64_t perColumn = numWeights * static_cast<int64_t>(tile.rows.size());
  int64_t width = std::max<int64_t>(
      1, std::min<int64_t>(8 / numWeights, kAccumulators / perColumn));
  if (op.getInOut()) {
    int64_t step = width * lanes;
    Value extent = arith::SubIOp::create(b, columnEnd, column);
    Value rest = arith::RemUIOp::create(b, extent, emit.index(step));
    Value fullEnd = arith::SubIOp::create(b, columnEnd, rest);
    emit.loop(column, fullEnd, step, [&](Value first) {
      emitAlongColumns(tile, first, lanes, width);
    });
    // Full vectors of the rest, then the columns of a last, masked one.
    Value vectorEnd = arith::SubIOp::create(
        b, columnEnd, arith::RemUIOp::create(b, rest, emit.index(lanes)));
    emit.loop(fullEnd, vectorEnd, lanes,
              [&](Value first) { emitAlongColumns(tile, first, lanes, 1); });
    if (int64_t tail = out % lanes)
      emit.loop(vectorEnd, columnEnd, lanes,
                [&](Value first) { emitAlongColumns(tile, first, tail, 1); });
  } else {
    Value extent = arith::SubIOp::create(b, columnEnd, column);
    Value rest = arith::RemUIOp::create(b, extent, emit.index(width));
    Value fullEnd = arith::SubIOp::create(b, columnEnd, rest);
    emit.loop(column, fullEnd, width,
              [&](Value first) { emitAlongInner(tile, first, width); });
    if (width > 1 && out % width != 0)
      emit.loop(fullEnd, columnEnd, 1,
                [&](Value first) { emitAlongInner(tile, first, 1); });
  }

  int64_t tail = out % lanes;
  Value extent = arith::SubIOp::create(b, columnEnd, column);
  Value rest = arith::RemUIOp::create(b, extent, emit.index(lanes));
  Value fullEnd = arith::SubIOp::create(b, columnEnd, rest);
  auto epilogue = [&](int64_t size) {
    return [this, &tile, size](Value first) {
      if (failed(emitEpilogues(tile, first, size)))
        status = failure();
    };
  };
  emit.loop(column, fullEnd, lanes, epilogue(lanes));
  if (tail != 0)
    emit.loop(fullEnd, columnEnd, lanes, epilogue(tail));
}

SmallVector<Value> ProductEmitter::reduce(
    int64_t begin, int64_t end, int64_t step, ValueRange inits,
    llvm::function_ref<SmallVector<Value>(Value inner, ValueRange)> body) {
  if (begin >= end)
    return inits;
  auto loop = scf::ForOp::create(
      b, emit.index(begin), emit.index(end), emit.index(step), inits,
      [&](OpBuilder &, Location, Value inner, ValueRange carried) {
        scf::YieldOp::create(b, body(inner, carried));
      });
  return loop.getResults();
}

/// Row values times the row's scale, rounded to the type of lhs, as a dispatch
/// of weighted rows would have stored them.
Value ProductEmitter::scaleRow(const Tile &tile, size_t row, Value values) {
  if (tile.scales.empty())
    return values;
  Value scale = tile.scales[row];
  if (isa<VectorType>(values.getType()))
    scale = emit.broadcast(scale);
  Value scaled = arith::MulFOp::create(b, values, scale);
  Type stored =
      cast<MemRefType>(op.getLhs().front().getType()).getElementType();
  return emit.convert(emit.convert(scaled, stored), emit.getComputeType());
}

SmallVector<SmallVector<Value>> ProductEmitter::loadRows(
    const Tile &tile, llvm::function_ref<Value(Value lhs, size_t row)> load) {
  SmallVector<SmallVector<Value>> rows;
  for (Value lhs : op.getLhs()) {
    rows.emplace_back();
    for (size_t row = 0; row < tile.rows.size(); ++row)
      rows.back().push_back(load(lhs, row));
  }
  rows.resize(numWeights, rows.front());
  return rows;
}

/// Lanes along the inner dimension: a vector of partial sums an element.
void ProductEmitter::emitAlongInner(const Tile &tile, Value column,
                                    int64_t numColumns) {
  int64_t lanes = emit.getLanes(), full = in / lanes * lanes;
  size_t numRows = tile.rows.size();
  auto step = [&](Value inner, int64_t size, ValueRange carried) {
    SmallVector<Value> next;
    auto rows = loadRows(tile, [&](Value lhs, size_t row) {
      return scaleRow(tile, row,
                      emit.load(lhs, {tile.sources[row], inner}, size));
    });
    size_t place = 0;
    for (auto [weight, own] : llvm::zip(op.getWeights(), rows))
      for (int64_t i = 0; i < numColumns; ++i) {
        Value values =
            emit.load(weight, weightAt(offsetBy(column, i), inner), size);
        for (Value row : own)
          next.push_back(
              vector::FMAOp::create(b, row, values, carried[place++]));
      }
    return next;
  };
  SmallVector<Value> sums(numWeights * numColumns * numRows, emit.zero());
  sums = reduce(0, full, lanes, sums, [&](Value inner, ValueRange carried) {
    return step(inner, lanes, carried);
  });
  if (full < in)
    sums = step(emit.index(full), in - full, sums);
  size_t place = 0;
  for (int64_t weight = 0; weight < numWeights; ++weight)
    for (int64_t i = 0; i < numColumns; ++i)
      for (size_t row = 0; row < numRows; ++row)
        memref::StoreOp::create(
            b, emit.sumLanes(sums[place++]), buffer,
            accumulatorAt(weight, row, offsetBy(column, i)));
}

/// Lanes along the columns: a row's scalar times a vector of weights.
void ProductEmitter::emitAlongColumns(const Tile &tile, Value column,
                                      int64_t size, int64_t numVectors) {
  int64_t lanes = emit.getLanes();
  size_t numRows = tile.rows.size();
  SmallVector<Value> sums(numWeights * numVectors * numRows, emit.zero());
  sums = reduce(0, in, 1, sums, [&](Value inner, ValueRange carried) {
    SmallVector<Value> next;
    auto rows = loadRows(tile, [&](Value lhs, size_t row) {
      return emit.broadcast(scaleRow(
          tile, row, emit.loadScalar(lhs, {tile.sources[row], inner})));
    });
    size_t place = 0;
    for (auto [weight, own] : llvm::zip(op.getWeights(), rows))
      for (int64_t i = 0; i < numVectors; ++i) {
        Value values = emit.load(
            weight, weightAt(offsetBy(column, i * lanes), inner), size);
        for (Value row : own)
          next.push_back(
              vector::FMAOp::create(b, row, values, carried[place++]));
      }
    return next;
  });
  size_t place = 0;
  for (int64_t weight = 0; weight < numWeights; ++weight)
    for (int64_t i = 0; i < numVectors; ++i)
      for (size_t row = 0; row < numRows; ++row)
        vector::StoreOp::create(
            b, sums[place++], buffer,
            accumulatorAt(weight, row, offsetBy(column, i * lanes)));
}

/// The epilogue of `size` neighbouring columns of every row of the tile.
LogicalResult ProductEmitter::emitEpilogues(const Tile &tile, Value column,
                                            int64_t size) {
  for (size_t row = 0; row < tile.rows.size(); ++row) {
    SmallVector<Value> sums;
    for (int64_t weight = 0; weight < numWeights; ++weight)
      sums.push_back(emit.load(buffer, accumulatorAt(weight, row, column),
                               emit.getLanes()));
    if (failed(emitEpilogue(b, emit, op, sums, expert, tile.rows[row], column,
                            size)))
      return failure();
  }
  return success();
}

struct GroupedMatmulPattern : public OpRewritePattern<GroupedMatmulOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupedMatmulOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0 || op.getPanels())
      return rewriter.notifyMatchFailure(op, "is on tensors, or packed");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    if (failed(ProductEmitter(b, op).run()))
      return failure();
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateGroupedMatmulToVectorPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupedMatmulPattern>(patterns.getContext());
}
