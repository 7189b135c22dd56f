// RUN: %run_oracle | FileCheck %s

// Expert choice on a worked example of six tokens and three experts, two tokens
// an expert: softmax over the experts; softmax over the tokens, divided by the
// number of experts that took a token; and two groups, the first token masked.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[
    [2.0, 0.0, 0.0], [1.5, 0.5, 0.0], [0.0, 1.0, 0.5],
    [0.2, 0.1, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]
  ]> : tensor<6x3xf32>
  %ids, %weights = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.0>> %logits
      : tensor<6x3xf32> -> tensor<3x2xi32>, tensor<3x2xf32>
  %p0 = tensor.cast %ids : tensor<3x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [2, 5]
  // CHECK-NEXT: [4, 2]

  %p1 = tensor.cast %weights : tensor<3x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.786986, 0.628532]
  // CHECK-NEXT: [0.50648, 0.422319]
  // CHECK-NEXT: [0.576117, 0.307196]

  // Tokens 2 and 5 are equal to expert 1: the lower index comes first.
  %ids1, %weights1 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.0>, axis = tokens,
                         normalize = sum> %logits
      : tensor<6x3xf32> -> tensor<3x2xi32>, tensor<3x2xf32>
  %p2 = tensor.cast %ids1 : tensor<3x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p2) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [2, 5]
  // CHECK-NEXT: [4, 2]

  %p3 = tensor.cast %weights1 : tensor<3x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.414872, 0.251633]
  // CHECK-NEXT: [0.133374, 0.266748]
  // CHECK-NEXT: [0.324881, {{0.098525}}

  // One slot a group. C is a bound, which may leave slots empty.
  %mask = arith.constant dense<[false, true, true, true, true, true]>
      : tensor<6xi1>
  %offsets = arith.constant dense<[0, 3, 6]> : tensor<3xi32>
  %ids2, %weights2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.0>> %logits
      mask(%mask : tensor<6xi1>) groups(%offsets : tensor<3xi32>)
      : tensor<6x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %p4 = tensor.cast %ids2 : tensor<3x?xi32> to tensor<*xi32>
  call @printMemrefI32(%p4) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 5, -1
  // CHECK-NEXT: [2, 5, -1
  // CHECK-NEXT: [2, 4, -1

  %p5 = tensor.cast %weights2 : tensor<3x?xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.628532, 0.422319, 0
  // CHECK-NEXT: [0.50648, 0.422319, 0
  // CHECK-NEXT: [0.307196, 0.576117, 0

  // A capacity of two, but the first group has one token.
  %offsets3 = arith.constant dense<[0, 1, 6]> : tensor<3xi32>
  %ids3, %weights3 = moe.route_experts
      #moe.expert_choice<capacity = <fixed = 2>> %logits
      groups(%offsets3 : tensor<3xi32>)
      : tensor<6x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %p6 = tensor.cast %ids3 : tensor<3x?xi32> to tensor<*xi32>
  call @printMemrefI32(%p6) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1, 5, -1]
  // CHECK-NEXT: [0, 2, 5, -1]
  // CHECK-NEXT: [0, 4, 2, -1]

  return
}
