// The naive road: loops on buffers in one step, then the same code generation.

// RUN: moe-opt %s --moe-oracle | FileCheck %s
// RUN: moe-opt %s --moe-oracle --dump-pass-pipeline -o /dev/null 2>&1 \
// RUN:   | FileCheck %s --check-prefix=DUMP
// RUN: moe-opt %s --moe-to-moe --convert-moe-to-loops --moe-to-buffers \
// RUN:   | FileCheck %s --check-prefix=BUFFERS

// It shares no lowering of the dialect with what it judges.
// DUMP:     moe-prepare-entry
// DUMP-NOT: moe-fuse-gating
// DUMP-NOT: moe-lower-routing
// DUMP-NOT: moe-lower-to-grouped
// DUMP-NOT: convert-moe-to-linalg
// DUMP:     convert-moe-to-loops
// DUMP-NOT: moe-lower-to-grouped

// Nothing is fused and nothing runs in parallel or on vectors.
// BUFFERS-LABEL: func.func @layer(
// BUFFERS-NOT:     scf.forall
// BUFFERS-NOT:     vector.
// BUFFERS-NOT:     moe.g
// BUFFERS-NOT:     tensor<
// BUFFERS:         return

// CHECK-NOT: {{(func\.func|scf\.|arith\.|memref\.|moe\.)}}
// CHECK:     llvm.func @moe_layer(
// CHECK-NOT: {{(func\.func|scf\.|arith\.|memref\.|moe\.)}}

func.func @layer(%x: tensor<?x8xf32>, %router: tensor<4x8xf32>,
                 %up: tensor<4x8x8xf32>, %down: tensor<4x8x8xf32>)
    -> tensor<?x8xf32> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 4
      : (tensor<?x8xf32>, tensor<?x2xi32>) -> (tensor<?x8xf32>, tensor<5xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<5xi32>)
      up(%up : tensor<4x8x8xf32>) down(%down : tensor<4x8x8xf32>)
      activation #moe.activation<kind = relu> layout <orientation = out_in>
      : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = moe.combine %h, %ids experts 4 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x8xf32>, tensor<?x2xi32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
