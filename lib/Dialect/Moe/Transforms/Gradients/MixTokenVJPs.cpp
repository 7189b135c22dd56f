//===- MixTokenVJPs.cpp - The backward of a mix, token by token -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two passes over pairs of tokens, as neither may add to rows of the other: one
// by query, which also finds what a softmax's backward needs of its whole row,
// and one by key.
//
//===----------------------------------------------------------------------===//

#include "../MixWalk.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// By query
//===----------------------------------------------------------------------===//

class MixQueryBackward : public MixWalk {
public:
  MixQueryBackward(ImplicitLocOpBuilder &b, FloatType type, MixQueryVJPOp op,
                   ValueRange operands, Value token)
      : MixWalk(b, type,
                {op.getTokenMask(), op.getGroupOffsets(),
                 b.createOrFold<tensor::DimOp>(op.getValues(), 0), token,
                 op.getCausal()},
                MixHeads(op)),
        op(op), values(op.getValues()), key(op.getKey()),
        query(operands[op.getQueryMutable().getOperandNumber()]),
        cotangent(operands[op.getCotangentMutable().getOperandNumber()]),
        width(op.getValues().getType().getDimSize(1)),
        scale(op.getScale().convertToDouble()) {
    if (MutableOperandRange range = op.getPosteriorMutable(); !range.empty())
      posterior = operands[range[0].getOperandNumber()];
  }

  SmallVector<TokenValue> build();

private:
  /// Of one head: its log sum, its dot, and whether the token is live.
  struct Found {
    Value logSum, dot, isLive;
  };

  SmallVector<Value> emitProducts(Value head, const MixBlock &block);
  SmallVector<Value> emitSlopes(const MixBlock &block);
  Found findSums(Value head);
  Value pullHead(Value head, const Found &found, Value row);

  MixQueryVJPOp op;
  Value values, key, query, cotangent, posterior;
  int64_t width;
  double scale;
};

SmallVector<Value> MixQueryBackward::emitProducts(Value head,
                                                  const MixBlock &block) {
  Value queryFirst = columnOfQuery(head), keyFirst = columnOfKey(head);
  SmallVector<Value> products = emitDots(
      block, heads.width,
      [&](Value place) { return read(query, addIndex(queryFirst, place)); },
      [&](Value other, Value place) {
        return readShared(key, {other, addIndex(keyFirst, place)});
      });
  for (Value &product : products)
    product = mul(product, real(scale));
  return products;
}

/// <cotangent, values[other]>
SmallVector<Value> MixQueryBackward::emitSlopes(const MixBlock &block) {
  return emitDots(
      block, width, [&](Value place) { return read(cotangent, place); },
      [&](Value other, Value place) {
        return readShared(values, {other, place});
      });
}

/// Under a running maximum, as the mix itself.
MixQueryBackward::Found MixQueryBackward::findSums(Value head) {
  Value none = infinity(/*isNegative=*/true);
  SmallVector<Value> found = walk(
      {none, real(0.0), real(0.0)},
      [&](const MixBlock &block, ValueRange so) -> SmallVector<Value> {
        SmallVector<Value> products = emitProducts(head, block);
        SmallVector<Value> slopes = emitSlopes(block);
        Value largest = so[0];
        for (auto [place, product] : llvm::enumerate(products)) {
          product = whereMet(block, place, product, none);
          largest = larger(product, largest);
        }
        Value isNone =
            arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, largest, none);
        Value shift = select(isNone, real(0.0), largest);
        Value shrink = exp(sub(so[0], shift));
        Value total = mul(so[1], shrink), sum = mul(so[2], shrink);
        for (auto [place, product] : llvm::enumerate(products)) {
          Value power = emitPower(sub(product, shift));
          total = add(total, power);
          sum = whereMet(block, place, fma(power, slopes[place], sum), sum);
        }
        return {largest, total, sum};
      });
  Value isLive = found.back();
  Value logSum = add(found[0], log(found[1])), dot = div(found[2], found[1]);
  return {select(isLive, logSum, real(0.0)), select(isLive, dot, real(0.0)),
          isLive};
}

Value MixQueryBackward::pullHead(Value head, const Found &found, Value row) {
  Value share = posterior ? read(posterior, head)
                          : real(1.0 / static_cast<double>(heads.heads));
  Value factor = mul(share, real(scale));
  Value keyFirst = columnOfKey(head);
  return walk(row, [&](const MixBlock &block, ValueRange so) {
    SmallVector<Value> factors = emitProducts(head, block);
    SmallVector<Value> slopes = emitSlopes(block);
    for (auto [product, slope] : llvm::zip(factors, slopes)) {
      Value own = mul(emitPower(sub(product, found.logSum)), factor);
      product = mul(own, sub(slope, found.dot));
    }
    Value next =
        accumulate(block, so[0], columnOfQuery(head), heads.width,
                   /*shrink=*/Value(), factors, [&](Value other, Value place) {
                     return readShared(key, {other, addIndex(keyFirst, place)});
                   });
    return SmallVector<Value>{next};
  })[0];
}

SmallVector<TokenValue> MixQueryBackward::build() {
  int64_t columns = heads.heads * heads.width;
  Value zeros = fillRow(makeRow({columns}), columns, real(0.0));
  Value dots = makeRow({heads.heads}), sums = makeRow({heads.heads});
  SmallVector<Value> rows = loop(
      heads.heads, {zeros, dots, sums, flag(false)},
      [&](Value head, ValueRange so) -> SmallVector<Value> {
        Found found = findSums(head);
        return {pullHead(head, found, so[0]), write(found.dot, so[1], head),
                write(found.logSum, so[2], head), found.isLive};
      });
  // A masked token's own query may be anything.
  if (op.getTokenMask())
    rows[0] = keepRow(rows[0], columns, rows[3]);
  return {{{}, rows[0]}, {{}, rows[1]}, {{}, rows[2]}};
}

