//===- GroupToLoops.cpp - moe.group on buffers ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeToCPU.h"
#include "VectorEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Dialect/Moe/IR/Moe.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Counting sort by expert and by token, on i32 lists. A list of starts serves
/// as its own cursors: after a pass that advances them, every start has become
/// the next one, and a shift by one place restores the list.
class Grouping {
public:
  Grouping(ImplicitLocOpBuilder &b, GroupOp op)
      : b(b), emit(b, b.getF32Type()), op(op), numExperts(op.getNumExperts()) {}

  void run();

private:
  using IdBody =
      llvm::function_ref<void(Value chooser, Value slot, Value id, Value flat)>;

  Value constant(int64_t value) {
    return arith::ConstantOp::create(b, b.getI32IntegerAttr(value));
  }
  Value asI32(Value index) {
    return arith::IndexCastOp::create(b, b.getI32Type(), index);
  }
  Value asIndex(Value value) {
    return arith::IndexCastOp::create(b, b.getIndexType(), value);
  }
  Value load(Value list, Value index) {
    return memref::LoadOp::create(b, list, index);
  }
  void store(Value value, Value list, Value index) {
    memref::StoreOp::create(b, value, list, index);
  }
  /// list[index] += 1, giving what it was.
  Value increment(Value list, Value index) {
    Value old = load(list, index);
    store(arith::AddIOp::create(b, old, constant(1)), list, index);
    return old;
  }
  /// Runs `body` where 0 <= id < limit.
  void ifIn(Value id, Value limit, llvm::function_ref<void()> body);
  void forEachId(Value limit, IdBody body);
  void clear(Value list, Value count);
  void startsFromCounts(Value list, Value count);
  void shiftBack(Value list, Value count);
  void assign(Value token, Value expert, Value flat, Value place);

  void groupByToken();
  void groupByExpert();

  ImplicitLocOpBuilder &b;
  VectorEmitter emit;
  GroupOp op;
  int64_t numExperts;
  Value choosers, slots, zero;
};

void Grouping::ifIn(Value id, Value limit, llvm::function_ref<void()> body) {
  // As unsigned, a negative id is past every limit.
  Value inside = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id, limit);
  auto conditional = scf::IfOp::create(b, inside, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(conditional.thenBlock());
  body();
}

/// Visits the ids in [0, limit) by chooser, then slot.
void Grouping::forEachId(Value limit, IdBody body) {
  emit.loop(zero, choosers, 1, [&](Value chooser) {
    emit.loop(zero, slots, 1, [&](Value slot) {
      Value id =
          memref::LoadOp::create(b, op.getIds(), ValueRange{chooser, slot});
      ifIn(id, limit, [&] {
        Value flat = arith::AddIOp::create(
            b, arith::MulIOp::create(b, chooser, slots), slot);
        body(chooser, slot, id, flat);
      });
    });
  });
}

void Grouping::clear(Value list, Value count) {
  emit.loop(zero, count, 1,
            [&](Value index) { store(constant(0), list, index); });
}

/// Counts at list[i + 1] become starts at list[i]; list[0] is 0.
void Grouping::startsFromCounts(Value list, Value count) {
  emit.loop(zero, count, 1, [&](Value index) {
    Value next = arith::AddIOp::create(b, index, emit.index(1));
    Value sum = arith::AddIOp::create(b, load(list, index), load(list, next));
    store(sum, list, next);
  });
}

void Grouping::shiftBack(Value list, Value count) {
  emit.loop(zero, count, 1, [&](Value step) {
    Value to = arith::SubIOp::create(b, count, step);
    Value from = arith::SubIOp::create(b, to, emit.index(1));
    store(load(list, from), list, to);
  });
  store(constant(0), list, zero);
}

