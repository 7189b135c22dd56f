//===- Epilogue.cpp - What a product does to its sums ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Epilogue.h"
#include "moe/Dialect/Moe/Utils/WidenBody.h"

using namespace mlir;
using namespace mlir::moe;

LogicalResult moe::emitEpilogue(ImplicitLocOpBuilder &b, VectorEmitter &emit,
                                GroupedMatmulOp op, ValueRange sums,
                                Value expert, Value row, Value column,
                                int64_t size) {
  Block &body = op.getEpilogue().front();
  SmallVector<Value> arguments(sums);
  for (Value bias : op.getBiases())
    arguments.push_back(emit.load(bias, {expert, column}, size));
  for (Value elements : op.getElements())
    arguments.push_back(emit.load(elements, {row, column}, size));
  for (Value values : op.getRowValues())
    arguments.push_back(emit.broadcast(emit.loadScalar(values, row)));
  IRMapping mapping;
  mapping.map(body.getArguments(), arguments);
  auto values = widenBody(b, body, mapping, emit.getLanes());
  if (failed(values))
    return failure();
  for (auto [value, init] : llvm::zip(*values, op.getInits()))
    emit.store(value, init, {row, column}, size);
  return success();
}