//===----------------------------------------------------------------------===//
// By key
//===----------------------------------------------------------------------===//

class MixKeyBackward : public MixWalk {
public:
  MixKeyBackward(ImplicitLocOpBuilder &b, FloatType type, MixKeyVJPOp op,
                 ValueRange operands, Value token)
      : MixWalk(b, type,
                {op.getTokenMask(), op.getGroupOffsets(),
                 b.createOrFold<tensor::DimOp>(op.getQuery(), 0), token,
                 op.getCausal(), /*isSeen=*/true},
                MixHeads(op)),
        op(op), key(operands[op.getKeyMutable().getOperandNumber()]),
        values(operands[op.getValuesMutable().getOperandNumber()]),
        width(op.getValues().getType().getDimSize(1)) {}

  SmallVector<TokenValue> build();

private:
  /// What the block's queries add to the rows of the key and of the values.
  SmallVector<Value> pullBlock(Value head, const MixBlock &block,
                               ValueRange rows);

  MixKeyVJPOp op;
  Value key, values; ///< Rows of the token.
  int64_t width;
};

SmallVector<Value> MixKeyBackward::pullBlock(Value head, const MixBlock &block,
                                             ValueRange rows) {
  Value queryFirst = columnOfQuery(head), keyFirst = columnOfKey(head);
  auto readQuery = [&](Value other, Value place) {
    return readShared(op.getQuery(), {other, addIndex(queryFirst, place)});
  };
  auto readCotangent = [&](Value other, Value place) {
    return readShared(op.getCotangent(), {other, place});
  };
  SmallVector<Value> products = emitDots(
      block, heads.width,
      [&](Value place) { return read(key, addIndex(keyFirst, place)); },
      readQuery);
  SmallVector<Value> slopes = emitDots(
      block, width, [&](Value place) { return read(values, place); },
      readCotangent);
  Value scale = real(op.getScale().convertToDouble());
  SmallVector<Value> shares;
  for (auto [number, other] : llvm::enumerate(block.others)) {
    Value distance = sub(mul(products[number], scale),
                         readShared(op.getLogSums(), {other, head}));
    Value part = real(1.0 / static_cast<double>(heads.heads));
    if (Value posterior = op.getPosterior())
      part = readShared(posterior, {other, head});
    shares.push_back(mul(emitPower(distance), part));
    Value rest = sub(slopes[number], readShared(op.getDots(), {other, head}));
    slopes[number] = mul(mul(shares.back(), scale), rest);
  }
  return {accumulate(block, rows[0], keyFirst, heads.width, /*shrink=*/Value(),
                     slopes, readQuery),
          accumulate(block, rows[1], /*first=*/Value(), width,
                     /*shrink=*/Value(), shares, readCotangent)};
}

SmallVector<TokenValue> MixKeyBackward::build() {
  int64_t columns = heads.shared * heads.width;
  Value ofKey = fillRow(makeRow({columns}), columns, real(0.0));
  Value ofValues = fillRow(makeRow({width}), width, real(0.0));
  SmallVector<Value> rows = loop(
      heads.heads, {ofKey, ofValues, flag(false)},
      [&](Value head, ValueRange so) {
        return walk(so.drop_back(), [&](const MixBlock &block, ValueRange in) {
          return pullBlock(head, block, in);
        });
      });
  // The others see no masked token.
  if (op.getTokenMask()) {
    rows[0] = keepRow(rows[0], columns, rows[2]);
    rows[1] = keepRow(rows[1], width, rows[2]);
  }
  return {{{}, rows[0]}, {{}, rows[1]}};
}

//===----------------------------------------------------------------------===//
// Models
//===----------------------------------------------------------------------===//

/// `Body` is what a token runs.
template <typename Model, typename OpTy, typename Body>
struct MixVJPModel : public MixTokenModel<Model, OpTy> {
  SmallVector<TokenValue> buildTokenBody(Operation *op, ImplicitLocOpBuilder &b,
                                         ValueRange values, Value token,
                                         FloatType type) const {
    return Body(b, type, cast<OpTy>(op), values, token).build();
  }
};

struct MixQueryVJPModel
    : public MixVJPModel<MixQueryVJPModel, MixQueryVJPOp, MixQueryBackward> {
  static Value getAllTokens(MixQueryVJPOp op) { return op.getValues(); }

  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto vjp = cast<MixQueryVJPOp>(op);
    SmallVector<OpOperand *> operands = {&vjp.getQueryMutable(),
                                         &vjp.getCotangentMutable()};
    if (MutableOperandRange range = vjp.getPosteriorMutable(); !range.empty())
      operands.push_back(&range[0]);
    return operands;
  }
};

struct MixKeyVJPModel
    : public MixVJPModel<MixKeyVJPModel, MixKeyVJPOp, MixKeyBackward> {
  static Value getAllTokens(MixKeyVJPOp op) { return op.getQuery(); }

  SmallVector<OpOperand *> getTokenOperands(Operation *op) const {
    auto vjp = cast<MixKeyVJPOp>(op);
    return {&vjp.getKeyMutable(), &vjp.getValuesMutable()};
  }
};

} // namespace

void moe::registerMixVJPTokenBodyModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, MoeDialect *) {
    MixQueryVJPOp::attachInterface<MixQueryVJPModel>(*context);
    MixKeyVJPOp::attachInterface<MixKeyVJPModel>(*context);
  });
}
