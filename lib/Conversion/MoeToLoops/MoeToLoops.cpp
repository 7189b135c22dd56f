//===- MoeToLoops.cpp - The oracle ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

namespace mlir::moe {
#define GEN_PASS_DEF_CONVERTMOETOLOOPSPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

namespace {
struct ConvertMoeToLoops
    : public mlir::moe::impl::ConvertMoeToLoopsPassBase<ConvertMoeToLoops> {
  void runOnOperation() override {
    getOperation()->emitError("the oracle is being written");
    signalPassFailure();
  }
};
} // namespace
