// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg=threads=true \
// RUN:   | FileCheck %s

// Experts choose without a sort: a token counts those in front of it, an
// earlier one where keys are equal, and a slot looks for the token of its rank.

// CHECK-LABEL: func @choose
// CHECK-SAME:    %[[LOGITS:[^ ]+]]: tensor<?x4xf32>
// CHECK:      cf.assert %{{.+}}, "moe.route_experts: the group offsets do not ascend
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

// -----

// With a cap a sweep is two parallel loops: the sum of a group's expert over
// its tokens, and a token's part of log A and of its corrections.

// CHECK-LABEL: func @capped
// CHECK-SAME:    %{{[^ ]+}}: tensor<?x4xf32>, %[[MASK:[^ ]+]]: tensor<?xi1>
// CHECK:      %[[TAKEN:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (1, 1)
// CHECK:        tensor.extract %[[MASK]]
// CHECK:      scf.for {{.+}} -> (tensor<?x4xf64>, tensor<?x1xf64>, tensor<?x4xf64>, tensor<1x4xf64>)
// CHECK:        %[[STEPS:[^ ]+]] = scf.forall (%[[G:[^ ]+]], %{{[^ ]+}}) in (1, 4)
// CHECK:          tensor.extract %[[TAKEN]][%[[G]],
// CHECK:          scf.for {{.+}} -> (f64)
// CHECK:            arith.maximumf
// CHECK:          scf.for {{.+}} -> (f64)
// CHECK:            math.exp
// CHECK:          math.log
// CHECK:        scf.forall (%{{[^ ]+}}) in (%{{.+}}) shared_outs(%{{.+}}, %{{.+}}, %{{.+}}) -> (tensor<?x4xf64>, tensor<?x1xf64>, tensor<?x4xf64>)
// CHECK:          tensor.extract %[[STEPS]]
// CHECK:          arith.minimumf
// CHECK:          arith.maximumf
// CHECK:          tensor.parallel_insert_slice
// CHECK-COUNT-2:  tensor.parallel_insert_slice
// CHECK:        scf.yield
// Weights are the assignment's.
// CHECK:      math.exp
func.func @capped(%logits: tensor<?x4xf32>, %mask: tensor<?xi1>)
    -> (tensor<4x2xi32>, tensor<4x2xf32>) {
  %ids, %weights = moe.route_experts #moe.expert_choice<
      capacity = <fixed = 2>, cap = 1.0, strength = 0.1, sweeps = 9,
      weights = assignment> %logits mask(%mask : tensor<?xi1>)
      : tensor<?x4xf32> -> tensor<4x2xi32>, tensor<4x2xf32>
  return %ids, %weights : tensor<4x2xi32>, tensor<4x2xf32>
}
