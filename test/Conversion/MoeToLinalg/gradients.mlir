// RUN: moe-opt %s --convert-moe-to-linalg --split-input-file | FileCheck %s
// RUN: moe-opt %s --convert-moe-to-linalg=keep-primitives --split-input-file \
// RUN:   | FileCheck %s --check-prefix=KEEP

// A product for each expert, of the rows that its sides gather, in f32 and
// rounded once.

// CHECK-LABEL: func @grouped_outer
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x32xbf16>, %[[Y:[a-z0-9]+]]: tensor<?x16xf32>, %[[R:[a-z0-9]+]]: tensor<?xi32>,
// CHECK:         scf.for {{.*}} -> (tensor<2x32x16xbf16>)
// CHECK:           tensor.extract_slice %[[R]]
// CHECK:           linalg.generic
// CHECK:             tensor.extract %[[X]]
// CHECK:           %[[RIGHT:.*]] = tensor.extract_slice %[[Y]]
// CHECK:           linalg.fill {{.*}} -> tensor<32x16xf32>
// CHECK:           linalg.matmul {{.*}} ins(%{{.*}}, %[[RIGHT]] : tensor<?x32xbf16>, tensor<?x16xf32>)
// CHECK:           linalg.generic
// CHECK:             arith.truncf
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @grouped_outer
// KEEP:          moe.grouped_outer
func.func @grouped_outer(%x: tensor<?x32xbf16>, %y: tensor<?x16xf32>,
                         %rows: tensor<?xi32>, %offsets: tensor<3xi32>,
                         %init: tensor<2x32x16xbf16>)
    -> tensor<2x32x16xbf16> {
  %d = moe.grouped_outer %x rows(%rows : tensor<?xi32>) by %y
      offsets(%offsets : tensor<3xi32>) outs(%init : tensor<2x32x16xbf16>)
      : tensor<?x32xbf16>, tensor<?x16xf32> -> tensor<2x32x16xbf16>
  return %d : tensor<2x32x16xbf16>
}

// -----

// Without offsets one expert has all rows.

// CHECK-LABEL: func @one_expert
// CHECK:         linalg.matmul
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @one_expert
// KEEP:          moe.grouped_outer
func.func @one_expert(%x: tensor<?x8xf32>, %y: tensor<?x4xf32>,
                      %init: tensor<1x8x4xf32>) -> tensor<1x8x4xf32> {
  %d = moe.grouped_outer %x by %y outs(%init : tensor<1x8x4xf32>)
      : tensor<?x8xf32>, tensor<?x4xf32> -> tensor<1x8x4xf32>
  return %d : tensor<1x8x4xf32>
}

// -----

// Each of several results is a generic of its own, that computes what of the
// epilogue the result needs and rounds it to its type.

// CHECK-LABEL: func @grouped_matmul
// CHECK-COUNT-2: linalg.matmul
// CHECK:         linalg.generic
// CHECK:           linalg.yield %{{.*}} : f32
// CHECK:         linalg.generic
// CHECK:           math.tanh
// CHECK:           linalg.yield %{{.*}} : bf16
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @grouped_matmul
// KEEP:          moe.grouped_matmul
func.func @grouped_matmul(%a: tensor<?x4xf32>, %b: tensor<?x4xf32>,
                          %w: tensor<1x6x4xf32>, %e: tensor<?x6xf32>,
                          %v: tensor<?xf32>, %y: tensor<?x6xf32>,
                          %z: tensor<?x6xbf16>)
    -> (tensor<?x6xf32>, tensor<?x6xbf16>) {
  %0:2 = moe.grouped_matmul %a, %b
      weights(%w, %w : tensor<1x6x4xf32>, tensor<1x6x4xf32>)
      elements(%e : tensor<?x6xf32>) row_values(%v : tensor<?xf32>)
      outs(%y, %z : tensor<?x6xf32>, tensor<?x6xbf16>)
      : tensor<?x4xf32>, tensor<?x4xf32>
      -> tensor<?x6xf32>, tensor<?x6xbf16> {
  ^bb0(%p: f32, %q: f32, %r: f32, %s: f32):
    %0 = arith.addf %p, %q : f32
    %1 = math.tanh %r : f32
    %2 = arith.mulf %1, %s : f32
    moe.yield %0, %2 : f32, f32
  }
  return %0#0, %0#1 : tensor<?x6xf32>, tensor<?x6xbf16>
}

// -----

// A slot's row is found by the grouped form; slots of identity experts have a
// sum of their own, empty ones the zero that was there.

// CHECK-LABEL: func @slot_dots
// CHECK-SAME:    %[[ROWS:[a-z0-9]+]]: tensor<?x64xf32>, %[[IDS:[a-z0-9]+]]: tensor<?x2xi32>, %[[Y:[a-z0-9]+]]: tensor<?x64xbf16>, %[[I:[a-z0-9]+]]: tensor<?x64xbf16>)
// CHECK:         %[[ZERO:.*]] = linalg.fill {{.*}} -> tensor<?x2xf32>
// CHECK:         scf.for {{.*}} iter_args(%{{.*}} = %[[ZERO]])
// CHECK:           tensor.extract %[[ROWS]]
// CHECK:           tensor.extract %[[Y]]
// CHECK:           tensor.extract %[[I]]
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @slot_dots
// KEEP-NOT:      moe.
// KEEP:          return
func.func @slot_dots(%rows: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                     %y: tensor<?x64xbf16>, %identity: tensor<?x64xbf16>)
    -> tensor<?x2xf32> {
  %d = moe.slot_dots %rows, %ids experts 8 tokens(%y : tensor<?x64xbf16>)
      identity(%identity : tensor<?x64xbf16>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  return %d : tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func @chosen_by_expert
// CHECK:         scf.for {{.*}} -> (tensor<8x?xf64>)
// CHECK:           arith.addf {{.*}} : f64
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @chosen_by_expert
// KEEP-NOT:      moe.
// KEEP:          return
func.func @chosen_by_expert(%rows: tensor<?x64xf64>, %ids: tensor<8x?xi32>,
                            %n: index) -> tensor<8x?xf64> {
  %d = moe.slot_dots %rows, %ids experts 8 chosen_by <expert> num_tokens(%n)
      : (tensor<?x64xf64>, tensor<8x?xi32>) -> tensor<8x?xf64>
  return %d : tensor<8x?xf64>
}

// -----

// Kept results are those of the first product, beside the hidden rows.

// CHECK-LABEL: func @keeping
// CHECK:         linalg.matmul
// CHECK:         math.exp
// CHECK:         linalg.matmul
// CHECK-NOT:     linalg.matmul
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @keeping
// KEEP-NOT:      moe.
// KEEP:          return
func.func @keeping(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
                   %down: tensor<1x4x6xf32>)
    -> (tensor<?x4xf32>, tensor<?x6xf32>) {
  %0:2 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32> keeping tensor<?x6xf32>
  return %0#0, %0#1 : tensor<?x4xf32>, tensor<?x6xf32>
}

// -----

// CHECK-LABEL: func @token_ops
// CHECK:         scf.for
// CHECK:         math.exp
// CHECK-NOT:     moe.
// KEEP-LABEL:  func @token_ops
// KEEP-NOT:      moe.
// KEEP:          return
func.func @token_ops(%x: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                     %w: tensor<?x2xf32>)
    -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %ids, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  %1 = moe.score_vjp %x by softmax cotangent(%0 : tensor<?x8xf32>)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return %0, %1 : tensor<?x8xf32>, tensor<?x8xf32>
}
