//===- LossThreads.cpp - Losses, sums by chunks of tokens -----------------
//===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The same losses as in Losses.cpp and Training.cpp, for threads that share
// nothing: a term of a token is an iteration's, sums over tokens are
// GroupFolds, and what follows from a group's sums is one iteration's again.
//

#include "Losses.h"
#include "Lowering.h"
#include "Patterns.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Conversion/MoeToLinalg.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

//===----------------------------------------------------------------------===//
// What losses and their gradients share
//===----------------------------------------------------------------------===//

Value LossEmitter::emitMeanOfGroups(
    ReifyRankedShapedTypeOpInterface op, GroupFolds &folds,
    const APFloat &coefficient,
    llvm::function_ref<Value(Value group, Value numTokens)> body) {
  Value zero = emitIndex(b, 0);
  Value losses =
      emitNumbers(b, folds.emitTable(1, compute), [&](Value group, Value) {
        Value numTokens = folds.getNumTokens(group);
        return select(emitIsFull(numTokens), body(group, asFloat(numTokens)),
                      constant(0.0));
      });
  Value sum =
      emitLoop(b, zero, folds.getNumGroups(), constant(0.0),
               [&](Value group, ValueRange so) -> SmallVector<Value> {
                 return {add(so[0], emitRead(b, losses, {group, zero}))};
               })[0];
  return emitScaledMean(op, sum, emitNumFull(folds), coefficient);
}

/// How many groups have tokens, i32.
Value LossEmitter::emitNumFull(GroupFolds &folds) {
  return emitLoop(b, emitIndex(b, 0), folds.getNumGroups(), emitI32(b, 0),
                  [&](Value group, ValueRange so) -> SmallVector<Value> {
                    Value isFull = emitIsFull(folds.getNumTokens(group));
                    Value one =
                        arith::ExtUIOp::create(b, b.getI32Type(), isFull);
                    return {emitAdd(b, so[0], one)};
                  })[0];
}

Value LossEmitter::emitFactorOfGroups(GroupFolds &folds, Value cotangent,
                                      const APFloat &coefficient) {
  Value factor = emitFactor(cotangent, coefficient);
  return offsets ? div(factor, asFloat(emitNumFull(folds))) : factor;
}

Value ScoreSums::emitScoreTable(GroupFolds &folds) {
  return folds.emitSums(width, compute, [&](Value token, Value expert) {
    return readScore(token, expert);
  });
}

Value ScoreSums::emitCountTable(GroupFolds &folds, int64_t firstSlot,
                                int64_t lastSlot) {
  return folds.emitSlotCounts(ids, width, emitIndex(b, firstSlot),
                              emitIndex(b, lastSlot));
}

Value ScoreSums::emitOpenTable(GroupFolds &folds) {
  return folds.emitSums(width, compute, [&](Value token, Value expert) {
    Value isOpen = arith::CmpFOp::create(
        b, arith::CmpFPredicate::OGT, readScore(token, expert), constant(0.0));
    return select(isOpen, constant(1.0), constant(0.0));
  });
}

Value ScoreSums::emitShareTable(GroupFolds &folds) {
  return folds.emitShares(width, compute, [&](Value token, Value expert) {
    return readScore(token, expert);
  });
}

Value SmoothLoad::emitLoadTable(GroupFolds &folds) {
  Value zero = emitIndex(b, 0);
  Value chances = emitEmpty(
      b, {getAsOpFoldResult(folds.getCountOfTokens()), b.getIndexAttr(width)},
      compute);
  chances = emitRows(b, chances, [&](Value token, Value part) {
    Thresholds thresholds = emitThresholds(token);
    return emitLoop(b, zero, emitIndex(b, width), part,
                    [&](Value expert, ValueRange so) -> SmallVector<Value> {
                      Value chance =
                          emitChance(emitEntry(token, expert, thresholds));
                      return {emitWrite(b, chance, so[0], {zero, expert})};
                    })[0];
  });
  return folds.emitSums(width, compute, [&](Value token, Value expert) {
    return emitRead(b, chances, {token, expert});
  });
}

namespace {

//===----------------------------------------------------------------------===//
// AuxLossOp
//===----------------------------------------------------------------------===//

class AuxLossThreads final : public AuxLossFormulas {
public:
  AuxLossThreads(ImplicitLocOpBuilder &b, AuxLossOp op)
      : AuxLossFormulas(b, op),
        folds(b, op.getOperationName(), offsets, mask, emitDim(b, scores, 0)) {}

  Value emit();

private:
  Sums emitTables();
  /// Sums of a term of each token, which an iteration of its own makes.
  Value emitTermTable(llvm::function_ref<Value(Value token)> term);
  Value emitRestTable();
  Value emitTokenList() {
    Value numTokens = folds.getCountOfTokens();
    return emitEmpty(b, {getAsOpFoldResult(numTokens), b.getIndexAttr(1)},
                     compute);
  }

