// RUN: %run_oracle | FileCheck %s

// One expert in five layouts. On (1, 2) the gate is (3, 5), up (2, 1): hidden
// units (6, 5), output 6 - 5 and 12.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})

func.func @main() {
  %x = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
  %down = arith.constant dense<[[[1.0, -1.0], [2.0, 0.0]]]> : tensor<1x2x2xf32>
  %down_t = arith.constant dense<[[1.0, 2.0], [-1.0, 0.0]]> : tensor<2x2xf32>

  // gate (1, 1), (1, 2); up (0, 1), (1, 0)
  %w0 = arith.constant dense<[[[1.0, 1.0], [1.0, 2.0], [0.0, 1.0], [1.0, 0.0]]]>
      : tensor<1x4x2xf32>
  %y0 = moe.experts %x up(%w0 : tensor<1x4x2xf32>)
      down(%down : tensor<1x2x2xf32>) gated
      activation #moe.activation<kind = identity>
      layout <orientation = out_in> : tensor<1x2xf32> -> tensor<1x2xf32>
  %p0 = tensor.cast %y0 : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 12]

  %w1 = arith.constant dense<[[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 2.0, 0.0]]>
      : tensor<2x4xf32>
  %y1 = moe.experts %x up(%w1 : tensor<2x4xf32>) down(%down_t : tensor<2x2xf32>)
      gated activation #moe.activation<kind = identity>
      layout <orientation = in_out, down = in_out, pairing = interleaved,
              expert_axis = folded> : tensor<1x2xf32> -> tensor<1x2xf32>
  %p1 = tensor.cast %y1 : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 12]

  %gate = arith.constant dense<[[[1.0, 1.0], [1.0, 2.0]]]> : tensor<1x2x2xf32>
  %up = arith.constant dense<[[[0.0, 1.0], [1.0, 0.0]]]> : tensor<1x2x2xf32>
  %y2 = moe.experts %x up(%gate, %up : tensor<1x2x2xf32>, tensor<1x2x2xf32>)
      down(%down : tensor<1x2x2xf32>) gated
      activation #moe.activation<kind = identity>
      layout <orientation = out_in, pairing = separate>
      : tensor<1x2xf32> -> tensor<1x2xf32>
  %p2 = tensor.cast %y2 : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 12]

  // Two shards of one unit each, up first; relu tells gate and up apart.
  %w3 = arith.constant dense<[[[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 2.0]]]>
      : tensor<1x4x2xf32>
  %b3 = arith.constant dense<[[-4.0, 0.0, 0.0, -9.0]]> : tensor<1x4xf32>
  // Gate (3, 5 - 9), up (2 - 4, 1): hidden units (-6, 0).
  %y3 = moe.experts %x up(%w3 : tensor<1x4x2xf32>) bias(%b3 : tensor<1x4xf32>)
      down(%down : tensor<1x2x2xf32>) gated
      activation #moe.activation<kind = relu>
      layout <orientation = out_in, order = up_gate, shards = 2>
      : tensor<1x2xf32> -> tensor<1x2xf32>
  %p3 = tensor.cast %y3 : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-6, -12]

  // Not gated: hidden units (3, 5).
  %y4 = moe.experts %x up(%gate : tensor<1x2x2xf32>)
      down(%down : tensor<1x2x2xf32>)
      activation #moe.activation<kind = identity>
      layout <orientation = out_in> : tensor<1x2xf32> -> tensor<1x2xf32>
  %p4 = tensor.cast %y4 : tensor<1x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p4) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-2, 6]

  return
}
