// RUN: moe-opt %s --split-input-file --verify-diagnostics --convert-moe-to-cpu

func.func @layer_op(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> tensor<?x4xf32> {
  // expected-error @below {{failed to legalize operation 'moe.gate' that was explicitly marked illegal}}
  %0 = moe.gate %x, %w
      : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}

// -----

func.func @on_tensors(%rows: tensor<?x8xf32>, %first: tensor<?xi32>,
                      %slot: tensor<?xi32>, %init: tensor<?x8xf32>)
    -> tensor<?x8xf32> {
  // expected-error @below {{failed to legalize operation 'moe.combine_slots' that was explicitly marked illegal}}
  %0 = moe.combine_slots %rows, %first, %slot outs(%init : tensor<?x8xf32>)
      : tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// -----

func.func @branch_in_epilogue(%x: memref<?x16xf32>, %w: memref<1x8x16xf32>,
                              %dest: memref<?x8xf32>) {
  // expected-error @below {{failed to legalize operation 'moe.grouped_matmul' that was explicitly marked illegal}}
  moe.grouped_matmul %x weights(%w : memref<1x8x16xf32>)
      outs(%dest : memref<?x8xf32>) : memref<?x16xf32> {
  ^bb0(%a: f32):
    %c0 = arith.constant 0.0 : f32
    %positive = arith.cmpf ogt, %a, %c0 : f32
    // expected-error @below {{has an else part that does something; on lanes only what few tokens need may stand in a branch}}
    %r = scf.if %positive -> f32 {
      scf.yield %a : f32
    } else {
      %n = arith.negf %a : f32
      scf.yield %n : f32
    }
    moe.yield %r : f32
  }
  return
}
