//===- LoopBuilder.cpp - Scalar loops on buffers --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LoopBuilder.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/TypeUtilities.h"
#include <functional>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::loops;

FloatType loops::getComputeType(Operation *op) {
  auto isWide = [](Type type) { return getElementTypeOrSelf(type).isF64(); };
  if (llvm::any_of(op->getOperandTypes(), isWide) ||
      llvm::any_of(op->getResultTypes(), isWide))
    return Float64Type::get(op->getContext());
  return Float32Type::get(op->getContext());
}

ReifiedRankedShapedTypeDims loops::reifyShapes(Operation *op,
                                               OpBuilder &builder) {
  ReifiedRankedShapedTypeDims shapes;
  LogicalResult reified = reifyResultShapes(builder, op, shapes);
  assert(succeeded(reified) && "an op of the dialect has a shape function");
  (void)reified;
  return shapes;
}

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

Value LoopBuilder::index(int64_t value) {
  return arith::ConstantIndexOp::create(*this, value);
}

Value LoopBuilder::boolean(bool value) {
  return arith::ConstantOp::create(*this, getBoolAttr(value));
}

Value LoopBuilder::real(double value) {
  return arith::ConstantOp::create(*this, getFloatAttr(compute, value));
}

Value LoopBuilder::nan() {
  APFloat value = APFloat::getNaN(compute.getFloatSemantics());
  return arith::ConstantOp::create(*this, FloatAttr::get(compute, value));
}

Value LoopBuilder::negativeInfinity() {
  APFloat value = APFloat::getInf(compute.getFloatSemantics(),
                                  /*Negative=*/true);
  return arith::ConstantOp::create(*this, FloatAttr::get(compute, value));
}

static bool isFloat(Value value) { return isa<FloatType>(value.getType()); }

Value LoopBuilder::add(Value x, Value y) {
  if (isFloat(x))
    return arith::AddFOp::create(*this, x, y);
  return arith::AddIOp::create(*this, x, y);
}

Value LoopBuilder::sub(Value x, Value y) {
  if (isFloat(x))
    return arith::SubFOp::create(*this, x, y);
  return arith::SubIOp::create(*this, x, y);
}

Value LoopBuilder::mul(Value x, Value y) {
  if (isFloat(x))
    return arith::MulFOp::create(*this, x, y);
  return arith::MulIOp::create(*this, x, y);
}

Value LoopBuilder::div(Value x, Value y) {
  if (isFloat(x))
    return arith::DivFOp::create(*this, x, y);
  return arith::DivUIOp::create(*this, x, y);
}

Value LoopBuilder::rem(Value x, Value y) {
  return arith::RemUIOp::create(*this, x, y);
}

Value LoopBuilder::larger(Value x, Value y) {
  return arith::MaximumFOp::create(*this, x, y);
}

Value LoopBuilder::smaller(Value x, Value y) {
  return arith::MinimumFOp::create(*this, x, y);
}

Value LoopBuilder::smallerIndex(Value x, Value y) {
  return arith::MinUIOp::create(*this, x, y);
}

Value LoopBuilder::equal(Value x, Value y) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::eq, x, y);
}

Value LoopBuilder::less(Value x, Value y) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::slt, x, y);
}

Value LoopBuilder::lessEqual(Value x, Value y) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::sle, x, y);
}

Value LoopBuilder::both(Value x, Value y) {
  return arith::AndIOp::create(*this, x, y);
}

Value LoopBuilder::either(Value x, Value y) {
  return arith::OrIOp::create(*this, x, y);
}

Value LoopBuilder::negate(Value condition) {
  return arith::XOrIOp::create(*this, condition, boolean(true));
}

Value LoopBuilder::inRange(Value x, Value low, Value high) {
  return both(lessEqual(low, x), less(x, high));
}

Value LoopBuilder::select(Value condition, Value x, Value y) {
  return arith::SelectOp::create(*this, condition, x, y);
}

Value LoopBuilder::cast(Value value, FloatType type) {
  auto from = llvm::cast<FloatType>(value.getType());
  if (from == type)
    return value;
  if (from.getWidth() < type.getWidth())
    return arith::ExtFOp::create(*this, type, value);
  return arith::TruncFOp::create(*this, type, value);
}

