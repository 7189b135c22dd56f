// RUN: moe-opt %s --split-input-file --convert-moe-to-cpu | FileCheck %s

// One task an expert and panel; register tiles of 6, 2 and 1 rows by 4 columns,
// whose lanes run along the inner dimension where weights are [out, in]. Whole
// multiples of the lanes need no mask.
// CHECK-LABEL: func.func @out_in(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x32xf32>, %[[ROWS:[a-z0-9]+]]: memref<?xi32>, %[[O:[a-z0-9]+]]: memref<3xi32>, %[[W:[a-z0-9]+]]: memref<2x16x32xf32>, %[[D:[a-z0-9]+]]: memref<?x16xf32>
// CHECK-NOT:     moe.grouped_matmul
// CHECK-NOT:     vector.mask
// CHECK-NOT:     vector.create_mask
// CHECK:         scf.forall
// CHECK:           memref.load %[[O]]
// CHECK:           memref.load %[[O]]
// CHECK:           memref.alloca() : memref<1x6x16xf32>
// CHECK:           scf.for
// CHECK-COUNT-6:     memref.load %[[ROWS]]
// CHECK:             scf.for
// CHECK-COUNT-6:       vector.load %[[X]]
// CHECK:               vector.load %[[W]]
// CHECK-COUNT-24:      vector.fma
// CHECK-NEXT:          scf.yield
// CHECK:             vector.store %{{.+}}, %[[D]]
// CHECK-NOT:     vector.create_mask
// CHECK:         return
func.func @out_in(%x: memref<?x32xf32>, %rows: memref<?xi32>,
                  %offsets: memref<3xi32>, %w: memref<2x16x32xf32>,
                  %dest: memref<?x16xf32>) {
  moe.grouped_matmul %x rows(%rows : memref<?xi32>)
      offsets(%offsets : memref<3xi32>) weights(%w : memref<2x16x32xf32>)
      outs(%dest : memref<?x16xf32>) : memref<?x32xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// [in, out]: the lanes run along the columns, a row's element is broadcast, and
// two weights share it.
// CHECK-LABEL: func.func @in_out(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x32xf32>, %[[A:[a-z0-9]+]]: memref<1x32x32xf32>, %[[B:[a-z0-9]+]]: memref<1x32x32xf32>, %[[BIAS:[a-z0-9]+]]: memref<1x32xf32>
// CHECK:         scf.forall
// CHECK:           memref.alloca() : memref<2x6x32xf32>
// CHECK:           scf.for
// CHECK:             memref.load %[[X]]
// CHECK:             vector.broadcast {{.*}} : f32 to vector<16xf32>
// CHECK:             vector.load %[[A]]
// CHECK:             vector.fma
// CHECK:             vector.load %[[B]]
// CHECK:             vector.fma
// The epilogue is the op's own, with columns side by side.
// CHECK:           vector.load %[[BIAS]]
// CHECK:           math.exp {{.*}} : vector<16xf32>
func.func @in_out(%x: memref<?x32xf32>, %a: memref<1x32x32xf32>,
                  %b: memref<1x32x32xf32>, %bias: memref<1x32xf32>,
                  %bias2: memref<1x32xf32>, %dest: memref<?x32xf32>) {
  moe.grouped_matmul %x
      weights(%a, %b : memref<1x32x32xf32>, memref<1x32x32xf32>)
      biases(%bias, %bias2 : memref<1x32xf32>, memref<1x32xf32>) in_out
      outs(%dest : memref<?x32xf32>) : memref<?x32xf32> {
  ^bb0(%p: f32, %q: f32, %r: f32, %s: f32):
    %0 = math.exp %p : f32
    %1 = arith.mulf %0, %q : f32
    %2 = arith.addf %r, %s : f32
    %3 = arith.addf %1, %2 : f32
    moe.yield %3 : f32
  }
  return
}

// -----

// Tails of both dimensions are masked: 5 of 21 inner elements, 3 of 19 columns.
// CHECK-LABEL: func.func @tails(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x21xf32>, %[[W:[a-z0-9]+]]: memref<1x19x21xf32>, %[[D:[a-z0-9]+]]: memref<?x19xf32>
// CHECK-DAG:     arith.constant 5 : index
// CHECK-DAG:     arith.constant 3 : index
// CHECK:         vector.create_mask
// CHECK:         vector.maskedload %[[X]]
// CHECK:         vector.maskedload %[[W]]
// CHECK:         vector.maskedstore %[[D]]
func.func @tails(%x: memref<?x21xf32>, %w: memref<1x19x21xf32>,
                 %dest: memref<?x19xf32>) {
  moe.grouped_matmul %x weights(%w : memref<1x19x21xf32>)
      outs(%dest : memref<?x19xf32>) : memref<?x21xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// Columns fewer than the lanes: one masked vector and no full one.
// CHECK-LABEL: func.func @few_columns(
// CHECK-SAME:    %[[D:[a-z0-9]+]]: memref<?x3xf32>)
// CHECK:         vector.maskedload {{.*}} : memref<1x16x3xf32>
// CHECK:         vector.maskedstore %[[D]]
func.func @few_columns(%x: memref<?x16xf32>, %w: memref<1x16x3xf32>,
                       %dest: memref<?x3xf32>) {
  moe.grouped_matmul %x weights(%w : memref<1x16x3xf32>) in_out
      outs(%dest : memref<?x3xf32>) : memref<?x16xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// Interleaved weights are strided views: their last dimension is no vector in
// memory.
// CHECK-LABEL: func.func @strided(
// CHECK-SAME:    %{{[a-z0-9]+}}: memref<?x16xf32>, %[[W:[a-z0-9]+]]: memref<1x16x16xf32, strided<[512, 32, 2], offset: 1>>
// CHECK-NOT:     vector.load %[[W]]
// CHECK-COUNT-16: memref.load %[[W]]
// CHECK:         vector.from_elements
// CHECK-NOT:     vector.load %[[W]]
// CHECK:         return
func.func @strided(%x: memref<?x16xf32>,
                   %w: memref<1x16x16xf32, strided<[512, 32, 2], offset: 1>>,
                   %dest: memref<?x16xf32>) {
  moe.grouped_matmul %x
      weights(%w : memref<1x16x16xf32, strided<[512, 32, 2], offset: 1>>)
      in_out outs(%dest : memref<?x16xf32>) : memref<?x16xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// Every other row of a fused weight still has contiguous elements.
// CHECK-LABEL: func.func @strided_rows(
// CHECK-SAME:    %{{[a-z0-9]+}}: memref<?x16xf32>, %[[W:[a-z0-9]+]]: memref<1x16x16xf32, strided<[512, 32, 1], offset: 16>>
// CHECK:         vector.load %[[W]]
func.func @strided_rows(
    %x: memref<?x16xf32>,
    %w: memref<1x16x16xf32, strided<[512, 32, 1], offset: 16>>,
    %dest: memref<?x16xf32>) {
  moe.grouped_matmul %x
      weights(%w : memref<1x16x16xf32, strided<[512, 32, 1], offset: 16>>)
      outs(%dest : memref<?x16xf32>) : memref<?x16xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// A scaled row is rounded to its storage type, as a dispatch would have stored
// it, and products accumulate in f32.
// CHECK-LABEL: func.func @row_scale(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x16xbf16>, %[[S:[a-z0-9]+]]: memref<?xf32>
// CHECK:         memref.load %[[S]]
// CHECK:         %[[ROW:.+]] = vector.load %[[X]]
// CHECK:         %[[WIDE:.+]] = arith.extf %[[ROW]] : vector<16xbf16> to vector<16xf32>
// CHECK:         %[[P:.+]] = arith.mulf %[[WIDE]]
// CHECK:         %[[N:.+]] = arith.truncf %[[P]] : vector<16xf32> to vector<16xbf16>
// CHECK:         %[[A:.+]] = arith.extf %[[N]] : vector<16xbf16> to vector<16xf32>
// CHECK:         vector.fma %{{.+}}, %{{.+}}, %{{.+}} : vector<16xf32>
// CHECK:         arith.truncf {{.*}} : vector<16xf32> to vector<16xf16>
// CHECK:         vector.store {{.*}} : memref<?x16xf16>
func.func @row_scale(%x: memref<?x16xbf16>, %scale: memref<?xf32>,
                     %w: memref<1x16x16xbf16>, %dest: memref<?x16xf16>) {
  moe.grouped_matmul %x row_scale(%scale : memref<?xf32>)
      weights(%w : memref<1x16x16xbf16>)
      outs(%dest : memref<?x16xf16>) : memref<?x16xbf16> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// f64 has half the lanes and stays f64.
// CHECK-LABEL: func.func @f64(
// CHECK-NOT:     f32
// CHECK:         vector.fma {{.*}} : vector<8xf64>
// CHECK-NOT:     f32
// CHECK:         return
func.func @f64(%x: memref<?x16xf64>, %w: memref<1x16x16xf64>,
               %dest: memref<?x16xf64>) {
  moe.grouped_matmul %x weights(%w : memref<1x16x16xf64>)
      outs(%dest : memref<?x16xf64>) : memref<?x16xf64> {
  ^bb0(%a: f64):
    moe.yield %a : f64
  }
  return
}

// -----

// Inside a parallel loop the tasks run one after the other.
// CHECK-LABEL: func.func @nested(
// CHECK:         scf.forall
// CHECK-NOT:     scf.forall (
// CHECK:           scf.for
// CHECK:         return
func.func @nested(%x: memref<?x16xf32>, %w: memref<1x8x16xf32>,
                  %dest: memref<?x8xf32>, %n: index) {
  scf.forall (%i) in (%n) {
    moe.grouped_matmul %x weights(%w : memref<1x8x16xf32>)
        outs(%dest : memref<?x8xf32>) : memref<?x16xf32> {
    ^bb0(%a: f32):
      moe.yield %a : f32
    }
  }
  return
}

// -----

// CHECK-LABEL: func.func @no_change(
// CHECK-NEXT:    vector.load
// CHECK-NEXT:    return
func.func @no_change(%x: memref<?x16xf32>, %i: index) -> vector<16xf32> {
  %0 = vector.load %x[%i, %i] : memref<?x16xf32>, vector<16xf32>
  return %0 : vector<16xf32>
}
