// RUN: %run_oracle | FileCheck %s

// Activations on the gates -1, 0.5, 3 with the up value 2.5: the weights are
// numbers, so rows are gate values.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})

func.func @main() {
  %x = arith.constant dense<[[-1.0], [0.5], [3.0]]> : tensor<3x1xf32>
  %w = arith.constant dense<1.0> : tensor<1x1x1xf32>
  %zero = arith.constant dense<0.0> : tensor<1x1x1xf32>
  %no_bias = arith.constant dense<0.0> : tensor<1x1xf32>
  %bias = arith.constant dense<2.5> : tensor<1x1xf32>
  %silu = moe.experts %x up(%w : tensor<1x1x1xf32>)
      down(%w : tensor<1x1x1xf32>)
      activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<3x1xf32> -> tensor<3x1xf32>
  %p0 = tensor.cast %silu : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-0.26894
  // CHECK-NEXT: [0.31123]
  // CHECK-NEXT: [2.8577

  %gelu = moe.experts %x up(%w : tensor<1x1x1xf32>)
      down(%w : tensor<1x1x1xf32>)
      activation #moe.activation<kind = gelu>
      layout <orientation = out_in> : tensor<3x1xf32> -> tensor<3x1xf32>
  %p1 = tensor.cast %gelu : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-0.15865
  // CHECK-NEXT: [0.34573
  // CHECK-NEXT: [2.9959

  %gelu_tanh = moe.experts %x up(%w : tensor<1x1x1xf32>)
      down(%w : tensor<1x1x1xf32>)
      activation #moe.activation<kind = gelu_tanh>
      layout <orientation = out_in> : tensor<3x1xf32> -> tensor<3x1xf32>
  %p2 = tensor.cast %gelu_tanh : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-0.15880
  // CHECK-NEXT: [0.34571
  // CHECK-NEXT: [2.9963

  %relu = moe.experts %x up(%w : tensor<1x1x1xf32>)
      down(%w : tensor<1x1x1xf32>)
      activation #moe.activation<kind = relu>
      layout <orientation = out_in> : tensor<3x1xf32> -> tensor<3x1xf32>
  %p3 = tensor.cast %relu : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [{{-?}}0]
  // CHECK-NEXT: [0.5]
  // CHECK-NEXT: [3]

  %relu2 = moe.experts %x up(%w : tensor<1x1x1xf32>)
      down(%w : tensor<1x1x1xf32>)
      activation #moe.activation<kind = relu2>
      layout <orientation = out_in> : tensor<3x1xf32> -> tensor<3x1xf32>
  %p4 = tensor.cast %relu2 : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p4) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [{{-?}}0]
  // CHECK-NEXT: [0.25]
  // CHECK-NEXT: [9]

  // Gate at most 2, up within 2.
  %clamped = moe.experts %x up(%w, %zero : tensor<1x1x1xf32>, tensor<1x1x1xf32>)
      bias(%no_bias, %bias : tensor<1x1xf32>, tensor<1x1xf32>)
      down(%w : tensor<1x1x1xf32>) gated
      activation #moe.activation<kind = silu, limit = 2.0>
      layout <orientation = out_in, pairing = separate>
      : tensor<3x1xf32> -> tensor<3x1xf32>
  %p5 = tensor.cast %clamped : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-0.53788
  // CHECK-NEXT: [0.62245
  // CHECK-NEXT: [3.5231

  // g * sigmoid(1.702 g) * (u + 1), clamped in the same way.
  %oai = moe.experts %x up(%w, %zero : tensor<1x1x1xf32>, tensor<1x1x1xf32>)
      bias(%no_bias, %bias : tensor<1x1xf32>, tensor<1x1xf32>)
      down(%w : tensor<1x1x1xf32>) gated
      activation #moe.activation<kind = silu, style = oai, limit = 2.0>
      layout <orientation = out_in, pairing = separate>
      : tensor<3x1xf32> -> tensor<3x1xf32>
  %p6 = tensor.cast %oai : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p6) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [-0.46261
  // CHECK-NEXT: [1.0511
  // CHECK-NEXT: [5.8069

  // An ungated gate is clamped from above alone.
  %capped = moe.experts %x up(%w : tensor<1x1x1xf32>)
      down(%w : tensor<1x1x1xf32>)
      activation #moe.activation<kind = relu2, limit = 2.0>
      layout <orientation = out_in> : tensor<3x1xf32> -> tensor<3x1xf32>
  %p7 = tensor.cast %capped : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p7) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0]
  // CHECK-NEXT: [0.25]
  // CHECK-NEXT: [4]

  // The up value is clamped from below too: -2.5 is -2.
  %low_bias = arith.constant dense<-2.5> : tensor<1x1xf32>
  %low = moe.experts %x up(%w, %zero : tensor<1x1x1xf32>, tensor<1x1x1xf32>)
      bias(%no_bias, %low_bias : tensor<1x1xf32>, tensor<1x1xf32>)
      down(%w : tensor<1x1x1xf32>) gated
      activation #moe.activation<kind = identity, limit = 2.0>
      layout <orientation = out_in, pairing = separate>
      : tensor<3x1xf32> -> tensor<3x1xf32>
  %p8 = tensor.cast %low : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p8) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [2]
  // CHECK-NEXT: [-1]
  // CHECK-NEXT: [-4]

  return
}
