//===- ExpertChoiceThreads.cpp - Expert choice, an iteration a number -----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The same choice as in ExpertChoice.cpp, for threads that share nothing. In
// place of a sort a token counts who is in front of it at an expert, and a slot
// looks for the token of its rank: T (T + C) comparisons an expert in a group
// of T, all of them beside each other.
//
//===----------------------------------------------------------------------===//

#include "CappedAssignment.h"
#include "ExpertChoice.h"
#include "Lowering.h"
#include "Threads.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "moe/Conversion/MoeToLinalg.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

/// How many experts took each token, [T, 1] i32.
Value emitTakers(ImplicitLocOpBuilder &b, Value ids, Value numTokens) {
  Value zero = emitIndex(b, 0);
  Value takers = emitEmpty(b, {getAsOpFoldResult(numTokens), b.getIndexAttr(1)},
                           b.getI32Type());
  return emitNumbers(b, takers, [&](Value token, Value) {
    Value own = emitToI32(b, token);
    Value count = emitLoop(
        b, zero, emitDim(b, ids, 0), zero, [&](Value expert, ValueRange outer) {
          return emitLoop(
              b, zero, emitDim(b, ids, 1), outer,
              [&](Value slot, ValueRange inner) -> SmallVector<Value> {
                Value isOwn = arith::CmpIOp::create(
                    b, arith::CmpIPredicate::eq,
                    emitRead(b, ids, {expert, slot}), own);
                return {emitCountIf(b, isOwn, inner[0])};
              });
        })[0];
    return emitToI32(b, count);
  });
}

/// Softmax of every column over a group's tokens that are not masked; others
/// are 0.
Value emitTokenShares(ImplicitLocOpBuilder &b, const TokenGroups &groups,
                      Value logits, Value mask, FloatType compute) {
  Value zero = emitIndex(b, 0);
  Value shares = emitFill(b, emitFloat(b, compute, 0.0),
                          emitEmptyLike(b, logits, compute));
  return emitColumns(
      b, groups, shares, [&](Value begin, Value end, Value expert, Value part) {
        return emitShares(
            b, compute, mask, begin, end,
            [&](Value token) { return emitRead(b, logits, {token, expert}); },
            part,
            [&](Value token) -> SmallVector<Value> {
              return {emitSub(b, token, begin), zero};
            });
      });
}

/// The methods stand in the order of their calls.
class ChoiceThreads {
public:
  ChoiceThreads(ImplicitLocOpBuilder &b, RouteExpertsOp op)
      : b(b), op(op), router(cast<ExpertChoiceAttr>(op.getRouter())),
        mask(op.getTokenMask()),
        compute(router.isCapped()
                    ? FloatType(b.getF64Type())
                    : getComputeType(b, {op.getLogits(), op.getWeights()})),
        numTokens(emitDim(b, op.getLogits(), 0)),
        groups(b, op.getOperationName(), op.getGroupOffsets(), numTokens) {}

  SmallVector<Value> emit();

private:
  Value emitTaken();
  Value emitKeys(KeyOrder &order, Value scores);
  Value emitIds(Value ranks, Value dest);

  ImplicitLocOpBuilder &b;
  RouteExpertsOp op;
  ExpertChoiceAttr router;
  Value mask;
  FloatType compute;
  Value numTokens;
  TokenGroups groups;
};

SmallVector<Value> ChoiceThreads::emit() {
  emitRoomCheck(b, op, /*areGroupsChecked=*/true);
  Value logits = emitConvertTensor(b, op.getLogits(), compute);
  Value scores = logits;
  if (router.getAxis() == ChoiceAxis::experts)
    scores = emitSoftmax(b, logits, /*dim=*/1);
  else if (router.getAxis() == ChoiceAxis::tokens)
    scores = emitTokenShares(b, groups, logits, mask, compute);
  KeyOrder order(b, compute);
  // Over tokens a score is increasing in its logit, which has no false ties.
  bool isOverTokens = router.getAxis() == ChoiceAxis::tokens;
  Value compared = isOverTokens ? logits : scores, assignment;
  if (router.isCapped())
    compared = assignment =
        emitCappedAssignment(b, router, groups, scores, mask, emitTaken());
  Value ranks = emitRanks(b, groups, order, emitKeys(order, compared));
  SmallVector<Value> dests = emitDestinations(b, op);
  Value ids = emitIds(ranks, dests[0]);
  Value takers;
  if (router.getNormalize() == Normalize::sum)
    takers = emitTakers(b, ids, numTokens);
  Value weights =
      emitNumbers(b, dests[1], [&](Value expert, Value slot) -> Value {
        Value id = emitRead(b, ids, {expert, slot});
        Value none = emitFloat(b, compute, 0.0);
        return emitIf(b, emitIsToken(b, id), none, [&]() -> SmallVector<Value> {
          Value token = emitToIndex(b, id);
          bool isScore = router.getWeights() == ChoiceWeights::scores;
          Value score =
              emitRead(b, isScore ? scores : assignment, {token, expert});
          if (!isScore)
            score = math::ExpOp::create(b, score);
          if (!takers)
            return {score};
          Value count = emitRead(b, takers, {token, emitIndex(b, 0)});
          count = arith::SIToFPOp::create(b, compute, count);
          return {arith::DivFOp::create(b, score, count)};
        })[0];
      });
  return {ids, weights};
}

