// RUN: %run_oracle | FileCheck %s

// The weights of a token choice: given ids with empty slots, p-norm, both ways
// of keeping a divisor from zero, the scale of an expert, a mask, the soft cap.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[[3.0, 4.0, 1.0], [3.0, 4.0, 0.0]]>
      : tensor<2x3xf32>

  // |(4, 3)| = 5
  %ids0, %w0 = moe.route
      #moe.top_k<k = 2, score = none, normalize = pnorm, p = 2.0, scale = 10.0>
      %logits : tensor<2x3xf32> -> tensor<2x2xi32>, tensor<2x2xf32>
  %p0 = tensor.cast %w0 : tensor<2x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [8, 6]
  // CHECK-NEXT: [8, 6]

  // Empty slots stay empty and are not in the divisor, 3 + 1 and 0 + eps.
  %given = arith.constant dense<[[0, -1, 2], [-1, 2, -1]]> : tensor<2x3xi32>
  %ids1, %w1 = moe.route
      #moe.top_k<k = 3, score = none, normalize = sum, eps = 1.0> %logits
      indices(%given : tensor<2x3xi32>)
      : tensor<2x3xf32> -> tensor<2x3xi32>, tensor<2x3xf32>
  %p1 = tensor.cast %ids1 : tensor<2x3xi32> to tensor<*xi32>
  call @printMemrefI32(%p1) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, -1, 2]
  // CHECK-NEXT: [-1, 2, -1]

  %p2 = tensor.cast %w1 : tensor<2x3xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.6, 0, 0.2]
  // CHECK-NEXT: [0, 0, 0]

  // The divisor 4 is at least 4, the divisor 0 is lifted to it. Softmax over
  // the given ids alone is 1 for a lone one.
  %ids2, %w2 = moe.route
      #moe.top_k<k = 3, score = none, normalize = sum, eps = 4.0,
                 eps_mode = clamp> %logits indices(%given : tensor<2x3xi32>)
      : tensor<2x3xf32> -> tensor<2x3xi32>, tensor<2x3xf32>
  %p3 = tensor.cast %w2 : tensor<2x3xf32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.75, 0, 0.25]
  // CHECK-NEXT: [0, 0, 0]

  %scales = arith.constant dense<[2.0, 3.0, 5.0]> : tensor<3xf32>
  %mask = arith.constant dense<[false, true]> : tensor<2xi1>
  %ids3, %w3 = moe.route #moe.top_k<k = 3, domain = topk> %logits
      expert_scale(%scales : tensor<3xf32>) indices(%given : tensor<2x3xi32>)
      mask(%mask : tensor<2xi1>)
      : tensor<2x3xf32> -> tensor<2x3xi32>, tensor<2x3xf32>
  %p4 = tensor.cast %ids3 : tensor<2x3xi32> to tensor<*xi32>
  call @printMemrefI32(%p4) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-1, -1, -1]
  // CHECK-NEXT: [-1, 2, -1]

  %p5 = tensor.cast %w3 : tensor<2x3xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 0, 0]
  // CHECK-NEXT: [0, 5, 0]

  // 2 * tanh(4 / 2), 2 * tanh(3 / 2)
  %ids4, %w4 = moe.route #moe.top_k<k = 2, score = none, softcap = 2.0> %logits
      : tensor<2x3xf32> -> tensor<2x2xi32>, tensor<2x2xf32>
  %p6 = tensor.cast %w4 : tensor<2x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p6) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1.92806, 1.8103]
  // CHECK-NEXT: [1.92806, 1.8103]

  // sqrt(log(1 + exp(r))) of 4 and 3
  %ids5, %w5 = moe.route #moe.top_k<k = 2, score = sqrt_softplus> %logits
      : tensor<2x3xf32> -> tensor<2x2xi32>, tensor<2x2xf32>
  %p7 = tensor.cast %w5 : tensor<2x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p7) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [2.00453, 1.74602]
  // CHECK-NEXT: [2.00453, 1.74602]

  return
}
