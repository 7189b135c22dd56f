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
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/GroupOffsets.h"
#include "moe/Dialect/Moe/Utils/Selection.h"
#include "moe/Dialect/Moe/Utils/WidenBody.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOWERROUTINGPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// More blocks of columns than these are a loop.
constexpr int64_t kUnrolledBlocks = 8;

/// Loads and stores of `lanes` token rows, transposed so that one token is one
/// lane.
class LaneIO {
public:
  LaneIO(ImplicitLocOpBuilder &b, int64_t lanes) : b(b), lanes(lanes) {}

  /// Rows [first, first + lanes) of `rows` [T, n] as tensor<n x lanes x type>;
  /// lanes past T read zeros.
  Value readRows(Value rows, Value first, Type type);
  /// Elements [first, first + lanes) of `values` [T]; lanes past T read zeros.
  Value readScalars(Value values, Value first, Type type);
  /// Writes a token's value into rows [first, ..) of `dest`.
  Value write(const TokenValue &value, Value dest, Value first);

private:
  /// One vector a column into [T, n]; a vector into [T]; [n x lanes] into [T,
  /// n].
  Value writeColumns(ArrayRef<Value> columns, Value dest, Value first);
  Value writeScalars(Value values, Value dest, Value first);
  Value writeRows(Value rows, Value dest, Value first);

  Value
  forBlocks(int64_t width, Value init,
            llvm::function_ref<Value(Value column, int64_t size, Value carried)>
                block);

  Value zeroOf(Type type) {
    return arith::ConstantOp::create(b, b.getZeroAttr(type));
  }

  ImplicitLocOpBuilder &b;
  int64_t lanes;
};

/// A vector's elements in another floating-point type.
Value convertFloat(ImplicitLocOpBuilder &b, Value value, Type element) {
  Type from = getElementTypeOrSelf(value.getType());
  if (from == element || !isa<FloatType>(element))
    return value;
  Type type = cast<VectorType>(value.getType()).clone(element);
  if (from.getIntOrFloatBitWidth() < element.getIntOrFloatBitWidth())
    return arith::ExtFOp::create(b, type, value);
  return arith::TruncFOp::create(b, type, value);
}

/// Calls `block` on the first column and the width of each block of columns of
/// `width`; many whole ones are a loop. The carried value is what it returns.
Value LaneIO::forBlocks(
    int64_t width, Value init,
    llvm::function_ref<Value(Value column, int64_t size, Value carried)>
        block) {
  int64_t whole = width / lanes;
  Value carried = init;
  if (whole > kUnrolledBlocks) {
    Value zero = arith::ConstantIndexOp::create(b, 0);
    Value end = arith::ConstantIndexOp::create(b, whole * lanes);
    Value step = arith::ConstantIndexOp::create(b, lanes);
    carried = scf::ForOp::create(
                  b, zero, end, step, carried,
                  [&](OpBuilder &, Location, Value column, ValueRange so) {
                    scf::YieldOp::create(b, block(column, lanes, so[0]));
                  })
                  .getResult(0);
  } else {
    for (int64_t place = 0; place < whole; ++place)
      carried = block(arith::ConstantIndexOp::create(b, place * lanes), lanes,
                      carried);
  }
  if (width % lanes != 0)
    carried = block(arith::ConstantIndexOp::create(b, whole * lanes),
                    width % lanes, carried);
  return carried;
}

Value LaneIO::readRows(Value rows, Value first, Type type) {
  auto source = cast<RankedTensorType>(rows.getType());
  int64_t width = source.getDimSize(1);
  Value lanesOfRow =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{width, lanes}, type);
  Value zero = arith::ConstantIndexOp::create(b, 0);
  // Square blocks of lanes x lanes, so that the transpose is one of registers.
  // The last one is a power of two and masked: processors lack other vectors.
  return forBlocks(
      width, lanesOfRow, [&](Value place, int64_t size, Value carried) {
        auto padded = static_cast<int64_t>(llvm::PowerOf2Ceil(size));
        SmallVector<bool> inBounds = {false, size == padded};
        Value block = vector::TransferReadOp::create(
            b, VectorType::get({lanes, padded}, source.getElementType()), rows,
            ValueRange{first, place}, zeroOf(source.getElementType()),
            ArrayRef<bool>(inBounds));
        block = convertFloat(b, block, type);
        Value turned =
            vector::TransposeOp::create(b, block, ArrayRef<int64_t>{1, 0});
        if (size < padded)
          turned = vector::ExtractStridedSliceOp::create(
              b, turned, ArrayRef<int64_t>{0}, ArrayRef<int64_t>{size},
              ArrayRef<int64_t>{1});
        inBounds = {true, true};
        return vector::TransferWriteOp::create(b, turned, carried,
                                               ValueRange{place, zero},
                                               ArrayRef<bool>(inBounds))
            .getResult();
      });
}

