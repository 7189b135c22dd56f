//===- LaneIO.cpp - Token rows to lanes and back --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/LaneIO.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::moe;

static Value readVector(ImplicitLocOpBuilder &b, Value from, ValueRange at,
                        int64_t lanes, bool inBounds) {
  Type element = getElementTypeOrSelf(from.getType());
  Value padding = arith::ConstantOp::create(b, b.getZeroAttr(element));
  return vector::TransferReadOp::create(b, VectorType::get({lanes}, element),
                                        from, at, padding,
                                        ArrayRef<bool>(inBounds));
}

static Value writeVector(ImplicitLocOpBuilder &b, Value vector, Value to,
                         ValueRange at, bool inBounds = true) {
  return vector::TransferWriteOp::create(b, vector, to, at,
                                         ArrayRef<bool>(inBounds))
      .getResult();
}

LaneIO::LaneIO(ImplicitLocOpBuilder &b, int64_t lanes, Value tokens,
               Value first)
    : b(b), lanes(lanes), first(first) {
  Value one = arith::ConstantIndexOp::create(b, 1);
  last = arith::SubIOp::create(b, tokens, one);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    Value offset = arith::ConstantIndexOp::create(b, lane);
    Value own = arith::AddIOp::create(b, first, offset);
    token.push_back(arith::MinUIOp::create(b, own, last));
  }
}

//===----------------------------------------------------------------------===//
// Transposes
//===----------------------------------------------------------------------===//

Value LaneIO::shuffle(Value low, Value high, ArrayRef<int64_t> mask) {
  return vector::ShuffleOp::create(b, low, high, mask);
}

/// One vector a row to one vector a column. A round of interleaving rotates the
/// bits of an element's address (vector, lane) by one place; log2(lanes) rounds
/// exchange the two. Columns that nobody reads leave no code.
SmallVector<Value> LaneIO::turn(SmallVector<Value> rows) {
  SmallVector<int64_t> low, high;
  for (int64_t lane = 0; lane < lanes / 2; ++lane) {
    low.append({lane, lane + lanes});
    high.append({lane + lanes / 2, lane + lanes / 2 + lanes});
  }
  for (int64_t round = 1; round < lanes; round *= 2) {
    SmallVector<Value> next;
    for (int64_t i = 0; i < lanes / 2; ++i)
      for (ArrayRef<int64_t> mask : {ArrayRef(low), ArrayRef(high)})
        next.push_back(shuffle(rows[i], rows[i + lanes / 2], mask));
    rows = next;
  }
  return rows;
}

/// One vector a column, at most `lanes` of them, to one vector a row. Rounds of
/// the inverse leave all of a row in one vector, at a stride.
SmallVector<Value> LaneIO::turnBack(SmallVector<Value> columns) {
  auto count = static_cast<int64_t>(columns.size());
  auto padded = static_cast<int64_t>(llvm::PowerOf2Ceil(count));
  while (static_cast<int64_t>(columns.size()) < padded)
    columns.push_back(ub::PoisonOp::create(b, columns[0].getType()));
  SmallVector<int64_t> even, odd;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    even.push_back(2 * lane);
    odd.push_back(2 * lane + 1);
  }
  for (int64_t round = 1; round < padded; round *= 2) {
    SmallVector<Value> next(padded);
    for (int64_t i = 0; i < padded / 2; ++i) {
      next[i] = shuffle(columns[2 * i], columns[2 * i + 1], even);
      next[i + padded / 2] = shuffle(columns[2 * i], columns[2 * i + 1], odd);
    }
    columns = next;
  }
  int64_t stride = lanes / padded;
  if (stride == 1 && count == lanes)
    return columns;
  SmallVector<Value> rows;
  for (int64_t row = 0; row < lanes; ++row) {
    SmallVector<int64_t> mask;
    for (int64_t column = 0; column < count; ++column)
      mask.push_back(column * stride + row / padded);
    Value from = columns[row % padded];
    rows.push_back(shuffle(from, from, mask));
  }
  return rows;
}

/// Calls `block` on the first column and the width of each block of columns of
/// `width`; whole ones are a loop. The carried value is what it returns.
Value LaneIO::forBlocks(
    int64_t width, Value init,
    llvm::function_ref<Value(Value column, int64_t size, Value carried)>
        block) {
  int64_t whole = width / lanes * lanes;
  Value carried = init, zero = arith::ConstantIndexOp::create(b, 0);
  if (whole > lanes) {
    Value end = arith::ConstantIndexOp::create(b, whole);
    Value step = arith::ConstantIndexOp::create(b, lanes);
    carried = scf::ForOp::create(
                  b, zero, end, step, carried,
                  [&](OpBuilder &, Location, Value column, ValueRange so) {
                    scf::YieldOp::create(b, block(column, lanes, so[0]));
                  })
                  .getResult(0);
  } else if (whole > 0) {
    carried = block(zero, lanes, carried);
  }
  if (whole < width)
    carried =
        block(arith::ConstantIndexOp::create(b, whole), width - whole, carried);
  return carried;
}

