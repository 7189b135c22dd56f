//===- LossGradients.cpp - aux_loss_vjp, load_loss_vjp --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Losses.h"
#include "Lowering.h"
#include "Patterns.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

//===----------------------------------------------------------------------===//
// AuxLossSlopes
//===----------------------------------------------------------------------===//

Value AuxLossSlopes::writeRow(const Row &row,
                              llvm::function_ref<Value(Value expert)> value) {
  Type element = getElementType(row.dest);
  return emitLoop(b, emitIndex(b, 0), emitIndex(b, width), row.dest,
                  [&](Value expert, ValueRange so) -> SmallVector<Value> {
                    Value scalar = emitConvert(b, value(expert), element);
                    return {emitWrite(b, scalar, so[0], {row.place, expert})};
                  })[0];
}

/// factor R count_e / T^2.
Value AuxLossSlopes::emitCountSlopes(Value counts, int64_t lastSlot,
                                     Value numTokens, Value factor) {
  double scale = static_cast<double>(width);
  if (op.getPerSlot())
    scale /= static_cast<double>(lastSlot);
  Value slope = div(mul(factor, constant(scale)), square(numTokens));
  return emitExperts([&](Value expert) {
    return mul(slope, asFloat(emitRead(b, counts, expert)));
  });
}

/// factor R c_e / (k T^2).
Value AuxLossSlopes::emitOpenSlopes(Value open, Value numTokens, Value factor) {
  double ratio = static_cast<double>(width) / static_cast<double>(*op.getK());
  Value slope = div(mul(factor, constant(ratio)), square(numTokens));
  return emitExperts(
      [&](Value expert) { return mul(slope, emitRead(b, open, expert)); });
}

/// (a_e - sum_j a_j q_j) / sum of the rest, q the shares of the rest.
Value AuxLossSlopes::emitSecondPlaceRow(const Row &row, Value slopes) {
  Value first = emitFirst(row.token);
  Value total = emitRestSum(row.token, first);
  Value dot = emitSum([&](Value expert) {
    return mul(emitRead(b, slopes, expert), emitRest(row.token, expert, first));
  });
  Value mean = div(dot, total);
  return writeRow(row, [&](Value expert) {
    Value isFirst = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                          emitToI32(b, expert), first);
    Value slope = div(sub(emitRead(b, slopes, expert), mean), total);
    return select(isFirst, constant(0.0), slope);
  });
}

Value AuxLossSlopes::emitTermScale(Value numTokens, Value factor) {
  switch (op.getKind()) {
  case AuxLossKind::z:
    return div(mul(constant(2.0), factor), numTokens);
  case AuxLossKind::trimmed_lasso:
    return div(factor, numTokens);
  case AuxLossKind::entropy:
    return div(sub(constant(0.0), factor), numTokens);
  default:
    llvm_unreachable("is no mean of terms");
  }
}

Value AuxLossSlopes::emitTermRow(const Row &row, Value scale) {
  switch (op.getKind()) {
  case AuxLossKind::z:
    return emitZRow(row, scale);
  case AuxLossKind::trimmed_lasso:
    return emitTailRow(row, scale);
  case AuxLossKind::entropy:
    return emitEntropyRow(row, scale);
  default:
    llvm_unreachable("is no mean of terms");
  }
}

/// 2 logsumexp softmax / T.
Value AuxLossSlopes::emitZRow(const Row &row, Value scale) {
  auto [shift, sum] = emitPowerSum(row.token);
  Value logSum = add(shift, math::LogOp::create(b, sum));
  Value slope = div(mul(scale, logSum), sum);
  return writeRow(row, [&, shift = shift](Value expert) {
    Value distance = sub(readScore(row.token, expert), shift);
    return mul(slope, math::ExpOp::create(b, distance));
  });
}

Value AuxLossSlopes::emitTailRow(const Row &row, Value scale) {
  Last last = emitLast(row.token, static_cast<int64_t>(*op.getK()));
  return writeRow(row, [&](Value expert) {
    return select(emitIsOutside(last, row.token, expert), scale, constant(0.0));
  });
}

Value AuxLossSlopes::emitEntropyRow(const Row &row, Value scale) {
  return writeRow(row, [&](Value expert) {
    Value p = readScore(row.token, expert);
    Value log = add(math::LogOp::create(b, p), constant(1.0));
    return select(isEqual(p, constant(0.0)), constant(0.0), mul(scale, log));
  });
}

