//===- LowerRouting.cpp - Token choice on SIMD lanes ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/LaneIO.h"
#include "moe/Dialect/Moe/Utils/Selection.h"
#include "moe/Dialect/Moe/Utils/WidenBody.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOWERROUTINGPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Emits a loop over blocks of `lanes` tokens that fills tensors. `body` gives
/// what each of them holds for a block.
FailureOr<SmallVector<Value>> emitLaneLoop(
    ImplicitLocOpBuilder &b, Value tokens, int64_t lanes, ValueRange dests,
    llvm::function_ref<FailureOr<SmallVector<TokenValue>>(LaneIO &io)> body) {
  Value zero = arith::ConstantIndexOp::create(b, 0);
  Value step = arith::ConstantIndexOp::create(b, lanes);
  auto loop = scf::ForOp::create(b, zero, tokens, step, dests);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(loop.getBody());
  LaneIO io(b, lanes, tokens, loop.getInductionVar());
  auto values = body(io);
  if (failed(values))
    return failure();
  SmallVector<Value> written;
  for (auto [dest, value] : llvm::zip(loop.getRegionIterArgs(), *values))
    written.push_back(io.write(value, dest));
  scf::YieldOp::create(b, written);
  return SmallVector<Value>(loop.getResults());
}

Value getTokens(ImplicitLocOpBuilder &b, Value rows) {
  return b.createOrFold<tensor::DimOp>(rows, 0);
}

/// An op's token body as a block of its own. Its arguments stand for the token
/// operands and the token's number; the terminator yields all values, one
/// result of the op after the other.
struct TokenBlock {
  Block block;
  SmallVector<OpOperand *> operands; ///< What the arguments stand for.
  Value token;                       ///< The last argument, or null.
  SmallVector<TokenValue> results;
};

void buildTokenBlock(TokenBodyOpInterface op, FloatType computeType,
                     TokenBlock &body) {
  Location loc = op.getLoc();
  SmallVector<Value> values(op->getOperands());
  for (OpOperand *operand : op.getTokenOperands()) {
    auto type = cast<RankedTensorType>(operand->get().getType());
    Type element = type.getElementType();
    if (isa<FloatType>(element))
      element = computeType;
    Type own = element;
    if (type.getRank() > 1)
      own = RankedTensorType::get(type.getShape().drop_front(), element);
    body.operands.push_back(operand);
    values[operand->getOperandNumber()] = body.block.addArgument(own, loc);
  }
  OpBuilder plain(op.getContext());
  ImplicitLocOpBuilder b(loc, plain);
  b.setInsertionPointToEnd(&body.block);
  if (op.isNumbered())
    body.token = body.block.addArgument(b.getI64Type(), loc);
  body.results = op.buildTokenBody(b, values, body.token, computeType);
  SmallVector<Value> yielded;
  for (const TokenValue &result : body.results) {
    llvm::append_range(yielded, result.columns);
    if (result.row)
      yielded.push_back(result.row);
  }
  scf::YieldOp::create(b, yielded);
}

/// The values of a body on lanes, sorted into results again.
SmallVector<TokenValue> splitValues(ArrayRef<TokenValue> results,
                                    ArrayRef<Value> values) {
  SmallVector<TokenValue> split;
  for (const TokenValue &result : results) {
    size_t count = result.columns.size();
    TokenValue own{llvm::to_vector(values.take_front(count)), {}};
    values = values.drop_front(count);
    if (result.row) {
      own.row = values.front();
      values = values.drop_front();
    }
    split.push_back(own);
  }
  return split;
}

