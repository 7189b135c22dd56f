// RUN: moe-opt %s --split-input-file \
// RUN:   --one-shot-bufferize="bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map" \
// RUN:   --canonicalize | FileCheck %s

// A primitive writes into its destination, in place.
// CHECK-LABEL: func.func @in_place(
// CHECK-SAME:    %[[R:[a-z0-9]+]]: memref<?x8xf32>, %[[O:[a-z0-9]+]]: memref<3xi32>, %[[W:[a-z0-9]+]]: memref<2x4x8xf32>, %[[D:[a-z0-9]+]]: memref<?x4xf32>
// CHECK-NOT:     memref.alloc
// CHECK-NOT:     memref.copy
// CHECK:         moe.grouped_matmul %[[R]] offsets(%[[O]] : memref<3xi32>) weights(%[[W]] : memref<2x4x8xf32>) outs(%[[D]] : memref<?x4xf32>) : memref<?x8xf32> {
// CHECK-NEXT:    ^bb0(%[[A:.+]]: f32):
// CHECK-NEXT:      %[[B:.+]] = arith.addf %[[A]], %[[A]] : f32
// CHECK-NEXT:      moe.yield %[[B]] : f32
func.func @in_place(%rows: tensor<?x8xf32>, %offsets: tensor<3xi32>,
                    %w: tensor<2x4x8xf32>, %dest: tensor<?x4xf32>)
    -> tensor<?x4xf32> {
  %0 = moe.grouped_matmul %rows offsets(%offsets : tensor<3xi32>)
      weights(%w : tensor<2x4x8xf32>) outs(%dest : tensor<?x4xf32>)
      : tensor<?x8xf32> -> tensor<?x4xf32> {
  ^bb0(%a: f32):
    %b = arith.addf %a, %a : f32
    moe.yield %b : f32
  }
  return %0 : tensor<?x4xf32>
}

// -----

// A weight of a strided view stays a view.
// CHECK-LABEL: func.func @strided_weight(
// CHECK-NOT:     memref.alloc
// CHECK:         %[[V:.+]] = memref.subview %{{.+}}[0, 0, 1] [2, 4, 8] [1, 1, 2]
// CHECK:         moe.grouped_matmul {{.*}} weights(%[[V]] : memref<2x4x8xf32, strided<[64, 16, 2], offset: 1>>)
func.func @strided_weight(%rows: tensor<?x8xf32>, %w: tensor<2x4x16xf32>,
                          %offsets: tensor<3xi32>, %dest: tensor<?x4xf32>)
    -> tensor<?x4xf32> {
  %v = tensor.extract_slice %w[0, 0, 1] [2, 4, 8] [1, 1, 2]
      : tensor<2x4x16xf32> to tensor<2x4x8xf32>
  %0 = moe.grouped_matmul %rows offsets(%offsets : tensor<3xi32>)
      weights(%v : tensor<2x4x8xf32>) outs(%dest : tensor<?x4xf32>)
      : tensor<?x8xf32> -> tensor<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %0 : tensor<?x4xf32>
}

// -----

// What a product reads is not what it writes: the destination is another
// buffer, and the input keeps its values.
// CHECK-LABEL: func.func @out_of_place(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x8xf32>
// CHECK:         %[[NEW:.+]] = memref.alloc(%{{.+}}) {{.*}} : memref<?x8xf32>
// CHECK:         moe.grouped_matmul %[[X]] {{.*}} outs(%[[NEW]] :
// CHECK:         return %[[X]], %[[NEW]]
func.func @out_of_place(%x: tensor<?x8xf32>, %w: tensor<1x8x8xf32>)
    -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0 = moe.grouped_matmul %x weights(%w : tensor<1x8x8xf32>)
      outs(%x : tensor<?x8xf32>) : tensor<?x8xf32> -> tensor<?x8xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %x, %0 : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----

