//===- LossGradientThreads.cpp - Slopes of losses, an iteration a token -- ===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The same slopes as in LossGradients.cpp, for threads that share nothing. What
// all tokens of a group have in common comes from its sums, a row an iteration;
// a token's row, or a number of it, is an iteration's.
//

#include "Losses.h"
#include "Lowering.h"
#include "Patterns.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// A row [R] of a table for each group, by its tokens' number as a float.
Value emitGroupRows(
    ImplicitLocOpBuilder &b, GroupFolds &folds, int64_t width,
    FloatType compute,
    llvm::function_ref<Value(Value group, Value numTokens)> list) {
  return emitRows(
      b, folds.emitTable(width, compute), [&](Value group, Value part) {
        Value numTokens =
            arith::SIToFPOp::create(b, compute, folds.getNumTokens(group));
        return emitInsertRow(b, list(group, numTokens), part,
                             b.getIndexAttr(0));
      });
}

class AuxLossVJPThreads final : public AuxLossSlopes {
public:
  AuxLossVJPThreads(ImplicitLocOpBuilder &b, AuxLossVJPOp op)
      : AuxLossSlopes(b, op),
        folds(b, op.getOperationName(), offsets, mask, emitDim(b, scores, 0)) {}

  Value emit();

private:
  /// A table of the slopes that a group's tokens share, or null.
  Value emitSlopeTable();
  Value emitTokenBalance(Value dest);
  /// The same for every token of a group.
  Value writeAll(Value slopes, Value dest);
  /// Rows of the tokens that take part.
  Value writeRows(Value dest, llvm::function_ref<Value(const Row &row)> write);
  Value getNumTokens(Value token) {
    return asFloat(folds.getNumTokens(folds.getGroup(token)));
  }

  GroupFolds folds;
  Value factor;
};

Value AuxLossVJPThreads::emit() {
  Value dest = emitZeroGradients(op)[0];
  factor = emitFactorOfGroups(folds, op.getCotangent(), op.getCoefficient());
  switch (op.getKind()) {
  case AuxLossKind::balance:
  case AuxLossKind::first_place:
  case AuxLossKind::importance:
  case AuxLossKind::l1_balance:
    return writeAll(emitSlopeTable(), dest);
  case AuxLossKind::second_place: {
    Value slopes = emitSlopeTable();
    return writeRows(dest, [&](const Row &row) {
      return emitSecondPlaceRow(
          row, emitSliceRow(b, slopes, folds.getGroup(row.token)));
    });
  }
  case AuxLossKind::z:
  case AuxLossKind::trimmed_lasso:
  case AuxLossKind::entropy:
    if (hasNoTerms())
      return dest;
    return writeRows(dest, [&](const Row &row) {
      return emitTermRow(row, emitTermScale(getNumTokens(row.token), factor));
    });
  case AuxLossKind::token_balance:
    return emitTokenBalance(dest);
  }
  llvm_unreachable("all kinds are covered");
}

Value AuxLossVJPThreads::emitSlopeTable() {
  AuxLossKind kind = op.getKind();
  Value table;
  if (kind == AuxLossKind::importance)
    table = emitScoreTable(folds);
  else if (kind == AuxLossKind::l1_balance)
    table = emitOpenTable(folds);
  auto [first, last] = getSlots(op);
  if (!table)
    table = emitCountTable(folds, first, last);
  return emitGroupRows(
      b, folds, width, compute, [&, last = last](Value group, Value numTokens) {
        Value list = emitSliceRow(b, table, group);
        if (kind == AuxLossKind::importance)
          return emitVariationGradient(list, op.getUnbiased(),
                                       op.getEpsOrZero(), factor);
        if (kind == AuxLossKind::l1_balance)
          return emitOpenSlopes(list, numTokens, factor);
        return emitCountSlopes(list, last, numTokens, factor);
      });
}

Value AuxLossVJPThreads::writeAll(Value slopes, Value dest) {
  return emitNumbers(b, dest, [&](Value token, Value expert) {
    return folds.emitWhereLive(
        token, constant(0.0), [&]() -> SmallVector<Value> {
          return {emitRead(b, slopes, {folds.getGroup(token), expert})};
        })[0];
  });
}

Value AuxLossVJPThreads::writeRows(
    Value dest, llvm::function_ref<Value(const Row &row)> write) {
  return emitRows(b, dest, [&](Value token, Value part) {
    return folds.emitWhereLive(token, part, [&]() -> SmallVector<Value> {
      return {write({token, part, emitIndex(b, 0)})};
    })[0];
  });
}

/// p_te (h_t - sum_u h_u p_ue), as in LossGradients.cpp.
Value AuxLossVJPThreads::emitTokenBalance(Value dest) {
  Value shares = emitShareTable(folds), zero = emitIndex(b, 0);
  Value pulls = emitEmpty(
      b, {getAsOpFoldResult(folds.getCountOfTokens()), b.getIndexAttr(1)},
      compute);
  pulls = emitNumbers(b, pulls, [&](Value token, Value) {
    return mul(emitBalanceScale(getNumTokens(token), factor),
               emitMeanShare(shares, zero, token));
  });
  auto readPull = [&](Value token) {
    return emitRead(b, pulls, {token, zero});
  };
  Value means = folds.emitSums(width, compute, [&](Value token, Value expert) {
    return mul(emitRead(b, shares, {token, expert}), readPull(token));
  });
  return emitNumbers(b, dest, [&](Value token, Value expert) {
    return folds.emitWhereLive(
        token, constant(0.0), [&]() -> SmallVector<Value> {
          Value mean = emitRead(b, means, {folds.getGroup(token), expert});
          return {mul(emitRead(b, shares, {token, expert}),
                      sub(readPull(token), mean))};
        })[0];
  });
}

class AuxLossVJPThreadLowering final : public Lowering<AuxLossVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(AuxLossVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {AuxLossVJPThreads(b, op).emit()};
  }
};

class LoadLossVJPThreads final : public LoadSlopes {
public:
  using LoadSlopes::LoadSlopes;

  SmallVector<Value> emit(LoadLossVJPOp op) {
    GroupFolds folds(b, op.getOperationName(), offsets, mask,
                     emitDim(b, clean, 0));
    SmallVector<Value> dests = emitZeroGradients(op);
    Value factor =
        emitFactorOfGroups(folds, op.getCotangent(), op.getCoefficient());
    Value loads = emitLoadTable(folds);
    Value slopes =
        emitGroupRows(b, folds, width, compute, [&](Value group, Value) {
          return emitSlopes(emitSliceRow(b, loads, group), factor);
        });
    return emitRows(b, dests, [&](Value token, ValueRange parts) {
      return folds.emitWhereLive(token, parts, [&] {
        Value own = emitSliceRow(b, slopes, folds.getGroup(token));
        return emitToken(token, own, parts, emitIndex(b, 0));
      });
    });
  }
};

class LoadLossVJPThreadLowering final : public Lowering<LoadLossVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(LoadLossVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    return LoadLossVJPThreads(b, op).emit(op);
  }
};

} // namespace

void tolinalg::addLossGradientThreadPatterns(RewritePatternSet &patterns) {
  patterns.add<AuxLossVJPThreadLowering, LoadLossVJPThreadLowering>(
      patterns.getContext(), /*benefit=*/2);
}
