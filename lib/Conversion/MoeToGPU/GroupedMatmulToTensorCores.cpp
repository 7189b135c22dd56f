//===- GroupedMatmulToTensorCores.cpp - mma.sync products ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A block of four warps makes tiles of 64 rows and 64 outputs, 32 by 32 a warp,
// of the expert that a tile's number falls to: tiles are numbered by the
// offsets on the device, and a block takes every so many. 32 numbers of D at a
// time come by cp.async, in three stages, rows gathered where they are read;
// what is outside of the expert, of the outputs or of D is zero. In a stage a
// row is 64 bytes, whose four pieces of 16 bytes change places with the row, so
// that ldmatrix meets no bank twice. Sums are f32, the epilogue runs on
// registers.
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ProductParts.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/NVGPU/IR/NVGPUDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr int64_t kTile = 64;     ///< Rows, and outputs, of a block's tile.
constexpr int64_t kWarpTile = 32; ///< The same of a warp.
constexpr int64_t kDepth = 32;    ///< Of D in a stage.
constexpr int64_t kStages = 3;
constexpr int64_t kThreads = 128;
constexpr int64_t kPiece = 8; ///< Numbers of 16 bytes, what a copy moves.
constexpr int64_t kPieces = kDepth / kPiece;
/// Of mma.sync: rows, outputs, depth.
constexpr int64_t kM = 16, kN = 8, kK = 16;
/// Row tiles that are under way together; the others come after.
constexpr int64_t kMostRowBlocks = 128;

class TensorCoreProduct {
public:
  TensorCoreProduct(ImplicitLocOpBuilder &b, GroupedMatmulOp op)
      : b(b), emit(b, b.getF32Type()), op(op), inSize(op.getInSize()),
        outSize(op.getOutSize()), numWeights(op.getWeights().size()) {}

  void run();

private:
  using Sums = SmallVector<Value>; ///< By weight, row and output tile.

  /// What a thread copies of a tile: a piece of each of its rows.
  struct Source {
    Value buffer;
    SmallVector<Value> outer;                  ///< Indices in front of the row.
    SmallVector<std::pair<Value, Value>> rows; ///< Row, and whether it counts.
  };

  Value less(Value x, Value y) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, x, y);
  }
  Value select(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, condition, x, y);
  }
  Value div(Value x, int64_t y) {
    return b.createOrFold<arith::DivUIOp>(x, emit.index(y));
  }
  Value rem(Value x, int64_t y) {
    return b.createOrFold<arith::RemUIOp>(x, emit.index(y));
  }
  Value times(Value x, int64_t y) { return emit.mul(x, emit.index(y)); }
  Value plus(Value x, int64_t y) { return emit.add(x, emit.index(y)); }

  Value emitRowTiles();
  void emitTiles(Value firstTile, Value numTiles, Value step);
  void emitTile(Value expert, Value firstRow, Value end);
  Value emitColumn(Value row, Value piece);
  SmallVector<Source> findSources(Value expert, Value firstRow, Value end);
  void copyStage(ArrayRef<Source> sources, Value stage, Value step);
  Value loadMatrices(Value buffer, Value stage, Value row, Value piece);
  Sums multiply(Value stage, ValueRange sums);
  void emitPair(const ProductPlace &place, ArrayRef<SmallVector<Value>> sums);
  void emitResults(Value expert, Value firstRow, Value end, ValueRange sums);

  int64_t place(int64_t weight, int64_t row, int64_t output) const {
    return (weight * (kWarpTile / kM) + row) * (kWarpTile / kN) + output;
  }
  int64_t numSums() const {
    return place(numWeights - 1, kWarpTile / kM - 1, kWarpTile / kN - 1) + 1;
  }

  ImplicitLocOpBuilder &b;
  ThreadEmitter emit;
  GroupedMatmulOp op;
  int64_t inSize, outSize, numWeights;
  bool storesPairs = false; ///< Two neighbours of a result by one store.
  Value thread, lane, warpRow, warpColumn, firstColumn;
  SmallVector<Value> stages; ///< Of the rows, then of each weight.
};

/// How many tiles of rows there can be: every expert may end in one that is not
/// full.
Value TensorCoreProduct::emitRowTiles() {
  Value rows = emit.dim(op.getInit(), 0);
  Value whole = div(plus(rows, kTile - 1), kTile);
  return plus(whole, op.getOffsets() ? op.getNumExperts() : 0);
}

/// The column in a stage where a piece of a row lies.
Value TensorCoreProduct::emitColumn(Value row, Value piece) {
  Value turn = rem(div(row, 2), kPieces);
  return times(arith::XOrIOp::create(b, piece, turn), kPiece);
}

