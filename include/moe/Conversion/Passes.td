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
    "::mlir::arith::ArithDialect",
    "::mlir::bufferization::BufferizationDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
    "::mlir::tensor::TensorDialect"
  ];
}

def ConvertMoeToLinalgPass
    : Pass<"convert-moe-to-linalg", "::mlir::func::FuncOp"> {
  let summary = "every moe op as linalg, tensor and scf, on tensors";
  let description = [{
    Precondition: layer ops and primitives on tensors; routers of moe.route have
    a token body. Postcondition: no op of the dialect; linalg, tensor, scf,
    arith, math, affine.apply (of sizes) and cf.assert on tensors, for compilers
    that want nothing of moe below the layer ops. No product with a one-hot
    matrix, and no buffer of tokens by experts but logits and scores.

    Loops carry their tensors such that one-shot bufferization keeps them in
    place; run it before CSE, which makes one tensor of two empty ones. What the
    ops call a run-time error is a cf.assert.

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
  let options = [
    Option<"keepPrimitives", "keep-primitives", "bool", "false",
           "leave the grouped primitives for another lowering">,
    Option<"threads", "threads", "bool", "false",
           "soft slots, expert choice, capacities, losses and checks of group "
           "offsets as parallel loops whose iterations share nothing, for "
           "GPUs">
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

    Packed weights are read front to back, in vectors of `vector-bits`: a task
    is four panels of an expert, whose rows are taken in tiles of nearly one
    height that keep their sums in registers while the next panel is fetched.
    Where rows are bf16 too, their pairs are multiplied by
    x86vector.avx512.dot.

    See test/Conversion/MoeToCPU/grouped-matmul.mlir and panel-product.mlir.
  }];
  let options = [
    Option<"vectorBits", "vector-bits", "int64_t", "512",
           "width of the vectors that packed weights are read in">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect",
    "::mlir::x86vector::X86VectorDialect"
  ];
}

def ConvertMoeToGPUPass : Pass<"convert-moe-to-gpu", "::mlir::func::FuncOp"> {
  let summary = "the grouped primitives on buffers as loops over GPU threads";
  let description = [{
    Precondition: grouped primitives, copies and structured ops on memrefs.
    Postcondition: no op of the dialect and no structured op; scf.forall and
    scf.parallel whose iterations are threads of scalar code, a number of the
    result each, in an order that does not depend on the threads. Inside of such
    a loop a primitive is code of its thread; a gate's product reads 16 bytes at
    a time where rows allow, and a cf.assert checks the pointers for it.

    A product of 16-bit numbers whose rows are multiples of 8, either way round
    (of f32 and of 4, where `tf32` is set), is a gpu.launch of its own: tiles of
    up to 64 x 128 by mma.sync, from workgroup memory that cp.async fills; so is
    a weight's gradient. Experts of one to four rows have a kernel of warps,
    whose sums are in another order; `batch-invariant` leaves it out, and no
    row's result depends on how many rows its expert has.

    See test/Conversion/MoeToGPU/primitives.mlir.
  }];
  let options = [
    Option<"batchInvariant", "batch-invariant", "bool", "false",
           "no kernel of its own for experts of few rows">,
    Option<"tf32", "tf32", "bool", "false",
           "products of f32 on tensor cores, which round to 11 bits">
  ];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::cf::ControlFlowDialect", "::mlir::linalg::LinalgDialect",
    "::mlir::gpu::GPUDialect", "::mlir::math::MathDialect",
    "::mlir::memref::MemRefDialect", "::mlir::nvgpu::NVGPUDialect",
    "::mlir::LLVM::LLVMDialect", "::mlir::NVVM::NVVMDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"
  ];
}

def MoeSplitHostPass : Pass<"moe-split-host", "::mlir::func::FuncOp"> {
  let summary = "what touches buffers as code of the device";
  let description = [{
    Precondition: a function of one block on memrefs, parallel loops without
    results. Postcondition: only parallel loops touch a buffer of the device;
    all else that did is a loop of one thread (scf.forall). A number that the
    device makes and another loop needs is kept in a buffer of one element; one
    that the host needs, for an assertion or a size, is copied to it by
    gpu.memcpy. Loads of inputs, and arithmetic on them, are repeated in the
    loops that need them. A sequential loop of parallel loops, and of nothing
    else of the device's, stays the host's.

    See test/Conversion/MoeToGPU/split-host.mlir.
  }];
  let statistics = [
    Statistic<"numLoops", "num-loops", "loops of one thread made">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect"
  ];
}

