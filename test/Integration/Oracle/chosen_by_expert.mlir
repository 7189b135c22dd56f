// RUN: %run_oracle | FileCheck %s

// Experts that chose: rows in token order inside an expert, combined in expert
// order; a token that nobody took gets 0.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %x = arith.constant dense<[[1.0], [2.0], [4.0], [8.0]]> : tensor<4x1xf32>
  %ids = arith.constant dense<[[2, 0, -1], [1, 2, 0]]> : tensor<2x3xi32>
  %weights = arith.constant dense<[[3.0, 5.0, 0.0], [7.0, 11.0, 13.0]]>
      : tensor<2x3xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 2 chosen_by <expert>
      weights(%weights : tensor<2x3xf32>)
      : (tensor<4x1xf32>, tensor<2x3xi32>) -> (tensor<6x1xf32>, tensor<3xi32>)
  %p0 = tensor.cast %offsets : tensor<3xi32> to tensor<*xi32>
  call @printMemrefI32(%p0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 2, 5]

  %p1 = tensor.cast %rows : tensor<6x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [5]
  // CHECK-NEXT: [12]
  // CHECK-NEXT: [13]
  // CHECK-NEXT: [14]
  // CHECK-NEXT: [44]

  // Token 0: 5 * 5 + 13 * 13; token 1: 7 * 14; token 2: 3 * 12 + 11 * 44.
  %y = moe.combine %rows, %ids experts 2 chosen_by <expert>
      weights(%weights : tensor<2x3xf32>)
      : (tensor<6x1xf32>, tensor<2x3xi32>) -> tensor<4x1xf32>
  %p2 = tensor.cast %y : tensor<4x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [194]
  // CHECK-NEXT: [98]
  // CHECK-NEXT: [520]
  // CHECK-NEXT: [0]

  return
}
