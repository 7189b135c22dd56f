//===- GroupedMatmulToTensorCores.cpp - mma.sync products ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A block of four warps makes tiles of at most 64 rows and 128 outputs (64 of
// each of two weights) of the expert that a tile's number falls to: tiles are
// numbered by the offsets on the device, and a block takes every so many. A
// tile of at most 16 or 32 rows has code of its own, so that few rows are not
// multiplied as if they were many. 64 bytes of D come at a time by cp.async,
// in three or four stages, rows gathered where they are read; what is outside
// of the expert, of the outputs or of D is zero. Stages are constants of the
// code, so that places in them are computed once. Sums are f32 and in the order
// of D, whatever the tile; the epilogue runs on registers. Outputs lie in a
// stage in an order that gives a lane four neighbours, for one store.
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ProductParts.h"
#include "TensorTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr int64_t kTileRows = 64;
/// Of all weights together.
constexpr int64_t kTileColumns = 128;
constexpr int64_t kMostStages = 4;
/// So many stages are code without a loop.
constexpr int64_t kMostUnrolled = 16;
/// Row tiles that are under way together; the others come after.
constexpr int64_t kMostRowBlocks = 128;

/// How the warps of a block share a tile.
struct TileShape {
  int64_t rows, columns; ///< Columns of one weight.
  int64_t warpsDown;

  int64_t getWarpRows() const { return rows / warpsDown; }
  int64_t getWarpsAcross() const { return kTileWarps / warpsDown; }
  int64_t getWarpColumns() const { return columns / getWarpsAcross(); }
  int64_t getRowTiles() const { return getWarpRows() / kMmaRows; }
  int64_t getColumnTiles() const { return getWarpColumns() / kMmaOutputs; }
};

class TensorCoreProduct {
public:
  TensorCoreProduct(ImplicitLocOpBuilder &b, GroupedMatmulOp op,
                    int64_t fewRows)
      : b(b), emit(b, b.getF32Type()), tile(b, emit), op(op),
        inSize(op.getInSize()), outSize(op.getOutSize()),
        numWeights(op.getWeights().size()), numLhs(op.getLhs().size()),
        fewRows(fewRows) {
    columns = numWeights == 1 && outSize > kTileColumns / 2 ? kTileColumns
                                                            : kTileColumns / 2;
    Type element = typeOf(op.getLhs()[0]).getElementType();
    pieceSize = getPieceSize(element);
    depth = getTileDepth(element);
    int64_t stageBytes =
        (numLhs * kTileRows + numWeights * columns) * kTilePieces * kPieceBytes;
    numStages = std::min(kMostStages, kWorkgroupBytes / stageBytes);
    numSteps = llvm::divideCeil(inSize, depth);
  }

  void run();

private:
  using Sums = SmallVector<Value>; ///< By weight, row and output tile.

  /// What a thread copies of a tile: a piece of each of its lines.
  struct Source {
    TilePanel panel;
    Value buffer;
    SmallVector<Value> outer;                   ///< Indices in front.
    SmallVector<std::pair<Value, Value>> lines; ///< Line, whether it counts.
  };

  Value readThread();
  Value emitRowTiles();
  void emitTiles(Value firstTile, Value numTiles, Value step);
  void emitTile(Value expert, Value firstRow, Value end);
  void emitShape(const TileShape &shape, Value expert, Value firstRow,
                 Value end);
  std::pair<Value, Value> clamp(Value place, Value limit);
  SmallVector<Source> findSources(const TileShape &shape, Value expert,
                                  Value firstRow, Value end);
  void copyStage(ArrayRef<Source> sources, int64_t stage, Value step);
  void startStep(ArrayRef<Source> sources, int64_t stage, Value step);
  Value scaleRows(Value rows, ArrayRef<Value> scales);
  Sums multiply(const TileShape &shape, int64_t stage, ValueRange sums);
  Sums emitSteps(const TileShape &shape, ArrayRef<Source> sources);
  Value getOutput(const TilePanel &panel, int64_t copy);
  void chooseStores();
  void emitNeighbours(const ProductPlace &place,
                      ArrayRef<SmallVector<Value>> sums);
  void emitResults(const TileShape &shape, Value expert, Value firstRow,
                   Value end, ValueRange sums);
  void findScales(const TileShape &shape, Value firstRow, Value end);