Value LoopBuilder::roundThrough(Value value, FloatType type) {
  auto from = llvm::cast<FloatType>(value.getType());
  if (!type || type.getWidth() >= from.getWidth())
    return value;
  return cast(cast(value, type), from);
}

Value LoopBuilder::toReal(Value count) {
  Value wide = arith::IndexCastOp::create(*this, getI64Type(), count);
  return arith::SIToFPOp::create(*this, compute, wide);
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

void LoopBuilder::loop(Value low, Value high, Body body) {
  auto forOp = scf::ForOp::create(*this, low, high, index(1));
  InsertionGuard guard(*this);
  setInsertionPointToStart(forOp.getBody());
  body(forOp.getInductionVar());
}

SmallVector<Value> LoopBuilder::fold(Value low, Value high, ValueRange init,
                                     Fold body) {
  auto forOp = scf::ForOp::create(*this, low, high, index(1), init);
  InsertionGuard guard(*this);
  setInsertionPointToStart(forOp.getBody());
  SmallVector<Value> next =
      body(forOp.getInductionVar(), forOp.getRegionIterArgs());
  scf::YieldOp::create(*this, next);
  return SmallVector<Value>(forOp.getResults());
}

Value LoopBuilder::sum(Value low, Value high,
                       llvm::function_ref<Value(Value)> term) {
  return fold(low, high, real(0.0),
              [&](Value iv, ValueRange carried) -> SmallVector<Value> {
                return {add(carried[0], term(iv))};
              })[0];
}

void LoopBuilder::when(Value condition, llvm::function_ref<void()> body,
                       llvm::function_ref<void()> otherwise) {
  auto ifOp =
      scf::IfOp::create(*this, condition,
                        /*withElseRegion=*/static_cast<bool>(otherwise));
  InsertionGuard guard(*this);
  setInsertionPointToStart(ifOp.thenBlock());
  body();
  if (!otherwise)
    return;
  setInsertionPointToStart(ifOp.elseBlock());
  otherwise();
}

Value LoopBuilder::pick(Type type, Value condition,
                        llvm::function_ref<Value()> body,
                        llvm::function_ref<Value()> otherwise) {
  auto ifOp = scf::IfOp::create(*this, TypeRange{type}, condition,
                                /*withElseRegion=*/true);
  InsertionGuard guard(*this);
  setInsertionPointToStart(ifOp.thenBlock());
  scf::YieldOp::create(*this, body());
  setInsertionPointToStart(ifOp.elseBlock());
  scf::YieldOp::create(*this, otherwise());
  return ifOp.getResult(0);
}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

static MemRefType getBufferType(Type type) {
  auto shaped = cast<ShapedType>(type);
  return MemRefType::get(shaped.getShape(), shaped.getElementType());
}

Value LoopBuilder::input(Value tensorOrMemref) {
  if (!tensorOrMemref || isa<MemRefType>(tensorOrMemref.getType()))
    return tensorOrMemref;
  return bufferization::ToBufferOp::create(
      *this, getBufferType(tensorOrMemref.getType()), tensorOrMemref,
      /*read_only=*/true);
}

Value LoopBuilder::output(Type type, ArrayRef<OpFoldResult> shape) {
  MemRefType bufferType = getBufferType(type);
  SmallVector<Value> sizes;
  for (auto [dim, size] : llvm::enumerate(shape))
    if (bufferType.isDynamicDim(dim))
      sizes.push_back(getValueOrCreateConstantIndexOp(*this, getLoc(), size));
  return memref::AllocOp::create(*this, bufferType, sizes);
}

Value LoopBuilder::destination(Value init) {
  if (isa<MemRefType>(init.getType()))
    return init;
  Value from = input(init);
  MemRefType type = getBufferType(init.getType());
  SmallVector<OpFoldResult> shape;
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    shape.push_back(size(from, dim));
  Value to = output(type, shape);
  loopAll(to, [&](ValueRange at) {
    Value value = memref::LoadOp::create(*this, from, at);
    memref::StoreOp::create(*this, value, to, at);
  });
  return to;
}

Value LoopBuilder::scratch(Type element, ArrayRef<Value> shape) {
  SmallVector<int64_t> dims(shape.size(), ShapedType::kDynamic);
  return memref::AllocOp::create(*this, MemRefType::get(dims, element), shape);
}

Value LoopBuilder::tensorOf(Value buffer, Type type) {
  // Not writable: later loops read the buffer itself once a pair of casts has
  // been folded away, which the analysis of writes in place does not see.
  return bufferization::ToTensorOp::create(*this, type, buffer,
                                           /*restrict=*/true);
}

Value LoopBuilder::size(Value buffer, int64_t dim) {
  auto type = llvm::cast<MemRefType>(buffer.getType());
  if (!type.isDynamicDim(dim))
    return index(type.getDimSize(dim));
  return memref::DimOp::create(*this, buffer, dim);
}

Value LoopBuilder::load(Value buffer, ValueRange at) {
  Value value = memref::LoadOp::create(*this, buffer, at);
  if (isFloat(value))
    return cast(value, compute);
  if (value.getType().isInteger(32))
    return arith::IndexCastOp::create(*this, getIndexType(), value);
  return value;
}

void LoopBuilder::store(Value value, Value buffer, ValueRange at) {
  Type element = llvm::cast<MemRefType>(buffer.getType()).getElementType();
  if (auto type = dyn_cast<FloatType>(element))
    value = cast(value, type);
  else if (element.isInteger(32))
    value = arith::IndexCastOp::create(*this, element, value);
  memref::StoreOp::create(*this, value, buffer, at);
}

void LoopBuilder::loopAll(Value buffer,
                          llvm::function_ref<void(ValueRange)> body) {
  int64_t rank = llvm::cast<MemRefType>(buffer.getType()).getRank();
  SmallVector<Value> at;
  std::function<void()> loopRest = [&] {
    int64_t dim = at.size();
    if (dim == rank)
      return body(at);
    loop(size(buffer, dim), [&](Value iv) {
      at.push_back(iv);
      loopRest();
      at.pop_back();
    });
  };
  loopRest();
}

void LoopBuilder::fill(Value buffer, Value value) {
  loopAll(buffer, [&](ValueRange at) { store(value, buffer, at); });
}

//===----------------------------------------------------------------------===//
// What several ops need
//===----------------------------------------------------------------------===//

Value LoopBuilder::beats(Value later, Value earlier) {
  using arith::CmpFPredicate;
  Value isNumber =
      arith::CmpFOp::create(*this, CmpFPredicate::ORD, later, later);
  Value wasNan =
      arith::CmpFOp::create(*this, CmpFPredicate::UNO, earlier, earlier);
  Value isLarger =
      arith::CmpFOp::create(*this, CmpFPredicate::OGT, later, earlier);
  return either(isLarger, both(isNumber, wasNan));
}

void LoopBuilder::visitLargest(Value low, Value high, Value count, Value taken,
                               llvm::function_ref<Value(Value)> key,
                               llvm::function_ref<void(Value, Value)> visit) {
  Value nobody = index(-1);
  loop(count, [&](Value rank) {
    Value winner = fold(
        low, high, {nobody, real(0.0)},
        [&](Value at, ValueRange best) -> SmallVector<Value> {
          Value candidate = key(at);
          Value isFree = negate(load(taken, at));
          Value isBetter =
              either(equal(best[0], nobody), beats(candidate, best[1]));
          Value wins = both(isFree, isBetter);
          return {select(wins, at, best[0]), select(wins, candidate, best[1])};
        })[0];
    when(negate(equal(winner, nobody)), [&] {
      store(boolean(true), taken, winner);
      visit(rank, winner);
    });
  });
}

void LoopBuilder::softmax(Value low, Value high,
                          llvm::function_ref<Value(Value)> isMember,
                          llvm::function_ref<Value(Value)> read,
                          llvm::function_ref<void(Value, Value)> write) {
  auto foldMembers = [&](Value init,
                         llvm::function_ref<Value(Value, Value)> body) {
    return fold(low, high, init,
                [&](Value at, ValueRange carried) -> SmallVector<Value> {
                  auto next = [&] { return body(read(at), carried[0]); };
                  if (!isMember)
                    return {next()};
                  return {pick(compute, isMember(at), next,
                               [&]() -> Value { return carried[0]; })};
                })[0];
  };
  Value max = foldMembers(negativeInfinity(),
                          [&](Value x, Value so) { return larger(so, x); });
  auto power = [&](Value x) -> Value {
    return math::ExpOp::create(*this, sub(x, max));
  };
  Value total = foldMembers(
      real(0.0), [&](Value x, Value so) { return add(so, power(x)); });
  loop(low, high, [&](Value at) {
    auto divide = [&] { write(at, div(power(read(at)), total)); };
    if (isMember)
      when(isMember(at), divide);
    else
      divide();
  });
}

void LoopBuilder::pullSoftmax(
    Value low, Value high, llvm::function_ref<Value(Value)> isMember,
    llvm::function_ref<Value(Value)> share,
    llvm::function_ref<Value(Value)> slope,
    llvm::function_ref<void(Value at, Value pulled)> write) {
  Value mean = sum(low, high, [&](Value at) {
    auto product = [&] { return mul(share(at), slope(at)); };
    return isMember
               ? pick(compute, isMember(at), product, [&] { return real(0.0); })
               : product();
  });
  loop(low, high, [&](Value at) {
    auto pull = [&] { write(at, mul(share(at), sub(slope(at), mean))); };
    if (isMember)
      when(isMember(at), pull);
    else
      pull();
  });
}

Value LoopBuilder::sigmoid(Value x) {
  // The exponential never overflows: of x or of -x, whichever is negative.
  Value distance = math::AbsFOp::create(*this, x);
  Value power =
      math::ExpOp::create(*this, arith::NegFOp::create(*this, distance));
  Value isNegative =
      arith::CmpFOp::create(*this, arith::CmpFPredicate::OLT, x, real(0.0));
  Value numerator = select(isNegative, power, real(1.0));
  return div(numerator, add(real(1.0), power));
}

Value LoopBuilder::softcap(Value x, double cap) {
  if (!(cap > 0.0))
    return x;
  return mul(real(cap), math::TanhOp::create(*this, div(x, real(cap))));
}

Value LoopBuilder::score(ScoreKind kind, Value logit) {
  switch (kind) {
  case ScoreKind::softmax:
    llvm_unreachable("softmax is of a row");
  case ScoreKind::sigmoid:
    return sigmoid(logit);
  case ScoreKind::sqrt_softplus: {
    // softplus(x) = max(x, 0) + log(1 + exp(-|x|))
    Value distance = math::AbsFOp::create(*this, logit);
    Value power =
        math::ExpOp::create(*this, arith::NegFOp::create(*this, distance));
    Value rest = math::Log1pOp::create(*this, power);
    return math::SqrtOp::create(*this, add(larger(logit, real(0.0)), rest));
  }
  case ScoreKind::none:
    return logit;
  }
  llvm_unreachable("all kinds are covered");
}

void LoopBuilder::assertThat(Operation *op, Value condition,
                             StringRef message) {
  std::string text = (op->getName().getStringRef() + ": " + message).str();
  cf::AssertOp::create(*this, condition, text);
}

void LoopBuilder::checkGroups(Operation *op, Value offsets, Value tokens) {
  Value length = size(offsets, 0);
  Value last = sub(length, index(1));
  Value ascends = pick(
      getI1Type(), less(index(0), length),
      [&] {
        Value endsFit = both(equal(load(offsets, index(0)), index(0)),
                             equal(load(offsets, last), tokens));
        return fold(index(0), last, endsFit,
                    [&](Value at, ValueRange so) -> SmallVector<Value> {
                      Value next = load(offsets, add(at, index(1)));
                      return {both(so[0], lessEqual(load(offsets, at), next))};
                    })[0];
      },
      [&] { return boolean(false); });
  assertThat(op, ascends,
             "group offsets do not ascend from 0 to the number of tokens");
}

void LoopBuilder::loopGroups(Value offsets, Value tokens,
                             llvm::function_ref<void(Value, Value)> body) {
  if (!offsets)
    return body(index(0), tokens);
  loop(sub(size(offsets, 0), index(1)), [&](Value group) {
    body(load(offsets, group), load(offsets, add(group, index(1))));
  });
}

Value LoopBuilder::isLive(Value mask, Value token) {
  return mask ? load(mask, token) : boolean(true);
}
