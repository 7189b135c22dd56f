// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-fuse-gating \
// RUN:   | FileCheck %s

// CHECK-LABEL: func.func @gshard(
// CHECK-NOT:     moe.gate
// CHECK:         scf.forall
// CHECK:           moe.gate
// CHECK:           moe.route #moe.gshard<policy = random>
// CHECK-NOT:     moe.gate
func.func @gshard(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: i64)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.gshard<policy = random> %logits
      training(%s, %s, %s)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @sparse_mixer(
// CHECK-NOT:     moe.gate
// CHECK:         scf.forall
// CHECK:           moe.gate
// CHECK-NEXT:      moe.route #moe.sparse_mixer<>
// CHECK-NOT:     moe.gate
func.func @sparse_mixer(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.sparse_mixer<> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// The jittered rows stay in the tile; their draws are those of the token.
// CHECK-LABEL: func.func @jitter(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x64xf32>
// CHECK-SAME:    %[[S:[a-z0-9]+]]: i64, %[[L:[a-z0-9]+]]: i64, %[[F:[a-z0-9]+]]: i64
// CHECK-NOT:     moe.jitter
// CHECK:         scf.forall (%[[T:.+]]) =
// CHECK-SAME:      -> (tensor<?x1xi32>, tensor<?x1xf32>)
// CHECK:           %[[ROWS:.+]] = tensor.extract_slice %[[X]][%[[T]], 0]
// CHECK:           %[[OWN:.+]] = arith.index_cast %[[T]] : index to i64
// CHECK:           %[[FIRST:.+]] = arith.addi %[[F]], %[[OWN]] : i64
// CHECK:           %[[Y:.+]] = moe.jitter %[[ROWS]] eps 1.000000e-02 draw(%[[S]], %[[L]], %[[FIRST]])
// CHECK:           moe.gate %[[Y]]
// CHECK:           moe.route
// CHECK-NOT:     moe.jitter
func.func @jitter(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %seed: i64,
                  %layer: i64, %first: i64)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  %y = moe.jitter %x eps 1.0e-2 draw(%seed, %layer, %first)
      : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = moe.gate %y, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 1> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}

// -----

// Rows that experts read too leave the loop, and are jittered once.
// CHECK-LABEL: func.func @jittered_rows(
// CHECK-NOT:     moe.jitter
// CHECK:         %[[R:.+]]:3 = scf.forall
// CHECK-SAME:      -> (tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x64xf32>)
// CHECK:           moe.jitter
// CHECK:           moe.gate
// CHECK:           moe.route
// CHECK-NOT:     moe.jitter
// CHECK:         moe.dispatch %[[R]]#2, %[[R]]#0
func.func @jittered_rows(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: i64)
    -> (tensor<?x64xf32>, tensor<9xi32>, tensor<?x1xf32>) {
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = moe.gate %y, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 1> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  %rows, %offsets = moe.dispatch %y, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x1xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  return %rows, %offsets, %weights
      : tensor<?x64xf32>, tensor<9xi32>, tensor<?x1xf32>
}

// -----

// A jitter that no gate reads has nothing to be fused with, and says nothing.
// CHECK-LABEL: func.func @jitter_alone(
// CHECK:         scf.forall
// CHECK:           moe.jitter
func.func @jitter_alone(%x: tensor<?x64xf32>, %s: i64) -> tensor<?x64xf32> {
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x64xf32> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// A gate takes it into its loop without a route too.
// CHECK-LABEL: func.func @gate_without_a_route(
// CHECK:         scf.forall
// CHECK:           moe.jitter
// CHECK-NEXT:      moe.gate
func.func @gate_without_a_route(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                                %s: i64) -> tensor<?x8xf32> {
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = moe.gate %y, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  return %logits : tensor<?x8xf32>
}

// -----

// A router that looks beyond the token is named once; its gate and jitter are
// fused.
// CHECK-LABEL: func.func @mixed_router(
// CHECK:         scf.forall
// CHECK:           moe.jitter
// CHECK-NEXT:      moe.gate
// CHECK:         moe.route
func.func @mixed_router(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: i64)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = moe.gate %y, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-remark @below {{not fused with a gate: its router looks beyond the token}}
  %ids, %weights = moe.route #moe_test.no_body<k = 2, mixed = true> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