  int64_t place(const TileShape &shape, int64_t weight, int64_t row,
                int64_t output) const {
    return (weight * shape.getRowTiles() + row) * shape.getColumnTiles() +
           output;
  }
  Value getWarpRow(const TileShape &shape) {
    return tile.times(tile.div(tile.getWarp(), shape.getWarpsAcross()),
                      shape.getWarpRows());
  }
  Value getWarpColumn(const TileShape &shape) {
    return tile.times(tile.rem(tile.getWarp(), shape.getWarpsAcross()),
                      shape.getWarpColumns());
  }

  ImplicitLocOpBuilder &b;
  ThreadEmitter emit;
  TileEmitter tile;
  GroupedMatmulOp op;
  int64_t inSize, outSize, numWeights, numLhs;
  int64_t fewRows; ///< Experts with as many rows have another kernel.
  int64_t columns, numStages, numSteps;
  int64_t pieceSize, depth; ///< Numbers of a piece, and of D in a stage.
  /// Of a row's outputs a lane has so many neighbours, and stores so many.
  int64_t numNeighbours = 4, storeSize = 1;
  Value firstColumn;
  SmallVector<TilePanel> panels; ///< Of each lhs, then of each weight.
  SmallVector<Value> rowScales;  ///< A lane's, two for each tile of rows.
};

/// How many tiles of rows there can be: every expert may end in one that is not
/// full.
Value TensorCoreProduct::emitRowTiles() {
  Value rows = emit.dim(op.getInit(), 0);
  Value whole = tile.div(tile.plus(rows, kTileRows - 1), kTileRows);
  return tile.plus(whole, op.getOffsets() ? op.getNumExperts() : 0);
}

/// A place, or the last one there is in front of the limit.
std::pair<Value, Value> TensorCoreProduct::clamp(Value place, Value limit) {
  Value counts = tile.less(place, limit);
  return {tile.select(counts, place, emit.sub(limit, emit.index(1))), counts};
}

/// The output whose weights a copy's line has. Of 16 outputs, a lane has 2 j
/// and 2 j + 1 in each of two fragments of 8: let these be 4 j to 4 j + 3.
Value TensorCoreProduct::getOutput(const TilePanel &panel, int64_t copy) {
  Value line = tile.getLine(panel, copy);
  Value fragment = tile.rem(tile.div(line, kMmaOutputs), 2);
  Value lane = tile.rem(tile.div(line, 2), 4);
  Value output = tile.times(tile.div(line, 2 * kMmaOutputs), 4);
  output = tile.times(emit.add(output, lane), 2);
  output = tile.times(emit.add(output, fragment), 2);
  return emit.add(output, tile.rem(line, 2));
}

/// Rows that do not count are read as the last that does, and not kept.
SmallVector<TensorCoreProduct::Source>
TensorCoreProduct::findSources(const TileShape &shape, Value expert,
                               Value firstRow, Value end) {
  SmallVector<Source> sources;
  SmallVector<std::pair<Value, Value>> rows;
  int64_t copies =
      llvm::divideCeil(shape.rows, panels.front().getLinesAtOnce());
  for (int64_t i = 0; i < copies; ++i) {
    Value own = tile.getLine(panels.front(), i);
    auto [row, counts] = clamp(emit.add(firstRow, own), end);
    if (op.getRows())
      row = emit.loadIndex(op.getRows(), row);
    rows.push_back({row, counts});
  }
  for (auto [number, lhs] : llvm::enumerate(op.getLhs()))
    sources.push_back({panels[number], lhs, {}, rows});
  for (auto [number, weight] : llvm::enumerate(op.getWeights())) {
    Source outputs{panels[numLhs + number], weight, {expert}, {}};
    if (op.getInOut()) {
      // Its one piece of every line.
      Value piece = tile.times(tile.getPiece(outputs.panel), pieceSize);
      Value column = emit.add(firstColumn, piece);
      Value counts = tile.less(column, emit.index(outSize));
      outputs.lines.push_back(
          {tile.select(counts, column, emit.index(0)), counts});
    } else {
      for (int64_t i = 0; i < outputs.panel.getCopies(); ++i)
        outputs.lines.push_back(
            clamp(emit.add(firstColumn, getOutput(outputs.panel, i)),
                  emit.index(outSize)));
    }
    sources.push_back(outputs);
  }
  return sources;
}

