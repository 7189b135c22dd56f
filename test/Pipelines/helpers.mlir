// Functions that hold a part of a layer are inlined into its entry.

// RUN: moe-opt %s --moe-cpu | FileCheck %s
// RUN: moe-opt %s --moe-oracle | FileCheck %s

// CHECK:     llvm.func @moe_layer(
// CHECK-NOT: llvm.call @logits
func.func private @logits(%x: tensor<?x16xf32>, %w: tensor<8x16xf32>)
    -> tensor<?x8xf32> {
  %u = moe.unit_rows %x eps <add> 1.0e-6 : tensor<?x16xf32> -> tensor<?x16xf32>
  %logits = moe.gate %u, %w
      : (tensor<?x16xf32>, tensor<8x16xf32>) -> tensor<?x8xf32>
  return %logits : tensor<?x8xf32>
}

func.func @layer(%x: tensor<?x16xf32>, %w: tensor<8x16xf32>)
    -> tensor<?x8xf32> attributes {moe.entry} {
  %logits = call @logits(%x, %w)
      : (tensor<?x16xf32>, tensor<8x16xf32>) -> tensor<?x8xf32>
  // Arithmetic on whole tensors, as around any layer.
  %twice = arith.addf %logits, %logits : tensor<?x8xf32>
  return %twice : tensor<?x8xf32>
}
