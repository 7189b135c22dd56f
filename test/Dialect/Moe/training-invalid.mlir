// Every rule of the ops of training, broken once.

// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// noisy_logits
//===----------------------------------------------------------------------===//

func.func @noisy_logits_c1(%x: tensor<3x4xf32>, %n: tensor<2x4xf32>, %s: i64) {
  // expected-error @below {{logits has T = 3 but noise has 2 (noisy_logits_c1)}}
  %0:2 = moe.noisy_logits <learned> %x noise(%n : tensor<2x4xf32>)
      draw(%s, %s, %s) : tensor<3x4xf32> -> tensor<3x4xf32>, tensor<3x4xf32>
  return
}

// -----

func.func @noisy_logits_c1_width(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{logits has E = 4 but noisy has 5 (noisy_logits_c1)}}
  %0 = moe.noisy_logits <gumbel> %x draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x5xf32>
  return
}

// -----

func.func @noisy_logits_c1_dynamic(%x: tensor<?x?xf32>, %s: i64) {
  // expected-error @below {{logits has E = ?, which must be static (noisy_logits_c1)}}
  %0 = moe.noisy_logits <gumbel> %x draw(%s, %s, %s)
      : tensor<?x?xf32> -> tensor<?x?xf32>
  return
}

// -----

func.func @noisy_logits_c2(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has noise and sigma for learned noise and for no other (noisy_logits_c2)}}
  %0:2 = moe.noisy_logits <learned> %x draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @noisy_logits_c2_sigma(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has noise and sigma for learned noise and for no other (noisy_logits_c2)}}
  %0 = moe.noisy_logits <learned> %x noise(%x : tensor<?x4xf32>)
      draw(%s, %s, %s) : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @noisy_logits_c2_gumbel(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has noise and sigma for learned noise and for no other (noisy_logits_c2)}}
  %0:2 = moe.noisy_logits <gumbel> %x draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @noisy_logits_c3(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has a std, positive and finite, for normal noise and for no other (noisy_logits_c3)}}
  %0 = moe.noisy_logits <normal> %x draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @noisy_logits_c3_zero(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has a std, positive and finite, for normal noise and for no other (noisy_logits_c3)}}
  %0 = moe.noisy_logits <normal> %x std 0.0 draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @noisy_logits_c3_gumbel(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has a std, positive and finite, for normal noise and for no other (noisy_logits_c3)}}
  %0 = moe.noisy_logits <gumbel> %x std 1.0 draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @noisy_logits_c4(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has a floor, positive and finite, for learned noise and for no other (noisy_logits_c4)}}
  %0 = moe.noisy_logits <normal> %x std 1.0 floor 0.1 draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @noisy_logits_c4_negative(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{has a floor, positive and finite, for learned noise and for no other (noisy_logits_c4)}}
  %0:2 = moe.noisy_logits <learned> %x noise(%x : tensor<?x4xf32>) floor -0.1
      draw(%s, %s, %s) : tensor<?x4xf32> -> tensor<?x4xf32>, tensor<?x4xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// load_loss
//===----------------------------------------------------------------------===//

func.func @load_loss_c1(%x: tensor<3x4xf32>, %m: tensor<2xi1>) {
  // expected-error @below {{clean has T = 3 but mask has 2 (load_loss_c1)}}
  %0 = moe.load_loss <kth> %x, %x std 1.0 mask(%m : tensor<2xi1>) k 1
      coefficient 1.0 : tensor<3x4xf32>, tensor<3x4xf32> -> tensor<f32>
  return
}

// -----

func.func @load_loss_c2(%x: tensor<?x4xf32>, %s: tensor<?x5xf32>) {
  // expected-error @below {{clean has R = 4 but sigma has 5 (load_loss_c2)}}
  %0 = moe.load_loss <kth> %x, %x sigma(%s : tensor<?x5xf32>) k 1
      coefficient 1.0 : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return
}

// -----

func.func @load_loss_c3(%x: tensor<?x4xf32>) {
  // expected-error @below {{takes either sigma or a std that is positive and finite (load_loss_c3)}}
  %0 = moe.load_loss <kth> %x, %x k 1 coefficient 1.0
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return
}

// -----

func.func @load_loss_c3_both(%x: tensor<?x4xf32>) {
  // expected-error @below {{takes either sigma or a std that is positive and finite (load_loss_c3)}}
  %0 = moe.load_loss <kth> %x, %x sigma(%x : tensor<?x4xf32>) std 1.0 k 1
      coefficient 1.0 : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return
}

// -----

func.func @load_loss_c3_zero(%x: tensor<?x4xf32>) {
  // expected-error @below {{takes either sigma or a std that is positive and finite (load_loss_c3)}}
  %0 = moe.load_loss <kth> %x, %x std 0.0 k 1 coefficient 1.0
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return
}

// -----

func.func @load_loss_c4(%x: tensor<?x4xf32>) {
  // expected-error @below {{k = 0 chooses nothing (load_loss_c4)}}
  %0 = moe.load_loss <kth> %x, %x std 1.0 k 0 coefficient 1.0
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return
}

// -----

