// Whole layers, their kernels' own code one loop iteration a thread, against the
// oracle: dropped and empty assignments, tokens chosen by experts, groups that
// the host checks by numbers it copies back, and no tokens at all.

// DEFINE: %{finish} = convert-linalg-to-loops,moe-to-llvm
// DEFINE: %{run} = mlir-runner -e main -entry-point-result=void \
// DEFINE:   -shared-libs=%mlir_libs/libmlir_runner_utils.so \
// DEFINE:   -shared-libs=%mlir_libs/libmlir_c_runner_utils.so

// RUN: moe-opt %s --pass-pipeline='builtin.module(moe-to-routed{tile-size=1}, \
// RUN:   func.func(moe-lower-to-grouped{panels=false}, \
// RUN:     convert-moe-to-linalg{keep-primitives}),moe-to-buffers, \
// RUN:   func.func(convert-moe-to-gpu{batch-invariant}),canonicalize,cse, \
// RUN:   func.func(moe-split-host,moe-parallel-to-launch,test-launch-to-loops), \
// RUN:   %{finish})' -o %t.gpu.mlir
// RUN: %{run} %t.gpu.mlir > %t.gpu.txt
// RUN: moe-opt %s --pass-pipeline='builtin.module( \
// RUN:   func.func(convert-moe-to-loops),moe-to-buffers,%{finish})' -o %t.oracle.mlir
// RUN: %{run} %t.oracle.mlir > %t.oracle.txt
// Three layers of 70 tokens of 12 numbers, sums of terms of about 0.01 in f32.
// RUN: %python %S/Inputs/compare_prints.py %t.gpu.txt %t.oracle.txt 2520 1e-7 \
// RUN:   | FileCheck %s
// CHECK: 2520 numbers agree

func.func private @printMemrefF32(memref<*xf32>)

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

