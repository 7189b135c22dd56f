//===- SplitHost.cpp - What the host keeps, and what it hands on ---------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Buffers are the device's. What touches them beside parallel loops becomes a
// parallel loop of one thread; a number that such a loop makes and others need
// goes through a buffer of one element, which the host copies back where it
// has to know the number. Numbers that follow from inputs alone, such as a
// seed, are read where they are needed.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/RegionUtils.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOESPLITHOSTPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

bool isKernelLoop(Operation *op) {
  return isa<scf::ForallOp, scf::ParallelOp, gpu::LaunchOp>(op) &&
         op->getNumResults() == 0;
}

/// Results of other ops that an op or its regions use, wherever those ops went.
llvm::SetVector<Value> getUsed(Operation *op) {
  llvm::SetVector<Value> used;
  op->walk([&](Operation *inner) {
    for (Value operand : inner->getOperands())
      if (Operation *def = operand.getDefiningOp())
        if (!op->isAncestor(def))
          used.insert(operand);
  });
  return used;
}

class HostSplitter {
public:
  HostSplitter(func::FuncOp function)
      : function(function), b(function.getContext()) {}

  LogicalResult run();
  int64_t numLoops = 0;

private:
  bool isSunk(Value value) {
    return value.getDefiningOp() && sunk.contains(value.getDefiningOp());
  }
  bool isMade(Value value) {
    return value.getDefiningOp() && made.contains(value.getDefiningOp());
  }
  bool isSinkable(Operation *op);
  bool isDevices(Operation *op);

  LogicalResult flush(Operation *next);
  FailureOr<Value> getSpill(Value value, Operation *before);
  Value sink(OpBuilder &to, Value value, IRMapping &mapping);
  void replaceIn(Operation *loop);
  void collect(Operation *op);
  LogicalResult readBack(Operation *op);
  bool isHostLoop(Operation *op);
  LogicalResult visit(Operation *op);

  func::FuncOp function;
  OpBuilder b;
  SmallVector<Operation *> pending; ///< The next loop of one thread.
  DenseSet<Operation *> sunk;       ///< Repeated where they are used.
  DenseSet<Operation *> made;       ///< Of the device.
  DenseMap<Value, Value> spills;    ///< Buffers of one element.
};

/// Whether an op can be repeated anywhere: a load of an input, or arithmetic.
bool HostSplitter::isSinkable(Operation *op) {
  if (auto load = dyn_cast<memref::LoadOp>(op)) {
    auto argument = dyn_cast<BlockArgument>(load.getMemRef());
    auto inputs = function->getAttrOfType<IntegerAttr>(kNumInputsAttrName);
    return argument && inputs &&
           argument.getArgNumber() < inputs.getValue().getZExtValue() &&
           llvm::none_of(
               load.getIndices(), [&](Value index) { return isMade(index); });
  }
  // What needs no input stays the host's.
  return op->getNumRegions() == 0 && isMemoryEffectFree(op) &&
         llvm::any_of(op->getOperands(), [&](Value v) { return isSunk(v); }) &&
         llvm::none_of(op->getOperands(), [&](Value v) { return isMade(v); });
}

bool HostSplitter::isDevices(Operation *op) {
  if (isa<memref::AllocOp, memref::DeallocOp, cf::AssertOp>(op))
    return false;
  return !isMemoryEffectFree(op) ||
         llvm::any_of(getUsed(op), [&](Value v) { return isMade(v); });
}

/// A loop whose iterations are kernels, one behind the other: beside them it
/// has nothing of the device's, and asks for no number of it.
bool HostSplitter::isHostLoop(Operation *op) {
  auto loop = dyn_cast<scf::ForOp>(op);
  if (!loop || loop.getNumResults() > 0)
    return false;
  auto asks = [&](Operation &inner) {
    return llvm::any_of(inner.getOperands(),
                        [&](Value v) { return isMade(v) || isSunk(v); });
  };
  bool hasKernels = false;
  for (Operation &inner : loop.getBody()->without_terminator()) {
    bool isKernel = isKernelLoop(&inner);
    if (asks(inner) || (!isKernel && isDevices(&inner)))
      return false;
    hasKernels |= isKernel;
  }
  return hasKernels;
}