def MoeParallelToLaunchPass
    : Pass<"moe-parallel-to-launch", "::mlir::func::FuncOp"> {
  let summary = "parallel loops as kernels";
  let description = [{
    Every parallel loop of a function becomes a gpu.launch with a thread for
    each iteration, neighbours next to each other in the last dimension; a loop
    of one iteration is a kernel of one thread. Loops inside of others are made
    sequential; those in a loop of the host's are launched in each round.
    Private memory moves to a kernel's beginning.

    See test/Conversion/MoeToGPU/launch.mlir.
  }];
  let options = [
    Option<"threads", "threads", "int64_t", "128", "threads in a block">
  ];
  let statistics = [
    Statistic<"numKernels", "num-kernels", "kernels made">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
    "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect"
  ];
}

def MoeMergeKernelsPass : Pass<"moe-merge-kernels", "::mlir::ModuleOp"> {
  let summary = "one image for all kernels of a module";
  let description = [{
    The kernels of all gpu.modules move into one, @kernels, under the names of
    the modules that they were in.

    See test/Conversion/MoeToGPU/merge-kernels.mlir.
  }];
  let dependentDialects = ["::mlir::gpu::GPUDialect"];
}

def MoeAlignWorkgroupPass
    : Pass<"moe-align-workgroup", "::mlir::gpu::GPUModuleOp"> {
  let summary = "workgroup memory aligned for its widest access";
  let description = [{
    Workgroup memory is aligned to its element where nothing says more, and the
    code generator reads it 16 bytes at a time all the same, which traps; ptxas
    says nothing. Every attribution gets llvm.align = 16.

    See test/Conversion/MoeToGPU/align-workgroup.mlir.
  }];
}

