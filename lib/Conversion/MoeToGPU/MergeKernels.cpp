//===- MergeKernels.cpp - One image for all kernels ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/SymbolTable.h"
#include "moe/Conversion/Passes.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEMERGEKERNELSPASS
#include "moe/Conversion/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

namespace {

struct MoeMergeKernels
    : public moe::impl::MoeMergeKernelsPassBase<MoeMergeKernels> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<gpu::GPUModuleOp> parts(module.getOps<gpu::GPUModuleOp>());
    if (parts.empty())
      return;
    OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
    SymbolTable symbols(module);
    auto merged = gpu::GPUModuleOp::create(b, module.getLoc(), "kernels");
    symbols.insert(merged);
    DenseMap<Attribute, SymbolRefAttr> places;
    for (gpu::GPUModuleOp part : parts) {
      for (auto kernel :
           llvm::make_early_inc_range(part.getOps<gpu::GPUFuncOp>())) {
        // Outlining numbers modules; the functions inside have one name.
        auto before = SymbolRefAttr::get(
            part.getNameAttr(), {FlatSymbolRefAttr::get(kernel.getNameAttr())});
        kernel->moveBefore(merged.getBody(), merged.getBody()->end());
        kernel.setName(part.getName());
        places[before] = SymbolRefAttr::get(
            merged.getNameAttr(), {FlatSymbolRefAttr::get(part.getNameAttr())});
      }
      symbols.erase(part);
    }
    module.walk([&](gpu::LaunchFuncOp launch) {
      if (SymbolRefAttr place = places.lookup(launch.getKernelAttr()))
        launch.setKernelAttr(place);
    });
  }
};

} // namespace
