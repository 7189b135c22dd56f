// What training adds to a routing: text, generic form, bytecode, sizes.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s
// RUN: moe-opt %s --resolve-ranked-shaped-type-result-dims --canonicalize \
// RUN:   | FileCheck %s --check-prefix=SIZE

// CHECK-LABEL: func.func @noisy_logits(
func.func @noisy_logits(%x: tensor<?x8xf32>, %noise: tensor<?x8xf32>,
                        %seed: i64, %layer: i64, %first: i64) {
  // CHECK: moe.noisy_logits <learned> %{{.*}} noise(%{{.*}} : tensor<?x8xf32>) draw(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf64>
  %0:2 = moe.noisy_logits <learned> %x noise(%noise : tensor<?x8xf32>)
      draw(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf64>
  // CHECK: moe.noisy_logits <learned> %{{.*}} noise(%{{.*}} : tensor<?x8xf32>) floor 1.000000e-01 draw
  %1:2 = moe.noisy_logits <learned> %x floor 0.1
      noise(%noise : tensor<?x8xf32>) draw(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
  // CHECK: moe.noisy_logits <normal> %{{.*}} std 1.250000e-01 draw(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x8xf32> -> tensor<?x8xf32>
  %2 = moe.noisy_logits <normal> %x std 0.125 draw(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  // CHECK: moe.noisy_logits <gumbel> %{{.*}} draw(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x8xf32> -> tensor<?x8xf32>
  %3 = moe.noisy_logits <gumbel> %x draw(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @load_loss(
func.func @load_loss(%x: tensor<?x8xf32>, %noisy: tensor<?x8xf32>,
                     %sigma: tensor<?x8xf32>, %mask: tensor<?xi1>,
                     %groups: tensor<?xi32>) {
  // CHECK: moe.load_loss <kth_excluding> %{{.*}}, %{{.*}} sigma(%{{.*}} : tensor<?x8xf32>) k 2 eps 1.000000e-10 coefficient 1.000000e-02 : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<f32>
  %0 = moe.load_loss <kth_excluding> %x, %noisy
      sigma(%sigma : tensor<?x8xf32>) k 2 eps 1.0e-10 coefficient 0.01
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.load_loss <kth> %{{.*}}, %{{.*}} std 1.250000e-01 mask(%{{.*}} : tensor<?xi1>) groups(%{{.*}} : tensor<?xi32>) k 8 coefficient 1.000000e+00
  %1 = moe.load_loss <kth> %x, %noisy groups(%groups : tensor<?xi32>)
      mask(%mask : tensor<?xi1>) std 0.125 k 8 eps 0.0 coefficient 1.0
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<f32>
  return
}

// CHECK-LABEL: func.func @bias(
func.func @bias(%ids: tensor<?x2xi32>, %w: tensor<?x2xbf16>,
                %bias: tensor<8xf32>) {
  // CHECK: moe.expert_load %{{.*}} : tensor<?x2xi32> -> tensor<8xi32>
  %0 = moe.expert_load %ids : tensor<?x2xi32> -> tensor<8xi32>
  // CHECK: moe.expert_load %{{.*}} weights(%{{.*}} : tensor<?x2xbf16>) : tensor<?x2xi32> -> tensor<8xf32>
  %1 = moe.expert_load %ids weights(%w : tensor<?x2xbf16>)
      : tensor<?x2xi32> -> tensor<8xf32>
  // CHECK: moe.update_bias %{{.*}}, %{{.*}} rate 1.000000e-03 : tensor<8xf32>, tensor<8xi32> -> tensor<8xf32>
  %2 = moe.update_bias %bias, %0 rate 1.0e-3
      : tensor<8xf32>, tensor<8xi32> -> tensor<8xf32>
  // CHECK: moe.update_bias %{{.*}}, %{{.*}} rate -1.000000e+00 : tensor<8xf32>, tensor<8xf32> -> tensor<8xf64>
  %3 = moe.update_bias %bias, %1 rate -1.0
      : tensor<8xf32>, tensor<8xf32> -> tensor<8xf64>
  return
}

// CHECK-LABEL: func.func @losses(
func.func @losses(%s: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                  %mask: tensor<?xi1>) {
  // CHECK: moe.aux_loss <balance> %{{.*}} ids(%{{.*}} : tensor<?x2xi32>) per_slot coefficient 1.000000e+00
  %0 = moe.aux_loss <balance> %s per_slot ids(%ids : tensor<?x2xi32>)
      coefficient 1.0 : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <first_place> %{{.*}} ids(
  %1 = moe.aux_loss <first_place> %s ids(%ids : tensor<?x2xi32>)
      coefficient 1.0 : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <second_place> %{{.*}} ids(
  %2 = moe.aux_loss <second_place> %s ids(%ids : tensor<?x2xi32>)
      coefficient 0.5 : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <importance> %{{.*}} unbiased eps 1.000000e-10 coefficient
  %3 = moe.aux_loss <importance> %s eps 1.0e-10 unbiased coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <trimmed_lasso> %{{.*}} mask(%{{.*}} : tensor<?xi1>) k 2 coefficient
  %4 = moe.aux_loss <trimmed_lasso> %s k 2 mask(%mask : tensor<?xi1>)
      coefficient 1.0 : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <entropy> %{{.*}} coefficient
  %5 = moe.aux_loss <entropy> %s coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <token_balance> %{{.*}} coefficient
  %6 = moe.aux_loss <token_balance> %s coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <l1_balance> %{{.*}} k 1 coefficient
  %7 = moe.aux_loss <l1_balance> %s k 1 coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// SIZE-LABEL: func.func @sizes(
// SIZE-SAME:    %[[X:.*]]: tensor<?x8xf32>, %[[NOISE:.*]]: tensor
func.func @sizes(%x: tensor<?x8xf32>, %noise: tensor<?x8xf32>, %seed: i64)
    -> (index, index) {
  %c0 = arith.constant 0 : index
  %0:2 = moe.noisy_logits <learned> %x noise(%noise : tensor<?x8xf32>)
      draw(%seed, %seed, %seed)
      : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
  %1 = tensor.dim %0#0, %c0 : tensor<?x8xf32>
  %2 = tensor.dim %0#1, %c0 : tensor<?x8xf32>
  // SIZE:      %[[A:.*]] = tensor.dim %[[X]], %{{.*}} : tensor<?x8xf32>
  // SIZE-NEXT: %[[B:.*]] = tensor.dim %[[X]], %{{.*}} : tensor<?x8xf32>
  // SIZE-NEXT: return %[[A]], %[[B]] : index, index
  return %1, %2 : index, index
}