/// The buffer of one element that holds a number of the device from `before`
/// on, at the latest.
FailureOr<Value> HostSplitter::getSpill(Value value, Operation *before) {
  auto found = spills.find(value);
  if (found != spills.end())
    return found->second;
  Type type = value.getType();
  if (!type.isIntOrIndexOrFloat())
    return value.getDefiningOp()->emitOpError(
        "has no GPU code: its result depends on data and is no number");
  b.setInsertionPoint(before);
  Value spill =
      memref::AllocOp::create(b, value.getLoc(), MemRefType::get({1}, type));
  spills[value] = spill;
  return spill;
}

/// Makes a loop of one thread, in front of `next`, of the ops that wait.
LogicalResult HostSplitter::flush(Operation *next) {
  if (pending.empty())
    return success();
  Location loc = pending.front()->getLoc();
  DenseSet<Operation *> inside(pending.begin(), pending.end());
  // Memory of one thread serves for all of its loops.
  for (Operation *op : pending)
    op->walk([&](memref::AllocOp alloc) {
      if (llvm::all_of(alloc->getOperands(), [&](Value size) {
            Operation *def = size.getDefiningOp();
            return !def || def->getBlock() == next->getBlock();
          }))
        alloc->moveBefore(next);
    });
  SmallVector<std::pair<Value, Value>> stored;
  for (Operation *op : pending)
    for (Value result : op->getResults()) {
      bool leaves = llvm::any_of(result.getUsers(), [&](Operation *user) {
        return !inside.contains(next->getBlock()->findAncestorOpInBlock(*user));
      });
      if (!leaves)
        continue;
      FailureOr<Value> spill = getSpill(result, next);
      if (failed(spill))
        return failure();
      stored.push_back({result, *spill});
    }
  b.setInsertionPoint(next);
  auto loop =
      scf::ForallOp::create(b, loc, ArrayRef<OpFoldResult>{b.getIndexAttr(1)},
                            /*outputs=*/ValueRange(), /*mapping=*/std::nullopt);
  Operation *end = loop.getBody()->getTerminator();
  for (Operation *op : pending)
    op->moveBefore(end);
  b.setInsertionPoint(end);
  Value zero = arith::ConstantIndexOp::create(b, loc, 0);
  for (auto [value, spill] : stored)
    memref::StoreOp::create(b, loc, value, spill, zero);
  pending.clear();
  ++numLoops;
  return success();
}

/// The value, made anew from inputs at the builder's place.
Value HostSplitter::sink(OpBuilder &to, Value value, IRMapping &mapping) {
  if (!isSunk(value))
    return value;
  if (Value known = mapping.lookupOrNull(value))
    return known;
  Operation *op = value.getDefiningOp();
  for (Value operand : op->getOperands())
    if (isSunk(operand))
      sink(to, operand, mapping);
  to.clone(*op, mapping);
  return mapping.lookup(value);
}

/// Reads what a parallel loop's body needs at its beginning.
void HostSplitter::replaceIn(Operation *loop) {
  Region &region = loop->getRegion(0);
  OpBuilder inside = OpBuilder::atBlockBegin(&region.front());
  IRMapping mapping;
  for (Value value : getUsed(loop)) {
    Value own;
    if (isSunk(value)) {
      own = sink(inside, value, mapping);
    } else if (isMade(value)) {
      Value zero = arith::ConstantIndexOp::create(inside, loop->getLoc(), 0);
      own = memref::LoadOp::create(inside, loop->getLoc(), spills.lookup(value),
                                   zero);
    } else {
      continue;
    }
    replaceAllUsesInRegionWith(value, own, region);
  }
}

