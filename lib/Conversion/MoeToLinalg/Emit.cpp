//===- Emit.cpp - Short forms of what the lowerings emit ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "moe/Dialect/Moe/Utils/BodyBuilder.h"
#include "moe/Dialect/Moe/Utils/EntryChecks.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

//===----------------------------------------------------------------------===//
// Scalars
//===----------------------------------------------------------------------===//

Type tolinalg::getElementType(Value shaped) {
  return cast<ShapedType>(shaped.getType()).getElementType();
}

FloatType tolinalg::getComputeType(ImplicitLocOpBuilder &b,
                                   ArrayRef<Value> values) {
  bool isWide = llvm::any_of(values, [](Value value) {
    return value && getElementType(value).isF64();
  });
  return isWide ? FloatType(b.getF64Type()) : FloatType(b.getF32Type());
}

Value tolinalg::emitFloat(ImplicitLocOpBuilder &b, Type type, double value) {
  return arith::ConstantOp::create(b, b.getFloatAttr(type, value));
}

Value tolinalg::emitNegativeInfinity(ImplicitLocOpBuilder &b, FloatType type) {
  APFloat value = APFloat::getInf(type.getFloatSemantics(), /*Negative=*/true);
  return arith::ConstantOp::create(b, FloatAttr::get(type, value));
}

Value tolinalg::emitI32(ImplicitLocOpBuilder &b, int64_t value) {
  return arith::ConstantOp::create(b, b.getI32IntegerAttr(value));
}

Value tolinalg::emitIndex(ImplicitLocOpBuilder &b, int64_t value) {
  return arith::ConstantIndexOp::create(b, value);
}

Value tolinalg::emitConvert(ImplicitLocOpBuilder &b, Value scalar, Type type) {
  return convertFloat(b, scalar, type);
}

Value tolinalg::emitToIndex(ImplicitLocOpBuilder &b, Value id) {
  return arith::IndexCastOp::create(b, b.getIndexType(), id);
}

Value tolinalg::emitToI32(ImplicitLocOpBuilder &b, Value index) {
  return arith::IndexCastOp::create(b, b.getI32Type(), index);
}

Value tolinalg::emitIsWithin(ImplicitLocOpBuilder &b, Value id, Value bound) {
  // A negative id is a huge one without its sign.
  return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, id, bound);
}

Value tolinalg::emitAdd(ImplicitLocOpBuilder &b, Value index, Value other) {
  return arith::AddIOp::create(b, index, other);
}

