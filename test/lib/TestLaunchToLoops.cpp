//===- TestLaunchToLoops.cpp - Kernels as loops of the host ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs the very code of a kernel without a GPU: one iteration a thread, one
// thread after the other. Only right for kernels whose threads share nothing;
// a barrier or workgroup memory is an error.
//
//===----------------------------------------------------------------------===//

#include "MoeTestLib.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Pass/Pass.h"

using namespace mlir;

namespace {

struct TestLaunchToLoops
    : public PassWrapper<TestLaunchToLoops, OperationPass<func::FuncOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(TestLaunchToLoops)

  StringRef getArgument() const final { return "test-launch-to-loops"; }
  StringRef getDescription() const final {
    return "gpu.launch of independent threads as loops over them";
  }
  void getDependentDialects(DialectRegistry &registry) const final {
    registry.insert<arith::ArithDialect, scf::SCFDialect>();
  }

  static LogicalResult convert(gpu::LaunchOp launch) {
    WalkResult shared = launch.getBody().walk([](Operation *op) {
      return isa<gpu::GPUDialect>(op->getDialect()) &&
                     !isa<gpu::TerminatorOp>(op)
                 ? WalkResult::interrupt()
                 : WalkResult::advance();
    });
    if (shared.wasInterrupted() || launch.getNumWorkgroupAttributions() > 0 ||
        !launch.getBody().hasOneBlock())
      return launch.emitOpError("has threads that work together");

    // One thread's private memory serves the next: it promises no contents.
    Block *kernel = &launch.getBody().front();
    for (auto row :
         llvm::make_early_inc_range(kernel->getOps<memref::AllocaOp>()))
      row->moveBefore(launch);
    OpBuilder b(launch);
    Location loc = launch.getLoc();
    Value zero = arith::ConstantIndexOp::create(b, loc, 0);
    Value one = arith::ConstantIndexOp::create(b, loc, 1);
    gpu::KernelDim3 grid = launch.getGridSizeOperandValues();
    gpu::KernelDim3 block = launch.getBlockSizeOperandValues();
    SmallVector<Value> sizes = {grid.x,  grid.y,  grid.z,
                                block.x, block.y, block.z};
    SmallVector<Value> ids;
    for (Value size : sizes) {
      auto loop = scf::ForOp::create(b, loc, zero, size, one);
      ids.push_back(loop.getInductionVar());
      b.setInsertionPointToStart(loop.getBody());
    }
    kernel->getTerminator()->erase();
    SmallVector<Value> arguments(ids);
    llvm::append_range(arguments, sizes);
    for (auto [argument, value] :
         llvm::zip_equal(kernel->getArguments(), arguments))
      argument.replaceAllUsesWith(value);
    Block *body = b.getInsertionBlock();
    body->getOperations().splice(body->begin(), kernel->getOperations());
    launch.erase();
    return success();
  }

  void runOnOperation() override {
    SmallVector<gpu::LaunchOp> launches;
    SmallVector<gpu::MemcpyOp> copies;
    getOperation()->walk([&](gpu::LaunchOp op) { launches.push_back(op); });
    getOperation()->walk([&](gpu::MemcpyOp op) { copies.push_back(op); });
    for (gpu::MemcpyOp copy : copies) {
      OpBuilder b(copy);
      memref::CopyOp::create(b, copy.getLoc(), copy.getSrc(), copy.getDst());
      copy.erase();
    }
    for (gpu::LaunchOp launch : launches)
      if (failed(convert(launch)))
        return signalPassFailure();
  }
};

} // namespace

void moe_test::registerTestLaunchToLoopsPass() {
  PassRegistration<TestLaunchToLoops>();
}
