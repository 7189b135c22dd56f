//===- BodyBuilder.cpp - Scalar code of token bodies ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/Utils/Selection.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

Value BodyBuilder::real(double value) {
  return arith::ConstantOp::create(b, b.getFloatAttr(type, value));
}

Value BodyBuilder::infinity(bool isNegative) {
  return arith::ConstantOp::create(
      b, FloatAttr::get(type,
                        APFloat::getInf(type.getFloatSemantics(), isNegative)));
}

Value BodyBuilder::nan() {
  return arith::ConstantOp::create(
      b, FloatAttr::get(type, APFloat::getQNaN(type.getFloatSemantics())));
}

Value BodyBuilder::index(int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

Value BodyBuilder::id(int64_t value) {
  return arith::ConstantOp::create(b, b.getI32IntegerAttr(value));
}

Value BodyBuilder::flag(bool value) {
  return arith::ConstantOp::create(b, b.getBoolAttr(value));
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Value BodyBuilder::add(Value x, Value y) {
  return arith::AddFOp::create(b, x, y);
}
Value BodyBuilder::sub(Value x, Value y) {
  return arith::SubFOp::create(b, x, y);
}
Value BodyBuilder::mul(Value x, Value y) {
  return arith::MulFOp::create(b, x, y);
}
Value BodyBuilder::div(Value x, Value y) {
  return arith::DivFOp::create(b, x, y);
}
Value BodyBuilder::fma(Value x, Value y, Value z) {
  return math::FmaOp::create(b, x, y, z);
}
Value BodyBuilder::exp(Value x) { return math::ExpOp::create(b, x); }
Value BodyBuilder::log(Value x) { return math::LogOp::create(b, x); }

Value BodyBuilder::logistic(Value x) {
  Value power = exp(arith::NegFOp::create(b, x));
  return div(real(1.0), add(real(1.0), power));
}

Value BodyBuilder::softcap(Value x, double cap) {
  if (cap <= 0.0)
    return x;
  return mul(real(cap), math::TanhOp::create(b, div(x, real(cap))));
}

Value BodyBuilder::score(ScoreKind kind, Value logit) {
  switch (kind) {
  case ScoreKind::sigmoid: {
    Value power = exp(arith::NegFOp::create(b, logit));
    return div(real(1.0), add(real(1.0), power));
  }
  case ScoreKind::sqrt_softplus: {
    // log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), which cannot overflow.
    Value distance = math::AbsFOp::create(b, logit);
    Value small = exp(arith::NegFOp::create(b, distance));
    Value positive = arith::MaximumFOp::create(b, logit, real(0.0));
    Value softplus = add(positive, math::Log1pOp::create(b, small));
    return math::SqrtOp::create(b, softplus);
  }
  case ScoreKind::none:
    return logit;
  case ScoreKind::softmax:
    break;
  }
  llvm_unreachable("softmax is no function of one logit");
}

Value BodyBuilder::larger(Value x, Value y) {
  return select(isGreater(x, y), x, y);
}
Value BodyBuilder::smaller(Value x, Value y) {
  return select(isLess(x, y), x, y);
}

Value BodyBuilder::isLess(Value x, Value y) {
  return arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, x, y);
}
Value BodyBuilder::isGreater(Value x, Value y) {
  return arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, x, y);
}
Value BodyBuilder::isEqual(Value x, Value y) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::eq, x, y);
}
Value BodyBuilder::isNatural(Value x) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::sge, x, id(0));
}
Value BodyBuilder::both(Value x, Value y) {
  return arith::AndIOp::create(b, x, y);
}
Value BodyBuilder::either(Value x, Value y) {
  return arith::OrIOp::create(b, x, y);
}
Value BodyBuilder::negate(Value value) {
  return arith::XOrIOp::create(b, value, flag(true));
}
Value BodyBuilder::select(Value condition, Value x, Value y) {
  return arith::SelectOp::create(b, condition, x, y);
}
Value BodyBuilder::pick(ArrayRef<Value> values, Value place) {
  // One test for each bit of the place rather than one for each value.
  SmallVector<Value> left(values);
  for (int64_t bit = 1; left.size() > 1; bit *= 2) {
    Value isZero = isEqual(arith::AndIOp::create(b, place, id(bit)), id(0));
    SmallVector<Value> half;
    for (size_t even = 0; even < left.size(); even += 2)
      half.push_back(even + 1 < left.size()
                         ? select(isZero, left[even], left[even + 1])
                         : left[even]);
    left = std::move(half);
  }
  return left.front();
}

