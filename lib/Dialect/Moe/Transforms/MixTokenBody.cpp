//===- MixTokenBody.cpp - Attention over tokens with experts as values ----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One token's row of a mix. Keys are taken a few at a time, so that a number of
// the query is loaded once for all of them, under a running maximum m:
//   l = sum_j exp(s_j - m), acc = sum_j exp(s_j - m) values[j],
// both scaled down when m grows. Blocks of keys begin at the group's first
// token and a block that ends behind the group, or behind a causal token, is
// the same code with these keys left out: a row does not depend, to the last
// bit, on what it does not see, nor on which tokens share its lanes.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A number of the query is loaded once for so many keys.
constexpr int64_t kKeysAtOnce = 8;
/// What exp gives below this is left out of a sum that has a term of 1.
constexpr double kTinyPower = 1.0e-30;

class MixBody : public BodyBuilder {
public:
  MixBody(ImplicitLocOpBuilder &b, FloatType type, MixOp op, ValueRange values,
          Value token)
      : BodyBuilder(b, type), op(op), values(op.getValues()),
        query(values[op.getQueryMutable().getOperandNumber()]),
        key(op.getKey()), mask(op.getTokenMask()),
        offsets(op.getGroupOffsets()), token(token),
        heads(static_cast<int64_t>(op.getHeads())),
        headWidth(op.getQuery().getType().getDimSize(1) / heads),
        width(op.getValues().getType().getDimSize(1)) {
    if (MutableOperandRange range = op.getPosteriorMutable(); !range.empty())
      posterior = values[range[0].getOperandNumber()];
  }

  Value build();

private:
  /// What a head has gathered so far, as loops carry it.
  struct State {
    Value sum, largest, total, isLive;
    SmallVector<Value> pack() const { return {sum, largest, total, isLive}; }
    static State unpack(ValueRange so) { return {so[0], so[1], so[2], so[3]}; }
  };

  Value addIndex(Value x, Value y) { return arith::AddIOp::create(b, x, y); }
  Value mulIndex(Value x, int64_t y) {
    return arith::MulIOp::create(b, x, index(y));
  }
  Value isIndexLess(Value x, Value y) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::slt, x, y);
  }
  Value numberOf(Value place) {
    return arith::IndexCastOp::create(b, b.getI64Type(), place);
  }
  Value compareToken(arith::CmpIPredicate predicate, Value place) {
    return arith::CmpIOp::create(b, predicate, numberOf(place), token);
  }
  Value readOffset(Value group) {
    Value offset = tensor::ExtractOp::create(b, offsets, group);
    return arith::IndexCastOp::create(b, b.getIndexType(), offset);
  }
  Value fillRow(Value row, Value value);

  State mixHead(Value head, State state);
  State mixGroup(Value head, Value low, Value high, State state);
  State mixBlock(Value head, Value first, Value high, State state,
                 bool isWhole);
  SmallVector<Value> emitProducts(Value head, ArrayRef<Value> keys);

  MixOp op;
  Value values, query, key, posterior, mask, offsets, token;
  int64_t heads, headWidth, width;
};

Value MixBody::fillRow(Value row, Value value) {
  return loop(width, row, [&](Value place, ValueRange so) {
    return SmallVector<Value>{write(value, so[0], place)};
  })[0];
}

/// scale * <query, key> for each of some keys.
SmallVector<Value> MixBody::emitProducts(Value head, ArrayRef<Value> keys) {
  int64_t shared = op.getKey().getType().getDimSize(1) / headWidth;
  Value keyHead =
      arith::DivUIOp::create(b, mulIndex(head, shared), index(heads));
  Value queryFirst = mulIndex(head, headWidth);
  Value keyFirst = mulIndex(keyHead, headWidth);
  SmallVector<Value> zeros(keys.size(), real(0.0));
  SmallVector<Value> products =
      loop(headWidth, zeros, [&](Value place, ValueRange so) {
        Value own = read(query, addIndex(queryFirst, place));
        Value column = addIndex(keyFirst, place);
        SmallVector<Value> next;
        for (auto [other, sum] : llvm::zip(keys, so))
          next.push_back(fma(own, readShared(key, {other, column}), sum));
        return next;
      });
  for (Value &product : products)
    product = mul(product, real(op.getScale().convertToDouble()));
  return products;
}

/// The keys first, first + 1, .. below `high`, at most kKeysAtOnce; a whole
/// block has that many, and all tokens see them.
MixBody::State MixBody::mixBlock(Value head, Value first, Value high,
                                 State state, bool isWhole) {
  Value last = arith::SubIOp::create(b, high, index(1));
  SmallVector<Value> keys, isSeen;
  for (int64_t place = 0; place < kKeysAtOnce; ++place) {
    Value own = addIndex(first, index(place));
    if (isWhole) {
      keys.push_back(own);
      continue;
    }
    Value seen = isIndexLess(own, high);
    own = arith::MinUIOp::create(b, own, last);
    if (op.getCausal())
      seen = both(seen, compareToken(arith::CmpIPredicate::sle, own));
    if (mask) {
      seen = both(seen, tensor::ExtractOp::create(b, mask, own));
      Value isSelf = compareToken(arith::CmpIPredicate::eq, own);
      state.isLive = either(state.isLive, both(seen, isSelf));
    }
    keys.push_back(own);
    isSeen.push_back(seen);
  }

  SmallVector<Value> products = emitProducts(head, keys);
  Value none = infinity(/*isNegative=*/true), largest = state.largest;
  for (auto [place, product] : llvm::enumerate(products)) {
    if (!isWhole)
      product = select(isSeen[place], product, none);
    largest = larger(product, largest);
  }
  // Nothing seen so far: exp(-inf - 0) is 0, exp(-inf + inf) would be NaN.
  Value isNone =
      arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, largest, none);
  Value shift = select(isNone, real(0.0), largest);
  Value shrink = exp(sub(state.largest, shift));
  Value total = mul(state.total, shrink);
  for (Value &product : products) {
    product = exp(sub(product, shift));
    // Far below the rounding of the sum, which has a term of 1; products of
    // numbers below the normal range take many times as long.
    Value isTiny = isLess(product, real(kTinyPower));
    product = select(isTiny, real(0.0), product);
    total = add(total, product);
  }
  Value sum = loop(width, state.sum, [&](Value place, ValueRange so) {
    Value value = mul(read(so[0], place), shrink);
    for (auto [number, other] : llvm::enumerate(keys)) {
      Value more =
          fma(products[number], readShared(values, {other, place}), value);
      // Not by a product with 0: what is not seen may be NaN.
      value = isWhole ? more : select(isSeen[number], more, value);
    }
    return SmallVector<Value>{write(value, so[0], place)};
  })[0];
  return {sum, largest, total, state.isLive};
}

