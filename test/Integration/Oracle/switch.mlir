// RUN: %run_oracle | FileCheck %s

// Switch: one expert a token by softmax, two places an expert, the balance loss
// over the choice before capacity; and the z-loss of the same logits.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[
    [2.0, 1.0, 0.0], [1.0, 0.5, 0.0], [1.5, 0.0, 1.0], [0.0, 0.0, 1.0]
  ]> : tensor<4x3xf32>
  %ids, %weights = moe.route #moe.top_k<k = 1> %logits
      : tensor<4x3xf32> -> tensor<4x1xi32>, tensor<4x1xf32>
  %kept, %kept_weights = moe.limit_capacity %ids, %weights experts 3
      by #moe.capacity<fixed = 2> queue <first_come>
      : tensor<4x1xi32>, tensor<4x1xf32>
  %scores = moe.score %logits by softmax : tensor<4x3xf32> -> tensor<4x3xf32>
  %balance = moe.aux_loss <balance> %scores ids(%ids : tensor<4x1xi32>)
      coefficient 1.0 : tensor<4x3xf32> -> tensor<f32>
  %z = moe.aux_loss <z> %logits coefficient 1.0
      : tensor<4x3xf32> -> tensor<f32>

  %0 = tensor.cast %scores : tensor<4x3xf32> to tensor<*xf32>
  call @printMemrefF32(%0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.665241, 0.244728, 0.0900306]
  // CHECK-NEXT: [0.50648, 0.307196, 0.186324]
  // CHECK-NEXT: [0.546549, 0.121952, 0.331499]
  // CHECK-NEXT: [0.211942, 0.211942, 0.576117]

  %1 = tensor.cast %kept : tensor<4x1xi32> to tensor<*xi32>
  call @printMemrefI32(%1) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [-1]
  // CHECK-NEXT: [2]

  %2 = tensor.cast %kept_weights : tensor<4x1xf32> to tensor<*xf32>
  call @printMemrefF32(%2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.665241]
  // CHECK-NEXT: [0.50648]
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [0.576117]

  %3 = tensor.cast %balance : tensor<f32> to tensor<*xf32>
  call @printMemrefF32(%3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1.30774]

  %4 = tensor.cast %z : tensor<f32> to tensor<*xf32>
  call @printMemrefF32(%4) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [3.8635
  return
}
