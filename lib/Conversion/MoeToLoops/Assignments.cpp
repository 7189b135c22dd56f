//===- Assignments.cpp - Rows of a routing in expert order ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Assignments.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

Assignments::Assignments(LoopBuilder &b, Value ids, Choice choice,
                         Value numTokens, Value numExperts)
    : b(b), ids(ids), choice(choice), numExperts(numExperts),
      rows(b.scratch(b.getIndexType(), {b.size(ids, 0), b.size(ids, 1)})),
      starts(b.scratch(b.getIndexType(), b.add(numExperts, b.index(1)))) {
  Value count = b.scratch(b.getIndexType(), b.index(1));
  b.fill(count, b.index(0));
  b.fill(rows, b.index(-1));
  b.loop(numExperts, [&](Value expert) {
    b.store(b.load(count, b.index(0)), starts, expert);
    b.loop(numTokens, [&](Value token) {
      bool byToken = choice == Choice::token;
      Value chooser = byToken ? token : expert;
      Value sought = byToken ? expert : token;
      b.loop(b.size(ids, 1), [&](Value slot) {
        b.when(b.equal(b.load(ids, {chooser, slot}), sought), [&] {
          Value row = b.load(count, b.index(0));
          b.store(row, rows, {chooser, slot});
          b.store(b.add(row, b.index(1)), count, b.index(0));
        });
      });
    });
  });
  b.store(b.load(count, b.index(0)), starts, numExperts);
}

void Assignments::visitAll(
    llvm::function_ref<void(Value, Value, ValueRange)> body) {
  b.loopAll(ids, [&](ValueRange at) {
    Value row = b.load(rows, at);
    b.when(b.lessEqual(b.index(0), row), [&] {
      body(row, choice == Choice::token ? at[0] : b.load(ids, at), at);
    });
  });
}

void Assignments::visitToken(Value token,
                             llvm::function_ref<void(Value, ValueRange)> body) {
  auto visit = [&](Value chooser, Value slot) {
    Value row = b.load(rows, {chooser, slot});
    b.when(b.lessEqual(b.index(0), row), [&] { body(row, {chooser, slot}); });
  };
  if (choice == Choice::token)
    return b.loop(b.size(ids, 1), [&](Value slot) { visit(token, slot); });
  b.loopAll(ids, [&](ValueRange at) {
    b.when(b.equal(b.load(ids, at), token), [&] { visit(at[0], at[1]); });
  });
}

void Assignments::storeOffsets(Value offsets) {
  b.loopAll(offsets,
            [&](ValueRange at) { b.store(b.load(starts, at), offsets, at); });
}

Value Assignments::getNumAssignments() { return b.load(starts, numExperts); }
