// RUN: %run_oracle | FileCheck %s

// Softmax then choice, choice then softmax, and softmax then choice then
// normalisation: the last two agree. Then the same in f64.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefF64(
    tensor<*xf64> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[[1.2, 0.4, -0.3, -0.9]]> : tensor<1x4xf32>
  %ids0, %all = moe.route #moe.top_k<k = 2> %logits
      : tensor<1x4xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %0 = tensor.cast %all : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.557129, 0.250334]

  %ids1, %topk = moe.route #moe.top_k<k = 2, domain = topk> %logits
      : tensor<1x4xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %1 = tensor.cast %topk : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [{{0.68997[45]}}, {{0.31002[56]}}]

  %ids2, %normal = moe.route #moe.top_k<k = 2, normalize = sum> %logits
      : tensor<1x4xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %2 = tensor.cast %normal : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [{{0.68997[45]}}, {{0.31002[56]}}]

  %wide = arith.extf %logits : tensor<1x4xf32> to tensor<1x4xf64>
  %ids3, %double = moe.route #moe.top_k<k = 2, domain = topk> %wide
      : tensor<1x4xf64> -> tensor<1x2xi32>, tensor<1x2xf64>
  %3 = tensor.cast %double : tensor<1x2xf64> to tensor<*xf64>
  call @printMemrefF64(%3) : (tensor<*xf64>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [{{0.68997[45]}}, {{0.31002[56]}}]
  return
}
