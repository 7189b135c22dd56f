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

namespace {

//===----------------------------------------------------------------------===//
// AuxLossVJPOp
//===----------------------------------------------------------------------===//

class AuxLossVJP final : public ScoreSums {
public:
  AuxLossVJP(ImplicitLocOpBuilder &b, AuxLossVJPOp op)
      : ScoreSums(b, op,
                  getComputeType(b, {op.getScores(), op.getCotangent(),
                                     op.getGradient()})),
        op(op) {}

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
  /// Writes value(expert) to the row of a token.
  Value writeRow(Value token, Value dest,
                 llvm::function_ref<Value(Value expert)> value);

  Value emitCountSlopes(const Group &group, int64_t firstSlot, int64_t lastSlot,
                        Value factor);
  Value emitSecondPlace(const Group &group, Value factor, Value dest);
  Value emitZ(const Group &group, Value factor, Value dest);
  Value emitTail(const Group &group, Value factor, Value dest);
  Value emitEntropy(const Group &group, Value factor, Value dest);
  Value emitTokenBalance(const Group &group, Value factor, Value dest);
  Value emitL1Slopes(const Group &group, Value factor);

  AuxLossVJPOp op;
};

Value AuxLossVJP::writeAll(const Group &group, Value list, Value dest) {
  Value row = emitConvertTensor(b, list, getElementType(dest));
  return emitLiveLoop(group.begin, group.count, dest,
                      [&](Value token, Value carried) {
                        return emitInsertRow(b, row, carried, token);
                      });
}

Value AuxLossVJP::writeRow(Value token, Value dest,
                           llvm::function_ref<Value(Value expert)> value) {
  Type element = getElementType(dest);
  return emitLoop(b, emitIndex(b, 0), emitIndex(b, width), dest,
                  [&](Value expert, ValueRange so) -> SmallVector<Value> {
                    Value scalar = emitConvert(b, value(expert), element);
                    return {emitWrite(b, scalar, so[0], {token, expert})};
                  })[0];
}

/// factor R count_e / T^2, [R].
Value AuxLossVJP::emitCountSlopes(const Group &group, int64_t firstSlot,
                                  int64_t lastSlot, Value factor) {
  Value counts = emitCounts(group.begin, group.count, emitIndex(b, firstSlot),
                            emitIndex(b, lastSlot));
  double scale = static_cast<double>(width);
  if (op.getPerSlot())
    scale /= static_cast<double>(lastSlot);
  Value slope = div(mul(factor, constant(scale)), square(group.numTokens));
  return emitExperts([&](Value expert) {
    return mul(slope, asFloat(emitRead(b, counts, expert)));
  });
}

/// (a_e - sum_j a_j q_j) / sum of the rest, q the shares of the rest.
Value AuxLossVJP::emitSecondPlace(const Group &group, Value factor,
                                  Value dest) {
  Value slopes = emitCountSlopes(group, 1, 2, factor);
  return emitLiveLoop(
      group.begin, group.count, dest, [&](Value token, Value carried) {
        Value first = emitFirst(token);
        Value total = emitRestSum(token, first);
        Value dot = emitSum([&](Value expert) {
          return mul(emitRead(b, slopes, expert),
                     emitRest(token, expert, first));
        });
        Value mean = div(dot, total);
        return writeRow(token, carried, [&](Value expert) {
          Value isFirst = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                                emitToI32(b, expert), first);
          Value slope = div(sub(emitRead(b, slopes, expert), mean), total);
          return select(isFirst, constant(0.0), slope);
        });
      });
}

/// 2 logsumexp softmax / T.
Value AuxLossVJP::emitZ(const Group &group, Value factor, Value dest) {
  Value twice = div(mul(constant(2.0), factor), group.numTokens);
  return emitLiveLoop(
      group.begin, group.count, dest, [&](Value token, Value carried) {
        auto [shift, sum] = emitPowerSum(token);
        Value logSum = add(shift, math::LogOp::create(b, sum));
        Value slope = div(mul(twice, logSum), sum);
        return writeRow(token, carried, [&, shift = shift](Value expert) {
          Value distance = sub(readScore(token, expert), shift);
          return mul(slope, math::ExpOp::create(b, distance));
        });
      });
}

Value AuxLossVJP::emitTail(const Group &group, Value factor, Value dest) {
  auto k = static_cast<int64_t>(*op.getK());
  if (k >= width)
    return dest;
  Value slope = div(factor, group.numTokens);
  return emitLiveLoop(group.begin, group.count, dest,
                      [&](Value token, Value carried) {
                        Last last = emitLast(token, k);
                        return writeRow(token, carried, [&](Value expert) {
                          return select(emitIsOutside(last, token, expert),
                                        slope, constant(0.0));
                        });
                      });
}

Value AuxLossVJP::emitEntropy(const Group &group, Value factor, Value dest) {
  Value slope = div(sub(constant(0.0), factor), group.numTokens);
  return emitLiveLoop(
      group.begin, group.count, dest, [&](Value token, Value carried) {
        return writeRow(token, carried, [&](Value expert) {
          Value p = readScore(token, expert);
          Value log = add(math::LogOp::create(b, p), constant(1.0));
          return select(isEqual(p, constant(0.0)), constant(0.0),
                        mul(slope, log));
        });
      });
}