Value BodyBuilder::idOf(Value value) {
  return arith::IndexCastOp::create(b, b.getI32Type(), value);
}
Value BodyBuilder::addId(Value x, Value y) {
  return arith::AddIOp::create(b, x, y);
}
Value BodyBuilder::subId(Value x, Value y) {
  return arith::SubIOp::create(b, x, y);
}

//===----------------------------------------------------------------------===//
// Loops, rows, branches
//===----------------------------------------------------------------------===//

SmallVector<Value> BodyBuilder::loop(int64_t count, ValueRange inits,
                                     Loop body) {
  return emitCountedLoop(b, count, inits, body);
}

SmallVector<Value> BodyBuilder::loopDown(int64_t count, ValueRange inits,
                                         Loop body) {
  Value last = index(count - 1);
  return emitCountedLoop(b, count, inits, [&](Value step, ValueRange carried) {
    return body(arith::SubIOp::create(b, last, step), carried);
  });
}

SmallVector<Value> BodyBuilder::loopRange(Value low, Value high, int64_t step,
                                          ValueRange inits, Loop body) {
  auto loop = scf::ForOp::create(
      b, low, high, index(step), inits,
      [&](OpBuilder &, Location, Value place, ValueRange carried) {
        scf::YieldOp::create(b, body(place, carried));
      });
  return loop.getResults();
}

SmallVector<Value> BodyBuilder::gather(ValueRange ids, int64_t count,
                                       llvm::function_ref<Value(Value)> read) {
  SmallVector<Value> inits(ids.size(), real(0.0));
  return loop(count, inits, [&](Value place, ValueRange carried) {
    Value value = read(place), number = idOf(place);
    SmallVector<Value> next;
    for (auto [own, previous] : llvm::zip(ids, carried))
      next.push_back(select(isEqual(own, number), value, previous));
    return next;
  });
}

Value BodyBuilder::makeRow(ArrayRef<int64_t> shape) {
  return tensor::EmptyOp::create(b, shape, type);
}

Value BodyBuilder::mapRow(int64_t count,
                          llvm::function_ref<Value(Value place)> value) {
  return loop(count, makeRow({count}),
              [&](Value place, ValueRange row) -> SmallVector<Value> {
                return {write(value(place), row[0], place)};
              })[0];
}

Value BodyBuilder::read(Value row, ValueRange indices) {
  return tensor::ExtractOp::create(b, row, indices);
}

Value BodyBuilder::readShared(Value tensor, ValueRange indices) {
  return convertFloat(b, tensor::ExtractOp::create(b, tensor, indices), type);
}

Value BodyBuilder::write(Value value, Value row, ValueRange indices) {
  return tensor::InsertOp::create(b, value, row, indices);
}

SmallVector<Value>
BodyBuilder::rarely(Value condition, ValueRange values,
                    llvm::function_ref<SmallVector<Value>()> body) {
  auto branch = scf::IfOp::create(
      b, condition,
      [&](OpBuilder &, Location) { scf::YieldOp::create(b, body()); },
      [&](OpBuilder &, Location) { scf::YieldOp::create(b, values); });
  return branch.getResults();
}

Value moe::convertFloat(ImplicitLocOpBuilder &b, Value value, Type element) {
  bool isFloat = isa<FloatType>(getElementTypeOrSelf(value.getType()));
  return isFloat ? convertElements(b, value, element) : value;
}

FloatType moe::getTokenComputeType(TokenBodyOpInterface op) {
  bool isWide = llvm::any_of(op->getResultTypes(), [](Type type) {
    return getElementTypeOrSelf(type).isF64();
  });
  for (OpOperand *operand : op.getTokenOperands())
    isWide |= getElementTypeOrSelf(operand->get().getType()).isF64();
  return isWide ? FloatType(Float64Type::get(op.getContext()))
                : Float32Type::get(op.getContext());
}

//===----------------------------------------------------------------------===//
// Random numbers
//===----------------------------------------------------------------------===//

namespace {
/// One of the halves of a 64-bit number, as i32.
Value halfOf(ImplicitLocOpBuilder &b, Value wide, bool isHigh) {
  if (isHigh) {
    Value places = arith::ConstantOp::create(b, b.getI64IntegerAttr(32));
    wide = arith::ShRUIOp::create(b, wide, places);
  }
  return arith::TruncIOp::create(b, b.getI32Type(), wide);
}

Value wordConstant(ImplicitLocOpBuilder &b, uint32_t value) {
  return arith::ConstantOp::create(
      b, b.getIntegerAttr(b.getI32Type(), APInt(32, value)));
}
} // namespace

