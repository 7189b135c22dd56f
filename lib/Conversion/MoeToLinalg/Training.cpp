//===- Training.cpp - Load and selection bias -----------------------------===//
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
#include "moe/Dialect/Moe/Utils/Selection.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

//===----------------------------------------------------------------------===//
// LoadLossOp
//===----------------------------------------------------------------------===//

SmoothLoad::Thresholds SmoothLoad::emitThresholds(Value token) {
  KeyOrder order(b, compute);
  RankedKeys best =
      emitTopK(b, order, std::min(k, width - 1) + 1, width, [&](Value expert) {
        return order.encode(read(noisy, token, expert));
      });
  Thresholds thresholds;
  for (int64_t place : {k - 1, k}) {
    bool isThere = place < width;
    thresholds.keys.push_back(isThere ? best.keys[place] : order.getEmptyKey());
    thresholds.ids.push_back(isThere ? best.ids[place] : emitI32(b, 0));
    thresholds.values.push_back(isThere ? order.decode(best.keys[place])
                                        : emitNegativeInfinity(b, compute));
  }
  return thresholds;
}

SmoothLoad::Entry SmoothLoad::emitEntry(Value token, Value expert,
                                        const Thresholds &thresholds) {
  Entry entry;
  entry.threshold = thresholds.values[0];
  if (isOthers) {
    // One of the first k would have to be above the next.
    KeyOrder order(b, compute);
    Value key = order.encode(read(noisy, token, expert));
    Value isBehind =
        emitIsBehind(order, key, expert, thresholds.keys[0], thresholds.ids[0]);
    entry.isSecond = arith::XOrIOp::create(
        b, isBehind, arith::ConstantOp::create(b, b.getBoolAttr(true)));
    entry.threshold =
        select(isBehind, thresholds.values[0], thresholds.values[1]);
  }
  entry.clean = read(clean, token, expert);
  entry.sigma = sigma ? read(sigma, token, expert) : constant(std);
  Value none = emitNegativeInfinity(b, compute);
  entry.isNever = isEqual(entry.clean, none);
  entry.isAlways = isEqual(entry.threshold, none);
  return entry;
}

/// Phi((clean - threshold) / sigma).
Value SmoothLoad::emitChance(const Entry &entry) {
  // Through erfc, which keeps both tails.
  constexpr double kRootOfHalf = 0.70710678118654752440;
  Value distance = div(sub(entry.threshold, entry.clean), entry.sigma);
  Value tail = math::ErfcOp::create(b, mul(distance, constant(kRootOfHalf)));
  Value chance =
      select(entry.isAlways, constant(1.0), mul(constant(0.5), tail));
  return select(entry.isNever, constant(0.0), chance);
}

Value SmoothLoad::emitLoad(Value begin, Value count) {
  return emitLiveLoop(begin, count, emitZeros(), [&](Value token, Value sums) {
    Thresholds thresholds = emitThresholds(token);
    return emitLoop(
        b, emitIndex(b, 0), emitIndex(b, width), sums,
        [&](Value expert, ValueRange carried) -> SmallVector<Value> {
          Value chance = emitChance(emitEntry(token, expert, thresholds));
          Value sum = add(emitRead(b, carried[0], expert), chance);
          return {emitWrite(b, sum, carried[0], expert)};
        })[0];
  });
}

namespace {

class LoadLoss final : public LoadFormula {
public:
  using LoadFormula::LoadFormula;

  Value emit(LoadLossOp op) {
    return emitMean(op, clean, op.getCoefficient(),
                    [&](Value begin, Value count, Value) {
                      return emitValue(emitLoad(begin, count));
                    });
  }
};

class LoadLossLowering final : public Lowering<LoadLossOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(LoadLossOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {LoadLoss(b, op).emit(op)};
  }
};

//===----------------------------------------------------------------------===//
// ExpertLoadOp
//===----------------------------------------------------------------------===//

