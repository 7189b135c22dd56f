//===- AlignWorkgroup.cpp - Wide accesses of workgroup memory ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEALIGNWORKGROUPPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

namespace {

/// The widest access there is.
constexpr int64_t kBytes = 16;

struct MoeAlignWorkgroup
    : public moe::impl::MoeAlignWorkgroupPassBase<MoeAlignWorkgroup> {
  void runOnOperation() override {
    Builder b(&getContext());
    getOperation()->walk([&](gpu::GPUFuncOp kernel) {
      for (int i = 0, e = kernel.getNumWorkgroupAttributions(); i < e; ++i)
        kernel.setWorkgroupAttributionAttr(i, b.getStringAttr("llvm.align"),
                                           b.getI64IntegerAttr(kBytes));
    });
  }
};

} // namespace