Value tolinalg::emitSub(ImplicitLocOpBuilder &b, Value index, Value other) {
  return arith::SubIOp::create(b, index, other);
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

Value tolinalg::emitDim(ImplicitLocOpBuilder &b, Value tensor, int64_t dim) {
  return getValueOrCreateConstantIndexOp(
      b, b.getLoc(), tensor::getMixedSize(b, b.getLoc(), tensor, dim));
}

Value tolinalg::emitEmpty(ImplicitLocOpBuilder &b, ArrayRef<OpFoldResult> sizes,
                          Type elementType) {
  return tensor::EmptyOp::create(b, sizes, elementType);
}

Value tolinalg::emitList(ImplicitLocOpBuilder &b, OpFoldResult length,
                         Type elementType) {
  return emitEmpty(b, length, elementType);
}

Value tolinalg::emitEmptyLike(ImplicitLocOpBuilder &b, Value tensor,
                              Type elementType) {
  return emitEmpty(b, tensor::getMixedSizes(b, b.getLoc(), tensor),
                   elementType);
}

Value tolinalg::emitFill(ImplicitLocOpBuilder &b, Value scalar, Value dest) {
  return linalg::FillOp::create(b, scalar, dest).getResult(0);
}

SmallVector<Value>
tolinalg::emitDestinations(ImplicitLocOpBuilder &b,
                           ReifyRankedShapedTypeOpInterface op) {
  ReifiedRankedShapedTypeDims shapes;
  // The layer ops reify every result, without exception.
  LogicalResult reified = op.reifyResultShapes(b, shapes);
  (void)reified;
  assert(succeeded(reified) && "a layer op did not reify its shape");
  SmallVector<Value> dests;
  for (auto [result, shape] : llvm::zip_equal(op->getResults(), shapes)) {
    auto type = cast<RankedTensorType>(result.getType());
    SmallVector<Value> dynamicSizes;
    for (auto [size, reifiedSize] : llvm::zip_equal(type.getShape(), shape))
      if (ShapedType::isDynamic(size))
        dynamicSizes.push_back(
            getValueOrCreateConstantIndexOp(b, b.getLoc(), reifiedSize));
    dests.push_back(tensor::EmptyOp::create(b, type, dynamicSizes));
  }
  return dests;
}

Value tolinalg::emitRead(ImplicitLocOpBuilder &b, Value tensor,
                         ValueRange indices) {
  return tensor::ExtractOp::create(b, tensor, indices);
}

Value tolinalg::emitReadIndex(ImplicitLocOpBuilder &b, Value tensor,
                              ValueRange indices) {
  return emitToIndex(b, emitRead(b, tensor, indices));
}

Value tolinalg::emitWrite(ImplicitLocOpBuilder &b, Value scalar, Value tensor,
                          ValueRange indices) {
  return tensor::InsertOp::create(b, scalar, tensor, indices);
}

namespace {
/// Offsets, sizes and strides of a range of rows.
struct RowRange {
  RowRange(ImplicitLocOpBuilder &b, Value tensor, OpFoldResult begin,
           OpFoldResult count)
      : sizes(tensor::getMixedSizes(b, b.getLoc(), tensor)),
        offsets(sizes.size(), b.getIndexAttr(0)),
        strides(sizes.size(), b.getIndexAttr(1)) {
    offsets[0] = begin;
    sizes[0] = count;
  }
  SmallVector<OpFoldResult> sizes, offsets, strides;
};
} // namespace

Value tolinalg::emitSliceRows(ImplicitLocOpBuilder &b, Value tensor,
                              OpFoldResult begin, OpFoldResult count) {
  RowRange range(b, tensor, begin, count);
  return tensor::ExtractSliceOp::create(b, tensor, range.offsets, range.sizes,
                                        range.strides);
}

Value tolinalg::emitInsertRows(ImplicitLocOpBuilder &b, Value rows, Value dest,
                               OpFoldResult begin, OpFoldResult count) {
  RowRange range(b, dest, begin, count);
  return tensor::InsertSliceOp::create(b, rows, dest, range.offsets,
                                       range.sizes, range.strides);
}

Value tolinalg::emitSliceRow(ImplicitLocOpBuilder &b, Value tensor,
                             OpFoldResult row) {
  RowRange range(b, tensor, row, b.getIndexAttr(1));
  auto type = cast<RankedTensorType>(tensor.getType());
  auto rowType = RankedTensorType::get(type.getShape().drop_front(),
                                       type.getElementType());
  return tensor::ExtractSliceOp::create(b, rowType, tensor, range.offsets,
                                        range.sizes, range.strides);
}

Value tolinalg::emitInsertRow(ImplicitLocOpBuilder &b, Value values, Value dest,
                              OpFoldResult row) {
  RowRange range(b, dest, row, b.getIndexAttr(1));
  return tensor::InsertSliceOp::create(b, values, dest, range.offsets,
                                       range.sizes, range.strides);
}

//===----------------------------------------------------------------------===//
// Structured ops
//===----------------------------------------------------------------------===//

Value tolinalg::emitMap(ImplicitLocOpBuilder &b, ValueRange inputs,
                        ArrayRef<SmallVector<int64_t>> dims, Value dest,
                        ScalarBody body) {
  int64_t rank = cast<RankedTensorType>(dest.getType()).getRank();
  SmallVector<AffineMap> maps;
  for (ArrayRef<int64_t> inputDims : dims) {
    SmallVector<AffineExpr> exprs;
    for (int64_t dim : inputDims)
      exprs.push_back(b.getAffineDimExpr(dim));
    maps.push_back(AffineMap::get(rank, 0, exprs, b.getContext()));
  }
  maps.push_back(b.getMultiDimIdentityMap(rank));
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  auto generic = linalg::GenericOp::create(
      b, dest.getType(), inputs, dest, maps, iterators,
      [&](OpBuilder &, Location, ValueRange scalars) {
        linalg::YieldOp::create(b, body(scalars));
      });
  return generic.getResult(0);
}

Value tolinalg::emitMapIndexed(ImplicitLocOpBuilder &b, Value dest,
                               llvm::function_ref<Value(Value index)> body) {
  return emitMap(b, {}, {}, dest, [&](ValueRange) {
    return body(linalg::IndexOp::create(b, /*dim=*/0));
  });
}

Value tolinalg::emitElementwise(ImplicitLocOpBuilder &b, ValueRange inputs,
                                Value dest, ScalarBody body) {
  int64_t rank = cast<RankedTensorType>(dest.getType()).getRank();
  SmallVector<int64_t> all = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  SmallVector<SmallVector<int64_t>> dims(inputs.size(), all);
  return emitMap(b, inputs, dims, dest, body);
}

Value tolinalg::emitAccumulate(
    ImplicitLocOpBuilder &b, Value input, Value acc,
    llvm::function_ref<Value(Value scalar, Value accumulated)> body) {
  return emitElementwise(b, input, acc, [&](ValueRange scalars) {
    return body(scalars[0], scalars[1]);
  });
}

Value tolinalg::emitConvertTensor(ImplicitLocOpBuilder &b, Value tensor,
                                  Type type) {
  if (getElementType(tensor) == type)
    return tensor;
  return emitConvertInto(b, tensor, emitEmptyLike(b, tensor, type));
}

Value tolinalg::emitConvertInto(ImplicitLocOpBuilder &b, Value tensor,
                                Value dest) {
  return emitElementwise(b, tensor, dest, [&](ValueRange scalars) {
    return emitConvert(b, scalars[0], getElementType(dest));
  });
}

Value tolinalg::emitMatmul(ImplicitLocOpBuilder &b, Value lhs, Value rhs,
                           bool isRhsTransposed, Value acc) {
  ValueRange outs(acc);
  SmallVector<Value> ins = {lhs, rhs};
  if (isRhsTransposed)
    return linalg::MatmulTransposeBOp::create(b, b.getLoc(), acc.getType(), ins,
                                              outs)
        ->getResult(0);
  return linalg::MatmulOp::create(b, b.getLoc(), acc.getType(), ins, outs)
      ->getResult(0);
}

Value tolinalg::emitSoftmax(ImplicitLocOpBuilder &b, Value tensor,
                            int64_t dim) {
  // No upstream pass lowers linalg.softmax, but the op can decompose itself. It
  // lives for that moment alone, so the rewriter must not hear of it.
  OpBuilder silent(b.getContext());
  silent.setInsertionPoint(b.getInsertionBlock(), b.getInsertionPoint());
  Value dest = emitEmptyLike(b, tensor, getElementType(tensor));
  auto softmax = linalg::SoftmaxOp::create(silent, b.getLoc(), dest.getType(),
                                           tensor, dest, dim);
  FailureOr<SmallVector<Value>> parts = softmax.decomposeOperation(b);
  softmax.erase();
  return parts->front();
}

Value tolinalg::emitAll(ImplicitLocOpBuilder &b, Value tensor,
                        llvm::function_ref<Value(Value scalar)> test) {
  int64_t rank = cast<RankedTensorType>(tensor.getType()).getRank();
  Value yes = arith::ConstantOp::create(b, b.getBoolAttr(true));
  Value init =
      emitFill(b, yes, emitEmpty(b, ArrayRef<OpFoldResult>(), b.getI1Type()));
  SmallVector<AffineMap> maps = {
      b.getMultiDimIdentityMap(rank),
      AffineMap::get(rank, 0, ArrayRef<AffineExpr>(), b.getContext())};
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::reduction);
  auto generic = linalg::GenericOp::create(
      b, init.getType(), tensor, init, maps, iterators,
      [&](OpBuilder &, Location, ValueRange scalars) {
        Value both = arith::AndIOp::create(b, test(scalars[0]), scalars[1]);
        linalg::YieldOp::create(b, both);
      });
  return emitRead(b, generic.getResult(0), {});
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

SmallVector<Value> tolinalg::emitLoop(ImplicitLocOpBuilder &b, Value begin,
                                      Value end, ValueRange inits,
                                      LoopBody body) {
  auto loop = scf::ForOp::create(
      b, begin, end, emitIndex(b, 1), inits,
      [&](OpBuilder &, Location, Value index, ValueRange carried) {
        scf::YieldOp::create(b, body(index, carried));
      });
  return loop.getResults();
}

SmallVector<Value>
tolinalg::emitIf(ImplicitLocOpBuilder &b, Value condition, ValueRange otherwise,
                 llvm::function_ref<SmallVector<Value>()> body) {
  auto branch = scf::IfOp::create(
      b, condition,
      [&](OpBuilder &, Location) { scf::YieldOp::create(b, body()); },
      [&](OpBuilder &, Location) { scf::YieldOp::create(b, otherwise); });
  return branch.getResults();
}

void tolinalg::emitAssert(ImplicitLocOpBuilder &b, Value condition,
                          const Twine &message) {
  cf::AssertOp::create(b, condition, b.getStringAttr(message));
}

SmallVector<Value> tolinalg::emitForGroups(ImplicitLocOpBuilder &b,
                                           StringRef opName, Value offsets,
                                           Value numTokens, ValueRange inits,
                                           GroupBody body) {
  if (offsets)
    emitGroupOffsetsCheck(b, opName, offsets, numTokens);
  return emitForCheckedGroups(b, offsets, numTokens, inits, body);
}

SmallVector<Value> tolinalg::emitForCheckedGroups(ImplicitLocOpBuilder &b,
                                                  Value offsets,
                                                  Value numTokens,
                                                  ValueRange inits,
                                                  GroupBody body) {
  if (!offsets)
    return body(emitIndex(b, 0), numTokens, inits);
  Value one = emitIndex(b, 1);
  Value numGroups = emitSub(b, emitDim(b, offsets, 0), one);
  return emitLoop(b, emitIndex(b, 0), numGroups, inits,
                  [&](Value group, ValueRange carried) {
                    Value begin = emitReadIndex(b, offsets, group);
                    Value end =
                        emitReadIndex(b, offsets, emitAdd(b, group, one));
                    return body(begin, emitSub(b, end, begin), carried);
                  });
}
