// RUN: moe-opt %s --split-input-file --convert-moe-to-cpu | FileCheck %s

// One task a token: its rows in slot order, sixteen columns at a time, in
// registers until all is added.
// CHECK-LABEL: func.func @weighted(
// CHECK-SAME:    %[[R:[a-z0-9]+]]: memref<?x32xf32>, %[[F:[a-z0-9]+]]: memref<?xi32>, %[[S:[a-z0-9]+]]: memref<?xi32>, %[[W:[a-z0-9]+]]: memref<?xf32>, %[[D:[a-z0-9]+]]: memref<?x32xf32>
// CHECK-NOT:     moe.combine_slots
// CHECK:         scf.forall (%[[T:.+]]) in
// CHECK:           memref.load %[[F]][%[[T]]]
// CHECK:           memref.load %[[F]]
// CHECK:           scf.for {{.*}} -> (vector<16xf32>)
// CHECK:             memref.load %[[S]]
// CHECK:             vector.load %[[R]]
// CHECK:             memref.load %[[W]]
// CHECK:             vector.fma
// CHECK:           vector.store %{{.+}}, %[[D]][%[[T]],
// CHECK-NOT:       vector.maskedstore
// CHECK:         return
func.func @weighted(%rows: memref<?x32xf32>, %first: memref<?xi32>,
                    %slot: memref<?xi32>, %w: memref<?xf32>,
                    %dest: memref<?x32xf32>) {
  moe.combine_slots %rows, %first, %slot weight(%w : memref<?xf32>)
      outs(%dest : memref<?x32xf32>)
      : memref<?x32xf32>, memref<?xi32>, memref<?xi32>
  return
}

// -----

// Everything else is added in the order of the formula, and rounded once; the
// last 4 of 20 columns are masked.
// CHECK-LABEL: func.func @all(
// CHECK-SAME:    %[[R:[a-z0-9]+]]: memref<8x20xbf16>, %{{[a-z0-9]+}}: memref<5xi32>, %{{[a-z0-9]+}}: memref<8xi32>, %[[IW:[a-z0-9]+]]: memref<4xf32>, %[[I:[a-z0-9]+]]: memref<4x20xbf16>, %[[RES:[a-z0-9]+]]: memref<4x20xbf16>, %[[B:[a-z0-9]+]]: memref<20xf32>, %[[D:[a-z0-9]+]]: memref<4x20xbf16>
// CHECK:         scf.forall
// CHECK:           arith.extf {{.*}} : vector<16xbf16> to vector<16xf32>
// CHECK:           memref.load %[[IW]]
// CHECK:           vector.load %[[I]]
// An infinite input without identity slots makes no NaN.
// CHECK:           %[[USED:.+]] = arith.cmpf une
// CHECK:           arith.select %[[USED]]
// CHECK:           arith.mulf
// CHECK:           vector.load %[[B]]
// CHECK:           arith.addf
// CHECK:           vector.load %[[RES]]
// CHECK:           arith.addf
// CHECK:           arith.mulf
// CHECK:           arith.truncf {{.*}} : vector<16xf32> to vector<16xbf16>
// CHECK:           vector.store %{{.+}}, %[[D]]
// CHECK:           vector.maskedload %[[R]]
// CHECK:           vector.maskedstore %[[D]]
func.func @all(%rows: memref<8x20xbf16>, %first: memref<5xi32>,
               %slot: memref<8xi32>, %iw: memref<4xf32>,
               %i: memref<4x20xbf16>, %res: memref<4x20xbf16>,
               %b: memref<20xf32>, %dest: memref<4x20xbf16>) {
  moe.combine_slots %rows, %first, %slot
      identity(%iw, %i : memref<4xf32>, memref<4x20xbf16>)
      residual(%res : memref<4x20xbf16>) bias(%b : memref<20xf32>)
      outs(%dest : memref<4x20xbf16>) {scale = 2.0 : f64, average}
      : memref<8x20xbf16>, memref<5xi32>, memref<8xi32>
  return
}

// -----

// f64 rows are summed in f64.
// CHECK-LABEL: func.func @f64(
// CHECK:         scf.for {{.*}} -> (vector<8xf64>)
// CHECK-NOT:     f32
// CHECK:         return
func.func @f64(%rows: memref<?x8xf64>, %first: memref<?xi32>,
               %slot: memref<?xi32>, %dest: memref<?x8xf64>) {
  moe.combine_slots %rows, %first, %slot outs(%dest : memref<?x8xf64>)
      : memref<?x8xf64>, memref<?xi32>, memref<?xi32>
  return
}