MixBody::State MixBody::mixGroup(Value head, Value low, Value high,
                                 State state) {
  Value begin = low;
  if (!op.getCausal() && !mask) {
    Value rest = arith::RemUIOp::create(b, arith::SubIOp::create(b, high, low),
                                        index(kKeysAtOnce));
    begin = arith::SubIOp::create(b, high, rest);
    state = State::unpack(loopRange(
        low, begin, kKeysAtOnce, state.pack(), [&](Value first, ValueRange so) {
          return mixBlock(head, first, high, State::unpack(so),
                          /*isWhole=*/true)
              .pack();
        }));
  }
  return State::unpack(loopRange(
      begin, high, kKeysAtOnce, state.pack(), [&](Value first, ValueRange so) {
        auto block = [&] {
          return mixBlock(head, first, high, State::unpack(so),
                          /*isWhole=*/false)
              .pack();
        };
        if (!op.getCausal())
          return block();
        // Skipped where all lanes are in front of it.
        Value isSeen = compareToken(arith::CmpIPredicate::sle, first);
        return rarely(isSeen, so, block);
      }));
}

MixBody::State MixBody::mixHead(Value head, State state) {
  if (!offsets) {
    Value numKeys = b.createOrFold<tensor::DimOp>(values, 0);
    return mixGroup(head, index(0), numKeys, state);
  }
  Value numGroups = arith::SubIOp::create(
      b, b.createOrFold<tensor::DimOp>(offsets, 0), index(1));
  return State::unpack(loopRange(
      index(0), numGroups, 1, state.pack(), [&](Value group, ValueRange so) {
        Value low = readOffset(group);
        Value high = readOffset(addIndex(group, index(1)));
        Value isOwn =
            both(compareToken(arith::CmpIPredicate::sle, low),
                 negate(compareToken(arith::CmpIPredicate::sle, high)));
        return rarely(isOwn, so, [&] {
          return mixGroup(head, low, high, State::unpack(so)).pack();
        });
      }));
}

Value MixBody::build() {
  Value mixed = fillRow(makeRow({width}), real(0.0));
  Value scratch = makeRow({width});
  return loop(heads, {mixed, scratch}, [&](Value head, ValueRange so) {
    State state = {fillRow(so[1], real(0.0)), infinity(/*isNegative=*/true),
                   real(0.0), flag(!mask)};
    state = mixHead(head, state);
    Value share = posterior ? read(posterior, head)
                            : real(1.0 / static_cast<double>(heads));
    Value factor = div(share, state.total);
    factor = select(state.isLive, factor, real(0.0));
    Value mixed = loop(width, so[0], [&](Value place, ValueRange row) {
      Value part = mul(read(state.sum, place), factor);
      // A masked token's sum may be NaN, by its own query.
      part = select(state.isLive, part, real(0.0));
      return SmallVector<Value>{
          write(add(read(row[0], place), part), row[0], place)};
    })[0];
    return SmallVector<Value>{mixed, state.sum};
  })[0];
}

struct MixModel : public TokenBodyOpInterface::ExternalModel<MixModel, MixOp> {
  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto mix = cast<MixOp>(op);
    SmallVector<OpOperand *> operands = {&mix.getQueryMutable()};
    if (MutableOperandRange range = mix.getPosteriorMutable(); !range.empty())
      operands.push_back(&range[0]);
    return operands;
  }

  OpOperand *getFirstTokenOperand(Operation *op) const {
    MutableOperandRange range = cast<MixOp>(op).getFirstTokenMutable();
    return range.empty() ? nullptr : &range[0];
  }
  bool isNumbered(Operation *) const { return true; }
  void setFirstToken(Operation *op, Value first) const {
    cast<MixOp>(op).getFirstTokenMutable().assign(first);
  }

  void emitChecks(Operation *op, ImplicitLocOpBuilder &b) const {
    auto mix = cast<MixOp>(op);
    if (Value offsets = mix.getGroupOffsets())
      emitGroupOffsetsCheck(b, mix.getOperationName(), offsets,
                            b.createOrFold<tensor::DimOp>(mix.getValues(), 0));
  }

  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value token,
                                         FloatType type) const {
    return {{{}, MixBody(b, type, cast<MixOp>(op), values, token).build()}};
  }
};

} // namespace

void moe::registerMixTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    MixOp::attachInterface<MixModel>(*context);
  });
}
