// RUN: moe-opt %s --split-input-file \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --implicit-check-not='{{ moe[.]}}'

// The sum runs over H, the bias is added to it, and one store rounds.

// CHECK-LABEL: func @gate(
// CHECK:         memref.alloc(%{{.*}}) : memref<?x8xbf16>
// CHECK:         scf.for
// CHECK:           scf.for
// CHECK:             %[[SUM:.*]] = scf.for {{.*}} iter_args(%{{.*}}) -> (f32)
// CHECK:             %[[ALL:.*]] = arith.addf %[[SUM]], %{{.*}} : f32
// CHECK:             arith.truncf %[[ALL]] : f32 to bf16
// CHECK:         bufferization.to_tensor {{.*}} restrict :
func.func @gate(%x: tensor<?x64xbf16>, %w: tensor<8x64xf32>,
                %b: tensor<8xf32>) -> tensor<?x8xbf16> {
  %0 = moe.gate %x, %w bias(%b : tensor<8xf32>)
      : (tensor<?x64xbf16>, tensor<8x64xf32>) -> tensor<?x8xbf16>
  return %0 : tensor<?x8xbf16>
}

// -----

// CHECK-LABEL: func @score_f64(
// CHECK-NOT:     f32
// CHECK:         math.tanh {{.*}} : f64
// CHECK:         math.log1p {{.*}} : f64
// CHECK:         return
func.func @score_f64(%logits: tensor<?x8xf64>) -> tensor<?x8xf64> {
  %0 = moe.score %logits by sqrt_softplus {softcap = 30.0 : f64}
      : tensor<?x8xf64> -> tensor<?x8xf64>
  return %0 : tensor<?x8xf64>
}

// -----

// Given ids are checked, all of them, before one is used to read.

// CHECK-LABEL: func @indices(
// CHECK-SAME:    %[[LOGITS:.*]]: tensor<?x8xf32>,
// CHECK-NOT:     to_buffer %[[LOGITS]]
// CHECK:         cf.assert %{{.*}}, "moe.route: a given index is no expert and not -1"
// CHECK:         to_buffer %[[LOGITS]]
func.func @indices(%logits: tensor<?x8xf32>, %given: tensor<?x2xi32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %w = moe.route #moe.top_k<k = 2> %logits
      indices(%given : tensor<?x2xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %w : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Without given ids nothing can go wrong.

// CHECK-LABEL: func @choice(
// CHECK-NOT:     cf.assert
// CHECK:         return
func.func @choice(%logits: tensor<?x8xf32>, %mask: tensor<?xi1>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %w = moe.route #moe.top_k<k = 2> %logits mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %w : tensor<?x2xi32>, tensor<?x2xf32>
}
