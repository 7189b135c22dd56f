// RUN: moe-opt %s --split-input-file --moe-fuse-gating | FileCheck %s
// RUN: moe-opt %s --split-input-file --moe-fuse-gating \
// RUN:   --remark-format=emitRemark --remarks-filter-analyse=moe-fuse-gating \
// RUN:   2>&1 | FileCheck %s --check-prefix=REMARK

// Mixed: gate and score once, for all tokens; then mix and choice by tiles.
// CHECK-LABEL: func.func @mixed_probabilities(
// CHECK-NOT:     moe.gate
// CHECK:         %[[S:.+]] = scf.forall
// CHECK:           moe.gate
// CHECK-NEXT:      moe.score
// CHECK:         %[[R:.+]]:2 = scf.forall (%[[I:.+]]) =
// CHECK:           %[[Q:.+]] = tensor.extract_slice %{{.+}}[%[[I]], 0]
// CHECK:           %[[F:.+]] = arith.index_cast %[[I]] : index to i64
// CHECK:           %[[M:.+]] = moe.mix %[[S]] query(%[[Q]] : {{.*}} from(%[[F]]) causal
// CHECK-NEXT:      moe.route #moe.top_k<k = 2, score = none> %[[M]]
// CHECK-NOT:     moe.gate
// CHECK-NOT:     moe.mix
// CHECK:         return %[[R]]#0, %[[R]]#1
func.func @mixed_probabilities(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %s = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  // REMARK: not fused with the gate in front: a mix reads the values of other tokens
  %m = moe.mix %s query(%x : tensor<?x64xf32>) key(%x : tensor<?x64xf32>) causal
      : tensor<?x8xf32> -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, score = none> %m
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Logits mixed by a matrix, whose rows are sliced; the score follows the mix.
// CHECK-LABEL: func.func @mixed_logits(
// CHECK:         %[[L:.+]] = moe.gate
// CHECK-NOT:     moe.gate
// CHECK:         scf.forall (%[[I:.+]]) =
// CHECK:           %[[A:.+]] = tensor.extract_slice %{{.+}}[0, %[[I]], 0] [4, %{{.+}}, %{{.+}}]
// CHECK:           moe.mix_matrix %[[L]] by %[[A]] from(%{{.+}})
// CHECK-NEXT:      moe.score
// CHECK-NEXT:      moe.route #moe.exact_k<k = 2>
func.func @mixed_logits(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                        %a: tensor<4x?x?xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // REMARK: not fused with the gate in front: a mix reads the values of other tokens
  %m = moe.mix_matrix %logits by %a
      : (tensor<?x8xf32>, tensor<4x?x?xf32>) -> tensor<?x8xf32>
  %s = moe.score %m by none {softcap = 30.0 : f64}
      : tensor<?x8xf32> -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.exact_k<k = 2> %s
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Global: the selection per group stays. Unit rows, gate and the softmax over a
// token's slots, which is a score, run by tiles.
// CHECK-LABEL: func.func @soft(
// CHECK:         %[[W:.+]] = scf.forall
// CHECK:           moe.unit_rows %{{.+}} scale(
// CHECK:         %[[R:.+]]:2 = scf.forall
// CHECK:           moe.unit_rows
// CHECK-NEXT:      moe.gate %{{.+}}, %[[W]]
// CHECK-NEXT:      moe.score %{{.+}} by softmax
// CHECK:         %[[D:.+]], %{{.+}} = moe.route_slots %[[R]]#1
// CHECK:         return %[[D]], %[[R]]#0
func.func @soft(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: tensor<f32>)
    -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %u = moe.unit_rows %x eps <add> 1.0e-6 : tensor<?x64xf32> -> tensor<?x64xf32>
  %p = moe.unit_rows %w eps <add> 1.0e-6 scale(%s : tensor<f32>)
      : tensor<8x64xf32> -> tensor<8x64xf32>
  %logits = moe.gate %u, %p
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // REMARK: not fused with the gate in front: a slot is an average of all tokens of a group
  %d, %c = moe.route_slots %logits
      : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
  return %d, %c : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----

// The cosine gate of a token-local router is one loop.
// CHECK-LABEL: func.func @cosine(
// CHECK:         scf.forall
// CHECK:           moe.unit_rows
// CHECK-NEXT:      moe.gate
// CHECK-NEXT:      moe.route
// CHECK-NOT:     moe.gate
func.func @cosine(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %u = moe.unit_rows %x eps <clamp> 1.0e-12
      : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = moe.gate %u, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Expert choice's softmax over experts is a score as well.
// CHECK-LABEL: func.func @expert_choice(
// CHECK:         %[[S:.+]] = scf.forall
// CHECK:           moe.gate
// CHECK-NEXT:      moe.score %{{.+}} by softmax
// CHECK:         moe.route_experts #moe.expert_choice<{{.*}}axis = given> %[[S]]
func.func @expert_choice(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<8x?xi32>, tensor<8x?xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // REMARK: not fused with the gate in front: experts choose among all tokens of a group
  %ids, %weights = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>> %logits
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  return %ids, %weights : tensor<8x?xi32>, tensor<8x?xf32>
}

// -----

// Scores over tokens, and those that a cap wants in f64, stay in the selection.
// CHECK-LABEL: func.func @not_split(
// CHECK:         %[[L:.+]] = moe.gate
// CHECK-NOT:     moe.score
// CHECK:         moe.route_experts #moe.expert_choice<{{.*}}axis = tokens> %[[L]]
// CHECK:         moe.route_experts #moe.expert_choice<{{.*}}cap = 1.0{{.*}}> %[[L]]
func.func @not_split(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<8x?xi32>, tensor<8x?xi32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // REMARK: not fused with the gate in front: experts choose among all tokens of a group
  %a, %0 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>, axis = tokens> %logits
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  // REMARK: not fused with the gate in front: experts choose among all tokens of a group
  %b, %1 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>, cap = 1.0> %logits
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  return %a, %b : tensor<8x?xi32>, tensor<8x?xi32>
}

// -----

// Product keys: both halves are one gate.
// CHECK-LABEL: func.func @product_keys(
// CHECK:         scf.forall
// CHECK:           moe.gate
// CHECK-NEXT:      moe.route #moe.product_keys<k = 2, left = 4>
// CHECK-NOT:     moe.gate
func.func @product_keys(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.product_keys<k = 2, left = 4> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