  GroupFolds folds;
};

Value AuxLossThreads::emit() {
  Sums tables = emitTables();
  return emitMeanOfGroups(
      op, folds, op.getCoefficient(), [&](Value group, Value numTokens) {
        Sums sums;
        if (tables.scores)
          sums.scores = emitSliceRow(b, tables.scores, group);
        if (tables.counts)
          sums.counts = emitSliceRow(b, tables.counts, group);
        if (tables.terms)
          sums.terms = emitRead(b, tables.terms, {group, emitIndex(b, 0)});
        return emitValue(sums, numTokens);
      });
}

AuxLossThreads::Sums AuxLossThreads::emitTables() {
  Sums tables;
  switch (op.getKind()) {
  case AuxLossKind::balance:
  case AuxLossKind::first_place:
  case AuxLossKind::second_place: {
    auto [first, last] = getSlots(op);
    bool isSecond = op.getKind() == AuxLossKind::second_place;
    tables.scores = isSecond ? emitRestTable() : emitScoreTable(folds);
    tables.counts = emitCountTable(folds, first, last);
    return tables;
  }
  case AuxLossKind::importance:
    tables.scores = emitScoreTable(folds);
    return tables;
  case AuxLossKind::z:
  case AuxLossKind::trimmed_lasso:
  case AuxLossKind::entropy:
    tables.terms = emitTermTable([&](Value token) { return emitTerm(token); });
    return tables;
  case AuxLossKind::token_balance: {
    Value shares = emitShareTable(folds);
    tables.terms = emitTermTable([&](Value token) {
      return square(emitMeanShare(shares, emitIndex(b, 0), token));
    });
    return tables;
  }
  case AuxLossKind::l1_balance:
    tables.scores = emitScoreTable(folds);
    tables.counts = emitOpenTable(folds);
    return tables;
  }
  llvm_unreachable("all kinds are covered");
}

Value AuxLossThreads::emitTermTable(
    llvm::function_ref<Value(Value token)> term) {
  Value zero = emitIndex(b, 0);
  // What a masked token has is not added.
  Value terms = emitNumbers(b, emitTokenList(),
                            [&](Value token, Value) { return term(token); });
  return folds.emitSums(1, compute, [&](Value token, Value) {
    return emitRead(b, terms, {token, zero});
  });
}

/// The shares of what the first slot's expert leaves of the scores.
Value AuxLossThreads::emitRestTable() {
  Value zero = emitIndex(b, 0);
  Value totals = emitNumbers(b, emitTokenList(), [&](Value token, Value) {
    return emitRestSum(token, emitFirst(token));
  });
  return folds.emitSums(width, compute, [&](Value token, Value expert) {
    return div(emitRest(token, expert, emitFirst(token)),
               emitRead(b, totals, {token, zero}));
  });
}

class AuxLossThreadLowering final : public Lowering<AuxLossOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(AuxLossOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {AuxLossThreads(b, op).emit()};
  }
};

//===----------------------------------------------------------------------===//
// LoadLossOp, ExpertLoadOp
//===----------------------------------------------------------------------===//

class LoadLossThreads final : public LoadFormula {
public:
  using LoadFormula::LoadFormula;

  Value emit(LoadLossOp op) {
    GroupFolds folds(b, op.getOperationName(), offsets, mask,
                     emitDim(b, clean, 0));
    Value loads = emitLoadTable(folds);
    return emitMeanOfGroups(op, folds, op.getCoefficient(),
                            [&](Value group, Value) {
                              return emitValue(emitSliceRow(b, loads, group));
                            });
  }
};

class LoadLossThreadLowering final : public Lowering<LoadLossOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(LoadLossOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {LoadLossThreads(b, op).emit(op)};
  }
};

class ExpertLoadThreadLowering final : public Lowering<ExpertLoadOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(ExpertLoadOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value ids = op.getIds(), weights = op.getWeights();
    Value dest = emitDestinations(b, op)[0];
    Value zero = emitIndex(b, 0), numSlots = emitDim(b, ids, 1);
    int64_t numExperts = op.getLoad().getType().getDimSize(0);
    GroupFolds folds(b, op.getOperationName(), /*offsets=*/Value(),
                     /*mask=*/Value(), emitDim(b, ids, 0));
    if (!weights) {
      Value counts = folds.emitSlotCounts(ids, numExperts, zero, numSlots);
      return {emitSliceRow(b, counts, b.getIndexAttr(0))};
    }
    FloatType compute = getComputeType(b, {weights, dest});
    auto add = [&](Value so, Value other) -> Value {
      return arith::AddFOp::create(b, so, other);
    };
    Value sums = folds.emitOfSlots(
        ids, numExperts, zero, numSlots, emitFloat(b, compute, 0.0),
        [&](Value token, Value slot, Value so) {
          Value weight = emitRead(b, weights, {token, slot});
          return add(so, emitConvert(b, weight, compute));
        },
        add);
    sums = emitSliceRow(b, sums, b.getIndexAttr(0));
    return {emitConvertInto(b, sums, dest)};
  }
};

} // namespace

void moe::populateLossThreadPatterns(RewritePatternSet &patterns) {
  // In front of those for CPUs.
  patterns.add<AuxLossThreadLowering, LoadLossThreadLowering,
               ExpertLoadThreadLowering>(patterns.getContext(), /*benefit=*/2);
  addLossGradientThreadPatterns(patterns);
}
