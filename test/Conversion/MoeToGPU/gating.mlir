// RUN: moe-opt %s --split-input-file --moe-fuse-gating=tile-size=64 \
// RUN:   --canonicalize --convert-moe-gating-to-gpu | FileCheck %s

// The fused loop is the grid, a tile is a block, a token is a thread. The
// pointers are checked for the width of the loads.

// CHECK-LABEL: func @fused
// CHECK-SAME:    %[[X:.+]]: tensor<?x64xf32>, %[[W:.+]]: tensor<8x64xf32>,
// CHECK-SAME:    %[[IDS:.+]]: memref<?x2xi32>, %[[WEIGHTS:.+]]: memref<?x2xf32>
// CHECK-DAG:  %[[XB:.+]] = bufferization.to_buffer %[[X]] read_only
// CHECK-DAG:  %[[WB:.+]] = bufferization.to_buffer %[[W]] read_only
// CHECK:      cf.assert %{{.+}}, "moe.gate: the input is not aligned to 16 bytes"
// CHECK:      cf.assert %{{.+}}, "moe.gate: the weight is not aligned to 16 bytes"
// CHECK:      %[[ROUND:.+]] = arith.addi %[[T:.+]], %c63
// CHECK:      %[[BLOCKS:.+]] = arith.divui %[[ROUND]], %c64
// CHECK:      %[[GRID:.+]] = arith.maxui %[[BLOCKS]], %c1
// CHECK:      gpu.launch blocks(%[[BX:.+]], %{{.+}}, %{{.+}}) in (%{{.+}} = %[[GRID]],
// CHECK-SAME:   threads(%[[TX:.+]], %{{.+}}, %{{.+}}) in (%{{.+}} = %c64
// CHECK:        %[[FIRST:.+]] = arith.muli %[[BX]], %c64
// CHECK:        %[[SIZE:.+]] = affine.min {{.*}}(%[[FIRST]])
// CHECK:        %[[ACTIVE:.+]] = arith.cmpi slt, %[[TX]], %[[SIZE]]
// Private rows stand before the branch.
// CHECK:        memref.alloca() : memref<8xf32>
// CHECK:        scf.if %[[ACTIVE]]
// CHECK:          %[[TOKEN:.+]] = arith.addi %[[FIRST]], %[[TX]]
// CHECK:          scf.for
// CHECK:            vector.load %[[XB]][%[[TOKEN]], %{{.+}}] {alignment = 16 : i64}
// CHECK:            vector.load %[[WB]][%{{.+}}, %{{.+}}] {alignment = 16 : i64}
// CHECK-COUNT-32:   math.fma
// The token body, as it is.
// CHECK:          %[[ROW:.+]] = bufferization.to_tensor %{{.+}} restrict : memref<8xf32>
// CHECK:          tensor.extract %[[ROW]]
// CHECK:          memref.store %{{.+}}, %[[IDS]][%{{.+}}, %c0{{.*}}] : memref<?x2xi32>
// CHECK:          memref.store %{{.+}}, %[[IDS]][%{{.+}}, %c1{{.*}}] : memref<?x2xi32>
// CHECK:          memref.store %{{.+}}, %[[WEIGHTS]][%{{.+}}, %c0{{.*}}]
// CHECK:        gpu.terminator
// CHECK-NOT:  moe.
// CHECK-NOT:  scf.forall
// CHECK-NOT:  materialize_in_destination
// CHECK:      return
func.func @fused(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                 %ids: memref<?x2xi32>, %weights: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %0, %1 = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %0 in restrict writable %ids
      : (tensor<?x2xi32>, memref<?x2xi32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %weights
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

// One tile has no loop. Seven columns are loaded one at a time, whatever the
// pointers; logits are rounded once to their type and written as well; the
// mask empties slots.

// CHECK-LABEL: func @plain
// CHECK-NOT:   cf.assert
// CHECK:       gpu.launch {{.*}} threads({{.*}}) in (%{{.+}} = %c128
// CHECK:         scf.if
// CHECK:           memref.load %{{.+}} : memref<{{.*}}x7xbf16>
// CHECK:           arith.extf %{{.+}} : bf16 to f32
// CHECK:           %[[BIAS:.+]] = tensor.extract %{{.+}} : tensor<4xf32>
// CHECK:           %[[SUM:.+]] = arith.addf %{{.+}}, %[[BIAS]]
// CHECK:           %[[LOGIT:.+]] = arith.truncf %[[SUM]] : f32 to bf16
// CHECK:           %[[WIDE:.+]] = arith.extf %[[LOGIT]] : bf16 to f32
// CHECK:           memref.store %[[WIDE]], %{{.+}} : memref<4xf32>
// CHECK:           memref.store %[[LOGIT]], %{{.+}} : memref<40x4xbf16>
// CHECK:           %[[ON:.+]] = tensor.extract %{{.+}} : tensor<{{.*}}xi1>
// CHECK:           arith.select %[[ON]], %{{.+}}, %c-1_i32 : i32
// CHECK:           arith.select %[[ON]], %{{.+}}, %{{.+}} : f32
// CHECK:       return
func.func @plain(%x: tensor<40x7xbf16>, %w: tensor<4x7xbf16>,
                 %b: tensor<4xf32>, %mask: tensor<40xi1>,
                 %ids: memref<40x1xi32>, %weights: memref<40x1xf32>,
                 %out: memref<40x4xbf16>) {
  %logits = moe.gate %x, %w bias(%b : tensor<4xf32>)
      : (tensor<40x7xbf16>, tensor<4x7xbf16>) -> tensor<40x4xbf16>
  %0, %1 = moe.route #moe.top_k<k = 1> %logits mask(%mask : tensor<40xi1>)
      : tensor<40x4xbf16> -> tensor<40x1xi32>, tensor<40x1xf32>
  bufferization.materialize_in_destination %0 in restrict writable %ids
      : (tensor<40x1xi32>, memref<40x1xi32>) -> ()
  bufferization.materialize_in_destination %1 in restrict writable %weights
      : (tensor<40x1xf32>, memref<40x1xf32>) -> ()
  bufferization.materialize_in_destination %logits in restrict writable %out
      : (tensor<40x4xbf16>, memref<40x4xbf16>) -> ()
  return
}

// -----

// Forty experts: two rounds of 16 sums, then the 8 left.

// CHECK-LABEL: func @many_experts
// CHECK:       scf.for %{{.+}} = %c0{{.*}} to %c32{{.*}} step %c16
// CHECK:         scf.for
// CHECK-COUNT-16: math.fma
// CHECK:       scf.for
// CHECK-COUNT-8: math.fma
// CHECK-NOT:   math.fma
// CHECK:       gpu.terminator
func.func @many_experts(%x: tensor<?x3xf32>, %w: tensor<40x3xf32>,
                        %ids: memref<?x1xi32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x3xf32>, tensor<40x3xf32>) -> tensor<?x40xf32>
  %0, %1 = moe.route #moe.top_k<k = 1, score = none> %logits
      : tensor<?x40xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  bufferization.materialize_in_destination %0 in restrict writable %ids
      : (tensor<?x1xi32>, memref<?x1xi32>) -> ()
  return
}
