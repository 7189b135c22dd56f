//===- MoeBase.td - The dialect -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEBASE_TD
#define MOE_DIALECT_MOE_IR_MOEBASE_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Moe_Dialect : Dialect {
  let name = "moe";
  let cppNamespace = "::mlir::moe";
  let summary = "Mixture-of-Experts layers";
  let description = [{
    A Mixture-of-Experts layer written as data: a gate, a routing, a dispatch,
    an expert function and a combine. The big ops of the first group describe
    the layer on tensors; the primitives of the second group are what every
    layer becomes before code is generated, and are usable alone, on tensors
    and on memrefs.

    Dimensions are named alike everywhere: T tokens, H hidden size, E routed
    experts, R router width (E plus identity experts), k slots of a token, C
    capacity of an expert, I expert width, N assignments (rows in expert
    order). T, N, C and the number of token groups may be dynamic; the others
    are static. T = 0 is legal.

    A routing is a sparse token-by-expert matrix. An empty slot has id -1 and
    weight 0; ids are never differentiable, weights always are.

    Numbers: logits, scores and routing weights are f32 unless their type says
    otherwise; products accumulate in f32 (f64 for f64 operands) and round once
    when a phase ends. The larger of two scores wins, then the lower index;
    -0 equals +0; a NaN loses to everything and among NaN the lower index wins.
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
                           "::mlir::arith::ArithDialect",
                           "::mlir::math::MathDialect",
                           "::mlir::tensor::TensorDialect"];
  let useDefaultAttributePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
}

#endif // MOE_DIALECT_MOE_IR_MOEBASE_TD
