//===- EntryChecks.cpp - Errors of an entry, in front of its loops --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/EntryChecks.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;

/// The loop over tiles in front of which a value is known, or null; a tile
/// becomes the value that it is of.
static Operation *findLoopBehind(ImplicitLocOpBuilder &b, Value &value) {
  Operation *op = b.getInsertionBlock()->getParentOp();
  if (b.getInsertionPoint() != b.getInsertionBlock()->end())
    op = &*b.getInsertionPoint();
  Operation *behind = nullptr;
  while (auto loop = op->getParentOfType<scf::ForallOp>()) {
    auto tile = value.getDefiningOp<tensor::ExtractSliceOp>();
    if (tile && loop->isAncestor(tile))
      value = tile.getSource();
    if (loop->isAncestor(value.getParentBlock()->getParentOp()))
      break;
    op = behind = loop;
  }
  return behind;
}

void moe::emitGroupOffsetsCheck(ImplicitLocOpBuilder &b, StringRef opName,
                                Value offsets, Value numTokens,
                                HoldsBuilder emitHolds) {
  OpBuilder::InsertionGuard guard(b);
  if (Operation *loop = findLoopBehind(b, offsets)) {
    auto dim = numTokens.getDefiningOp<tensor::DimOp>();
    b.setInsertionPoint(loop);
    if (dim && loop->isAncestor(dim))
      numTokens = b.createOrFold<tensor::DimOp>(dim.getSource(),
                                                *dim.getConstantIndex());
  }
  auto assertThat = [&](Value condition, StringRef message) {
    cf::AssertOp::create(
        b, condition,
        b.getStringAttr(opName + ": the group offsets " + message));
  };
  auto compare = [&](arith::CmpIPredicate predicate, Value x,
                     Value y) -> Value {
    return arith::CmpIOp::create(b, predicate, x, y);
  };
  auto read = [&](Value place) -> Value {
    return tensor::ExtractOp::create(b, offsets, place);
  };
  auto readIndex = [&](Value place) -> Value {
    return arith::IndexCastOp::create(b, b.getIndexType(), read(place));
  };
  Value zero = arith::ConstantIndexOp::create(b, 0);
  Value one = arith::ConstantIndexOp::create(b, 1);
  Value last =
      arith::SubIOp::create(b, b.createOrFold<tensor::DimOp>(offsets, 0), one);
  if (cast<RankedTensorType>(offsets.getType()).isDynamicDim(0))
    assertThat(compare(arith::CmpIPredicate::sge, last, zero), "are empty");
  Value fits = arith::AndIOp::create(
      b, compare(arith::CmpIPredicate::eq, readIndex(zero), zero),
      compare(arith::CmpIPredicate::eq, readIndex(last), numTokens));
  auto ascends = [&](Value group) -> Value {
    Value next = arith::AddIOp::create(b, group, one);
    return compare(arith::CmpIPredicate::sle, read(group), read(next));
  };
  if (emitHolds)
    fits = emitHolds(last, fits, ascends);
  else
    fits = scf::ForOp::create(
               b, zero, last, one, fits,
               [&](OpBuilder &, Location, Value group, ValueRange carried) {
                 Value both =
                     arith::AndIOp::create(b, carried[0], ascends(group));
                 scf::YieldOp::create(b, both);
               })
               .getResult(0);
  assertThat(fits, "do not ascend from 0 to the number of tokens");
}

void moe::emitIdsCheck(ImplicitLocOpBuilder &b, StringRef opName, Value ids,
                       int64_t bound) {
  OpBuilder::InsertionGuard guard(b);
  if (Operation *loop = findLoopBehind(b, ids))
    b.setInsertionPoint(loop);
  auto constant = [&](Attribute value) -> Value {
    return arith::ConstantOp::create(b, cast<TypedAttr>(value));
  };
  Value init = tensor::FromElementsOp::create(
      b, RankedTensorType::get({}, b.getI1Type()),
      constant(b.getBoolAttr(true)));
  SmallVector<AffineMap> maps = {b.getMultiDimIdentityMap(2),
                                 AffineMap::get(2, 0, b.getContext())};
  SmallVector<utils::IteratorType> iterators(2, utils::IteratorType::reduction);
  auto check = linalg::GenericOp::create(
      b, init.getType(), ids, init, maps, iterators,
      [&](OpBuilder &, Location, ValueRange args) {
        auto holds = [&](arith::CmpIPredicate predicate, int64_t other) {
          return arith::CmpIOp::create(b, predicate, args[0],
                                       constant(b.getI32IntegerAttr(other)));
        };
        Value both =
            arith::AndIOp::create(b, holds(arith::CmpIPredicate::sge, -1),
                                  holds(arith::CmpIPredicate::slt, bound));
        Value all = arith::AndIOp::create(b, both, args[1]);
        linalg::YieldOp::create(b, all);
      });
  Value fits = tensor::ExtractOp::create(b, check.getResult(0), ValueRange());
  cf::AssertOp::create(b, fits,
                       b.getStringAttr(opName +
                                       ": a given expert id is outside [-1, " +
                                       Twine(bound) + ")"));
}
