// RUN: moe-opt %s --split-input-file \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --implicit-check-not='{{ moe[.]}}'

// The destination is copied, since rows past the last offset keep their value;
// the epilogue stands in the innermost loop.

// CHECK-LABEL: func @grouped_matmul(
// CHECK-SAME:    %[[INIT:[a-z0-9]+]]: tensor<?x4xbf16>)
// CHECK:         %[[FROM:.*]] = bufferization.to_buffer %[[INIT]] read_only
// CHECK:         %[[OUT:.*]] = memref.alloc({{.*}}) : memref<?x4xbf16>
// CHECK:         %[[OLD:.*]] = memref.load %[[FROM]]
// CHECK:         memref.store %[[OLD]], %[[OUT]]
// CHECK:         %[[SUM:.*]] = scf.for {{.*}} -> (f32)
// CHECK:         %[[ACT:.*]] = math.tanh %[[SUM]] : f32
// CHECK:         %[[ROUNDED:.*]] = arith.truncf %[[ACT]] : f32 to bf16
// CHECK:         memref.store %[[ROUNDED]], %[[OUT]]
func.func @grouped_matmul(%x: tensor<?x8xbf16>, %offsets: tensor<3xi32>,
                          %w: tensor<2x4x8xbf16>, %init: tensor<?x4xbf16>)
    -> tensor<?x4xbf16> {
  %0 = moe.grouped_matmul %x offsets(%offsets : tensor<3xi32>)
      weights(%w : tensor<2x4x8xbf16>) outs(%init : tensor<?x4xbf16>)
      : tensor<?x8xbf16> -> tensor<?x4xbf16> {
  ^bb0(%acc: f32):
    %act = math.tanh %acc : f32
    moe.yield %act : f32
  }
  return %0 : tensor<?x4xbf16>
}

// -----

// On memrefs the destinations are written in place.

// CHECK-LABEL: func @top_k(
// CHECK-SAME:    %[[X:.*]]: memref<?x8xf32>, %[[V:.*]]: memref<?x2xf32>,
// CHECK-SAME:    %[[I:.*]]: memref<?x2xi32>)
// CHECK-NOT:     bufferization
// CHECK:         memref.store %{{.*}}, %[[V]]
// CHECK:         memref.store %{{.*}}, %[[I]]
func.func @top_k(%x: memref<?x8xf32>, %v: memref<?x2xf32>,
                 %i: memref<?x2xi32>) {
  moe.top_k ins(%x : memref<?x8xf32>)
      outs(%v, %i : memref<?x2xf32>, memref<?x2xi32>)
  return
}

// -----

// CHECK-LABEL: func @group_and_combine(
// CHECK-COUNT-5: bufferization.to_tensor
// CHECK:         bufferization.to_tensor {{.*}} : memref<?x4xf64>
func.func @group_and_combine(
    %ids: tensor<?x2xi32>, %w: tensor<?x2xf64>, %rows: tensor<?x4xf64>,
    %o: tensor<9xi32>, %t: tensor<?xi32>, %f: tensor<?xi32>, %s: tensor<?xi32>,
    %wo: tensor<?xf64>, %init: tensor<?x4xf64>) -> tensor<?x4xf64> {
  %offsets, %token, %first, %slot, %weight = moe.group
      ins(%ids, %w : tensor<?x2xi32>, tensor<?x2xf64>)
      outs(%o, %t, %f, %s, %wo : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>,
           tensor<?xi32>, tensor<?xf64>) chosen_by <token>
      -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>,
         tensor<?xf64>
  %y = moe.combine_slots %rows, %first, %slot weight(%weight : tensor<?xf64>)
      outs(%init : tensor<?x4xf64>)
      : tensor<?x4xf64>, tensor<?xi32>, tensor<?xi32> -> tensor<?x4xf64>
  return %y : tensor<?x4xf64>
}