/// Starts the copies of one stage: the `step`-th part of D.
void TensorCoreProduct::copyStage(ArrayRef<Source> sources, int64_t stage,
                                  Value step) {
  Value to = emit.index(stage), start = tile.times(step, depth);
  bool isWhole = inSize % depth == 0;
  auto limit = [&](Value place, Value counts) -> std::pair<Value, Value> {
    if (isWhole)
      return {place, counts};
    Value isInside = tile.less(place, emit.index(inSize));
    return {tile.select(isInside, place, emit.index(0)),
            tile.both(counts, isInside)};
  };
  for (const Source &source : sources) {
    if (source.panel.isDepthMajor) {
      auto [column, isOutput] = source.lines.front();
      for (int64_t i = 0; i < source.panel.getCopies(); ++i) {
        Value line = tile.getLine(source.panel, i);
        auto [place, counts] = limit(emit.add(start, line), isOutput);
        SmallVector<Value> at(source.outer);
        llvm::append_values(at, place, column);
        tile.copy(source.panel, to, line, source.buffer, at, counts);
      }
      continue;
    }
    Value piece = tile.times(tile.getPiece(source.panel), pieceSize);
    for (auto [i, own] : llvm::enumerate(source.lines)) {
      auto [place, counts] = limit(emit.add(start, piece), own.second);
      SmallVector<Value> at(source.outer);
      llvm::append_values(at, own.first, place);
      tile.copy(source.panel, to, tile.getLine(source.panel, i), source.buffer,
                at, counts);
    }
  }
}

/// Of the rows of a tile that a lane has in its fragments.
void TensorCoreProduct::findScales(const TileShape &shape, Value firstRow,
                                   Value end) {
  rowScales.clear();
  if (!op.getRowScale())
    return;
  Value lane = emit.add(emit.add(firstRow, getWarpRow(shape)),
                        tile.div(tile.getLane(), 4));
  for (int64_t i = 0; i < 2 * shape.getRowTiles(); ++i)
    rowScales.push_back(
        emit.load(op.getRowScale(), clamp(tile.plus(lane, 8 * i), end).first));
}

/// A fragment whose pairs are of the one row and of the other in turn.
Value TensorCoreProduct::scaleRows(Value rows, ArrayRef<Value> scales) {
  auto type = cast<VectorType>(rows.getType());
  for (int64_t i = 0; i < type.getDimSize(0); ++i) {
    Value pair = vector::ExtractOp::create(b, rows, ArrayRef<int64_t>{i});
    pair = scaleNumber(b, emit, op.getLhs()[0],
                       convertFloat(b, pair, b.getF32Type()), scales[i % 2]);
    rows = vector::InsertOp::create(
        b, convertFloat(b, pair, type.getElementType()), rows,
        ArrayRef<int64_t>{i});
  }
  return tile.roundFragment(rows);
}

TensorCoreProduct::Sums TensorCoreProduct::multiply(const TileShape &shape,
                                                    int64_t stageNumber,
                                                    ValueRange given) {
  Sums sums(given);
  Value stage = emit.index(stageNumber);
  Value warpRow = getWarpRow(shape), warpColumn = getWarpColumn(shape);
  for (int64_t step = 0; step < kTilePieces / kMmaPieces; ++step) {
    SmallVector<SmallVector<Value>> rows(numLhs);
    for (int64_t lhs = 0; lhs < numLhs; ++lhs)
      for (int64_t m = 0; m < shape.getRowTiles(); ++m) {
        Value own = tile.loadRows(panels[lhs], stage,
                                  tile.plus(warpRow, m * kMmaRows), step);
        if (!rowScales.empty())
          own = scaleRows(own, ArrayRef(rowScales).slice(2 * m, 2));
        rows[lhs].push_back(own);
      }
    for (int64_t weight = 0; weight < numWeights; ++weight)
      for (int64_t n = 0; n < shape.getColumnTiles(); n += 2) {
        std::array<Value, 2> outputs =
            tile.loadOutputs(panels[numLhs + weight], stage,
                             tile.plus(warpColumn, n * kMmaOutputs), step);
        for (int64_t half = 0; half < 2; ++half)
          for (auto [m, row] : llvm::enumerate(rows[numLhs > 1 ? weight : 0])) {
            Value &sum = sums[place(shape, weight, m, n + half)];
            sum = tile.multiply(row, outputs[half], sum);
          }
      }
  }
  return sums;
}