Value LaneIO::readScalars(Value values, Value first, Type type) {
  SmallVector<bool> inBounds = {false};
  Type element = cast<RankedTensorType>(values.getType()).getElementType();
  Value read = vector::TransferReadOp::create(
      b, VectorType::get({lanes}, element), values, ValueRange{first},
      zeroOf(element), ArrayRef<bool>(inBounds));
  return convertFloat(b, read, type);
}

Value LaneIO::write(const TokenValue &value, Value dest, Value first) {
  if (value.row)
    return writeRows(value.row, dest, first);
  if (cast<RankedTensorType>(dest.getType()).getRank() == 1)
    return writeScalars(value.columns[0], dest, first);
  return writeColumns(value.columns, dest, first);
}

Value LaneIO::writeScalars(Value values, Value dest, Value first) {
  SmallVector<bool> inBounds = {false};
  Type element = cast<RankedTensorType>(dest.getType()).getElementType();
  return vector::TransferWriteOp::create(b, convertFloat(b, values, element),
                                         dest, ValueRange{first},
                                         ArrayRef<bool>(inBounds))
      .getResult();
}

Value LaneIO::writeRows(Value rows, Value dest, Value first) {
  auto type = cast<RankedTensorType>(rows.getType());
  Type element = cast<RankedTensorType>(dest.getType()).getElementType();
  Value zero = arith::ConstantIndexOp::create(b, 0);
  return forBlocks(
      type.getDimSize(0), dest, [&](Value place, int64_t size, Value carried) {
        auto padded = static_cast<int64_t>(llvm::PowerOf2Ceil(size));
        SmallVector<bool> inBounds = {size == padded, true};
        Value block = vector::TransferReadOp::create(
            b, VectorType::get({padded, lanes}, type.getElementType()), rows,
            ValueRange{place, zero}, zeroOf(type.getElementType()),
            ArrayRef<bool>(inBounds));
        Value turned =
            vector::TransposeOp::create(b, block, ArrayRef<int64_t>{1, 0});
        inBounds = {false, size == padded};
        return vector::TransferWriteOp::create(
                   b, convertFloat(b, turned, element), carried,
                   ValueRange{first, place}, ArrayRef<bool>(inBounds))
            .getResult();
      });
}

Value LaneIO::writeColumns(ArrayRef<Value> columns, Value dest, Value first) {
  auto type = cast<RankedTensorType>(dest.getType());
  auto count = static_cast<int64_t>(columns.size());
  Type element = type.getElementType();
  Value zero = arith::ConstantIndexOp::create(b, 0);
  // Through a buffer: vectors built element by element fold into one of many
  // scalars, which no transpose of registers undoes.
  Value stack =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{count, lanes}, element);
  SmallVector<bool> inBounds = {true};
  for (auto [place, column] : llvm::enumerate(columns)) {
    Value row = arith::ConstantIndexOp::create(b, place);
    stack = vector::TransferWriteOp::create(b, convertFloat(b, column, element),
                                            stack, ValueRange{row, zero},
                                            ArrayRef<bool>(inBounds))
                .getResult();
  }
  inBounds = {true, true};
  Value block = vector::TransferReadOp::create(
      b, VectorType::get({count, lanes}, element), stack,
      ValueRange{zero, zero}, zeroOf(element), ArrayRef<bool>(inBounds));
  Value turned = vector::TransposeOp::create(b, block, ArrayRef<int64_t>{1, 0});
  inBounds = {false, true};
  return vector::TransferWriteOp::create(
             b, turned, dest, ValueRange{first, zero}, ArrayRef<bool>(inBounds))
      .getResult();
}

