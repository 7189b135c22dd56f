// Every rule of the backwards of losses, noise, rows and subsets, broken once.
// They share those of their forwards, of which one stands for all.

// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// aux_loss_vjp, load_loss_vjp
//===----------------------------------------------------------------------===//

func.func @aux_loss_vjp_c1(%x: tensor<3x4xf32>, %g: tensor<f32>) {
  // expected-error @below {{scores has first size = 3 but result has 2 (aux_loss_vjp_c1)}}
  %0 = moe.aux_loss_vjp <z> %x by %g coefficient 1.0
      : tensor<3x4xf32>, tensor<f32> -> tensor<2x4xf32>
  return
}

// -----

func.func @aux_loss_vjp_c1_width(%x: tensor<?x4xf32>, %g: tensor<f32>) {
  // expected-error @below {{scores has second size = 4 but result has 5 (aux_loss_vjp_c1)}}
  %0 = moe.aux_loss_vjp <z> %x by %g coefficient 1.0
      : tensor<?x4xf32>, tensor<f32> -> tensor<?x5xf32>
  return
}

// -----

func.func @aux_loss_c1_vjp(%x: tensor<?x4xf32>, %g: tensor<f32>) {
  // expected-error @below {{takes ids for balance, first_place and second_place and for no other (aux_loss_c1)}}
  %0 = moe.aux_loss_vjp <balance> %x by %g coefficient 1.0
      : tensor<?x4xf32>, tensor<f32> -> tensor<?x4xf32>
  return
}

// -----

func.func @load_loss_vjp_c1(%x: tensor<?x4xf32>, %g: tensor<f32>) {
  // expected-error @below {{has 2 results, not 3 (load_loss_vjp_c1)}}
  %0:2 = moe.load_loss_vjp <kth> %x, %x by %g sigma(%x : tensor<?x4xf32>)
      k 1 coefficient 1.0 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<f32>
      -> tensor<?x4xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @load_loss_vjp_c1_std(%x: tensor<?x4xf32>, %g: tensor<f32>) {
  // expected-error @below {{has 1 results, not 2 (load_loss_vjp_c1)}}
  %0 = moe.load_loss_vjp <kth> %x, %x by %g std 0.5
      k 1 coefficient 1.0 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<f32>
      -> tensor<?x4xf32>
  return
}

// -----

func.func @load_loss_vjp_c2(%x: tensor<3x4xf32>, %g: tensor<f32>) {
  // expected-error @below {{clean has first size = 3 but result has 2 (load_loss_vjp_c2)}}
  %0:2 = moe.load_loss_vjp <kth> %x, %x by %g std 0.5
      k 1 coefficient 1.0 : tensor<3x4xf32>, tensor<3x4xf32>, tensor<f32>
      -> tensor<3x4xf32>, tensor<2x4xf32>
  return
}

// -----

func.func @load_loss_c3_vjp(%x: tensor<?x4xf32>, %g: tensor<f32>) {
  // expected-error @below {{takes either sigma or a std that is positive and finite (load_loss_c3)}}
  %0:2 = moe.load_loss_vjp <kth> %x, %x by %g
      k 1 coefficient 1.0 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<f32>
      -> tensor<?x4xf32>, tensor<?x4xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// noisy_logits_vjp, unit_rows_vjp, subset_partition_vjp
//===----------------------------------------------------------------------===//

func.func @noisy_logits_vjp_c1(%x: tensor<3x4xf32>, %g: tensor<2x4xf32>, %n: i64) {
  // expected-error @below {{noise has first size = 3 but cotangent has 2 (noisy_logits_vjp_c1)}}
  %0 = moe.noisy_logits_vjp %x by %g draw(%n, %n, %n)
      : tensor<3x4xf32>, tensor<2x4xf32> -> tensor<3x4xf32>
  return
}

// -----

func.func @noisy_logits_vjp_c1_sigma(%x: tensor<?x4xf32>, %g: tensor<?x5xf32>, %n: i64) {
  // expected-error @below {{noise has second size = 4 but sigma has 5 (noisy_logits_vjp_c1)}}
  %0 = moe.noisy_logits_vjp %x by %x sigma(%g : tensor<?x5xf32>)
      draw(%n, %n, %n) : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @unit_rows_vjp_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{rows has second size = 4 but result has 5 (unit_rows_vjp_c1)}}
  %0 = moe.unit_rows_vjp %x by %x eps <add> 0.5
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<?x5xf32>
  return
}

// -----

func.func @unit_rows_vjp_c1_dynamic(%x: tensor<?x?xf32>) {
  // expected-error @below {{rows has second size = ?, which must be static (unit_rows_vjp_c1)}}
  %0 = moe.unit_rows_vjp %x by %x eps <add> 0.5
      : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
  return
}

// -----

func.func @unit_rows_vjp_c2(%x: tensor<?x4xf32>) {
  // expected-error @below {{eps is negative or not finite (unit_rows_vjp_c2)}}
  %0 = moe.unit_rows_vjp %x by %x eps <add> -0.5
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @unit_rows_vjp_c3(%x: tensor<?x4xf32>, %s: tensor<f32>) {
  // expected-error @below {{has 1 results, not 2 (unit_rows_vjp_c3)}}
  %0 = moe.unit_rows_vjp %x by %x eps <add> 0.5 scale(%s : tensor<f32>)
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @unit_rows_vjp_c3_share(%x: tensor<?x4xf32>, %s: tensor<f32>) {
  // expected-error @below {{a share has columns = 1 but result has 4 (unit_rows_vjp_c3)}}
  %0:2 = moe.unit_rows_vjp %x by %x eps <add> 0.5 scale(%s : tensor<f32>)
      : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<?x4xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @subset_c1_vjp(%x: tensor<?x4xf32>, %g: tensor<?x1xf32>) {
  // expected-error @below {{sizes from 5 to 5 are no band within 1 to 4 (subset_c1)}}
  %0 = moe.subset_partition_vjp %x by %g size 5 to 5
      : tensor<?x4xf32>, tensor<?x1xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @subset_c2_vjp(%x: tensor<3x4xf32>, %g: tensor<2x1xf32>) {
  // expected-error @below {{logits has T = 3 but cotangent has 2 (subset_c2)}}
  %0 = moe.subset_partition_vjp %x by %g size 2 to 2
      : tensor<3x4xf32>, tensor<2x1xf32> -> tensor<3x4xf32>
  return
}

// -----

func.func @subset_c3_vjp(%x: tensor<?x4xf32>, %g: tensor<?x1xf32>) {
  // expected-error @below {{the band has columns = 2 but cotangent has 1 (subset_c3)}}
  %0 = moe.subset_partition_vjp %x by %g size 2 to 3
      : tensor<?x4xf32>, tensor<?x1xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @subset_c3_vjp_width(%x: tensor<?x4xf32>, %g: tensor<?x1xf32>) {
  // expected-error @below {{logits has E = 4 but result has 5 (subset_c3)}}
  %0 = moe.subset_partition_vjp %x by %g size 2 to 2
      : tensor<?x4xf32>, tensor<?x1xf32> -> tensor<?x5xf32>
  return
}
