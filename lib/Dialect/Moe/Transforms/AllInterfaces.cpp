//===- AllInterfaces.cpp - External models of the dialect -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Transforms/AllInterfaces.h"

using namespace mlir;

void moe::registerAllInterfaces(DialectRegistry &registry) {
  registerTokenBodyModels(registry);
  registerSampledTokenBodyModels(registry);
  registerTopTwoTokenBodyModels(registry);
  registerProductKeysTokenBodyModel(registry);
  registerTokenBodyOpModels(registry);
  registerRowTokenBodyModels(registry);
  registerMixTokenBodyModels(registry);
  registerTilingModels(registry);
  registerBufferizableModels(registry);
  registerArithGradientModels(registry);
  registerTensorGradientModels(registry);
  registerExpertGradientModels(registry);
  registerRoutingGradientModels(registry);
  registerLossGradientModels(registry);
  registerTokenGradientModels(registry);
  registerVJPTokenBodyModels(registry);
  registerRowVJPTokenBodyModels(registry);
  registerMixedGradientModels(registry);
  registerMixVJPTokenBodyModels(registry);
  registerTopKVJPModel(registry);
  registerSampledVJPModels(registry);
  registerTopTwoVJPModels(registry);
  registerProductKeysVJPModel(registry);
}
