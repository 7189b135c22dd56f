//===- Passes.td - Transforms inside the moe dialect -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD
#define MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def MoePrepareEntryPass : Pass<"moe-prepare-entry", "::mlir::ModuleOp"> {
  let summary = "functions marked moe.entry as entries of the runtime's ABI";
  let description = [{
    Precondition: functions on tensors, some marked `moe.entry`, without calls.
    Postcondition: every entry names its arguments (`moe.name`) and their
    dynamic sizes (`moe.dims`: sizes that the ops force to be equal have one
    symbol), returns nothing, and writes each result to a memref argument that
    follows the inputs; `moe.num_inputs` counts these. A size of a result that
    no input has is compared with its destination by a cf.assert. Inputs are
    the caller's: bufferization may not write to them.

    Arguments and results other than tensors of static or dynamic sizes are
    refused by name.

    See test/Dialect/Moe/Transforms/prepare-entry.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect",
    "::mlir::bufferization::BufferizationDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::memref::MemRefDialect",
    "::mlir::tensor::TensorDialect"
  ];
}

def MoeSeparateDestinationsPass
    : Pass<"moe-separate-destinations", "::mlir::func::FuncOp"> {
  let summary = "an empty or filled tensor for each destination";
  let description = [{
    A tensor.empty, or a linalg.fill of one, that several destinations of ops or
    loops share becomes one for each. Buffers follow: two results of one op that
    shared a tensor would share a buffer where nobody reads one of them, and two
    results of an entry would, where that buffer is the place of one of them.
    Run it after the last CSE on tensors.

    See test/Dialect/Moe/Transforms/separate-destinations.mlir.
  }];
  let statistics = [
    Statistic<"numSeparated", "num-separated", "destinations that shared one">
  ];
  let dependentDialects = [
    "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"
  ];
}

def MoeResolveSizesPass
    : Pass<"moe-resolve-sizes", "::mlir::func::FuncOp"> {
  let summary = "sizes of results from sizes of arguments";
  let description = [{
    Replaces a `tensor.dim` of a loop's, branch's or destination-passing op's
    result by that of the value which the size comes from, and a `tensor.dim`
    of an op of this dialect by the op's own rule. Buffers are sized by what is
    left, and have to be before any data is known.

    See test/Dialect/Moe/Transforms/resolve-sizes.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect"
  ];
}

def MoeFuseGatingPass
    : Pass<"moe-fuse-gating", "::mlir::func::FuncOp"> {
  let summary = "gate, score and token choice in one pass over token tiles";
  let description = [{
    Precondition: layer ops on tensors. Postcondition: every moe.route by a
    token-local router, and every other op of a token body (the subset ops),
    stands in an scf.forall over tiles of `tile-size` tokens together with the
    score, gate and what makes the gate's rows token by token (moe.unit_rows,
    moe.jitter); each gate is computed once, and where another op reads its
    logits too, the fused loop returns them.

    With a mix in front the route shares its loop with the mix, and gate and
    score have a loop in front of it. A softmax over the experts or slots of a
    token leaves a global router (moe.route_experts, moe.route_slots) as a
    moe.score and shares the gate's loop; the selection per group stays. Both
    are told by a remark of the analysis kind, category moe-fuse-gating. Any
    other op that is not fused is named in a diagnostic remark with the reason;
    where it is token-local its tokens are tiled all the same.

    See test/Dialect/Moe/Transforms/fuse-gating.mlir.
  }];
  let options = [
    Option<"tileSize", "tile-size", "int64_t", "64",
           "tokens in a tile, a multiple of the SIMD lanes">
  ];
  let statistics = [
    Statistic<"numFused", "num-fused", "routes fused with their gate">,
    Statistic<"numTiled", "num-tiled", "token-local ops tiled alone">
  ];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect"
  ];
}

def MoeGenerateVJPPass
    : Pass<"moe-generate-vjp", "::mlir::ModuleOp"> {
  let summary = "a function's forward with residuals, and its backward";
  let description = [{
    Precondition: layer ops on tensors in a function of one block, before
    moe-prepare-entry. Postcondition: beside @f there are

    - @f_fwd: the arguments of @f to its results, and behind them the residuals,
      named `saved_0` and so on;
    - @f_bwd: those arguments of @f and residuals that it needs, by name, and a
      cotangent `d_RESULT` for every floating-point result, to a gradient
      `d_ARGUMENT` for each argument of `wrt`, of the argument's type. A
      gradient that nothing reaches is zeros.

    Both are entries where @f is one. `save` says what the forward saves:
    `minimal` the routing (logits, ids, weights) and what activations were
    given; `recompute` the routing alone. Rows in expert order are never saved.

    An op between the two that has no DifferentiableOpInterface is an error that
    names it. Ids have no cotangent; weights of a router have the gradient that
    the router says.

    See test/Dialect/Moe/Transforms/generate-vjp.mlir.
  }];
  let options = [
    Option<"function", "function", "std::string", "\"\"",
           "the function; where there is one only, or one entry, that">,
    ListOption<"wrt", "wrt", "std::string",
               "names of the arguments to differentiate by; without, all that "
               "are floating-point">,
    Option<"save", "save", "std::string", "\"minimal\"",
           "minimal or recompute">
  ];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::math::MathDialect", "::mlir::tensor::TensorDialect"
  ];
}

