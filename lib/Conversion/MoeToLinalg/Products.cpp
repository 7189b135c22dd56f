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
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::tolinalg;

SmallVector<Value> tolinalg::emitProduct(ImplicitLocOpBuilder &b,
                                         const ExpertProduct &product,
                                         ValueRange dests, Epilogue epilogue) {
  Value zero = emitFloat(b, product.compute, 0.0);
  SmallVector<Value> inputs;
  SmallVector<SmallVector<int64_t>> dims;
  auto addInputs = [&](ArrayRef<Value> values, ArrayRef<int64_t> own) {
    for (Value value : values) {
      inputs.push_back(value);
      dims.emplace_back(own);
    }
  };
  for (auto [place, weight] : llvm::enumerate(product.weights)) {
    Value rows = product.rows[product.rows.size() > 1 ? place : 0];
    Value acc =
        emitFill(b, zero, emitEmptyLike(b, dests.front(), product.compute));
    addInputs(emitMatmul(b, rows, weight,
                         /*isRhsTransposed=*/!product.isInOut, acc),
              {0, 1});
  }
  addInputs(product.biases, {1});
  addInputs(product.elements, {0, 1});
  addInputs(product.rowValues, {0});
  SmallVector<Value> results;
  for (auto [place, dest] : llvm::enumerate(dests))
    results.push_back(
        emitMap(b, inputs, dims, dest, [&, place = place](ValueRange scalars) {
          SmallVector<Value> wide = llvm::map_to_vector(
              scalars.take_front(inputs.size()),
              [&](Value x) { return emitConvert(b, x, product.compute); });
          return emitConvert(b, epilogue(wide)[place],
                             getElementType(dests[place]));
        }));
  return results;
}

Value tolinalg::ExpertRows::of(ImplicitLocOpBuilder &b, Value all) const {
  if (!all)
    return {};
  return emitSliceRows(b, all, getAsOpFoldResult(begin),
                       getAsOpFoldResult(count));
}

SmallVector<Value> tolinalg::emitForExperts(
    ImplicitLocOpBuilder &b, Value offsets, ValueRange dests,
    llvm::function_ref<SmallVector<Value>(const ExpertRows &own,
                                          ValueRange dests)>
        body) {
  auto emitRows = [&](const ExpertRows &own, ValueRange all) {
    SmallVector<Value> parts =
        llvm::map_to_vector(all, [&](Value dest) { return own.of(b, dest); });
    SmallVector<Value> results;
    for (auto [rows, dest] : llvm::zip(body(own, parts), all))
      results.push_back(emitInsertRows(b, rows, dest,
                                       getAsOpFoldResult(own.begin),
                                       getAsOpFoldResult(own.count)));
    return results;
  };
  Value zero = emitIndex(b, 0);
  if (!offsets)
    return emitRows({zero, zero, emitDim(b, dests.front(), 0)}, dests);
  Value one = emitIndex(b, 1);
  Value numExperts = emitSub(b, emitDim(b, offsets, 0), one);
  return emitLoop(
      b, zero, numExperts, dests, [&](Value expert, ValueRange carried) {
        Value begin = emitReadIndex(b, offsets, expert);
        Value end = emitReadIndex(b, offsets, emitAdd(b, expert, one));
        return emitRows({expert, begin, emitSub(b, end, begin)}, carried);
      });
}

