// RUN: %run_oracle | FileCheck %s

// Each phase accumulates in f32 and rounds once. A bf16 at 1 has steps of 2^-7:
// 1 and three times 2^-9 are 1 when rounded after every sum, 1 + 2^-7 when
// rounded once.

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})

func.func @main() {
  %x = arith.constant dense<[[1.0, 0.001953125, 0.001953125, 0.001953125]]>
      : tensor<1x4xbf16>
  %w = arith.constant dense<1.0> : tensor<1x4xbf16>
  %logits = moe.gate %x, %w
      : (tensor<1x4xbf16>, tensor<1x4xbf16>) -> tensor<1x1xbf16>
  %logits32 = arith.extf %logits : tensor<1x1xbf16> to tensor<1x1xf32>
  %p0 = tensor.cast %logits32 : tensor<1x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p0) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1.00781]

  // The hidden unit is stored in the rows' type: 258. 256 * (1 + 3 * 2^-9)
  // would be 257.5.
  %up = arith.constant dense<1.0> : tensor<1x1x4xbf16>
  %down = arith.constant dense<256.0> : tensor<1x1x1xbf16>
  %h = moe.experts %x up(%up : tensor<1x1x4xbf16>)
      down(%down : tensor<1x1x1xbf16>)
      activation #moe.activation<kind = identity>
      layout <orientation = out_in> : tensor<1x4xbf16> -> tensor<1x1xf32>
  %p1 = tensor.cast %h : tensor<1x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p1) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [258]

  // sigmoid(0.5) = 0.622459 is 159 / 256 in bf16, and the weight is not rounded
  // again.
  %half = arith.constant dense<0.5> : tensor<1x1xf32>
  %ids, %weights = moe.route
      #moe.top_k<k = 1, score = sigmoid, scale = 3.0, score_dtype = bf16> %half
      : tensor<1x1xf32> -> tensor<1x1xi32>, tensor<1x1xf32>
  %p2 = tensor.cast %weights : tensor<1x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p2) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1.86328]

  // A scaled row rounds to the row's type before the product: 256 times
  // 1 + 2^-7, which is 258.
  %row = arith.constant dense<1.0078125> : tensor<1x1xbf16>
  %factor = arith.constant dense<1.0009765625> : tensor<1xf32>
  %weight = arith.constant dense<256.0> : tensor<1x1x1xbf16>
  %zero = arith.constant dense<0.0> : tensor<1x1xf32>
  %scaled = moe.grouped_matmul %row row_scale(%factor : tensor<1xf32>)
      weights(%weight : tensor<1x1x1xbf16>) outs(%zero : tensor<1x1xf32>)
      : tensor<1x1xbf16> -> tensor<1x1xf32> {
  ^bb0(%acc: f32):
    moe.yield %acc : f32
  }
  %p3 = tensor.cast %scaled : tensor<1x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p3) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [258]

  return
}