/// Starts what is needed a few steps later. A loop does not know whether there
/// is such a step: its group may be empty.
void TensorCoreProduct::startStep(ArrayRef<Source> sources, int64_t stage,
                                  Value step) {
  Value isStep = tile.less(step, emit.index(numSteps));
  std::optional<int64_t> known = getConstantIntValue(isStep);
  if (known && !*known)
    return;
  if (known)
    copyStage(sources, stage, step);
  else
    emit.when(isStep, [&] { copyStage(sources, stage, step); });
  tile.commit();
}

/// The sums over D, in its order.
TensorCoreProduct::Sums TensorCoreProduct::emitSteps(const TileShape &shape,
                                                     ArrayRef<Source> sources) {
  int64_t ahead = numStages - 1;
  for (int64_t stage = 0; stage < ahead; ++stage)
    startStep(sources, stage, emit.index(stage));
  auto emitStep = [&](int64_t stage, Value step, int64_t younger,
                      ValueRange sums) {
    // All but younger groups have arrived, for this thread and, behind the
    // barrier, for all; and nobody reads the stage that comes next.
    tile.wait(younger);
    startStep(sources, (stage + ahead) % numStages, tile.plus(step, ahead));
    return multiply(shape, stage, sums);
  };
  Sums sums(place(shape, numWeights, 0, 0), tile.getZeroSum());
  int64_t rounds = numSteps / numStages;
  int64_t inLoop = numSteps > kMostUnrolled ? rounds * numStages : 0;
  if (inLoop > 0)
    sums = tile.loop(emit.index(0), emit.index(rounds), sums,
                     [&](Value round, ValueRange carried) {
                       Sums own(carried);
                       Value first = tile.times(round, numStages);
                       for (int64_t i = 0; i < numStages; ++i)
                         own = emitStep(i, tile.plus(first, i), ahead - 1, own);
                       return own;
                     });
  // Groups are numbered as steps; the loop has started one for each of its own.
  int64_t numGroups = std::max(numSteps, inLoop > 0 ? inLoop + ahead : 0);
  for (int64_t step = inLoop; step < numSteps; ++step)
    sums = emitStep(step % numStages, emit.index(step),
                    std::min(ahead, numGroups - step) - 1, sums);
  return sums;
}

/// The results of a lane's neighbours, the first of which is a multiple.
void TensorCoreProduct::emitNeighbours(const ProductPlace &place,
                                       ArrayRef<SmallVector<Value>> sums) {
  for (int64_t first = 0; first < numNeighbours; first += storeSize) {
    auto store = [&] {
      SmallVector<SmallVector<Value>> values(op.getInits().size());
      for (int64_t i = first; i < first + storeSize; ++i) {
        ProductPlace own{place.row, place.expert, tile.plus(place.output, i)};
        SmallVector<Value> yielded =
            emitEpilogueValues(b, emit, op, own, sums[i]);
        for (auto [number, value] : llvm::enumerate(yielded))
          values[number].push_back(value);
      }
      for (auto [own, init] : llvm::zip(values, op.getInits()))
        storeNeighbours(b, own, init,
                        {place.row, tile.plus(place.output, first)});
    };
    if (outSize % columns == 0)
      store();
    else
      emit.when(tile.less(tile.plus(place.output, first), emit.index(outSize)),
                store);
  }
}

/// A lane has two rows, 8 apart, and two numbers of each 16 x 8 tile.
void TensorCoreProduct::emitResults(const TileShape &shape, Value expert,
                                    Value firstRow, Value end,
                                    ValueRange sums) {
  Value lane = tile.getLane();
  Value laneRow =
      emit.add(emit.add(firstRow, getWarpRow(shape)), tile.div(lane, 4));
  Value laneColumn = emit.add(emit.add(firstColumn, getWarpColumn(shape)),
                              tile.times(tile.rem(lane, 4), numNeighbours));
  int64_t fragments = numNeighbours / 2;
  auto getSums = [&](int64_t m, int64_t half, int64_t n) {
    SmallVector<SmallVector<Value>> own(numNeighbours);
    for (int64_t i = 0; i < numNeighbours; ++i)
      for (int64_t weight = 0; weight < numWeights; ++weight)
        own[i].push_back(vector::ExtractOp::create(
            b, sums[place(shape, weight, m, n + i / 2)],
            ArrayRef<int64_t>{half, i % 2}));
    return own;
  };
  for (int64_t m = 0; m < shape.getRowTiles(); ++m)
    for (int64_t half = 0; half < 2; ++half) {
      Value row = tile.plus(laneRow, m * kMmaRows + half * 8);
      emit.when(tile.less(row, end), [&] {
        for (int64_t n = 0; n < shape.getColumnTiles(); n += fragments)
          emitNeighbours({row, expert, tile.plus(laneColumn, n * kMmaOutputs)},
                         getSums(m, half, n));
      });
    }
}

