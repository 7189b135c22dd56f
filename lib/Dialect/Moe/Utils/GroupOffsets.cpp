//===- GroupOffsets.cpp - The check of group offsets ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/GroupOffsets.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;

/// The loop over tiles in front of which a value is known, or null. A task
/// cannot leave the entry with an error, so that a check stands there.
static Operation *findLoopBehind(Operation *op, Value value) {
  Operation *behind = nullptr;
  while (auto loop = op->getParentOfType<scf::ForallOp>()) {
    if (loop->isAncestor(value.getParentBlock()->getParentOp()))
      break;
    op = behind = loop;
  }
  return behind;
}

void moe::emitGroupOffsetsCheck(ImplicitLocOpBuilder &b, StringRef opName,
                                Value offsets, Value numTokens) {
  OpBuilder::InsertionGuard guard(b);
  Operation *here = b.getInsertionBlock()->getParentOp();
  if (b.getInsertionPoint() != b.getInsertionBlock()->end())
    here = &*b.getInsertionPoint();
  if (Operation *loop = findLoopBehind(here, offsets)) {
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
  fits =
      scf::ForOp::create(
          b, zero, last, one, fits,
          [&](OpBuilder &, Location, Value group, ValueRange carried) {
            Value next = arith::AddIOp::create(b, group, one);
            Value ascends =
                compare(arith::CmpIPredicate::sle, read(group), read(next));
            scf::YieldOp::create(
                b, arith::AndIOp::create(b, carried[0], ascends).getResult());
          })
          .getResult(0);
  assertThat(fits, "do not ascend from 0 to the number of tokens");
}
