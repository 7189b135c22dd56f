// RUN: moe-opt %s --moe-align-workgroup | FileCheck %s

// CHECK:      gpu.func @kernel
// CHECK-SAME:   workgroup(%{{.+}} : memref<3xf16, #gpu.address_space<workgroup>> {llvm.align = 16 : i64}, %{{.+}} : memref<8xf32, #gpu.address_space<workgroup>> {llvm.align = 16 : i64})
gpu.module @kernels {
  gpu.func @kernel()
      workgroup(%a : memref<3xf16, #gpu.address_space<workgroup>>,
                %b : memref<8xf32, #gpu.address_space<workgroup>>) kernel {
    gpu.return
  }
}
