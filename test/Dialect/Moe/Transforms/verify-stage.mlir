// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-verify-stage=stage=grouped
// RUN: not moe-opt %s --moe-verify-stage=stage=later 2>&1 \
// RUN:   | FileCheck %s --check-prefix=UNKNOWN
// RUN: not moe-opt %s --moe-verify-stage 2>&1 \
// RUN:   | FileCheck %s --check-prefix=EMPTY

// UNKNOWN: error: moe-verify-stage knows no stage 'later'
// EMPTY:   error: moe-verify-stage knows no stage ''

// Primitives may stand in the grouped stage, on tensors.
func.func @primitives(%rows: tensor<?x8xf32>, %w: tensor<1x4x8xf32>,
                      %init: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = moe.grouped_matmul %rows weights(%w : tensor<1x4x8xf32>)
      outs(%init : tensor<?x4xf32>) : tensor<?x8xf32> -> tensor<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %0 : tensor<?x4xf32>
}

// -----

func.func @layer_op(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>)
    -> tensor<?x4xf32> {
  // expected-error @below {{is still a layer op after stage 'grouped'}}
  %0 = moe.gate %x, %w
      : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