void TensorCoreProduct::emitShape(const TileShape &shape, Value expert,
                                  Value firstRow, Value end) {
  SmallVector<Source> sources = findSources(shape, expert, firstRow, end);
  findScales(shape, firstRow, end);
  Sums sums = emitSteps(shape, sources);
  emitResults(shape, expert, firstRow, end, sums);
}

/// One tile of an expert's rows from `firstRow` on, up to `end`.
void TensorCoreProduct::emitTile(Value expert, Value firstRow, Value end) {
  Value rows = emit.sub(end, firstRow);
  auto isAtMost = [&](int64_t most) {
    return tile.less(rows, emit.index(most + 1));
  };
  auto either = [&](Value condition, llvm::function_ref<void()> yes,
                    llvm::function_ref<void()> no) {
    auto branch = scf::IfOp::create(b, condition, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    yes();
    b.setInsertionPointToStart(branch.elseBlock());
    no();
  };
  auto emitOf = [&](int64_t height, int64_t warpsDown) {
    emitShape({height, columns, warpsDown}, expert, firstRow, end);
  };
  either(
      isAtMost(32),
      [&] {
        either(isAtMost(16), [&] { emitOf(16, 1); }, [&] { emitOf(32, 1); });
      },
      [&] { emitOf(kTileRows, 2); });
  // The next tile writes to stages that others may still read.
  gpu::BarrierOp::create(b);
}

/// The number of this thread, read where the code is. LLVM would take what
/// depends on it alone, the addresses of all shapes, in front of the loop over
/// tiles: constants would be additions there and not offsets of instructions,
/// and each hold a register.
Value TensorCoreProduct::readThread() {
  auto read = LLVM::InlineAsmOp::create(
      b, b.getI32Type(), /*operands=*/ValueRange(), "mov.u32 $0, %tid.x;", "=r",
      /*has_side_effects=*/true, /*is_align_stack=*/false,
      LLVM::TailCallKind::None, /*asm_dialect=*/nullptr,
      /*operand_attrs=*/nullptr);
  Value number =
      arith::IndexCastUIOp::create(b, b.getIndexType(), read.getResult(0));
  return tile.rem(number, kTileThreads);
}

/// The tiles first, first + step, .. of all experts' rows.
void TensorCoreProduct::emitTiles(Value first, Value numTiles, Value step) {
  auto loop = scf::ForOp::create(b, first, numTiles, step);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value number = loop.getInductionVar();
  tile.setThread(readThread());
  if (!op.getOffsets()) {
    Value row = tile.times(number, kTileRows), end = emit.dim(op.getInit(), 0);
    Value isMore = arith::CmpIOp::create(b, arith::CmpIPredicate::ugt, end,
                                         emit.index(fewRows));
    return emit.when(tile.both(tile.less(row, end), isMore),
                     [&] { emitTile(emit.index(0), row, end); });
  }
  ExpertTile own = findExpertTile(
      b, emit, tile.getLane(), op.getOffsets(), op.getNumExperts(), number,
      [&](Value rows) -> Value {
        Value tiles = arith::ShRUIOp::create(
            b, arith::AddIOp::create(b, rows, emit.id(kTileRows - 1)),
            emit.id(llvm::Log2_64(kTileRows)));
        if (fewRows == 0)
          return tiles;
        Value isFew = arith::CmpIOp::create(b, arith::CmpIPredicate::sle, rows,
                                            emit.id(fewRows));
        return arith::SelectOp::create(b, isFew, emit.id(0), tiles);
      });
  emit.when(own.isThere, [&] {
    Value row = emit.add(own.begin, tile.times(own.first, kTileRows));
    emitTile(own.expert, row, own.end);
  });
}

/// Weights that lie the other way round come as pieces of outputs, which can't
/// change places.
void TensorCoreProduct::chooseStores() {
  numNeighbours = op.getInOut() ? 2 : 4;
  storeSize = std::gcd(numNeighbours, outSize);
  auto fits = [&](Value init) { return isRowOfBlocks(init, storeSize); };
  while (storeSize > 1 && !llvm::all_of(op.getInits(), fits))
    storeSize /= 2;
  if (storeSize == 1)
    return;
  for (Value init : op.getInits())
    assertAligned(b, op, init,
                  storeSize * typeOf(init).getElementTypeBitWidth() / 8);
}

void TensorCoreProduct::run() {
  for (ValueRange views :
       {ValueRange(op.getLhs()), ValueRange(op.getWeights())})
    for (Value view : views)
      assertAligned(b, op, view, kPieceBytes);
  chooseStores();
  Type element = typeOf(op.getLhs()[0]).getElementType();
  SmallVector<Type> buffers(
      numLhs, TilePanel::getType(element, numStages, kTileRows, false));
  buffers.append(numWeights, TilePanel::getType(element, numStages, columns,
                                                op.getInOut()));
  Value one = emit.index(1), tiles = emitRowTiles();
  Value across = emit.index(llvm::divideCeil(outSize, columns));
  Value rowBlocks =
      arith::MinUIOp::create(b, tiles, emit.index(kMostRowBlocks));
  rowBlocks = arith::MaxUIOp::create(b, rowBlocks, one);
  auto launch = gpu::LaunchOp::create(
      b, across, rowBlocks, one, emit.index(kTileThreads), one, one,
      /*dynamicSharedMemorySize=*/Value(), /*asyncTokenType=*/Type(),
      /*asyncDependencies=*/ValueRange(), buffers);
  OpBuilder::InsertionGuard guard(b);
  Block *body = &launch.getBody().front();
  b.setInsertionPointToEnd(body);
  gpu::TerminatorOp::create(b);
  b.setInsertionPointToStart(body);
  for (auto [number, buffer] :
       llvm::enumerate(launch.getWorkgroupAttributions()))
    panels.push_back(
        {buffer, op.getInOut() && static_cast<int64_t>(number) >= numLhs});
  firstColumn = tile.times(launch.getBlockIds().x, columns);
  emitTiles(launch.getBlockIds().y, tiles, launch.getGridSize().y);
}

/// Tensor cores multiply 16-bit numbers, and f32 if it may be rounded; they are
/// read 16 bytes at a time.
bool isForTensorCores(GroupedMatmulOp op, bool mayRound) {
  Type element = typeOf(op.getLhs()[0]).getElementType();
  if (!isTensorCoreType(element, mayRound))
    return false;
  int64_t piece = getPieceSize(element);
  for (ValueRange views :
       {ValueRange(op.getLhs()), ValueRange(op.getWeights())})
    for (Value view : views)
      if (typeOf(view).getElementType() != element ||
          !isRowOfBlocks(view, piece))
        return false;
  return isa<FunctionOpInterface>(op->getParentOp()) &&
         op.getComputeType().isF32() && op.getInSize() % piece == 0 &&
         op.getInSize() > 0 && (!op.getInOut() || op.getOutSize() % piece == 0);
}

struct GroupedMatmulPattern : public OpRewritePattern<GroupedMatmulOp> {
  GroupedMatmulPattern(MLIRContext *context, const ProductOptions &options,
                       PatternBenefit benefit)
      : OpRewritePattern(context, benefit), options(options) {}

  LogicalResult matchAndRewrite(GroupedMatmulOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0 || !isForTensorCores(op, options.mayRound))
      return rewriter.notifyMatchFailure(op, "is no product of tensor cores");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    int64_t fewRows = options.mayHaveFewRows ? emitFewRows(b, op) : 0;
    TensorCoreProduct(b, op, fewRows).run();
    rewriter.eraseOp(op);
    return success();
  }

  ProductOptions options;
};

} // namespace

void moe::populateGroupedMatmulToTensorCoresPatterns(
    RewritePatternSet &patterns, const ProductOptions &options) {
  // In front of the pattern that takes all products.
  patterns.add<GroupedMatmulPattern>(patterns.getContext(), options,
                                     /*benefit=*/2);
}