func.func @load_loss_c5(%x: tensor<?x4xf32>) {
  // expected-error @below {{coefficient is not finite (load_loss_c5)}}
  %0 = moe.load_loss <kth> %x, %x std 1.0 k 1 coefficient 0x7FF0000000000000
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return
}

// -----

func.func @load_loss_c6(%x: tensor<?x4xf32>) {
  // expected-error @below {{eps is negative or not finite (load_loss_c6)}}
  %0 = moe.load_loss <kth> %x, %x std 1.0 k 1 eps -1.0 coefficient 1.0
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// expert_load, update_bias
//===----------------------------------------------------------------------===//

func.func @expert_load_c1(%ids: tensor<?x2xi32>, %w: tensor<?x3xf32>) {
  // expected-error @below {{ids has second size = 2 but weights has 3 (expert_load_c1)}}
  %0 = moe.expert_load %ids weights(%w : tensor<?x3xf32>)
      : tensor<?x2xi32> -> tensor<8xf32>
  return
}

// -----

func.func @expert_load_c2(%ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{gives floats with weights and i32 without (expert_load_c2)}}
  %0 = moe.expert_load %ids weights(%w : tensor<?x2xf32>)
      : tensor<?x2xi32> -> tensor<8xi32>
  return
}

// -----

func.func @expert_load_c2_without(%ids: tensor<?x2xi32>) {
  // expected-error @below {{gives floats with weights and i32 without (expert_load_c2)}}
  %0 = moe.expert_load %ids : tensor<?x2xi32> -> tensor<8xf32>
  return
}

// -----

func.func @expert_load_c3(%ids: tensor<?x2xi32>) {
  // expected-error @below {{has ? experts, not 1 to 2147483646 (expert_load_c3)}}
  %0 = moe.expert_load %ids : tensor<?x2xi32> -> tensor<?xi32>
  return
}

// -----

func.func @update_bias_c1(%b: tensor<4xf32>, %c: tensor<5xi32>) {
  // expected-error @below {{bias has E = 4 but counts has 5 (update_bias_c1)}}
  %0 = moe.update_bias %b, %c rate 1.0
      : tensor<4xf32>, tensor<5xi32> -> tensor<4xf32>
  return
}

// -----

func.func @update_bias_c1_none(%b: tensor<0xf32>, %c: tensor<0xi32>) {
  // expected-error @below {{has 0 experts, not 1 to 2147483646 (update_bias_c1)}}
  %0 = moe.update_bias %b, %c rate 1.0
      : tensor<0xf32>, tensor<0xi32> -> tensor<0xf32>
  return
}

// -----

func.func @update_bias_c2(%b: tensor<4xf32>, %c: tensor<4xi32>) {
  // expected-error @below {{rate is not finite (update_bias_c2)}}
  %0 = moe.update_bias %b, %c rate 0x7FF8000000000000
      : tensor<4xf32>, tensor<4xi32> -> tensor<4xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// aux_loss: the settings of some kinds
//===----------------------------------------------------------------------===//

func.func @aux_loss_c5(%s: tensor<?x8xf32>) {
  // expected-error @below {{takes k, at least 1, for trimmed_lasso and l1_balance and for no other (aux_loss_c5)}}
  %0 = moe.aux_loss <trimmed_lasso> %s coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c5_zero(%s: tensor<?x8xf32>) {
  // expected-error @below {{takes k, at least 1, for trimmed_lasso and l1_balance and for no other (aux_loss_c5)}}
  %0 = moe.aux_loss <l1_balance> %s k 0 coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c5_other(%s: tensor<?x8xf32>) {
  // expected-error @below {{takes k, at least 1, for trimmed_lasso and l1_balance and for no other (aux_loss_c5)}}
  %0 = moe.aux_loss <entropy> %s k 1 coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c6(%s: tensor<?x8xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @below {{takes per_slot for balance alone (aux_loss_c6)}}
  %0 = moe.aux_loss <first_place> %s ids(%ids : tensor<?x2xi32>) per_slot
      coefficient 1.0 : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c6_unbiased(%s: tensor<?x8xf32>) {
  // expected-error @below {{takes unbiased and eps for importance alone (aux_loss_c6)}}
  %0 = moe.aux_loss <z> %s unbiased coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c6_eps(%s: tensor<?x8xf32>) {
  // expected-error @below {{takes unbiased and eps for importance alone (aux_loss_c6)}}
  %0 = moe.aux_loss <entropy> %s eps 0.0 coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c7(%s: tensor<?x8xf32>) {
  // expected-error @below {{eps is negative or not finite (aux_loss_c7)}}
  %0 = moe.aux_loss <importance> %s eps -1.0 coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c8(%s: tensor<?x8xf32>, %ids: tensor<?x1xi32>) {
  // expected-error @below {{needs ids of at least 2 slots (aux_loss_c8)}}
  %0 = moe.aux_loss <second_place> %s ids(%ids : tensor<?x1xi32>)
      coefficient 1.0 : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c8_none(%s: tensor<?x8xf32>, %ids: tensor<?x0xi32>) {
  // expected-error @below {{needs ids of at least 1 slots (aux_loss_c8)}}
  %0 = moe.aux_loss <balance> %s ids(%ids : tensor<?x0xi32>)
      coefficient 1.0 : tensor<?x8xf32> -> tensor<f32>
  return
}
