// RUN: moe-opt %s --pass-pipeline='builtin.module(gpu.module(convert-gpu-to-nvvm,moe-math-to-intrinsics))' \
// RUN:   | FileCheck %s

// What a GPU has instructions for needs no device library, and what is not
// called is not declared.

// CHECK-LABEL: gpu.module @kernels
// CHECK-NOT:   @__nv_
// CHECK:       llvm.func @f
// CHECK-DAG:   llvm.intr.fma({{.*}}) : (f32, f32, f32) -> f32
// CHECK-DAG:   llvm.intr.floor({{.*}}) : (f32) -> f32
// CHECK-DAG:   llvm.intr.fabs({{.*}}) : (f64) -> f64
// CHECK-DAG:   llvm.intr.sqrt({{.*}}) : (f32) -> f32
// CHECK-NOT:   @__nv_
gpu.module @kernels {
  func.func @f(%x: f32, %y: f64) -> (f32, f64) {
    %0 = math.fma %x, %x, %x : f32
    %1 = math.floor %0 : f32
    %2 = math.sqrt %1 : f32
    %3 = math.absf %y : f64
    return %2, %3 : f32, f64
  }
}
