// RUN: %run_oracle | FileCheck %s

// Layouts on numbered weights. Gate 0 1 2 3 and up 4 5 6 7 in every pairing;
// and a matrix in both orientations, with the expert axis leading and folded.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})

func.func @main() {
  %cat = arith.constant dense<[
    [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0]]
  ]> : tensor<1x8x1xf32>
  // Transposed, so that the outputs print on one line.
  %inter = moe.relayout <up> %cat experts 1 gated
      from <orientation = out_in>
      to <orientation = in_out, pairing = interleaved>
      : (tensor<1x8x1xf32>) -> tensor<1x1x8xf32>
  %p0 = tensor.cast %inter : tensor<1x1x8xf32> to tensor<*xf32>
  call @printMemrefF32(%p0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 4, 1, 5, 2, 6, 3, 7]

  %swapped = moe.relayout <up> %inter experts 1 gated
      from <orientation = in_out, pairing = interleaved>
      to <orientation = in_out, pairing = interleaved, order = up_gate>
      : (tensor<1x1x8xf32>) -> tensor<1x1x8xf32>
  %p1 = tensor.cast %swapped : tensor<1x1x8xf32> to tensor<*xf32>
  call @printMemrefF32(%p1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [4, 0, 5, 1, 6, 2, 7, 3]

  %shards = moe.relayout <up> %swapped experts 1 gated
      from <orientation = in_out, pairing = interleaved, order = up_gate>
      to <orientation = in_out, order = up_gate, shards = 2>
      : (tensor<1x1x8xf32>) -> tensor<1x1x8xf32>
  %p2 = tensor.cast %shards : tensor<1x1x8xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [4, 5, 0, 1, 6, 7, 2, 3]

  %gate, %up = moe.relayout <up> %shards experts 1 gated
      from <orientation = in_out, order = up_gate, shards = 2>
      to <orientation = in_out, pairing = separate>
      : (tensor<1x1x8xf32>) -> (tensor<1x1x4xf32>, tensor<1x1x4xf32>)
  %p3 = tensor.cast %gate : tensor<1x1x4xf32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1, 2, 3]

  %p4 = tensor.cast %up : tensor<1x1x4xf32> to tensor<*xf32>
  call @printMemrefF32(%p4) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [4, 5, 6, 7]

  %bias = arith.constant dense<[[0.0, 1.0, 2.0, 3.0]]> : tensor<1x4xf32>
  %bias1 = moe.relayout <up_bias> %bias experts 1 gated
      from <orientation = out_in>
      to <orientation = out_in, pairing = interleaved>
      : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %p5 = tensor.cast %bias1 : tensor<1x4xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 2, 1, 3]

  // Two experts, two outputs, three inputs.
  %down = arith.constant dense<[
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]
  ]> : tensor<2x2x3xf32>
  %folded = moe.relayout <down> %down experts 2
      from <orientation = out_in>
      to <orientation = out_in, down = in_out, expert_axis = folded>
      : (tensor<2x2x3xf32>) -> tensor<6x2xf32>
  %p6 = tensor.cast %folded : tensor<6x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p6) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 3]
  // CHECK-NEXT: [1, 4]
  // CHECK-NEXT: [2, 5]
  // CHECK-NEXT: [6, 9]
  // CHECK-NEXT: [7, 10]
  // CHECK-NEXT: [8, 11]

  // Two experts, gate and up of two outputs each, fused in one axis of eight.
  %up2 = arith.constant dense<[
    [[0.0], [1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0], [7.0]]
  ]> : tensor<2x4x1xf32>
  %folded_up = moe.relayout <up> %up2 experts 2 gated
      from <orientation = out_in>
      to <orientation = out_in, pairing = interleaved, expert_axis = folded>
      : (tensor<2x4x1xf32>) -> tensor<8x1xf32>
  %p7 = tensor.cast %folded_up : tensor<8x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p7) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [2]
  // CHECK-NEXT: [1]
  // CHECK-NEXT: [3]
  // CHECK-NEXT: [4]
  // CHECK-NEXT: [6]
  // CHECK-NEXT: [5]
  // CHECK-NEXT: [7]

  return
}
