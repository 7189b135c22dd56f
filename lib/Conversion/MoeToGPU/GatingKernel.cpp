//===- GatingKernel.cpp - One kernel for gate and choice ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GatingKernel.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "moe/Dialect/Moe/Utils/Selection.h"
#include <numeric>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Experts whose sums a thread keeps in registers at a time.
constexpr int64_t kExpertsAtOnce = 16;
/// Bytes of the widest load.
constexpr int64_t kLoadBytes = 16;

class GatingKernel {
public:
  GatingKernel(ImplicitLocOpBuilder &b, GatingTile &tile, int64_t threads)
      : b(b), tile(tile), threads(threads) {}

  void emit();

private:
  struct Rows {
    Value buffer;
    Value row; ///< This thread's.
  };

  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(b, value);
  }
  Value add(Value x, Value y) { return b.createOrFold<arith::AddIOp>(x, y); }
  Value convert(Value value, Type type);
  Value readOnlyBuffer(Value tensor);
  void assertAligned(Value buffer, int64_t bytes, StringRef name);
  Value emitBlockCount();
  Value emitActive(Value block, Value thread);
  Value emitRow(OpFoldResult first, Value thread);
  Value allocateRow(Type element, int64_t size);

  Value loadColumns(Value buffer, Value row, Value column);
  SmallVector<Value> emitSums(Value firstExpert, int64_t count);
  void emitGate();
  void finishLogit(Value sum, Value expert);
  TokenBodyResult emitBody();
  void placeRowsOfBody(Block *block);
  void emitRoute();
  void emitThread();

  ImplicitLocOpBuilder &b;
  GatingTile &tile;
  int64_t threads;
  IRMapping mapping; ///< From the loop's body to the kernel's.
  FloatType sumType, computeType;
  int64_t vectorSize = 1;
  Value input, weight;
  Value blockFirst, thread, inputRow;
  Value logitRow;                   ///< Private, [R].
  Operation *privateRows = nullptr; ///< Private rows are made after this.
};

Value GatingKernel::convert(Value value, Type type) {
  Type from = getElementTypeOrSelf(value.getType());
  if (auto vector = dyn_cast<VectorType>(value.getType()))
    type = vector.clone(type);
  if (value.getType() == type)
    return value;
  unsigned toWidth = getElementTypeOrSelf(type).getIntOrFloatBitWidth();
  if (from.getIntOrFloatBitWidth() < toWidth)
    return arith::ExtFOp::create(b, type, value);
  if (from.getIntOrFloatBitWidth() > toWidth)
    return arith::TruncFOp::create(b, type, value);
  // bf16 and f16 have one width and meet only through f32.
  Value wide = convert(value, b.getF32Type());
  return arith::TruncFOp::create(b, type, wide);
}

Value GatingKernel::readOnlyBuffer(Value tensor) {
  auto type = cast<RankedTensorType>(tensor.getType());
  return bufferization::ToBufferOp::create(
      b, MemRefType::get(type.getShape(), type.getElementType()), tensor,
      /*read_only=*/true);
}

/// Wide loads of a pointer that is aligned to its elements alone would trap.
void GatingKernel::assertAligned(Value buffer, int64_t bytes, StringRef name) {
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(b, buffer);
  Value rest = arith::AndIOp::create(b, address, index(bytes - 1));
  Value fits =
      arith::CmpIOp::create(b, arith::CmpIPredicate::eq, rest, index(0));
  cf::AssertOp::create(b, fits,
                       b.getStringAttr("moe.gate: " + name +
                                       " is not aligned to " + Twine(bytes) +
                                       " bytes"));
}

Value GatingKernel::emitBlockCount() {
  Value tokens =
      tile.loop ? getValueOrCreateConstantIndexOp(
                      b, b.getLoc(), tile.loop.getMixedUpperBound().front())
                : b.createOrFold<tensor::DimOp>(tile.input.value, 0);
  int64_t step = tile.getStep().value_or(threads);
  Value rounded = add(tokens, index(step - 1));
  Value blocks = b.createOrFold<arith::DivUIOp>(rounded, index(step));
  // The driver refuses a launch of no blocks; one without tokens is idle.
  return b.createOrFold<arith::MaxUIOp>(blocks, index(1));
}

/// Copies the loop's index arithmetic and says whether the thread has a token.
Value GatingKernel::emitActive(Value block, Value threadId) {
  thread = threadId;
  int64_t step = tile.getStep().value_or(threads);
  blockFirst = arith::MulIOp::create(b, block, index(step));
  Value size;
  if (tile.loop) {
    mapping.map(tile.loop.getInductionVar(0), blockFirst);
    for (Operation &op : tile.loop.getBody()->without_terminator())
      if (!isa<tensor::ExtractSliceOp, GateOp, RouteOp>(op))
        b.clone(op, mapping);
    if (auto value = dyn_cast<Value>(tile.size))
      size = mapping.lookupOrDefault(value);
    else
      size = index(*getConstantIntValue(tile.size));
  } else {
    Value tokens = b.createOrFold<tensor::DimOp>(tile.input.value, 0);
    size = arith::SubIOp::create(b, tokens, blockFirst);
  }
  // Signed: the one block of an empty batch has no tokens left.
  return arith::CmpIOp::create(b, arith::CmpIPredicate::slt, thread, size);
}