LogicalResult lowerTokenOp(TokenBodyOpInterface op, int64_t lanes) {
  auto route = dyn_cast<RouteOp>(op.getOperation());
  if (route && !isa<TokenBodyAttrInterface>(route.getRouter()))
    return route.emitOpError("router ")
           << route.getRouter() << " has no token body to generate code from";
  FloatType computeType = getTokenComputeType(op);
  TokenBlock body;
  buildTokenBlock(op, computeType, body);

  ImplicitLocOpBuilder b(op.getLoc(), op);
  op.emitChecks(b);
  ReifiedRankedShapedTypeDims shapes;
  if (failed(reifyResultShapes(b, op, shapes)))
    return op.emitOpError("has no shape to make its results of");
  Value tokens = getValueOrCreateConstantIndexOp(b, op.getLoc(), shapes[0][0]);
  SmallVector<Value> dests;
  for (auto [shape, result] : llvm::zip(shapes, op->getResults()))
    dests.push_back(tensor::EmptyOp::create(
        b, shape, cast<RankedTensorType>(result.getType()).getElementType()));
  auto results = emitLaneLoop(
      b, tokens, lanes, dests,
      [&](LaneIO &io) -> FailureOr<SmallVector<TokenValue>> {
        IRMapping mapping;
        for (auto [argument, operand] :
             llvm::zip(body.block.getArguments(), body.operands)) {
          Value source = operand->get();
          Type element = getElementTypeOrSelf(argument.getType());
          bool isRow = isa<RankedTensorType>(argument.getType());
          mapping.map(argument, isRow ? io.readRows(source, element)
                                      : io.readScalars(source, element));
        }
        if (body.token) {
          OpOperand *firstToken = op.getFirstTokenOperand();
          mapping.map(body.token,
                      io.readNumbers(firstToken ? firstToken->get() : Value()));
        }
        auto values = widenBody(b, body.block, mapping, lanes);
        if (failed(values))
          return failure();
        return splitValues(body.results, *values);
      });
  if (failed(results))
    return failure();
  for (auto [original, value] : llvm::zip(op->getResults(), *results))
    original.replaceAllUsesWith(
        b.createOrFold<tensor::CastOp>(original.getType(), value));
  op->erase();
  return success();
}

LogicalResult lowerTopK(TopKOp op, int64_t lanes) {
  auto source = cast<RankedTensorType>(op.getValues().getType());
  FloatType element = cast<FloatType>(source.getElementType());
  FloatType computeType =
      element.isF64() ? element : Float32Type::get(op.getContext());
  int64_t width = source.getDimSize(1);
  int64_t k = cast<ShapedType>(op.getInits()[0].getType()).getDimSize(1);

  // The body on one row, then on lanes of rows.
  Block block;
  Value row = block.addArgument(RankedTensorType::get({width}, computeType),
                                op.getLoc());
  OpBuilder plain(op.getContext());
  ImplicitLocOpBuilder inner(op.getLoc(), plain);
  inner.setInsertionPointToEnd(&block);
  KeyOrder order(inner, computeType);
  RankedKeys best = emitTopK(inner, order, k, width, [&](Value index) {
    return order.encode(tensor::ExtractOp::create(inner, row, index));
  });
  SmallVector<Value> yielded;
  for (Value key : best.keys)
    yielded.push_back(order.decode(key));
  llvm::append_range(yielded, best.ids);
  scf::YieldOp::create(inner, yielded);

  ImplicitLocOpBuilder b(op.getLoc(), op);
  auto results = emitLaneLoop(
      b, getTokens(b, op.getValues()), lanes, op.getInits(),
      [&](LaneIO &io) -> FailureOr<SmallVector<TokenValue>> {
        IRMapping mapping;
        mapping.map(row, io.readRows(op.getValues(), computeType));
        auto values = widenBody(b, block, mapping, lanes);
        if (failed(values))
          return failure();
        return SmallVector<TokenValue>{
            {llvm::to_vector(ArrayRef(*values).take_front(k)), {}},
            {llvm::to_vector(ArrayRef(*values).drop_front(k)), {}}};
      });
  if (failed(results))
    return failure();
  op->replaceAllUsesWith(*results);
  op->erase();
  return success();
}

struct MoeLowerRouting
    : public moe::impl::MoeLowerRoutingPassBase<MoeLowerRouting> {
  using MoeLowerRoutingPassBase::MoeLowerRoutingPassBase;

  void runOnOperation() override {
    if (lanes < 2 || !llvm::isPowerOf2_64(lanes)) {
      getOperation()->emitError(
          "moe-lower-routing needs a power of two of lanes, at least 2");
      return signalPassFailure();
    }
    SmallVector<Operation *> ops;
    getOperation()->walk([&](Operation *op) {
      if (auto topK = dyn_cast<TopKOp>(op);
          isa<TokenBodyOpInterface>(op) || (topK && topK->getNumResults() > 0))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      auto tokenOp = dyn_cast<TokenBodyOpInterface>(op);
      LogicalResult lowered = tokenOp ? lowerTokenOp(tokenOp, lanes)
                                      : lowerTopK(cast<TopKOp>(op), lanes);
      if (failed(lowered))
        return signalPassFailure();
      ++numLowered;
    }
  }
};

} // namespace