Value AuxLossSlopes::emitBalanceScale(Value numTokens, Value factor) {
  return mul(mul(factor, constant(2.0 / static_cast<double>(width))),
             numTokens);
}

//===----------------------------------------------------------------------===//
// LoadSlopes
//===----------------------------------------------------------------------===//

std::pair<Value, Value> LoadSlopes::emitEntrySlopes(const Entry &entry,
                                                    Value slope) {
  constexpr double kBellTop = 0.39894228040143267794; // 1 / sqrt(2 pi)
  Value z = div(sub(entry.clean, entry.threshold), entry.sigma);
  Value power = math::ExpOp::create(b, mul(constant(-0.5), square(z)));
  Value density = div(mul(constant(kBellTop), power), entry.sigma);
  Value isConstant = arith::OrIOp::create(b, entry.isNever, entry.isAlways);
  Value own = select(isConstant, constant(0.0), mul(slope, density));
  Value spread =
      select(isConstant, constant(0.0), sub(constant(0.0), mul(own, z)));
  return {own, spread};
}

SmallVector<Value> LoadSlopes::emitToken(Value token, Value slopes,
                                         ValueRange dests, Value place) {
  Thresholds thresholds = emitThresholds(token);
  auto write = [&](Value value, Value dest, Value expert) {
    return emitWrite(b, emitConvert(b, value, getElementType(dest)), dest,
                     {place, expert});
  };
  // Carried behind the destinations: what the two thresholds are given.
  SmallVector<Value> inits(dests);
  inits.append(2, constant(0.0));
  SmallVector<Value> results =
      emitLoop(b, emitIndex(b, 0), emitIndex(b, width), inits,
               [&](Value expert, ValueRange so) {
                 Entry entry = emitEntry(token, expert, thresholds);
                 auto [own, spread] =
                     emitEntrySlopes(entry, emitRead(b, slopes, expert));
                 SmallVector<Value> next(so);
                 next[0] = write(own, so[0], expert);
                 if (sigma)
                   next[2] = write(spread, so[2], expert);
                 Value &first = next[dests.size()];
                 Value &second = next[dests.size() + 1];
                 if (!entry.isSecond) {
                   first = sub(first, own);
                   return next;
                 }
                 first = select(entry.isSecond, first, sub(first, own));
                 second = select(entry.isSecond, sub(second, own), second);
                 return next;
               });
  for (int64_t next : {0, 1})
    if (k - 1 + next < width)
      results[1] = write(results[dests.size() + next], results[1],
                         emitToIndex(b, thresholds.ids[next]));
  results.resize(dests.size());
  return results;
}

namespace {

//===----------------------------------------------------------------------===//
// AuxLossVJPOp
//===----------------------------------------------------------------------===//

class AuxLossVJP final : public AuxLossSlopes {
public:
  using AuxLossSlopes::AuxLossSlopes;

  SmallVector<Value> emit() {
    return emitGradients(
        op, op.getCotangent(), op.getCoefficient(),
        [&](Value begin, Value count, Value numTokens, Value factor,
            ValueRange dests) -> SmallVector<Value> {
          return {emitGroup({begin, count, numTokens}, factor, dests[0])};
        });
  }

private:
  struct Group {
    Value begin, count;
    Value numTokens; ///< That take part, a float.
  };

