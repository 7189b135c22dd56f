// RUN: %run_oracle | FileCheck %s

// Two sequences in one batch, an empty one between them, and a masked token:
// each group has a capacity, a queue and a loss of its own.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %ids = arith.constant dense<[[0], [0], [-1], [0], [0]]> : tensor<5x1xi32>
  %weights = arith.constant dense<[[1.0], [2.0], [0.0], [3.0], [4.0]]>
      : tensor<5x1xf32>
  %offsets = arith.constant dense<[0, 3, 3, 5]> : tensor<4xi32>
  // min = 0: floor(3 / 2) = 1, floor(2 / 2) = 1.
  %kept, %kept_weights = moe.limit_capacity %ids, %weights experts 2
      by #moe.capacity<factor = 1.0> queue <prioritized>
      groups(%offsets : tensor<4xi32>) : tensor<5x1xi32>, tensor<5x1xf32>
  %p0 = tensor.cast %kept : tensor<5x1xi32> to tensor<*xi32>
  call @printMemrefI32(%p0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-1]
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [-1]
  // CHECK-NEXT: [-1]
  // CHECK-NEXT: [0]

  %p1 = tensor.cast %kept_weights : tensor<5x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [2]
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [4]

  // The first group: 2 tokens, all slots at expert 0, 2 * (2/2 * 0.75) = 1.5;
  // the last: 2 * (2/2 * 0.25) = 0.5; the mean of 1.5 and 0.5, times 4.
  %scores = arith.constant dense<[
    [1.0, 0.0], [0.5, 0.5], [9.0, 9.0], [0.25, 0.75], [0.25, 0.75]
  ]> : tensor<5x2xf32>
  %mask = arith.constant dense<[true, true, false, true, true]> : tensor<5xi1>
  %loss = moe.aux_loss <balance> %scores ids(%ids : tensor<5x1xi32>)
      mask(%mask : tensor<5xi1>) groups(%offsets : tensor<4xi32>)
      coefficient 4.0 : tensor<5x2xf32> -> tensor<f32>
  %p2 = tensor.cast %loss : tensor<f32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [4]

  %nobody = arith.constant dense<false> : tensor<5xi1>
  %none = moe.aux_loss <importance> %scores mask(%nobody : tensor<5xi1>)
      coefficient 4.0 : tensor<5x2xf32> -> tensor<f32>
  %p3 = tensor.cast %none : tensor<f32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0]

  return
}
