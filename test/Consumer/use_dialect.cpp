//===- use_dialect.cpp - The dialect inside a foreign compiler ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Version.h"

#include <cstdio>

static const char *const source = R"mlir(
func.func @logits(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> tensor<?x8xf32> {
  %0 = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}
)mlir";

int main() {
  mlir::MLIRContext context;
  context.loadDialect<mlir::func::FuncDialect, mlir::moe::MoeDialect>();
  mlir::OwningOpRef<mlir::ModuleOp> module =
      mlir::parseSourceString<mlir::ModuleOp>(source, &context);
  if (!module)
    return 1;
  int gates = 0;
  module->walk([&](mlir::moe::GateOp) { ++gates; });
  std::printf("moe-mlir %s: %d gate\n", MOE_VERSION_STRING, gates);
  return gates == 1 ? 0 : 1;
}
