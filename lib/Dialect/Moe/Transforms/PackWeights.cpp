//===- PackWeights.cpp - Expert weights in the order they are read --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PackFunction.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPACKWEIGHTSPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

/// Whether an op gives a view with all experts of its source: a side of gate
/// and up, or a folded expert axis of its own.
static bool isView(Operation *op) {
  if (auto expand = dyn_cast_or_null<tensor::ExpandShapeOp>(op))
    return expand.getSrcType().getRank() == 2 &&
           expand.getResultType().getRank() == 3 &&
           expand.getReassociationIndices().front().size() == 2;
  auto slice = dyn_cast_or_null<tensor::ExtractSliceOp>(op);
  return slice && slice.getDroppedDims().none() &&
         isConstantIntValue(slice.getMixedOffsets().front(), 0) &&
         isConstantIntValue(slice.getMixedStrides().front(), 1) &&
         isConstantIntValue(slice.getMixedSizes().front(),
                            slice.getSourceType().getDimSize(0));
}

/// The argument that a value is a view of, or null.
static BlockArgument findStored(Value value) {
  while (isView(value.getDefiningOp()))
    value = value.getDefiningOp()->getOperand(0);
  return dyn_cast<BlockArgument>(value);
}

/// Whether all that is read of a value goes through views into the weights of
/// one product.
static bool isReadBy(Value value, GroupedMatmulOp reader) {
  return llvm::all_of(value.getUses(), [&](OpOperand &use) {
    Operation *user = use.getOwner();
    if (user == reader)
      return llvm::is_contained(
          llvm::map_range(reader.getWeightsMutable(),
                          [](OpOperand &own) { return &own; }),
          &use);
    return isView(user) && isReadBy(user->getResult(0), reader);
  });
}

