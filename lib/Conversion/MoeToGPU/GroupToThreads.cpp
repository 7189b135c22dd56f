//===- GroupToThreads.cpp - Counts, sums, places -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A stable counting sort without atomics. Tokens come in chunks; a thread
// counts one expert's assignments in one chunk, a thread an expert sums over
// chunks, one thread over experts, and each assignment then finds its place:
// the start of the expert, what earlier chunks have of it, and what its own
// chunk has before it. Where experts choose, each counts its own row instead.
//
//===----------------------------------------------------------------------===//

#include "MoeToGPU.h"
#include "ThreadEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Tokens in a chunk: what one thread counts, and at most looks back on.
constexpr int64_t kChunk = 32;

class Grouping {
public:
  Grouping(ImplicitLocOpBuilder &b, GroupOp op)
      : b(b), emit(b, b.getF32Type()), op(op) {
    offsets = op.getOffsetsInit();
    first = op.getFirstInit();
    rows = emit.dim(op.getIds(), 0);
    columns = emit.dim(op.getIds(), 1);
    numExperts = emit.index(op.getNumExperts());
    zero = emit.index(0);
    one = emit.index(1);
  }

  void byToken();
  void byExpert();

private:
  using Visit = llvm::function_ref<Value(Value row, Value column, Value id,
                                         Value carried)>;

  Value loadId(Value row, Value column) {
    return memref::LoadOp::create(b, op.getIds(), ValueRange{row, column});
  }
  /// Carries an index over the ids of rows [begin, end), row after row.
  Value overIds(Value begin, Value end, Value init, Visit visit);
  /// `carried`, or one more where the condition holds.
  Value countIf(Value condition, Value carried) {
    return arith::SelectOp::create(b, condition, emit.add(carried, one),
                                   carried);
  }
  Value isEqual(Value x, Value y) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::eq, x, y);
  }
  Value asId(Value index) {
    return arith::IndexCastOp::create(b, b.getI32Type(), index);
  }
  /// One thread: counts at list[i + 1] become starts, list[0] is 0.
  void sumUp(Value list, Value count);
  void oneThread(llvm::function_ref<void()> body) {
    emit.threads(op, {one}, [&](ValueRange) { body(); });
  }
  /// A number for each chunk and expert.
  Value makeTable(Value chunks) {
    int64_t experts = op.getNumExperts();
    auto type =
        MemRefType::get({ShapedType::kDynamic, experts}, b.getI32Type());
    return memref::AllocOp::create(b, type, ValueRange{chunks});
  }
  /// As many numbers as another list has.
  Value makeList(Value other) {
    auto type = MemRefType::get({ShapedType::kDynamic}, b.getI32Type());
    return memref::AllocOp::create(b, type, ValueRange{emit.dim(other, 0)});
  }
  Value flat(Value row, Value column) {
    return emit.add(emit.mul(row, columns), column);
  }
  void place(Value at, Value token, Value row, Value column);
  void placeTokens(Value table);

  ImplicitLocOpBuilder &b;
  ThreadEmitter emit;
  GroupOp op;
  Value offsets, first, rows, columns, numExperts, zero, one;
};

Value Grouping::overIds(Value begin, Value end, Value init, Visit visit) {
  return emit.loop(
      begin, end, init, [&](Value row, ValueRange outer) -> SmallVector<Value> {
        return emit.loop(
            zero, columns, outer, [&](Value column, ValueRange carried) {
              Value id = loadId(row, column);
              return SmallVector<Value>{visit(row, column, id, carried[0])};
            });
      })[0];
}

void Grouping::sumUp(Value list, Value count) {
  emit.storeIndex(zero, list, zero);
  emit.loop(zero, count, zero,
            [&](Value place, ValueRange sum) -> SmallVector<Value> {
              Value next = emit.add(place, one);
              Value total = emit.add(sum[0], emit.loadIndex(list, next));
              emit.storeIndex(total, list, next);
              return {total};
            });
}

/// Writes what stands at place `at` in expert order.
void Grouping::place(Value at, Value token, Value row, Value column) {
  emit.storeIndex(token, op.getTokenInit(), at);
  if (!op.getWeights())
    return;
  Value weight =
      memref::LoadOp::create(b, op.getWeights(), ValueRange{row, column});
  memref::StoreOp::create(b, weight, op.getWeightInit(), at);
}

