//===- PackFunction.cpp - What makes packed weights of stored ones --------===//
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
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;
using namespace mlir::moe;

/// The name of the expert axis in a pack function's sizes.
static constexpr StringLiteral kExperts = "E";

namespace {

class PackFunction {
public:
  PackFunction(func::FuncOp entry, ArrayRef<PackedWeight> packed)
      : entry(entry), packed(packed), b(entry.getLoc(), entry) {
    for (const PackedWeight &weight : packed)
      numExperts = std::max(numExperts, weight.product.getNumExperts());
  }

  func::FuncOp create();

private:
  const PackedWeight *findPacked(unsigned argument);
  bool hasExpertAxis(BlockArgument argument);
  RankedTensorType withAnyExperts(RankedTensorType type,
                                  BlockArgument argument);
  bool isPartOfAnother(BlockArgument argument);
  DictionaryAttr attrsOf(StringRef name, Attribute layout, ShapedType type);
  Value cloneView(Value view);
  Value emitPanels(const PackedWeight &weight, Value dest);
  /// A side of a panel, and the columns that it has.
  struct PanelPlace {
    const PackedWeight *weight;
    Value expert, panel;
    OpFoldResult columns;
    int64_t side;
  };
  Value emitCopy(const PanelPlace &place, Value view, int64_t first,
                 int64_t count, int64_t parts, Value dest);
  Value emitPanel(const PackedWeight &weight, ValueRange views, Value expert,
                  Value panel, Value dest);