def MoeMmaToNVVMPass : Pass<"moe-mma-to-nvvm", "::mlir::gpu::GPUModuleOp"> {
  let summary = "nvgpu.mma.sync of 16-bit numbers as the NVVM op";
  let description = [{
    Upstream's conversion of nvgpu.mma.sync knows no bf16, and for f16 leaves
    casts where sums go from block to block. The NVVM op takes pairs, of bf16 as
    i32. Sums are f32; other products stay.

    See test/Conversion/MoeToGPU/mma-to-nvvm.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::NVVM::NVVMDialect", "::mlir::vector::VectorDialect"
  ];
}

def MoeAttachNVVMTargetPass
    : Pass<"moe-attach-nvvm-target", "::mlir::ModuleOp"> {
  let summary = "the NVIDIA GPU that kernels are compiled for";
  let description = [{
    Gives every gpu.module the target of a chip, with a PTX version that fits
    it, and its kernels the blocks that a multiprocessor is to have registers
    for: 16 warps, or 8 or 12 of those with workgroup memory. A chip that is not
    in the table is an error.

    See test/Pipelines/gpu-gate.mlir.
  }];
  let options = [
    Option<"chip", "chip", "std::string", "\"sm_80\"", "sm_80, sm_90a, ...">
  ];
  let dependentDialects = [
    "::mlir::gpu::GPUDialect", "::mlir::NVVM::NVVMDialect"
  ];
}

def MoeMathToIntrinsicsPass
    : Pass<"moe-math-to-intrinsics", "::mlir::gpu::GPUModuleOp"> {
  let summary = "what a GPU has instructions for, without its device library";
  let description = [{
    The conversion to NVVM calls the device library even for fma, floor, abs
    and sqrt; this makes intrinsics of such calls and of math.ctlz, and drops
    what is declared and not called. A call that stays is an error where there
    is no library.

    See test/Conversion/MoeToGPU/math.mlir.
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

def MoePlanWorkspacePass : Pass<"moe-plan-workspace", "::mlir::ModuleOp"> {
  let summary = "every buffer of an entry from one workspace";
  let description = [{
    Precondition: entries on memrefs. Postcondition: no memref.alloc is left in
    an entry. Buffers of the entry itself are views of a last argument, the
    workspace, at offsets that are multiples of 64 bytes; buffers inside a
    parallel loop have a constant bound and lie on the stack of their task. A
    loop with a buffer too large for that becomes a sequential one, by a buffer
    of the workspace, and a remark says so. A function NAME.workspace computes
    the bytes needed from the same arguments.

    A buffer whose size depends on data rather than on sizes is an error.

    With a padding, reading past the end of a buffer is reading what nobody has
    written, which the emulator reports, and not the next buffer.

    See test/Conversion/MoeToRuntime/plan-workspace.mlir and
    plan-workspace-padding.mlir.
  }];
  let options = [
    Option<"maxStackBytes", "max-stack-bytes", "int64_t", "262144",
           "largest buffer of a task on the stack">,
    Option<"padding", "padding", "int64_t", "0",
           "bytes between two buffers, which nobody may touch">
  ];
  let statistics = [
    Statistic<"numPlanned", "num-planned", "buffers moved to the workspace">,
    Statistic<"numOnStack", "num-on-stack", "buffers moved to a task's stack">
  ];
  let dependentDialects = [
    "::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
    "::mlir::memref::MemRefDialect"
  ];
}

def MoeAssertsToStatusPass
    : Pass<"moe-asserts-to-status", "::mlir::ModuleOp"> {
  let summary = "cf.assert in an entry as a returned error";
  let description = [{
    Precondition: entries on memrefs that return nothing. Postcondition: entries
    take the runtime's context as their last argument and return its i32 status;
    a cf.assert at top level that fails keeps its message in the context and
    returns. A cf.assert inside a loop is an error: the work around it could not
    be left.

    See test/Conversion/MoeToRuntime/asserts-to-status.mlir.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect",
    "::mlir::LLVM::LLVMDialect"
  ];
}

def MoeOutlineParallelPass
    : Pass<"moe-outline-parallel", "::mlir::ModuleOp"> {
  let summary = "scf.forall as a call of the context's parallel_for";
  let description = [{
    Precondition: entries that have a context, with scf.forall on memrefs.
    Postcondition: no scf.forall is left: each outermost one is a function of
    its captured values and one task number, run through the context's
    parallel_for; one inside another runs in order.

    See test/Conversion/MoeToRuntime/outline-parallel.mlir.
  }];
  let statistics = [
    Statistic<"numOutlined", "num-outlined", "parallel loops outlined">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::scf::SCFDialect"
  ];
}

def MoeLaunchToRuntimePass
    : Pass<"moe-launch-to-runtime", "::mlir::ModuleOp"> {
  let summary = "launches of kernels as calls of the context";
  let description = [{
    Precondition: entries with a context that return a status; kernels as
    gpu.binary, one object each. Postcondition: no op of the gpu dialect. A
    launch is a call of the context's `launch`, a gpu.memcpy to the host's stack
    one of its `copy_back`; the first that fails is the entry's status. Images
    are constants of the object.

    See test/Conversion/MoeToRuntime/launch-to-runtime.mlir.
  }];
  let statistics = [
    Statistic<"numLowered", "num-lowered", "launches and copies lowered">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::cf::ControlFlowDialect",
    "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::memref::MemRefDialect"
  ];
}

def MoeEmitEntryPass : Pass<"moe-emit-entry", "::mlir::ModuleOp"> {
  let summary = "the C entry points and the description of an entry";
  let description = [{
    Precondition: planned entries that return a status. Postcondition: for each,
    the exported functions moe_NAME, moe_NAME_workspace and moe_NAME_pack and
    the constants moe_NAME_info and moe_NAME_pack_info of moe_rt.h; the function
    itself is private. With `gpu`, tensors and workspace of the entry are a
    GPU's; packing stays the CPU's.

    See test/Conversion/MoeToRuntime/emit-entry.mlir.
  }];
  let options = [
    Option<"gpu", "gpu", "bool", "false", "entries run on a GPU">
  ];
  let dependentDialects = [
    "::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::memref::MemRefDialect"
  ];
}

#endif // MOE_CONVERSION_PASSES_TD
