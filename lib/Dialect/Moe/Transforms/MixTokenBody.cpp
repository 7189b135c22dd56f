//===- MixTokenBody.cpp - Attention over tokens with experts as values ----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One token's row of a mix, under a running maximum m:
//   l = sum_j exp(s_j - m), acc = sum_j exp(s_j - m) values[j],
// both scaled down when m grows.
//
//===----------------------------------------------------------------------===//

#include "MixWalk.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class MixBody : public MixWalk {
public:
  MixBody(ImplicitLocOpBuilder &b, FloatType type, MixOp op, ValueRange values,
          Value token)
      : MixWalk(b, type,
                {op.getTokenMask(), op.getGroupOffsets(),
                 b.createOrFold<tensor::DimOp>(op.getValues(), 0), token,
                 op.getCausal()},
                MixHeads(op)),
        op(op), values(op.getValues()),
        query(values[op.getQueryMutable().getOperandNumber()]),
        key(op.getKey()), width(op.getValues().getType().getDimSize(1)) {
    if (MutableOperandRange range = op.getPosteriorMutable(); !range.empty())
      posterior = values[range[0].getOperandNumber()];
  }

  Value build();

private:
  /// What a head has gathered so far, as loops carry it.
  struct State {
    Value sum, largest, total;
    SmallVector<Value> pack() const { return {sum, largest, total}; }
    static State unpack(ValueRange so) { return {so[0], so[1], so[2]}; }
  };

  State mixBlock(Value head, const MixBlock &block, State state);
  SmallVector<Value> emitProducts(Value head, const MixBlock &block);

  MixOp op;
  Value values, query, key, posterior;
  int64_t width;
};

/// scale * <query, key> for each of some keys.
SmallVector<Value> MixBody::emitProducts(Value head, const MixBlock &block) {
  Value queryFirst = columnOfQuery(head), keyFirst = columnOfKey(head);
  SmallVector<Value> products = emitDots(
      block, heads.width,
      [&](Value place) { return read(query, addIndex(queryFirst, place)); },
      [&](Value other, Value place) {
        return readShared(key, {other, addIndex(keyFirst, place)});
      });
  for (Value &product : products)
    product = mul(product, real(op.getScale().convertToDouble()));
  return products;
}

MixBody::State MixBody::mixBlock(Value head, const MixBlock &block,
                                 State state) {
  SmallVector<Value> products = emitProducts(head, block);
  Value none = infinity(/*isNegative=*/true), largest = state.largest;
  for (auto [place, product] : llvm::enumerate(products)) {
    product = whereMet(block, place, product, none);
    largest = larger(product, largest);
  }
  // Nothing seen so far: exp(-inf - 0) is 0, exp(-inf + inf) would be NaN.
  Value isNone =
      arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, largest, none);
  Value shift = select(isNone, real(0.0), largest);
  Value shrink = exp(sub(state.largest, shift));
  Value total = mul(state.total, shrink);
  for (Value &product : products) {
    product = emitPower(sub(product, shift));
    total = add(total, product);
  }
  Value sum = accumulate(block, state.sum, /*first=*/Value(), width, shrink,
                         products, [&](Value other, Value place) {
                           return readShared(values, {other, place});
                         });
  return {sum, largest, total};
}

Value MixBody::build() {
  Value mixed = fillRow(makeRow({width}), width, real(0.0));
  Value scratch = makeRow({width});
  return loop(heads.heads, {mixed, scratch}, [&](Value head, ValueRange so) {
    State state = {fillRow(so[1], width, real(0.0)),
                   infinity(/*isNegative=*/true), real(0.0)};
    SmallVector<Value> found =
        walk(state.pack(), [&](const MixBlock &block, ValueRange in) {
          return mixBlock(head, block, State::unpack(in)).pack();
        });
    state = State::unpack(found);
    Value isLive = found.back();
    Value share = posterior ? read(posterior, head)
                            : real(1.0 / static_cast<double>(heads.heads));
    Value factor = div(share, state.total);
    factor = select(isLive, factor, real(0.0));
    Value mixed = loop(width, so[0], [&](Value place, ValueRange row) {
      Value part = mul(read(state.sum, place), factor);
      // A masked token's sum may be NaN, by its own query.
      part = select(isLive, part, real(0.0));
      return SmallVector<Value>{
          write(add(read(row[0], place), part), row[0], place)};
    })[0];
    return SmallVector<Value>{mixed, state.sum};
  })[0];
}

struct MixModel : public MixTokenModel<MixModel, MixOp> {
  static Value getAllTokens(MixOp op) { return op.getValues(); }

  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto mix = cast<MixOp>(op);
    SmallVector<OpOperand *> operands = {&mix.getQueryMutable()};
    if (MutableOperandRange range = mix.getPosteriorMutable(); !range.empty())
      operands.push_back(&range[0]);
    return operands;
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
