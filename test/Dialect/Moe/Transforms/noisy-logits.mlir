// Noisy logits are made in the tile that makes the logits, which leave it for
// the load loss; a tile's tokens go on counting.

// RUN: moe-opt %s \
// RUN:   --pass-pipeline='builtin.module(func.func(moe-fuse-gating{tile-size=16},canonicalize,cse))' \
// RUN:   --verify-diagnostics | FileCheck %s

// CHECK-LABEL: func.func @noisy(
// CHECK-SAME:    %{{[a-z0-9]+}}: i64, %[[FIRST:[a-z0-9]+]]: i64
// CHECK:         %[[OUT:.*]]:3 = scf.forall (%[[T:.*]]) =
// CHECK:           %[[LOGITS:.*]] = moe.gate
// CHECK:           %[[MOVED:.*]] = arith.addi %[[FIRST]], %{{.*}} : i64
// CHECK:           moe.noisy_logits <learned> %[[LOGITS]] noise(%{{.*}} : tensor<?x8xf32>) draw(%{{.*}}, %{{.*}}, %[[MOVED]])
// CHECK:           tensor.parallel_insert_slice
// CHECK-NOT:     moe.gate
// CHECK:         moe.load_loss
func.func @noisy(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                 %raw: tensor<?x8xf32>, %seed: i64, %first: i64)
    -> tensor<f32> {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %noisy, %sigma = moe.noisy_logits <learned> %logits
      noise(%raw : tensor<?x8xf32>) draw(%seed, %seed, %first)
      : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
  %loss = moe.load_loss <kth_excluding> %logits, %noisy
      sigma(%sigma : tensor<?x8xf32>) k 2 coefficient 1.0
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<f32>
  return %loss : tensor<f32>
}