Value GatingKernel::emitRow(OpFoldResult first, Value threadId) {
  if (!first)
    return add(blockFirst, threadId);
  if (auto value = dyn_cast<Value>(first))
    return add(mapping.lookupOrDefault(value), threadId);
  return add(index(*getConstantIntValue(first)), threadId);
}

/// Memory of the thread. In the first block of the kernel, where its size is
/// known and it becomes registers if every index is.
Value GatingKernel::allocateRow(Type element, int64_t size) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointAfter(privateRows);
  return memref::AllocaOp::create(b, MemRefType::get({size}, element));
}

/// `vectorSize` neighbours of a row, as sums are taken of them.
Value GatingKernel::loadColumns(Value buffer, Value row, Value column) {
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  Value loaded;
  if (vectorSize == 1) {
    loaded = memref::LoadOp::create(b, buffer, ValueRange{row, column});
  } else {
    int64_t bytes = vectorSize * element.getIntOrFloatBitWidth() / 8;
    loaded =
        vector::LoadOp::create(b, VectorType::get({vectorSize}, element),
                               buffer, ValueRange{row, column},
                               /*nontemporal=*/false, llvm::MaybeAlign(bytes));
  }
  return convert(loaded, sumType);
}

/// The products of this token's row with `count` experts from `firstExpert`.
SmallVector<Value> GatingKernel::emitSums(Value firstExpert, int64_t count) {
  int64_t hidden = tile.gate.getInput().getType().getDimSize(1);
  SmallVector<Value> zeros(
      count, arith::ConstantOp::create(b, b.getFloatAttr(sumType, 0.0)));
  auto at = [&](Value columns, int64_t place) -> Value {
    if (vectorSize == 1)
      return columns;
    return vector::ExtractOp::create(b, columns, place);
  };
  auto loop = scf::ForOp::create(
      b, index(0), index(hidden), index(vectorSize), zeros,
      [&](OpBuilder &, Location, Value column, ValueRange carried) {
        Value x = loadColumns(input, inputRow, column);
        SmallVector<Value> sums(carried);
        for (auto [place, sum] : llvm::enumerate(sums)) {
          Value expert = add(firstExpert, index(place));
          Value w = loadColumns(weight, expert, column);
          for (int64_t i = 0; i < vectorSize; ++i)
            sum = math::FmaOp::create(b, at(x, i), at(w, i), sum);
        }
        scf::YieldOp::create(b, sums);
      });
  return loop.getResults();
}

/// Bias, one rounding to the logits' type, and where the logit goes.
void GatingKernel::finishLogit(Value sum, Value expert) {
  GateOp gate = tile.gate;
  if (Value bias = gate.getBias()) {
    Value value = tensor::ExtractOp::create(b, bias, expert);
    sum = arith::AddFOp::create(b, sum, convert(value, sumType));
  }
  Value logit = convert(sum, gate.getLogits().getType().getElementType());
  memref::StoreOp::create(b, convert(logit, computeType), logitRow, expert);
  for (const TileOutput &output : tile.outputs)
    if (output.result == gate.getLogits())
      memref::StoreOp::create(
          b, logit, output.dest.value,
          ValueRange{emitRow(output.dest.first, thread), expert});
}

void GatingKernel::emitGate() {
  int64_t width = tile.gate.getLogits().getType().getDimSize(1);
  logitRow = allocateRow(computeType, width);
  auto emitExperts = [&](Value first, int64_t count) {
    for (auto [place, sum] : llvm::enumerate(emitSums(first, count)))
      finishLogit(sum, add(first, index(place)));
  };
  int64_t whole = width / kExpertsAtOnce * kExpertsAtOnce;
  if (whole == kExpertsAtOnce)
    emitExperts(index(0), whole);
  else if (whole > 0)
    scf::ForOp::create(b, index(0), index(whole), index(kExpertsAtOnce),
                       ValueRange(),
                       [&](OpBuilder &, Location, Value first, ValueRange) {
                         emitExperts(first, kExpertsAtOnce);
                         scf::YieldOp::create(b);
                       });
  if (whole < width)
    emitExperts(index(whole), width - whole);
}

/// Rows that the body makes become private memory instead of allocations.
void GatingKernel::placeRowsOfBody(Block *block) {
  SmallVector<tensor::EmptyOp> rows;
  block->walk([&](tensor::EmptyOp op) {
    if (op.getType().hasStaticShape())
      rows.push_back(op);
  });
  for (tensor::EmptyOp op : rows) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointAfter(privateRows);
    RankedTensorType type = op.getType();
    Value row = memref::AllocaOp::create(
        b, MemRefType::get(type.getShape(), type.getElementType()));
    b.setInsertionPoint(op);
    Value tensor = bufferization::ToTensorOp::create(
        b, type, row, /*restrict=*/true, /*writable=*/true);
    op.getResult().replaceAllUsesWith(tensor);
    op.erase();
  }
}