/// Rows that do not count are read as the last that does, and not kept.
SmallVector<TensorCoreProduct::Source>
TensorCoreProduct::findSources(Value expert, Value firstRow, Value end) {
  Source rows{op.getLhs()[0], {}, {}};
  SmallVector<Source> sources;
  Value own = div(thread, kPieces);
  constexpr int64_t kRowsAtOnce = kThreads / kPieces;
  auto clamp = [&](Value row, Value limit) {
    Value counts = less(row, limit);
    return std::pair(select(counts, row, emit.sub(limit, emit.index(1))),
                     counts);
  };
  for (int64_t i = 0; i < kTile; i += kRowsAtOnce) {
    auto [row, counts] = clamp(emit.add(firstRow, plus(own, i)), end);
    if (op.getRows())
      row = emit.loadIndex(op.getRows(), row);
    rows.rows.push_back({row, counts});
  }
  sources.push_back(rows);
  for (Value weight : op.getWeights()) {
    Source outputs{weight, {expert}, {}};
    for (int64_t i = 0; i < kTile; i += kRowsAtOnce)
      outputs.rows.push_back(
          clamp(emit.add(firstColumn, plus(own, i)), emit.index(outSize)));
    sources.push_back(outputs);
  }
  return sources;
}

/// Starts the copies of one stage: the `step`-th 32 numbers of D.
void TensorCoreProduct::copyStage(ArrayRef<Source> sources, Value stage,
                                  Value step) {
  Value piece = rem(thread, kPieces);
  Value place = emit.add(times(step, kDepth), times(piece, kPiece));
  Value isInside = less(place, emit.index(inSize));
  Value from = select(isInside, place, emit.index(0));
  Value all = emit.index(kPiece), none = emit.index(0);
  for (auto [source, buffer] : llvm::zip(sources, stages)) {
    for (auto [i, row] : llvm::enumerate(source.rows)) {
      Value to = plus(div(thread, kPieces), i * (kThreads / kPieces));
      SmallVector<Value> at(source.outer);
      llvm::append_values(at, row.first, from);
      Value counts = arith::AndIOp::create(b, row.second, isInside);
      nvgpu::DeviceAsyncCopyOp::create(
          b, buffer, ValueRange{stage, to, emitColumn(to, piece)},
          source.buffer, at, b.getIndexAttr(kPiece), select(counts, all, none),
          b.getUnitAttr());
    }
  }
}

/// Four 8 x 8 matrices; every lane names a row of one.
Value TensorCoreProduct::loadMatrices(Value buffer, Value stage, Value row,
                                      Value piece) {
  Type element = typeOf(buffer).getElementType();
  return nvgpu::LdMatrixOp::create(
      b, VectorType::get({4, 2}, element), buffer,
      ValueRange{stage, row, emitColumn(row, piece)}, /*transpose=*/false,
      /*numTiles=*/4);
}

TensorCoreProduct::Sums TensorCoreProduct::multiply(Value stage,
                                                    ValueRange given) {
  Sums sums(given);
  Type element = typeOf(stages[0]).getElementType();
  auto pairType = VectorType::get({2, 2}, element);
  for (int64_t step = 0; step < kDepth / kK; ++step) {
    SmallVector<Value> rows;
    for (int64_t m = 0; m < kWarpTile / kM; ++m) {
      Value row = emit.add(plus(warpRow, m * kM), rem(lane, kM));
      rows.push_back(
          loadMatrices(stages[0], stage, row, plus(div(lane, kM), step * 2)));
    }
    for (int64_t weight = 0; weight < numWeights; ++weight)
      for (int64_t n = 0; n < kWarpTile / (2 * kN); ++n) {
        // Two tiles of outputs at a time, each of two halves of the depth.
        Value output = emit.add(rem(lane, kN), times(div(lane, 16), kN));
        output = emit.add(plus(warpColumn, n * 2 * kN), output);
        Value both = loadMatrices(stages[1 + weight], stage, output,
                                  plus(rem(div(lane, kN), 2), step * 2));
        for (int64_t half = 0; half < 2; ++half) {
          Value outputs = vector::ExtractStridedSliceOp::create(
              b, both, ArrayRef<int64_t>{2 * half}, ArrayRef<int64_t>{2},
              ArrayRef<int64_t>{1});
          assert(outputs.getType() == pairType);
          for (auto [m, row] : llvm::enumerate(rows)) {
            Value &sum = sums[place(weight, m, 2 * n + half)];
            sum = nvgpu::MmaSyncOp::create(b, sum.getType(), row, outputs, sum,
                                           b.getI64ArrayAttr({kM, kN, kK}),
                                           /*tf32Enabled=*/UnitAttr());
          }
        }
      }
  }
  (void)pairType;
  return sums;
}