std::array<Value, 4> moe::emitPhilox(BodyBuilder &body,
                                     const TokenRandom &random, Value block) {
  ImplicitLocOpBuilder &b = body.getBuilder();
  std::array<Value, 4> counter = {halfOf(b, random.token, /*isHigh=*/false),
                                  halfOf(b, random.token, /*isHigh=*/true),
                                  block, halfOf(b, random.layer, false)};
  std::array<Value, 2> key = {halfOf(b, random.seed, false),
                              halfOf(b, random.seed, true)};
  Value multipliers[] = {wordConstant(b, 0xD2511F53),
                         wordConstant(b, 0xCD9E8D57)};
  Value weyl[] = {wordConstant(b, 0x9E3779B9), wordConstant(b, 0xBB67AE85)};
  for (int round = 0; round < 10; ++round) {
    if (round > 0)
      for (auto [word, step] : llvm::zip(key, weyl))
        word = arith::AddIOp::create(b, word, step);
    auto first = arith::MulUIExtendedOp::create(b, multipliers[0], counter[0]);
    auto second = arith::MulUIExtendedOp::create(b, multipliers[1], counter[2]);
    auto mix = [&](Value high, Value word, Value keyWord) -> Value {
      Value mixed = arith::XOrIOp::create(b, high, word);
      return arith::XOrIOp::create(b, mixed, keyWord);
    };
    counter = {mix(second.getHigh(), counter[1], key[0]), second.getLow(),
               mix(first.getHigh(), counter[3], key[1]), first.getLow()};
  }
  return counter;
}

Value moe::emitUniform(BodyBuilder &body, Value word) {
  ImplicitLocOpBuilder &b = body.getBuilder();
  Value bits = arith::ShRUIOp::create(b, word, wordConstant(b, 8));
  // 24 bits: no sign, and exact in every compute type.
  return body.mul(arith::SIToFPOp::create(b, body.getType(), bits),
                  body.real(0x1p-24));
}

Value moe::emitDrawnRow(
    BodyBuilder &body, const TokenRandom &random, int64_t count,
    llvm::function_ref<SmallVector<Value>(ArrayRef<Value> words)> spread,
    llvm::function_ref<Value(Value place, Value drawn)> value) {
  ImplicitLocOpBuilder &b = body.getBuilder();
  auto writeBlock = [&](Value block, Value row, int64_t size) {
    auto words = emitPhilox(body, random, body.idOf(block));
    SmallVector<Value> drawn = spread(words);
    Value first = arith::MulIOp::create(b, block, body.index(4));
    for (int64_t draw = 0; draw < size; ++draw) {
      Value place = arith::AddIOp::create(b, first, body.index(draw));
      row = body.write(value(place, drawn[draw]), row, place);
    }
    return row;
  };
  Value row = body.makeRow({count});
  int64_t blocks = count / 4;
  if (blocks > 0)
    row = body.loop(blocks, row, [&](Value block, ValueRange carried) {
      return SmallVector<Value>{writeBlock(block, carried[0], 4)};
    })[0];
  if (count % 4 != 0)
    row = writeBlock(body.index(blocks), row, count % 4);
  return row;
}

Value moe::emitDrawnRow(
    BodyBuilder &body, const TokenRandom &random, int64_t count,
    Value (*number)(BodyBuilder &b, Value word),
    llvm::function_ref<Value(Value place, Value drawn)> value) {
  auto spread = [&](ArrayRef<Value> words) {
    return llvm::map_to_vector(words,
                               [&](Value word) { return number(body, word); });
  };
  return emitDrawnRow(body, random, count, spread, value);
}

/// log of u + 2^-25, which is never that of 0.
static Value emitLogUniform(BodyBuilder &b, Value word) {
  return b.log(b.add(emitUniform(b, word), b.real(0x1p-25)));
}

std::pair<Value, Value> moe::emitNormals(BodyBuilder &body, Value word,
                                         Value next) {
  ImplicitLocOpBuilder &b = body.getBuilder();
  Value square = body.mul(body.real(-2.0), emitLogUniform(body, word));
  Value radius = math::SqrtOp::create(b, square);
  constexpr double kTwoPi = 6.283185307179586;
  Value angle = body.mul(body.real(kTwoPi), emitUniform(body, next));
  return {body.mul(radius, math::CosOp::create(b, angle)),
          body.mul(radius, math::SinOp::create(b, angle))};
}

Value moe::emitGumbel(BodyBuilder &body, Value word) {
  ImplicitLocOpBuilder &b = body.getBuilder();
  Value inner = arith::NegFOp::create(b, emitLogUniform(body, word));
  return arith::NegFOp::create(b, body.log(inner));
}

Value moe::emitDraw(BodyBuilder &body, const TokenRandom &random,
                    int64_t draw) {
  Value block = body.id(draw / 4);
  return emitUniform(body, emitPhilox(body, random, block)[draw % 4]);
}
