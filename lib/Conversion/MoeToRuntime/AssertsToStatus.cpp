//===- AssertsToStatus.cpp - cf.assert as a returned error ----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RuntimeABI.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Runtime/moe_rt.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEASSERTSTOSTATUSPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

LogicalResult convertEntry(func::FuncOp function) {
  if (function.getNumResults() != 0)
    return function.emitOpError("is no prepared entry: it returns values");
  MLIRContext *context = function.getContext();
  Type pointer = LLVM::LLVMPointerType::get(context);
  Type i32 = IntegerType::get(context, 32);
  if (failed(function.insertArgument(function.getNumArguments(), pointer, {},
                                     function.getLoc())) ||
      failed(function.insertResult(0, i32, {})))
    return failure();
  Value runtime = function.getArguments().back();

  SmallVector<cf::AssertOp> asserts;
  SmallVector<func::ReturnOp> returns;
  WalkResult walk = function.walk([&](Operation *op) {
    if (auto assertion = dyn_cast<cf::AssertOp>(op)) {
      if (assertion->getParentOp() != function) {
        assertion.emitOpError("stands in a loop or branch, which an entry "
                              "cannot leave with an error");
        return WalkResult::interrupt();
      }
      asserts.push_back(assertion);
    }
    if (auto returnOp = dyn_cast<func::ReturnOp>(op))
      returns.push_back(returnOp);
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();

  for (func::ReturnOp op : returns) {
    ImplicitLocOpBuilder b(op.getLoc(), op);
    Value ok = arith::ConstantOp::create(b, b.getI32IntegerAttr(MOE_OK));
    func::ReturnOp::create(b, ok);
    op.erase();
  }
  for (cf::AssertOp op : asserts) {
    Block *before = op->getBlock();
    Block *after = before->splitBlock(std::next(op->getIterator()));
    ImplicitLocOpBuilder b(op.getLoc(), context);
    Block *failed = b.createBlock(after);
    RuntimeABI abi(b);
    func::ReturnOp::create(b, abi.fail(runtime, MOE_ERROR_DATA, op.getMsg()));
    b.setInsertionPointToEnd(before);
    cf::CondBranchOp::create(b, op.getArg(), after, failed);
    op.erase();
  }
  return success();
}

struct MoeAssertsToStatus
    : public moe::impl::MoeAssertsToStatusPassBase<MoeAssertsToStatus> {
  void runOnOperation() override {
    for (func::FuncOp entry : getEntries(getOperation()))
      if (failed(convertEntry(entry)))
        return signalPassFailure();
  }
};

} // namespace