/// The results of two neighbours, the first of which has an even number.
void TensorCoreProduct::emitPair(const ProductPlace &place,
                                 ArrayRef<SmallVector<Value>> sums) {
  if (!storesPairs) {
    for (int64_t i = 0; i < 2; ++i) {
      ProductPlace own = {place.row, place.expert, plus(place.output, i)};
      auto finish = [&] { emitEpilogue(b, emit, op, own, sums[i]); };
      if (outSize % kTile == 0)
        finish();
      else
        emit.when(less(own.output, emit.index(outSize)), finish);
    }
    return;
  }
  auto finish = [&] {
    SmallVector<SmallVector<Value>> values;
    for (int64_t i = 0; i < 2; ++i)
      values.push_back(emitEpilogueValues(
          b, emit, op, {place.row, place.expert, plus(place.output, i)},
          sums[i]));
    for (auto [number, init] : llvm::enumerate(op.getInits())) {
      Type element = typeOf(init).getElementType();
      Value both = vector::FromElementsOp::create(
          b, VectorType::get({2}, element),
          ValueRange{convertFloat(b, values[0][number], element),
                     convertFloat(b, values[1][number], element)});
      vector::StoreOp::create(
          b, both, init, ValueRange{place.row, place.output},
          /*nontemporal=*/false,
          llvm::MaybeAlign(element.getIntOrFloatBitWidth() / 4));
    }
  };
  if (outSize % kTile == 0)
    finish();
  else
    emit.when(less(place.output, emit.index(outSize)), finish);
}

/// A lane has two rows, 8 apart, and two neighbours of each 16 x 8 tile.
void TensorCoreProduct::emitResults(Value expert, Value firstRow, Value end,
                                    ValueRange sums) {
  Value laneRow = emit.add(emit.add(firstRow, warpRow), div(lane, 4));
  Value laneColumn =
      emit.add(emit.add(firstColumn, warpColumn), times(rem(lane, 4), 2));
  for (int64_t m = 0; m < kWarpTile / kM; ++m)
    for (int64_t half = 0; half < 2; ++half) {
      Value row = plus(laneRow, m * kM + half * 8);
      emit.when(less(row, end), [&] {
        for (int64_t n = 0; n < kWarpTile / kN; ++n) {
          SmallVector<SmallVector<Value>> own(2);
          for (int64_t i = 0; i < 2; ++i)
            for (int64_t weight = 0; weight < numWeights; ++weight)
              own[i].push_back(vector::ExtractOp::create(
                  b, sums[place(weight, m, n)], ArrayRef<int64_t>{half, i}));
          emitPair({row, expert, plus(laneColumn, n * kN)}, own);
        }
      });
    }
}

/// One tile of an expert's rows from `firstRow` on, up to `end`.
void TensorCoreProduct::emitTile(Value expert, Value firstRow, Value end) {
  SmallVector<Source> sources = findSources(expert, firstRow, end);
  int64_t steps = llvm::divideCeil(inSize, kDepth);
  Value token;
  auto startGroup = [&](llvm::function_ref<void()> copies) {
    copies();
    token = nvgpu::DeviceAsyncCreateGroupOp::create(
        b, nvgpu::DeviceAsyncTokenType::get(b.getContext()), ValueRange());
  };
  for (int64_t stage = 0; stage < kStages - 1; ++stage)
    startGroup([&] {
      if (stage < steps)
        copyStage(sources, emit.index(stage), emit.index(stage));
    });
  Value zero = arith::ConstantOp::create(
      b, b.getZeroAttr(VectorType::get({2, 2}, b.getF32Type())));
  SmallVector<Value> zeros(numSums(), zero);
  SmallVector<Value> sums = emit.loop(
      emit.index(0), emit.index(steps), zeros,
      [&](Value step, ValueRange carried) -> SmallVector<Value> {
        // All but the youngest group have arrived, for this thread and, behind
        // the barrier, for all; and nobody reads the stage that comes next.
        nvgpu::DeviceAsyncWaitOp::create(b, token,
                                         b.getI32IntegerAttr(kStages - 2));
        gpu::BarrierOp::create(b);
        Value ahead = plus(step, kStages - 1);
        emit.when(less(ahead, emit.index(steps)),
                  [&] { copyStage(sources, rem(ahead, kStages), ahead); });
        nvgpu::DeviceAsyncCreateGroupOp::create(
            b, nvgpu::DeviceAsyncTokenType::get(b.getContext()), ValueRange());
        return multiply(rem(step, kStages), carried);
      });
  emitResults(expert, firstRow, end, sums);
  // The next tile writes to stages that others may still read.
  gpu::BarrierOp::create(b);
}

