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

namespace {

//===----------------------------------------------------------------------===//
// LoadLossOp
//===----------------------------------------------------------------------===//

class LoadLoss final : public LossEmitter {
public:
  LoadLoss(ImplicitLocOpBuilder &b, LoadLossOp op)
      : LossEmitter(b, op.getClean().getType().getDimSize(1),
                    getComputeType(b, {op.getClean(), op.getNoisy(),
                                       op.getSigma(), op.getLoss()}),
                    op.getTokenMask(), op.getGroupOffsets()),
        op(op) {}

private:
  Value emitLoss(Value begin, Value count, Value numTokens) override;

  SmallVector<Value> emitThresholds(Value token);
  Value emitChance(Value token, Value expert, ArrayRef<Value> thresholds);

  LoadLossOp op;
};

Value LoadLoss::emitLoss(Value begin, Value count, Value) {
  Value load =
      emitLiveLoop(begin, count, emitZeros(), [&](Value token, Value sums) {
        SmallVector<Value> thresholds = emitThresholds(token);
        return emitLoop(
            b, emitIndex(b, 0), emitIndex(b, width), sums,
            [&](Value expert, ValueRange carried) -> SmallVector<Value> {
              Value sum = add(emitRead(b, carried[0], expert),
                              emitChance(token, expert, thresholds));
              return {emitWrite(b, sum, carried[0], expert)};
            })[0];
      });
  return emitSquaredVariation(load, /*isUnbiased=*/false,
                              op.getEps().convertToDouble());
}

/// The k-th and (k+1)-th largest noisy logit; -inf where there is none.
SmallVector<Value> LoadLoss::emitThresholds(Value token) {
  auto k = static_cast<int64_t>(op.getK());
  KeyOrder order(b, compute);
  RankedKeys best =
      emitTopK(b, order, std::min(k, width - 1) + 1, width, [&](Value expert) {
        return order.encode(read(op.getNoisy(), token, expert));
      });
  SmallVector<Value> thresholds;
  for (int64_t place : {k - 1, k})
    thresholds.push_back(place < width ? order.decode(best.keys[place])
                                       : emitNegativeInfinity(b, compute));
  return thresholds;
}

/// Phi((clean - threshold) / sigma).
Value LoadLoss::emitChance(Value token, Value expert,
                           ArrayRef<Value> thresholds) {
  Value threshold = thresholds[0];
  if (op.getThreshold() == LoadThreshold::kth_excluding) {
    Value own = read(op.getNoisy(), token, expert);
    Value isInside =
        arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, own, thresholds[1]);
    threshold = select(isInside, thresholds[1], thresholds[0]);
  }
  Value clean = read(op.getClean(), token, expert);
  Value sigma = op.getSigma() ? read(op.getSigma(), token, expert)
                              : constant(op.getStd()->convertToDouble());
  // Through erfc, which keeps both tails.
  constexpr double kRootOfHalf = 0.70710678118654752440;
  Value distance = div(sub(threshold, clean), sigma);
  Value tail = math::ErfcOp::create(b, mul(distance, constant(kRootOfHalf)));
  Value none = emitNegativeInfinity(b, compute);
  Value chance =
      select(isEqual(threshold, none), constant(1.0), mul(constant(0.5), tail));
  return select(isEqual(clean, none), constant(0.0), chance);
}

class LoadLossLowering final : public Lowering<LoadLossOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(LoadLossOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {LoadLoss(b, op).emit(op, op.getClean(), op.getCoefficient())};
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