class ExpertLoadLowering final : public Lowering<ExpertLoadOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(ExpertLoadOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value ids = op.getIds(), weights = op.getWeights();
    Value dest = emitDestinations(b, op)[0];
    int64_t numExperts = op.getLoad().getType().getDimSize(0);
    Value zero = emitI32(b, 0), sums = dest;
    FloatType compute;
    if (weights) {
      compute = getComputeType(b, {weights, dest});
      zero = emitFloat(b, compute, 0.0);
      sums = emitEmptyLike(b, dest, compute);
    }
    sums = emitFill(b, zero, sums);
    auto addSlot = [&](Value token, Value slot,
                       ValueRange carried) -> SmallVector<Value> {
      Value id = emitRead(b, ids, {token, slot});
      Value isExpert = emitIsWithin(b, id, emitI32(b, numExperts));
      return emitIf(b, isExpert, carried, [&]() -> SmallVector<Value> {
        Value expert = emitToIndex(b, id);
        Value sum = emitRead(b, carried[0], expert);
        if (!weights)
          return {
              emitWrite(b, emitAdd(b, sum, emitI32(b, 1)), carried[0], expert)};
        Value weight =
            emitConvert(b, emitRead(b, weights, {token, slot}), compute);
        return {emitWrite(b, arith::AddFOp::create(b, sum, weight), carried[0],
                          expert)};
      });
    };
    sums = emitLoop(b, emitIndex(b, 0), emitDim(b, ids, 0), sums,
                    [&](Value token, ValueRange outer) {
                      return emitLoop(b, emitIndex(b, 0), emitDim(b, ids, 1),
                                      outer, [&](Value slot, ValueRange inner) {
                                        return addSlot(token, slot, inner);
                                      });
                    })[0];
    if (weights && getElementType(dest) != compute)
      sums = emitConvertInto(b, sums, dest);
    return {sums};
  }
};

//===----------------------------------------------------------------------===//
// UpdateBiasOp
//===----------------------------------------------------------------------===//

class UpdateBiasLowering final : public Lowering<UpdateBiasOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(UpdateBiasOp op,
                          ImplicitLocOpBuilder &b) const override {
    // Whole numbers are exact in f64, and so is their mean times E.
    Type wide = b.getF64Type();
    int64_t numExperts = op.getBias().getType().getDimSize(0);
    auto asWide = [&](Value count) -> Value {
      if (isa<FloatType>(count.getType()))
        return emitConvert(b, count, wide);
      return arith::SIToFPOp::create(b, wide, count);
    };
    Value zero = emitFloat(b, wide, 0.0);
    Value sum =
        emitLoop(b, emitIndex(b, 0), emitIndex(b, numExperts), zero,
                 [&](Value expert, ValueRange carried) -> SmallVector<Value> {
                   Value count = asWide(emitRead(b, op.getCounts(), expert));
                   return {arith::AddFOp::create(b, carried[0], count)};
                 })[0];
    Value dest = emitDestinations(b, op)[0];
    FloatType compute = getComputeType(b, {op.getBias(), dest});
    double rate = op.getRate().convertToDouble();
    Value updated = emitElementwise(
        b, {op.getBias(), op.getCounts()}, dest, [&](ValueRange scalars) {
          Value scaled = arith::MulFOp::create(b, asWide(scalars[1]),
                                               emitFloat(b, wide, numExperts));
          Value lacking = arith::SubFOp::create(b, sum, scaled);
          auto is = [&](arith::CmpFPredicate predicate) -> Value {
            return arith::CmpFOp::create(b, predicate, lacking, zero);
          };
          // Of zero and of NaN the sign is the number itself.
          Value step = emitConvert(b, lacking, compute);
          step = arith::SelectOp::create(b, is(arith::CmpFPredicate::OGT),
                                         emitFloat(b, compute, rate), step);
          step = arith::SelectOp::create(b, is(arith::CmpFPredicate::OLT),
                                         emitFloat(b, compute, -rate), step);
          Value moved = arith::AddFOp::create(
              b, emitConvert(b, scalars[0], compute), step);
          return emitConvert(b, moved, getElementType(dest));
        });
    return {updated};
  }
};

} // namespace

void tolinalg::addTrainingPatterns(RewritePatternSet &patterns) {
  patterns.add<LoadLossLowering, ExpertLoadLowering, UpdateBiasLowering>(
      patterns.getContext());
}
