// Ops of backwards, and what they add to others: text, generic form, bytecode,
// sizes.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s
// RUN: moe-opt %s --resolve-ranked-shaped-type-result-dims --canonicalize \
// RUN:   | FileCheck %s --check-prefix=SIZE

// CHECK-LABEL: func.func @grouped_outer(
func.func @grouped_outer(%x: tensor<?x6xbf16>, %y: tensor<?x4xf32>,
                         %r: tensor<?xi32>, %o: tensor<9xi32>,
                         %init: tensor<8x6x4xbf16>, %one: tensor<1x6x4xf64>)
    -> tensor<8x6x4xbf16> {
  // CHECK: moe.grouped_outer %{{[^ ]*}} rows(%{{[^ ]*}} : tensor<?xi32>) by %{{[^ ]*}} rows(%{{[^ ]*}} : tensor<?xi32>) offsets(%{{[^ ]*}} : tensor<9xi32>) outs(%{{[^ ]*}} : tensor<8x6x4xbf16>) : tensor<?x6xbf16>, tensor<?x4xf32> -> tensor<8x6x4xbf16>
  %0 = moe.grouped_outer %x rows(%r : tensor<?xi32>)
      by %y rows(%r : tensor<?xi32>) offsets(%o : tensor<9xi32>)
      outs(%init : tensor<8x6x4xbf16>)
      : tensor<?x6xbf16>, tensor<?x4xf32> -> tensor<8x6x4xbf16>
  // CHECK: moe.grouped_outer %{{[^ ]*}} by %{{[^ ]*}} rows(%{{[^ ]*}} : tensor<?xi32>) offsets(
  %1 = moe.grouped_outer %x by %y rows(%r : tensor<?xi32>)
      offsets(%o : tensor<9xi32>) outs(%0 : tensor<8x6x4xbf16>)
      : tensor<?x6xbf16>, tensor<?x4xf32> -> tensor<8x6x4xbf16>
  // One expert, without offsets.
  // CHECK: moe.grouped_outer %{{[^ ]*}} by %{{[^ ]*}} outs(%{{[^ ]*}} : tensor<1x6x4xf64>) : tensor<?x6xbf16>, tensor<?x4xf32> -> tensor<1x6x4xf64>
  %2 = moe.grouped_outer %x by %y outs(%one : tensor<1x6x4xf64>)
      : tensor<?x6xbf16>, tensor<?x4xf32> -> tensor<1x6x4xf64>
  return %1 : tensor<8x6x4xbf16>
}

// CHECK-LABEL: func.func @grouped_outer_memref(
func.func @grouped_outer_memref(%x: memref<?x6xf32, strided<[?, 1]>>,
                                %y: memref<7x4xf32>, %r: memref<7xi32>,
                                %o: memref<9xi32>,
                                %init: memref<8x6x4xf32,
                                              strided<[48, 8, 2], offset: 1>>) {
  // CHECK: moe.grouped_outer %{{[^ ]*}} rows(%{{[^ ]*}} : memref<7xi32>) by %{{[^ ]*}} offsets(%{{[^ ]*}} : memref<9xi32>) outs(%{{[^ ]*}} : memref<8x6x4xf32, strided<[48, 8, 2], offset: 1>>) : memref<?x6xf32, strided<[?, 1]>>, memref<7x4xf32>
  // CHECK-NEXT: return
  moe.grouped_outer %x rows(%r : memref<7xi32>) by %y
      offsets(%o : memref<9xi32>)
      outs(%init : memref<8x6x4xf32, strided<[48, 8, 2], offset: 1>>)
      : memref<?x6xf32, strided<[?, 1]>>, memref<7x4xf32>
  return
}

// CHECK-LABEL: func.func @grouped_matmul(
func.func @grouped_matmul(%a: tensor<?x4xf32>, %b: tensor<?x4xbf16>,
                          %w: tensor<1x6x4xf32>, %e: tensor<?x6xbf16>,
                          %v: tensor<?xf32>, %y: tensor<?x6xf32>,
                          %z: tensor<?x6xbf16>)
    -> (tensor<?x6xf32>, tensor<?x6xbf16>) {
  // CHECK: moe.grouped_matmul %{{[^ ]*}}, %{{[^ ]*}} weights(%{{[^ ]*}}, %{{[^ ]*}} : tensor<1x6x4xf32>, tensor<1x6x4xf32>) elements(%{{[^ ]*}}, %{{[^ ]*}} : tensor<?x6xbf16>, tensor<?x6xf32>) row_values(%{{[^ ]*}} : tensor<?xf32>) outs(%{{[^ ]*}}, %{{[^ ]*}} : tensor<?x6xf32>, tensor<?x6xbf16>) : tensor<?x4xf32>, tensor<?x4xbf16> -> tensor<?x6xf32>, tensor<?x6xbf16> {
  // CHECK-NEXT: ^bb0(%[[P:.*]]: f32, %[[Q:.*]]: f32, %[[R:.*]]: f32, %[[S:.*]]: f32, %[[T:.*]]: f32):
  // CHECK-NEXT:   moe.yield %[[P]], %[[T]] : f32, f32
  // CHECK-NEXT: }
  %0:2 = moe.grouped_matmul %a, %b
      weights(%w, %w : tensor<1x6x4xf32>, tensor<1x6x4xf32>)
      elements(%e, %y : tensor<?x6xbf16>, tensor<?x6xf32>)
      row_values(%v : tensor<?xf32>)
      outs(%y, %z : tensor<?x6xf32>, tensor<?x6xbf16>)
      : tensor<?x4xf32>, tensor<?x4xbf16>
      -> tensor<?x6xf32>, tensor<?x6xbf16> {
  ^bb0(%p: f32, %q: f32, %r: f32, %s: f32, %t: f32):
    moe.yield %p, %t : f32, f32
  }
  return %0#0, %0#1 : tensor<?x6xf32>, tensor<?x6xbf16>
}

