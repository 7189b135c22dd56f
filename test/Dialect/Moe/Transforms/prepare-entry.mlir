// RUN: moe-opt %s --split-input-file --moe-prepare-entry | FileCheck %s

// Sizes that the ops force to be equal have one name; the result goes to a
// destination behind the inputs.
// CHECK-LABEL: func.func @layer(
// CHECK-SAME:    %{{.+}}: tensor<?x64xf32> {bufferization.writable = false, moe.dims = ["T", ""], moe.name = "x"}, %{{.+}}: tensor<8x64xf32> {bufferization.writable = false, moe.dims = ["", ""], moe.name = "arg1"}, %[[OUT:[a-z0-9]+]]: memref<?x2xf32> {moe.dims = ["T", ""], moe.name = "result0"})
// CHECK-SAME:    moe.num_inputs = 2
// CHECK-NOT:     cf.assert
// CHECK:         %[[IDS:.+]], %[[W:.+]] = moe.route
// CHECK:         bufferization.materialize_in_destination %[[W]] in restrict writable %[[OUT]]
// CHECK-NEXT:    return{{$}}
func.func @layer(%x: tensor<?x64xf32> {moe.name = "x"}, %w: tensor<8x64xf32>)
    -> tensor<?x2xf32> attributes {moe.entry} {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %weights : tensor<?x2xf32>
}

// -----

// Given names stay; sizes that nothing ties together have names of their own.
// CHECK-LABEL: func.func @names(
// CHECK-SAME:    moe.dims = ["B"], moe.name = "a"
// CHECK-SAME:    moe.dims = ["D1"], moe.name = "arg1"
// CHECK-SAME:    memref<?xf32> {moe.dims = ["B"], moe.name = "sum"}
func.func @names(%a: tensor<?xf32> {moe.name = "a", moe.dims = ["B"]},
                 %b: tensor<?xf32>) -> (tensor<?xf32> {moe.name = "sum"})
    attributes {moe.entry} {
  %0 = arith.addf %a, %a : tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// A name that is given is not invented for another size.
// CHECK-LABEL: func.func @given_elsewhere(
// CHECK-SAME:    moe.dims = ["T"], moe.name = "arg0"
// CHECK-SAME:    moe.dims = ["D2"], moe.name = "arg1"
// CHECK-SAME:    moe.dims = ["D1"], moe.name = "arg2"
func.func @given_elsewhere(%a: tensor<?xf32>, %b: tensor<?xf32>,
                           %c: tensor<?xf32> {moe.dims = ["D1"]})
    -> tensor<?xf32> attributes {moe.entry} {
  return %a : tensor<?xf32>
}

// -----

// Elementwise ops and structured ops tie sizes too.
// CHECK-LABEL: func.func @tied(
// CHECK-SAME:    moe.dims = ["T"]
// CHECK-SAME:    moe.dims = ["T"]
// CHECK-SAME:    memref<?xf32> {moe.dims = ["T"]
func.func @tied(%a: tensor<?xf32>, %b: tensor<?xf32>) -> tensor<?xf32>
    attributes {moe.entry} {
  %0 = linalg.add ins(%a, %b : tensor<?xf32>, tensor<?xf32>)
      outs(%a : tensor<?xf32>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// A size that no input has is compared with its destination, in front of all
// work.
// CHECK-LABEL: func.func @size_of_result(
// CHECK-SAME:    %[[L:[a-z0-9]+]]: tensor<?x8xf32>
// CHECK-SAME:    %[[OUT:[a-z0-9]+]]: memref<8x?xi32> {moe.dims = ["", "D1"]
// CHECK:         tensor.dim %[[L]]
// CHECK:         %[[GIVEN:.+]] = memref.dim %[[OUT]]
// CHECK:         %[[EQ:.+]] = arith.cmpi eq, %{{.+}}, %[[GIVEN]]
// CHECK:         cf.assert %[[EQ]], "result 'result0' has the wrong size 1"
// CHECK:         moe.route_experts
func.func @size_of_result(%logits: tensor<?x8xf32>) -> tensor<8x?xi32>
    attributes {moe.entry} {
  %ids, %weights = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>> %logits
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  return %ids : tensor<8x?xi32>
}

// -----

// CHECK-LABEL: func.func @static_sizes(
// CHECK-SAME:    tensor<0x64xbf16> {bufferization.writable = false, moe.dims = ["", ""]
// CHECK-SAME:    memref<0x64xbf16> {moe.dims = ["", ""]
func.func @static_sizes(%x: tensor<0x64xbf16>) -> tensor<0x64xbf16>
    attributes {moe.entry} {
  return %x : tensor<0x64xbf16>
}

// -----

// A function that is no entry, and one that is prepared, stay as they are.
// CHECK-LABEL: func.func @no_entry(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?xf32>) -> tensor<?xf32> {
// CHECK-NEXT:    return %[[X]]
func.func @no_entry(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}
// CHECK-LABEL: func.func @prepared(
// CHECK-SAME:    memref<?xf32> {moe.dims = ["T"], moe.name = "y"}) attributes {moe.entry, moe.num_inputs = 0
// CHECK-NEXT:    return
func.func @prepared(%y: memref<?xf32> {moe.name = "y", moe.dims = ["T"]})
    attributes {moe.entry, moe.num_inputs = 0 : i64} {
  return
}

// -----

// Results go to their destinations in the order in which they are computed.

// CHECK-LABEL: func @order
// CHECK:         %[[IDS:.*]], %{{.*}} = moe.route
// CHECK:         %[[KEPT:.*]], %{{.*}} = moe.limit_capacity
// CHECK:         materialize_in_destination %[[IDS]] in
// CHECK:         materialize_in_destination %[[KEPT]] in
func.func @order(%logits: tensor<?x4xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xi32>) attributes {moe.entry} {
  %ids, %w = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %kept, %kw = moe.limit_capacity %ids, %w experts 4
      by #moe.capacity<fixed = 1> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  return %kept, %ids : tensor<?x2xi32>, tensor<?x2xi32>
}

// -----

// A result that is another tensor in a new shape is written where that one is
// made.

// CHECK-LABEL: func.func @shaped(
// CHECK-SAME:    %[[OUT:[^ ]*]]: memref<?x2x3xf32>
// CHECK:         %[[MADE:.*]] = math.exp
// CHECK:         %[[TO:.*]] = memref.collapse_shape %[[OUT]] {{\[\[}}0, 1], [2]]
// CHECK:         bufferization.materialize_in_destination %[[MADE]] in restrict writable %[[TO]]
func.func @shaped(%x: tensor<?x3xf32> {moe.name = "x", moe.dims = ["N", ""]},
                  %t: tensor<?xf32> {moe.name = "t", moe.dims = ["T"]})
    -> (tensor<?x2x3xf32> {moe.name = "y", moe.dims = ["T", "", ""]})
    attributes {moe.entry} {
  %c0 = arith.constant 0 : index
  %size = tensor.dim %t, %c0 : tensor<?xf32>
  %e = math.exp %x : tensor<?x3xf32>
  %y = tensor.expand_shape %e [[0, 1], [2]] output_shape [%size, 2, 3]
      : tensor<?x3xf32> into tensor<?x2x3xf32>
  return %y : tensor<?x2x3xf32>
}
