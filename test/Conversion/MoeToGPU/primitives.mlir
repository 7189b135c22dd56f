// RUN: moe-opt %s --split-input-file --convert-moe-to-gpu | FileCheck %s

// A number of the product is a thread: it finds its expert by halving the list
// of offsets, reads its row through the list of rows, and sums in order. Rows
// past the last offset are nobody's.

// CHECK-LABEL: func @product
// CHECK-SAME:    %[[X:.+]]: memref<?x24xf32>, %[[ROWS:.+]]: memref<?xi32>, %[[OFFSETS:.+]]: memref<6xi32>
// CHECK:      scf.forall (%[[N:.+]], %[[J:.+]]) in (%{{.+}}, 16) {
// CHECK:        %[[END:.+]] = memref.load %[[OFFSETS]][%c5]
// CHECK:        arith.cmpi ult, %[[N]],
// CHECK:        scf.if
// CHECK-COUNT-2:  arith.minui
// CHECK:          scf.for {{.*}} iter_args(%{{.+}} = %cst{{.*}}, %{{.+}} = %cst{{.*}}) -> (f32, f32)
// CHECK:            %[[ROW:.+]] = memref.load %[[ROWS]][%[[N]]]
// CHECK:            memref.load %[[X]]
// CHECK-COUNT-2:    math.fma
// CHECK:          arith.mulf
// CHECK:          arith.truncf %{{.+}} : f32 to bf16
// CHECK-NEXT:     memref.store %{{.+}}, %{{.+}}[%[[N]], %[[J]]] : memref<?x16xbf16>
// CHECK-NOT:  moe.
func.func @product(%x: memref<?x24xf32>, %rows: memref<?xi32>,
                   %offsets: memref<6xi32>, %gate: memref<5x16x24xf32>,
                   %up: memref<5x16x24xf32>, %h: memref<?x16xbf16>) {
  moe.grouped_matmul %x rows(%rows : memref<?xi32>)
      offsets(%offsets : memref<6xi32>)
      weights(%gate, %up : memref<5x16x24xf32>, memref<5x16x24xf32>)
      outs(%h : memref<?x16xbf16>) : memref<?x24xf32> {
  ^bb0(%a: f32, %b: f32):
    %0 = arith.mulf %a, %b : f32
    moe.yield %0 : f32
  }
  return
}

// -----

// In a thread, as a token's gate: 16 outputs at a time, and what is left; rows
// are read 16 bytes at a time, for which the pointers are checked in front.

// CHECK-LABEL: func @gate
// CHECK-SAME:    %[[X:.+]]: memref<?x64xf32>, %[[W:.+]]: memref<1x40x64xf32>
// CHECK:      memref.extract_aligned_pointer_as_index %[[X]]
// CHECK:      cf.assert %{{.+}}, "argument 0 is not aligned to 16 bytes"
// CHECK:      memref.extract_aligned_pointer_as_index %[[W]]
// CHECK:      cf.assert %{{.+}}, "argument 1 is not aligned to 16 bytes"
// CHECK:      scf.forall
// CHECK:        scf.for %{{.+}} = %c0 to %c32 step %c16
// CHECK:          scf.for %{{.+}} = %c0 to %c64 step %c4
// CHECK:            vector.load %{{.+}} {alignment = 16 : i64} : memref<1x64xf32, {{.+}}, vector<4xf32>
// CHECK:            vector.load %[[W]]{{.+}} {alignment = 16 : i64} : memref<1x40x64xf32>, vector<4xf32>
// CHECK-COUNT-64:   math.fma
// CHECK-COUNT-16: memref.store
// CHECK:        scf.for %{{.+}} = %c0 to %c64 step %c4
// CHECK-COUNT-32: math.fma
// CHECK-COUNT-8: memref.store
func.func @gate(%x: memref<?x64xf32>, %w: memref<1x40x64xf32>,
                %out: memref<?x40xf32>, %tokens: index) {
  scf.forall (%t) in (%tokens) {
    %row = memref.subview %x[%t, 0] [1, 64] [1, 1]
        : memref<?x64xf32> to memref<1x64xf32, strided<[64, 1], offset: ?>>
    %to = memref.subview %out[%t, 0] [1, 40] [1, 1]
        : memref<?x40xf32> to memref<1x40xf32, strided<[40, 1], offset: ?>>
    moe.grouped_matmul %row weights(%w : memref<1x40x64xf32>)
        outs(%to : memref<1x40xf32, strided<[40, 1], offset: ?>>)
        : memref<1x64xf32, strided<[64, 1], offset: ?>> {
    ^bb0(%a: f32):
      moe.yield %a : f32
    }
  }
  return
}

