// The gradients of a layer whose router draws, down to PTX: one kernel for each
// parallel loop. Nothing is atomic, nothing calls a library.

// REQUIRES: nvptx
// RUN: moe-opt %s --moe-generate-vjp --moe-gpu=chip=sm_80 -o %t.mlir
// RUN: FileCheck %s --input-file=%t.mlir
// RUN: FileCheck %s --input-file=%t.mlir --check-prefix=NOT

// CHECK-LABEL: func.func @layer_fwd
// CHECK-COUNT-8: gpu.launch_func
// CHECK-LABEL: func.func @layer_bwd
// CHECK-COUNT-20: gpu.launch_func
// CHECK: gpu.binary @kernels
// CHECK-SAME: .target sm_80
// NOT-NOT: .extern
// NOT-NOT: atom.
// NOT-NOT: {{[^a-z]}}red.{{(global|shared)}}

func.func @layer(
    %x: tensor<?x32xbf16> {moe.name = "x"},
    %router: tensor<8x32xf32> {moe.name = "router"},
    %gate_up: tensor<8x48x32xbf16> {moe.name = "gate_up"},
    %down: tensor<8x32x24xbf16> {moe.name = "down"},
    %random: tensor<3xi64> {moe.name = "random"})
    -> (tensor<?x32xbf16> {moe.name = "y"}) attributes {moe.entry} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %seed = tensor.extract %random[%c0] : tensor<3xi64>
  %layer = tensor.extract %random[%c1] : tensor<3xi64>
  %first = tensor.extract %random[%c2] : tensor<3xi64>
  %logits = moe.gate %x, %router
      : (tensor<?x32xbf16>, tensor<8x32xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.dynamic_k<min = 1, max = 3> %logits
      training(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x32xbf16>, tensor<?x3xi32>)
      -> (tensor<?x32xbf16>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%gate_up : tensor<8x48x32xbf16>) down(%down : tensor<8x32x24xbf16>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x32xbf16> -> tensor<?x32xbf16>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x3xf32>)
      : (tensor<?x32xbf16>, tensor<?x3xi32>) -> tensor<?x32xbf16>
  return %y : tensor<?x32xbf16>
}
