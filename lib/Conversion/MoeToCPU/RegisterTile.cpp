//===- RegisterTile.cpp - A tile of sums in registers ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RegisterTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::moe;

void moe::emitRegisterTile(ImplicitLocOpBuilder &b, VectorEmitter &emit,
                           const TileOperands &operands, Value row, Value count,
                           int64_t numVectors) {
  SmallVector<Value> rows;
  SmallVector<SmallVector<Value>> places;
  SmallVector<Value> held;
  for (int64_t i = 0; i < kTileRows; ++i) {
    rows.push_back(arith::AddIOp::create(b, row, emit.index(i)));
    for (int64_t vector = 0; vector < numVectors; ++vector) {
      places.push_back({rows[i], emit.index(vector * emit.getLanes())});
      held.push_back(emit.load(operands.sums, places.back(), emit.getLanes()));
    }
  }
  auto loop = scf::ForOp::create(
      b, emit.index(0), count, emit.index(1), held,
      [&](OpBuilder &, Location, Value step, ValueRange carried) {
        SmallVector<Value> columns, next;
        for (int64_t vector = 0; vector < numVectors; ++vector)
          columns.push_back(operands.columns(step, vector));
        for (int64_t i = 0; i < kTileRows; ++i) {
          Value factor = emit.broadcast(operands.factor(step, rows[i]));
          for (int64_t vector = 0; vector < numVectors; ++vector)
            next.push_back(vector::FMAOp::create(
                b, factor, columns[vector], carried[i * numVectors + vector]));
        }
        scf::YieldOp::create(b, next);
      });
  for (auto [sum, place] : llvm::zip(loop.getResults(), places))
    vector::StoreOp::create(b, sum, operands.sums, place);
}
