// RUN: moe-opt %s --split-input-file --moe-lower-routing | FileCheck %s

// Sixteen tokens side by side, no branch; the policy is a comparison.
// CHECK-LABEL: func.func @gshard(
// CHECK-NOT:     scf.if
// CHECK:         math.exp {{.*}} : vector<16xf32>
// CHECK-NOT:     scf.if
// CHECK:         arith.mului_extended {{.*}} : vector<16xi32>
// CHECK:         arith.cmpf olt, {{.*}} : vector<16xf32>
// CHECK-NOT:     scf.if
// CHECK:         return
func.func @gshard(%x: tensor<?x8xf32>, %s: i64)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %0:2 = moe.route #moe.gshard<policy = random> %x training(%s, %s, %s)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %0#0, %0#1 : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Two rounds' Gumbels in one row of 2 E.
// CHECK-LABEL: func.func @sparse_mixer(
// CHECK:         tensor.empty() : tensor<16x16xf32>
// CHECK-NOT:     scf.if
// CHECK:         math.log {{.*}} : vector<16xf32>
// CHECK-NOT:     scf.if
// CHECK:         return
func.func @sparse_mixer(%x: tensor<?x8xf32>, %s: i64)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %0:2 = moe.route #moe.sparse_mixer<> %x training(%s, %s, %s)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %0#0, %0#1 : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @jitter(
// CHECK:         vector.transfer_read {{.*}} : tensor<?x64xbf16>, vector<16xbf16>
// CHECK:         arith.mului_extended {{.*}} : vector<16xi32>
// CHECK:         vector.transfer_write {{.*}} : vector<16xbf16>, tensor<?x64xbf16>
// CHECK-NOT:     moe.
func.func @jitter(%x: tensor<?x64xbf16>, %s: i64) -> tensor<?x64xbf16> {
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x64xbf16> -> tensor<?x64xbf16>
  return %y : tensor<?x64xbf16>
}
