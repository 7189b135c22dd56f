//===- GateProduct.cpp - The product of a fused gate ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// The weight [R, H] is copied once a call into panels [R / lanes, H, lanes] of
// the compute type, transposed in registers. A tile of a few rows times a few
// panels is then formed in registers: per h a vector of each panel times a
// scalar of each row. Every logit is one sum in the order of h, whatever tile
// its row is in, so that a row's result depends on nothing but the row.
//
//===----------------------------------------------------------------------===//

#include "GateProduct.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/LaneIO.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Rows of the register tiles, tried from the largest on.
constexpr int64_t kTileRows[] = {6, 4, 2, 1};
/// Panels of a register tile; with 6 rows, 24 sums and 4 vectors of weights.
constexpr int64_t kTilePanels = 4;

class TiledGate {
public:
  TiledGate(ImplicitLocOpBuilder &b, GateOp op)
      : b(b), op(op), out(typeOf(op.getWeight()).getDimSize(0)),
        in(typeOf(op.getWeight()).getDimSize(1)) {
    bool isWide =
        llvm::any_of(op->getOperands(), isF64) || isF64(op.getLogits());
    compute = isWide ? FloatType(b.getF64Type()) : b.getF32Type();
    lanes = isWide ? 8 : 16;
    panels = (out + lanes - 1) / lanes;
  }

  Value emitPanels();
  Value emitProduct(Value packed);

private:
  static RankedTensorType typeOf(Value value) {
    return cast<RankedTensorType>(value.getType());
  }
  static bool isF64(Value value) {
    return getElementTypeOrSelf(value.getType()).isF64();
  }

  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(b, value);
  }
  Value offset(Value start, int64_t by) {
    return arith::AddIOp::create(b, start, index(by));
  }
  Value readVector(Value from, ValueRange at, bool inBounds);
  Value loop(Value begin, Value end, int64_t step, Value init,
             llvm::function_ref<Value(Value place, Value carried)> body);
  Value widenRows(Value row, int64_t count);
  /// Panels [first, first + count) of the weight, of whose columns the last
  /// `rest` are not there.
  struct Panels {
    Value weight, first;
    int64_t count, rest;
  };
  Value emitTile(const Panels &from, Value rows, Value row, Value place,
                 int64_t count, Value logits);
  Value emitRowTiles(const Panels &from, Value logits);

  ImplicitLocOpBuilder &b;
  GateOp op;
  int64_t out, in, lanes = 0, panels = 0;
  FloatType compute;
};

/// `lanes` neighbours in the compute type; what is out of bounds reads zeros.
Value TiledGate::readVector(Value from, ValueRange at, bool inBounds) {
  Type element = getElementTypeOrSelf(from.getType());
  Value padding = arith::ConstantOp::create(b, b.getZeroAttr(element));
  Value read =
      vector::TransferReadOp::create(b, VectorType::get({lanes}, element), from,
                                     at, padding, ArrayRef<bool>(inBounds));
  return convertFloat(b, read, compute);
}

Value TiledGate::loop(Value begin, Value end, int64_t step, Value init,
                      llvm::function_ref<Value(Value, Value)> body) {
  return scf::ForOp::create(
             b, begin, end, index(step), init,
             [&](OpBuilder &, Location, Value place, ValueRange carried) {
               scf::YieldOp::create(b, body(place, carried[0]));
             })
      .getResult(0);
}

/// The weight in panels; the last one repeats the last row.
Value TiledGate::emitPanels() {
  Value empty =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{panels, in, lanes}, compute);
  auto forall = scf::ForallOp::create(
      b, ArrayRef<OpFoldResult>{b.getIndexAttr(panels)}, ValueRange{empty},
      /*mapping=*/std::nullopt);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(forall.getBody());
  Value number = forall.getInductionVar(0);
  Value first = arith::MulIOp::create(b, number, index(lanes));
  LaneIO io(b, lanes, index(out), first);
  Value panel = io.readRows(op.getWeight(), compute);
  b.setInsertionPointToStart(forall.getTerminator().getBody());
  SmallVector<OpFoldResult> offsets = {number, b.getIndexAttr(0),
                                       b.getIndexAttr(0)};
  SmallVector<OpFoldResult> sizes = {b.getIndexAttr(1), b.getIndexAttr(in),
                                     b.getIndexAttr(lanes)};
  SmallVector<OpFoldResult> strides(3, b.getIndexAttr(1));
  tensor::ParallelInsertSliceOp::create(b, panel, forall.getRegionIterArgs()[0],
                                        offsets, sizes, strides);
  return forall.getResult(0);
}

/// `count` rows of the input in the compute type; the input itself where it has
/// that type.
Value TiledGate::widenRows(Value row, int64_t count) {
  if (getElementTypeOrSelf(op.getInput().getType()) == compute)
    return op.getInput();
  Value rows =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{count, in}, compute);
  auto copy = [&](Value place, Value carried, bool inBounds) {
    for (int64_t i = 0; i < count; ++i) {
      Value values =
          readVector(op.getInput(), {offset(row, i), place}, inBounds);
      carried = vector::TransferWriteOp::create(b, values, carried,
                                                ValueRange{index(i), place},
                                                ArrayRef<bool>(inBounds))
                    .getResult();
    }
    return carried;
  };
  int64_t whole = in / lanes * lanes;
  if (whole > 0)
    rows = loop(index(0), index(whole), lanes, rows,
                [&](Value place, Value carried) {
                  return copy(place, carried, /*inBounds=*/true);
                });
  if (whole < in)
    rows = copy(index(whole), rows, /*inBounds=*/false);
  return rows;
}

