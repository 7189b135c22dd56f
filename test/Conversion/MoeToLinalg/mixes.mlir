// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg | FileCheck %s

// A group after the other, of each the rows that are asked for; causal rows end
// at their own token.
// CHECK-LABEL: func.func @mix_matrix(
// CHECK:         cf.assert {{.*}}"moe.mix_matrix: the group offsets do not ascend
// CHECK:         scf.for
// CHECK:           arith.maxsi
// CHECK:           arith.minsi
// CHECK:           scf.for
// CHECK:             scf.for
// CHECK:               scf.for
// CHECK:                 linalg.generic
// CHECK-NOT:     moe.
func.func @mix_matrix(%v: tensor<?x8xf32>, %a: tensor<2x?x?xf32>,
                      %g: tensor<4xi32>) -> tensor<?x8xf32> {
  %0 = moe.mix_matrix %v by %a groups(%g : tensor<4xi32>) causal
      : (tensor<?x8xf32>, tensor<2x?x?xf32>) -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// -----

// The body of a token, with blocks of eight keys.
// CHECK-LABEL: func.func @mix(
// CHECK:         scf.for
// CHECK:           scf.for {{.*}} step %c8
// CHECK-COUNT-8:     math.fma
// CHECK-NOT:     moe.
func.func @mix(%v: tensor<?x8xf32>, %u: tensor<?x6xf32>) -> tensor<?x8xf32> {
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// -----

// Softmax down the columns and along the rows; every expert's slots apart; a
// product back.
// CHECK-LABEL: func.func @slots(
// CHECK:         arith.maximumf
// CHECK:         math.exp
// CHECK:         scf.forall (%{{.+}}) in (2)
// CHECK:           linalg.generic {{.*}} iterator_types = ["parallel", "reduction", "parallel"]
// CHECK:           scf.forall.in_parallel
// CHECK-NOT:     moe.
func.func @slots(%x: tensor<?x6xf32>, %l: tensor<?x4xf32>) -> tensor<?x6xf32> {
  %d, %c = moe.route_slots %l
      : tensor<?x4xf32> -> tensor<?x4xf32>, tensor<?x4xf32>
  %rows, %offsets = moe.soft_dispatch %x, %d experts 2
      : (tensor<?x6xf32>, tensor<?x4xf32>) -> (tensor<4x6xf32>, tensor<3xi32>)
  %y = moe.soft_combine %rows, %c experts 2
      : (tensor<4x6xf32>, tensor<?x4xf32>) -> tensor<?x6xf32>
  return %y : tensor<?x6xf32>
}

// -----

// CHECK-LABEL: func.func @product_keys(
// CHECK-NOT:     moe.
func.func @product_keys(%l: tensor<?x9xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %0:2 = moe.route #moe.product_keys<k = 2, left = 4> %l
      : tensor<?x9xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %0#0, %0#1 : tensor<?x2xi32>, tensor<?x2xf32>
}
