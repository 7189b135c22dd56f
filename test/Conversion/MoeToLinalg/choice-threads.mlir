// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg=threads=true \
// RUN:   | FileCheck %s

// Experts choose without a sort: a token counts those in front of it, an
// earlier one where keys are equal, and a slot looks for the token of its rank.

// CHECK-LABEL: func @choose
// CHECK-SAME:    %[[LOGITS:[^ ]+]]: tensor<?x4xf32>
// CHECK:      %[[KEYS:[^ ]+]] = scf.forall
// CHECK:      %[[RANKS:[^ ]+]] = scf.forall (%[[T:[^ ]+]], %[[E:[^ ]+]]) in (%{{.+}}, 4)
// CHECK:        scf.for %[[GROUP:[^ ]+]] =
// CHECK:        %[[OWN:[^ ]+]] = tensor.extract %[[KEYS]][%[[T]], %[[E]]]
// CHECK:        scf.for %[[OTHER:[^ ]+]] = %{{.+}} to %[[T]]
// CHECK:          %[[KEY:[^ ]+]] = tensor.extract %[[KEYS]][%[[OTHER]], %[[E]]]
// CHECK:          arith.cmpi sge, %[[KEY]], %[[OWN]]
// CHECK:        scf.for %{{.+}} = %[[T]] to
// CHECK:          arith.cmpi sgt
// CHECK:      %[[IDS:[^ ]+]] = scf.forall (%[[X:[^ ]+]], %[[SLOT:[^ ]+]]) in (4, %{{.+}})
// The group that the slot is in, by the capacities of those in front.
// CHECK:        scf.for
// CHECK:          arith.cmpi ule, %{{.+}}, %[[SLOT]]
// CHECK:        scf.for %[[TOKEN:[^ ]+]] =
// CHECK:          tensor.extract %[[RANKS]][%[[TOKEN]], %[[X]]]
// CHECK:          arith.cmpi eq
// Weights, by how many experts took a token.
// CHECK:      %[[TAKERS:[^ ]+]] = scf.forall (%[[OF:[^ ]+]], %{{.+}}) in (%{{.+}}, 1)
// CHECK:        tensor.extract %[[IDS]]
// CHECK:      scf.forall
// CHECK:        tensor.extract %[[IDS]]
// CHECK:        scf.if
// CHECK:          tensor.extract %[[TAKERS]]
// CHECK:          arith.divf
func.func @choose(%logits: tensor<?x4xf32>, %groups: tensor<?xi32>)
    -> (tensor<4x?xi32>, tensor<4x?xf32>) {
  %ids, %weights = moe.route_experts #moe.expert_choice<
      capacity = <factor = 2.0>, axis = experts, normalize = sum> %logits
      groups(%groups : tensor<?xi32>)
      : tensor<?x4xf32> -> tensor<4x?xi32>, tensor<4x?xf32>
  return %ids, %weights : tensor<4x?xi32>, tensor<4x?xf32>
}

// -----

// A slope is its slot's cotangent, which (token, expert) looks for; softmax
// over tokens is pulled back down a group's column.

// CHECK-LABEL: func @pull
// CHECK-SAME:    %{{[^ ]+}}: tensor<?x4xf32>, %[[IDS:[^ ]+]]: tensor<4x?xi32>, %[[D:[^ ]+]]: tensor<4x?xf32>
// CHECK:      %[[SLOPES:[^ ]+]] = scf.forall (%{{.+}}, %[[E:[^ ]+]]) in
// CHECK:        scf.for %[[SLOT:[^ ]+]] =
// CHECK:          tensor.extract %[[IDS]][%[[E]], %[[SLOT]]]
// CHECK:          tensor.extract %[[D]][%[[E]], %[[SLOT]]]
// CHECK:      %[[SHARES:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (1, 4)
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (1, 4)
// CHECK:        scf.for {{.+}} -> (f32)
// CHECK:          tensor.extract %[[SHARES]]
// CHECK:        scf.for {{.+}} -> (tensor<?x1xf32>)
// CHECK:          tensor.insert
func.func @pull(%logits: tensor<?x4xf32>, %ids: tensor<4x?xi32>,
                %d: tensor<4x?xf32>) -> tensor<?x4xf32> {
  %0 = moe.route_experts_vjp #moe.expert_choice<capacity = <factor = 2.0>,
      axis = tokens> %logits, %ids by %d
      : tensor<?x4xf32>, tensor<4x?xi32>, tensor<4x?xf32> -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
