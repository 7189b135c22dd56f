// RUN: moe-opt %s --split-input-file --convert-moe-to-linalg=threads=true \
// RUN:   | FileCheck %s

// Chunks of 32 tokens count what they have of an expert in a slot, a column
// each are added up, and an assignment is kept where fewer than the capacity
// are in front of it.

// CHECK-LABEL: func @first_come
// CHECK-SAME:    %[[IDS:[^ ]+]]: tensor<?x2xi32>, %[[W:[^ ]+]]: tensor<?x2xf32>
// CHECK-NOT:  scf.for %
// CHECK:      %[[COUNTS:[^ ]+]] = scf.forall (%[[CHUNK:[^ ]+]], %{{[^ ]+}}) in (%{{.+}}, 8)
// CHECK:        %[[BEGIN:[^ ]+]] = arith.muli %[[CHUNK]], %c32
// CHECK:        scf.for %[[T:[^ ]+]] = %[[BEGIN]] to
// CHECK:          tensor.extract %[[IDS]][%[[T]],
// CHECK:          arith.cmpi eq
// CHECK:      %[[TABLE:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (1, 8) shared_outs(%{{.+}} = %[[COUNTS]])
// CHECK:        scf.for {{.+}} -> (tensor<?x1xi32>, i32)
// CHECK:      %[[STARTS:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (1, 8)
// CHECK:        tensor.extract %[[TABLE]]
// CHECK:      %[[KEPT:[^ ]+]] = scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 2)
// CHECK:        scf.if
// CHECK:          tensor.extract %[[STARTS]]
// CHECK:          tensor.extract %[[TABLE]]
// CHECK:          scf.for
// CHECK:          %[[SERVED:[^ ]+]] = arith.cmpi ult
// CHECK:          arith.select %[[SERVED]]
// CHECK:      linalg.generic {{.+}} ins(%[[IDS]], %[[KEPT]], %[[W]]
// CHECK-NOT:  scf.for %
func.func @first_come(%ids: tensor<?x2xi32>, %w: tensor<?x2xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %kept, %v = moe.limit_capacity %ids, %w experts 4
      by #moe.capacity<factor = 1.0> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  return %kept, %v : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// The check of offsets by chunks. A token counts who is served before it, and
// stands in the queue there; chunks are of the queue.

// CHECK-LABEL: func @prioritised
// CHECK-SAME:    %[[IDS:[^ ]+]]: tensor<?x2xi32>, %[[W:[^ ]+]]: tensor<?x2xf32>, %[[GROUPS:[^ ]+]]: tensor<?xi32>
// CHECK:      %[[FOUND:[^ ]+]] = scf.forall
// CHECK:        scf.for
// CHECK:          arith.cmpi sle
// CHECK:      %[[FITS:[^ ]+]] = scf.for
// CHECK:        tensor.extract %[[FOUND]]
// CHECK:      cf.assert %[[FITS]], "moe.limit_capacity: the group offsets do not ascend
// CHECK:      %[[KEYS:[^ ]+]] = scf.forall
// CHECK:        tensor.extract %[[W]]
// CHECK:      %[[RANKS:[^ ]+]] = scf.forall
// CHECK:        tensor.extract %[[KEYS]]
// CHECK:          arith.cmpi sge
// CHECK:          arith.cmpi sgt
// CHECK:      %[[TURNS:[^ ]+]] = scf.forall
// CHECK:        tensor.extract %[[RANKS]]
// CHECK:      %[[QUEUE:[^ ]+]] = scf.forall (%[[TOKEN:[^ ]+]]) in
// CHECK:        %[[TURN:[^ ]+]] = tensor.extract %[[TURNS]][%[[TOKEN]],
// CHECK:        %[[PLACE:[^ ]+]] = arith.index_cast %[[TURN]]
// CHECK:        arith.index_cast %[[TOKEN]]
// CHECK:        tensor.parallel_insert_slice %{{.+}} into %{{.+}}[%[[PLACE]], 0]
// CHECK:      scf.forall
// CHECK:        scf.for
// CHECK:          tensor.extract %[[QUEUE]]
// CHECK:          tensor.extract %[[IDS]]
// The weights of a token over their sum.
// CHECK:      linalg.generic
// CHECK:      scf.forall
// CHECK:        arith.maximumf
// CHECK:        arith.divf
func.func @prioritised(%ids: tensor<?x2xi32>, %w: tensor<?x2xf32>,
                       %groups: tensor<?xi32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %kept, %v = moe.limit_capacity %ids, %w experts 4
      by #moe.capacity<factor = 1.0> queue <prioritized> normalize 1.0e-9
      groups(%groups : tensor<?xi32>) : tensor<?x2xi32>, tensor<?x2xf32>
  return %kept, %v : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Nothing to serve, and nothing to do.

// CHECK-LABEL: func @no_slots
// CHECK-SAME:    %[[IDS:[^ ]+]]: tensor<?x0xi32>, %[[W:[^ ]+]]: tensor<?x0xf32>
// CHECK-NOT:  scf.forall
// CHECK:      return %[[IDS]], %[[W]]
func.func @no_slots(%ids: tensor<?x0xi32>, %w: tensor<?x0xf32>)
    -> (tensor<?x0xi32>, tensor<?x0xf32>) {
  %kept, %v = moe.limit_capacity %ids, %w experts 4
      by #moe.capacity<factor = 1.0> queue <prioritized>
      : tensor<?x0xi32>, tensor<?x0xf32>
  return %kept, %v : tensor<?x0xi32>, tensor<?x0xf32>
}
