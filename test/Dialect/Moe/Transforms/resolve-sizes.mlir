// RUN: moe-opt %s --moe-resolve-sizes --canonicalize | FileCheck %s

// The size of a result is that of the argument it comes from.
// CHECK-LABEL: func.func @gate
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x4xf32>
func.func @gate(%x: tensor<?x4xf32>, %w: tensor<8x4xf32>) -> index {
  %c0 = arith.constant 0 : index
  %logits = moe.gate %x, %w
      : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
  // CHECK: %[[SIZE:.+]] = tensor.dim %[[X]]
  %size = tensor.dim %logits, %c0 : tensor<?x8xf32>
  // CHECK: return %[[SIZE]]
  return %size : index
}
