//===- PrepareEntry.cpp - Functions as entries of the runtime -------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SizeClasses.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Dialect/Moe/Transforms/ResolveSizes.h"
#include <limits>

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPREPAREENTRYPASS
#include "moe/Dialect/Moe/Transforms/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// Refuses calls whose assignments an i32 cannot count, unless the bounds of
/// the sizes rule them out.
void guardAssignmentCount(Operation *op, Value ids, int64_t tokenBound) {
  ArrayRef<int64_t> shape = cast<RankedTensorType>(ids.getType()).getShape();
  if (!ShapedType::isDynamicShape(shape))
    return;
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (!ShapedType::isDynamic(shape[1]) && tokenBound <= kMost / shape[1])
    return;
  ImplicitLocOpBuilder b(op->getLoc(), op);
  Value count = arith::MulIOp::create(b, b.createOrFold<tensor::DimOp>(ids, 0),
                                      b.createOrFold<tensor::DimOp>(ids, 1));
  Value fits = arith::CmpIOp::create(b, arith::CmpIPredicate::ule, count,
                                     arith::ConstantIndexOp::create(b, kMost));
  cf::AssertOp::create(b, fits,
                       b.getStringAttr(op->getName().getStringRef() +
                                       ": more than 2^31 - 1 assignments"));
}

/// Turns one function into an entry.
class EntryPreparation {
public:
  EntryPreparation(func::FuncOp function)
      : function(function), b(function.getContext()) {}

  LogicalResult run();

private:
  LogicalResult checkSignature();
  void nameArguments();
  void nameSizes(func::ReturnOp returnOp);
  void moveResultsToDestinations(func::ReturnOp returnOp);
  LogicalResult hoistSizeChecks();

  func::FuncOp function;
  OpBuilder b;
  /// Of sizes that no input has, with the result's name.
  SmallVector<std::pair<cf::AssertOp, StringAttr>> sizeChecks;
};

LogicalResult EntryPreparation::checkSignature() {
  auto check = [&](Type type, StringRef kind, unsigned index) -> LogicalResult {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (tensor && !tensor.getEncoding() &&
        tensor.getElementType().isIntOrFloat())
      return success();
    return function.emitOpError("entry ")
           << kind << " " << index << " is " << type
           << "; an entry takes and gives ranked tensors of numbers";
  };
  for (auto [index, type] : llvm::enumerate(function.getArgumentTypes()))
    if (failed(check(type, "argument", index)))
      return failure();
  for (auto [index, type] : llvm::enumerate(function.getResultTypes()))
    if (failed(check(type, "result", index)))
      return failure();
  if (function.isExternal() || !llvm::hasSingleElement(function.getBody()))
    return function.emitOpError("entry needs a body of one block");
  return success();
}

void EntryPreparation::nameArguments() {
  for (unsigned i = 0, e = function.getNumArguments(); i < e; ++i) {
    if (!function.getArgAttr(i, kNameAttrName))
      function.setArgAttr(i, kNameAttrName, b.getStringAttr("arg" + Twine(i)));
    // The caller's: nothing is computed in an input's place.
    function.setArgAttr(i,
                        bufferization::BufferizationDialect::kWritableAttrName,
                        b.getBoolAttr(false));
  }
  for (unsigned i = 0, e = function.getNumResults(); i < e; ++i)
    if (!function.getResultAttr(i, kNameAttrName))
      function.setResultAttr(i, kNameAttrName,
                             b.getStringAttr("result" + Twine(i)));
}

void EntryPreparation::nameSizes(func::ReturnOp returnOp) {
  SizeClasses classes(function);
  SizeNames names(classes);
  for (auto [i, value] : llvm::enumerate(function.getArguments()))
    names.give(value, function.getArgAttr(i, kDimsAttrName));
  for (auto [i, value] : llvm::enumerate(returnOp.getOperands()))
    names.give(value, function.getResultAttr(i, kDimsAttrName));
  for (auto [i, value] : llvm::enumerate(function.getArguments()))
    function.setArgAttr(i, kDimsAttrName, names.get(value));
  for (auto [i, value] : llvm::enumerate(returnOp.getOperands()))
    function.setResultAttr(i, kDimsAttrName, names.get(value));
}