TokenBodyResult GatingKernel::emitBody() {
  RouteOp route = tile.route;
  TokenBodyInputs inputs;
  inputs.width = route.getLogits().getType().getDimSize(1);
  inputs.computeType = computeType;
  inputs.logits = bufferization::ToTensorOp::create(
      b, RankedTensorType::get({inputs.width}, computeType), logitRow,
      /*restrict=*/true);
  inputs.selectionBias = route.getSelectionBias();
  inputs.expertScale = route.getExpertScale();
  TokenBodyResult result =
      cast<TokenBodyAttrInterface>(route.getRouter()).buildTokenBody(b, inputs);
  placeRowsOfBody(b.getInsertionBlock());
  return result;
}

void GatingKernel::emitRoute() {
  TokenBodyResult slots = emitBody();
  RouteOp route = tile.route;
  if (tile.mask.value) {
    Value flag = tensor::ExtractOp::create(
        b, tile.mask.value, ValueRange{emitRow(tile.mask.first, thread)});
    Value noId = arith::ConstantOp::create(b, b.getI32IntegerAttr(-1));
    Value zero = arith::ConstantOp::create(b, b.getFloatAttr(computeType, 0.0));
    for (Value &id : slots.ids)
      id = arith::SelectOp::create(b, flag, id, noId);
    for (Value &value : slots.weights)
      value = arith::SelectOp::create(b, flag, value, zero);
  }
  Type weightType = route.getWeights().getType().getElementType();
  for (const TileOutput &output : tile.outputs) {
    if (output.result == tile.gate.getLogits())
      continue;
    bool isIds = output.result == route.getIds();
    Value row = emitRow(output.dest.first, thread);
    for (auto [slot, value] :
         llvm::enumerate(isIds ? slots.ids : slots.weights))
      memref::StoreOp::create(b, isIds ? value : convert(value, weightType),
                              output.dest.value, ValueRange{row, index(slot)});
  }
}

void GatingKernel::emitThread() {
  inputRow = emitRow(tile.input.first, thread);
  emitGate();
  emitRoute();
}

void GatingKernel::emit() {
  auto elementOf = [](Value value) {
    return cast<FloatType>(getElementTypeOrSelf(value.getType()));
  };
  GateOp gate = tile.gate;
  FloatType f32 = b.getF32Type(), f64 = b.getF64Type();
  bool isWide = llvm::any_of(
      ArrayRef<Value>{gate.getInput(), gate.getWeight(), gate.getLogits()},
      [&](Value value) { return elementOf(value).isF64(); });
  isWide |= gate.getBias() && elementOf(gate.getBias()).isF64();
  sumType = isWide ? f64 : f32;
  computeType = elementOf(gate.getLogits()).isF64() ? f64 : f32;

  Type inputType = elementOf(gate.getInput());
  Type weightType = elementOf(gate.getWeight());
  auto bytesOf = [](Type type, int64_t count) {
    return count * type.getIntOrFloatBitWidth() / 8;
  };
  int64_t hidden = gate.getInput().getType().getDimSize(1);
  vectorSize = std::gcd(hidden, kLoadBytes / std::max(bytesOf(inputType, 1),
                                                      bytesOf(weightType, 1)));
  if (vectorSize == 0)
    vectorSize = 1;

  input = readOnlyBuffer(tile.input.value);
  weight = readOnlyBuffer(gate.getWeight());
  if (vectorSize > 1) {
    assertAligned(input, bytesOf(inputType, vectorSize), "the input");
    assertAligned(weight, bytesOf(weightType, vectorSize), "the weight");
  }
  Value one = index(1);
  auto launch =
      gpu::LaunchOp::create(b, emitBlockCount(), one, one,
                            index(tile.getStep().value_or(threads)), one, one);
  b.setInsertionPointToStart(&launch.getBody().front());
  Value active = emitActive(launch.getBlockIds().x, launch.getThreadIds().x);
  privateRows = active.getDefiningOp();
  auto guard = scf::IfOp::create(b, active, /*withElseRegion=*/false);
  gpu::TerminatorOp::create(b);
  b.setInsertionPointToStart(guard.thenBlock());
  emitThread();
}

} // namespace

void moe::emitGatingKernel(GatingTile &tile, int64_t threads) {
  Operation *root = tile.getRoot();
  ImplicitLocOpBuilder b(tile.route.getLoc(), root);
  GatingKernel(b, tile, threads).emit();
  for (TileOutput &output : tile.outputs)
    output.store.erase();
  if (tile.loop) {
    for (Operation *user : llvm::make_early_inc_range(tile.loop->getUsers()))
      user->erase(); // A cast in front of a store.
    tile.loop.erase();
    return;
  }
  GateOp gate = tile.gate;
  for (Operation *op : {tile.route.getOperation(), gate.getOperation()}) {
    for (Operation *user : llvm::make_early_inc_range(op->getUsers()))
      user->erase();
    op->erase();
  }
}
