// RUN: moe-opt %s \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --implicit-check-not='{{ moe[.]}}'

// CHECK-LABEL: func @losses(
// CHECK:         memref.alloc() : memref<f32>
// CHECK:         memref.alloc() : memref<f32>
// CHECK:         math.log
// CHECK:         cf.assert %{{.*}}, "moe.aux_loss: group offsets do not ascend from 0 to the number of tokens"
// CHECK:         arith.divf {{.*}} : f64
// CHECK:         arith.truncf {{.*}} : f64 to f32
func.func @losses(%scores: tensor<?x8xf32>, %wide: tensor<?x8xf64>,
                  %ids: tensor<?x2xi32>, %mask: tensor<?xi1>,
                  %groups: tensor<?xi32>)
    -> (tensor<f32>, tensor<f32>, tensor<f32>) {
  %0 = moe.aux_loss <balance> %scores ids(%ids : tensor<?x2xi32>)
      coefficient 1.0e-2 : tensor<?x8xf32> -> tensor<f32>
  %1 = moe.aux_loss <z> %scores mask(%mask : tensor<?xi1>)
      coefficient 1.0e-4 : tensor<?x8xf32> -> tensor<f32>
  %2 = moe.aux_loss <importance> %wide groups(%groups : tensor<?xi32>)
      coefficient 1.0e-2 : tensor<?x8xf64> -> tensor<f32>
  return %0, %1, %2 : tensor<f32>, tensor<f32>, tensor<f32>
}
