//===- MixWalk.cpp - Over the tokens that a token meets -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MixWalk.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace mlir::moe;

/// A number of the token's own is loaded once for so many others.
static constexpr int64_t kTokensAtOnce = 8;
/// What exp gives below this counts as nothing.
static constexpr double kTinyPower = 1.0e-30;

Value MixWalk::addIndex(Value x, Value y) {
  return arith::AddIOp::create(b, x, y);
}

Value MixWalk::mulIndex(Value x, int64_t y) {
  return arith::MulIOp::create(b, x, index(y));
}

Value MixWalk::isIndexLess(Value x, Value y) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::slt, x, y);
}

Value MixWalk::compareToken(arith::CmpIPredicate predicate, Value place) {
  Value number = arith::IndexCastOp::create(b, b.getI64Type(), place);
  return arith::CmpIOp::create(b, predicate, number, tokens.token);
}

Value MixWalk::readOffset(Value group) {
  Value offset = tensor::ExtractOp::create(b, tokens.offsets, group);
  return arith::IndexCastOp::create(b, b.getIndexType(), offset);
}

Value MixWalk::columnOfKey(Value head) {
  Value keyHead = arith::DivUIOp::create(b, mulIndex(head, heads.shared),
                                         index(heads.heads));
  return mulIndex(keyHead, heads.width);
}

Value MixWalk::fillRow(Value row, int64_t width, Value value) {
  return loop(width, row, [&](Value place, ValueRange so) {
    return SmallVector<Value>{write(value, so[0], place)};
  })[0];
}

Value MixWalk::keepRow(Value row, int64_t width, Value isKept) {
  return loop(width, row, [&](Value place, ValueRange so) {
    Value value = select(isKept, read(so[0], place), real(0.0));
    return SmallVector<Value>{write(value, so[0], place)};
  })[0];
}

Value MixWalk::emitPower(Value x) {
  Value power = exp(x);
  return select(isLess(power, real(kTinyPower)), real(0.0), power);
}

Value MixWalk::whereMet(const MixBlock &block, size_t place, Value value,
                        Value otherwise) {
  return block.isMet.empty() ? value
                             : select(block.isMet[place], value, otherwise);
}

SmallVector<Value> MixWalk::emitDots(const MixBlock &block, int64_t width,
                                     llvm::function_ref<Value(Value place)> own,
                                     Read read) {
  SmallVector<Value> zeros(block.others.size(), real(0.0));
  return loop(width, zeros, [&](Value place, ValueRange so) {
    Value value = own(place);
    SmallVector<Value> next;
    for (auto [other, sum] : llvm::zip(block.others, so))
      next.push_back(fma(value, read(other, place), sum));
    return next;
  });
}

Value MixWalk::accumulate(const MixBlock &block, Value row, Value first,
                          int64_t width, Value shrink, ArrayRef<Value> factors,
                          Read readOther) {
  return loop(width, row, [&](Value place, ValueRange so) {
    Value at = first ? addIndex(first, place) : place;
    Value value = read(so[0], at);
    if (shrink)
      value = mul(value, shrink);
    for (auto [number, other] : llvm::enumerate(block.others)) {
      Value more = fma(factors[number], readOther(other, place), value);
      // Not by a product with 0: what is not met may be NaN.
      value = whereMet(block, number, more, value);
    }
    return SmallVector<Value>{write(value, so[0], at)};
  })[0];
}

/// The tokens first, first + 1, .. below `high`, at most kTokensAtOnce; a whole
/// block has that many, and the token meets all.
SmallVector<Value> MixWalk::visit(Value first, Value high, ValueRange state,
                                  bool isWhole, BlockBody body) {
  Value last = arith::SubIOp::create(b, high, index(1));
  Value isLive = state.back();
  MixBlock block;
  for (int64_t place = 0; place < kTokensAtOnce; ++place) {
    Value own = addIndex(first, index(place));
    if (isWhole) {
      block.others.push_back(own);
      continue;
    }
    Value isMet = isIndexLess(own, high);
    own = arith::MinUIOp::create(b, own, last);
    if (tokens.isCausal)
      isMet =
          both(isMet, compareToken(tokens.isSeen ? arith::CmpIPredicate::sge
                                                 : arith::CmpIPredicate::sle,
                                   own));
    if (tokens.mask) {
      isMet = both(isMet, tensor::ExtractOp::create(b, tokens.mask, own));
      Value isSelf = compareToken(arith::CmpIPredicate::eq, own);
      isLive = either(isLive, both(isMet, isSelf));
    }
    block.others.push_back(own);
    block.isMet.push_back(isMet);
  }
  SmallVector<Value> next = body(block, state.drop_back());
  next.push_back(isLive);
  return next;
}

SmallVector<Value> MixWalk::walkGroup(Value low, Value high, ValueRange given,
                                      BlockBody body) {
  Value begin = low;
  SmallVector<Value> state(given);
  if (!tokens.isCausal && !tokens.mask) {
    Value rest = arith::RemUIOp::create(b, arith::SubIOp::create(b, high, low),
                                        index(kTokensAtOnce));
    begin = arith::SubIOp::create(b, high, rest);
    state = loopRange(low, begin, kTokensAtOnce, state,
                      [&](Value first, ValueRange so) {
                        return visit(first, high, so, /*isWhole=*/true, body);
                      });
  }
  return loopRange(
      begin, high, kTokensAtOnce, state, [&](Value first, ValueRange so) {
        auto run = [&] {
          return visit(first, high, so, /*isWhole=*/false, body);
        };
        if (!tokens.isCausal)
          return run();
        // Skipped where no lane meets any of it.
        Value isNear =
            tokens.isSeen
                ? compareToken(arith::CmpIPredicate::sge,
                               addIndex(first, index(kTokensAtOnce - 1)))
                : compareToken(arith::CmpIPredicate::sle, first);
        return rarely(isNear, so, run);
      });
}

SmallVector<Value> MixWalk::walk(ValueRange given, BlockBody body) {
  SmallVector<Value> state(given);
  state.push_back(flag(!tokens.mask));
  if (!tokens.offsets)
    return walkGroup(index(0), tokens.numTokens, state, body);
  Value numGroups = arith::SubIOp::create(
      b, b.createOrFold<tensor::DimOp>(tokens.offsets, 0), index(1));
  return loopRange(
      index(0), numGroups, 1, state, [&](Value group, ValueRange so) {
        Value low = readOffset(group);
        Value high = readOffset(addIndex(group, index(1)));
        Value isOwn =
            both(compareToken(arith::CmpIPredicate::sle, low),
                 negate(compareToken(arith::CmpIPredicate::sle, high)));
        return rarely(isOwn, so,
                      [&] { return walkGroup(low, high, so, body); });
      });
}
