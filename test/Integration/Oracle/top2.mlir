// RUN: %run_oracle | FileCheck %s

// GShard's two experts a token on a worked example: softmax over three experts,
// the pair's weights divided by their sum. Two places an expert: token 2 loses
// its first choice, token 3 its second, and nothing is renormalised.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[
    [2.0, 1.0, 0.0], [1.0, 0.5, 0.0], [1.5, 0.0, 1.0], [0.0, 0.0, 1.0]
  ]> : tensor<4x3xf32>
  %ids, %weights = moe.route
      #moe.top_k<k = 2, normalize = sum, eps = 1.0e-9> %logits
      : tensor<4x3xf32> -> tensor<4x2xi32>, tensor<4x2xf32>
  %kept, %kept_weights = moe.limit_capacity %ids, %weights experts 3
      by #moe.capacity<fixed = 2> queue <first_come>
      : tensor<4x2xi32>, tensor<4x2xf32>

  %0 = tensor.cast %ids : tensor<4x2xi32> to tensor<*xi32>
  call @printMemrefI32(%0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [0, 2]
  // CHECK-NEXT: [2, 0]

  %1 = tensor.cast %weights : tensor<4x2xf32> to tensor<*xf32>
  call @printMemrefF32(%1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.731059, 0.268941]
  // CHECK-NEXT: [0.622459, 0.377541]
  // CHECK-NEXT: [0.622459, 0.377541]
  // CHECK-NEXT: [0.731059, 0.268941]

  %2 = tensor.cast %kept : tensor<4x2xi32> to tensor<*xi32>
  call @printMemrefI32(%2) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [-1, 2]
  // CHECK-NEXT: [2, -1]

  %3 = tensor.cast %kept_weights : tensor<4x2xf32> to tensor<*xf32>
  call @printMemrefF32(%3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.731059, 0.268941]
  // CHECK-NEXT: [0.622459, 0.377541]
  // CHECK-NEXT: [0, 0.377541]
  // CHECK-NEXT: [0.731059, 0]
  return
}
