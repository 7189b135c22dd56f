//===- TensorTile.h - Tiles of products on tensor cores --------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOGPU_TENSORTILE_H
#define MOE_LIB_CONVERSION_MOETOGPU_TENSORTILE_H

#include "ThreadEmitter.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"

namespace mlir::moe {

/// A block of threads that makes tiles of a product.
constexpr int64_t kTileThreads = 128;
constexpr int64_t kTileWarps = kTileThreads / 32;
/// Pieces of 16 bytes, which is what a copy moves, of the summed dimension in a
/// stage, and those of one mma.sync.
constexpr int64_t kTilePieces = 4, kMmaPieces = 2;
constexpr int64_t kPieceBytes = 16;
/// Of mma.sync.
constexpr int64_t kMmaRows = 16, kMmaOutputs = 8;
/// The workgroup memory that every launch gets without asking.
constexpr int64_t kWorkgroupBytes = 48 * 1024;

/// How many numbers are a piece, and of the summed dimension a stage.
int64_t getPieceSize(Type element);
inline int64_t getTileDepth(Type element) {
  return kTilePieces * getPieceSize(element);
}

/// One operand of a tile in stages of workgroup memory: lines of numbers whose
/// pieces change places with the line, so that neither cp.async nor the loads
/// of fragments meet a bank twice.
struct TilePanel {
  Value buffer; ///< [stages, lines, length].
  /// A line is one place of the summed dimension, with all of the tile's rows
  /// (or outputs); otherwise it is one row with a stage's depth of its numbers.
  bool isDepthMajor = false;

  static MemRefType getType(Type element, int64_t stages, int64_t extent,
                            bool isDepthMajor);
  Type getElement() const;
  int64_t getLines() const;
  int64_t getPieces() const; ///< Of a line.
  /// How many pieces of a stage a thread copies.
  int64_t getCopies() const { return getLines() * getPieces() / kTileThreads; }
  int64_t getLinesAtOnce() const { return kTileThreads / getPieces(); }
};

/// Code of a thread of such a block.
class TileEmitter {
public:
  TileEmitter(ImplicitLocOpBuilder &b, ThreadEmitter &emit)
      : b(b), emit(emit) {}

  /// To be called inside of a kernel of kTileThreads threads.
  void setThread(Value number);
  Value getThread() const { return thread; }
  Value getLane() const { return lane; }
  Value getWarp() const { return warp; }

  Value less(Value x, Value y);
  Value both(Value x, Value y);
  Value select(Value condition, Value x, Value y);
  Value div(Value x, int64_t y);
  Value rem(Value x, int64_t y);
  Value times(Value x, int64_t y);
  Value plus(Value x, int64_t y);

  /// The line of this thread's copy number `copy`, and its piece of the line.
  Value getLine(const TilePanel &panel, int64_t copy);
  Value getPiece(const TilePanel &panel);
  /// Starts a copy of a piece; zeros where it does not count.
  void copy(const TilePanel &panel, Value stage, Value line, Value source,
            ValueRange at, Value counts);
  /// Ends a group of copies.
  void commit();
  /// Waits for all but the youngest groups and for the block's threads.
  void wait(int64_t youngest);

  /// The fragment of 16 rows from `first` on; `step` counts kMmaPieces.
  Value loadRows(const TilePanel &panel, Value stage, Value first,
                 int64_t step);
  /// The fragments of 8 and 8 outputs from `first` on.
  std::array<Value, 2> loadOutputs(const TilePanel &panel, Value stage,
                                   Value first, int64_t step);
  /// A fragment of f32 rounded to what mma.sync reads of it.
  Value roundFragment(Value fragment);
  Value multiply(Value rows, Value outputs, Value sum);
  Value getZeroSum();

private:
  Value getColumn(const TilePanel &panel, Value line, Value piece);
  Value loadMatrices(const TilePanel &panel, Value stage, Value line,
                     Value piece, bool transpose);
  Value loadNumbers(const TilePanel &panel, Value stage, Value first,
                    int64_t step, int64_t numRows);

  ImplicitLocOpBuilder &b;
  ThreadEmitter &emit;
  Value thread, lane, warp, token;
};

/// A place in a list that is ordered by experts.
struct ExpertTile {
  Value isThere; ///< The same in all threads, as all that follows.
  Value expert, first, begin, end; ///< Tiles in front, rows of the expert.
};

/// The expert that has tile `number` where tiles are numbered expert by expert
/// and `count` tells how many an expert with that many rows has (i32). Lanes
/// look at 32 experts at a time.
ExpertTile findExpertTile(ImplicitLocOpBuilder &b, ThreadEmitter &emit,
                          Value lane, Value offsets, int64_t numExperts,
                          Value number,
                          llvm::function_ref<Value(Value rows)> count);

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETOGPU_TENSORTILE_H