// CHECK-LABEL: func.func @grouped_matmul_memref(
func.func @grouped_matmul_memref(%a: memref<?x4xf64>, %w: memref<2x4x6xf64>,
                                 %b: memref<2x6xf32>, %o: memref<3xi32>,
                                 %r: memref<?xi32>, %v: memref<?xf32>,
                                 %y: memref<?x6xf64>) {
  // CHECK: moe.grouped_matmul %{{[^ ]*}} rows(%{{[^ ]*}} : memref<?xi32>) offsets(%{{[^ ]*}} : memref<3xi32>) weights(%{{[^ ]*}} : memref<2x4x6xf64>) biases(%{{[^ ]*}} : memref<2x6xf32>) in_out elements(%{{[^ ]*}} : memref<?x6xf64>) row_values(%{{[^ ]*}}, %{{[^ ]*}} : memref<?xf32>, memref<?xf32>) outs(%{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} : memref<?x6xf64>, memref<?x6xf64>, memref<?x6xf64>) : memref<?x4xf64> {
  // CHECK: moe.yield %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} : f64, f64, f64
  moe.grouped_matmul %a rows(%r : memref<?xi32>) offsets(%o : memref<3xi32>)
      weights(%w : memref<2x4x6xf64>) biases(%b : memref<2x6xf32>) in_out
      elements(%y : memref<?x6xf64>)
      row_values(%v, %v : memref<?xf32>, memref<?xf32>)
      outs(%y, %y, %y : memref<?x6xf64>, memref<?x6xf64>, memref<?x6xf64>)
      : memref<?x4xf64> {
  ^bb0(%p: f64, %q: f64, %s: f64, %t: f64, %u: f64):
    moe.yield %p, %q, %s : f64, f64, f64
  }
  return
}

