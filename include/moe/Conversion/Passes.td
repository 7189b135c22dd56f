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
    : InterfacePass<"convert-moe-to-loops", "::mlir::FunctionOpInterface"> {
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

#endif // MOE_CONVERSION_PASSES_TD
