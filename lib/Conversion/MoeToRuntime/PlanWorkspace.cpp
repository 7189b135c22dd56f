//===- PlanWorkspace.cpp - Every buffer of an entry from one workspace ----===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RuntimeABI.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Transforms.h"
#include "mlir/IR/Dominance.h"
#include "mlir/Interfaces/ValueBoundsOpInterface.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "llvm/Support/MathExtras.h"
#include <limits>

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPLANWORKSPACEPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr int64_t kAlignment = 64;

int64_t getElementBytes(MemRefType type) {
  Type element = type.getElementType();
  return element.isIndex()
             ? 8
             : llvm::divideCeil(element.getIntOrFloatBitWidth(), 8);
}

/// The bytes of a buffer, rounded up to the alignment.
Value emitBytes(ImplicitLocOpBuilder &b, memref::AllocOp alloc) {
  MemRefType type = alloc.getType();
  int64_t constant = getElementBytes(type);
  for (int64_t size : type.getShape())
    if (!ShapedType::isDynamic(size))
      constant *= size;
  Value bytes = arith::ConstantIndexOp::create(b, constant);
  for (Value size : alloc.getDynamicSizes())
    bytes = arith::MulIOp::create(b, bytes, size);
  Value mask = arith::ConstantIndexOp::create(b, kAlignment);
  Value units = arith::CeilDivUIOp::create(b, bytes, mask);
  return arith::MulIOp::create(b, units, mask);
}

/// `buffer`, of at least the alloc's size, as the alloc's type and size: the
/// same place with the compact strides of the smaller size.
Value castToSize(OpBuilder &b, memref::AllocOp alloc, Value buffer) {
  SmallVector<OpFoldResult> sizes = alloc.getMixedSizes(), strides;
  OpFoldResult stride = b.getIndexAttr(1);
  AffineExpr product = b.getAffineSymbolExpr(0) * b.getAffineSymbolExpr(1);
  for (OpFoldResult size : llvm::reverse(sizes)) {
    strides.insert(strides.begin(), stride);
    stride = affine::makeComposedFoldedAffineApply(
        b, alloc.getLoc(), AffineMap::get(0, 2, product), {stride, size});
  }
  return memref::ReinterpretCastOp::create(b, alloc.getLoc(), alloc.getType(),
                                           buffer, b.getIndexAttr(0), sizes,
                                           strides);
}

/// An input that has the size of `argument`, which may be a destination: those
/// are not known when the workspace is planned.
std::pair<Value, int64_t> findInput(func::FuncOp function,
                                    BlockArgument argument, int64_t dim) {
  auto numInputs = function->getAttrOfType<IntegerAttr>(kNumInputsAttrName);
  int64_t number = argument.getArgNumber();
  if (!numInputs || number < numInputs.getInt())
    return {argument, dim};
  auto dims = function.getArgAttrOfType<ArrayAttr>(number, kDimsAttrName);
  for (int64_t input = 0; dims && input < numInputs.getInt(); ++input)
    if (auto names = function.getArgAttrOfType<ArrayAttr>(input, kDimsAttrName))
      for (auto [inputDim, name] : llvm::enumerate(names))
        if (name == dims[dim])
          return {function.getArgument(input), inputDim};
  return {};
}

/// Finds values in front of the outermost loop that sizes inside cannot exceed.
class SizeBounds {
public:
  SizeBounds(func::FuncOp function) : function(function) {}

  /// A bound of `size`, a size of `user`; null where none is found.
  Value find(Value size, Operation *user);

private:
  bool isKnown(Value value);
  Value findOfBuffer(Value buffer, int64_t dim, Operation *user);

  func::FuncOp function;
};

/// Whether a value is computed from sizes, once a call.
bool SizeBounds::isKnown(Value value) {
  if (value.getParentBlock() != &function.getBody().front())
    return false;
  llvm::SetVector<Operation *> slice;
  BackwardSliceOptions options;
  options.inclusive = true;
  options.omitBlockArguments = true;
  return succeeded(getBackwardSlice(value, &slice, options)) &&
         llvm::all_of(slice, [](Operation *op) {
           return isMemoryEffectFree(op) && op->getNumRegions() == 0;
         });
}

Value SizeBounds::find(Value size, Operation *user) {
  if (isKnown(size))
    return size;
  // A slice is no larger than what it is taken of.
  for (Operation *other : size.getUsers()) {
    auto slice = dyn_cast<memref::SubViewOp>(other);
    if (!slice || !slice->getBlock()->findAncestorOpInBlock(*user))
      continue;
    for (auto [dim, sliceSize] : llvm::enumerate(slice.getMixedSizes()))
      if (sliceSize == OpFoldResult(size) &&
          isConstantIntValue(slice.getMixedStrides()[dim], 1))
        if (Value bound = findOfBuffer(slice.getSource(), dim, slice))
          return bound;
  }
  return {};
}

