//===- TensorGradients.cpp - Backwards of tensor and linalg ops -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/RegionUtils.h"
#include "moe/Dialect/Moe/IR/Cotangents.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

//===----------------------------------------------------------------------===//
// Views
//===----------------------------------------------------------------------===//

void pull(ImplicitLocOpBuilder &b, tensor::CastOp op, Cotangents &cotangents) {
  cotangents.add(b, op.getSource(), cotangents.of(op));
}

void pull(ImplicitLocOpBuilder &b, tensor::ExpandShapeOp op,
          Cotangents &cotangents) {
  Value joined = tensor::CollapseShapeOp::create(
      b, op.getSrcType(), cotangents.of(op), op.getReassociationIndices());
  cotangents.add(b, op.getSrc(), joined);
}

void pull(ImplicitLocOpBuilder &b, tensor::CollapseShapeOp op,
          Cotangents &cotangents) {
  SmallVector<OpFoldResult> sizes =
      tensor::getMixedSizes(b, op.getLoc(), op.getSrc());
  Value split =
      tensor::ExpandShapeOp::create(b, op.getSrcType(), cotangents.of(op),
                                    op.getReassociationIndices(), sizes);
  cotangents.add(b, op.getSrc(), split);
}

void pull(ImplicitLocOpBuilder &b, tensor::ExtractSliceOp op,
          Cotangents &cotangents) {
  Value zeros = emitSplat(b, op.getSource(), 0.0);
  Value placed = tensor::InsertSliceOp::create(
      b, cotangents.of(op), zeros, op.getMixedOffsets(), op.getMixedSizes(),
      op.getMixedStrides());
  cotangents.add(b, op.getSource(), placed);
}

void pull(ImplicitLocOpBuilder &b, tensor::InsertSliceOp op,
          Cotangents &cotangents) {
  Value cotangent = cotangents.of(op);
  if (cotangents.isActive(op.getSource()))
    cotangents.add(b, op.getSource(),
                   tensor::ExtractSliceOp::create(
                       b, op.getSourceType(), cotangent, op.getMixedOffsets(),
                       op.getMixedSizes(), op.getMixedStrides()));
  if (cotangents.isActive(op.getDest())) {
    Value zeros = emitSplat(b, op.getSource(), 0.0);
    cotangents.add(b, op.getDest(),
                   tensor::InsertSliceOp::create(
                       b, zeros, cotangent, op.getMixedOffsets(),
                       op.getMixedSizes(), op.getMixedStrides()));
  }
}

template <typename OpTy>
struct ViewModel
    : public DifferentiableOpInterface::ExternalModel<ViewModel<OpTy>, OpTy> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    pull(b, cast<OpTy>(op), cotangents);
    return success();
  }
  Residual getResidual(Operation *, unsigned) const {
    return Residual::recomputed;
  }
};

//===----------------------------------------------------------------------===//
// Structured ops
//===----------------------------------------------------------------------===//

/// An op whose body gives each element of its result a value of its own, or
/// adds one to it. The gradient of an input is then a sum over the loops that
/// the input does not have, of the body's own gradient.
class StructuredBackward {
public:
  StructuredBackward(ImplicitLocOpBuilder &b, linalg::LinalgOp op,
                     Cotangents &cotangents)
      : b(b), op(op), cotangents(cotangents) {}

  LogicalResult run();

private:
  LogicalResult check();
  /// The value that the body adds to what was there, or yields; null where it
  /// is neither.
  Value getTerm();
  FailureOr<Value> emitGradient(OpOperand &input);

  ImplicitLocOpBuilder &b;
  linalg::LinalgOp op;
  Cotangents &cotangents;
  Value term; ///< In the op's own body.
};

Value StructuredBackward::getTerm() {
  Block *body = op.getBlock();
  Value yielded = body->getTerminator()->getOperand(0);
  BlockArgument previous = body->getArguments().back();
  if (previous.use_empty())
    return op.getNumReductionLoops() == 0 ? yielded : Value();
  auto sum = yielded.getDefiningOp<arith::AddFOp>();
  if (!sum || !previous.hasOneUse() || *previous.user_begin() != sum)
    return {};
  return sum.getLhs() == previous ? sum.getRhs() : sum.getLhs();
}

LogicalResult StructuredBackward::check() {
  if (op->getNumResults() != 1 || !op.hasPureTensorSemantics())
    return op->emitOpError("has no backward: it needs one result, on tensors");
  for (AffineMap map : op.getIndexingMapsArray())
    if (!map.isProjectedPermutation())
      return op->emitOpError("has no backward: an index of it is more than a "
                             "loop's own");
  for (OpOperand *input : op.getDpsInputOperands())
    if (cotangents.isActive(input->get()) &&
        !isa<RankedTensorType>(input->get().getType()))
      return op->emitOpError("has no backward for a scalar operand");
  llvm::SetVector<Value> captured;
  getUsedValuesDefinedAbove(op->getRegions(), captured);
  if (llvm::any_of(captured,
                   [&](Value value) { return cotangents.isActive(value); }))
    return op->emitOpError("has no backward: its body reads a value that is "
                           "differentiated by");
  term = getTerm();
  if (!term)
    return op->emitOpError("has no backward: its body is neither a value for "
                           "each element nor a sum");
  return success();
}