//===----------------------------------------------------------------------===//
// Reads
//===----------------------------------------------------------------------===//

Value LaneIO::readRows(Value rows, Type type) {
  int64_t width = cast<RankedTensorType>(rows.getType()).getDimSize(1);
  Value lanesOfRow =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{width, lanes}, type);
  Value zero = arith::ConstantIndexOp::create(b, 0);
  return forBlocks(
      width, lanesOfRow, [&](Value place, int64_t size, Value carried) {
        SmallVector<Value> block;
        for (Value own : token) {
          Value row = readVector(b, rows, {own, place}, lanes,
                                 /*inBounds=*/size == lanes);
          block.push_back(convertFloat(b, row, type));
        }
        SmallVector<Value> columns = turn(std::move(block));
        for (int64_t column = 0; column < size; ++column) {
          Value at = arith::AddIOp::create(
              b, place, arith::ConstantIndexOp::create(b, column));
          carried = writeVector(b, columns[column], carried, {at, zero});
        }
        return carried;
      });
}

Value LaneIO::readScalars(Value values, Type type) {
  Value read = readVector(b, values, first, lanes, /*inBounds=*/false);
  Value of = tensor::ExtractOp::create(b, values, last);
  Value repeated = vector::BroadcastOp::create(b, read.getType(), of);
  Value present = vector::CreateMaskOp::create(
      b, VectorType::get({lanes}, b.getI1Type()),
      ValueRange{arith::SubIOp::create(b, last, first)});
  read = arith::SelectOp::create(b, present, read, repeated);
  return convertFloat(b, read, type);
}

Value LaneIO::readNumbers(Value firstNumber) {
  auto numberOf = [&](Value token) -> Value {
    Value number = arith::IndexCastOp::create(b, b.getI64Type(), token);
    if (firstNumber)
      number = arith::AddIOp::create(b, firstNumber, number);
    return number;
  };
  auto type = VectorType::get({lanes}, b.getI64Type());
  auto steps = llvm::to_vector(llvm::seq<int64_t>(0, lanes));
  Value step = arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, ArrayRef<int64_t>(steps)));
  Value numbers = arith::AddIOp::create(
      b, vector::BroadcastOp::create(b, type, numberOf(first)), step);
  return arith::MinSIOp::create(
      b, numbers, vector::BroadcastOp::create(b, type, numberOf(last)));
}

//===----------------------------------------------------------------------===//
// Writes
//===----------------------------------------------------------------------===//

Value LaneIO::write(const TokenValue &value, Value dest) {
  if (value.row)
    return writeRows(value.row, dest);
  if (cast<RankedTensorType>(dest.getType()).getRank() == 1)
    return writeScalars(value.columns[0], dest);
  for (size_t from = 0; from < value.columns.size(); from += lanes) {
    ArrayRef<Value> rest = ArrayRef(value.columns).drop_front(from);
    Value place = arith::ConstantIndexOp::create(b, from);
    dest = writeColumns(rest.take_front(lanes), dest, place);
  }
  return dest;
}

Value LaneIO::writeScalars(Value values, Value dest) {
  Type element = getElementTypeOrSelf(dest.getType());
  return writeVector(b, convertFloat(b, values, element), dest, first,
                     /*inBounds=*/false);
}

Value LaneIO::writeColumns(ArrayRef<Value> columns, Value dest, Value place) {
  Type element = getElementTypeOrSelf(dest.getType());
  SmallVector<Value> rows = turnBack(llvm::to_vector(columns));
  for (auto [own, row] : llvm::zip(token, rows))
    dest = writeVector(b, convertFloat(b, row, element), dest, {own, place});
  return dest;
}

Value LaneIO::writeRows(Value rows, Value dest) {
  int64_t width = cast<RankedTensorType>(rows.getType()).getDimSize(0);
  Value zero = arith::ConstantIndexOp::create(b, 0);
  return forBlocks(width, dest, [&](Value place, int64_t size, Value carried) {
    SmallVector<Value> columns;
    for (int64_t column = 0; column < size; ++column) {
      Value at = arith::AddIOp::create(
          b, place, arith::ConstantIndexOp::create(b, column));
      columns.push_back(
          readVector(b, rows, {at, zero}, lanes, /*inBounds=*/true));
    }
    return writeColumns(columns, carried, place);
  });
}
