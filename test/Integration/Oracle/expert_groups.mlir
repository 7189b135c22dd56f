// RUN: %run_oracle | FileCheck %s

// Groups of experts: the best group by its largest score or by the sum of its
// two largest, and the key of an expert in a dropped group.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %logits = arith.constant dense<[[1.0, 0.0, 3.0, -5.0, 2.0, 2.0]]>
      : tensor<1x6xf32>

  // Largest of each group: 1, 3, 2.
  %ids0, %w0 = moe.route
      #moe.top_k<k = 2, score = none, groups = 3, kept_groups = 1> %logits
      : tensor<1x6xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %p0 = tensor.cast %ids0 : tensor<1x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [2, 3]

  // The same group, but 0 is more than -5.
  %ids1, %w1 = moe.route
      #moe.top_k<k = 2, score = none, groups = 3, kept_groups = 1,
                 group_fill = zero> %logits
      : tensor<1x6xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %p1 = tensor.cast %ids1 : tensor<1x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p1) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [2, 0]

  %p2 = tensor.cast %w1 : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [3, 1]

  // Sums of each group: 1, -2, 4.
  %ids2, %w2 = moe.route
      #moe.top_k<k = 2, score = none, groups = 3, kept_groups = 1,
                 group_score = top2sum> %logits
      : tensor<1x6xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %p3 = tensor.cast %ids2 : tensor<1x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p3) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [4, 5]

  // With the bias: 11, -2, 4; the weights are the scores without it.
  %bias = arith.constant dense<[4.0, 6.0, 0.0, 0.0, 0.0, 0.0]> : tensor<6xf32>
  %ids3, %w3 = moe.route
      #moe.top_k<k = 3, score = none, groups = 3, kept_groups = 2,
                 group_score = top2sum> %logits bias(%bias : tensor<6xf32>)
      : tensor<1x6xf32> -> tensor<1x3xi32>, tensor<1x3xf32>
  %p4 = tensor.cast %ids3 : tensor<1x3xi32> to tensor<*xi32>
  call @printMemrefI32(%p4) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 0, 4]

  %p5 = tensor.cast %w3 : tensor<1x3xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1, 2]

  // Sums are of scores, 1 and 0.85, not of logits, -12 and -1.
  %far = arith.constant dense<[[-20.0, 8.0, 1.0, -2.0]]> : tensor<1x4xf32>
  %ids4, %w4 = moe.route
      #moe.top_k<k = 2, score = sigmoid, groups = 2, kept_groups = 1,
                 group_score = top2sum> %far
      : tensor<1x4xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %p6 = tensor.cast %ids4 : tensor<1x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p6) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 0]

  return
}
