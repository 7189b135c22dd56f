// What does not matter for a fault is taken away by passes, for as long as the
// fault stays.
// REQUIRES: moe-reduce
// DEFINE: %{pass} =
// DEFINE: %{reduce} = moe-reduce %s -opt-reduction-pass='opt-pass=%{pass} test=%S/Inputs/has-gate.sh'

// REDEFINE: %{pass} = symbol-dce
// RUN: %{reduce} | FileCheck %s --implicit-check-not=@without

// A pass that takes the fault away is not kept.
// REDEFINE: %{pass} = func.func(convert-moe-to-loops)
// RUN: %{reduce} | FileCheck %s --check-prefixes=CHECK,KEPT
// KEPT: func.func private @without

// CHECK: func.func @with
// CHECK: moe.gate
func.func @with(%x: tensor<?x8xf32>, %w: tensor<4x8xf32>, %l: tensor<?x4xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %l
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %0 = moe.gate %x, %w : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  return
}

func.func private @without(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  return %x : tensor<?x8xf32>
}
