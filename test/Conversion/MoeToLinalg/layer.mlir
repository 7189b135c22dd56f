// RUN: moe-opt %s --convert-moe-to-linalg | FileCheck %s

// A whole layer: nothing of the dialect is left, and nothing is dense in
// tokens and experts but the logits.

// CHECK-LABEL: func @layer
// CHECK-NOT:   moe.
// CHECK:       %[[LOGITS:.+]] = linalg.matmul
// CHECK:       tensor.dim %[[LOGITS]]
// CHECK-NOT:   tensor.empty({{.*}}) : tensor<?x8x
// CHECK-NOT:   tensor<8x?x
// CHECK-NOT:   moe.
// CHECK:       return
func.func @layer(%x: tensor<?x64xf32>, %router: tensor<8x64xf32>,
                 %gate_up: tensor<8x256x64xf32>, %down: tensor<8x64x128xf32>)
    -> tensor<?x64xf32> {
  %logits = moe.gate %x, %router
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, normalize = sum> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%gate_up : tensor<8x256x64xf32>) down(%down : tensor<8x64x128xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x64xf32> -> tensor<?x64xf32>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
