// RUN: %run_oracle | FileCheck %s

// Ties go to the lower index, -0 equals +0, NaN comes after everything else,
// and ids are distinct whatever the row holds.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  // NaN is 0x7FC00000, infinity 0x7F800000.
  %values = arith.constant dense<[
    [1.0, 3.0, 3.0, -0.0, 0.0, 0x7FC00000],
    [0x7FC00000, 0xFF800000, 0x7FC00000, 5.0, 0xFF800000, 2.0]
  ]> : tensor<2x6xf32>
  %v0 = arith.constant dense<9.0> : tensor<2x6xf32>
  %i0 = arith.constant dense<9> : tensor<2x6xi32>
  %v, %i = moe.top_k ins(%values : tensor<2x6xf32>)
      outs(%v0, %i0 : tensor<2x6xf32>, tensor<2x6xi32>)
      -> tensor<2x6xf32>, tensor<2x6xi32>
  %p0 = tensor.cast %v : tensor<2x6xf32> to tensor<*xf32>
  call @printMemrefF32(%p0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [3, 3, 1, 0, 0, {{-?nan}}]
  // CHECK-NEXT: [5, 2, -inf, -inf, {{-?nan}}, {{-?nan}}]

  %p1 = tensor.cast %i : tensor<2x6xi32> to tensor<*xi32>
  call @printMemrefI32(%p1) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 2, 0, 3, 4, 5]
  // CHECK-NEXT: [3, 5, 1, 4, 0, 2]

  // Equal logits; a NaN; NaN alone; far below where f32 scores underflow.
  %logits = arith.constant dense<[
    [1.0, 1.0, 1.0], [0x7FC00000, 1.0, 2.0],
    [0x7FC00000, 0x7FC00000, 0x7FC00000], [-300.0, -200.0, 0.0]
  ]> : tensor<4x3xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<4x3xf32> -> tensor<4x2xi32>, tensor<4x2xf32>
  %p2 = tensor.cast %ids : tensor<4x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p2) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [2, 1]
  // CHECK-NEXT: [0, 1]
  // CHECK-NEXT: [2, 1]

  %p3 = tensor.cast %weights : tensor<4x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.333333, 0.333333]
  // CHECK-NEXT: [{{-?nan}}, {{-?nan}}]
  // CHECK-NEXT: [{{-?nan}}, {{-?nan}}]
  // CHECK-NEXT: [1, 0]

  // Under sigmoid a NaN stays with its expert.
  %ids1, %weights1 = moe.route #moe.top_k<k = 3, score = sigmoid> %logits
      : tensor<4x3xf32> -> tensor<4x3xi32>, tensor<4x3xf32>
  %p4 = tensor.cast %ids1 : tensor<4x3xi32> to tensor<*xi32>
  call @printMemrefI32(%p4) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1, 2]
  // CHECK-NEXT: [2, 1, 0]
  // CHECK-NEXT: [0, 1, 2]
  // CHECK-NEXT: [2, 1, 0]

  %p5 = tensor.cast %weights1 : tensor<4x3xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.731059, 0.731059, 0.731059]
  // CHECK-NEXT: [0.880797, 0.731059, {{-?nan}}]
  // CHECK-NEXT: [{{-?nan}}, {{-?nan}}, {{-?nan}}]
  // CHECK-NEXT: [0.5, 0, 0]

  return
}