func.func private @top_k(%x: tensor<?x12xf32>, %router: tensor<7x12xf32>,
                         %up: tensor<7x18x12xf32>, %down: tensor<7x12x9xf32>,
                         %out: memref<?x12xf32>) {
  %logits = moe.gate %x, %router
      : (tensor<?x12xf32>, tensor<7x12xf32>) -> tensor<?x7xf32>
  %ids, %weights = moe.route #moe.dynamic_k<min = 1, max = 3> %logits
      : tensor<?x7xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 7
      : (tensor<?x12xf32>, tensor<?x3xi32>)
      -> (tensor<?x12xf32>, tensor<8xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<8xi32>)
      up(%up : tensor<7x18x12xf32>) down(%down : tensor<7x12x9xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x12xf32> -> tensor<?x12xf32>
  %y = moe.combine %h, %ids experts 7 weights(%weights : tensor<?x3xf32>)
      residual(%x : tensor<?x12xf32>)
      : (tensor<?x12xf32>, tensor<?x3xi32>) -> tensor<?x12xf32>
  bufferization.materialize_in_destination %y in restrict writable %out
      : (tensor<?x12xf32>, memref<?x12xf32>) -> ()
  return
}

func.func private @choice(%x: tensor<?x12xf32>, %router: tensor<7x12xf32>,
                          %up: tensor<7x18x12xf32>, %down: tensor<7x12x9xf32>,
                          %groups: tensor<?xi32>, %out: memref<?x12xf32>) {
  %zero = arith.constant 0 : index
  %tokens = tensor.dim %x, %zero : tensor<?x12xf32>
  %logits = moe.gate %x, %router
      : (tensor<?x12xf32>, tensor<7x12xf32>) -> tensor<?x7xf32>
  %ids, %weights = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.5>> %logits
      groups(%groups : tensor<?xi32>)
      : tensor<?x7xf32> -> tensor<7x?xi32>, tensor<7x?xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 7 chosen_by <expert>
      : (tensor<?x12xf32>, tensor<7x?xi32>)
      -> (tensor<?x12xf32>, tensor<8xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<8xi32>)
      up(%up : tensor<7x18x12xf32>) down(%down : tensor<7x12x9xf32>)
      gated activation #moe.activation<kind = gelu_tanh>
      layout <orientation = out_in> : tensor<?x12xf32> -> tensor<?x12xf32>
  %y = moe.combine %h, %ids experts 7 chosen_by <expert>
      weights(%weights : tensor<7x?xf32>) num_tokens(%tokens)
      : (tensor<?x12xf32>, tensor<7x?xi32>) -> tensor<?x12xf32>
  bufferization.materialize_in_destination %y in restrict writable %out
      : (tensor<?x12xf32>, memref<?x12xf32>) -> ()
  return
}

func.func private @capped(%x: tensor<?x12xf32>, %router: tensor<7x12xf32>,
                          %up: tensor<7x18x12xf32>, %down: tensor<7x12x9xf32>,
                          %out: memref<?x12xf32>) {
  %logits = moe.gate %x, %router
      : (tensor<?x12xf32>, tensor<7x12xf32>) -> tensor<?x7xf32>
  %all, %given = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x7xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %ids, %weights = moe.limit_capacity %all, %given experts 7
      by <factor = 0.8> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 7
      : (tensor<?x12xf32>, tensor<?x2xi32>)
      -> (tensor<?x12xf32>, tensor<8xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<8xi32>)
      up(%up : tensor<7x18x12xf32>) down(%down : tensor<7x12x9xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x12xf32> -> tensor<?x12xf32>
  %y = moe.combine %h, %ids experts 7 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x12xf32>, tensor<?x2xi32>) -> tensor<?x12xf32>
  bufferization.materialize_in_destination %y in restrict writable %out
      : (tensor<?x12xf32>, memref<?x12xf32>) -> ()
  return
}

func.func private @show(%y: memref<?x12xf32>) {
  %zero = arith.constant 0 : index
  %tokens = memref.dim %y, %zero : memref<?x12xf32>
  %some = arith.cmpi ne, %tokens, %zero : index
  // The printer reads a row where there is none.
  scf.if %some {
    %0 = memref.cast %y : memref<?x12xf32> to memref<*xf32>
    func.call @printMemrefF32(%0) : (memref<*xf32>) -> ()
  }
  return
}

func.func private @run(%tokens: index) {
  %x = tensor.generate %tokens {
  ^bb0(%t: index, %h: index):
    %0 = func.call @noise(%t, %h) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<?x12xf32>
  %router = tensor.generate {
  ^bb0(%e: index, %h: index):
    %0 = func.call @noise(%h, %e) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<7x12xf32>
  %up = tensor.generate {
  ^bb0(%e: index, %i: index, %h: index):
    %c31 = arith.constant 31 : index
    %1 = arith.muli %i, %c31 : index
    %2 = arith.addi %1, %h : index
    %0 = func.call @noise(%e, %2) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<7x18x12xf32>
  %down = tensor.generate {
  ^bb0(%e: index, %h: index, %i: index):
    %c37 = arith.constant 37 : index
    %1 = arith.muli %i, %c37 : index
    %2 = arith.addi %1, %h : index
    %0 = func.call @noise(%2, %e) : (index, index) -> f32
    tensor.yield %0 : f32
  } : tensor<7x12x9xf32>
  // One group with a token in seven, an empty one, the rest.
  %c7 = arith.constant 7 : index
  %part = arith.divui %tokens, %c7 : index
  %first = arith.index_cast %part : index to i32
  %last = arith.index_cast %tokens : index to i32
  %none = arith.constant 0 : i32
  %four = tensor.from_elements %none, %first, %first, %last : tensor<4xi32>
  %groups = tensor.cast %four : tensor<4xi32> to tensor<?xi32>
  %a = memref.alloc(%tokens) : memref<?x12xf32>
  %b = memref.alloc(%tokens) : memref<?x12xf32>
  %c = memref.alloc(%tokens) : memref<?x12xf32>
  call @top_k(%x, %router, %up, %down, %a)
      : (tensor<?x12xf32>, tensor<7x12xf32>, tensor<7x18x12xf32>,
         tensor<7x12x9xf32>, memref<?x12xf32>) -> ()
  call @choice(%x, %router, %up, %down, %groups, %b)
      : (tensor<?x12xf32>, tensor<7x12xf32>, tensor<7x18x12xf32>,
         tensor<7x12x9xf32>, tensor<?xi32>, memref<?x12xf32>) -> ()
  call @capped(%x, %router, %up, %down, %c)
      : (tensor<?x12xf32>, tensor<7x12xf32>, tensor<7x18x12xf32>,
         tensor<7x12x9xf32>, memref<?x12xf32>) -> ()
  call @show(%a) : (memref<?x12xf32>) -> ()
  call @show(%b) : (memref<?x12xf32>) -> ()
  call @show(%c) : (memref<?x12xf32>) -> ()
  return
}

func.func @main() {
  %c0 = arith.constant 0 : index
  %c70 = arith.constant 70 : index
  call @run(%c70) : (index) -> ()
  call @run(%c0) : (index) -> ()
  return
}
