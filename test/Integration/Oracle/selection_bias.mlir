// RUN: %run_oracle | FileCheck %s

// DeepSeek-V3: the bias moves the choice to experts 0 and 3, the weights are of
// the sigmoid alone. Without the bias experts 1 and 3 win.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[[0.5, 1.5, -0.5, 1.0]]> : tensor<1x4xf32>
  %bias = arith.constant dense<[0.3, -0.4, 0.2, 0.0]> : tensor<4xf32>
  %ids, %weights = moe.route
      #moe.top_k<k = 2, score = sigmoid, normalize = sum> %logits
      bias(%bias : tensor<4xf32>)
      : tensor<1x4xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %plain, %plain_weights = moe.route
      #moe.top_k<k = 2, score = sigmoid, scale = 2.0> %logits
      : tensor<1x4xf32> -> tensor<1x2xi32>, tensor<1x2xf32>

  %0 = tensor.cast %ids : tensor<1x2xi32> to tensor<*xi32>
  call @printMemrefI32(%0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 3]
  %1 = tensor.cast %weights : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.459883, 0.540117]
  %2 = tensor.cast %plain : tensor<1x2xi32> to tensor<*xi32>
  call @printMemrefI32(%2) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 3]
  %3 = tensor.cast %plain_weights : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1.63515, 1.46212]
  return
}