/// A thread an assignment: where it lies, and its token's last one where those
/// of the next token begin. table[c, e] is how many of expert e the chunks
/// before c have.
void Grouping::placeTokens(Value table) {
  emit.threads(op, {rows, columns}, [&](ValueRange at) {
    Value token = at[0], column = at[1], size = emit.index(kChunk);
    Value chunk = arith::DivUIOp::create(b, token, size);
    Value start = emit.mul(chunk, size);
    Value id = loadId(token, column);
    Value isOne = emit.isBelow(id, numExperts);
    // Of the chunk, and of the token, up to this one.
    auto upToHere = [&](Value init, llvm::function_ref<Value(Value)> counts) {
      Value inChunk =
          overIds(start, token, init, [&](Value, Value, Value id, Value count) {
            return countIf(counts(id), count);
          });
      return emit.loop(
          zero, column, inChunk,
          [&](Value other, ValueRange count) -> SmallVector<Value> {
            return {countIf(counts(loadId(token, other)), count[0])};
          })[0];
    };
    Value slot = emit.loop(
        zero, numExperts, zero,
        [&](Value expert, ValueRange sum) -> SmallVector<Value> {
          return {emit.add(sum[0], emit.loadIndex(table, {chunk, expert}))};
        })[0];
    slot = upToHere(
        slot, [&](Value other) { return emit.isBelow(other, numExperts); });
    emit.when(isOne, [&] {
      Value expert = arith::IndexCastOp::create(b, b.getIndexType(), id);
      Value rank = upToHere(emit.loadIndex(table, {chunk, expert}),
                            [&](Value other) { return isEqual(other, id); });
      Value to = emit.add(emit.loadIndex(offsets, expert), rank);
      place(to, token, token, column);
      emit.storeIndex(to, op.getSlotInit(), slot);
    });
    Value next = emit.add(column, one);
    Value isLast =
        arith::CmpIOp::create(b, arith::CmpIPredicate::eq, next, columns);
    emit.when(isLast, [&] {
      emit.storeIndex(countIf(isOne, slot), first, emit.add(token, one));
    });
  });
}

void Grouping::byToken() {
  Value size = emit.index(kChunk);
  Value chunks = arith::CeilDivUIOp::create(b, rows, size);
  Value table = makeTable(chunks);
  emit.threads(op, {chunks, numExperts}, [&](ValueRange at) {
    Value start = emit.mul(at[0], size);
    Value end = arith::MinUIOp::create(b, emit.add(start, size), rows);
    Value expert = asId(at[1]);
    Value count =
        overIds(start, end, zero, [&](Value, Value, Value id, Value count) {
          return countIf(isEqual(id, expert), count);
        });
    emit.storeIndex(count, table, at);
  });
  emit.threads(op, {numExperts}, [&](ValueRange at) {
    Value total =
        emit.loop(zero, chunks, zero,
                  [&](Value chunk, ValueRange sum) -> SmallVector<Value> {
                    Value count = emit.loadIndex(table, {chunk, at[0]});
                    emit.storeIndex(sum[0], table, {chunk, at[0]});
                    return {emit.add(sum[0], count)};
                  })[0];
    emit.storeIndex(total, offsets, emit.add(at[0], one));
  });
  oneThread([&] {
    sumUp(offsets, numExperts);
    emit.storeIndex(zero, first, zero);
  });
  placeTokens(table);
}

void Grouping::byExpert() {
  Value tokens = emit.sub(emit.dim(first, 0), one);
  emit.threads(op, {numExperts}, [&](ValueRange at) {
    Value next = emit.add(at[0], one);
    Value count =
        overIds(at[0], next, zero, [&](Value, Value, Value id, Value count) {
          return countIf(emit.isBelow(id, tokens), count);
        });
    emit.storeIndex(count, offsets, next);
  });
  emit.threads(op, {tokens}, [&](ValueRange at) {
    Value token = asId(at[0]);
    Value count =
        overIds(zero, rows, zero, [&](Value, Value, Value id, Value count) {
          return countIf(isEqual(id, token), count);
        });
    emit.storeIndex(count, first, emit.add(at[0], one));
  });
  oneThread([&] {
    sumUp(offsets, numExperts);
    sumUp(first, tokens);
  });
  // An expert's assignments lie in token order.
  Value table = makeList(op.getTokenInit());
  emit.threads(op, {rows, columns}, [&](ValueRange at) {
    Value id = loadId(at[0], at[1]);
    emit.when(emit.isBelow(id, tokens), [&] {
      Value begin = emit.loadIndex(offsets, at[0]);
      Value to = overIds(
          at[0], emit.add(at[0], one), begin,
          [&](Value, Value column, Value other, Value count) {
            Value less =
                arith::CmpIOp::create(b, arith::CmpIPredicate::ult, other, id);
            Value earlier = arith::CmpIOp::create(b, arith::CmpIPredicate::ult,
                                                  column, at[1]);
            Value tied = arith::AndIOp::create(b, isEqual(other, id), earlier);
            return countIf(arith::OrIOp::create(b, less, tied), count);
          });
      Value token = arith::IndexCastOp::create(b, b.getIndexType(), id);
      place(to, token, at[0], at[1]);
      emit.storeIndex(to, table, flat(at[0], at[1]));
    });
  });
  emit.threads(op, {tokens}, [&](ValueRange at) {
    Value token = asId(at[0]);
    overIds(zero, rows, emit.loadIndex(first, at[0]),
            [&](Value row, Value column, Value id, Value next) {
              Value isOwn = isEqual(id, token);
              emit.when(isOwn, [&] {
                emit.storeIndex(emit.loadIndex(table, flat(row, column)),
                                op.getSlotInit(), next);
              });
              return countIf(isOwn, next);
            });
  });
}

struct GroupPattern : public OpRewritePattern<GroupOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0)
      return rewriter.notifyMatchFailure(op, "is on tensors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    Grouping grouping(b, op);
    if (op.getChoice() == Choice::token)
      grouping.byToken();
    else
      grouping.byExpert();
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateGroupToThreadsPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupPattern>(patterns.getContext());
}