void EntryPreparation::moveResultsToDestinations(func::ReturnOp returnOp) {
  unsigned numInputs = function.getNumArguments();
  function->setAttr(kNumInputsAttrName, b.getI64IntegerAttr(numInputs));
  llvm::DenseSet<Attribute> inputSymbols;
  for (unsigned i = 0; i < numInputs; ++i)
    for (Attribute name :
         cast<ArrayAttr>(function.getArgAttr(i, kDimsAttrName)))
      inputSymbols.insert(name);

  Location loc = returnOp.getLoc();
  SmallVector<std::pair<Value, Value>> destinations;
  for (auto [i, result] : llvm::enumerate(returnOp.getOperands())) {
    auto type = cast<RankedTensorType>(result.getType());
    auto memrefType = MemRefType::get(type.getShape(), type.getElementType());
    unsigned position = function.getNumArguments();
    DictionaryAttr attrs = function.getResultAttrDict(i);
    if (failed(function.insertArgument(position, memrefType, attrs, loc)))
      llvm_unreachable("a function with a body takes another argument");
    Value destination = function.getArgument(position);
    b.setInsertionPoint(returnOp);
    auto dims = cast<ArrayAttr>(function.getResultAttr(i, kDimsAttrName));
    for (int64_t dim = 0; dim < type.getRank(); ++dim) {
      if (!type.isDynamicDim(dim) || inputSymbols.contains(dims[dim]))
        continue;
      Value index = arith::ConstantIndexOp::create(b, loc, dim);
      Value needed = tensor::DimOp::create(b, loc, result, index);
      Value given = memref::DimOp::create(b, loc, destination, index);
      Value equal = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                          needed, given);
      auto name = cast<StringAttr>(function.getResultAttr(i, kNameAttrName));
      auto check = cf::AssertOp::create(
          b, loc, equal,
          b.getStringAttr("result '" + name.getValue() +
                          "' has the wrong size " + Twine(dim)));
      sizeChecks.push_back({check, name});
    }
    destinations.push_back({result, destination});
  }
  // What was made in another shape is written in that one, not copied.
  b.setInsertionPoint(returnOp);
  for (auto &[result, destination] : destinations)
    while (auto expand = result.getDefiningOp<tensor::ExpandShapeOp>()) {
      destination = memref::CollapseShapeOp::create(
          b, loc, destination, expand.getReassociationIndices());
      result = expand.getSrc();
    }
  // In the order in which they are computed: a buffer that is chosen for an
  // early result may not be the destination of a late one, which would be
  // filled first.
  llvm::stable_sort(destinations, [](const auto &one, const auto &other) {
    Operation *first = one.first.getDefiningOp();
    Operation *second = other.first.getDefiningOp();
    if (!first || !second)
      return !first && second;
    return first->isBeforeInBlock(second);
  });
  for (auto [result, destination] : destinations)
    bufferization::MaterializeInDestinationOp::create(
        b, loc, /*result=*/Type(), result, destination, /*restrict=*/true,
        /*writable=*/true);
  func::ReturnOp::create(b, loc);
  returnOp.erase();
  llvm::BitVector all(function.getNumResults(), true);
  if (failed(function.eraseResults(all)))
    llvm_unreachable("a function's results can be dropped");
}

/// Buffers are computed in their destinations, so that sizes are compared
/// before anything is written.
LogicalResult EntryPreparation::hoistSizeChecks() {
  resolveSizes(function);
  Block &body = function.getBody().front();
  BackwardSliceOptions options;
  options.inclusive = true;
  options.omitBlockArguments = true;
  for (auto [check, name] : llvm::reverse(sizeChecks)) {
    llvm::SetVector<Operation *> slice;
    bool isSimple =
        succeeded(getBackwardSlice(check.getArg(), &slice, options)) &&
        llvm::all_of(slice, [&](Operation *op) {
          return isMemoryEffectFree(op) && op->getNumRegions() == 0 &&
                 op->getBlock() == &body;
        });
    if (!isSimple)
      return function.emitOpError("result '")
             << name.getValue()
             << "' has a size that is not known before the call";
    slice = topologicalSort(slice);
    slice.insert(check);
    for (Operation *op : llvm::reverse(slice))
      if (op != &body.front())
        op->moveBefore(&body.front());
  }
  return success();
}

LogicalResult EntryPreparation::run() {
  if (failed(checkSignature()))
    return failure();
  auto returnOp = cast<func::ReturnOp>(function.getBody().front().back());
  int64_t bound = kDefaultSizeBound;
  if (auto bounds = function->getAttrOfType<DictionaryAttr>(kBoundsAttrName))
    for (NamedAttribute given : bounds)
      bound = std::max(bound, cast<IntegerAttr>(given.getValue()).getInt());
  for (Operation &op : function.getBody().front()) {
    if (auto dispatch = dyn_cast<DispatchOp>(op))
      guardAssignmentCount(&op, dispatch.getIds(), bound);
    else if (auto group = dyn_cast<GroupOp>(op);
             group && isa<RankedTensorType>(group.getIds().getType()))
      guardAssignmentCount(&op, group.getIds(), bound);
  }
  nameArguments();
  nameSizes(returnOp);
  moveResultsToDestinations(returnOp);
  return hoistSizeChecks();
}

struct MoePrepareEntry
    : public moe::impl::MoePrepareEntryPassBase<MoePrepareEntry> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (!function->hasAttr(kEntryAttrName))
        continue;
      if (function->hasAttr(kNumInputsAttrName))
        continue;
      if (failed(EntryPreparation(function).run()))
        return signalPassFailure();
    }
  }
};

} // namespace
