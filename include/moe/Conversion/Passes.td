//===- Passes.td - Conversions out of the moe dialect -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_CONVERSION_PASSES_TD
#define MOE_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertMoeToLoopsPass
    : Pass<"convert-moe-to-loops", "::mlir::func::FuncOp"> {
  let summary = "the oracle: every moe op as plain scalar loops";
  let description = [{
    Precondition: layer ops and primitives on tensors. Postcondition: no op of
    the dialect; scf loops over scalars on buffers, one op after the other,
    nothing fused, nothing reordered. The judge of every other lowering: naive,
    complete, never optimised, and it shares no code with what it judges.

    A router that the oracle does not know is run through its token body.

    See test/Conversion/MoeToLoops/layer.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::bufferization::BufferizationDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect"
  ];
}

def ConvertMoeToLinalgPass
    : InterfacePass<"convert-moe-to-linalg", "::mlir::FunctionOpInterface"> {
  let summary = "every moe op as linalg, tensor and scf, on tensors";
  let description = [{
    Precondition: layer ops and primitives on tensors; routers of moe.route have
    a token body. Postcondition: no op of the dialect; linalg, tensor, scf,
    arith, math and cf.assert on tensors, for compilers that want nothing of
    moe below the layer ops. Nothing is dense in tokens and experts at once but
    logits and scores.

    Every loop carries its tensors in place, so one-shot bufferization adds no
    copy for them. What the ops call a run-time error is a cf.assert.

    See test/Conversion/MoeToLinalg/layer.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"
  ];
  let statistics = [
    Statistic<"numLowered", "num-lowered", "Number of ops lowered">
  ];
}

def ConvertMoeToCPUPass : Pass<"convert-moe-to-cpu", "::mlir::func::FuncOp"> {
  let summary = "the grouped primitives on buffers as vector code for CPUs";
  let description = [{
    Precondition: grouped primitives on memrefs with a contiguous last
    dimension (weights may be strided views). Postcondition: no op of the
    dialect; scf.forall over tasks, scf.for, and 1-D vectors of 16 f32 (8 f64).

    A product's task is one expert and one panel of output columns. Rows are
    taken in register tiles of 6, 2 and 1; the inner dimension runs whole and in
    one order, so a row's result does not depend on the tile it is in.

    See test/Conversion/MoeToCPU/grouped-matmul.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
    "::mlir::vector::VectorDialect"
  ];
}

#endif // MOE_CONVERSION_PASSES_TD