/// Emits a loop over blocks of `lanes` tokens that fills tensors. `body` gives
/// what each of them holds for the block that starts at `first`.
FailureOr<SmallVector<Value>>
emitLaneLoop(ImplicitLocOpBuilder &b, Value tokens, int64_t lanes,
             ValueRange dests,
             llvm::function_ref<FailureOr<SmallVector<TokenValue>>(LaneIO &io,
                                                                   Value first)>
                 body) {
  Value zero = arith::ConstantIndexOp::create(b, 0);
  Value step = arith::ConstantIndexOp::create(b, lanes);
  auto loop = scf::ForOp::create(b, zero, tokens, step, dests);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(loop.getBody());
  LaneIO io(b, lanes);
  auto values = body(io, loop.getInductionVar());
  if (failed(values))
    return failure();
  SmallVector<Value> written;
  for (auto [dest, value] : llvm::zip(loop.getRegionIterArgs(), *values))
    written.push_back(io.write(value, dest, loop.getInductionVar()));
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

/// Numbers of the tokens of the lanes, from that of the first token.
Value emitTokenNumbers(ImplicitLocOpBuilder &b, OpOperand *firstToken,
                       Value first, int64_t lanes) {
  Value start = arith::IndexCastOp::create(b, b.getI64Type(), first);
  if (firstToken)
    start = arith::AddIOp::create(b, firstToken->get(), start);
  auto type = VectorType::get({lanes}, b.getI64Type());
  auto steps = llvm::to_vector(llvm::seq<int64_t>(0, lanes));
  Value step = arith::ConstantOp::create(
      b, DenseElementsAttr::get(type, ArrayRef<int64_t>(steps)));
  return arith::AddIOp::create(b, vector::BroadcastOp::create(b, type, start),
                               step);
}

/// An error of the entry, not a read out of bounds: ids in [-1, R). A task
/// cannot leave the entry, so that tiles are checked together, in front of
/// their loop.
void emitIndicesCheck(RouteOp op) {
  Value indices = op.getIndices();
  Operation *anchor = op;
  while (auto loop = anchor->getParentOfType<scf::ForallOp>()) {
    auto tile = indices.getDefiningOp<tensor::ExtractSliceOp>();
    if (tile && loop->isAncestor(tile))
      indices = tile.getSource();
    if (loop->isAncestor(indices.getParentBlock()->getParentOp()))
      break;
    anchor = loop;
  }
  ImplicitLocOpBuilder b(op.getLoc(), anchor);
  int64_t width = op.getLogits().getType().getDimSize(1);
  auto type = cast<RankedTensorType>(indices.getType());
  Value yes = arith::ConstantOp::create(b, b.getBoolAttr(true));
  Value init = tensor::FromElementsOp::create(
      b, RankedTensorType::get({}, b.getI1Type()), yes);
  SmallVector<AffineMap> maps = {b.getMultiDimIdentityMap(type.getRank()),
                                 AffineMap::get(2, 0, b.getContext())};
  SmallVector<utils::IteratorType> iterators(2, utils::IteratorType::reduction);
  auto check = linalg::GenericOp::create(
      b, init.getType(), indices, init, maps, iterators,
      [&](OpBuilder &nested, Location loc, ValueRange args) {
        auto constant = [&](int64_t value) -> Value {
          return arith::ConstantOp::create(nested, loc,
                                           nested.getI32IntegerAttr(value));
        };
        Value low = arith::CmpIOp::create(
            nested, loc, arith::CmpIPredicate::sge, args[0], constant(-1));
        Value high = arith::CmpIOp::create(
            nested, loc, arith::CmpIPredicate::slt, args[0], constant(width));
        Value both = arith::AndIOp::create(nested, loc, low, high);
        Value all = arith::AndIOp::create(nested, loc, both, args[1]);
        linalg::YieldOp::create(nested, loc, all);
      });
  Value fits = tensor::ExtractOp::create(b, check.getResult(0), ValueRange{});
  cf::AssertOp::create(
      b, fits,
      b.getStringAttr("moe.route: a given expert id is outside [-1, " +
                      Twine(width) + ")"));
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
  if (route && route.getIndices())
    emitIndicesCheck(route);
  if (auto mix = dyn_cast<MixOp>(op.getOperation());
      mix && mix.getGroupOffsets())
    emitGroupOffsetsCheck(b, mix.getOperationName(), mix.getGroupOffsets(),
                          b.createOrFold<tensor::DimOp>(mix.getValues(), 0));
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
      [&](LaneIO &io, Value first) -> FailureOr<SmallVector<TokenValue>> {
        IRMapping mapping;
        for (auto [argument, operand] :
             llvm::zip(body.block.getArguments(), body.operands)) {
          Value source = operand->get();
          Type element = getElementTypeOrSelf(argument.getType());
          bool isRow = isa<RankedTensorType>(argument.getType());
          mapping.map(argument, isRow ? io.readRows(source, first, element)
                                      : io.readScalars(source, first, element));
        }
        if (body.token)
          mapping.map(body.token, emitTokenNumbers(b, op.getFirstTokenOperand(),
                                                   first, lanes));
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
      [&](LaneIO &io, Value first) -> FailureOr<SmallVector<TokenValue>> {
        IRMapping mapping;
        mapping.map(row, io.readRows(op.getValues(), first, computeType));
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
    if (lanes < 2) {
      getOperation()->emitError("moe-lower-routing needs at least 2 lanes");
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