  func::FuncOp entry;
  ArrayRef<PackedWeight> packed;
  ImplicitLocOpBuilder b;
  IRMapping mapping;
  int64_t numExperts = 1;
};

/// The weight that an argument is the first source of.
const PackedWeight *PackFunction::findPacked(unsigned argument) {
  for (const PackedWeight &weight : packed)
    if (weight.sources.front().getArgNumber() == argument)
      return &weight;
  return nullptr;
}

/// Whether an argument is packed into the place of an earlier one.
bool PackFunction::isPartOfAnother(BlockArgument argument) {
  return !findPacked(argument.getArgNumber()) &&
         llvm::any_of(packed, [&](const PackedWeight &weight) {
           return llvm::is_contained(weight.sources, argument);
         });
}

/// Whether the first dimension of an argument counts experts, so that a call
/// may pack a part of them. It is more than that where the expert axis is
/// folded, and of shared experts there is one.
bool PackFunction::hasExpertAxis(BlockArgument argument) {
  auto layout = dyn_cast_or_null<LayoutAttr>(
      entry.getArgAttr(argument.getArgNumber(), kLayoutAttrName));
  auto type = cast<RankedTensorType>(argument.getType());
  bool isFolded = layout && layout.getExpertAxis() == ExpertAxis::folded;
  for (const PackedWeight &weight : packed)
    if (llvm::is_contained(weight.sources, argument))
      return type.getRank() == 3 &&
             weight.product.getNumExperts() == numExperts;
  return !isFolded && numExperts > 1 && type.getRank() > 1 &&
         type.getDimSize(0) == numExperts;
}

RankedTensorType PackFunction::withAnyExperts(RankedTensorType type,
                                              BlockArgument argument) {
  if (!hasExpertAxis(argument))
    return type;
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = ShapedType::kDynamic;
  return RankedTensorType::get(shape, type.getElementType());
}

DictionaryAttr PackFunction::attrsOf(StringRef name, Attribute layout,
                                     ShapedType type) {
  SmallVector<Attribute> dims;
  for (int64_t size : type.getShape())
    dims.push_back(
        b.getStringAttr(ShapedType::isDynamic(size) ? kExperts.str() : ""));
  return b.getDictionaryAttr(
      {b.getNamedAttr(kNameAttrName, b.getStringAttr(name)),
       b.getNamedAttr(kLayoutAttrName, layout),
       b.getNamedAttr(kDimsAttrName, b.getArrayAttr(dims))});
}

/// A view of a stored weight, with as many experts as the argument here has.
Value PackFunction::cloneView(Value view) {
  if (Value known = mapping.lookupOrNull(view))
    return known;
  Operation *op = view.getDefiningOp();
  auto slice = dyn_cast<tensor::ExtractSliceOp>(op);
  if (!slice) {
    cloneView(op->getOperand(0));
    return b.clone(*op, mapping)->getResult(0);
  }
  Value source = cloneView(slice.getSource());
  SmallVector<OpFoldResult> sizes = slice.getMixedSizes();
  sizes[0] = tensor::getMixedSize(b, b.getLoc(), source, 0);
  return tensor::ExtractSliceOp::create(b, source, slice.getMixedOffsets(),
                                        sizes, slice.getMixedStrides());
}

/// Copies `parts` parts of `count` steps from `first` on, of the columns that a
/// side has in a panel.
Value PackFunction::emitCopy(const PanelPlace &place, Value view, int64_t first,
                             int64_t count, int64_t parts, Value dest) {
  const PackedWeight &weight = *place.weight;
  int64_t steps = weight.panels.getSteps(), width = weight.panels.getWidth();
  SmallVector<OpFoldResult> strides(3, b.getIndexAttr(1));
  SmallVector<OpFoldResult> offsets = {b.getIndexAttr(first),
                                       b.getIndexAttr(place.side * width),
                                       b.getIndexAttr(0)};
  SmallVector<OpFoldResult> sizes = {b.getIndexAttr(count), place.columns,
                                     b.getIndexAttr(parts)};
  Value part = tensor::ExtractSliceOp::create(b, dest, offsets, sizes, strides);
  SmallVector<utils::IteratorType> iterators(3, utils::IteratorType::parallel);
  auto copy = linalg::GenericOp::create(
      b, part.getType(), ValueRange(), part,
      ArrayRef<AffineMap>{b.getMultiDimIdentityMap(3)}, iterators,
      [&](OpBuilder &builder, Location loc, ValueRange) {
        ImplicitLocOpBuilder nested(loc, builder);
        auto index = [&](int64_t value) -> Value {
          return arith::ConstantIndexOp::create(nested, value);
        };
        auto at = [&](Value major, int64_t size, int64_t minor) -> Value {
          return arith::AddIOp::create(
              nested, arith::MulIOp::create(nested, major, index(size)),
              linalg::IndexOp::create(nested, minor));
        };
        Value step = arith::AddIOp::create(
            nested, linalg::IndexOp::create(nested, 0), index(first));
        SmallVector<Value> indices = {place.expert, at(place.panel, width, 1),
                                      at(step, steps, 2)};
        if (weight.product.getInOut())
          std::swap(indices[1], indices[2]);
        linalg::YieldOp::create(
            nested,
            tensor::ExtractOp::create(nested, view, indices).getResult());
      });
  return tensor::InsertSliceOp::create(b, copy.getResult(0), dest, offsets,
                                       sizes, strides);
}

/// One panel [steps of D, columns, steps], side by side; where the weights end
/// in it, zeros follow.
Value PackFunction::emitPanel(const PackedWeight &weight, ValueRange views,
                              Value expert, Value panel, Value dest) {
  int64_t width = weight.panels.getWidth(), steps = weight.panels.getSteps();
  int64_t out = weight.product.getOutSize(), in = weight.product.getInSize();
  PanelPlace place{&weight, expert, panel, b.getIndexAttr(width), 0};
  if (out % width != 0 || in % steps != 0) {
    Value zero = arith::ConstantOp::create(
        b, b.getFloatAttr(weight.type.getElementType(), 0.0));
    dest = linalg::FillOp::create(b, zero, dest).getResult(0);
  }
  if (out % width != 0) {
    auto index = [&](int64_t value) -> Value {
      return arith::ConstantIndexOp::create(b, value);
    };
    Value begin = arith::MulIOp::create(b, panel, index(width));
    Value left = arith::SubIOp::create(b, index(out), begin);
    place.columns = arith::MinUIOp::create(b, left, index(width)).getResult();
  }
  for (auto [side, view] : llvm::enumerate(views)) {
    place.side = static_cast<int64_t>(side);
    dest = emitCopy(place, view, /*first=*/0, in / steps, steps, dest);
    if (in % steps != 0)
      dest = emitCopy(place, view, in / steps, /*count=*/1, in % steps, dest);
  }
  return dest;
}

/// All panels of a weight, into the caller's buffer.
Value PackFunction::emitPanels(const PackedWeight &weight, Value dest) {
  SmallVector<Value> views;
  for (Value view : weight.product.getWeights())
    views.push_back(cloneView(view));
  OpFoldResult experts = tensor::getMixedSize(b, b.getLoc(), views[0], 0);
  SmallVector<OpFoldResult> sizes = {experts};
  for (int64_t size : weight.type.getShape().drop_front())
    sizes.push_back(b.getIndexAttr(size));
  auto buffer = cast<MemRefType>(dest.getType());
  Value init = bufferization::ToTensorOp::create(
      b, RankedTensorType::get(buffer.getShape(), buffer.getElementType()),
      dest, /*restrict=*/true, /*writable=*/true);
  auto loop =
      scf::ForallOp::create(b, ArrayRef<OpFoldResult>{experts, sizes[1]}, init,
                            /*mapping=*/std::nullopt);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  SmallVector<OpFoldResult> offsets(5, b.getIndexAttr(0)),
      strides(5, b.getIndexAttr(1));
  offsets[0] = loop.getInductionVar(0);
  offsets[1] = loop.getInductionVar(1);
  sizes[0] = sizes[1] = b.getIndexAttr(1);
  Value all = loop.getRegionIterArgs()[0];
  auto panelType = RankedTensorType::get(weight.type.getShape().drop_front(2),
                                         weight.type.getElementType());
  Value panel = tensor::ExtractSliceOp::create(b, panelType, all, offsets,
                                               sizes, strides);
  panel = emitPanel(weight, views, loop.getInductionVar(0),
                    loop.getInductionVar(1), panel);
  b.setInsertionPointToStart(loop.getTerminator().getBody());
  tensor::ParallelInsertSliceOp::create(b, panel, all, offsets, sizes, strides);
  return loop.getResult(0);
}

func::FuncOp PackFunction::create() {
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attrs;
  SmallVector<BlockArgument> stored;
  auto numInputs = entry->getAttrOfType<IntegerAttr>(kNumInputsAttrName);
  auto add = [&](Type type, unsigned argument, Attribute layout) {
    auto name = entry.getArgAttrOfType<StringAttr>(argument, kNameAttrName);
    types.push_back(type);
    attrs.push_back(attrsOf(name, layout, cast<ShapedType>(type)));
  };
  for (BlockArgument argument : entry.getArguments().take_front(
           static_cast<size_t>(numInputs.getInt()))) {
    Attribute layout =
        entry.getArgAttr(argument.getArgNumber(), kLayoutAttrName);
    if (!layout)
      continue;
    stored.push_back(argument);
    auto type = cast<RankedTensorType>(argument.getType());
    add(withAnyExperts(type, argument), argument.getArgNumber(), layout);
  }
  for (BlockArgument argument : stored) {
    unsigned number = argument.getArgNumber();
    auto type = cast<RankedTensorType>(argument.getType());
    Attribute layout = entry.getArgAttr(number, kLayoutAttrName);
    if (isPartOfAnother(argument))
      continue;
    if (const PackedWeight *weight = findPacked(number)) {
      type = weight->type;
      layout = weight->panels;
    }
    type = withAnyExperts(type, argument);
    add(MemRefType::get(type.getShape(), type.getElementType()), number,
        layout);
  }

  auto function = func::FuncOp::create(b, getPackFunctionName(entry.getName()),
                                       b.getFunctionType(types, {}));
  function->setAttr(kEntryAttrName, b.getUnitAttr());
  function->setAttr(kNumInputsAttrName,
                    b.getI64IntegerAttr(static_cast<int64_t>(stored.size())));
  function->setAttr(kBoundsAttrName,
                    b.getDictionaryAttr(b.getNamedAttr(
                        kExperts, b.getI64IntegerAttr(numExperts))));
  function.setAllArgAttrs(attrs);
  b.setInsertionPointToStart(function.addEntryBlock());
  for (auto [from, to] : llvm::zip(stored, function.getArguments()))
    mapping.map(from, to);
  size_t place = stored.size();
  for (BlockArgument argument : stored) {
    if (isPartOfAnother(argument))
      continue;
    const PackedWeight *weight = findPacked(argument.getArgNumber());
    Value dest = function.getArgument(place++);
    Value value = weight ? emitPanels(*weight, dest) : mapping.lookup(argument);
    bufferization::MaterializeInDestinationOp::create(
        b, b.getLoc(), /*result=*/Type(), value, dest, /*restrict=*/true,
        /*writable=*/true);
  }
  func::ReturnOp::create(b);
  return function;
}

} // namespace

func::FuncOp moe::createPackFunction(func::FuncOp entry,
                                     ArrayRef<PackedWeight> packed) {
  return PackFunction(entry, packed).create();
}
