// Every destination has a tensor of its own, empty or filled, as two results
// that shared one would share a buffer.
//
// RUN: moe-opt %s --moe-lower-to-grouped | FileCheck %s

#both = affine_map<(d0, d1) -> (d0, d1)>
#column = affine_map<(d0, d1) -> (d1)>

// CHECK-LABEL: func @sums
// CHECK-DAG:     %[[FIRST:.*]] = linalg.fill {{.*}} -> tensor<4xf32>
// CHECK-DAG:     %[[SECOND:.*]] = linalg.fill {{.*}} -> tensor<4xf32>
// CHECK:         linalg.generic {{.*}} outs(%[[A:.*]] : tensor<4xf32>)
// CHECK-NOT:     outs(%[[A]] : tensor<4xf32>)
// CHECK:         return
func.func @sums(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>)
    -> (tensor<4xf32>, tensor<4xf32>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4xf32>
  %none = linalg.fill ins(%zero : f32) outs(%empty : tensor<4xf32>)
      -> tensor<4xf32>
  %a = linalg.generic {indexing_maps = [#both, #column],
                       iterator_types = ["reduction", "parallel"]}
      ins(%x : tensor<?x4xf32>) outs(%none : tensor<4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %sum = arith.addf %out, %in : f32
    linalg.yield %sum : f32
  } -> tensor<4xf32>
  %b = linalg.generic {indexing_maps = [#both, #column],
                       iterator_types = ["reduction", "parallel"]}
      ins(%y : tensor<?x4xf32>) outs(%none : tensor<4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %sum = arith.addf %out, %in : f32
    linalg.yield %sum : f32
  } -> tensor<4xf32>
  return %a, %b : tensor<4xf32>, tensor<4xf32>
}