namespace {

/// The rows that an expert's assignments have in `source`: its own ones, or
/// those that `numbers` names; each times its scale, where there is one.
Value emitOwnRows(ImplicitLocOpBuilder &b, const ExpertRows &own, Value source,
                  Value numbers, Value scale) {
  if (!numbers)
    source = own.of(b, source);
  if (!numbers && !scale)
    return source;
  OpFoldResult depth = tensor::getMixedSize(b, b.getLoc(), source, 1);
  Value dest = emitEmpty(b, {getAsOpFoldResult(own.count), depth},
                         getElementType(source));
  return emitGather(b, source, own.of(b, numbers), own.of(b, scale), dest);
}

class GroupedMatmulLowering final : public Lowering<GroupedMatmulOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(GroupedMatmulOp op,
                          ImplicitLocOpBuilder &b) const override {
    return emitForExperts(
        b, op.getOffsets(), op.getInits(),
        [&](const ExpertRows &own, ValueRange dests) {
          ExpertProduct product;
          product.compute = op.getComputeType();
          product.isInOut = op.getInOut();
          for (Value lhs : op.getLhs())
            product.rows.push_back(
                emitOwnRows(b, own, lhs, op.getRows(), op.getRowScale()));
          for (Value weight : op.getWeights())
            product.weights.push_back(emitSliceRow(b, weight, own.expert));
          for (Value bias : op.getBiases())
            product.biases.push_back(emitSliceRow(b, bias, own.expert));
          for (Value elements : op.getElements())
            product.elements.push_back(own.of(b, elements));
          for (Value values : op.getRowValues())
            product.rowValues.push_back(own.of(b, values));
          return emitProduct(b, product, dests, [&](ValueRange values) {
            return emitEpilogue(op, b, values);
          });
        });
  }

  static SmallVector<Value>
  emitEpilogue(GroupedMatmulOp op, ImplicitLocOpBuilder &b, ValueRange values) {
    Block &body = op.getEpilogue().front();
    IRMapping mapping;
    mapping.map(body.getArguments(), values);
    for (Operation &inner : body.without_terminator())
      b.clone(inner, mapping);
    auto yield = cast<YieldOp>(body.getTerminator());
    return llvm::map_to_vector(yield.getValues(), [&](Value value) {
      return mapping.lookupOrDefault(value);
    });
  }
};

class GroupedOuterLowering final : public Lowering<GroupedOuterOp> {
  using Lowering::Lowering;

  SmallVector<Value> emit(GroupedOuterOp op,
                          ImplicitLocOpBuilder &b) const override {
    Value zero = emitIndex(b, 0), one = emitIndex(b, 1), out = op.getInit();
    auto emitExpert = [&](const ExpertRows &own, Value all) {
      Value lhs =
          emitOwnRows(b, own, op.getLhs(), op.getLhsRows(), /*scale=*/{});
      Value rhs =
          emitOwnRows(b, own, op.getRhs(), op.getRhsRows(), /*scale=*/{});
      OpFoldResult expert = getAsOpFoldResult(own.expert);
      Value dest = emitSliceRow(b, all, expert);
      Value sum = emitFill(b, emitFloat(b, op.getComputeType(), 0.0),
                           emitEmptyLike(b, dest, op.getComputeType()));
      sum = linalg::MatmulTransposeAOp::create(b, b.getLoc(), sum.getType(),
                                               ValueRange{lhs, rhs},
                                               ValueRange{sum})
                ->getResult(0);
      return emitInsertRow(b, emitConvertInto(b, sum, dest), all, expert);
    };
    if (!op.getOffsets()) {
      Value numbers = op.getLhsRows() ? op.getLhsRows() : op.getLhs();
      return {emitExpert({zero, zero, emitDim(b, numbers, 0)}, out)};
    }
    return emitLoop(
        b, zero, emitDim(b, out, 0), out,
        [&](Value expert, ValueRange so) -> SmallVector<Value> {
          Value begin = emitReadIndex(b, op.getOffsets(), expert);
          Value end =
              emitReadIndex(b, op.getOffsets(), emitAdd(b, expert, one));
          return {emitExpert({expert, begin, emitSub(b, end, begin)}, so[0])};
        });
  }
};

} // namespace

void tolinalg::addGroupedMatmulPatterns(RewritePatternSet &patterns) {
  patterns.add<GroupedMatmulLowering, GroupedOuterLowering>(
      patterns.getContext());
}
