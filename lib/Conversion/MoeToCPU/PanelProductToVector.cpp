//===- PanelProductToVector.cpp - moe.grouped_matmul on packed weights ----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// One task computes a few neighbouring panels of one expert. A panel is read
// front to back for each tile of up to six rows, whose sums stay in registers
// over the whole inner dimension: a single row reads the weights as one linear
// stream, and for many rows the panel stays in the second cache. While the
// tiles of a panel are computed the next panel is fetched, a few lines a step.
//
// An element's sum has the order of the inner dimension whatever the tile, so
// that a row's result does not depend on the rows beside it.
//
//===----------------------------------------------------------------------===//

#include "Epilogue.h"
#include "MoeToCPU.h"
#include "RegisterTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/X86Vector/X86VectorDialect.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Panels of a task: few, so that threads finish together.
constexpr int64_t kTaskPanels = 4;
/// Steps that the inner loop takes at a time.
constexpr int64_t kUnroll = 4;
constexpr int64_t kLineBytes = 64;
/// What a single tile fetches ahead.
constexpr int64_t kAheadLines = 64;
/// Of memref.prefetch. The second cache alone is 5 % slower for few rows, and
/// no faster for many.
constexpr int32_t kFirstCache = 3;

class PanelProduct {
public:
  PanelProduct(ImplicitLocOpBuilder &b, GroupedMatmulOp op, int64_t lanes)
      : b(b), emit(b, op.getComputeType(), lanes), op(op),
        panels(*op.getPanels()), in(op.getInSize()), out(op.getOutSize()),
        numPanels(llvm::divideCeilSigned(out, panels.getWidth())),
        numVectors(panels.getColumns() / lanes), steps(panels.getSteps()),
        line(kLineBytes * 8 /
             elementOf(op.getWeights().front()).getIntOrFloatBitWidth()),
        lhs(op.getLhs().front()) {}

  LogicalResult run();

private:
  /// Rows [first, first + sources.size()) of the result; rows of lhs.
  struct Tile {
    Value first;
    SmallVector<Value> sources;
  };
  /// What a tile fetches while it is computed: `lines` in each turn of the
  /// inner loop, the first turn's from element `begin` of the panel on, which
  /// may lie in the next one.
  struct Prefetch {
    Value lines, begin;
  };

  void emitTask(Value expertIndex, Value group);
  void emitPanel();
  void emitTile(Value first, Value count, const Prefetch &prefetch);
  void emitSums(const Tile &tile, const Prefetch &prefetch);
  SmallVector<Value> addStep(const Tile &tile, Value step, ValueRange sums);
  SmallVector<Value> addRest(const Tile &tile, Value step, ValueRange sums);
  SmallVector<Value> addPart(const Tile &tile, Value step, int64_t part,
                             ValueRange sums);
  SmallVector<Value> addPairs(const Tile &tile, Value step, ValueRange sums);
  Value loadWeights(Value step, int64_t vector, int64_t part);
  void emitPrefetch(const Prefetch &prefetch, Value step);
  void emitEpilogues(Value first, Value count, bool isLast);

  Value add(Value x, Value y) { return arith::AddIOp::create(b, x, y); }
  Value add(Value x, int64_t y) { return y == 0 ? x : add(x, emit.index(y)); }
  Value mul(Value x, int64_t y) {
    return arith::MulIOp::create(b, x, emit.index(y));
  }
  Type elementOf(Value memref) {
    return cast<MemRefType>(memref.getType()).getElementType();
  }
  /// Rows and weights are multiplied as pairs of bf16.
  bool isPaired() { return steps == 2 && elementOf(lhs).isBF16(); }
  Value broadcastLhs(Value row, Value place) {
    return emit.broadcast(emit.loadScalar(lhs, {row, place}));
  }

  ImplicitLocOpBuilder &b;
  VectorEmitter emit;
  GroupedMatmulOp op;
  PanelsAttr panels;
  int64_t in, out, numPanels, numVectors, steps;
  int64_t line; ///< Elements of a cache line.
  Value lhs;
  Value byStep, flat; ///< The weights by step of a panel, and by element.
  Value expert, panel, begin, rows, sumsBuffer;
  LogicalResult status = success();
};

