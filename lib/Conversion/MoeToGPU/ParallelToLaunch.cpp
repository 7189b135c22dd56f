//===- ParallelToLaunch.cpp - Parallel loops as kernels ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Transforms.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEPARALLELTOLAUNCHPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

/// What the hardware allows in a block.
constexpr int64_t kMaxThreads = 1024;

class KernelEmitter {
public:
  KernelEmitter(Operation *loop, int64_t threads)
      : loop(loop), b(loop->getLoc(), loop), threads(threads) {}

  void run();

private:
  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(b, value);
  }
  void readBounds();
  Value emitExtents();
  void emitPlaces(Value number, ArrayRef<Value> extents);

  Operation *loop;
  ImplicitLocOpBuilder b;
  int64_t threads;
  SmallVector<Value> lower, upper, steps, extents;
};

void KernelEmitter::readBounds() {
  if (auto forall = dyn_cast<scf::ForallOp>(loop)) {
    lower = forall.getLowerBound(b);
    upper = forall.getUpperBound(b);
    steps = forall.getStep(b);
    return;
  }
  auto parallel = cast<scf::ParallelOp>(loop);
  lower = llvm::to_vector(parallel.getLowerBound());
  upper = llvm::to_vector(parallel.getUpperBound());
  steps = llvm::to_vector(parallel.getStep());
}

/// The number of iterations.
Value KernelEmitter::emitExtents() {
  Value count = index(1);
  for (auto [low, high, step] : llvm::zip(lower, upper, steps)) {
    Value distance = b.createOrFold<arith::SubIOp>(high, low);
    extents.push_back(b.createOrFold<arith::CeilDivSIOp>(distance, step));
    count = b.createOrFold<arith::MulIOp>(count, extents.back());
  }
  return count;
}

/// The induction variables of an iteration; neighbours differ in the last.
void KernelEmitter::emitPlaces(Value number, ArrayRef<Value> extents) {
  SmallVector<Value> places(extents.size());
  for (int64_t dim = extents.size() - 1; dim >= 0; --dim) {
    Value place = number;
    if (dim > 0) {
      place = arith::RemUIOp::create(b, number, extents[dim]);
      number = arith::DivUIOp::create(b, number, extents[dim]);
    }
    Value scaled = b.createOrFold<arith::MulIOp>(place, steps[dim]);
    places[dim] = b.createOrFold<arith::AddIOp>(lower[dim], scaled);
  }
  Block &body = loop->getRegion(0).front();
  for (auto [variable, place] : llvm::zip(body.getArguments(), places))
    variable.replaceAllUsesWith(place);
}

void KernelEmitter::run() {
  readBounds();
  Value count = emitExtents();
  std::optional<int64_t> constant = getConstantIntValue(count);
  int64_t size = constant == 1 ? 1 : threads;
  Value one = index(1);
  Value rounded = b.createOrFold<arith::AddIOp>(count, index(size - 1));
  Value blocks = b.createOrFold<arith::DivUIOp>(rounded, index(size));
  // The driver refuses a launch of no blocks; one without work is idle.
  blocks = b.createOrFold<arith::MaxUIOp>(blocks, one);
  auto launch =
      gpu::LaunchOp::create(b, blocks, one, one, index(size), one, one);
  Block *kernel = &launch.getBody().front();
  b.setInsertionPointToStart(kernel);
  Value number = launch.getThreadIds().x;
  if (size > 1) {
    Value first = arith::MulIOp::create(b, launch.getBlockIds().x, index(size));
    number = arith::AddIOp::create(b, first, number);
    Value isOne =
        arith::CmpIOp::create(b, arith::CmpIPredicate::ult, number, count);
    auto guard = scf::IfOp::create(b, isOne, /*withElseRegion=*/false);
    gpu::TerminatorOp::create(b);
    b.setInsertionPointToStart(guard.thenBlock());
  } else {
    gpu::TerminatorOp::create(b);
    b.setInsertionPointToStart(kernel);
  }
  emitPlaces(number, extents);
  Block &body = loop->getRegion(0).front();
  for (Operation &op : llvm::make_early_inc_range(body.without_terminator()))
    op.moveBefore(b.getInsertionBlock(), b.getInsertionPoint());
  // Only in a kernel's first block has private memory a fixed place.
  SmallVector<memref::AllocaOp> memory;
  kernel->walk([&](memref::AllocaOp op) { memory.push_back(op); });
  for (memref::AllocaOp op : memory)
    op->moveBefore(kernel, kernel->begin());
  loop->erase();
}

struct MoeParallelToLaunch
    : public moe::impl::MoeParallelToLaunchPassBase<MoeParallelToLaunch> {
  using MoeParallelToLaunchPassBase::MoeParallelToLaunchPassBase;

  /// Parallel loops, those of the host's or those inside of others and in loops
  /// of one thread.
  SmallVector<Operation *> collectLoops(bool isInner) {
    SmallVector<Operation *> loops;
    getOperation()->walk([&](Operation *op) {
      if (isa<scf::ForallOp, scf::ParallelOp>(op) &&
          isInner == (op->getParentOfType<scf::ForallOp>() ||
                      op->getParentOfType<scf::ParallelOp>() ||
                      op->getParentOfType<gpu::LaunchOp>()))
        loops.push_back(op);
    });
    return loops;
  }

  LogicalResult serializeInner() {
    SmallVector<Operation *> inner = collectLoops(/*isInner=*/true);
    IRRewriter rewriter(&getContext());
    for (Operation *op : inner) {
      rewriter.setInsertionPoint(op);
      auto forall = dyn_cast<scf::ForallOp>(op);
      LogicalResult done = forall ? scf::forallToForLoop(rewriter, forall)
                                  : LogicalResult(scf::parallelForToNestedFors(
                                        rewriter, cast<scf::ParallelOp>(op)));
      if (failed(done))
        return op->emitOpError("has no GPU code: it is inside a thread");
    }
    return success();
  }

  void runOnOperation() override {
    int64_t size = threads;
    if (size < 1 || size > kMaxThreads) {
      getOperation()->emitOpError("has no GPU code: a block of ")
          << size << " threads; 1 to " << kMaxThreads << " are possible";
      return signalPassFailure();
    }
    if (failed(serializeInner()))
      return signalPassFailure();
    SmallVector<Operation *> loops = collectLoops(/*isInner=*/false);
    for (Operation *loop : loops)
      KernelEmitter(loop, size).run();
    numKernels += loops.size();
  }
};

} // namespace
