// Every destination has a tensor of its own, empty or filled, as two results
// that shared one would share a buffer.
//
// RUN: moe-opt %s --moe-separate-destinations | FileCheck %s

#both = affine_map<(d0, d1) -> (d0, d1)>
#column = affine_map<(d0, d1) -> (d1)>

// CHECK-LABEL: func @sums
// CHECK-DAG:     %[[FIRST:.*]] = linalg.fill
// CHECK-DAG:     %[[SECOND:.*]] = linalg.fill
// CHECK-DAG:     linalg.generic {{.*}} outs(%[[FIRST]] :
// CHECK-DAG:     linalg.generic {{.*}} outs(%[[SECOND]] :
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

// Two results of one op, of which nobody reads the first.

// CHECK-LABEL: func @one_op
// CHECK-DAG:     %[[TOKEN:.*]] = tensor.empty() : tensor<6xi32>
// CHECK-DAG:     %[[SLOT:.*]] = tensor.empty() : tensor<6xi32>
// CHECK:         moe.group {{.*}} outs(%{{.*}}, %[[A:.*]], %{{.*}}, %[[B:.*]] :
// CHECK-NOT:     outs(%{{.*}}, %[[A]], %{{.*}}, %[[A]] :
func.func @one_op(%ids: tensor<3x2xi32>) -> tensor<6xi32> {
  %offsets = tensor.empty() : tensor<4xi32>
  %list = tensor.empty() : tensor<6xi32>
  %0:4 = moe.group ins(%ids : tensor<3x2xi32>)
      outs(%offsets, %list, %offsets, %list
           : tensor<4xi32>, tensor<6xi32>, tensor<4xi32>, tensor<6xi32>)
      chosen_by <token>
      -> tensor<4xi32>, tensor<6xi32>, tensor<4xi32>, tensor<6xi32>
  return %0#3 : tensor<6xi32>
}

// CHECK-LABEL: func @loop
// CHECK-COUNT-2: linalg.fill
// CHECK:         scf.for
func.func @loop(%n: index) -> (tensor<4xf32>, tensor<4xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4xf32>
  %none = linalg.fill ins(%zero : f32) outs(%empty : tensor<4xf32>)
      -> tensor<4xf32>
  %0:2 = scf.for %i = %c0 to %n step %c1
      iter_args(%a = %none, %b = %none) -> (tensor<4xf32>, tensor<4xf32>) {
    scf.yield %b, %a : tensor<4xf32>, tensor<4xf32>
  }
  return %0#0, %0#1 : tensor<4xf32>, tensor<4xf32>
}
