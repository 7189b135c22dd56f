// RUN: moe-opt %s --split-input-file \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --implicit-check-not='{{ moe[.]}}'

// CHECK-LABEL: func @grouped_outer(
// CHECK:         %[[SUM:.*]] = scf.for {{.*}} -> (f32)
// CHECK:         %[[ROUNDED:.*]] = arith.truncf %[[SUM]] : f32 to bf16
// CHECK:         memref.store %[[ROUNDED]]
func.func @grouped_outer(%x: tensor<?x6xbf16>, %y: tensor<?x4xf32>,
                         %r: tensor<?xi32>, %o: tensor<3xi32>,
                         %init: tensor<2x6x4xbf16>) -> tensor<2x6x4xbf16> {
  %0 = moe.grouped_outer %x rows(%r : tensor<?xi32>)
      by %y rows(%r : tensor<?xi32>) offsets(%o : tensor<3xi32>)
      outs(%init : tensor<2x6x4xbf16>)
      : tensor<?x6xbf16>, tensor<?x4xf32> -> tensor<2x6x4xbf16>
  return %0 : tensor<2x6x4xbf16>
}

// -----

// CHECK-LABEL: func @grouped_matmul(
// CHECK-COUNT-2: scf.for {{.*}} -> (f32)
// CHECK:         memref.store %{{.*}} : memref<?x6xf32>
// CHECK:         memref.store %{{.*}} : memref<?x6xbf16>
func.func @grouped_matmul(%a: tensor<?x4xf32>, %w: tensor<1x6x4xf32>,
                          %v: tensor<?xf32>, %y: tensor<?x6xf32>,
                          %z: tensor<?x6xbf16>)
    -> (tensor<?x6xf32>, tensor<?x6xbf16>) {
  %0:2 = moe.grouped_matmul %a, %a
      weights(%w, %w : tensor<1x6x4xf32>, tensor<1x6x4xf32>)
      elements(%y : tensor<?x6xf32>) row_values(%v : tensor<?xf32>)
      outs(%y, %z : tensor<?x6xf32>, tensor<?x6xbf16>)
      : tensor<?x4xf32>, tensor<?x4xf32>
      -> tensor<?x6xf32>, tensor<?x6xbf16> {
  ^bb0(%p: f32, %q: f32, %r: f32, %s: f32):
    %0 = arith.mulf %r, %s : f32
    moe.yield %0, %q : f32, f32
  }
  return %0#0, %0#1 : tensor<?x6xf32>, tensor<?x6xbf16>
}

// -----

// CHECK-LABEL: func @slot_dots(
// CHECK:         scf.for {{.*}} -> (f32)
func.func @slot_dots(%rows: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                     %y: tensor<?x64xf32>) -> tensor<?x2xf32> {
  %d = moe.slot_dots %rows, %ids experts 8 tokens(%y : tensor<?x64xf32>)
      identity(%y : tensor<?x64xf32>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return %d : tensor<?x2xf32>
}

// -----

// A token's body, in the type of the values.
// CHECK-LABEL: func @token_ops(
// CHECK:         math.exp %{{.+}} : f32
// CHECK:         math.log1p %{{.+}} : f32
func.func @token_ops(%x: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                     %w: tensor<?x2xf32>)
    -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %ids, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  %1 = moe.score_vjp %x by sqrt_softplus cotangent(%0 : tensor<?x8xf32>)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return %0, %1 : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----

// CHECK-LABEL: func @keeping(
// CHECK-COUNT-2: bufferization.to_tensor
func.func @keeping(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
                   %down: tensor<1x4x6xf32>)
    -> (tensor<?x4xf32>, tensor<?x6xf32>) {
  %0:2 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32> keeping tensor<?x6xf32>
  return %0#0, %0#1 : tensor<?x4xf32>, tensor<?x6xf32>
}
