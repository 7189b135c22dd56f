//===- MoeOps.td - All ops of the dialect -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEOPS_TD
#define MOE_DIALECT_MOE_IR_MOEOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"
include "moe/Dialect/Moe/IR/MoeDispatchOps.td"
include "moe/Dialect/Moe/IR/MoeExpertOps.td"
include "moe/Dialect/Moe/IR/MoePrimitiveOps.td"
include "moe/Dialect/Moe/IR/MoeSubsetOps.td"
include "moe/Dialect/Moe/IR/MoeMixOps.td"
include "moe/Dialect/Moe/IR/MoeSlotOps.td"
include "moe/Dialect/Moe/IR/MoeTokenOps.td"
include "moe/Dialect/Moe/IR/MoeTrainingOps.td"
include "moe/Dialect/Moe/IR/MoeGradientOps.td"
include "moe/Dialect/Moe/IR/MoeLossGradientOps.td"
include "moe/Dialect/Moe/IR/MoeTokenGradientOps.td"
include "moe/Dialect/Moe/IR/MoeMixedGradientOps.td"

#endif // MOE_DIALECT_MOE_IR_MOEOPS_TD