Value SizeBounds::findOfBuffer(Value buffer, int64_t dim, Operation *user) {
  auto type = cast<MemRefType>(buffer.getType());
  OpBuilder start = OpBuilder::atBlockBegin(&function.getBody().front());
  if (!type.isDynamicDim(dim))
    return arith::ConstantIndexOp::create(start, user->getLoc(),
                                          type.getDimSize(dim));
  if (auto argument = dyn_cast<BlockArgument>(buffer)) {
    if (argument.getOwner() != start.getInsertionBlock())
      return {};
    auto [input, inputDim] = findInput(function, argument, dim);
    return input ? memref::DimOp::create(start, user->getLoc(), input, inputDim)
                       .getResult()
                 : Value();
  }
  OpFoldResult size;
  if (auto alloc = buffer.getDefiningOp<memref::AllocOp>())
    size = alloc.getMixedSizes()[dim];
  else if (auto cast = buffer.getDefiningOp<memref::ReinterpretCastOp>())
    size = cast.getMixedSizes()[dim];
  else if (auto slice = buffer.getDefiningOp<memref::SubViewOp>();
           slice && slice.getDroppedDims().none())
    size = slice.getMixedSizes()[dim];
  auto value = dyn_cast_if_present<Value>(size);
  return value ? find(value, buffer.getDefiningOp()) : Value();
}

class WorkspacePlan {
public:
  WorkspacePlan(func::FuncOp function, int64_t maxStackBytes, int64_t padding)
      : function(function), maxStackBytes(maxStackBytes),
        padding(llvm::alignTo(padding, kAlignment)) {}

  LogicalResult run();
  int64_t numPlanned = 0, numOnStack = 0;

private:
  LogicalResult serializeLargeTasks();
  LogicalResult moveToStack(memref::AllocOp alloc, scf::ForallOp task);
  FailureOr<memref::AllocOp> hoist(memref::AllocOp alloc);
  LogicalResult emitWorkspaceFunction(Value total);
  void takeSizesFromInputs();
  void dropDeallocs();

  func::FuncOp function;
  int64_t maxStackBytes;
  int64_t padding; ///< Bytes between two buffers.
};

/// The type of a task's buffer at its largest size.
FailureOr<MemRefType> findLargestType(memref::AllocOp alloc) {
  MemRefType type = alloc.getType();
  SmallVector<int64_t> bounds(type.getShape());
  for (auto [dim, bound] : llvm::enumerate(bounds)) {
    if (!ShapedType::isDynamic(bound))
      continue;
    Value size = alloc.getDynamicSizes()[type.getDynamicDimIndex(dim)];
    auto computed = ValueBoundsConstraintSet::computeConstantBound(
        presburger::BoundType::UB, size, /*stopCondition=*/nullptr,
        /*closedUB=*/true);
    if (failed(computed))
      return alloc.emitOpError("of a parallel task has no constant bound");
    bound = *computed;
  }
  return MemRefType::get(bounds, type.getElementType());
}

/// The bytes of a static type, or the most there can be.
int64_t getBytes(MemRefType type) {
  int64_t bytes = getElementBytes(type);
  for (int64_t size : type.getShape())
    if (llvm::MulOverflow(bytes, size, bytes))
      return std::numeric_limits<int64_t>::max();
  return bytes;
}

/// Whether a parallel loop has one task, which shares its buffers with nobody.
bool hasOneTask(scf::ForallOp loop) {
  return loop.isNormalized() &&
         llvm::all_of(loop.getStaticUpperBound(),
                      [](int64_t bound) { return bound == 1; });
}

/// The outermost parallel loop of several tasks around an op, or null.
scf::ForallOp getTask(Operation *op) {
  scf::ForallOp task;
  for (auto loop = op->getParentOfType<scf::ForallOp>(); loop;
       loop = loop->getParentOfType<scf::ForallOp>())
    if (!hasOneTask(loop))
      task = loop;
  return task;
}