/// How many tokens of a group an expert takes: [groups, 1], i32.
Value ChoiceThreads::emitTaken() {
  Value taken =
      emitEmpty(b, {getAsOpFoldResult(groups.getCount()), b.getIndexAttr(1)},
                b.getI32Type());
  return emitNumbers(b, taken, [&](Value group, Value) {
    Value begin = groups.getBegin(group), end = groups.getEnd(group);
    Value count = emitChoiceCapacity(b, op, emitSub(b, end, begin));
    if (mask) {
      Value live =
          emitLive(b, mask, begin, end, emitIndex(b, 0), [&](Value, Value so) {
            return emitAdd(b, so, emitIndex(b, 1));
          });
      count = arith::MinUIOp::create(b, count, live);
    }
    return emitToI32(b, count);
  });
}

/// Integers in the order of the scores [T, E]; a masked token's are below all.
Value ChoiceThreads::emitKeys(KeyOrder &order, Value scores) {
  Value keys = emitEmptyLike(b, scores, order.getKeyType());
  return emitNumbers(b, keys, [&](Value token, Value expert) -> Value {
    Value key = order.encode(emitRead(b, scores, {token, expert}));
    if (!mask)
      return key;
    return arith::SelectOp::create(b, emitRead(b, mask, token), key,
                                   order.getEmptyKey());
  });
}

/// The token of each expert's slots, [E, C]; -1 where there is none. A slot
/// finds its group by the capacities of those in front.
Value ChoiceThreads::emitIds(Value ranks, Value dest) {
  Value zero = emitIndex(b, 0), one = emitIndex(b, 1);
  auto less = [&](Value x, Value y) -> Value {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, x, y);
  };
  return emitNumbers(b, dest, [&](Value expert, Value slot) {
    auto getCapacity = [&](Value group) {
      return emitChoiceCapacity(
          b, op, emitSub(b, groups.getEnd(group), groups.getBegin(group)));
    };
    // Groups that end in front of the slot, and where the next one begins.
    SmallVector<Value> found = emitLoop(
        b, zero, groups.getCount(), {zero, zero, zero},
        [&](Value group, ValueRange so) -> SmallVector<Value> {
          Value end = emitAdd(b, so[2], getCapacity(group));
          Value isBehind =
              arith::CmpIOp::create(b, arith::CmpIPredicate::ule, end, slot);
          Value next = emitAdd(b, group, one);
          return {arith::SelectOp::create(b, isBehind, next, so[0]),
                  arith::SelectOp::create(b, isBehind, end, so[1]), end};
        });
    Value group = found[0], none = emitI32(b, -1);
    return emitIf(
        b, less(group, groups.getCount()), none, [&]() -> SmallVector<Value> {
          Value rank = emitToI32(b, emitSub(b, slot, found[1]));
          return {emitLive(b, mask, groups.getBegin(group),
                           groups.getEnd(group), none,
                           [&](Value token, Value so) -> Value {
                             Value isIt = arith::CmpIOp::create(
                                 b, arith::CmpIPredicate::eq,
                                 emitRead(b, ranks, {token, expert}), rank);
                             return arith::SelectOp::create(
                                 b, isIt, emitToI32(b, token), so);
                           })};
        })[0];
  });
}

class RouteExpertsThreads final : public Lowering<RouteExpertsOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteExpertsOp op,
                          ImplicitLocOpBuilder &b) const override {
    return ChoiceThreads(b, op).emit();
  }
};

/// The slopes of the scores [T, E], and what a softmax makes of them.
class ChoiceVJPThreads final : public Lowering<RouteExpertsVJPOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteExpertsVJPOp op,
                          ImplicitLocOpBuilder &b) const override;

private:
  static Value emitSlopes(ImplicitLocOpBuilder &b, RouteExpertsVJPOp op,
                          Value takers, Value dest, FloatType compute);
};

