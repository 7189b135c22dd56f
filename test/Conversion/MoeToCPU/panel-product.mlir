// RUN: moe-opt %s --split-input-file --convert-moe-to-cpu | FileCheck %s
// RUN: moe-opt %s --split-input-file --convert-moe-to-cpu=vector-bits=256 | FileCheck %s --check-prefix=AVX2
// RUN: moe-opt %s --split-input-file --convert-moe-to-loops | FileCheck %s --check-prefix=LOOPS

// Six panels are two tasks an expert. Tiles of one to six rows keep their sums
// in registers over the whole inner dimension, four steps a turn, while lines of
// the next panel are fetched; the last two steps stand behind the loop.
// CHECK-LABEL: func.func @rows(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x34xf32>, %[[ROWS:[a-z0-9]+]]: memref<?xi32>, %[[O:[a-z0-9]+]]: memref<3xi32>, %[[W:[a-z0-9]+]]: memref<2x6x34x64x1xf32>, %[[D:[a-z0-9]+]]: memref<?x384xf32>
// CHECK-DAG:     %[[STEPS:.+]] = memref.collapse_shape %[[W]] {{.*}} into memref<2x6x34x64xf32>
// CHECK-DAG:     %[[FLAT:.+]] = memref.collapse_shape %[[W]] {{.*}} into memref<2x6x2176xf32>
// CHECK:         scf.forall
// CHECK:           memref.alloca() : memref<6x64xf32>
// CHECK:           memref.load %[[O]]
// CHECK:           memref.load %[[O]]
// CHECK:           scf.if
// CHECK:             scf.for
// CHECK:               scf.for
// CHECK:                 scf.index_switch
// CHECK:                 case 1
// CHECK:                 case 5
// CHECK:                 default
// CHECK-COUNT-6:           memref.load %[[ROWS]]
// CHECK:                   scf.for
// CHECK:                     scf.for
// CHECK:                       memref.prefetch %[[FLAT]]{{.*}}, read, locality<3>, data
// CHECK-COUNT-4:             vector.load %[[STEPS]]
// CHECK-COUNT-96:            vector.fma
// CHECK-NEXT:                scf.yield
// CHECK-COUNT-48:          vector.fma
// CHECK-COUNT-24:          vector.store
// CHECK:                 scf.for
// CHECK-COUNT-4:           vector.store %{{.+}}, %[[D]]
// CHECK-NOT:     vector.create_mask
// CHECK:         return

// AVX2-LABEL: func.func @rows(
// AVX2:         vector.fma %{{.+}} : vector<8xf32>

// LOOPS-LABEL: func.func @rows(
// LOOPS:         arith.divui
// LOOPS:         arith.remui
func.func @rows(%x: memref<?x34xf32>, %rows: memref<?xi32>,
                %offsets: memref<3xi32>, %w: memref<2x6x34x64x1xf32>,
                %dest: memref<?x384xf32>) {
  moe.grouped_matmul %x rows(%rows : memref<?xi32>)
      offsets(%offsets : memref<3xi32>) weights(%w : memref<2x6x34x64x1xf32>)
      panels<columns = 64, steps = 1, sides = 1>
      outs(%dest : memref<?x384xf32>) : memref<?x34xf32> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  return
}

// -----

// Pairs of bf16 beside rows of f32 are widened by a shift and a mask; the last
// of an odd number of steps has a first half alone. The last panel has eight
// columns of each side, in one masked vector.
// CHECK-LABEL: func.func @wide(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x5xf32>, %[[W:[a-z0-9]+]]: memref<1x2x3x64x2xbf16>
// CHECK:         default
// CHECK-COUNT-2:   arith.shli
// CHECK:           arith.andi
// CHECK:           memref.load %[[X]]
// CHECK:         scf.if
// CHECK:           vector.create_mask
// CHECK:           vector.maskedstore
// CHECK:         else
// CHECK-COUNT-2:   vector.store
func.func @wide(%x: memref<?x5xf32>, %w: memref<1x2x3x64x2xbf16>,
                %dest: memref<?x40xf32>) {
  moe.grouped_matmul %x weights(%w : memref<1x2x3x64x2xbf16>)
      panels<columns = 64, steps = 2, sides = 2>
      outs(%dest : memref<?x40xf32>) : memref<?x5xf32> {
  ^bb0(%gate: f32, %up: f32):
    %both = arith.mulf %gate, %up : f32
    moe.yield %both : f32
  }
  return
}

// -----

// Rows of bf16 are multiplied in pairs.
// CHECK-LABEL: func.func @pairs(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x6xbf16>
// CHECK:         default
// CHECK:           vector.load %[[X]]{{.*}} : memref<?x6xbf16>, vector<2xbf16>
// CHECK-COUNT-4:   x86vector.avx512.dot %{{.+}} : vector<32xbf16> -> vector<16xf32>
// CHECK-NOT:     arith.shli
func.func @pairs(%x: memref<?x6xbf16>, %w: memref<1x1x3x64x2xbf16>,
                 %dest: memref<?x64xbf16>) {
  moe.grouped_matmul %x weights(%w : memref<1x1x3x64x2xbf16>)
      panels<columns = 64, steps = 2, sides = 1>
      outs(%dest : memref<?x64xbf16>) : memref<?x6xbf16> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  return
}
