// RUN: moe-opt %s --split-input-file --convert-moe-to-loops | FileCheck %s

// CHECK-LABEL: func @hash(
// CHECK:         cf.assert %{{.+}}, "moe.route_hash: a token id is not in the table"
// CHECK:         cf.assert %{{.+}}, "moe.route_hash: the table names an expert out of range"
// CHECK:         memref.alloc
// CHECK-NOT:     moe.
func.func @hash(%t: tensor<?xi32>, %table: tensor<9x2xi32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route_hash %t, %table experts 8
      : tensor<?xi32>, tensor<9x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// The rules compute in f64, whatever is stored.
// CHECK-LABEL: func @routers(
// CHECK:         math.exp %{{.+}} : f64
// CHECK-NOT:     moe.
func.func @routers(%x: tensor<?x5xf32>, %s: i64)
    -> (tensor<?x2xi32>, tensor<?x2xi32>, tensor<?x5xf32>) {
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x5xf32> -> tensor<?x5xf32>
  %a:2 = moe.route #moe.gshard<policy = sampling> %y training(%s, %s, %s)
      : tensor<?x5xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %b:2 = moe.route #moe.sparse_mixer<> %y training(%s, %s, %s)
      : tensor<?x5xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %a#0, %b#0, %y : tensor<?x2xi32>, tensor<?x2xi32>, tensor<?x5xf32>
}