Value ChoiceVJPThreads::emitSlopes(ImplicitLocOpBuilder &b,
                                   RouteExpertsVJPOp op, Value takers,
                                   Value dest, FloatType compute) {
  auto router = cast<ExpertChoiceAttr>(op.getRouter());
  Value ids = op.getIds(), zero = emitIndex(b, 0);
  return emitNumbers(b, dest, [&](Value token, Value expert) {
    Value own = emitToI32(b, token);
    Value slope = emitLoop(
        b, zero, emitDim(b, ids, 1), emitFloat(b, compute, 0.0),
        [&](Value slot, ValueRange so) -> SmallVector<Value> {
          Value isOwn =
              arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                    emitRead(b, ids, {expert, slot}), own);
          return emitIf(b, isOwn, so, [&]() -> SmallVector<Value> {
            return {emitConvert(
                b, emitRead(b, op.getCotangent(), {expert, slot}), compute)};
          });
        })[0];
    if (router.getNormalize() != Normalize::sum)
      return slope;
    // A token that nobody took has a slope of 0.
    Value count = arith::MaxSIOp::create(b, emitRead(b, takers, {token, zero}),
                                         emitI32(b, 1));
    count = arith::SIToFPOp::create(b, compute, count);
    return Value(arith::DivFOp::create(b, slope, count));
  });
}

SmallVector<Value> ChoiceVJPThreads::emit(RouteExpertsVJPOp op,
                                          ImplicitLocOpBuilder &b) const {
  auto router = cast<ExpertChoiceAttr>(op.getRouter());
  Value mask = op.getTokenMask(), zero = emitIndex(b, 0);
  FloatType compute =
      getComputeType(b, {op.getLogits(), op.getCotangent(), op.getGradient()});
  Value logits = emitConvertTensor(b, op.getLogits(), compute);
  Value numTokens = emitDim(b, logits, 0);
  Value dest = emitDestinations(b, op)[0];
  Value takers = emitTakers(b, op.getIds(), numTokens);
  if (router.getAxis() == ChoiceAxis::given)
    return {emitSlopes(b, op, takers, dest, compute)};
  Value slopes =
      emitSlopes(b, op, takers, emitEmptyLike(b, logits, compute), compute);
  // share * (slope - sum of share * slope).
  auto pull = [&](Value share, Value slope, Value mean) -> Value {
    return arith::MulFOp::create(b, share,
                                 arith::SubFOp::create(b, slope, mean));
  };
  if (router.getAxis() == ChoiceAxis::experts) {
    Value shares = emitSoftmax(b, logits, /*dim=*/1);
    return {emitNumbers(b, dest, [&](Value token, Value expert) {
      // The logits of a token that nobody took may be anything.
      Value isTaken = arith::CmpIOp::create(b, arith::CmpIPredicate::sgt,
                                            emitRead(b, takers, {token, zero}),
                                            emitI32(b, 0));
      return emitIf(
          b, isTaken, emitFloat(b, compute, 0.0), [&]() -> SmallVector<Value> {
            Value mean =
                emitSum(b, compute, emitDim(b, logits, 1), [&](Value other) {
                  return std::pair(emitRead(b, shares, {token, other}),
                                   emitRead(b, slopes, {token, other}));
                });
            return {pull(emitRead(b, shares, {token, expert}),
                         emitRead(b, slopes, {token, expert}), mean)};
          })[0];
    })};
  }
  TokenGroups groups(b, op.getOperationName(), op.getGroupOffsets(), numTokens);
  Value shares = emitTokenShares(b, groups, logits, mask, compute);
  dest = emitFill(b, emitFloat(b, getElementType(dest), 0.0), dest);
  return {emitColumns(
      b, groups, dest, [&](Value begin, Value end, Value expert, Value part) {
        auto read = [&](Value tensor, Value token) {
          return emitRead(b, tensor, {token, expert});
        };
        Value mean =
            emitLive(b, mask, begin, end, emitFloat(b, compute, 0.0),
                     [&](Value token, Value so) -> Value {
                       Value term = arith::MulFOp::create(
                           b, read(shares, token), read(slopes, token));
                       return arith::AddFOp::create(b, so, term);
                     });
        return emitLive(
            b, mask, begin, end, part, [&](Value token, Value so) -> Value {
              Value pulled =
                  pull(read(shares, token), read(slopes, token), mean);
              return emitWrite(b, emitConvert(b, pulled, getElementType(part)),
                               so, {emitSub(b, token, begin), zero});
            });
      })};
}

} // namespace

void moe::populateExpertChoiceThreadPatterns(RewritePatternSet &patterns) {
  // In front of those for CPUs.
  patterns.add<RouteExpertsThreads, ChoiceVJPThreads>(patterns.getContext(),
                                                      /*benefit=*/2);
}
