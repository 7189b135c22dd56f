// The dialect, its passes and pipelines inside a stock mlir-opt.
// REQUIRES: MoePlugin
// The stock tool has no sanitizer to load an instrumented library into.
// UNSUPPORTED: asan
// RUN: mlir-opt --load-dialect-plugin=%moe_plugin %S/Inputs/tiny.mlir \
// RUN:   | FileCheck %s
// CHECK: moe.experts

// RUN: mlir-opt --load-dialect-plugin=%moe_plugin \
// RUN:   --load-pass-plugin=%moe_plugin %S/Inputs/tiny.mlir \
// RUN:   --pass-pipeline='builtin.module(func.func(moe-fuse-gating{tile-size=32}),canonicalize)' \
// RUN:   | FileCheck %s --check-prefix=FUSED
// FUSED: scf.forall
// FUSED: moe.route

// The whole road, with upstream's interfaces of the host.
// RUN: mlir-opt --load-dialect-plugin=%moe_plugin \
// RUN:   --load-pass-plugin=%moe_plugin %S/Inputs/tiny.mlir --pass-pipeline='builtin.module(moe-cpu)' \
// RUN:   | FileCheck %s --check-prefix=CODE
// CODE: llvm.func @moe_tiny(

// RUN: not mlir-opt %S/Inputs/tiny.mlir 2>&1 | FileCheck %s --check-prefix=WITHOUT
// WITHOUT: error: {{.*}}moe