LogicalResult PanelProduct::run() {
  Value weights = op.getWeights().front();
  byStep = memref::CollapseShapeOp::create(
      b, weights, ArrayRef<ReassociationIndices>{{0}, {1}, {2}, {3, 4}});
  flat = memref::CollapseShapeOp::create(
      b, weights, ArrayRef<ReassociationIndices>{{0}, {1}, {2, 3, 4}});
  int64_t groups = llvm::divideCeilSigned(numPanels, kTaskPanels);
  Value count = emit.index(op.getNumExperts() * groups);
  emitTasks(b, op, count, [&](Value task) {
    Value numGroups = emit.index(groups);
    emitTask(arith::DivUIOp::create(b, task, numGroups),
             arith::RemUIOp::create(b, task, numGroups));
  });
  return status;
}

void PanelProduct::emitTask(Value expertIndex, Value group) {
  expert = expertIndex;
  begin = emit.index(0);
  rows = b.createOrFold<memref::DimOp>(op.getInit(), 0);
  sumsBuffer = memref::AllocaOp::create(
      b,
      MemRefType::get({kTileRows, panels.getColumns()}, emit.getComputeType()));
  if (op.getOffsets()) {
    begin = emit.loadIndex(op.getOffsets(), expert);
    Value end = emit.loadIndex(op.getOffsets(), add(expert, 1));
    rows = arith::SubIOp::create(b, end, begin);
  }
  Value isUsed =
      arith::CmpIOp::create(b, arith::CmpIPredicate::ne, rows, emit.index(0));
  scf::IfOp::create(b, isUsed, [&](OpBuilder &, Location) {
    Value first = mul(group, kTaskPanels);
    Value last = arith::MinUIOp::create(b, add(first, kTaskPanels),
                                        emit.index(numPanels));
    emit.loop(first, last, 1, [&](Value own) {
      panel = own;
      emitPanel();
    });
    scf::YieldOp::create(b);
  });
}

/// All rows of the expert by one panel, in tiles of nearly one height: seven
/// rows are four and three, for a last tile of one costs as much as three.
void PanelProduct::emitPanel() {
  Value numTiles = arith::CeilDivUIOp::create(b, rows, emit.index(kTileRows));
  int64_t turns = std::max<int64_t>(in / steps / kUnroll, 1);
  int64_t elements =
      llvm::divideCeilSigned(in, steps) * panels.getColumns() * steps;
  int64_t lines = llvm::divideCeilSigned(elements, line);
  // A single tile waits for memory all the time: it fetches what it reads soon.
  Value isAlone = arith::CmpIOp::create(b, arith::CmpIPredicate::ule, numTiles,
                                        emit.index(1));
  Value perTurn =
      arith::CeilDivUIOp::create(b, emit.index(lines), mul(numTiles, turns));
  Value perTile = mul(perTurn, turns * line);
  Value ahead = arith::SelectOp::create(
      b, isAlone, emit.index(kAheadLines * line), emit.index(elements));
  auto rowsBefore = [&](Value tile) -> Value {
    return arith::DivUIOp::create(b, arith::MulIOp::create(b, tile, rows),
                                  numTiles);
  };
  emit.loop(emit.index(0), numTiles, 1, [&](Value tile) {
    Value first = rowsBefore(tile);
    Value count = arith::SubIOp::create(b, rowsBefore(add(tile, 1)), first);
    Prefetch prefetch{perTurn,
                      add(ahead, arith::MulIOp::create(b, tile, perTile))};
    emitTile(add(begin, first), count, prefetch);
  });
}

