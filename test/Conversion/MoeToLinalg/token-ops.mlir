// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg | FileCheck %s

// Both checks stand in front of what is written.
// CHECK-LABEL: func @hash(
// CHECK-SAME:    %[[T:[a-z0-9]+]]: tensor<?xi32>, %[[TABLE:[a-z0-9]+]]: tensor<?x2xi32>
// CHECK:         linalg.generic {{.*}} ins(%[[T]] : tensor<?xi32>)
// CHECK:         cf.assert %{{.+}}, "moe.route_hash: a token id is not in the table"
// CHECK:         linalg.generic {{.*}} ins(%[[T]] : tensor<?xi32>)
// CHECK-COUNT-2:   tensor.extract %[[TABLE]]
// CHECK:         cf.assert %{{.+}}, "moe.route_hash: the table names an expert out of range"
// CHECK:         scf.for
// CHECK:           tensor.extract %[[TABLE]]
// CHECK-NOT:     moe.
func.func @hash(%t: tensor<?xi32>, %table: tensor<?x2xi32>,
                %mask: tensor<?xi1>) -> (tensor<?x2xi32>, tensor<?x2xbf16>) {
  %ids, %weights = moe.route_hash %t, %table experts 8
      mask(%mask : tensor<?xi1>)
      : tensor<?xi32>, tensor<?x2xi32> -> tensor<?x2xi32>, tensor<?x2xbf16>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xbf16>
}

// -----

// CHECK-LABEL: func @jitter(
// CHECK:         scf.for
// CHECK:           arith.mului_extended
// CHECK-NOT:     moe.
func.func @jitter(%x: tensor<?x6xf32>, %s: i64) -> tensor<?x6xf32> {
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x6xf32> -> tensor<?x6xf32>
  return %y : tensor<?x6xf32>
}

// -----

// Sums in f32, one rounding; without `normalize` nothing is divided.
// CHECK-LABEL: func @normalize(
// CHECK:         %[[EPS:.+]] = arith.constant 9.99999971E-10 : f32
// CHECK:         arith.maximumf %{{.+}}, %[[EPS]] : f32
// CHECK:         arith.divf %{{.+}} : f32
// CHECK:         arith.truncf %{{.+}} : f32 to bf16
// CHECK-LABEL: func @plain(
// CHECK-NOT:     arith.divf %{{.+}} : f32
// CHECK:         return
func.func @normalize(%ids: tensor<?x2xi32>, %w: tensor<?x2xbf16>)
    -> (tensor<?x2xi32>, tensor<?x2xbf16>) {
  %0:2 = moe.limit_capacity %ids, %w experts 8 by #moe.capacity<fixed = 3>
      queue <first_come> normalize 1.0e-9 : tensor<?x2xi32>, tensor<?x2xbf16>
  return %0#0, %0#1 : tensor<?x2xi32>, tensor<?x2xbf16>
}
func.func @plain(%ids: tensor<?x2xi32>, %w: tensor<?x2xbf16>)
    -> (tensor<?x2xi32>, tensor<?x2xbf16>) {
  %0:2 = moe.limit_capacity %ids, %w experts 8 by #moe.capacity<fixed = 3>
      queue <first_come> : tensor<?x2xi32>, tensor<?x2xbf16>
  return %0#0, %0#1 : tensor<?x2xi32>, tensor<?x2xbf16>
}