  Value emitGroup(const Group &group, Value factor, Value dest);
  /// Writes one list [R] to the tokens that take part.
  Value writeAll(const Group &group, Value list, Value dest);
  Value emitCountSlopesOf(const Group &group, Value factor);
  Value emitTerms(const Group &group, Value factor, Value dest);
  Value emitTokenBalance(const Group &group, Value factor, Value dest);
};

Value AuxLossVJP::writeAll(const Group &group, Value list, Value dest) {
  Value row = emitConvertTensor(b, list, getElementType(dest));
  return emitLiveLoop(group.begin, group.count, dest,
                      [&](Value token, Value carried) {
                        return emitInsertRow(b, row, carried, token);
                      });
}

Value AuxLossVJP::emitCountSlopesOf(const Group &group, Value factor) {
  auto [first, last] = getSlots(op);
  Value counts = emitCounts(group.begin, group.count, emitIndex(b, first),
                            emitIndex(b, last));
  return emitCountSlopes(counts, last, group.numTokens, factor);
}

Value AuxLossVJP::emitTerms(const Group &group, Value factor, Value dest) {
  if (hasNoTerms())
    return dest;
  Value scale = emitTermScale(group.numTokens, factor);
  return emitLiveLoop(group.begin, group.count, dest,
                      [&](Value token, Value carried) {
                        return emitTermRow({token, carried, token}, scale);
                      });
}

/// p_te (h_t - sum_u h_u p_ue) with h_t = 2 T / R mean_e(p_te).
Value AuxLossVJP::emitTokenBalance(const Group &group, Value factor,
                                   Value dest) {
  Value shares = emitTokenShares(group.begin, group.count);
  Value scale = emitBalanceScale(group.numTokens, factor);
  auto slopeOf = [&](Value token) {
    return mul(scale, emitMeanShare(shares, group.begin, token));
  };
  auto rowOf = [&](Value token) {
    return emitSliceRow(b, shares, emitSub(b, token, group.begin));
  };
  Value means = emitLiveLoop(
      group.begin, group.count, emitZeros(), [&](Value token, Value sums) {
        Value slope = slopeOf(token);
        return emitAccumulate(b, rowOf(token), sums,
                              [&](Value share, Value sum) {
                                return add(sum, mul(share, slope));
                              });
      });
  return emitLiveLoop(
      group.begin, group.count, dest, [&](Value token, Value carried) {
        Value slope = slopeOf(token), row = rowOf(token);
        return writeRow({token, carried, token}, [&](Value expert) {
          return mul(emitRead(b, row, expert),
                     sub(slope, emitRead(b, means, expert)));
        });
      });
}

Value AuxLossVJP::emitGroup(const Group &group, Value factor, Value dest) {
  switch (op.getKind()) {
  case AuxLossKind::balance:
  case AuxLossKind::first_place:
    return writeAll(group, emitCountSlopesOf(group, factor), dest);
  case AuxLossKind::second_place: {
    Value slopes = emitCountSlopesOf(group, factor);
    return emitLiveLoop(
        group.begin, group.count, dest, [&](Value token, Value carried) {
          return emitSecondPlaceRow({token, carried, token}, slopes);
        });
  }
  case AuxLossKind::importance: {
    Value sums = emitScoreSums(group.begin, group.count);
    return writeAll(group,
                    emitVariationGradient(sums, op.getUnbiased(),
                                          op.getEpsOrZero(), factor),
                    dest);
  }
  case AuxLossKind::z:
  case AuxLossKind::trimmed_lasso:
  case AuxLossKind::entropy:
    return emitTerms(group, factor, dest);
  case AuxLossKind::token_balance:
    return emitTokenBalance(group, factor, dest);
  case AuxLossKind::l1_balance: {
    Value open = emitOpenCounts(group.begin, group.count);
    return writeAll(group, emitOpenSlopes(open, group.numTokens, factor), dest);
  }
  }
  llvm_unreachable("all kinds are covered");
}

class AuxLossVJPLowering final : public Lowering<AuxLossVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(AuxLossVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    return AuxLossVJP(b, op).emit();
  }
};

//===----------------------------------------------------------------------===//
// LoadLossVJPOp
//===----------------------------------------------------------------------===//

class LoadLossVJP final : public LoadSlopes {
public:
  using LoadSlopes::LoadSlopes;

  SmallVector<Value> emit(LoadLossVJPOp op) {
    return emitGradients(
        op, op.getCotangent(), op.getCoefficient(),
        [&](Value begin, Value count, Value, Value factor, ValueRange dests) {
          Value slopes = emitSlopes(emitLoad(begin, count), factor);
          return emitLoop(
              b, begin, emitAdd(b, begin, count), dests,
              [&](Value token, ValueRange so) {
                auto body = [&] { return emitToken(token, slopes, so, token); };
                if (!mask)
                  return body();
                return emitIf(b, emitRead(b, mask, token), so, body);
              });
        });
  }
};

class LoadLossVJPLowering final : public Lowering<LoadLossVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(LoadLossVJPOp op,
                          ImplicitLocOpBuilder &b) const override {
    return LoadLossVJP(b, op).emit(op);
  }
};

} // namespace

void tolinalg::addLossGradientPatterns(RewritePatternSet &patterns) {
  patterns.add<AuxLossVJPLowering, LoadLossVJPLowering>(patterns.getContext());
}