namespace {

struct MoePackWeights
    : public moe::impl::MoePackWeightsPassBase<MoePackWeights> {
  using MoePackWeightsPassBase::MoePackWeightsPassBase;

  void runOnOperation() override {
    SmallVector<func::FuncOp> entries;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (function->hasAttr(kEntryAttrName) &&
          function->hasAttr(kNumInputsAttrName))
        entries.push_back(function);
    for (func::FuncOp entry : entries)
      packEntry(entry);
  }

private:
  void packEntry(func::FuncOp entry);
  /// Why the weights of a product stay as they are stored; empty where they do
  /// not, and then `weight` says how.
  std::string analyse(func::FuncOp entry, GroupedMatmulOp product,
                      PackedWeight &weight);
  void replaceArguments(func::FuncOp entry, PackedWeight &weight);
  void rewrite(PackedWeight &weight, Value packed);
  Value widenRows(ImplicitLocOpBuilder &b, GroupedMatmulOp product);
};

std::string MoePackWeights::analyse(func::FuncOp entry, GroupedMatmulOp product,
                                    PackedWeight &weight) {
  weight.product = product;
  auto element = cast<RankedTensorType>(product.getWeights().front().getType())
                     .getElementType();
  if (!product.getComputeType().isF32() ||
      !(element.isF32() || element.isBF16() || element.isF16()))
    return "the product is of a type that has no packed form";
  if (product.getLhs().size() != 1)
    return "each weight has rows of its own";
  if (product.getRowScale())
    return "rows are scaled as they are read";
  for (Value view : product.getWeights()) {
    BlockArgument argument = findStored(view);
    if (!argument || argument.getOwner() != &entry.getBody().front() ||
        !entry.getArgAttr(argument.getArgNumber(), kLayoutAttrName))
      return "a weight is not an argument with a layout";
    if (!isReadBy(argument, product))
      return "something else reads a weight too";
    if (!llvm::is_contained(weight.sources, argument))
      weight.sources.push_back(argument);
  }
  llvm::sort(weight.sources, [](BlockArgument one, BlockArgument other) {
    return one.getArgNumber() < other.getArgNumber();
  });
  int64_t sides = product.getWeights().size();
  if (columns % sides != 0)
    return "panels of " + std::to_string(columns) +
           " columns have no two sides";
  weight.panels =
      PanelsAttr::get(&getContext(), columns, element.isBF16() ? 2 : 1, sides);
  weight.type = RankedTensorType::get(
      weight.panels.getShape(product.getNumExperts(), product.getOutSize(),
                             product.getInSize()),
      element);
  return "";
}

void MoePackWeights::packEntry(func::FuncOp entry) {
  SmallVector<PackedWeight> packed;
  entry.walk([&](GroupedMatmulOp product) {
    // The gate's weight has no layout; it is read in a form of its own.
    if (llvm::none_of(product.getWeights(), [&](Value view) {
          BlockArgument argument = findStored(view);
          return argument && argument.getOwner() == &entry.getBody().front() &&
                 entry.getArgAttr(argument.getArgNumber(), kLayoutAttrName);
        }))
      return;
    PackedWeight weight;
    std::string reason = analyse(entry, product, weight);
    if (reason.empty())
      packed.push_back(weight);
    else
      product.emitRemark("weights stay as they are stored: ") << reason;
  });
  if (packed.empty())
    return;
  createPackFunction(entry, packed);
  // Products in order: the first writes the rows of the second.
  for (PackedWeight &weight : packed) {
    replaceArguments(entry, weight);
    ++numPacked;
  }
}

/// Puts the packed argument in the place of the first stored one.
void MoePackWeights::replaceArguments(func::FuncOp entry,
                                      PackedWeight &weight) {
  Builder b(&getContext());
  unsigned place = weight.sources.front().getArgNumber();
  SmallVector<Attribute> dims(weight.type.getRank(), b.getStringAttr(""));
  NamedAttrList attrs(entry.getArgAttrDict(place));
  attrs.set(kLayoutAttrName, weight.panels);
  attrs.set(kDimsAttrName, b.getArrayAttr(dims));
  if (failed(entry.insertArgument(place, weight.type,
                                  attrs.getDictionary(&getContext()),
                                  weight.product.getLoc())))
    llvm_unreachable("a function with a body takes another argument");
  rewrite(weight, entry.getArgument(place));
  auto numInputs = entry->getAttrOfType<IntegerAttr>(kNumInputsAttrName);
  int64_t removed = weight.sources.size();
  for (BlockArgument argument : llvm::reverse(weight.sources)) {
    SmallVector<Operation *> views(argument.getUsers());
    while (!views.empty()) {
      Operation *view = views.back();
      if (!view->use_empty()) {
        llvm::append_range(views, view->getUsers());
        continue;
      }
      views.pop_back();
      assert(isView(view) && "something else reads a packed weight");
      if (!llvm::is_contained(views, view))
        view->erase();
    }
    if (failed(entry.eraseArgument(argument.getArgNumber())))
      llvm_unreachable("an argument without readers can be dropped");
  }
  entry->setAttr(kNumInputsAttrName,
                 b.getI64IntegerAttr(numInputs.getInt() + 1 - removed));
}

/// The product on packed weights, and on rows that its code multiplies as they
/// are.
void MoePackWeights::rewrite(PackedWeight &weight, Value packed) {
  GroupedMatmulOp product = weight.product;
  ImplicitLocOpBuilder b(product.getLoc(), product);
  Type rows = cast<RankedTensorType>(product.getLhs().front().getType())
                  .getElementType();
  bool isPair = dot && rows.isBF16() && weight.type.getElementType().isBF16();
  if (!rows.isF32() && !isPair)
    product.getLhsMutable().assign(widenRows(b, product));
  product.getWeightsMutable().assign(packed);
  product.setInOut(false);
  product.setPanelsAttr(weight.panels);
}

/// The rows of a product as f32. Where another product makes them for this one
/// alone, that one rounds and widens what it writes.
Value MoePackWeights::widenRows(ImplicitLocOpBuilder &b,
                                GroupedMatmulOp product) {
  Value rows = product.getLhs().front();
  auto narrow = cast<RankedTensorType>(rows.getType());
  RankedTensorType wide = narrow.clone(b.getF32Type());
  auto maker = rows.getDefiningOp<GroupedMatmulOp>();
  if (maker && rows.hasOneUse() && maker.getComputeType().isF32()) {
    unsigned number = cast<OpResult>(rows).getResultNumber();
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(maker);
    OpOperand &init = maker.getInitsMutable()[number];
    init.set(tensor::EmptyOp::create(
        b, tensor::getMixedSizes(b, b.getLoc(), init.get()), b.getF32Type()));
    auto yield = cast<YieldOp>(maker.getEpilogue().front().getTerminator());
    b.setInsertionPoint(yield);
    Value value = arith::TruncFOp::create(b, narrow.getElementType(),
                                          yield.getValues()[number]);
    yield.getValuesMutable()[number].set(
        arith::ExtFOp::create(b, b.getF32Type(), value));
    rows.setType(wide);
    return rows;
  }
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, b.getLoc(), rows);
  Value empty = tensor::EmptyOp::create(b, sizes, b.getF32Type());
  auto loop = scf::ForallOp::create(b, sizes[0], empty,
                                    /*mapping=*/std::nullopt);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  SmallVector<OpFoldResult> offsets = {loop.getInductionVar(0),
                                       b.getIndexAttr(0)};
  SmallVector<OpFoldResult> strides(2, b.getIndexAttr(1));
  sizes[0] = b.getIndexAttr(1);
  auto rowOf = [&](Value all, Type element) -> Value {
    return tensor::ExtractSliceOp::create(
        b, RankedTensorType::get({wide.getDimSize(1)}, element), all, offsets,
        sizes, strides);
  };
  Value all = loop.getRegionIterArgs()[0];
  SmallVector<AffineMap> maps(2, b.getMultiDimIdentityMap(1));
  SmallVector<utils::IteratorType> iterators(1, utils::IteratorType::parallel);
  Value dest = rowOf(all, b.getF32Type());
  auto widen = linalg::GenericOp::create(
      b, dest.getType(), rowOf(rows, narrow.getElementType()), dest, maps,
      iterators, [&](OpBuilder &nested, Location loc, ValueRange args) {
        Value value =
            arith::ExtFOp::create(nested, loc, nested.getF32Type(), args[0]);
        linalg::YieldOp::create(nested, loc, value);
      });
  b.setInsertionPointToStart(loop.getTerminator().getBody());
  tensor::ParallelInsertSliceOp::create(b, widen.getResult(0), all, offsets,
                                        sizes, strides);
  return loop.getResult(0);
}

} // namespace
