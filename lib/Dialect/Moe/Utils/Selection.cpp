//===- Selection.cpp - The k largest, as generated scalar code ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/Selection.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::moe;

KeyOrder::KeyOrder(ImplicitLocOpBuilder &b, FloatType type)
    : b(b), type(type), keyType(b.getIntegerType(type.getWidth())) {}

Value KeyOrder::keyConstant(const APInt &value) {
  return arith::ConstantOp::create(b, b.getIntegerAttr(keyType, value));
}

Value KeyOrder::getEmptyKey() {
  return keyConstant(APInt::getSignedMinValue(keyType.getWidth()));
}

Value KeyOrder::flip(Value bits) {
  unsigned width = keyType.getWidth();
  Value sign =
      arith::ShRSIOp::create(b, bits, keyConstant(APInt(width, width - 1)));
  Value magnitude = arith::AndIOp::create(
      b, sign, keyConstant(APInt::getSignedMaxValue(width)));
  return arith::XOrIOp::create(b, bits, magnitude);
}

Value KeyOrder::encode(Value value) {
  unsigned width = keyType.getWidth();
  // Adding +0 makes +0 of -0 and changes nothing else.
  Value zero = arith::ConstantOp::create(b, b.getFloatAttr(type, 0.0));
  Value plain = arith::AddFOp::create(b, value, zero);
  Value key = flip(arith::BitcastOp::create(b, keyType, plain));
  Value isNaN =
      arith::CmpFOp::create(b, arith::CmpFPredicate::UNO, value, value);
  Value nanKey = keyConstant(APInt::getSignedMinValue(width) + 1);
  return arith::SelectOp::create(b, isNaN, nanKey, key);
}

Value KeyOrder::decode(Value key) {
  // The key of NaN flips back to the bits of a NaN by itself.
  return arith::BitcastOp::create(b, type, flip(key));
}

Value KeyOrder::isGreater(Value key, Value other) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::sgt, key, other);
}

SmallVector<Value> moe::emitCountedLoop(
    ImplicitLocOpBuilder &b, int64_t count, ValueRange inits,
    llvm::function_ref<SmallVector<Value>(Value index, ValueRange carried)>
        body) {
  Value zero = arith::ConstantIndexOp::create(b, 0);
  Value end = arith::ConstantIndexOp::create(b, count);
  Value one = arith::ConstantIndexOp::create(b, 1);
  auto loop = scf::ForOp::create(
      b, zero, end, one, inits,
      [&](OpBuilder &, Location loc, Value index, ValueRange carried) {
        SmallVector<Value> next = body(index, carried);
        scf::YieldOp::create(b, next);
      });
  return loop.getResults();
}

RankedKeys moe::emitInsertion(ImplicitLocOpBuilder &b, KeyOrder &order,
                              const RankedKeys &best, Value key, Value id) {
  RankedKeys next;
  Value aboveHigher; // Whether the new key is above the place before this one.
  for (size_t place = 0, k = best.keys.size(); place < k; ++place) {
    Value above = order.isGreater(key, best.keys[place]);
    auto move = [&](ArrayRef<Value> values, Value inserted) -> Value {
      Value arriving = inserted;
      if (place > 0)
        arriving = arith::SelectOp::create(b, aboveHigher, values[place - 1],
                                           inserted);
      return arith::SelectOp::create(b, above, arriving, values[place]);
    };
    next.keys.push_back(move(best.keys, key));
    next.ids.push_back(move(best.ids, id));
    aboveHigher = above;
  }
  return next;
}

RankedKeys moe::emitEmptyRanking(ImplicitLocOpBuilder &b, KeyOrder &order,
                                 int64_t k) {
  Value empty = order.getEmptyKey();
  Value noId = arith::ConstantOp::create(b, b.getI32IntegerAttr(0));
  return {SmallVector<Value>(k, empty), SmallVector<Value>(k, noId)};
}

RankedKeys moe::emitTopK(ImplicitLocOpBuilder &b, KeyOrder &order, int64_t k,
                         int64_t count,
                         llvm::function_ref<Value(Value index)> emitKey) {
  RankedKeys empty = emitEmptyRanking(b, order, k);
  SmallVector<Value> inits(empty.keys);
  llvm::append_range(inits, empty.ids);
  SmallVector<Value> results =
      emitCountedLoop(b, count, inits, [&](Value index, ValueRange carried) {
        RankedKeys best{llvm::to_vector(carried.take_front(k)),
                        llvm::to_vector(carried.drop_front(k))};
        Value key = emitKey(index);
        Value id = arith::IndexCastOp::create(b, b.getI32Type(), index);
        RankedKeys next = emitInsertion(b, order, best, key, id);
        SmallVector<Value> values(next.keys);
        llvm::append_range(values, next.ids);
        return values;
      });
  ArrayRef<Value> all(results);
  return {llvm::to_vector(all.take_front(k)),
          llvm::to_vector(all.drop_front(k))};
}
