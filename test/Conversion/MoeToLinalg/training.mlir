// RUN: moe-opt %s --convert-moe-to-linalg | FileCheck %s --implicit-check-not='{{ moe[.]}}'
// RUN: moe-opt %s \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --check-prefix=LOOPS --implicit-check-not='{{ moe[.]}}'

// The two thresholds are the third and the second place of three kept keys.

// CHECK-LABEL: func @load
// CHECK:         math.erfc
// CHECK:         tensor.insert %{{.*}} into %{{.*}}[] : tensor<f32>
// LOOPS-LABEL: func.func @load
// LOOPS:         math.erfc
func.func @load(%x: tensor<?x8xf32>, %noisy: tensor<?x8xf32>,
                %sigma: tensor<?x8xf32>) -> tensor<f32> {
  %loss = moe.load_loss <kth_excluding> %x, %noisy
      sigma(%sigma : tensor<?x8xf32>) k 2 coefficient 1.0
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<f32>
  return %loss : tensor<f32>
}

// One number a token: draws come four at a time.

// CHECK-LABEL: func @noise
// CHECK:         scf.for
// CHECK:         arith.mului_extended
// CHECK:         math.log1p
// LOOPS-LABEL: func.func @noise
// LOOPS:         math.log1p
func.func @noise(%x: tensor<?x8xf32>, %raw: tensor<?x8xf32>, %seed: i64)
    -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0:2 = moe.noisy_logits <learned> %x noise(%raw : tensor<?x8xf32>)
      draw(%seed, %seed, %seed)
      : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
  return %0#0, %0#1 : tensor<?x8xf32>, tensor<?x8xf32>
}

// Counts meet their mean in f64, whatever the bias is.

// CHECK-LABEL: func @bias
// CHECK:         tensor.insert %{{.*}} : tensor<8xi32>
// CHECK:         arith.sitofp %{{.*}} : i32 to f64
// CHECK:         linalg.generic
// CHECK:         arith.cmpf ogt, %{{.*}} : f64
// LOOPS-LABEL: func.func @bias
// LOOPS:         arith.cmpf ogt, %{{.*}} : f64
func.func @bias(%ids: tensor<?x2xi32>, %bias: tensor<8xf32>) -> tensor<8xf32> {
  %counts = moe.expert_load %ids : tensor<?x2xi32> -> tensor<8xi32>
  %new = moe.update_bias %bias, %counts rate 1.0e-3
      : tensor<8xf32>, tensor<8xi32> -> tensor<8xf32>
  return %new : tensor<8xf32>
}

// k of all: nothing is outside.

// CHECK-LABEL: func @all
// CHECK-NOT:     arith.bitcast
// CHECK:         return
// LOOPS-LABEL: func.func @all
func.func @all(%x: tensor<?x8xf32>) -> tensor<f32> {
  %loss = moe.aux_loss <trimmed_lasso> %x k 8 coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return %loss : tensor<f32>
}

// The sweeps of a capped choice are in f64 for any logits.

// CHECK-LABEL: func @capped
// CHECK:         scf.for {{.*}} -> (tensor<?x8xf64>, tensor<?xf64>, tensor<?x8xf64>)
// CHECK:           arith.minimumf {{.*}} : f64
// CHECK:         arith.truncf %{{.*}} : f64 to f32
// LOOPS-LABEL: func.func @capped
// LOOPS:         arith.truncf %{{.*}} : f64 to f32
func.func @capped(%x: tensor<?x8xf32>) -> (tensor<8x4xi32>, tensor<8x4xf32>) {
  %0:2 = moe.route_experts #moe.expert_choice<capacity = <fixed = 4>, cap = 2.0>
      %x : tensor<?x8xf32> -> tensor<8x4xi32>, tensor<8x4xf32>
  return %0#0, %0#1 : tensor<8x4xi32>, tensor<8x4xf32>
}
