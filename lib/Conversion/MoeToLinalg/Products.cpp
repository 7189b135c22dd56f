//===- Products.cpp - Products of each expert's rows, grouped_matmul ------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Products.h"
#include "Grouping.h"
#include "Lowering.h"
#include "Patterns.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

Value tolinalg::emitProduct(ImplicitLocOpBuilder &b,
                            const ExpertProduct &product, Value dest,
                            ScalarBody epilogue) {
  Value zero = emitFloat(b, product.compute, 0.0);
  SmallVector<Value> inputs;
  SmallVector<SmallVector<int64_t>> dims;
  for (Value weight : product.weights) {
    Value acc = emitFill(b, zero, emitEmptyLike(b, dest, product.compute));
    inputs.push_back(emitMatmul(b, product.rows, weight,
                                /*isRhsTransposed=*/!product.isInOut, acc));
    dims.push_back({0, 1});
  }
  for (Value bias : product.biases) {
    inputs.push_back(bias);
    dims.push_back({1});
  }
  return emitMap(b, inputs, dims, dest, [&](ValueRange scalars) {
    SmallVector<Value> wide =
        llvm::map_to_vector(scalars.take_front(inputs.size()), [&](Value x) {
          return emitConvert(b, x, product.compute);
        });
    return emitConvert(b, epilogue(wide), getElementType(dest));
  });
}

Value tolinalg::emitForExperts(
    ImplicitLocOpBuilder &b, Value offsets, Value dest,
    llvm::function_ref<Value(Value expert, Value begin, Value count,
                             Value dest)>
        body) {
  auto emitRows = [&](Value expert, Value begin, Value count, Value all) {
    OpFoldResult first = getAsOpFoldResult(begin);
    OpFoldResult size = getAsOpFoldResult(count);
    Value rows = emitSliceRows(b, all, first, size);
    rows = body(expert, begin, count, rows);
    return emitInsertRows(b, rows, all, first, size);
  };
  Value zero = emitIndex(b, 0);
  if (!offsets)
    return emitRows(zero, zero, emitDim(b, dest, 0), dest);
  Value one = emitIndex(b, 1);
  Value numExperts = emitSub(b, emitDim(b, offsets, 0), one);
  return emitLoop(
      b, zero, numExperts, dest,
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        Value begin = emitReadIndex(b, offsets, expert);
        Value end = emitReadIndex(b, offsets, emitAdd(b, expert, one));
        return {emitRows(expert, begin, emitSub(b, end, begin), carried[0])};
      })[0];
}

namespace {

class GroupedMatmulLowering final : public Lowering<GroupedMatmulOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(GroupedMatmulOp op,
                          ImplicitLocOpBuilder &b) const override {
    return {emitForExperts(
        b, op.getOffsets(), op.getInit(),
        [&](Value expert, Value begin, Value count, Value dest) {
          ExpertProduct product;
          product.compute = op.getComputeType();
          product.isInOut = op.getInOut();
          product.rows = emitRows(op, b, begin, count);
          for (Value weight : op.getWeights())
            product.weights.push_back(emitSliceRow(b, weight, expert));
          for (Value bias : op.getBiases())
            product.biases.push_back(emitSliceRow(b, bias, expert));
          return emitProduct(b, product, dest, [&](ValueRange values) {
            return emitEpilogue(op, b, values);
          });
        })};
  }

  /// The rows a[n] of one expert.
  static Value emitRows(GroupedMatmulOp op, ImplicitLocOpBuilder &b,
                        Value begin, Value count) {
    OpFoldResult size = getAsOpFoldResult(count);
    auto own = [&](Value list) {
      return list ? emitSliceRows(b, list, getAsOpFoldResult(begin), size)
                  : Value();
    };
    Value lhs = op.getLhs(), scale = op.getRowScale();
    if (!op.getRows())
      lhs = own(lhs);
    if (!op.getRows() && !scale)
      return lhs;
    OpFoldResult depth = tensor::getMixedSize(b, b.getLoc(), lhs, 1);
    Value dest = emitEmpty(b, {size, depth}, getElementType(lhs));
    return emitGather(b, lhs, own(op.getRows()), own(scale), dest);
  }

  static Value emitEpilogue(GroupedMatmulOp op, ImplicitLocOpBuilder &b,
                            ValueRange values) {
    Block &body = op.getEpilogue().front();
    IRMapping mapping;
    mapping.map(body.getArguments(), values);
    for (Operation &inner : body.without_terminator())
      b.clone(inner, mapping);
    Value yielded = cast<YieldOp>(body.getTerminator()).getValues().front();
    return mapping.lookupOrDefault(yielded);
  }
};

} // namespace

void tolinalg::addGroupedMatmulPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupedMatmulLowering>(patterns.getContext());
}
