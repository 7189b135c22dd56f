// RUN: %run_oracle | FileCheck %s

// The grouped form of a routing and the ops that work on it. What an op does
// not write keeps its value (7).

func.func private @printMemrefF32(
    tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    tensor<*xi32> {bufferization.access = "read"})

func.func @main() {
  %ids = arith.constant dense<[[1, 0], [-1, 1], [5, 1]]> : tensor<3x2xi32>
  %weights = arith.constant dense<[[0.5, 0.25], [9.0, 1.0], [9.0, 2.0]]>
      : tensor<3x2xf32>
  %offsets0 = arith.constant dense<7> : tensor<3xi32>
  %token0 = arith.constant dense<7> : tensor<6xi32>
  %first0 = arith.constant dense<7> : tensor<4xi32>
  %weight0 = arith.constant dense<7.0> : tensor<6xf32>
  %offsets, %token, %first, %slot, %weight = moe.group
      ins(%ids, %weights : tensor<3x2xi32>, tensor<3x2xf32>)
      outs(%offsets0, %token0, %first0, %token0, %weight0
          : tensor<3xi32>, tensor<6xi32>, tensor<4xi32>, tensor<6xi32>,
            tensor<6xf32>) chosen_by <token>
      -> tensor<3xi32>, tensor<6xi32>, tensor<4xi32>, tensor<6xi32>,
         tensor<6xf32>
  %p0 = tensor.cast %offsets : tensor<3xi32> to tensor<*xi32>
  call @printMemrefI32(%p0) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1, 4]

  %p1 = tensor.cast %token : tensor<6xi32> to tensor<*xi32>
  call @printMemrefI32(%p1) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 0, 1, 2, 7, 7]

  %p2 = tensor.cast %first : tensor<4xi32> to tensor<*xi32>
  call @printMemrefI32(%p2) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 2, 3, 4]

  %p3 = tensor.cast %slot : tensor<6xi32> to tensor<*xi32>
  call @printMemrefI32(%p3) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [1, 0, 2, 3, 7, 7]

  %p4 = tensor.cast %weight : tensor<6xf32> to tensor<*xf32>
  call @printMemrefF32(%p4) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0.25, 0.5, 1, 2, 7, 7]

  %x = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]>
      : tensor<3x2xf32>
  %w = arith.constant dense<[[[1.0, 1.0]], [[1.0, -1.0]]]> : tensor<2x1x2xf32>
  %bias = arith.constant dense<[[10.0], [20.0]]> : tensor<2x1xf32>
  %rows0 = arith.constant dense<7.0> : tensor<6x1xf32>
  %rows = moe.grouped_matmul %x rows(%token : tensor<6xi32>)
      row_scale(%weight : tensor<6xf32>) offsets(%offsets : tensor<3xi32>)
      weights(%w : tensor<2x1x2xf32>) biases(%bias : tensor<2x1xf32>)
      outs(%rows0 : tensor<6x1xf32>) : tensor<3x2xf32> -> tensor<6x1xf32> {
  ^bb0(%acc: f32, %b: f32):
    %twice = arith.addf %acc, %acc : f32
    %out = arith.addf %twice, %b : f32
    moe.yield %out : f32
  }
  %p5 = tensor.cast %rows : tensor<6x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p5) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [11.5]
  // CHECK-NEXT: [19]
  // CHECK-NEXT: [18]
  // CHECK-NEXT: [16]
  // CHECK-NEXT: [7]
  // CHECK-NEXT: [7]

  // The first weight as [D, J]; without offsets its expert owns all rows; two
  // accumulators.
  %w_t = arith.constant dense<[[[1.0], [1.0]]]> : tensor<1x2x1xf32>
  %w2_t = arith.constant dense<[[[0.0], [1.0]]]> : tensor<1x2x1xf32>
  %all0 = arith.constant dense<0.0> : tensor<3x1xf32>
  %all = moe.grouped_matmul %x
      weights(%w_t, %w2_t : tensor<1x2x1xf32>, tensor<1x2x1xf32>) in_out
      outs(%all0 : tensor<3x1xf32>) : tensor<3x2xf32> -> tensor<3x1xf32> {
  ^bb0(%acc: f32, %acc2: f32):
    %out = arith.mulf %acc, %acc2 : f32
    moe.yield %out : f32
  }
  %p6 = tensor.cast %all : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p6) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [6]
  // CHECK-NEXT: [28]
  // CHECK-NEXT: [66]

  %identity_weight = arith.constant dense<[0.0, 1.0, 0.0]> : tensor<3xf32>
  %identity = arith.constant dense<100.0> : tensor<3x1xf32>
  %residual = arith.constant dense<[[0.0], [0.0], [4.0]]> : tensor<3x1xf32>
  %one = arith.constant dense<1.0> : tensor<1xf32>
  %y = moe.combine_slots %rows, %first, %slot weight(%weight : tensor<6xf32>)
      identity(%identity_weight, %identity : tensor<3xf32>, tensor<3x1xf32>)
      residual(%residual : tensor<3x1xf32>) bias(%one : tensor<1xf32>)
      outs(%all0 : tensor<3x1xf32>) {average, scale = 2.0 : f64}
      : tensor<6x1xf32>, tensor<4xi32>, tensor<6xi32> -> tensor<3x1xf32>
  %p7 = tensor.cast %y : tensor<3x1xf32> to tensor<*xf32>
  call @printMemrefF32(%p7) : (tensor<*xf32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [12.875]
  // CHECK-NEXT: [118.5]
  // CHECK-NEXT: [34.5]

  // Chosen by experts: token 2 has a row of each expert.
  %tokens = arith.constant dense<[[2, 0], [1, 2]]> : tensor<2x2xi32>
  %token4 = arith.constant dense<7> : tensor<4xi32>
  %offsets1, %token1, %first1, %slot1 = moe.group
      ins(%tokens : tensor<2x2xi32>)
      outs(%offsets0, %token4, %first0, %token4
          : tensor<3xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>)
      chosen_by <expert>
      -> tensor<3xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>
  %p8 = tensor.cast %offsets1 : tensor<3xi32> to tensor<*xi32>
  call @printMemrefI32(%p8) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 2, 4]

  %p9 = tensor.cast %token1 : tensor<4xi32> to tensor<*xi32>
  call @printMemrefI32(%p9) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 2, 1, 2]

  %p10 = tensor.cast %first1 : tensor<4xi32> to tensor<*xi32>
  call @printMemrefI32(%p10) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 1, 2, 4]

  %p11 = tensor.cast %slot1 : tensor<4xi32> to tensor<*xi32>
  call @printMemrefI32(%p11) : (tensor<*xi32>) -> ()
  // CHECK:      data =
  // CHECK-NEXT: [0, 2, 1, 3]

  return
}
