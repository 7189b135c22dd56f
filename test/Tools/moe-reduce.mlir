// What does not matter for the fault is taken away by a pass.
// REQUIRES: moe-reduce
// RUN: moe-reduce %s \
// RUN:   -opt-reduction-pass='opt-pass=symbol-dce test=%S/Inputs/has-gate.sh' \
// RUN:   | FileCheck %s --implicit-check-not=@without

// CHECK: func.func @with(
// CHECK: moe.gate
func.func @with(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>) {
  %0 = moe.gate %x, %w : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  return
}

func.func private @without(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  return %x : tensor<?x8xf32>
}
