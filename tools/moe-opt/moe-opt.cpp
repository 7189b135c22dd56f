//===- moe-opt.cpp - mlir-opt with the moe dialect and passes -------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "moe/InitAllDialects.h"
#include "moe/InitAllPasses.h"
#ifdef MOE_INCLUDE_TESTS
#include "MoeTestLib.h"
#endif

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::moe::registerAllDialects(registry);
  mlir::moe::registerAllPasses();
#ifdef MOE_INCLUDE_TESTS
  mlir::moe_test::registerMoeTestLib(registry);
#endif
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "moe-mlir optimizer driver\n", registry));
}