/// Logits of rows [row, row + count), which stand in `rows` from `place` on.
Value TiledGate::emitTile(const Panels &from, Value rows, Value row,
                          Value place, int64_t count, Value logits) {
  auto vectorType = VectorType::get({lanes}, compute);
  Value zero = arith::ConstantOp::create(b, b.getZeroAttr(vectorType));
  SmallVector<Value> inits(count * from.count, zero);
  auto sums = scf::ForOp::create(
      b, index(0), index(in), index(1), inits,
      [&](OpBuilder &, Location, Value h, ValueRange carried) {
        SmallVector<Value> weights, next(carried);
        for (int64_t panel = 0; panel < from.count; ++panel)
          weights.push_back(readVector(
              from.weight, {offset(from.first, panel), h, index(0)}, true));
        for (int64_t i = 0; i < count; ++i) {
          Value x = tensor::ExtractOp::create(b, rows,
                                              ValueRange{offset(place, i), h});
          x = vector::BroadcastOp::create(b, vectorType, x);
          for (int64_t panel = 0; panel < from.count; ++panel) {
            Value &sum = next[i * from.count + panel];
            sum = vector::FMAOp::create(b, x, weights[panel], sum);
          }
        }
        scf::YieldOp::create(b, next);
      });
  Type element = getElementTypeOrSelf(op.getLogits().getType());
  for (int64_t panel = 0; panel < from.count; ++panel) {
    Value column =
        arith::MulIOp::create(b, offset(from.first, panel), index(lanes));
    bool isWhole = from.rest == 0 || panel + 1 < from.count;
    Value bias;
    if (op.getBias())
      bias = readVector(op.getBias(), column, isWhole);
    for (int64_t i = 0; i < count; ++i) {
      Value sum = sums.getResult(i * from.count + panel);
      if (bias)
        sum = arith::AddFOp::create(b, sum, bias);
      logits = vector::TransferWriteOp::create(
                   b, convertFloat(b, sum, element), logits,
                   ValueRange{offset(row, i), column}, ArrayRef<bool>(isWhole))
                   .getResult();
    }
  }
  return logits;
}

/// The logits of all rows. Most rows are in the largest tiles, what is left of
/// them in the smaller ones.
Value TiledGate::emitRowTiles(const Panels &from, Value logits) {
  Value begin = index(0);
  Value end = b.createOrFold<tensor::DimOp>(op.getInput(), 0);
  bool isWidened = getElementTypeOrSelf(op.getInput().getType()) != compute;
  for (int64_t count : kTileRows) {
    Value rest = arith::RemUIOp::create(b, arith::SubIOp::create(b, end, begin),
                                        index(count));
    Value fullEnd = arith::SubIOp::create(b, end, rest);
    logits = loop(begin, fullEnd, count, logits, [&](Value row, Value carried) {
      Value rows = widenRows(row, count);
      Value place = isWidened ? index(0) : row;
      return emitTile(from, rows, row, place, count, carried);
    });
    begin = fullEnd;
  }
  return logits;
}

Value TiledGate::emitProduct(Value packed) {
  RankedTensorType type = op.getLogits().getType();
  OpFoldResult size = tensor::getMixedSize(b, op.getLoc(), op.getInput(), 0);
  Value logits = tensor::EmptyOp::create(
      b, ArrayRef<OpFoldResult>{size, b.getIndexAttr(out)},
      type.getElementType());
  // Panels outside, rows inside: a few panels stay in a core's own cache.
  int64_t full = out / lanes / kTilePanels * kTilePanels;
  if (full > 0)
    logits = loop(index(0), index(full), kTilePanels, logits,
                  [&](Value first, Value carried) {
                    Panels from{packed, first, kTilePanels, /*rest=*/0};
                    return emitRowTiles(from, carried);
                  });
  if (full < panels) {
    Panels from{packed, index(full), panels - full, panels * lanes - out};
    logits = emitRowTiles(from, logits);
  }
  if (logits.getType() == type)
    return logits;
  return tensor::CastOp::create(b, type, logits);
}

} // namespace

Value moe::emitTiledGate(GateOp op) {
  Operation *outermost = nullptr;
  for (auto loop = op->getParentOfType<scf::ForallOp>(); loop;
       loop = loop->getParentOfType<scf::ForallOp>())
    outermost = loop;
  if (!outermost ||
      outermost->isAncestor(op.getWeight().getParentBlock()->getParentOp()))
    return {};
  ImplicitLocOpBuilder b(op.getLoc(), outermost);
  TiledGate gate(b, op);
  Value packed = gate.emitPanels();
  b.setInsertionPoint(op);
  return gate.emitProduct(packed);
}
