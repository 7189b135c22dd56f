// Which values a backward finds, and which gradients there are.

// RUN: moe-opt %s --split-input-file --moe-generate-vjp | FileCheck %s

// Elements are computed again, a sum is saved; names are those of the places
// where there are no others.

// CHECK-LABEL: func.func @f_fwd(
// CHECK-SAME:    -> (tensor<5xf32> {moe.dims = [""], moe.name = "result0"}, tensor<5xf32> {moe.dims = [""], moe.name = "saved_0"})
// CHECK-LABEL: func.func @f_bwd(
// CHECK-SAME:    tensor<5x7xf32> {moe.dims = ["", ""], moe.name = "arg0"}
// CHECK-SAME:    tensor<5xf32> {moe.dims = [""], moe.name = "saved_0"}
// CHECK-SAME:    moe.name = "d_result0"})
// CHECK-SAME:    -> (tensor<5x7xf32> {moe.dims = ["", ""], moe.name = "d_arg0"})
// CHECK:         math.exp
// CHECK-NOT:     linalg.reduce
func.func @f(%x: tensor<5x7xf32>) -> tensor<5xf32> {
  %zero = arith.constant dense<0.0> : tensor<5xf32>
  %e = math.exp %x : tensor<5x7xf32>
  %s = linalg.reduce ins(%e : tensor<5x7xf32>) outs(%zero : tensor<5xf32>)
      dimensions = [1]
      (%a: f32, %b: f32) {
        %0 = arith.addf %a, %b : f32
        linalg.yield %0 : f32
      }
  %l = math.log %s : tensor<5xf32>
  return %l : tensor<5xf32>
}

// -----

// An argument that no result depends on has a gradient of zeros; a result of
// integers has no cotangent; a private function stays one.

// CHECK-LABEL: func.func private @f_fwd(
// CHECK-LABEL: func.func private @f_bwd(
// CHECK-SAME:    %[[D:[^ ]*]]: tensor<?x4xf32> {moe.dims = ["{{[A-Z0-9]+}}", ""], moe.name = "d_result1"}) -> (
// CHECK:         %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<3xf32>
// CHECK:         return %[[D]], %[[ZERO]]
func.func private @f(%x: tensor<?x4xf32>, %unused: tensor<3xf32>,
                     %ids: tensor<2xi32>)
    -> (tensor<2xi32>, tensor<?x4xf32>) {
  return %ids, %x : tensor<2xi32>, tensor<?x4xf32>
}

// -----

// One entry among other functions is the one.

// CHECK-LABEL: func.func private @other(
// CHECK-NOT:   @other_fwd
// CHECK:       func.func @f_fwd(
// CHECK:       func.func @f_bwd(
// CHECK-NOT:   @other_fwd
func.func private @other(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {moe.entry} {
  return %x : tensor<4xf32>
}

// -----

// A value of experts that is kept already is kept once.

// CHECK-LABEL: func.func @kept_fwd(
// CHECK:         moe.experts {{.*}} keeping tensor<?x6xf32>{{$}}
// CHECK:         return
// CHECK-LABEL: func.func @kept_bwd(
// CHECK:         moe.grouped_matmul {{.*}} elements(
func.func @kept(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
                %down: tensor<1x4x6xf32>) -> tensor<?x4xf32> {
  %0:2 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32> keeping tensor<?x6xf32>
  return %0#0 : tensor<?x4xf32>
}

// -----

// A caller makes room for what is saved, so that each of its sizes is one of an
// argument: rows of slots, of a number of groups that the call decides, are
// made again. The tokens' parts of them are saved.

// CHECK-LABEL: func.func @soft_fwd(
// CHECK-SAME:    -> (tensor<?x8xf32> {{.*}}, tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "saved_0"}, tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "saved_1"}, tensor<3xi32> {moe.dims = [""], moe.name = "saved_2"})
// CHECK-NOT:     keeping
// CHECK-LABEL: func.func @soft_bwd(
// CHECK-NOT:     moe.route_slots %
// CHECK:         moe.soft_dispatch
func.func @soft(%x: tensor<?x8xf32> {moe.name = "x", moe.dims = ["T", ""]},
                %r: tensor<?x4xf32> {moe.name = "r", moe.dims = ["T", ""]},
                %up: tensor<2x6x8xf32>, %down: tensor<2x8x6xf32>,
                %groups: tensor<?xi32> {moe.dims = ["G"]})
    -> (tensor<?x8xf32> {moe.name = "y", moe.dims = ["T", ""]}) {
  %d, %c = moe.route_slots %r groups(%groups : tensor<?xi32>)
      : tensor<?x4xf32> -> tensor<?x4xf32>, tensor<?x4xf32>
  %rows, %offsets = moe.soft_dispatch %x, %d experts 2
      groups(%groups : tensor<?xi32>)
      : (tensor<?x8xf32>, tensor<?x4xf32>) -> (tensor<?x8xf32>, tensor<3xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%up : tensor<2x6x8xf32>) down(%down : tensor<2x8x6xf32>)
      activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = moe.soft_combine %h, %c experts 2 groups(%groups : tensor<?xi32>)
      : (tensor<?x8xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// So are the logits of tokens that are a batch times a length. What was drawn
// is never drawn again: a caller has to know that size.

// CHECK-LABEL: func.func @drawn_fwd(
// CHECK-SAME:    -> (tensor<?x2xf32> {moe.dims = ["BS", ""], moe.name = "w"}, tensor<?x2xi32> {moe.dims = ["BS", ""], moe.name = "saved_0"}, tensor<?x2xf32> {moe.dims = ["BS", ""], moe.name = "saved_1"})
// CHECK-LABEL: func.func @drawn_bwd(
// CHECK-NOT:     moe.route #
// CHECK:         moe.gate
// CHECK-NOT:     moe.route #
// CHECK:         moe.route_vjp
func.func @drawn(%x: tensor<?x?x8xf32> {moe.name = "x"},
                 %router: tensor<4x8xf32> {moe.name = "router"},
                 %seed: i64, %layer: i64, %first: i64)
    -> (tensor<?x2xf32> {moe.name = "w", moe.dims = ["BS", ""]}) {
  %t = tensor.collapse_shape %x [[0, 1], [2]]
      : tensor<?x?x8xf32> into tensor<?x8xf32>
  %logits = moe.gate %t, %router
      : (tensor<?x8xf32>, tensor<4x8xf32>) -> tensor<?x4xf32>
  %ids, %w = moe.route #moe.exact_k<k = 2> %logits
      training(%seed, %layer, %first)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %w : tensor<?x2xf32>
}
