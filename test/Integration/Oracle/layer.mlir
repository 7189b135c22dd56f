// RUN: %run_oracle | FileCheck %s

// A whole layer in small integers: two experts and an identity expert,
// relu(gate) times up, biases, and every option of the combine.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %x = arith.constant dense<[[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]]>
      : tensor<3x2xf32>
  %router = arith.constant dense<[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]>
      : tensor<3x2xf32>
  %logits = moe.gate %x, %router
      : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x3xf32>
  %p0 = tensor.cast %logits : tensor<3x3xf32> to tensor<*xf32>
  call @printMemrefF32(%p0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 2, 3]
  // CHECK-NEXT: [3, -1, 2]
  // CHECK-NEXT: [0, 1, 1]

  %ids, %weights = moe.route #moe.top_k<k = 2, score = none> %logits
      : tensor<3x3xf32> -> tensor<3x2xi32>, tensor<3x2xf32>
  %p1 = tensor.cast %ids : tensor<3x2xi32> to tensor<*xi32>
  call @printMemrefI32(%p1) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [2, 1]
  // CHECK-NEXT: [0, 2]
  // CHECK-NEXT: [1, 2]

  %p2 = tensor.cast %weights : tensor<3x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [3, 2]
  // CHECK-NEXT: [3, 2]
  // CHECK-NEXT: [1, 1]

  // Expert 2 is the identity and has no rows.
  %rows, %offsets = moe.dispatch %x, %ids experts 2
      : (tensor<3x2xf32>, tensor<3x2xi32>) -> (tensor<6x2xf32>, tensor<3xi32>)
  %p3 = tensor.cast %offsets : tensor<3xi32> to tensor<*xi32>
  call @printMemrefI32(%p3) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1, 3]

  %p4 = tensor.cast %rows : tensor<6x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p4) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [3, -1]
  // CHECK-NEXT: [1, 2]
  // CHECK-NEXT: [0, 1]

  %gate_up = arith.constant dense<[
    [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]],
    [[1.0, 1.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
  ]> : tensor<2x4x2xf32>
  %up_bias = arith.constant dense<[
    [0.0, 2.0, 0.0, 0.0], [0.0, 3.0, 1.0, 0.0]
  ]> : tensor<2x4xf32>
  %down = arith.constant dense<[
    [[1.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]
  ]> : tensor<2x2x2xf32>
  %down_bias = arith.constant dense<[[1.0, 0.0], [0.0, -1.0]]>
      : tensor<2x2xf32>
  // Hidden units: (6, 6), (9, 2), (2, 0).
  %h = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%gate_up : tensor<2x4x2xf32>) bias(%up_bias : tensor<2x4xf32>)
      down(%down : tensor<2x2x2xf32>) down_bias(%down_bias : tensor<2x2xf32>)
      gated activation #moe.activation<kind = relu>
      layout <orientation = out_in> : tensor<6x2xf32> -> tensor<6x2xf32>
  %p5 = tensor.cast %h : tensor<6x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [7, 12]
  // CHECK-NEXT: [18, 1]
  // CHECK-NEXT: [4, -1]

  %residual = arith.constant dense<[[1.0, 1.0], [0.0, 0.0], [2.0, -2.0]]>
      : tensor<3x2xf32>
  %bias = arith.constant dense<[10.0, 20.0]> : tensor<2xf32>
  %y = moe.combine %h, %ids experts 2 weights(%weights : tensor<3x2xf32>)
      identity(%x : tensor<3x2xf32>) residual(%residual : tensor<3x2xf32>)
      bias(%bias : tensor<2xf32>) {average, scale = 0.5 : f64}
      : (tensor<6x2xf32>, tensor<3x2xi32>) -> tensor<3x2xf32>
  %p6 = tensor.cast %y : tensor<3x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p6) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [15.25, 12.5]
  // CHECK-NEXT: [11.75, 18.5]
  // CHECK-NEXT: [7, 9]

  // Weights on the way in instead: the experts are linear here but for relu.
  %scaled, %offsets1 = moe.dispatch %x, %ids experts 2
      weights(%weights : tensor<3x2xf32>)
      : (tensor<3x2xf32>, tensor<3x2xi32>) -> (tensor<6x2xf32>, tensor<3xi32>)
  %p7 = tensor.cast %scaled : tensor<6x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p7) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [9, -3]
  // CHECK-NEXT: [2, 4]
  // CHECK-NEXT: [0, 1]

  // A row without experts adds nothing, whatever it holds: bias alone.
  %nan = arith.constant dense<0x7FC00000> : tensor<3x2xf32>
  %nobody = arith.constant dense<-1> : tensor<3x2xi32>
  %masked = moe.combine %h, %nobody experts 2
      weights(%weights : tensor<3x2xf32>)
      identity(%nan : tensor<3x2xf32>) bias(%bias : tensor<2xf32>)
      : (tensor<6x2xf32>, tensor<3x2xi32>) -> tensor<3x2xf32>
  %p8 = tensor.cast %masked : tensor<3x2xf32> to tensor<*xf32>
  call @printMemrefF32(%p8) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [10, 20]
  // CHECK-NEXT: [10, 20]
  // CHECK-NEXT: [10, 20]

  return
}
