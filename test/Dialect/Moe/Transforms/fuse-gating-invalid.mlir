// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-fuse-gating \
// RUN:   | FileCheck %s
// RUN: not moe-opt %s --split-input-file --moe-fuse-gating=tile-size=0 2>&1 \
// RUN:   | FileCheck %s --check-prefix=TILE

// TILE: error: moe-fuse-gating needs a tile of tokens

// A route that is not fused says why. Where it is token-local it is tiled alone,
// its gate is not.

// CHECK-LABEL: func.func @no_gate(
// CHECK:         scf.forall
// CHECK-NOT:       moe.gate
// CHECK:           moe.route
func.func @no_gate(%logits: tensor<?x8xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  // expected-remark @below {{not fused with a gate: its logits do not come from a gate or score}}
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @mixed_router(
// CHECK-NOT:     scf.forall
// CHECK:         moe.gate
// CHECK-NEXT:    moe.route
func.func @mixed_router(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-remark @below {{not fused with a gate: its router looks beyond the token}}
  %ids, %weights = moe.route #moe_test.no_body<k = 2, mixed = true> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Fused into the loop, the gate would run once an iteration of it.
// CHECK-LABEL: func.func @gate_in_front_of_a_loop(
// CHECK:         moe.gate
// CHECK:         scf.for
// CHECK:           scf.forall
// CHECK-NOT:         moe.gate
// CHECK:             moe.route
func.func @gate_in_front_of_a_loop(
    %x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %n: index,
    %i0: tensor<?x2xi32>, %w0: tensor<?x2xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %i0, %b = %w0)
      -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    // expected-remark @below {{not fused with a gate: its gate stands in another block}}
    %ids, %weights = moe.route #moe.top_k<k = 2> %logits
        : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    scf.yield %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
  }
  return %r#0, %r#1 : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// The score is fused, its gate stays in front of the loop.
// CHECK-LABEL: func.func @score_in_a_loop(
// CHECK:         moe.gate
// CHECK:         scf.for
// CHECK:           scf.forall
// CHECK-NOT:         moe.gate
// CHECK:             moe.score
// CHECK-NEXT:        moe.route
func.func @score_in_a_loop(
    %x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %n: index,
    %i0: tensor<?x2xi32>, %w0: tensor<?x2xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %i0, %b = %w0)
      -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %s = moe.score %logits by sigmoid : tensor<?x8xf32> -> tensor<?x8xf32>
    %ids, %weights = moe.route #moe.top_k<k = 2, score = none> %s
        : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    scf.yield %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
  }
  return %r#0, %r#1 : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @mask_of_logits(
// CHECK:         scf.forall
// CHECK-NOT:       moe.gate
// CHECK:           moe.route
func.func @mask_of_logits(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                          %init: tensor<?xi1>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %c0 = arith.constant 0.0 : f32
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %mask = linalg.reduce ins(%logits : tensor<?x8xf32>)
      outs(%init : tensor<?xi1>) dimensions = [1] (%l: f32, %m: i1) {
    %positive = arith.cmpf ogt, %l, %c0 : f32
    %either = arith.ori %m, %positive : i1
    linalg.yield %either : i1
  }
  // expected-remark @below {{not fused with a gate: another operand of it depends on its logits}}
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @assert_on_logits(
// CHECK:         scf.forall
// CHECK-NOT:       moe.gate
// CHECK:           moe.route
func.func @assert_on_logits(%x: tensor<4x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<4x2xi32>, tensor<4x2xf32>) {
  %c0 = arith.constant 0 : index
  %logits = moe.gate %x, %w
      : (tensor<4x64xf32>, tensor<8x64xf32>) -> tensor<4x8xf32>
  %l = tensor.extract %logits[%c0, %c0] : tensor<4x8xf32>
  %is_number = arith.cmpf ord, %l, %l : f32
  cf.assert %is_number, "a logit is not a number"
  // expected-remark @below {{not fused with a gate: an op in front of it reads its logits and cannot move}}
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<4x8xf32> -> tensor<4x2xi32>, tensor<4x2xf32>
  return %ids, %weights : tensor<4x2xi32>, tensor<4x2xf32>
}
