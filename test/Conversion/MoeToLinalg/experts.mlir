// RUN: moe-opt %s --convert-moe-to-linalg --split-input-file | FileCheck %s

// Gate and up are views of the fused weight, whatever the pairing.

// CHECK-LABEL: func @cat
// CHECK-SAME:    %[[UP:[a-z0-9]+]]: tensor<4x32x16xf32>
// CHECK:         %[[W:.+]] = tensor.expand_shape %[[UP]] {{.*}} into tensor<4x1x2x16x16xf32>
// CHECK:         scf.for %[[E:[a-z0-9]+]] = {{.*}} -> (tensor<?x16xf32>)
// CHECK:           tensor.extract_slice %[[W]][%[[E]], 0, 1, 0, 0] [1, 1, 1, 16, 16] {{.*}} : tensor<4x1x2x16x16xf32> to tensor<16x16xf32>
// CHECK:           tensor.extract_slice %[[W]][%[[E]], 0, 0, 0, 0]
// CHECK-COUNT-3:   linalg.matmul
// CHECK-NOT:     moe.
func.func @cat(%rows: tensor<?x16xf32>, %offsets: tensor<5xi32>,
               %up: tensor<4x32x16xf32>, %down: tensor<4x16x16xf32>)
    -> tensor<?x16xf32> {
  %h = moe.experts %rows offsets(%offsets : tensor<5xi32>)
      up(%up : tensor<4x32x16xf32>) down(%down : tensor<4x16x16xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in, order = up_gate>
      : tensor<?x16xf32> -> tensor<?x16xf32>
  return %h : tensor<?x16xf32>
}

// -----

// CHECK-LABEL: func @interleaved_folded
// CHECK-SAME:    %[[UP:[a-z0-9]+]]: tensor<64x32xbf16>
// CHECK:         %[[W:.+]] = tensor.expand_shape %[[UP]] {{.*}} into tensor<4x16x16x2x1xbf16>
// CHECK:         tensor.extract_slice %[[W]][%[[E:.+]], 0, 0, 0, 0] [1, 16, 16, 1, 1] {{.*}} to tensor<16x16xbf16>
// CHECK:         tensor.extract_slice %[[W]][%[[E]], 0, 0, 1, 0]
// CHECK:         linalg.matmul ins({{.*}}tensor<?x16xbf16>, tensor<16x16xbf16>) outs({{.*}}tensor<?x16xf32>)
// CHECK:         arith.truncf %{{.*}} : f32 to bf16
// CHECK-NOT:     moe.
func.func @interleaved_folded(%rows: tensor<?x16xbf16>,
                              %offsets: tensor<5xi32>,
                              %up: tensor<64x32xbf16>,
                              %down: tensor<64x16xbf16>)
    -> tensor<?x16xbf16> {
  %h = moe.experts %rows offsets(%offsets : tensor<5xi32>)
      up(%up : tensor<64x32xbf16>) down(%down : tensor<64x16xbf16>)
      gated activation #moe.activation<kind = gelu>
      layout <orientation = in_out, down = in_out, pairing = interleaved,
              expert_axis = folded>
      : tensor<?x16xbf16> -> tensor<?x16xbf16>
  return %h : tensor<?x16xbf16>
}

// -----

// In shards, a side is in as many parts, which are joined for one expert.

// CHECK-LABEL: func @shards
// CHECK:         scf.for
// CHECK:           tensor.extract_slice %{{.*}} : tensor<4x2x2x8x16xf32> to tensor<2x8x16xf32>
// CHECK:           tensor.collapse_shape %{{.*}} : tensor<2x8x16xf32> into tensor<16x16xf32>
// CHECK-NOT:     moe.
func.func @shards(%rows: tensor<?x16xf32>, %offsets: tensor<5xi32>,
                  %up: tensor<4x32x16xf32>, %down: tensor<4x16x16xf32>)
    -> tensor<?x16xf32> {
  %h = moe.experts %rows offsets(%offsets : tensor<5xi32>)
      up(%up : tensor<4x32x16xf32>) down(%down : tensor<4x16x16xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in, shards = 2>
      : tensor<?x16xf32> -> tensor<?x16xf32>
  return %h : tensor<?x16xf32>
}

// -----

// One expert owns all rows: no loop.

// CHECK-LABEL: func @dense
// CHECK-NOT:     scf.for
// CHECK-COUNT-2: linalg.matmul
// CHECK-NOT:     moe.
func.func @dense(%rows: tensor<?x16xf32>, %up: tensor<1x32x16xf32>,
                 %down: tensor<1x16x32xf32>) -> tensor<?x16xf32> {
  %h = moe.experts %rows up(%up : tensor<1x32x16xf32>)
      down(%down : tensor<1x16x32xf32>)
      activation #moe.activation<kind = relu2> layout <orientation = out_in>
      : tensor<?x16xf32> -> tensor<?x16xf32>
  return %h : tensor<?x16xf32>
}

// -----

// CHECK-LABEL: func @relayout
// CHECK-COUNT-2: linalg.transpose {{.*}} permutation = [0, 2, 1]
// CHECK-COUNT-2: tensor.insert_slice
// CHECK:         tensor.collapse_shape %{{.*}} into tensor<4x32x16xbf16>
// CHECK-NOT:     moe.
func.func @relayout(%w: tensor<4x16x32xbf16>) -> tensor<4x32x16xbf16> {
  %r = moe.relayout <up> %w experts 4 gated
      from <orientation = in_out, pairing = interleaved>
      to <orientation = out_in, order = up_gate>
      : (tensor<4x16x32xbf16>) -> tensor<4x32x16xbf16>
  return %r : tensor<4x32x16xbf16>
}

// -----

// A fold alone is a reshape.

// CHECK-LABEL: func @fold
// CHECK-NOT:     tensor.empty
// CHECK:         %[[R:.+]] = tensor.collapse_shape %{{.*}} : tensor<4x16x8xf32> into tensor<64x8xf32>
// CHECK:         return %[[R]]
func.func @fold(%w: tensor<4x16x8xf32>) -> tensor<64x8xf32> {
  %r = moe.relayout <down> %w experts 4 gated from <orientation = in_out>
      to <orientation = in_out, expert_axis = folded>
      : (tensor<4x16x8xf32>) -> tensor<64x8xf32>
  return %r : tensor<64x8xf32>
}
