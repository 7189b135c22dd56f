//===- AllInterfaces.h - External models of the dialect ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_ALLINTERFACES_H
#define MOE_DIALECT_MOE_TRANSFORMS_ALLINTERFACES_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace mlir::moe {

/// Token bodies of the built-in routers: #moe.top_k and those that sample.
void registerTokenBodyModels(DialectRegistry &registry);
void registerSampledTokenBodyModels(DialectRegistry &registry);
void registerTopTwoTokenBodyModels(DialectRegistry &registry);
/// Token bodies of routes and of the subset ops.
void registerProductKeysTokenBodyModel(DialectRegistry &registry);
void registerTokenBodyOpModels(DialectRegistry &registry);
void registerRowTokenBodyModels(DialectRegistry &registry);
void registerMixTokenBodyModels(DialectRegistry &registry);
/// One-shot bufferization of the grouped primitives.
void registerBufferizableModels(DialectRegistry &registry);
/// Tiling over tokens of the token-local layer ops.
void registerTilingModels(DialectRegistry &registry);

/// The backwards of ops: arith and math, tensor and linalg, experts, gates and
/// routes, losses, rows and subsets, what reads beyond a token; and what a
/// token of a backward op is.
void registerArithGradientModels(DialectRegistry &registry);
void registerTensorGradientModels(DialectRegistry &registry);
void registerExpertGradientModels(DialectRegistry &registry);
void registerRoutingGradientModels(DialectRegistry &registry);
void registerLossGradientModels(DialectRegistry &registry);
void registerTokenGradientModels(DialectRegistry &registry);
void registerVJPTokenBodyModels(DialectRegistry &registry);
void registerRowVJPTokenBodyModels(DialectRegistry &registry);
void registerMixedGradientModels(DialectRegistry &registry);
void registerMixVJPTokenBodyModels(DialectRegistry &registry);
/// The backwards of routers.
void registerTopKVJPModel(DialectRegistry &registry);
void registerSampledVJPModels(DialectRegistry &registry);
void registerTopTwoVJPModels(DialectRegistry &registry);
void registerProductKeysVJPModel(DialectRegistry &registry);

/// All of the above.
void registerAllInterfaces(DialectRegistry &registry);

} // namespace mlir::moe

#endif // MOE_DIALECT_MOE_TRANSFORMS_ALLINTERFACES_H
