// RUN: %run_oracle | FileCheck %s

// V-MoE: softmax, then the two largest without normalisation; the tokens queue
// by their first weight, 0 3 2 1, first choices before second ones. With two
// places an expert, token 1 loses its first choice and token 3 its second.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[
    [2.0, 1.0, 0.0], [1.0, 0.5, 0.0], [1.5, 0.0, 1.0], [0.0, 0.0, 1.0]
  ]> : tensor<4x3xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<4x3xf32> -> tensor<4x2xi32>, tensor<4x2xf32>
  // ceil(0.625 * 4 * 2 / 3) = 2
  %kept, %kept_weights = moe.limit_capacity %ids, %weights experts 3
      by #moe.capacity<factor = 0.625, per = slots, rounding = ceil>
      queue <prioritized> : tensor<4x2xi32>, tensor<4x2xf32>
  %scores = moe.score %logits by softmax : tensor<4x3xf32> -> tensor<4x3xf32>
  %importance = moe.aux_loss <importance> %scores coefficient 1.0
      : tensor<4x3xf32> -> tensor<f32>

  %0 = tensor.cast %kept : tensor<4x2xi32> to tensor<*xi32>
  call @printMemrefI32(%0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [-1, 1]
  // CHECK-NEXT: [0, 2]
  // CHECK-NEXT: [2, -1]

  %1 = tensor.cast %kept_weights : tensor<4x2xf32> to tensor<*xf32>
  call @printMemrefF32(%1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.665241, 0.244728]
  // CHECK-NEXT: [0, 0.307196]
  // CHECK-NEXT: [0.546549, 0.331499]
  // CHECK-NEXT: [0.576117, 0]

  %2 = tensor.cast %importance : tensor<f32> to tensor<*xf32>
  call @printMemrefF32(%2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.108533]
  return
}