FailureOr<Value> StructuredBackward::emitGradient(OpOperand &input) {
  Value source = input.get();
  auto type = cast<RankedTensorType>(source.getType());
  Type element = type.getElementType();
  FloatType compute = element.isF64() ? b.getF64Type() : b.getF32Type();
  AffineMap own = op.getMatchingIndexingMap(&input);
  SmallVector<utils::IteratorType> iterators(op.getNumLoops(),
                                             utils::IteratorType::reduction);
  for (AffineExpr expr : own.getResults())
    iterators[cast<AffineDimExpr>(expr).getPosition()] =
        utils::IteratorType::parallel;
  bool isSum = own.getNumResults() < op.getNumLoops();

  OpOperand *out = op.getDpsInitOperand(0);
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  for (OpOperand *other : op.getDpsInputOperands()) {
    inputs.push_back(other->get());
    maps.push_back(op.getMatchingIndexingMap(other));
  }
  inputs.push_back(cotangents.of(op->getResult(0)));
  maps.push_back(op.getMatchingIndexingMap(out));
  maps.push_back(own);
  SmallVector<OpFoldResult> sizes =
      tensor::getMixedSizes(b, op.getLoc(), source);
  Type held = isSum ? Type(compute) : element;
  Value dest = tensor::EmptyOp::create(b, sizes, held);
  if (isSum)
    dest = emitZeros(b, dest);

  // What adds to the result is no part of what is added.
  Operation *sum = nullptr;
  if (!op.getBlock()->getArguments().back().use_empty())
    sum = op.getBlock()->getTerminator()->getOperand(0).getDefiningOp();
  LogicalResult status = success();
  unsigned place = input.getOperandNumber();
  auto gradient = linalg::GenericOp::create(
      b, dest.getType(), inputs, dest, maps, iterators,
      [&](OpBuilder &builder, Location loc, ValueRange args) {
        ImplicitLocOpBuilder nested(loc, builder);
        IRMapping mapping;
        mapping.map(op.getBlock()->getArguments().drop_back(),
                    args.take_front(inputs.size() - 1));
        for (Operation &inner : op.getBlock()->without_terminator())
          if (&inner != sum)
            nested.clone(inner, mapping);
        Value cotangent = args[inputs.size() - 1];
        auto found = pullBack(nested, mapping.lookupOrDefault(term), cotangent,
                              args[place]);
        Value value;
        if (succeeded(found))
          value = (*found)[0];
        else
          status = failure();
        value = value ? convertElements(nested, value, held)
                      : emitSplat(nested, args.back(), 0.0);
        if (isSum)
          value = arith::AddFOp::create(nested, args.back(), value);
        linalg::YieldOp::create(nested, value);
      });
  if (failed(status))
    return failure();
  return gradient.getResult(0);
}

LogicalResult StructuredBackward::run() {
  if (failed(check()))
    return failure();
  OpOperand *out = op.getDpsInitOperand(0);
  if (!op.getBlock()->getArguments().back().use_empty())
    cotangents.add(b, out->get(), cotangents.of(op->getResult(0)));
  for (OpOperand *input : op.getDpsInputOperands()) {
    if (!cotangents.isActive(input->get()))
      continue;
    FailureOr<Value> gradient = emitGradient(*input);
    if (failed(gradient))
      return failure();
    cotangents.add(b, input->get(), *gradient);
  }
  return success();
}

template <typename OpTy>
struct StructuredModel
    : public DifferentiableOpInterface::ExternalModel<StructuredModel<OpTy>,
                                                      OpTy> {
  LogicalResult buildVJP(Operation *op, ImplicitLocOpBuilder &b,
                         Cotangents &cotangents) const {
    return StructuredBackward(b, cast<linalg::LinalgOp>(op), cotangents).run();
  }
  /// Element by element is cheap; sums are not.
  Residual getResidual(Operation *op, unsigned) const {
    bool isSum = cast<linalg::LinalgOp>(op).getNumReductionLoops() > 0;
    return isSum ? Residual::saved : Residual::recomputed;
  }
};

template <typename... OpTys> void attachStructured(MLIRContext &context) {
  (OpTys::template attachInterface<StructuredModel<OpTys>>(context), ...);
}

} // namespace

void moe::registerTensorGradientModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, tensor::TensorDialect *) {
    tensor::CastOp::attachInterface<ViewModel<tensor::CastOp>>(*context);
    tensor::ExpandShapeOp::attachInterface<ViewModel<tensor::ExpandShapeOp>>(
        *context);
    tensor::CollapseShapeOp::attachInterface<
        ViewModel<tensor::CollapseShapeOp>>(*context);
    tensor::ExtractSliceOp::attachInterface<ViewModel<tensor::ExtractSliceOp>>(
        *context);
    tensor::InsertSliceOp::attachInterface<ViewModel<tensor::InsertSliceOp>>(
        *context);
  });
  registry.addExtension(+[](MLIRContext *context, linalg::LinalgDialect *) {
    attachStructured<linalg::GenericOp, linalg::ReduceOp, linalg::TransposeOp,
                     linalg::BroadcastOp, linalg::MatmulOp,
                     linalg::BatchMatmulOp, linalg::MatvecOp, linalg::VecmatOp,
                     linalg::DotOp, linalg::AddOp, linalg::SubOp, linalg::MulOp,
                     linalg::DivOp, linalg::ExpOp, linalg::LogOp,
                     linalg::TanhOp, linalg::SqrtOp, linalg::RsqrtOp,
                     linalg::SquareOp, linalg::NegFOp>(*context);
  });
}
