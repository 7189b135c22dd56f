// RUN: moe-opt %s --convert-moe-to-linalg --split-input-file | FileCheck %s

// Only rows with a token are gathered; the weight multiplies in f32.

// CHECK-LABEL: func @dispatch
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x64xbf16>
// CHECK:         tensor.extract_slice %{{.*}}[0, 0] [%{{.*}}, 64] [1, 1]
// CHECK:         linalg.generic
// CHECK:           tensor.extract %[[X]]
// CHECK:           arith.mulf %{{.*}} : f32
// CHECK:           arith.truncf %{{.*}} : f32 to bf16
// CHECK:         tensor.insert_slice
// CHECK-NOT:     moe.
func.func @dispatch(%x: tensor<?x64xbf16>, %ids: tensor<?x2xi32>,
                    %weights: tensor<?x2xf32>)
    -> (tensor<?x64xbf16>, tensor<9xi32>) {
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      weights(%weights : tensor<?x2xf32>)
      : (tensor<?x64xbf16>, tensor<?x2xi32>)
      -> (tensor<?x64xbf16>, tensor<9xi32>)
  return %rows, %offsets : tensor<?x64xbf16>, tensor<9xi32>
}

// -----

// A token's row is summed in f32 and rounded once.

// CHECK-LABEL: func @combine
// CHECK:         scf.for {{.*}} -> (tensor<?x64xbf16>)
// CHECK:           scf.for {{.*}} -> (tensor<64xf32>)
// CHECK-NOT:         arith.truncf
// CHECK:             scf.yield
// CHECK:           arith.truncf %{{.*}} : f32 to bf16
// CHECK-NOT:       arith.truncf
// CHECK-NOT:     moe.
func.func @combine(%rows: tensor<?x64xbf16>, %ids: tensor<?x2xi32>,
                   %weights: tensor<?x2xf32>, %x: tensor<?x64xbf16>,
                   %bias: tensor<64xbf16>) -> tensor<?x64xbf16> {
  %y = moe.combine %rows, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      identity(%x : tensor<?x64xbf16>) residual(%x : tensor<?x64xbf16>)
      bias(%bias : tensor<64xbf16>) {average, scale = 2.0 : f64}
      : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xbf16>
  return %y : tensor<?x64xbf16>
}

// -----

// Where experts choose, T is an operand.

// CHECK-LABEL: func @combine_by_expert
// CHECK-SAME:    %[[T:[a-z0-9]+]]: index
// CHECK:         tensor.empty(%[[T]]) : tensor<?x64xf32>
// CHECK-NOT:     moe.
func.func @combine_by_expert(%rows: tensor<?x64xf32>, %ids: tensor<8x?xi32>,
                             %tokens: index) -> tensor<?x64xf32> {
  %y = moe.combine %rows, %ids experts 8 chosen_by <expert>
      num_tokens(%tokens)
      : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
