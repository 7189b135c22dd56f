//===- MoePlugin.cpp - The dialect and passes for a stock mlir-opt --------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   mlir-opt --load-dialect-plugin=MoePlugin.so --load-pass-plugin=MoePlugin.so
//
//===----------------------------------------------------------------------===//

#include "mlir/Tools/Plugins/DialectPlugin.h"
#include "mlir/Tools/Plugins/PassPlugin.h"
#include "moe/Conversion/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/Pipelines/Pipelines.h"
#include "moe/Version.h"

static void registerDialect(mlir::DialectRegistry *registry) {
  registry->insert<mlir::moe::MoeDialect>();
  mlir::moe::registerAllInterfaces(*registry);
}

static void registerPasses() {
  mlir::moe::registerMoeTransformsPasses();
  mlir::moe::registerMoeConversionPasses();
  mlir::moe::registerPipelines();
}

extern "C" LLVM_ATTRIBUTE_WEAK mlir::DialectPluginLibraryInfo
mlirGetDialectPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "Moe", MOE_VERSION_STRING, registerDialect};
}

extern "C" LLVM_ATTRIBUTE_WEAK mlir::PassPluginLibraryInfo
mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "Moe", MOE_VERSION_STRING, registerPasses};
}
