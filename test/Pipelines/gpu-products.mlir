// A layer's products on tensor cores, down to PTX, and as entries of the
// runtime.

// REQUIRES: nvptx
// RUN: moe-compile --example olmoe -o %t.mlir
// RUN: moe-opt %t.mlir --moe-gpu=chip=sm_80 -o %t.bin.mlir
// RUN: %python %S/Inputs/extract_ptx.py %t.bin.mlir %t.ptx
// RUN: FileCheck %s --input-file=%t.ptx
// RUN: moe-opt %t.mlir --moe-gpu-entry | FileCheck %s --check-prefix=ENTRY

// CHECK-DAG: .entry olmoe_kernel_7(
// CHECK-DAG: .shared .align 16 .b8 {{.+}}[16384];
// CHECK-DAG: cp.async.cg.shared.global
// CHECK-DAG: cp.async.wait_group 2;
// CHECK-DAG: bar.sync 0;
// CHECK-DAG: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK-DAG: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// CHECK-NOT: .extern

// Experts of few rows have no kernel of their own on demand.
// RUN: moe-opt %t.mlir --moe-to-gpu=batch-invariant=true \
// RUN:   | FileCheck %s --check-prefix=INVARIANT --implicit-check-not='gpu.shuffle  xor'
// INVARIANT: gpu.func @olmoe_kernel_5
// INVARIANT-NOT: gpu.func @olmoe_kernel_7

// ENTRY-DAG: llvm.mlir.global internal constant @kernels.image
// ENTRY-DAG: llvm.mlir.global external constant @moe_olmoe_info
// ENTRY:     llvm.func @moe_olmoe(
