// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg=threads=true \
// RUN:   | FileCheck %s

// A column of a chunk of tokens is added up by an iteration, the chunks of a
// group by another, and what follows from a group's sums is made beside that of
// other groups. One loop alone adds up the groups.

// CHECK-LABEL: func @balance
// CHECK-SAME:    %[[S:[^ ]+]]: tensor<?x4xf32>, %[[IDS:[^ ]+]]: tensor<?x2xi32>, %[[MASK:[^ ]+]]: tensor<?xi1>, %[[GROUPS:[^ ]+]]: tensor<?xi32>
// CHECK:      cf.assert {{.+}} "moe.aux_loss: the group offsets do not ascend
// The group of a token, and of a chunk; how many tokens take part.
// CHECK:      scf.forall
// CHECK:      %[[OF:[^ ]+]] = scf.forall
// CHECK:        arith.cmpi ule
// CHECK:      %[[SOME:[^ ]+]] = scf.forall
// CHECK:        tensor.extract %[[MASK]]
// CHECK:      %[[LIVE:[^ ]+]] = scf.forall
// CHECK:        tensor.extract %[[SOME]]
// CHECK:      %[[PARTS:[^ ]+]] = scf.forall (%[[CHUNK:[^ ]+]], %[[E:[^ ]+]]) in (%{{.+}}, 4)
// CHECK:        tensor.extract %[[OF]][%[[CHUNK]],
// CHECK:        scf.for %[[T:[^ ]+]] =
// CHECK:          %[[IS:[^ ]+]] = tensor.extract %[[MASK]][%[[T]]]
// CHECK:          scf.if %[[IS]]
// CHECK:            tensor.extract %[[S]][%[[T]], %[[E]]]
// CHECK:      %[[SUMS:[^ ]+]] = scf.forall (%{{.+}}, %[[X:[^ ]+]]) in (%{{.+}}, 4)
// CHECK:        scf.for %[[PART:[^ ]+]] =
// CHECK:          tensor.extract %[[PARTS]][%[[PART]], %[[X]]]
// CHECK:      scf.forall
// CHECK:        tensor.extract %[[IDS]]
// CHECK:      %[[COUNTS:[^ ]+]] = scf.forall
// CHECK:      %[[LOSSES:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 1)
// CHECK:        tensor.extract %[[LIVE]]
// CHECK:        tensor.extract_slice %[[SUMS]]
// CHECK:        tensor.extract_slice %[[COUNTS]]
// CHECK:      scf.for
// CHECK:        tensor.extract %[[LOSSES]]
func.func @balance(%s: tensor<?x4xf32>, %ids: tensor<?x2xi32>,
                   %mask: tensor<?xi1>, %groups: tensor<?xi32>)
    -> tensor<f32> {
  %0 = moe.aux_loss <balance> %s ids(%ids : tensor<?x2xi32>)
      mask(%mask : tensor<?xi1>) groups(%groups : tensor<?xi32>)
      coefficient 0.5 : tensor<?x4xf32> -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// A token's term is an iteration's, as the loop over its experts is.

// CHECK-LABEL: func @z
// CHECK-SAME:    %[[X:[^ ]+]]: tensor<?x4xf32>
// CHECK:      %[[TERMS:[^ ]+]] = scf.forall (%[[T:[^ ]+]], %{{[^ ]+}}) in (%{{.+}}, 1)
// CHECK:        tensor.extract %[[X]][%[[T]],
// CHECK:        math.exp
// CHECK:        math.log
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 1)
// CHECK:        tensor.extract %[[TERMS]]
// CHECK-NOT:    math.exp
func.func @z(%x: tensor<?x4xf32>) -> tensor<f32> {
  %0 = moe.aux_loss <z> %x coefficient 0.5 : tensor<?x4xf32> -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// A softmax over tokens takes a largest number and a sum by chunks.

// CHECK-LABEL: func @token_balance
// CHECK:      scf.forall
// CHECK:        arith.maximumf
// CHECK:      %[[LARGEST:[^ ]+]] = scf.forall
// CHECK:        arith.maximumf
// CHECK:      scf.forall
// CHECK:        tensor.extract %[[LARGEST]]
// CHECK:        math.exp
// CHECK:        arith.addf
// CHECK:      %[[TOTALS:[^ ]+]] = scf.forall
// CHECK:        arith.addf
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 4)
// CHECK:        tensor.extract %[[TOTALS]]
// CHECK:        arith.divf
func.func @token_balance(%x: tensor<?x4xf32>) -> tensor<f32> {
  %0 = moe.aux_loss <token_balance> %x coefficient 0.5
      : tensor<?x4xf32> -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// The thresholds of a token are found once for its row.

// CHECK-LABEL: func @load
// CHECK:      %[[CHANCES:[^ ]+]] = scf.forall (%{{[^ ]+}}) in (%{{.+}}) shared_outs
// CHECK:        scf.for
// CHECK:        scf.for
// CHECK:          math.erfc
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 4)
// CHECK:        tensor.extract %[[CHANCES]]
// CHECK-NOT:    math.erfc
func.func @load(%clean: tensor<?x4xf32>, %noisy: tensor<?x4xf32>)
    -> tensor<f32> {
  %0 = moe.load_loss <kth> %clean, %noisy std 0.5 k 2 eps 1.0e-10
      coefficient 0.5 : tensor<?x4xf32>, tensor<?x4xf32> -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// CHECK-LABEL: func @expert_load
// CHECK-SAME:    %[[IDS:[^ ]+]]: tensor<?x2xi32>, %[[W:[^ ]+]]: tensor<?x2xbf16>
// CHECK:      %[[PARTS:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 4)
// CHECK:        tensor.extract %[[IDS]]
// CHECK:        tensor.extract %[[W]]
// CHECK:      %[[SUMS:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (1, 4)
// CHECK:        tensor.extract %[[PARTS]]
// CHECK:      tensor.extract_slice %[[SUMS]][0, 0] [1, 4]
func.func @expert_load(%ids: tensor<?x2xi32>, %w: tensor<?x2xbf16>)
    -> tensor<4xf32> {
  %0 = moe.expert_load %ids weights(%w : tensor<?x2xbf16>)
      : tensor<?x2xi32> -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// A group's slopes are a row of a table, which all of its tokens take; or an
// iteration makes a token's row.

// CHECK-LABEL: func @balance_vjp
// CHECK-SAME:    %[[S:[^ ]+]]: tensor<?x4xf32>, %[[IDS:[^ ]+]]: tensor<?x2xi32>
// CHECK:      scf.forall
// CHECK:        tensor.extract %[[IDS]]
// CHECK:      %[[COUNTS:[^ ]+]] = scf.forall
// CHECK:      %[[SLOPES:[^ ]+]] = scf.forall (%{{[^ ]+}}) in (1)
// CHECK:        tensor.extract_slice %[[COUNTS]]
// CHECK:      scf.forall (%{{.+}}, %[[E:[^ ]+]]) in (%{{.+}}, 4)
// CHECK:        tensor.extract %[[SLOPES]][%{{.+}}, %[[E]]]
// CHECK-NOT:    scf.for %
// CHECK:      return
func.func @balance_vjp(%s: tensor<?x4xf32>, %ids: tensor<?x2xi32>,
                       %d: tensor<f32>) -> tensor<?x4xf32> {
  %0 = moe.aux_loss_vjp <balance> %s by %d ids(%ids : tensor<?x2xi32>)
      coefficient 0.5 : tensor<?x4xf32>, tensor<f32> -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}

// CHECK-LABEL: func @z_vjp
// CHECK-SAME:    %[[X:[^ ]+]]: tensor<?x4xf32>
// CHECK:      scf.forall (%[[T:[^ ]+]]) in (%{{.+}}) shared_outs
// CHECK:        tensor.extract %[[X]][%[[T]],
// CHECK:        math.log
// CHECK:        scf.for {{.+}} -> (tensor<1x4xf32>)
// CHECK:          tensor.insert
func.func @z_vjp(%x: tensor<?x4xf32>, %d: tensor<f32>) -> tensor<?x4xf32> {
  %0 = moe.aux_loss_vjp <z> %x by %d coefficient 0.5
      : tensor<?x4xf32>, tensor<f32> -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
