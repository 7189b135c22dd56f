//===- GroupedMatmulToThreads.cpp - A thread a number --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A product of its own has a thread for each row and output. One that stands
// inside a thread, as the gate of a token does, is formed there: where its rows
// are contiguous, 16 outputs are summed at a time, so that a number of the row
// is read once for them, and neighbours of a row are read 16 bytes at a time.
// Either way a sum is taken in the order of D by fused multiply-adds.
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ProductParts.h"
#include "ThreadEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Outputs whose sums a thread keeps in registers at a time.
constexpr int64_t kOutputsAtOnce = 16;
/// Bytes of the widest load.
constexpr int64_t kLoadBytes = 16;

class ThreadProduct {
public:
  ThreadProduct(ImplicitLocOpBuilder &b, GroupedMatmulOp op,
                bool mayHaveFewRows)
      : b(b), emit(b, op.getComputeType()), op(op), inSize(op.getInSize()),
        outSize(op.getOutSize()), mayHaveFewRows(mayHaveFewRows) {}

  void run();

private:
  /// What a number needs of its row.
  struct Row {
    Value number, expert; ///< Assignment and expert.
  };

  Value emitExpert(Value row);
  void emitRow(Value row, llvm::function_ref<void(Row)> body);
  Value emitIsMore(Row row, int64_t fewRows);
  Value readLhs(Value lhs, Value row, Value place);
  SmallVector<Value> emitSums(Row row, Value output);
  void finish(Row row, Value output, ArrayRef<Value> sums) {
    emitEpilogue(b, emit, op, {row.number, row.expert, output}, sums);
  }

  int64_t getVectorSize();
  void emitOutputs(Row row, Value firstOutput, int64_t count, int64_t size);
  void runInThread();

  ImplicitLocOpBuilder &b;
  ThreadEmitter emit;
  GroupedMatmulOp op;
  int64_t inSize, outSize;
  bool mayHaveFewRows;
};

/// The last expert that begins at or before the row, by halving.
Value ThreadProduct::emitExpert(Value row) {
  Value expert = emit.index(0);
  int64_t numExperts = op.getNumExperts();
  for (int64_t step = llvm::PowerOf2Ceil(numExperts) / 2; step > 0; step /= 2) {
    Value next = emit.add(expert, emit.index(step));
    Value last = emit.index(numExperts - 1);
    Value place = arith::MinUIOp::create(b, next, last);
    Value begin = emit.loadIndex(op.getOffsets(), place);
    Value isThere =
        arith::CmpIOp::create(b, arith::CmpIPredicate::ule, begin, row);
    expert = arith::SelectOp::create(b, isThere, place, expert);
  }
  return expert;
}

/// Runs `body` where the row is one of an expert.
void ThreadProduct::emitRow(Value row, llvm::function_ref<void(Row)> body) {
  if (!op.getOffsets())
    return body({row, emit.index(0)});
  Value end = emit.loadIndex(op.getOffsets(), emit.index(op.getNumExperts()));
  Value isRow = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, row, end);
  emit.when(isRow, [&] { body({row, emitExpert(row)}); });
}

/// Whether the row's expert has more than so many.
Value ThreadProduct::emitIsMore(Row row, int64_t fewRows) {
  Value count = emit.dim(op.getInit(), 0);
  if (Value offsets = op.getOffsets()) {
    Value next = emit.add(row.expert, emit.index(1));
    count = emit.sub(emit.loadIndex(offsets, next),
                     emit.loadIndex(offsets, row.expert));
  }
  return arith::CmpIOp::create(b, arith::CmpIPredicate::ugt, count,
                               emit.index(fewRows));
}

/// lhs at a row, scaled as the op has it.
Value ThreadProduct::readLhs(Value lhs, Value row, Value place) {
  Value from = row;
  if (op.getRows())
    from = emit.loadIndex(op.getRows(), row);
  Value value = emit.load(lhs, {from, place});
  if (!op.getRowScale())
    return value;
  return scaleNumber(b, emit, lhs, value, emit.load(op.getRowScale(), row));
}

/// One sum for each weight.
SmallVector<Value> ThreadProduct::emitSums(Row row, Value output) {
  SmallVector<Value> zeros(op.getWeights().size(), emit.real(0.0));
  return emit.loop(
      emit.index(0), emit.index(inSize), zeros,
      [&](Value place, ValueRange carried) {
        SmallVector<Value> sums(carried), read;
        for (Value lhs : op.getLhs())
          read.push_back(readLhs(lhs, row.number, place));
        for (auto [number, weight] : llvm::enumerate(op.getWeights())) {
          SmallVector<Value> at = {row.expert, output, place};
          if (op.getInOut())
            std::swap(at[1], at[2]);
          Value x = read[read.size() > 1 ? number : 0];
          sums[number] =
              emit.multiplyAdd(x, emit.load(weight, at), sums[number]);
        }
        return sums;
      });
}

