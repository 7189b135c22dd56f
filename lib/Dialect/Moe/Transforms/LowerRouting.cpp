//===- LowerRouting.cpp - Token choice on SIMD lanes ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Dialect/Moe/Utils/Selection.h"
#include "moe/Dialect/Moe/Utils/WidenBody.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOWERROUTINGPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Loads and stores of `lanes` token rows, transposed so that one token is one
/// lane.
class LaneIO {
public:
  LaneIO(ImplicitLocOpBuilder &b, int64_t lanes) : b(b), lanes(lanes) {}

  /// Rows [first, first + lanes) of `rows` [T, n] as tensor<n x lanes x type>;
  /// lanes past T read zeros.
  Value readRows(Value rows, Value first, Type type);
  /// Lane flags of a mask [T]; lanes past T read false.
  Value readMask(Value mask, Value first);
  /// Writes one vector a column into rows [first, ..) of `dest` [T, n].
  Value writeColumns(ArrayRef<Value> columns, Value dest, Value first);

private:
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

Value LaneIO::readRows(Value rows, Value first, Type type) {
  auto source = cast<RankedTensorType>(rows.getType());
  int64_t width = source.getDimSize(1);
  Value lanesOfRow =
      tensor::EmptyOp::create(b, ArrayRef<int64_t>{width, lanes}, type);
  Value zero = arith::ConstantIndexOp::create(b, 0);
  // Square blocks of lanes x lanes, so that the transpose is one of registers.
  // The last one is a power of two and masked: processors lack other vectors.
  for (int64_t column = 0; column < width; column += lanes) {
    int64_t size = std::min(lanes, width - column);
    Value place = arith::ConstantIndexOp::create(b, column);
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
    lanesOfRow = vector::TransferWriteOp::create(b, turned, lanesOfRow,
                                                 ValueRange{place, zero},
                                                 ArrayRef<bool>(inBounds))
                     .getResult();
  }
  return lanesOfRow;
}

Value LaneIO::readMask(Value mask, Value first) {
  SmallVector<bool> inBounds = {false};
  Type type = b.getI1Type();
  return vector::TransferReadOp::create(b, VectorType::get({lanes}, type), mask,
                                        ValueRange{first}, zeroOf(type),
                                        ArrayRef<bool>(inBounds));
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

/// Emits a loop over blocks of `lanes` tokens that fills two tensors [T, k].
/// `body` gives the columns of both for the block that starts at `first`.
FailureOr<SmallVector<Value>> emitLaneLoop(
    ImplicitLocOpBuilder &b, Value tokens, int64_t lanes, ValueRange dests,
    llvm::function_ref<
        FailureOr<std::array<SmallVector<Value>, 2>>(LaneIO &io, Value first)>
        body) {
  Value zero = arith::ConstantIndexOp::create(b, 0);
  Value step = arith::ConstantIndexOp::create(b, lanes);
  auto loop = scf::ForOp::create(b, zero, tokens, step, dests);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(loop.getBody());
  LaneIO io(b, lanes);
  auto columns = body(io, loop.getInductionVar());
  if (failed(columns))
    return failure();
  SmallVector<Value> written;
  for (auto [dest, values] : llvm::zip(loop.getRegionIterArgs(), *columns))
    written.push_back(io.writeColumns(values, dest, loop.getInductionVar()));
  scf::YieldOp::create(b, written);
  return SmallVector<Value>(loop.getResults());
}

Value getTokens(ImplicitLocOpBuilder &b, Value rows) {
  return b.createOrFold<tensor::DimOp>(rows, 0);
}

/// Builds a router's body as a block of its own: arguments are the rows it
/// reads, the terminator yields ids and weights.
struct RouterBody {
  Block block;
  SmallVector<Value> sources; ///< What each block argument stands for.
};

LogicalResult buildRouterBody(RouteOp op, FloatType computeType,
                              RouterBody &body) {
  auto router = dyn_cast<TokenBodyAttrInterface>(op.getRouter());
  if (!router)
    return op.emitOpError("router ")
           << op.getRouter() << " has no token body to generate code from";
  Location loc = op.getLoc();
  TokenBodyInputs inputs;
  auto addRow = [&](Value source, Type element) -> Value {
    if (!source)
      return {};
    auto type = cast<RankedTensorType>(source.getType());
    body.sources.push_back(source);
    return body.block.addArgument(
        RankedTensorType::get(type.getShape().take_back(), element), loc);
  };
  auto elementOf = [](Value value) -> Type {
    return value ? cast<RankedTensorType>(value.getType()).getElementType()
                 : Type();
  };
  inputs.logits = addRow(op.getLogits(), computeType);
  inputs.indices = addRow(op.getIndices(), elementOf(op.getIndices()));
  inputs.selectionBias =
      addRow(op.getSelectionBias(), elementOf(op.getSelectionBias()));
  inputs.expertScale =
      addRow(op.getExpertScale(), elementOf(op.getExpertScale()));
  inputs.width = op.getLogits().getType().getDimSize(1);
  inputs.computeType = computeType;

  OpBuilder plain(op.getContext());
  ImplicitLocOpBuilder b(loc, plain);
  b.setInsertionPointToEnd(&body.block);
  TokenBodyResult result = router.buildTokenBody(b, inputs);
  SmallVector<Value> yielded(result.ids);
  llvm::append_range(yielded, result.weights);
  scf::YieldOp::create(b, yielded);
  return success();
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

LogicalResult lowerRoute(RouteOp op, int64_t lanes) {
  FloatType logitType =
      cast<FloatType>(op.getLogits().getType().getElementType());
  FloatType computeType =
      logitType.isF64() ? logitType : Float32Type::get(op.getContext());
  RouterBody body;
  if (failed(buildRouterBody(op, computeType, body)))
    return failure();

  ImplicitLocOpBuilder b(op.getLoc(), op);
  if (op.getIndices())
    emitIndicesCheck(op);
  Value tokens = getTokens(b, op.getLogits());
  int64_t numSlots = op.getIds().getType().getDimSize(1);
  SmallVector<OpFoldResult> shape = {getAsOpFoldResult(tokens),
                                     b.getIndexAttr(numSlots)};
  Value ids = tensor::EmptyOp::create(b, shape, b.getI32Type());
  Value weights = tensor::EmptyOp::create(
      b, shape, op.getWeights().getType().getElementType());
  auto results = emitLaneLoop(
      b, tokens, lanes, {ids, weights},
      [&](LaneIO &io,
          Value first) -> FailureOr<std::array<SmallVector<Value>, 2>> {
        IRMapping mapping;
        for (auto [argument, source] :
             llvm::zip(body.block.getArguments(), body.sources)) {
          bool perToken = source == op.getLogits() || source == op.getIndices();
          Type element =
              cast<RankedTensorType>(argument.getType()).getElementType();
          mapping.map(argument,
                      perToken ? io.readRows(source, first, element) : source);
        }
        auto values = widenBody(b, body.block, mapping, lanes);
        if (failed(values))
          return failure();
        std::array<SmallVector<Value>, 2> columns = {
            llvm::to_vector(ArrayRef(*values).take_front(numSlots)),
            llvm::to_vector(ArrayRef(*values).drop_front(numSlots))};
        if (Value mask = op.getTokenMask()) {
          Value flags = io.readMask(mask, first);
          auto empty = [&](Value &column, Attribute value) {
            auto type = cast<VectorType>(column.getType());
            Value filler = arith::ConstantOp::create(
                b, DenseElementsAttr::get(type, value));
            column = arith::SelectOp::create(b, flags, column, filler);
          };
          for (Value &column : columns[0])
            empty(column, b.getI32IntegerAttr(-1));
          for (Value &column : columns[1])
            empty(column, b.getFloatAttr(computeType, 0.0));
        }
        return columns;
      });
  if (failed(results))
    return failure();
  op->replaceAllUsesWith(*results);
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
      [&](LaneIO &io,
          Value first) -> FailureOr<std::array<SmallVector<Value>, 2>> {
        IRMapping mapping;
        mapping.map(row, io.readRows(op.getValues(), first, computeType));
        auto values = widenBody(b, block, mapping, lanes);
        if (failed(values))
          return failure();
        return std::array<SmallVector<Value>, 2>{
            llvm::to_vector(ArrayRef(*values).take_front(k)),
            llvm::to_vector(ArrayRef(*values).drop_front(k))};
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
          isa<RouteOp>(op) || (topK && topK->getNumResults() > 0))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      LogicalResult lowered = isa<RouteOp>(op)
                                  ? lowerRoute(cast<RouteOp>(op), lanes)
                                  : lowerTopK(cast<TopKOp>(op), lanes);
      if (failed(lowered))
        return signalPassFailure();
      ++numLowered;
    }
  }
};

} // namespace
