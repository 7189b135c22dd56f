// RUN: moe-opt %s --split-input-file --convert-moe-to-cpu | FileCheck %s

// One task an expert and panel of rows; chunks of the expert's rows are widened
// into buffers, register tiles of 6 rows add them up in the order of the rows.
// CHECK-LABEL: func.func @gathered(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x32xf32>, %[[Y:[a-z0-9]+]]: memref<?x16xbf16>, %[[R:[a-z0-9]+]]: memref<?xi32>, %[[O:[a-z0-9]+]]: memref<3xi32>, %[[D:[a-z0-9]+]]: memref<2x32x16xf32>)
// CHECK-NOT:     moe.grouped_outer
// CHECK:         scf.forall (%{{.*}}) in (%c2)
// CHECK:           %[[LOW:.*]] = arith.index_cast
// CHECK:           %[[HIGH:.*]] = arith.index_cast
// CHECK:           %[[LEFT:.*]] = memref.alloca() : memref<128x48xf32>
// CHECK:           %[[RIGHT:.*]] = memref.alloca() : memref<128x64xf32>
// CHECK:           %[[SUMS:.*]] = memref.alloca() : memref<48x64xf32>
// An expert without rows keeps these zeros.
// CHECK:           %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : vector<16xf32>
// CHECK:           vector.store %[[ZERO]], %[[SUMS]]
// CHECK:           scf.for %{{.*}} = %[[LOW]] to %[[HIGH]] step
// CHECK:             memref.load %[[R]]
// CHECK:             vector.maskedload %[[X]]
// CHECK:             vector.load %[[Y]]
// CHECK:             arith.extf {{.*}} : vector<16xbf16> to vector<16xf32>
// CHECK:             vector.load %[[RIGHT]]
// CHECK:             memref.load %[[LEFT]]
// CHECK-COUNT-6:     vector.fma
// CHECK-NEXT:        scf.yield
// CHECK:           vector.store %{{.*}}, %[[D]]
// CHECK:         return
func.func @gathered(%x: memref<?x32xf32>, %y: memref<?x16xbf16>,
                    %rows: memref<?xi32>, %offsets: memref<3xi32>,
                    %dest: memref<2x32x16xf32>) {
  moe.grouped_outer %x rows(%rows : memref<?xi32>) by %y
      offsets(%offsets : memref<3xi32>) outs(%dest : memref<2x32x16xf32>)
      : memref<?x32xf32>, memref<?x16xbf16>
  return
}

// -----

// Two panels of rows; 67 columns are one full width and a masked vector.
// CHECK-LABEL: func.func @tails(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x50xf32>, %[[Y:[a-z0-9]+]]: memref<?x67xf32>, %[[D:[a-z0-9]+]]: memref<1x50x67xf32>)
// CHECK:         scf.forall (%{{.*}}) in (%c2)
// CHECK:           memref.dim %[[X]]
// CHECK-COUNT-24:  vector.fma
// CHECK:           vector.maskedload %[[Y]]
// CHECK-COUNT-6:   vector.fma
// CHECK:           vector.maskedstore %[[D]]
// CHECK:         return
func.func @tails(%x: memref<?x50xf32>, %y: memref<?x67xf32>,
                 %dest: memref<1x50x67xf32>) {
  moe.grouped_outer %x by %y outs(%dest : memref<1x50x67xf32>)
      : memref<?x50xf32>, memref<?x67xf32>
  return
}

// -----

// The half of an interleaved weight is no vector in memory.
// CHECK-LABEL: func.func @strided(
// CHECK-SAME:    %[[D:[a-z0-9]+]]: memref<1x16x16xf32, strided<[512, 32, 2], offset: 1>>)
// CHECK-NOT:     vector.store {{.*}}, %[[D]]
// CHECK-COUNT-16: memref.store %{{.*}}, %[[D]]
// CHECK-NOT:     memref.store %{{.*}}, %[[D]]
// CHECK:         return
func.func @strided(
    %x: memref<?x16xf32>, %y: memref<?x16xf32>,
    %dest: memref<1x16x16xf32, strided<[512, 32, 2], offset: 1>>) {
  moe.grouped_outer %x by %y
      outs(%dest : memref<1x16x16xf32, strided<[512, 32, 2], offset: 1>>)
      : memref<?x16xf32>, memref<?x16xf32>
  return
}

// -----

// f64 anywhere makes the sums f64, on 8 lanes.
// CHECK-LABEL: func.func @wide(
// CHECK:         memref.alloca() : memref<128x48xf64>
// CHECK:         vector.fma {{.*}} : vector<8xf64>
func.func @wide(%x: memref<?x8xf32>, %y: memref<?x8xf64>,
                %dest: memref<1x8x8xf32>) {
  moe.grouped_outer %x by %y outs(%dest : memref<1x8x8xf32>)
      : memref<?x8xf32>, memref<?x8xf64>
  return
}