/// Neighbours that can be read at once, of the rows and of the weight; 0 where
/// the product is of another kind than a gate's.
int64_t ThreadProduct::getVectorSize() {
  if (op.getWeights().size() != 1 || op.getInOut() || op.getOffsets() ||
      op.getRows() || op.getRowScale())
    return 0;
  Value lhs = op.getLhs()[0], weight = op.getWeights()[0];
  int64_t bits = std::max(typeOf(lhs).getElementTypeBitWidth(),
                          typeOf(weight).getElementTypeBitWidth());
  int64_t size = std::gcd(inSize, 8 * kLoadBytes / bits);
  while (size > 1 && !(isRowOfBlocks(lhs, size) && isRowOfBlocks(weight, size)))
    size /= 2;
  return std::max<int64_t>(size, 1);
}

/// `count` outputs of a row from `firstOutput` on.
void ThreadProduct::emitOutputs(Row row, Value firstOutput, int64_t count,
                                int64_t size) {
  auto at = [&](Value neighbours, int64_t place) -> Value {
    if (size == 1)
      return neighbours;
    return vector::ExtractOp::create(b, neighbours, place);
  };
  SmallVector<Value> outputs;
  for (int64_t i = 0; i < count; ++i)
    outputs.push_back(emit.add(firstOutput, emit.index(i)));
  SmallVector<Value> zeros(count, emit.real(0.0));
  auto loop = scf::ForOp::create(
      b, emit.index(0), emit.index(inSize), emit.index(size), zeros,
      [&](OpBuilder &, Location, Value place, ValueRange carried) {
        Value x =
            loadNeighbours(b, emit, op.getLhs()[0], {row.number, place}, size);
        SmallVector<Value> sums(carried);
        for (auto [sum, output] : llvm::zip(sums, outputs)) {
          Value w = loadNeighbours(b, emit, op.getWeights()[0],
                                   {row.expert, output, place}, size);
          for (int64_t i = 0; i < size; ++i)
            sum = emit.multiplyAdd(at(x, i), at(w, i), sum);
        }
        scf::YieldOp::create(b, sums);
      });
  for (auto [output, sum] : llvm::zip(outputs, loop.getResults()))
    finish(row, output, sum);
}

void ThreadProduct::runInThread() {
  Value rows = emit.dim(op.getInit(), 0), zero = emit.index(0);
  int64_t size = getVectorSize();
  if (size == 0) {
    emit.loop(zero, rows, [&](Value number) {
      emitRow(number, [&](Row row) {
        emit.loop(zero, emit.index(outSize), [&](Value output) {
          finish(row, output, emitSums(row, output));
        });
      });
    });
    return;
  }
  if (size > 1)
    for (Value view : {op.getLhs()[0], op.getWeights()[0]})
      assertAligned(b, op, view,
                    size * typeOf(view).getElementTypeBitWidth() / 8);
  auto emitAll = [&](Value number) {
    Row row = {number, zero};
    int64_t whole = outSize / kOutputsAtOnce * kOutputsAtOnce;
    if (whole == kOutputsAtOnce)
      emitOutputs(row, zero, whole, size);
    else if (whole > 0)
      scf::ForOp::create(b, zero, emit.index(whole), emit.index(kOutputsAtOnce),
                         ValueRange(),
                         [&](OpBuilder &, Location, Value first, ValueRange) {
                           emitOutputs(row, first, kOutputsAtOnce, size);
                           scf::YieldOp::create(b);
                         });
    if (whole < outSize)
      emitOutputs(row, emit.index(whole), outSize - whole, size);
  };
  if (typeOf(op.getInit()).getDimSize(0) == 1)
    return emitAll(zero);
  emit.loop(zero, rows, [&](Value number) { emitAll(number); });
}

void ThreadProduct::run() {
  if (op->getParentOfType<scf::ForallOp>())
    return runInThread();
  int64_t fewRows = mayHaveFewRows ? emitFewRows(b, op) : 0;
  emit.threads(
      op, {emit.dim(op.getInit(), 0), emit.index(outSize)}, [&](ValueRange at) {
        Value output = at[1];
        emitRow(at[0], [&](Row row) {
          auto emitOutput = [&] { finish(row, output, emitSums(row, output)); };
          if (fewRows > 0)
            emit.when(emitIsMore(row, fewRows), emitOutput);
          else
            emitOutput();
        });
      });
}

struct GroupedMatmulPattern : public OpRewritePattern<GroupedMatmulOp> {
  GroupedMatmulPattern(MLIRContext *context, const ProductOptions &options)
      : OpRewritePattern(context), options(options) {}

  LogicalResult matchAndRewrite(GroupedMatmulOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0)
      return rewriter.notifyMatchFailure(op, "is on tensors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    ThreadProduct(b, op, options.mayHaveFewRows).run();
    rewriter.eraseOp(op);
    return success();
  }

  ProductOptions options;
};

} // namespace

void moe::populateGroupedMatmulToThreadsPatterns(
    RewritePatternSet &patterns, const ProductOptions &options) {
  patterns.add<GroupedMatmulPattern>(patterns.getContext(), options);
}