// -----

// Rows of a width that no vector divides, and rows that begin anywhere, are
// read number by number.

// CHECK-LABEL: func @narrow
// CHECK-NOT:  cf.assert
// CHECK:      scf.forall
// CHECK-NOT:    vector.load
// CHECK:        scf.for %{{.+}} = %c0 to %c7 step %c1
// CHECK:          memref.load
// CHECK:      return
func.func @narrow(%x: memref<?x7xf32>, %w: memref<1x3x7xf32>,
                  %y: memref<?x20xf32>, %v: memref<1x3x16xf32>,
                  %out: memref<1x3xf32>, %tokens: index, %at: index) {
  scf.forall (%t) in (%tokens) {
    %row = memref.subview %x[%t, 0] [1, 7] [1, 1]
        : memref<?x7xf32> to memref<1x7xf32, strided<[7, 1], offset: ?>>
    moe.grouped_matmul %row weights(%w : memref<1x3x7xf32>)
        outs(%out : memref<1x3xf32>)
        : memref<1x7xf32, strided<[7, 1], offset: ?>> {
    ^bb0(%a: f32):
      moe.yield %a : f32
    }
    %part = memref.subview %y[%t, %at] [1, 16] [1, 1]
        : memref<?x20xf32> to memref<1x16xf32, strided<[20, 1], offset: ?>>
    moe.grouped_matmul %part weights(%v : memref<1x3x16xf32>)
        outs(%out : memref<1x3xf32>)
        : memref<1x16xf32, strided<[20, 1], offset: ?>> {
    ^bb0(%a: f32):
      moe.yield %a : f32
    }
  }
  return
}

// -----

// Chunks of 32 tokens: an expert's assignments of each, sums over chunks and
// experts, and the places. No atomics.

// CHECK-LABEL: func @group
// CHECK:      %[[TABLE:.+]] = memref.alloc(%{{.+}}) : memref<?x4xi32>
// CHECK:      scf.forall (%{{.+}}, %{{.+}}) in (%{{.+}}, 4)
// CHECK:        memref.store %{{.+}}, %{{.+}} : memref<?x{{4|\?}}xi32>
// CHECK:      scf.forall (%{{.+}}) in (4)
// CHECK:      scf.for
// CHECK:      scf.forall (%{{.+}}) in (%{{.+}})
// CHECK-NOT:  atomic
// CHECK-NOT:  moe.
// CHECK:      return
func.func @group(%ids: memref<?x2xi32>, %w: memref<?x2xf32>,
                 %offsets: memref<5xi32>, %token: memref<?xi32>,
                 %first: memref<?xi32>, %slot: memref<?xi32>,
                 %weight: memref<?xf32>) {
  moe.group ins(%ids, %w : memref<?x2xi32>, memref<?x2xf32>)
      outs(%offsets, %token, %first, %slot, %weight
          : memref<5xi32>, memref<?xi32>, memref<?xi32>, memref<?xi32>,
            memref<?xf32>) chosen_by <token>
  return
}

// -----

// CHECK-LABEL: func @rest
// CHECK:      scf.forall (%[[T:.+]], %[[D:.+]]) in (%{{.+}}, 8)
// CHECK:        scf.for
// CHECK:          math.fma
// CHECK:        memref.store %{{.+}}, %{{.+}}[%[[T]], %[[D]]] : memref<?x8xf32>
// CHECK:      scf.forall (%[[E:.+]], %[[I:.+]], %[[J:.+]]) in (4, 6, 8)
// CHECK:        memref.store %{{.+}}, %{{.+}}[%[[E]], %[[I]], %[[J]]] : memref<4x6x8xf32>
// CHECK:      scf.parallel
// CHECK-NOT:  linalg.
// CHECK-NOT:  moe.
// CHECK:      return
func.func @rest(%rows: memref<?x8xf32>, %first: memref<?xi32>,
                %slot: memref<?xi32>, %weight: memref<?xf32>,
                %y: memref<?x8xf32>, %dy: memref<?x6xf32>,
                %offsets: memref<5xi32>, %dw: memref<4x6x8xf32>) {
  moe.combine_slots %rows, %first, %slot weight(%weight : memref<?xf32>)
      outs(%y : memref<?x8xf32>)
      : memref<?x8xf32>, memref<?xi32>, memref<?xi32>
  moe.grouped_outer %dy by %rows offsets(%offsets : memref<5xi32>)
      outs(%dw : memref<4x6x8xf32>) : memref<?x6xf32>, memref<?x8xf32>
  memref.copy %y, %rows : memref<?x8xf32> to memref<?x8xf32>
  return
}
