// RUN: moe-opt %s --moe-mma-to-nvvm | FileCheck %s

// Pairs of bf16 are i32 registers, pairs of f16 stay; products of f64 are left
// to the conversion that knows them.

// CHECK-LABEL: func @bf16
// CHECK-COUNT-6: vector.bitcast %{{.+}} : vector<2xbf16> to vector<1xi32>
// CHECK:      nvvm.mma.sync A[{{.+}}]  B[{{.+}}]  C[{{.+}}] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
// CHECK-COUNT-4: llvm.extractvalue
// CHECK-LABEL: func @f16
// CHECK-NOT:  vector.bitcast
// CHECK:      nvvm.mma.sync {{.+}} : (vector<2xf16>, vector<2xf16>, f32) -> !llvm.struct<(f32, f32, f32, f32)>
// CHECK-LABEL: func @f64
// CHECK:      nvgpu.mma.sync
gpu.module @kernels {
  gpu.func @bf16(%a: vector<4x2xbf16>, %b: vector<2x2xbf16>,
                 %c: vector<2x2xf32>, %out: memref<2x2xf32>) {
    %zero = arith.constant 0 : index
    %d = nvgpu.mma.sync(%a, %b, %c) {mmaShape = [16, 8, 16]}
        : (vector<4x2xbf16>, vector<2x2xbf16>, vector<2x2xf32>)
        -> vector<2x2xf32>
    vector.store %d, %out[%zero, %zero] : memref<2x2xf32>, vector<2x2xf32>
    gpu.return
  }
  gpu.func @f16(%a: vector<4x2xf16>, %b: vector<2x2xf16>,
                %c: vector<2x2xf32>, %out: memref<2x2xf32>) {
    %zero = arith.constant 0 : index
    %d = nvgpu.mma.sync(%a, %b, %c) {mmaShape = [16, 8, 16]}
        : (vector<4x2xf16>, vector<2x2xf16>, vector<2x2xf32>)
        -> vector<2x2xf32>
    vector.store %d, %out[%zero, %zero] : memref<2x2xf32>, vector<2x2xf32>
    gpu.return
  }
  gpu.func @f64(%a: vector<1x1xf64>, %b: vector<1x1xf64>,
                %c: vector<1x2xf64>, %out: memref<1x2xf64>) {
    %zero = arith.constant 0 : index
    %d = nvgpu.mma.sync(%a, %b, %c) {mmaShape = [8, 8, 4]}
        : (vector<1x1xf64>, vector<1x1xf64>, vector<1x2xf64>)
        -> vector<1x2xf64>
    vector.store %d, %out[%zero, %zero] : memref<1x2xf64>, vector<1x2xf64>
    gpu.return
  }
}
