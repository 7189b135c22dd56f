//===- GroupedOuterToVector.cpp - moe.grouped_outer on buffers ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// One task computes a panel of rows j of one expert's matrix, one panel of
// columns d after the other. The expert's rows n are taken in chunks: both
// sides of a chunk are widened into small buffers, where every element is read
// often, and each register tile then adds the chunk to its sums. An element's
// sum has the order of n whatever the chunks, panels and threads.
//
//===----------------------------------------------------------------------===//

#include "MoeToCPU.h"
#include "RegisterTile.h"
#include "VectorEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Rows of a task's panel, and of a chunk: with them both sides of a chunk and
/// the sums of a panel stay in the first two caches.
constexpr int64_t kPanelRows = 48;
constexpr int64_t kChunkRows = 128;

class OuterEmitter {
public:
  OuterEmitter(ImplicitLocOpBuilder &b, GroupedOuterOp op)
      : b(b), emit(b, op.getComputeType()), op(op) {
    auto type = cast<MemRefType>(op.getInit().getType());
    numRows = type.getDimSize(1);
    numColumns = type.getDimSize(2);
  }

  void run();

private:
  void emitTask(Value expertIndex, Value panel);
  /// `numVectors` vectors of columns from `column` on, the last of them with
  /// `lastSize` columns.
  void emitColumns(Value column, int64_t numVectors, int64_t lastSize);
  void widenSides(Value first, Value count, Value column, int64_t numVectors,
                  int64_t lastSize);

  Value add(Value x, Value y) { return arith::AddIOp::create(b, x, y); }
  Value sub(Value x, Value y) { return arith::SubIOp::create(b, x, y); }
  Value allocate(ArrayRef<int64_t> shape) {
    return memref::AllocaOp::create(
        b, MemRefType::get(shape, emit.getComputeType()));
  }
  Value lane(int64_t vector) { return emit.index(vector * emit.getLanes()); }

  ImplicitLocOpBuilder &b;
  VectorEmitter emit;
  GroupedOuterOp op;
  int64_t numRows, numColumns;
  Value expert, begin, end;    ///< The expert's assignments.
  Value panelBegin, panelSize; ///< Rows j of the task.
  Value left, right, sums;     ///< Buffers [chunk, panel], [chunk, columns],
                               ///< [panel, columns].
};

void OuterEmitter::run() {
  int64_t numPanels = (numRows + kPanelRows - 1) / kPanelRows;
  int64_t numExperts = cast<MemRefType>(op.getInit().getType()).getDimSize(0);
  emitTasks(b, op, emit.index(numExperts * numPanels), [&](Value task) {
    Value panels = emit.index(numPanels);
    emitTask(arith::DivUIOp::create(b, task, panels),
             arith::RemUIOp::create(b, task, panels));
  });
}

void OuterEmitter::emitTask(Value expertIndex, Value panel) {
  expert = expertIndex;
  if (op.getOffsets()) {
    begin = emit.loadIndex(op.getOffsets(), expert);
    end = emit.loadIndex(op.getOffsets(), add(expert, emit.index(1)));
  } else {
    begin = emit.index(0);
    end = b.createOrFold<memref::DimOp>(
        op.getLhsRows() ? op.getLhsRows() : op.getLhs(), 0);
  }
  panelBegin = arith::MulIOp::create(b, panel, emit.index(kPanelRows));
  panelSize = arith::MinUIOp::create(b, emit.index(kPanelRows),
                                     sub(emit.index(numRows), panelBegin));
  int64_t lanes = emit.getLanes(), width = kTileVectors * lanes;
  left = allocate({kChunkRows, kPanelRows});
  right = allocate({kChunkRows, width});
  sums = allocate({kPanelRows, width});
  int64_t full = numColumns / width * width;
  if (full > 0)
    emit.loop(emit.index(0), emit.index(full), width,
              [&](Value column) { emitColumns(column, kTileVectors, lanes); });
  if (int64_t rest = numColumns - full) {
    int64_t numVectors = (rest + lanes - 1) / lanes;
    emitColumns(emit.index(full), numVectors, rest - (numVectors - 1) * lanes);
  }
}

void OuterEmitter::emitColumns(Value column, int64_t numVectors,
                               int64_t lastSize) {
  Value zero = emit.index(0);
  emit.loop(zero, emit.index(kPanelRows), 1, [&](Value row) {
    for (int64_t i = 0; i < numVectors; ++i)
      vector::StoreOp::create(b, emit.zero(), sums, ValueRange{row, lane(i)});
  });
  emit.loop(begin, end, kChunkRows, [&](Value first) {
    Value count =
        arith::MinUIOp::create(b, emit.index(kChunkRows), sub(end, first));
    widenSides(first, count, column, numVectors, lastSize);
    TileOperands operands{
        sums,
        [&](Value n, Value row) { return emit.loadScalar(left, {n, row}); },
        [&](Value n, int64_t i) {
          return emit.load(right, {n, lane(i)}, emit.getLanes());
        }};
    emit.loop(zero, panelSize, kTileRows, [&](Value tile) {
      emitRegisterTile(b, emit, operands, tile, count, numVectors);
    });
  });
  emit.loop(zero, panelSize, 1, [&](Value row) {
    for (int64_t i = 0; i < numVectors; ++i) {
      Value sum = emit.load(sums, {row, lane(i)}, emit.getLanes());
      int64_t size = i + 1 == numVectors ? lastSize : emit.getLanes();
      emit.store(sum, op.getInit(),
                 {expert, add(panelBegin, row), add(column, lane(i))}, size);
    }
  });
}

/// The chunk's rows of both sides in the compute type; the panel's rows past
/// the last are zeros, so that all tiles are full.
void OuterEmitter::widenSides(Value first, Value count, Value column,
                              int64_t numVectors, int64_t lastSize) {
  emit.loop(emit.index(0), count, 1, [&](Value place) {
    Value n = add(first, place);
    Value leftRow = op.getLhsRows() ? emit.loadIndex(op.getLhsRows(), n) : n;
    Value rightRow = op.getRhsRows() ? emit.loadIndex(op.getRhsRows(), n) : n;
    for (int64_t at = 0; at < kPanelRows; at += emit.getLanes()) {
      Value offset = emit.index(at);
      Value values =
          emit.loadUpTo(op.getLhs(), {leftRow, add(panelBegin, offset)},
                        sub(panelSize, offset));
      vector::StoreOp::create(b, values, left, ValueRange{place, offset});
    }
    for (int64_t i = 0; i < numVectors; ++i) {
      int64_t size = i + 1 == numVectors ? lastSize : emit.getLanes();
      Value values =
          emit.load(op.getRhs(), {rightRow, add(column, lane(i))}, size);
      vector::StoreOp::create(b, values, right, ValueRange{place, lane(i)});
    }
  });
}

struct GroupedOuterPattern : public OpRewritePattern<GroupedOuterOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupedOuterOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0)
      return rewriter.notifyMatchFailure(op, "is on tensors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    OuterEmitter(b, op).run();
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateGroupedOuterToVectorPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupedOuterPattern>(patterns.getContext());
}