// CHECK-LABEL: func.func @experts(
func.func @experts(%x: tensor<?x4xbf16>, %up: tensor<1x6x4xbf16>,
                   %down: tensor<1x4x3xbf16>, %down6: tensor<1x4x6xbf16>) {
  // CHECK: %{{.*}}, %{{.*}}:2 = moe.experts {{.*}} gated activation #moe.activation<kind = silu> layout <orientation = out_in> : tensor<?x4xbf16> -> tensor<?x4xf32> keeping tensor<?x3xf32>, tensor<?x3xbf16>
  %0:3 = moe.experts %x up(%up : tensor<1x6x4xbf16>)
      down(%down : tensor<1x4x3xbf16>) gated
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xbf16> -> tensor<?x4xf32>
      keeping tensor<?x3xf32>, tensor<?x3xbf16>
  // CHECK: %{{.*}}, %{{.*}} = moe.experts {{.*}} : tensor<?x4xbf16> -> tensor<?x4xbf16> keeping tensor<?x6xbf16>
  %1:2 = moe.experts %x up(%up : tensor<1x6x4xbf16>)
      down(%down6 : tensor<1x4x6xbf16>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xbf16> -> tensor<?x4xbf16> keeping tensor<?x6xbf16>
  return
}

// CHECK-LABEL: func.func @slot_dots(
func.func @slot_dots(%rows: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                     %y: tensor<?x64xbf16>, %chosen: tensor<8x?xi32>,
                     %n: index) {
  // CHECK: moe.slot_dots %{{[^ ]*}}, %{{[^ ]*}} experts 8 tokens(%{{[^ ]*}} : tensor<?x64xbf16>) identity(%{{[^ ]*}} : tensor<?x64xbf16>) : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x2xf64>
  %0 = moe.slot_dots %rows, %ids experts 8 identity(%y : tensor<?x64xbf16>)
      tokens(%y : tensor<?x64xbf16>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x2xf64>
  // The default choice is not printed.
  // CHECK: moe.slot_dots %{{[^ ]*}}, %{{[^ ]*}} experts 8 : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  %1 = moe.slot_dots %rows, %ids experts 8 chosen_by <token>
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  // CHECK: moe.slot_dots %{{[^ ]*}}, %{{[^ ]*}} experts 8 chosen_by <expert> tokens(%{{[^ ]*}} : tensor<?x64xbf16>) :
  %2 = moe.slot_dots %rows, %chosen experts 8 chosen_by <expert>
      tokens(%y : tensor<?x64xbf16>)
      : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<8x?xf32>
  // CHECK: moe.slot_dots %{{[^ ]*}}, %{{[^ ]*}} experts 8 chosen_by <expert> num_tokens(%{{[^ ]*}}) :
  %3 = moe.slot_dots %rows, %chosen experts 8 chosen_by <expert>
      num_tokens(%n) : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<8x?xf32>
  return
}

// CHECK-LABEL: func.func @route_vjp(
func.func @route_vjp(%x: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                     %w: tensor<?x2xf32>, %scale: tensor<8xf32>, %s: i64) {
  // CHECK: moe.route_vjp #moe.top_k<k = 2> %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} by %{{[^ ]*}} : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %ids, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  // CHECK: moe.route_vjp #moe.top_k<k = 2> %{{.*}} by %{{[^ ]*}} expert_scale(%{{[^ ]*}} : tensor<8xf32>) : {{.*}} -> tensor<?x8xf32>, tensor<?x8xf32>
  %1:2 = moe.route_vjp #moe.top_k<k = 2> %x, %ids, %w by %w
      expert_scale(%scale : tensor<8xf32>)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  // CHECK: moe.route_vjp #moe.noisy_top_k<k = 2> %{{.*}} by %{{[^ ]*}} noise(%{{[^ ]*}} : tensor<?x8xf32>) training(%{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}}) : {{.*}} -> tensor<?x8xf32>, tensor<?x8xf32>
  %2:2 = moe.route_vjp #moe.noisy_top_k<k = 2> %x, %ids, %w by %w
      training(%s, %s, %s) noise(%x : tensor<?x8xf32>)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  // CHECK: moe.route_vjp #moe.exact_k<k = 2> %{{.*}} by %{{[^ ]*}} : {{.*}} -> tensor<?x8xf32>
  %3 = moe.route_vjp #moe.exact_k<k = 2> %x, %ids, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @score_vjp(
func.func @score_vjp(%x: tensor<?x8xbf16>, %g: tensor<?x8xf32>) {
  // CHECK: moe.score_vjp %{{[^ ]*}} by softmax cotangent(%{{[^ ]*}} : tensor<?x8xf32>) : tensor<?x8xbf16> -> tensor<?x8xf64>
  %0 = moe.score_vjp %x by softmax cotangent(%g : tensor<?x8xf32>)
      : tensor<?x8xbf16> -> tensor<?x8xf64>
  // CHECK: moe.score_vjp %{{[^ ]*}} by sqrt_softplus cotangent(%{{[^ ]*}} : tensor<?x8xf32>) {softcap = 3.000000e+01 : f64} : tensor<?x8xbf16> -> tensor<?x8xbf16>
  %1 = moe.score_vjp %x by sqrt_softplus cotangent(%g : tensor<?x8xf32>)
      {softcap = 30.0 : f64} : tensor<?x8xbf16> -> tensor<?x8xbf16>
  return
}

// SIZE-LABEL: func.func @sizes(
// SIZE-SAME:    %[[X:[^ ]*]]: tensor<?x8xf32>, %[[I:[^ ]*]]: tensor<?x2xi32>, %{{[^ ]*}}: tensor<?x2xf32>, %[[C:[^ ]*]]: tensor<8x?xi32>, %{{[^ ]*}}: index)
// SIZE:         %[[T:.*]] = tensor.dim %[[X]], %c0
// SIZE:         %[[U:.*]] = tensor.dim %[[X]], %c0
// SIZE:         %[[V:.*]] = tensor.dim %[[I]], %c0
// SIZE:         %[[W:.*]] = tensor.dim %[[C]], %c1
// SIZE:         return %[[T]], %[[U]], %[[V]], %[[W]]
func.func @sizes(%x: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                 %w: tensor<?x2xf32>, %chosen: tensor<8x?xi32>, %n: index)
    -> (index, index, index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = moe.route_vjp #moe.top_k<k = 2> %x, %ids, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  %s = moe.score_vjp %x by softmax cotangent(%r : tensor<?x8xf32>)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  %d = moe.slot_dots %s, %ids experts 4
      : (tensor<?x8xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
  %e = moe.slot_dots %s, %chosen experts 8 chosen_by <expert> num_tokens(%n)
      : (tensor<?x8xf32>, tensor<8x?xi32>) -> tensor<8x?xf32>
  %0 = tensor.dim %r, %c0 : tensor<?x8xf32>
  %1 = tensor.dim %s, %c0 : tensor<?x8xf32>
  %2 = tensor.dim %d, %c0 : tensor<?x2xf32>
  %3 = tensor.dim %e, %c1 : tensor<8x?xf32>
  return %0, %1, %2, %3 : index, index, index, index
}