// Rows past the last offset are not written, so they are the destination's
// also where the product must not write into it.
// CHECK-LABEL: func.func @must_copy(
// CHECK-SAME:    %{{[a-z0-9]+}}: memref<?x8xf32>, %{{[a-z0-9]+}}: memref<2xi32>, %{{[a-z0-9]+}}: memref<1x4x8xf32>, %[[D:[a-z0-9]+]]: memref<?x4xf32>
// CHECK:         %[[NEW:.+]] = memref.alloc
// CHECK:         memref.copy %[[D]], %[[NEW]]
// CHECK:         moe.grouped_matmul {{.*}} outs(%[[NEW]] :
// CHECK:         return %[[D]], %[[NEW]]
func.func @must_copy(%x: tensor<?x8xf32>, %offsets: tensor<2xi32>,
                     %w: tensor<1x4x8xf32>, %dest: tensor<?x4xf32>)
    -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %0 = moe.grouped_matmul %x offsets(%offsets : tensor<2xi32>)
      weights(%w : tensor<1x4x8xf32>)
      outs(%dest : tensor<?x4xf32>) : tensor<?x8xf32> -> tensor<?x4xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return %dest, %0 : tensor<?x4xf32>, tensor<?x4xf32>
}

// -----

// A combine writes all of its destination: nothing of it is copied.
// CHECK-LABEL: func.func @combine(
// CHECK-SAME:    %[[D:[a-z0-9]+]]: memref<4x8xbf16>)
// CHECK:         %[[NEW:.+]] = memref.alloc
// CHECK-NOT:     memref.copy
// CHECK:         moe.combine_slots {{.*}} residual(%[[D]] : {{.*}} outs(%[[NEW]] : memref<4x8xbf16>) {average, scale = 2.000000e+00 : f64}
// CHECK-NOT:     memref.copy
func.func @combine(%rows: tensor<8x8xbf16>, %first: tensor<5xi32>,
                   %slot: tensor<8xi32>, %dest: tensor<4x8xbf16>)
    -> (tensor<4x8xbf16>, tensor<4x8xbf16>) {
  %0 = moe.combine_slots %rows, %first, %slot
      residual(%dest : tensor<4x8xbf16>)
      outs(%dest : tensor<4x8xbf16>) {average, scale = 2.0 : f64}
      : tensor<8x8xbf16>, tensor<5xi32>, tensor<8xi32> -> tensor<4x8xbf16>
  return %dest, %0 : tensor<4x8xbf16>, tensor<4x8xbf16>
}

// -----

// CHECK-LABEL: func.func @lists(
// CHECK-SAME:    %[[IDS:[a-z0-9]+]]: memref<0x2xi32>
// CHECK:         moe.group ins(%[[IDS]] : memref<0x2xi32>) outs({{.*}} : memref<5xi32>, memref<0xi32>, memref<1xi32>, memref<0xi32>) chosen_by <token>
// CHECK:         moe.top_k ins({{.*}} : memref<4x8xf64>) outs({{.*}} : memref<4x2xf64>, memref<4x2xi32>)
func.func @lists(%ids: tensor<0x2xi32>, %x: tensor<4x8xf64>)
    -> (tensor<5xi32>, tensor<0xi32>, tensor<1xi32>, tensor<0xi32>,
        tensor<4x2xf64>, tensor<4x2xi32>) {
  %o = tensor.empty() : tensor<5xi32>
  %t = tensor.empty() : tensor<0xi32>
  %f = tensor.empty() : tensor<1xi32>
  %s = tensor.empty() : tensor<0xi32>
  %0:4 = moe.group ins(%ids : tensor<0x2xi32>)
      outs(%o, %t, %f, %s : tensor<5xi32>, tensor<0xi32>, tensor<1xi32>,
           tensor<0xi32>) chosen_by <token>
      -> tensor<5xi32>, tensor<0xi32>, tensor<1xi32>, tensor<0xi32>
  %v = tensor.empty() : tensor<4x2xf64>
  %i = tensor.empty() : tensor<4x2xi32>
  %1:2 = moe.top_k ins(%x : tensor<4x8xf64>)
      outs(%v, %i : tensor<4x2xf64>, tensor<4x2xi32>)
      -> tensor<4x2xf64>, tensor<4x2xi32>
  return %0#0, %0#1, %0#2, %0#3, %1#0, %1#1
      : tensor<5xi32>, tensor<0xi32>, tensor<1xi32>, tensor<0xi32>,
        tensor<4x2xf64>, tensor<4x2xi32>
}