/// Adds an op to the next loop of one thread.
void HostSplitter::collect(Operation *op) {
  DenseSet<Operation *> inside(pending.begin(), pending.end());
  OpBuilder before(op);
  IRMapping mapping;
  for (Value value : getUsed(op)) {
    SmallVector<Operation *> added;
    Value own;
    if (isSunk(value)) {
      Operation *previous = op->getPrevNode();
      own = sink(before, value, mapping);
      for (Operation *at = previous ? previous->getNextNode()
                                    : &op->getBlock()->front();
           at != op; at = at->getNextNode())
        added.push_back(at);
    } else if (isMade(value) && !inside.contains(value.getDefiningOp())) {
      Value zero = arith::ConstantIndexOp::create(before, op->getLoc(), 0);
      own = memref::LoadOp::create(before, op->getLoc(), spills.lookup(value),
                                   zero);
      added.push_back(own.getDefiningOp());
    } else {
      continue;
    }
    llvm::append_range(pending, added);
    value.replaceUsesWithIf(
        own, [&](OpOperand &use) { return op->isAncestor(use.getOwner()); });
  }
  pending.push_back(op);
  made.insert(op);
}

/// Copies numbers of the device that the host asks for.
LogicalResult HostSplitter::readBack(Operation *op) {
  for (OpOperand &operand : op->getOpOperands()) {
    Value value = operand.get();
    if (isSunk(value)) {
      // The device reads its input and keeps what follows from it.
      OpBuilder before(op);
      IRMapping mapping;
      Operation *previous = op->getPrevNode();
      value = sink(before, value, mapping);
      SmallVector<Operation *> copies;
      for (Operation *at = previous ? previous->getNextNode()
                                    : &op->getBlock()->front();
           at != op; at = at->getNextNode())
        copies.push_back(at);
      for (Operation *copy : copies) {
        pending.push_back(copy);
        made.insert(copy);
      }
      operand.set(value);
    } else if (!isMade(value)) {
      continue;
    }
    FailureOr<Value> spill = getSpill(value, op);
    if (failed(spill) || failed(flush(op)))
      return failure();
    b.setInsertionPoint(op);
    Location loc = op->getLoc();
    Value own =
        memref::AllocaOp::create(b, loc, cast<MemRefType>(spill->getType()));
    gpu::MemcpyOp::create(b, loc, /*asyncToken=*/Type(), ValueRange(), own,
                          *spill);
    Value zero = arith::ConstantIndexOp::create(b, loc, 0);
    operand.set(memref::LoadOp::create(b, loc, own, zero));
  }
  return success();
}

LogicalResult HostSplitter::visit(Operation *op) {
  if (isHostLoop(op)) {
    if (failed(flush(op)) || failed(readBack(op)))
      return failure();
    for (Operation &inner : cast<scf::ForOp>(op).getOps())
      if (isKernelLoop(&inner))
        replaceIn(&inner);
    return success();
  }
  if (isKernelLoop(op)) {
    if (failed(flush(op)) || failed(readBack(op)))
      return failure();
    replaceIn(op);
    return success();
  }
  if (isSinkable(op)) {
    sunk.insert(op);
    return success();
  }
  if (!isDevices(op))
    return readBack(op);
  collect(op);
  return success();
}

LogicalResult HostSplitter::run() {
  Block &body = function.getBody().front();
  SmallVector<Operation *> ops =
      llvm::map_to_vector(body, [](Operation &op) { return &op; });
  for (Operation *op : ops)
    if (failed(op == body.getTerminator() ? flush(op) : visit(op)))
      return failure();
  // Last first: one may be an operand of the next.
  for (Operation *op : llvm::reverse(ops))
    if (sunk.contains(op))
      op->erase();
  return success();
}

struct MoeSplitHost : public moe::impl::MoeSplitHostPassBase<MoeSplitHost> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    if (function.isDeclaration())
      return;
    if (!function.getBody().hasOneBlock()) {
      function.emitOpError("has no GPU code: it has branches");
      return signalPassFailure();
    }
    HostSplitter splitter(function);
    if (failed(splitter.run()))
      return signalPassFailure();
    numLoops += splitter.numLoops;
  }
};

} // namespace