void PanelProduct::emitTile(Value first, Value count,
                            const Prefetch &prefetch) {
  SmallVector<int64_t> cases;
  for (int64_t height = 1; height < kTileRows; ++height)
    cases.push_back(height);
  auto byHeight = scf::IndexSwitchOp::create(b, /*resultTypes=*/TypeRange(),
                                             count, cases, cases.size());
  for (int64_t height = 1; height <= kTileRows; ++height) {
    OpBuilder::InsertionGuard guard(b);
    Region &region = height == kTileRows
                         ? byHeight.getDefaultRegion()
                         : byHeight.getCaseRegions()[height - 1];
    b.setInsertionPointToStart(&region.emplaceBlock());
    Tile tile{first, {}};
    for (int64_t i = 0; i < height; ++i) {
      Value row = add(first, i);
      tile.sources.push_back(op.getRows() ? emit.loadIndex(op.getRows(), row)
                                          : row);
    }
    emitSums(tile, prefetch);
    scf::YieldOp::create(b);
  }
  if (out % panels.getWidth() == 0)
    return emitEpilogues(first, count, /*isLast=*/false);
  Value isLast = arith::CmpIOp::create(b, arith::CmpIPredicate::eq, panel,
                                       emit.index(numPanels - 1));
  scf::IfOp::create(
      b, isLast,
      [&](OpBuilder &, Location) {
        emitEpilogues(first, count, /*isLast=*/true);
        scf::YieldOp::create(b);
      },
      [&](OpBuilder &, Location) {
        emitEpilogues(first, count, /*isLast=*/false);
        scf::YieldOp::create(b);
      });
}

/// The sums of a tile, into their buffer.
void PanelProduct::emitSums(const Tile &tile, const Prefetch &prefetch) {
  SmallVector<Value> sums(tile.sources.size() * numVectors, emit.zero());
  int64_t full = in / steps, turns = full / kUnroll * kUnroll;
  if (turns > 0) {
    auto loop = scf::ForOp::create(
        b, emit.index(0), emit.index(turns), emit.index(kUnroll), sums,
        [&](OpBuilder &, Location, Value step, ValueRange carried) {
          emitPrefetch(prefetch, step);
          SmallVector<Value> next(carried);
          for (int64_t i = 0; i < kUnroll; ++i)
            next = addStep(tile, add(step, i), next);
          scf::YieldOp::create(b, next);
        });
    sums = loop.getResults();
  }
  for (int64_t step = turns; step < full; ++step)
    sums = addStep(tile, emit.index(step), sums);
  if (in % steps != 0)
    sums = addRest(tile, emit.index(full), sums);
  int64_t lanes = emit.getLanes();
  for (size_t row = 0; row < tile.sources.size(); ++row)
    for (int64_t i = 0; i < numVectors; ++i)
      vector::StoreOp::create(
          b, sums[row * numVectors + i], sumsBuffer,
          ValueRange{emit.index(row), emit.index(i * lanes)});
}

SmallVector<Value> PanelProduct::addStep(const Tile &tile, Value step,
                                         ValueRange sums) {
  if (isPaired())
    return addPairs(tile, step, sums);
  SmallVector<Value> next(sums);
  for (int64_t part = 0; part < steps; ++part)
    next = addPart(tile, step, part, next);
  return next;
}

/// The last step, where it is not whole: its other parts are zeros, but rows
/// have nothing there.
SmallVector<Value> PanelProduct::addRest(const Tile &tile, Value step,
                                         ValueRange sums) {
  SmallVector<Value> next(sums);
  for (int64_t part = 0; part < in % steps; ++part)
    next = addPart(tile, step, part, next);
  return next;
}

/// One place of the inner dimension.
SmallVector<Value> PanelProduct::addPart(const Tile &tile, Value step,
                                         int64_t part, ValueRange sums) {
  SmallVector<Value> weights, next;
  for (int64_t i = 0; i < numVectors; ++i)
    weights.push_back(loadWeights(step, i, part));
  Value place = add(steps == 1 ? step : mul(step, steps), part);
  for (auto [i, source] : llvm::enumerate(tile.sources)) {
    Value factor = broadcastLhs(source, place);
    for (int64_t v = 0; v < numVectors; ++v)
      next.push_back(vector::FMAOp::create(b, factor, weights[v],
                                           sums[i * numVectors + v]));
  }
  return next;
}

/// Part `part` of a step's weights of one vector of columns, as f32. Of a pair
/// of bf16 that is a shift or a mask.
Value PanelProduct::loadWeights(Value step, int64_t vector, int64_t part) {
  int64_t lanes = emit.getLanes();
  SmallVector<Value> at = {expert, panel, step,
                           emit.index(vector * lanes * steps)};
  Value values = vector::LoadOp::create(
      b, VectorType::get({lanes * steps}, elementOf(byStep)), byStep, at);
  if (steps == 1)
    return emit.convert(values, emit.getComputeType());
  auto words = VectorType::get({lanes}, b.getI32Type());
  auto constant = [&](int64_t value) -> Value {
    return arith::ConstantOp::create(
        b,
        DenseElementsAttr::get(words, APInt(32, static_cast<uint64_t>(value))));
  };
  Value word = vector::BitCastOp::create(b, words, values);
  word = part == 0
             ? arith::ShLIOp::create(b, word, constant(16)).getResult()
             : arith::AndIOp::create(b, word, constant(0xffff0000)).getResult();
  return vector::BitCastOp::create(b, emit.getType(), word);
}

