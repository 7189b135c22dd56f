//===- WidenBody.cpp - Scalar bodies on SIMD lanes ------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/WidenBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class Widener {
public:
  Widener(OpBuilder &builder, IRMapping &mapping, int64_t lanes)
      : b(builder), mapping(mapping), lanes(lanes) {}

  LogicalResult widenBlock(Block &block);
  /// The lane form of a scalar: itself where it is a vector, else a broadcast.
  Value getVector(Value original);

private:
  LogicalResult widen(Operation &op);
  LogicalResult widenExtract(tensor::ExtractOp op);
  LogicalResult widenInsert(tensor::InsertOp op);
  LogicalResult widenFor(scf::ForOp op);
  LogicalResult widenIf(scf::IfOp op);
  LogicalResult widenElementwise(Operation &op);

  /// Whether the value differs by lane, as far as it has been mapped.
  bool isVarying(Value original) {
    return isa<VectorType>(mapping.lookupOrDefault(original).getType());
  }
  bool isLaneRow(Value original) {
    Value mapped = mapping.lookupOrDefault(original);
    return mapped != original && mapped.getType() != original.getType() &&
           isa<RankedTensorType>(mapped.getType());
  }
  VectorType vectorOf(Type scalar) { return VectorType::get({lanes}, scalar); }
  RankedTensorType rowOf(RankedTensorType type) {
    SmallVector<int64_t> shape(type.getShape());
    shape.push_back(lanes);
    return RankedTensorType::get(shape, type.getElementType());
  }
  /// The index list of a row with the lanes' own index behind it.
  SmallVector<Value> laneIndices(Location loc, ValueRange indices) {
    SmallVector<Value> result;
    for (Value index : indices)
      result.push_back(mapping.lookupOrDefault(index));
    result.push_back(arith::ConstantIndexOp::create(b, loc, 0));
    return result;
  }
  LogicalResult checkUniform(Operation *op, ValueRange indices) {
    for (Value index : indices)
      if (isVarying(index))
        return op->emitOpError("reads or writes a row at an index that depends "
                               "on the token; a body on lanes cannot");
    return success();
  }

  OpBuilder &b;
  IRMapping &mapping;
  int64_t lanes;
  Value active; ///< The lanes that a branch is taken by; null for all.
};

Value Widener::getVector(Value original) {
  Value mapped = mapping.lookupOrDefault(original);
  if (isa<VectorType, RankedTensorType>(mapped.getType()))
    return mapped;
  return vector::BroadcastOp::create(b, mapped.getLoc(),
                                     vectorOf(mapped.getType()), mapped);
}

LogicalResult Widener::widenExtract(tensor::ExtractOp op) {
  if (failed(checkUniform(op, op.getIndices())))
    return failure();
  if (!isLaneRow(op.getTensor())) {
    b.clone(*op, mapping);
    return success();
  }
  Value row = mapping.lookup(op.getTensor());
  SmallVector<bool> inBounds = {true};
  Value read = vector::TransferReadOp::create(
      b, op.getLoc(), vectorOf(op.getType()), row,
      laneIndices(op.getLoc(), op.getIndices()), /*padding=*/std::nullopt,
      ArrayRef<bool>(inBounds));
  mapping.map(op.getResult(), read);
  return success();
}

LogicalResult Widener::widenInsert(tensor::InsertOp op) {
  if (failed(checkUniform(op, op.getIndices())))
    return failure();
  if (!isLaneRow(op.getDest()))
    return op.emitOpError("writes to a tensor that all tokens share");
  Value scalar = getVector(op.getScalar());
  SmallVector<bool> inBounds = {true};
  if (active) {
    Value kept = vector::TransferReadOp::create(
        b, op.getLoc(), cast<VectorType>(scalar.getType()),
        mapping.lookup(op.getDest()), laneIndices(op.getLoc(), op.getIndices()),
        /*padding=*/std::nullopt, ArrayRef<bool>(inBounds));
    scalar = arith::SelectOp::create(b, op.getLoc(), active, scalar, kept);
  }
  auto write = vector::TransferWriteOp::create(
      b, op.getLoc(), scalar, mapping.lookup(op.getDest()),
      laneIndices(op.getLoc(), op.getIndices()), ArrayRef<bool>(inBounds));
  mapping.map(op.getResult(), write.getResult());
  return success();
}

LogicalResult Widener::widenFor(scf::ForOp op) {
  for (Value bound : {op.getLowerBound(), op.getUpperBound(), op.getStep()})
    if (isVarying(bound))
      return op.emitOpError("has a bound that depends on the token");
  // Carried values may come to differ by lane in the first iteration, so all
  // scalars among them are vectors from the start; indices stay uniform.
  SmallVector<Value> inits;
  for (Value init : op.getInitArgs())
    inits.push_back(init.getType().isIndex() ? mapping.lookupOrDefault(init)
                                             : getVector(init));
  auto loop = scf::ForOp::create(b, op.getLoc(),
                                 mapping.lookupOrDefault(op.getLowerBound()),
                                 mapping.lookupOrDefault(op.getUpperBound()),
                                 mapping.lookupOrDefault(op.getStep()), inits);
  mapping.map(op.getInductionVar(), loop.getInductionVar());
  mapping.map(op.getRegionIterArgs(), loop.getRegionIterArgs());
  mapping.map(op.getResults(), loop.getResults());
  OpBuilder::InsertionGuard guard(b);
  Block *body = loop.getBody();
  if (!body->empty() && isa<scf::YieldOp>(body->back()))
    body->back().erase();
  b.setInsertionPointToEnd(body);
  if (failed(widenBlock(*op.getBody())))
    return failure();
  SmallVector<Value> yielded;
  for (Value value : op.getBody()->getTerminator()->getOperands())
    yielded.push_back(value.getType().isIndex() ? mapping.lookupOrDefault(value)
                                                : getVector(value));
  scf::YieldOp::create(b, op.getLoc(), yielded);
  return success();
}

