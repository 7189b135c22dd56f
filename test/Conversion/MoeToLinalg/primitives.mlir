// RUN: moe-opt %s --convert-moe-to-linalg --split-input-file | FileCheck %s
// RUN: moe-opt %s --convert-moe-to-linalg=keep-primitives --split-input-file \
// RUN:   | FileCheck %s --check-prefix=KEEP

// Everything is written to the destinations.

// CHECK-LABEL: func @group
// CHECK-SAME:    %[[OFFSETS:[a-z0-9]+]]: tensor<9xi32>, %[[TOKEN:[a-z0-9]+]]: tensor<?xi32>
// CHECK:         linalg.fill {{.*}} outs(%[[OFFSETS]]
// CHECK:         scf.for {{.*}} iter_args(%{{.*}} = %[[TOKEN]],
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @group
// KEEP:          moe.group
func.func @group(%ids: tensor<?x2xi32>, %offsets: tensor<9xi32>,
                 %token: tensor<?xi32>, %first: tensor<?xi32>,
                 %slot: tensor<?xi32>)
    -> (tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) {
  %r:4 = moe.group ins(%ids : tensor<?x2xi32>)
      outs(%offsets, %token, %first, %slot
           : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>)
      chosen_by <token>
      -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>
  return %r#0, %r#1, %r#2, %r#3
      : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>
}

// -----

// Rows are gathered and scaled, rounded to their type; the epilogue stands in
// the generic that rounds.

// CHECK-LABEL: func @grouped_matmul
// CHECK:         scf.for {{.*}} -> (tensor<?x32xbf16>)
// CHECK:           linalg.generic
// CHECK:             arith.mulf
// CHECK:             arith.truncf %{{.*}} : f32 to bf16
// CHECK:           linalg.matmul
// CHECK:           linalg.generic
// CHECK:             math.absf
// CHECK:             arith.truncf
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @grouped_matmul
// KEEP:          moe.grouped_matmul
// KEEP:          moe.yield
func.func @grouped_matmul(%lhs: tensor<?x16xbf16>, %rows: tensor<?xi32>,
                          %scale: tensor<?xf32>, %offsets: tensor<5xi32>,
                          %weight: tensor<4x32x16xbf16>,
                          %init: tensor<?x32xbf16>) -> tensor<?x32xbf16> {
  %r = moe.grouped_matmul %lhs rows(%rows : tensor<?xi32>)
      row_scale(%scale : tensor<?xf32>) offsets(%offsets : tensor<5xi32>)
      weights(%weight : tensor<4x32x16xbf16>)
      outs(%init : tensor<?x32xbf16>)
      : tensor<?x16xbf16> -> tensor<?x32xbf16> {
  ^bb0(%sum: f32):
    %a = math.absf %sum : f32
    moe.yield %a : f32
  }
  return %r : tensor<?x32xbf16>
}

// -----

// CHECK-LABEL: func @combine_slots
// CHECK-SAME:    %[[INIT:[a-z0-9]+]]: tensor<?x16xf32>)
// CHECK:         scf.for {{.*}} iter_args(%{{.*}} = %[[INIT]])
// CHECK:           scf.for {{.*}} -> (tensor<16xf32>)
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @combine_slots
// KEEP:          moe.combine_slots
func.func @combine_slots(%rows: tensor<?x16xf32>, %first: tensor<?xi32>,
                         %slot: tensor<?xi32>, %init: tensor<?x16xf32>)
    -> tensor<?x16xf32> {
  %r = moe.combine_slots %rows, %first, %slot outs(%init : tensor<?x16xf32>)
      : tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x16xf32>
  return %r : tensor<?x16xf32>
}

// -----

// Keys are integers, so ties and NaN need no branch.

// CHECK-LABEL: func @top_k
// CHECK:         scf.for
// CHECK:           scf.for
// CHECK:             arith.bitcast %{{.*}} : f32 to i32
// CHECK:             arith.cmpi sgt
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @top_k
// KEEP:          moe.top_k
func.func @top_k(%x: tensor<?x8xf32>, %v: tensor<?x2xf32>,
                 %i: tensor<?x2xi32>) -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %r:2 = moe.top_k ins(%x : tensor<?x8xf32>)
      outs(%v, %i : tensor<?x2xf32>, tensor<?x2xi32>)
      -> tensor<?x2xf32>, tensor<?x2xi32>
  return %r#0, %r#1 : tensor<?x2xf32>, tensor<?x2xi32>
}