/// Gives an assignment the next row of its expert and the next place of its
/// token; `place` is that place.
void Grouping::assign(Value token, Value expert, Value flat, Value place) {
  Value row = increment(op.getOffsetsInit(), expert);
  Value rowIndex = asIndex(row);
  store(asI32(token), op.getTokenInit(), rowIndex);
  store(row, op.getSlotInit(), place);
  if (!op.getWeights())
    return;
  Value chooser = arith::DivUIOp::create(b, flat, slots);
  Value slot = arith::RemUIOp::create(b, flat, slots);
  Value weight =
      memref::LoadOp::create(b, op.getWeights(), ValueRange{chooser, slot});
  store(weight, op.getWeightInit(), rowIndex);
}

void Grouping::groupByToken() {
  Value limit = constant(numExperts);
  Value offsets = op.getOffsetsInit(), first = op.getFirstInit();
  forEachId(limit, [&](Value, Value, Value id, Value) {
    Value next = arith::AddIOp::create(b, asIndex(id), emit.index(1));
    increment(offsets, next);
  });
  startsFromCounts(offsets, emit.index(numExperts));
  // Tokens come in order, so a token's end is the number placed so far.
  store(constant(0), first, zero);
  emit.loop(zero, choosers, 1, [&](Value token) {
    Value end = arith::AddIOp::create(b, token, emit.index(1));
    store(load(first, token), first, end);
    emit.loop(zero, slots, 1, [&](Value slot) {
      Value id =
          memref::LoadOp::create(b, op.getIds(), ValueRange{token, slot});
      ifIn(id, limit, [&] {
        Value flat = arith::AddIOp::create(
            b, arith::MulIOp::create(b, token, slots), slot);
        Value place = asIndex(increment(first, end));
        assign(token, asIndex(id), flat, place);
      });
    });
  });
}

void Grouping::groupByExpert() {
  Value offsets = op.getOffsetsInit(), first = op.getFirstInit();
  Value numTokens = arith::SubIOp::create(
      b, b.createOrFold<memref::DimOp>(first, 0), emit.index(1));
  Value limit = asI32(numTokens);
  clear(first, b.createOrFold<memref::DimOp>(first, 0));
  forEachId(limit, [&](Value expert, Value, Value id, Value) {
    increment(offsets, arith::AddIOp::create(b, expert, emit.index(1)));
    increment(first, arith::AddIOp::create(b, asIndex(id), emit.index(1)));
  });
  startsFromCounts(offsets, emit.index(numExperts));
  startsFromCounts(first, numTokens);
  // By token, in expert order; the slot list holds flat ids for the moment.
  forEachId(limit, [&](Value, Value, Value id, Value flat) {
    Value place = asIndex(increment(first, asIndex(id)));
    store(asI32(flat), op.getSlotInit(), place);
  });
  shiftBack(first, numTokens);
  emit.loop(zero, numTokens, 1, [&](Value token) {
    Value begin = asIndex(load(first, token));
    Value end =
        asIndex(load(first, arith::AddIOp::create(b, token, emit.index(1))));
    emit.loop(begin, end, 1, [&](Value place) {
      Value flat = asIndex(load(op.getSlotInit(), place));
      Value expert = arith::DivUIOp::create(b, flat, slots);
      assign(token, expert, flat, place);
    });
  });
}

void Grouping::run() {
  zero = emit.index(0);
  choosers = b.createOrFold<memref::DimOp>(op.getIds(), 0);
  slots = b.createOrFold<memref::DimOp>(op.getIds(), 1);
  clear(op.getOffsetsInit(), emit.index(numExperts + 1));
  if (op.getChoice() == Choice::token)
    groupByToken();
  else
    groupByExpert();
  shiftBack(op.getOffsetsInit(), emit.index(numExperts));
}

struct GroupPattern : public OpRewritePattern<GroupOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(GroupOp op,
                                PatternRewriter &rewriter) const override {
    if (op->getNumResults() > 0)
      return rewriter.notifyMatchFailure(op, "is on tensors");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    Grouping(b, op).run();
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void moe::populateGroupToLoopsPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupPattern>(patterns.getContext());
}