def MoeLowerRoutingPass
    : Pass<"moe-lower-routing", "::mlir::func::FuncOp"> {
  let summary = "token choice and top-k on SIMD lanes, one token a lane";
  let description = [{
    Precondition: moe.route and moe.top_k on tensors. Postcondition: neither is
    left; each is a loop over `lanes` tokens at a time, whose body is the
    router's token body with every scalar a vector. Rows are transposed by
    shuffles; the lanes past the last token repeat it. Given indices are checked
    by a cf.assert in front. `lanes` is a power of two.

    See test/Dialect/Moe/Transforms/lower-routing.mlir.
  }];
  let options = [
    Option<"lanes", "lanes", "int64_t", "16", "tokens side by side">
  ];
  let statistics = [
    Statistic<"numLowered", "num-lowered", "routes and selections lowered">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect",
    "::mlir::ub::UBDialect", "::mlir::vector::VectorDialect"
  ];
}

def MoeLowerToGroupedPass
    : Pass<"moe-lower-to-grouped", "::mlir::func::FuncOp"> {
  let summary = "gate, dispatch, experts and combine as grouped primitives";
  let description = [{
    Precondition: layer ops on tensors. Postcondition: no moe.gate,
    moe.dispatch, moe.experts or moe.combine is left. A dispatch that feeds
    experts copies no row: the gather is an operand of the first product. With
    `panels`, a gate inside a loop over tiles of tokens is a product on register
    tiles; its weight is copied into panels once, in front of the loop.

    See test/Dialect/Moe/Transforms/lower-to-grouped.mlir.
  }];
  let options = [
    Option<"panels", "panels", "bool", "true",
           "vector code for gates inside loops over tiles of tokens">
  ];
  let statistics = [
    Statistic<"numGathersFused", "num-gathers-fused",
              "dispatches that became the gather of a product">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::math::MathDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect", "::mlir::ub::UBDialect",
    "::mlir::vector::VectorDialect"
  ];
}

def MoePackWeightsPass : Pass<"moe-pack-weights", "::mlir::ModuleOp"> {
  let summary = "expert weights of entries in the order that code reads";
  let description = [{
    Precondition: entries prepared, on grouped primitives and tensors.
    Postcondition: each argument with a moe.layout that only one product reads,
    through views, is packed (#moe.panels), two that make one product (gate and
    up) as one argument; and a function @NAME.pack makes the packed arguments
    from the stored ones. It takes every argument that has a layout, in order,
    and gives every one that the entry then has; where the expert axis leads,
    it does so for any number of experts, so that weights can be packed as they
    are read.

    Panels have `columns` columns, and two steps of bf16. Rows of 16-bit numbers
    are widened once in front of their product, or written wide by the product
    that makes them, unless `dot` says that the processor multiplies pairs of
    bf16 as they are. What stays as stored is told by a remark: weights of f64,
    of products whose rows are scaled, or that something else reads too.

    See test/Dialect/Moe/Transforms/pack-weights.mlir.
  }];
  let options = [
    Option<"columns", "columns", "int64_t", "64", "columns of a panel">,
    Option<"dot", "dot", "bool", "false",
           "rows of bf16 are multiplied as they are">
  ];
  let statistics = [
    Statistic<"numPacked", "num-packed", "products with packed weights">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect",
    "::mlir::bufferization::BufferizationDialect",
    "::mlir::linalg::LinalgDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"
  ];
}

def MoeApproximateMathPass
    : Pass<"moe-approximate-math", "::mlir::func::FuncOp"> {
  let summary = "exp, log1p, tanh and erf of f32 as polynomials";
  let description = [{
    Upstream's polynomial forms of elementary functions on f32 scalars and
    vectors, so that lanes stay together. Functions without one, and f64, are
    left for the math library.

    See test/Dialect/Moe/Transforms/approximate-math.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::vector::VectorDialect"
  ];
}

def MoeVerifyStagePass : Pass<"moe-verify-stage", "::mlir::ModuleOp"> {
  let summary = "what a stage of the pipeline must have left behind";
  let description = [{
    Names the first op that a stage should have lowered: `grouped` allows of the
    dialect only the grouped primitives, `buffers` no tensor, `cpu` no op of the
    dialect, no tensor and no buffer allocation, `gpu` no op of the dialect, no
    tensor, no allocation in a kernel and no access to memory outside kernels,
    `llvm` the LLVM dialect alone.

    See test/Dialect/Moe/Transforms/verify-stage.mlir.
  }];
  let options = [
    Option<"stage", "stage", "std::string", "\"\"",
           "grouped, buffers, cpu, gpu or llvm">
  ];
}

#endif // MOE_DIALECT_MOE_TRANSFORMS_PASSES_TD