/// Parallel loops whose tasks need more than a stack holds run on one thread,
/// by buffers of the workspace.
LogicalResult WorkspacePlan::serializeLargeTasks() {
  llvm::SetVector<Operation *> large;
  WalkResult walk = function.walk([&](memref::AllocOp alloc) {
    scf::ForallOp task = getTask(alloc);
    if (!task)
      return WalkResult::advance();
    FailureOr<MemRefType> largest = findLargestType(alloc);
    if (failed(largest))
      return WalkResult::interrupt();
    int64_t bytes = getBytes(*largest);
    if (bytes <= maxStackBytes)
      return WalkResult::advance();
    if (!large.contains(task))
      alloc.emitRemark("its parallel loop runs on one thread: a task may take ")
          << bytes << " bytes; at most " << maxStackBytes
          << " fit on its stack";
    for (auto loop = alloc->getParentOfType<scf::ForallOp>(); loop;
         loop = loop->getParentOfType<scf::ForallOp>())
      large.insert(loop);
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  IRRewriter rewriter(function.getContext());
  for (Operation *loop : large) {
    rewriter.setInsertionPoint(loop);
    if (failed(scf::forallToForLoop(rewriter, cast<scf::ForallOp>(loop))))
      return loop->emitOpError("could not be made a sequential loop");
  }
  return success();
}

/// A buffer of a task, at its largest possible size on the stack.
LogicalResult WorkspacePlan::moveToStack(memref::AllocOp alloc,
                                         scf::ForallOp task) {
  FailureOr<MemRefType> largest = findLargestType(alloc);
  if (failed(largest))
    return failure();
  OpBuilder b = OpBuilder::atBlockBegin(task.getBody());
  Value buffer = memref::AllocaOp::create(b, alloc.getLoc(), *largest,
                                          b.getI64IntegerAttr(kAlignment));
  if (!alloc.getDynamicSizes().empty()) {
    b.setInsertionPoint(alloc);
    buffer = castToSize(b, alloc, buffer);
  }
  alloc.replaceAllUsesWith(buffer);
  alloc.erase();
  ++numOnStack;
  return success();
}

/// Whether a buffer, or a view of it, outlives the iteration that made it.
bool isCarried(Value buffer) {
  return llvm::any_of(buffer.getUses(), [](OpOperand &use) {
    Operation *user = use.getOwner();
    if (isa<ViewLikeOpInterface, memref::CastOp>(user))
      return use.getOperandNumber() == 0 && isCarried(user->getResult(0));
    if (!isa<scf::YieldOp>(user))
      return false;
    Operation *parent = user->getParentOp();
    return !isa<scf::IfOp>(parent) ||
           isCarried(parent->getResult(use.getOperandNumber()));
  });
}

/// Moves an alloc of a sequential loop in front of the outermost one, at its
/// largest size where data decide it: every iteration writes before it reads,
/// so that one buffer serves all.
FailureOr<memref::AllocOp> WorkspacePlan::hoist(memref::AllocOp alloc) {
  Operation *outermost = alloc;
  while (outermost->getParentOp() != function)
    outermost = outermost->getParentOp();
  if (outermost != alloc && isCarried(alloc))
    return alloc.emitOpError("of a loop is handed to its next iteration, so "
                             "that one buffer cannot serve all");
  SmallVector<Value> bounds;
  DominanceInfo dominance(function);
  for (Value size : alloc.getDynamicSizes()) {
    bounds.push_back(SizeBounds(function).find(size, alloc));
    if (bounds.back() && dominance.properlyDominates(bounds.back(), outermost))
      continue;
    if (outermost == alloc)
      return alloc; // What decides its size is named with the workspace's.
    return alloc.emitOpError("of a loop has a size that changes with it, and "
                             "no bound of it was found");
  }
  if (llvm::equal(bounds, alloc.getDynamicSizes())) {
    if (outermost != alloc)
      alloc->moveBefore(outermost);
    return alloc;
  }
  OpBuilder b(outermost);
  auto largest = memref::AllocOp::create(b, alloc.getLoc(), alloc.getType(),
                                         bounds, alloc.getAlignmentAttr());
  b.setInsertionPoint(alloc);
  alloc.replaceAllUsesWith(castToSize(b, alloc, largest));
  alloc.erase();
  return largest;
}

/// Sizes of destinations that inputs have too are taken from these.
void WorkspacePlan::takeSizesFromInputs() {
  function.walk([&](memref::DimOp op) {
    auto argument = dyn_cast<BlockArgument>(op.getSource());
    std::optional<int64_t> dim = op.getConstantIndex();
    if (!argument || !dim || argument.getOwner() != &function.getBody().front())
      return;
    auto [input, inputDim] = findInput(function, argument, *dim);
    if (!input || input == argument)
      return;
    OpBuilder b(op);
    op.replaceAllUsesWith(
        memref::DimOp::create(b, op.getLoc(), input, inputDim).getResult());
    op.erase();
  });
}

void WorkspacePlan::dropDeallocs() {
  function.walk([](memref::DeallocOp op) { op.erase(); });
}

/// Clones what `total` is computed from into a function of the same arguments.
LogicalResult WorkspacePlan::emitWorkspaceFunction(Value total) {
  OpBuilder b(function);
  b.setInsertionPointAfter(function);
  SmallVector<Type> inputs(function.getArgumentTypes());
  auto type = b.getFunctionType(inputs, b.getIndexType());
  auto sizeFunction = func::FuncOp::create(
      b, function.getLoc(), getWorkspaceFunctionName(function.getName()), type);
  sizeFunction.setPrivate();
  Block *body = sizeFunction.addEntryBlock();

  llvm::SetVector<Operation *> slice;
  BackwardSliceOptions options;
  options.inclusive = true;
  options.omitBlockArguments = true;
  if (failed(getBackwardSlice(total, &slice, options)))
    return function.emitOpError("has a workspace whose size is not computed "
                                "in straight-line code");
  slice = topologicalSort(slice);
  IRMapping mapping;
  mapping.map(function.getArguments(), body->getArguments());
  b.setInsertionPointToEnd(body);
  auto numInputs = function->getAttrOfType<IntegerAttr>(kNumInputsAttrName);
  auto isDestination = [&](Value value) {
    auto argument = dyn_cast<BlockArgument>(value);
    return argument && numInputs &&
           argument.getArgNumber() >= numInputs.getValue().getZExtValue();
  };
  for (Operation *op : slice) {
    if (!isMemoryEffectFree(op) || op->getNumRegions() != 0 ||
        llvm::any_of(op->getOperands(), isDestination))
      return op->emitOpError("decides the size of a buffer, but the workspace "
                             "is known before the data is");
    b.clone(*op, mapping);
  }
  func::ReturnOp::create(b, function.getLoc(), mapping.lookup(total));
  return success();
}

LogicalResult WorkspacePlan::run() {
  dropDeallocs();
  takeSizesFromInputs();
  if (failed(serializeLargeTasks()))
    return failure();
  SmallVector<memref::AllocOp> allocs;
  function.walk([&](memref::AllocOp op) { allocs.push_back(op); });
  SmallVector<memref::AllocOp> planned;
  for (memref::AllocOp alloc : allocs) {
    if (scf::ForallOp task = getTask(alloc)) {
      if (failed(moveToStack(alloc, task)))
        return failure();
      continue;
    }
    FailureOr<memref::AllocOp> hoisted = hoist(alloc);
    if (failed(hoisted))
      return failure();
    planned.push_back(*hoisted);
  }

  MLIRContext *context = function.getContext();
  auto workspaceType =
      MemRefType::get({ShapedType::kDynamic}, IntegerType::get(context, 8));
  OpBuilder start = OpBuilder::atBlockBegin(&function.getBody().front());
  Value offset = arith::ConstantIndexOp::create(start, function.getLoc(), 0);
  unsigned position = function.getNumArguments();
  SmallVector<std::pair<memref::AllocOp, Value>> places;
  for (memref::AllocOp alloc : planned) {
    ImplicitLocOpBuilder b(alloc.getLoc(), alloc);
    if (padding > 0 && numPlanned > 0)
      offset = arith::AddIOp::create(
          b, offset, arith::ConstantIndexOp::create(b, padding));
    places.push_back({alloc, offset});
    offset = arith::AddIOp::create(b, offset, emitBytes(b, alloc));
    ++numPlanned;
  }
  if (failed(emitWorkspaceFunction(offset)) ||
      failed(function.insertArgument(position, workspaceType, {},
                                     function.getLoc())))
    return failure();
  Value workspace = function.getArgument(position);
  for (auto [alloc, place] : places) {
    OpBuilder b(alloc);
    auto view =
        memref::ViewOp::create(b, alloc.getLoc(), alloc.getType(), workspace,
                               place, alloc.getDynamicSizes());
    alloc.replaceAllUsesWith(view.getResult());
    alloc.erase();
  }
  return success();
}

struct MoePlanWorkspace
    : public moe::impl::MoePlanWorkspacePassBase<MoePlanWorkspace> {
  using MoePlanWorkspacePassBase::MoePlanWorkspacePassBase;

  void runOnOperation() override {
    for (func::FuncOp entry : getEntries(getOperation())) {
      WorkspacePlan plan(entry, maxStackBytes, padding);
      if (failed(plan.run()))
        return signalPassFailure();
      numPlanned += plan.numPlanned;
      numOnStack += plan.numOnStack;
    }
  }
};

} // namespace