/// What few tokens need: runs where any lane takes the branch, and changes the
/// values and rows of the lanes that do.
LogicalResult Widener::widenIf(scf::IfOp op) {
  Value taken = mapping.lookupOrDefault(op.getCondition());
  if (!op.elseBlock() || !op.elseBlock()->without_terminator().empty())
    return op.emitOpError("has an else part that does something; on lanes only "
                          "what few tokens need may stand in a branch");
  Location loc = op.getLoc();
  Value outer = active, any = taken;
  if (isa<VectorType>(taken.getType())) {
    if (outer)
      taken = arith::AndIOp::create(b, loc, outer, taken);
    any = vector::ReductionOp::create(b, loc, vector::CombiningKind::OR, taken);
  } else if (outer) {
    taken = outer;
  }
  bool isVaryingBranch = isa<VectorType>(taken.getType());

  SmallVector<Value> others;
  SmallVector<Type> types;
  for (Value value : op.elseYield().getOperands()) {
    others.push_back(getVector(value));
    types.push_back(others.back().getType());
  }
  auto branch = scf::IfOp::create(b, loc, types, any, /*withElseRegion=*/true);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    if (isVaryingBranch)
      active = taken;
    LogicalResult widened = widenBlock(*op.thenBlock());
    active = outer;
    if (failed(widened))
      return failure();
    SmallVector<Value> yielded;
    for (auto [value, other] :
         llvm::zip(op.thenYield().getOperands(), others)) {
      Value own = getVector(value);
      if (isVaryingBranch && isa<VectorType>(own.getType()))
        own = arith::SelectOp::create(b, loc, taken, own, other);
      yielded.push_back(own);
    }
    scf::YieldOp::create(b, loc, yielded);
  }
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, loc, others);
  }
  mapping.map(op.getResults(), branch.getResults());
  return success();
}

LogicalResult Widener::widenElementwise(Operation &op) {
  SmallVector<Value> operands;
  for (Value operand : op.getOperands())
    operands.push_back(getVector(operand));
  SmallVector<Type> types;
  for (Type type : op.getResultTypes())
    types.push_back(vectorOf(type));
  OperationState state(op.getLoc(), op.getName(), operands, types,
                       llvm::to_vector(op.getDiscardableAttrs()));
  state.propertiesAttr = op.getPropertiesAsAttribute();
  Operation *wide = b.create(state);
  mapping.map(op.getResults(), wide->getResults());
  return success();
}

LogicalResult Widener::widen(Operation &op) {
  if (auto extract = dyn_cast<tensor::ExtractOp>(op))
    return widenExtract(extract);
  if (auto insert = dyn_cast<tensor::InsertOp>(op))
    return widenInsert(insert);
  if (auto loop = dyn_cast<scf::ForOp>(op))
    return widenFor(loop);
  if (auto branch = dyn_cast<scf::IfOp>(op))
    return widenIf(branch);
  if (auto empty = dyn_cast<tensor::EmptyOp>(op)) {
    // A row that a body makes belongs to the token.
    auto row = tensor::EmptyOp::create(b, op.getLoc(),
                                       rowOf(empty.getType()).getShape(),
                                       empty.getType().getElementType());
    mapping.map(empty.getResult(), row.getResult());
    return success();
  }
  if (llvm::none_of(op.getOperands(),
                    [&](Value operand) {
                      return isVarying(operand) || isLaneRow(operand);
                    }) &&
      op.getNumRegions() == 0 && isMemoryEffectFree(&op)) {
    b.clone(op, mapping);
    return success();
  }
  if (!op.hasTrait<OpTrait::Elementwise>() ||
      !op.hasTrait<OpTrait::Vectorizable>())
    return op.emitOpError("has no form on lanes; a token body or epilogue is "
                          "made of arith, math, scf.for and row accesses");
  return widenElementwise(op);
}

LogicalResult Widener::widenBlock(Block &block) {
  for (Operation &op : block.without_terminator())
    if (failed(widen(op)))
      return failure();
  return success();
}

} // namespace

FailureOr<SmallVector<Value>> moe::widenBody(OpBuilder &builder, Block &body,
                                             IRMapping &mapping,
                                             int64_t lanes) {
  Widener widener(builder, mapping, lanes);
  if (failed(widener.widenBlock(body)))
    return failure();
  SmallVector<Value> results;
  for (Value value : body.getTerminator()->getOperands())
    results.push_back(widener.getVector(value));
  return results;
}