/// The tiles first, first + step, .. of all experts' rows.
void TensorCoreProduct::emitTiles(Value first, Value numTiles, Value step) {
  auto loop = scf::ForOp::create(b, first, numTiles, step);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value tile = loop.getInductionVar();
  Value offsets = op.getOffsets();
  if (!offsets) {
    Value row = times(tile, kTile), end = emit.dim(op.getInit(), 0);
    return emit.when(less(row, end),
                     [&] { emitTile(emit.index(0), row, end); });
  }
  // Every thread counts tiles up to its own: the same for the whole block.
  Value zero = emit.index(0), none = emit.index(op.getNumExperts());
  SmallVector<Value> found = emit.loop(
      zero, none, {tile, none, zero, zero},
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        Value left = carried[0], owner = carried[1];
        Value begin = emit.loadIndex(offsets, expert);
        Value end = emit.loadIndex(offsets, plus(expert, 1));
        Value count = div(plus(emit.sub(end, begin), kTile - 1), kTile);
        Value isOpen =
            arith::CmpIOp::create(b, arith::CmpIPredicate::eq, owner, none);
        Value isIts = arith::AndIOp::create(b, isOpen, less(left, count));
        Value isPast = arith::SubIOp::create(b, left, count);
        Value row = emit.add(begin, times(left, kTile));
        return {select(isIts, left, select(isOpen, isPast, left)),
                select(isIts, expert, owner), select(isIts, row, carried[2]),
                select(isIts, end, carried[3])};
      });
  emit.when(less(found[1], none),
            [&] { emitTile(found[1], found[2], found[3]); });
}

void TensorCoreProduct::run() {
  for (Value view : {op.getLhs()[0], op.getWeights()[0]})
    assertAligned(b, op, view, kPiece * 2);
  storesPairs = llvm::all_of(op.getInits(),
                             [](Value init) { return isRowOfBlocks(init, 2); });
  if (storesPairs)
    for (Value init : op.getInits())
      assertAligned(b, op, init, typeOf(init).getElementTypeBitWidth() / 4);
  Type element = typeOf(op.getLhs()[0]).getElementType();
  auto workgroup = gpu::AddressSpaceAttr::get(
      b.getContext(), gpu::GPUDialect::getWorkgroupAddressSpace());
  SmallVector<Type> buffers(
      1 + numWeights, MemRefType::get({kStages, kTile, kDepth}, element,
                                      MemRefLayoutAttrInterface(), workgroup));
  Value one = emit.index(1), tiles = emitRowTiles();
  Value columns = emit.index(llvm::divideCeil(outSize, kTile));
  Value rowBlocks =
      arith::MinUIOp::create(b, tiles, emit.index(kMostRowBlocks));
  rowBlocks = arith::MaxUIOp::create(b, rowBlocks, one);
  auto launch = gpu::LaunchOp::create(
      b, columns, rowBlocks, one, emit.index(kThreads), one, one,
      /*dynamicSharedMemorySize=*/Value(), /*asyncTokenType=*/Type(),
      /*asyncDependencies=*/ValueRange(), buffers);
  OpBuilder::InsertionGuard guard(b);
  Block *body = &launch.getBody().front();
  b.setInsertionPointToEnd(body);
  gpu::TerminatorOp::create(b);
  b.setInsertionPointToStart(body);
  stages.assign(launch.getWorkgroupAttributions().begin(),
                launch.getWorkgroupAttributions().end());
  thread = launch.getThreadIds().x;
  lane = rem(thread, 32);
  Value warp = div(thread, 32);
  warpRow = times(div(warp, kTile / kWarpTile), kWarpTile);
  warpColumn = times(rem(warp, kTile / kWarpTile), kWarpTile);
  firstColumn = times(launch.getBlockIds().x, kTile);
  emitTiles(launch.getBlockIds().y, tiles, launch.getGridSize().y);
}

/// Tensor cores multiply 16-bit numbers, rows by rows, 16 bytes at a time.
bool isForTensorCores(GroupedMatmulOp op) {
  Type element = typeOf(op.getLhs()[0]).getElementType();
  if (!element.isBF16() && !element.isF16())
    return false;
  for (Value weight : op.getWeights())
    if (typeOf(weight).getElementType() != element ||
        !isRowOfBlocks(weight, kPiece))
      return false;
  return isa<FunctionOpInterface>(op->getParentOp()) && !op.getInOut() &&
         op.getLhs().size() == 1 && !op.getRowScale() &&
         op.getComputeType().isF32() && op.getInSize() % kPiece == 0 &&
         op.getInSize() > 0 && isRowOfBlocks(op.getLhs()[0], kPiece);
}

struct GroupedMatmulPattern : public OpRewritePattern<GroupedMatmulOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupedMatmulOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0 || !isForTensorCores(op))
      return rewriter.notifyMatchFailure(op, "is no product of tensor cores");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    TensorCoreProduct(b, op).run();
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateGroupedMatmulToTensorCoresPatterns(
    RewritePatternSet &patterns) {
  // In front of the pattern that takes all products.
  patterns.add<GroupedMatmulPattern>(patterns.getContext(), /*benefit=*/2);
}
