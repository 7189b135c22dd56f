// The inference of the routers of two experts as kernels, one loop iteration a
// thread, against the oracle: a NaN, and seconds that a policy drops.

// DEFINE: %{finish} = convert-linalg-to-loops,moe-to-llvm
// DEFINE: %{run} = mlir-runner -e main -entry-point-result=void \
// DEFINE:   -shared-libs=%mlir_libs/libmlir_runner_utils.so \
// DEFINE:   -shared-libs=%mlir_libs/libmlir_c_runner_utils.so

// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-to-routed{tile-size=1}, \
// RUN:   func.func(moe-lower-to-grouped{panels=false}, \
// RUN:     convert-moe-to-linalg{keep-primitives}),moe-to-buffers, \
// RUN:   func.func(convert-moe-to-gpu),canonicalize,cse, \
// RUN:   func.func(moe-split-host,moe-parallel-to-launch,test-launch-to-loops), \
// RUN:   %{finish})' -o %t.gpu.mlir
// RUN: %{run} %t.gpu.mlir > %t.gpu.txt
// RUN: moe-opt %s --pass-pipeline='builtin.module( \
// RUN:   func.func(convert-moe-to-loops),moe-to-buffers,%{finish})' -o %t.oracle.mlir
// RUN: %{run} %t.oracle.mlir > %t.oracle.txt
// Ids and weights of 300 tokens with 2 slots, twice.
// RUN: %python %S/Inputs/compare_prints.py %t.gpu.txt %t.oracle.txt 2400 \
// RUN:   | FileCheck %s
// CHECK: 2400 numbers agree

func.func private @printMemrefF32(memref<*xf32>)
func.func private @printMemrefI32(memref<*xi32>)

// Numbers in [-0.5, 0.5) that repeat late.
func.func private @noise(%row: index, %column: index) -> f32 {
  %a = arith.constant 7919 : index
  %b = arith.constant 104729 : index
  %c = arith.constant 1009 : index
  %0 = arith.muli %row, %a : index
  %1 = arith.addi %column, %a : index
  %2 = arith.muli %1, %1 : index
  %3 = arith.muli %2, %b : index
  %4 = arith.addi %0, %3 : index
  %5 = arith.muli %4, %4 : index
  %6 = arith.remui %5, %c : index
  %7 = arith.index_cast %6 : index to i32
  %8 = arith.sitofp %7 : i32 to f32
  %scale = arith.constant 9.910802e-04 : f32
  %half = arith.constant 5.0e-01 : f32
  %9 = arith.mulf %8, %scale : f32
  %10 = arith.subf %9, %half : f32
  return %10 : f32
}

func.func private @gshard(%x: tensor<?x40xf32>, %w: tensor<9x40xf32>,
                          %ids: memref<?x2xi32>, %weights: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x40xf32>, tensor<9x40xf32>) -> tensor<?x9xf32>
  %0, %1 = moe.route #moe.gshard<policy = threshold, threshold = 0.15,
                                   normalize = after, eps = 1.0e-6> %logits
      : tensor<?x9xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %0 in restrict writable %ids
      : (tensor<?x2xi32>, memref<?x2xi32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %weights
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

func.func private @sparse_mixer(%x: tensor<?x40xf32>, %w: tensor<9x40xf32>,
                                %ids: memref<?x2xi32>, %weights: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x40xf32>, tensor<9x40xf32>) -> tensor<?x9xf32>
  %0, %1 = moe.route #moe.sparse_mixer<eps = 0.1> %logits
      : tensor<?x9xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %0 in restrict writable %ids
      : (tensor<?x2xi32>, memref<?x2xi32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %weights
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

func.func private @print(%ids: memref<?x2xi32>, %weights: memref<?x2xf32>) {
  %0 = memref.cast %ids : memref<?x2xi32> to memref<*xi32>
  call @printMemrefI32(%0) : (memref<*xi32>) -> ()
  %1 = memref.cast %weights : memref<?x2xf32> to memref<*xf32>
  call @printMemrefF32(%1) : (memref<*xf32>) -> ()
  return
}

func.func @main() {
  %tokens = arith.constant 300 : index
  %x = tensor.generate %tokens {
  ^bb0(%t: index, %h: index):
    %0 = func.call @noise(%t, %h) : (index, index) -> f32
    %c7 = arith.constant 7 : index
    %nan = arith.constant 0x7FC00000 : f32
    %1 = arith.cmpi eq, %t, %c7 : index
    %2 = arith.select %1, %nan, %0 : f32
    tensor.yield %2 : f32
  } : tensor<?x40xf32>
  %w = tensor.generate {
  ^bb0(%e: index, %h: index):
    %0 = func.call @noise(%h, %e) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<9x40xf32>
  %ids = memref.alloc(%tokens) : memref<?x2xi32>
  %weights = memref.alloc(%tokens) : memref<?x2xf32>
  call @gshard(%x, %w, %ids, %weights)
      : (tensor<?x40xf32>, tensor<9x40xf32>, memref<?x2xi32>,
         memref<?x2xf32>) -> ()
  call @print(%ids, %weights) : (memref<?x2xi32>, memref<?x2xf32>) -> ()
  call @sparse_mixer(%x, %w, %ids, %weights)
      : (tensor<?x40xf32>, tensor<9x40xf32>, memref<?x2xi32>,
         memref<?x2xf32>) -> ()
  call @print(%ids, %weights) : (memref<?x2xi32>, memref<?x2xf32>) -> ()
  return
}