/// p_te (h_t - sum_u h_u p_ue) with h_t = 2 T / R mean_e(p_te).
Value AuxLossVJP::emitTokenBalance(const Group &group, Value factor,
                                   Value dest) {
  Value shares = emitTokenShares(group.begin, group.count);
  Value scale = mul(mul(factor, constant(2.0 / static_cast<double>(width))),
                    group.numTokens);
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
  return emitLiveLoop(group.begin, group.count, dest,
                      [&](Value token, Value carried) {
                        Value slope = slopeOf(token), row = rowOf(token);
                        return writeRow(token, carried, [&](Value expert) {
                          return mul(emitRead(b, row, expert),
                                     sub(slope, emitRead(b, means, expert)));
                        });
                      });
}

/// factor R c_e / (k T^2), [R].
Value AuxLossVJP::emitL1Slopes(const Group &group, Value factor) {
  Value open = emitOpenCounts(group.begin, group.count);
  double ratio = static_cast<double>(width) / static_cast<double>(*op.getK());
  Value slope = div(mul(factor, constant(ratio)), square(group.numTokens));
  return emitExperts(
      [&](Value expert) { return mul(slope, emitRead(b, open, expert)); });
}

Value AuxLossVJP::emitGroup(const Group &group, Value factor, Value dest) {
  switch (op.getKind()) {
  case AuxLossKind::balance: {
    int64_t numSlots = op.getIds().getType().getDimSize(1);
    return writeAll(group, emitCountSlopes(group, 0, numSlots, factor), dest);
  }
  case AuxLossKind::first_place:
    return writeAll(group, emitCountSlopes(group, 0, 1, factor), dest);
  case AuxLossKind::second_place:
    return emitSecondPlace(group, factor, dest);
  case AuxLossKind::importance: {
    Value sums = emitScoreSums(group.begin, group.count);
    return writeAll(group,
                    emitVariationGradient(sums, op.getUnbiased(),
                                          op.getEpsOrZero(), factor),
                    dest);
  }
  case AuxLossKind::z:
    return emitZ(group, factor, dest);
  case AuxLossKind::trimmed_lasso:
    return emitTail(group, factor, dest);
  case AuxLossKind::entropy:
    return emitEntropy(group, factor, dest);
  case AuxLossKind::token_balance:
    return emitTokenBalance(group, factor, dest);
  case AuxLossKind::l1_balance:
    return writeAll(group, emitL1Slopes(group, factor), dest);
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

class LoadLossVJP final : public SmoothLoad {
public:
  LoadLossVJP(ImplicitLocOpBuilder &b, LoadLossVJPOp op)
      : SmoothLoad(b, op,
                   getComputeType(
                       b, {op.getClean(), op.getNoisy(), op.getSigma(),
                           op.getCotangent(), op.getGradients()[0],
                           op.getGradients()[1], op.getGradients().back()})) {}

  SmallVector<Value> emit(LoadLossVJPOp op) {
    return emitGradients(
        op, op.getCotangent(), op.getCoefficient(),
        [&](Value begin, Value count, Value, Value factor, ValueRange dests) {
          Value load = emitLoad(begin, count);
          Value slopes =
              emitVariationGradient(load, /*isUnbiased=*/false, eps, factor);
          return emitLoop(
              b, begin, emitAdd(b, begin, count), dests,
              [&](Value token, ValueRange so) {
                auto body = [&] { return emitToken(token, slopes, so); };
                if (!mask)
                  return body();
                return emitIf(b, emitRead(b, mask, token), so, body);
              });
        });
  }

private:
  SmallVector<Value> emitToken(Value token, Value slopes, ValueRange dests);
  /// What an entry gives to clean and to sigma.
  std::pair<Value, Value> emitSlopes(const Entry &entry, Value slope);
};

std::pair<Value, Value> LoadLossVJP::emitSlopes(const Entry &entry,
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

SmallVector<Value> LoadLossVJP::emitToken(Value token, Value slopes,
                                          ValueRange dests) {
  Thresholds thresholds = emitThresholds(token);
  auto write = [&](Value value, Value dest, Value expert) {
    return emitWrite(b, emitConvert(b, value, getElementType(dest)), dest,
                     {token, expert});
  };
  // Carried behind the destinations: what the two thresholds are given.
  SmallVector<Value> inits(dests);
  inits.append(2, constant(0.0));
  SmallVector<Value> results =
      emitLoop(b, emitIndex(b, 0), emitIndex(b, width), inits,
               [&](Value expert, ValueRange so) {
                 Entry entry = emitEntry(token, expert, thresholds);
                 auto [own, spread] =
                     emitSlopes(entry, emitRead(b, slopes, expert));
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
  for (int64_t place : {0, 1})
    if (k - 1 + place < width)
      results[1] = write(results[dests.size() + place], results[1],
                         emitToIndex(b, thresholds.ids[place]));
  results.resize(dests.size());
  return results;
}

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
