// RUN: moe-opt %s --convert-moe-to-linalg | FileCheck %s

// CHECK-LABEL: func @balance
// CHECK:         cf.assert %{{.*}}, "moe.aux_loss: the group offsets are empty"
// CHECK:         cf.assert %{{.*}}, "moe.aux_loss: the group offsets do not ascend from 0 to the number of tokens"
// CHECK:         scf.for {{.*}} -> (f32, i32)
// CHECK:           scf.if
// CHECK:         tensor.insert %{{.*}} into %{{.*}}[] : tensor<f32>
// CHECK-NOT:     moe.
func.func @balance(%scores: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                   %mask: tensor<?xi1>, %groups: tensor<?xi32>)
    -> tensor<f32> {
  %loss = moe.aux_loss <balance> %scores ids(%ids : tensor<?x2xi32>)
      mask(%mask : tensor<?xi1>) groups(%groups : tensor<?xi32>)
      coefficient 1.0e-02 : tensor<?x8xf32> -> tensor<f32>
  return %loss : tensor<f32>
}

// Without groups there is nothing to check.

// CHECK-LABEL: func @importance
// CHECK-NOT:     cf.assert
// CHECK:         tensor.insert %{{.*}} into %{{.*}}[] : tensor<f32>
// CHECK-NOT:     moe.
func.func @importance(%scores: tensor<?x8xf32>) -> tensor<f32> {
  %loss = moe.aux_loss <importance> %scores coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return %loss : tensor<f32>
}

// CHECK-LABEL: func @z
// CHECK:         math.isfinite
// CHECK:         math.exp
// CHECK:         math.log
// CHECK-NOT:     moe.
func.func @z(%logits: tensor<?x8xbf16>) -> tensor<f32> {
  %loss = moe.aux_loss <z> %logits coefficient 1.0
      : tensor<?x8xbf16> -> tensor<f32>
  return %loss : tensor<f32>
}
