// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg=threads=true \
// RUN:   | FileCheck %s
// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg \
// RUN:   | FileCheck %s --check-prefix=ROWS

// Soft slots for threads: a column of a group is one iteration's, or a row.

// CHECK-LABEL: func @route
// CHECK-SAME:    %[[LOGITS:[^ ]+]]: tensor<?x6xf32>, %[[MASK:[^ ]+]]: tensor<?xi1>
// CHECK:      cf.assert %{{.+}}, "moe.route_slots: the group offsets do not ascend
// CHECK:      scf.forall (%[[G:[^ ]+]], %[[S:[^ ]+]]) in (%{{.+}}, 6)
// CHECK:        tensor.extract_slice %{{.+}}[%{{.+}}, %[[S]]] [%{{.+}}, 1] [1, 1]
// The largest, the sum, the shares, of tokens that are there.
// CHECK:        scf.for %[[T:[^ ]+]] = {{.+}} -> (f32)
// CHECK:          tensor.extract %[[MASK]][%[[T]]]
// CHECK:          tensor.extract %[[LOGITS]][%[[T]], %[[S]]]
// CHECK:          arith.maximumf
// CHECK:        scf.for {{.+}} -> (f32)
// CHECK:          math.exp
// CHECK:        scf.for {{.+}} -> (tensor<?x1xf32>)
// CHECK:          arith.divf
// CHECK:          tensor.insert
// CHECK:        tensor.parallel_insert_slice
// CHECK:      scf.forall (%{{.+}}) in (%{{.+}})
// CHECK:        scf.for {{.+}} -> (tensor<1x6xf32>)
// CHECK:        tensor.parallel_insert_slice

// ROWS-LABEL: func @route
// ROWS-NOT:   scf.forall
// ROWS:       return
func.func @route(%logits: tensor<?x6xf32>, %mask: tensor<?xi1>,
                 %groups: tensor<?xi32>)
    -> (tensor<?x6xf32>, tensor<?x6xf32>) {
  %dispatch, %combine = moe.route_slots %logits mask(%mask : tensor<?xi1>)
      groups(%groups : tensor<?xi32>)
      : tensor<?x6xf32> -> tensor<?x6xf32>, tensor<?x6xf32>
  return %dispatch, %combine : tensor<?x6xf32>, tensor<?x6xf32>
}

// -----

// A number of a slot's row: the tokens of its group in order; a weight of 0
// adds nothing.

// CHECK-LABEL: func @dispatch
// CHECK-SAME:    %[[X:[^ ]+]]: tensor<?x8xbf16>, %[[D:[^ ]+]]: tensor<?x6xf32>
// CHECK:      scf.forall (%{{.+}}, %[[PLACE:[^ ]+]]) in (%{{.+}}, 8)
// CHECK:        scf.for %[[T:[^ ]+]] =
// CHECK:          tensor.extract %[[D]][%[[T]],
// CHECK:          tensor.extract %[[X]][%[[T]], %[[PLACE]]]
// CHECK:          math.fma
// CHECK:          arith.cmpf oeq
// CHECK:          arith.select
// CHECK:        arith.truncf %{{.+}} : f32 to bf16
// CHECK:        tensor.parallel_insert_slice {{.+}} : tensor<1x1xbf16>
// ROWS-LABEL: func @dispatch
func.func @dispatch(%x: tensor<?x8xbf16>, %dispatch: tensor<?x6xf32>)
    -> (tensor<?x8xbf16>, tensor<4xi32>) {
  %rows, %offsets = moe.soft_dispatch %x, %dispatch experts 3
      : (tensor<?x8xbf16>, tensor<?x6xf32>)
      -> (tensor<?x8xbf16>, tensor<4xi32>)
  return %rows, %offsets : tensor<?x8xbf16>, tensor<4xi32>
}

// -----

// A token looks for its group, as a number of the result is one iteration's.

// CHECK-LABEL: func @combine
// CHECK:      cf.assert %{{.+}}, "moe.soft_combine: the group offsets do not ascend
// CHECK:      scf.forall (%[[T:[^ ]+]], %{{.+}}) in (%{{.+}}, 8)
// CHECK:        scf.for {{.+}} -> (index)
// CHECK:          arith.cmpi ule, %{{.+}}, %[[T]]
// CHECK:        scf.for {{.+}} -> (f32)
// CHECK:          math.fma
// ROWS-LABEL: func @combine
func.func @combine(%rows: tensor<?x8xf32>, %combine: tensor<?x6xf32>,
                   %groups: tensor<?xi32>) -> tensor<?x8xf32> {
  %y = moe.soft_combine %rows, %combine experts 3 groups(%groups : tensor<?xi32>)
      : (tensor<?x8xf32>, tensor<?x6xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Backwards: a product of a token's row and a slot's, and the softmax pulled
// back along a row once for all of its slots.

// CHECK-LABEL: func @dots
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 6)
// CHECK:        scf.for {{.+}} -> (f32)
// CHECK:          math.fma
// CHECK-LABEL: func @pull
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 1)
// CHECK:        math.fma
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (1, 6)
// CHECK:        scf.for {{.+}} -> (f32)
// CHECK:          math.fma
// CHECK:        scf.for {{.+}} -> (tensor<?x1xf32>)
// CHECK-COUNT-2:  arith.subf
// CHECK:          arith.addf
// CHECK:          tensor.insert
// ROWS-LABEL: func @dots
func.func @dots(%x: tensor<?x8xf32>, %rows: tensor<?x8xf32>,
                %groups: tensor<?xi32>) -> tensor<?x6xf32> {
  %0 = moe.soft_dots %x, %rows experts 3 groups(%groups : tensor<?xi32>)
      : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x6xf32>
  return %0 : tensor<?x6xf32>
}

func.func @pull(%d: tensor<?x6xf32>) -> tensor<?x6xf32> {
  %0 = moe.route_slots_vjp %d, %d by %d, %d
      : tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>, tensor<?x6xf32>
      -> tensor<?x6xf32>
  return %0 : tensor<?x6xf32>
}
