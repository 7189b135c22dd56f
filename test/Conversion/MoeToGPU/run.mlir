// The kernels' own code, one loop iteration a thread, against the oracle:
// blocks that are not full, masked tokens, a NaN, biases, groups of experts,
// bf16 rows, more experts than are summed at once, and no tokens at all.

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
// Ids and weights of 300 tokens with 2 slots and of 300 with 8.
// RUN: %python %S/Inputs/compare_prints.py %t.gpu.txt %t.oracle.txt 6000 \
// RUN:   | FileCheck %s
// CHECK: 6000 numbers agree

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

func.func private @softmax(%x: tensor<?x40xf32>, %w: tensor<8x40xf32>,
                           %b: tensor<8xf32>, %mask: tensor<?xi1>,
                           %ids: memref<?x2xi32>, %weights: memref<?x2xf32>) {
  %logits = moe.gate %x, %w bias(%b : tensor<8xf32>)
      : (tensor<?x40xf32>, tensor<8x40xf32>) -> tensor<?x8xf32>
  %0, %1 = moe.route #moe.top_k<k = 2, normalize = sum> %logits
      mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %0 in restrict writable %ids
      : (tensor<?x2xi32>, memref<?x2xi32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %weights
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

func.func private @grouped(%x: tensor<?x24xbf16>, %w: tensor<40x24xf32>,
                           %b: tensor<40xf32>, %s: tensor<40xf32>,
                           %ids: memref<?x8xi32>, %weights: memref<?x8xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x24xbf16>, tensor<40x24xf32>) -> tensor<?x40xf32>
  %0, %1 = moe.route
      #moe.top_k<k = 8, score = sigmoid, groups = 4, kept_groups = 2,
                 group_score = top2sum, normalize = sum, eps = 1.0e-20,
                 scale = 2.5>
      %logits bias(%b : tensor<40xf32>) expert_scale(%s : tensor<40xf32>)
      : tensor<?x40xf32> -> tensor<?x8xi32>, tensor<?x8xf32>
  bufferization.materialize_in_destination %0 in restrict writable %ids
      : (tensor<?x8xi32>, memref<?x8xi32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %weights
      : (tensor<?x8xf32>, memref<?x8xf32>) -> ()
  return
}

func.func private @run_softmax(%tokens: index) {
  %x = tensor.generate %tokens {
  ^bb0(%t: index, %h: index):
    %0 = func.call @noise(%t, %h) : (index, index) -> f32
    %c7 = arith.constant 7 : index
    %c3 = arith.constant 3 : index
    %nan = arith.constant 0x7FC00000 : f32
    %1 = arith.cmpi eq, %t, %c7 : index
    %2 = arith.cmpi eq, %h, %c3 : index
    %3 = arith.andi %1, %2 : i1
    %4 = arith.select %3, %nan, %0 : f32
    tensor.yield %4 : f32
  } : tensor<?x40xf32>
  %mask = tensor.generate %tokens {
  ^bb0(%t: index):
    %c5 = arith.constant 5 : index
    %c0 = arith.constant 0 : index
    %0 = arith.remui %t, %c5 : index
    %1 = arith.cmpi ne, %0, %c0 : index
    tensor.yield %1 : i1
  } : tensor<?xi1>
  %w = tensor.generate {
  ^bb0(%e: index, %h: index):
    %0 = func.call @noise(%h, %e) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<8x40xf32>
  %b = arith.constant dense<[0.1, -0.2, 0.3, 0.0, 0.05, -0.1, 0.2, 0.15]>
      : tensor<8xf32>
  %ids = memref.alloc(%tokens) : memref<?x2xi32>
  %weights = memref.alloc(%tokens) : memref<?x2xf32>
  call @softmax(%x, %w, %b, %mask, %ids, %weights)
      : (tensor<?x40xf32>, tensor<8x40xf32>, tensor<8xf32>, tensor<?xi1>,
         memref<?x2xi32>, memref<?x2xf32>) -> ()
  %none = arith.constant 0 : index
  %some = arith.cmpi ne, %tokens, %none : index
  // The printer reads a row where there is none.
  scf.if %some {
    %0 = memref.cast %ids : memref<?x2xi32> to memref<*xi32>
    func.call @printMemrefI32(%0) : (memref<*xi32>) -> ()
    %1 = memref.cast %weights : memref<?x2xf32> to memref<*xf32>
    func.call @printMemrefF32(%1) : (memref<*xf32>) -> ()
  }
  return
}

func.func private @run_grouped(%tokens: index) {
  %x = tensor.generate %tokens {
  ^bb0(%t: index, %h: index):
    %0 = func.call @noise(%t, %h) : (index, index) -> f32
    %1 = arith.truncf %0 : f32 to bf16
    tensor.yield %1 : bf16
  } : tensor<?x24xbf16>
  %w = tensor.generate {
  ^bb0(%e: index, %h: index):
    %0 = func.call @noise(%h, %e) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<40x24xf32>
  %b = tensor.generate {
  ^bb0(%e: index):
    %0 = func.call @noise(%e, %e) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<40xf32>
  %s = tensor.generate {
  ^bb0(%e: index):
    %c1 = arith.constant 1 : index
    %0 = func.call @noise(%c1, %e) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<40xf32>
  %ids = memref.alloc(%tokens) : memref<?x8xi32>
  %weights = memref.alloc(%tokens) : memref<?x8xf32>
  call @grouped(%x, %w, %b, %s, %ids, %weights)
      : (tensor<?x24xbf16>, tensor<40x24xf32>, tensor<40xf32>, tensor<40xf32>,
         memref<?x8xi32>, memref<?x8xf32>) -> ()
  %0 = memref.cast %ids : memref<?x8xi32> to memref<*xi32>
  call @printMemrefI32(%0) : (memref<*xi32>) -> ()
  %1 = memref.cast %weights : memref<?x8xf32> to memref<*xf32>
  call @printMemrefF32(%1) : (memref<*xf32>) -> ()
  return
}

func.func @main() {
  %c0 = arith.constant 0 : index
  %c300 = arith.constant 300 : index
  call @run_softmax(%c300) : (index) -> ()
  call @run_grouped(%c300) : (index) -> ()
  call @run_softmax(%c0) : (index) -> ()
  return
}
