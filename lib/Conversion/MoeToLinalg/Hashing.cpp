//===- Hashing.cpp - route_hash -------------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "Patterns.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

namespace {

class RouteHashLowering final : public Lowering<RouteHashOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(RouteHashOp op,
                          ImplicitLocOpBuilder &b) const override {
    checkTokens(b, op);
    SmallVector<Value> dests = emitDestinations(b, op);
    Value ids = emitIds(b, op, dests[0]);
    Value weights = emitMap(b, ids, {{0, 1}}, dests[1], [&](ValueRange id) {
      Type type = getElementType(dests[1]);
      Value isEmpty = arith::CmpIOp::create(b, arith::CmpIPredicate::slt, id[0],
                                            emitI32(b, 0));
      return arith::SelectOp::create(b, isEmpty, emitFloat(b, type, 0.0),
                                     emitFloat(b, type, 1.0));
    });
    return {ids, weights};
  }

  /// Asserts that token ids have a row and that the rows name experts, in front
  /// of everything that is written.
  static void checkTokens(ImplicitLocOpBuilder &b, RouteHashOp op) {
    Value numRows = emitToI32(b, emitDim(b, op.getTable(), 0));
    Value hasRow = emitAll(b, op.getTokenIds(), [&](Value token) {
      return emitIsWithin(b, token, numRows);
    });
    emitAssert(b, hasRow, "moe.route_hash: a token id is not in the table");
    int64_t numSlots = op.getTable().getType().getDimSize(1);
    Value bound = emitI32(b, op.getNumExperts());
    Value areExperts = emitAll(b, op.getTokenIds(), [&](Value token) {
      Value row = emitToIndex(b, token);
      Value all = arith::ConstantOp::create(b, b.getBoolAttr(true));
      for (int64_t slot = 0; slot < numSlots; ++slot) {
        Value id = emitRead(b, op.getTable(), {row, emitIndex(b, slot)});
        all = arith::AndIOp::create(b, all, emitIsWithin(b, id, bound));
      }
      return all;
    });
    emitAssert(b, areExperts,
               "moe.route_hash: the table names an expert out of range");
  }

  static Value emitIds(ImplicitLocOpBuilder &b, RouteHashOp op, Value dest) {
    Value zero = emitIndex(b, 0);
    Value numTokens = emitDim(b, op.getTokenIds(), 0);
    Value numSlots = emitDim(b, op.getTable(), 1);
    auto writeToken = [&](Value token, ValueRange carried) {
      Value row = emitReadIndex(b, op.getTokenIds(), token);
      Value isLive;
      if (op.getTokenMask())
        isLive = emitRead(b, op.getTokenMask(), token);
      return emitLoop(b, zero, numSlots, carried,
                      [&](Value slot, ValueRange so) -> SmallVector<Value> {
                        Value id = emitRead(b, op.getTable(), {row, slot});
                        if (isLive)
                          id = arith::SelectOp::create(b, isLive, id,
                                                       emitI32(b, -1));
                        return {emitWrite(b, id, so[0], {token, slot})};
                      });
    };
    return emitLoop(b, zero, numTokens, dest, writeToken)[0];
  }
};

} // namespace

void tolinalg::addHashPatterns(RewritePatternSet &patterns) {
  patterns.add<RouteHashLowering>(patterns.getContext());
}