/// Two places at once, by the processor's own dot product.
SmallVector<Value> PanelProduct::addPairs(const Tile &tile, Value step,
                                          ValueRange sums) {
  int64_t lanes = emit.getLanes();
  auto pairs = VectorType::get({2 * lanes}, elementOf(byStep));
  SmallVector<Value> weights, next;
  for (int64_t i = 0; i < numVectors; ++i) {
    SmallVector<Value> at = {expert, panel, step, emit.index(2 * i * lanes)};
    weights.push_back(vector::LoadOp::create(b, pairs, byStep, at));
  }
  Value place = mul(step, steps);
  for (auto [i, source] : llvm::enumerate(tile.sources)) {
    Value pair = vector::LoadOp::create(b, VectorType::get({2}, elementOf(lhs)),
                                        lhs, ValueRange{source, place});
    Value word = vector::BitCastOp::create(
        b, VectorType::get({1}, b.getI32Type()), pair);
    word = vector::BroadcastOp::create(
        b, VectorType::get({lanes}, b.getI32Type()), word);
    Value factor = vector::BitCastOp::create(b, pairs, word);
    for (int64_t v = 0; v < numVectors; ++v)
      next.push_back(x86vector::DotBF16Op::create(
          b, emit.getType(), sums[i * numVectors + v], factor, weights[v]));
  }
  return next;
}

void PanelProduct::emitPrefetch(const Prefetch &prefetch, Value step) {
  Value turn = arith::DivUIOp::create(b, step, emit.index(kUnroll));
  Value first = add(prefetch.begin,
                    arith::MulIOp::create(b, turn, mul(prefetch.lines, line)));
  emit.loop(emit.index(0), prefetch.lines, 1, [&](Value i) {
    Value place = add(first, mul(i, line));
    memref::PrefetchOp::create(b, flat, ValueRange{expert, panel, place},
                               /*isWrite=*/false, kFirstCache,
                               /*isDataCache=*/true);
  });
}

/// The epilogue of a tile's rows. The last panel may have fewer columns.
void PanelProduct::emitEpilogues(Value first, Value count, bool isLast) {
  int64_t width = panels.getWidth(), lanes = emit.getLanes();
  int64_t columns = isLast ? out - (numPanels - 1) * width : width;
  Value begin = mul(panel, width);
  emit.loop(emit.index(0), count, 1, [&](Value row) {
    for (int64_t at = 0; at < columns; at += lanes) {
      SmallVector<Value> sums;
      for (int64_t side = 0; side < panels.getSides(); ++side)
        sums.push_back(
            emit.load(sumsBuffer, {row, emit.index(side * width + at)}, lanes));
      if (failed(emitEpilogue(b, emit, op, sums, expert, add(first, row),
                              add(begin, at), std::min(lanes, columns - at))))
        status = failure();
    }
  });
}

struct PanelProductPattern : public OpRewritePattern<GroupedMatmulOp> {
  PanelProductPattern(MLIRContext *context, int64_t vectorBits)
      : OpRewritePattern(context), vectorBits(vectorBits) {}

  LogicalResult matchAndRewrite(GroupedMatmulOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0 || !op.getPanels())
      return rewriter.notifyMatchFailure(op, "is on tensors, or not packed");
    int64_t lanes = vectorBits / op.getComputeType().getWidth();
    if (op.getPanels()->getWidth() % lanes != 0)
      return rewriter.notifyMatchFailure(op, "panels are no whole vectors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    if (failed(PanelProduct(b, op, lanes).run()))
      return failure();
    rewriter.eraseOp(op);
    return success();
  }

  int64_t vectorBits;
};

} // namespace

void moe::populatePanelProductToVectorPatterns(RewritePatternSet &patterns,
                                               int64_t vectorBits) {
  patterns.add<PanelProductPattern>(patterns.getContext(), vectorBits);
}
