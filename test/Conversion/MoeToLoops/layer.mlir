// RUN: moe-opt %s --split-input-file \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --implicit-check-not='{{ moe[.]}}'

// A whole layer: one op after the other, each result a tensor again, the hidden
// unit kept in the rows' type.

// CHECK-LABEL: func @layer(
// CHECK:         bufferization.to_tensor {{.*}} : memref<?x8xf32> to tensor<?x8xf32>
// CHECK:         bufferization.to_tensor {{.*}} : memref<?x2xi32> to tensor<?x2xi32>
// CHECK:         bufferization.to_tensor {{.*}} : memref<?x2xf32> to tensor<?x2xf32>
// CHECK:         bufferization.to_tensor {{.*}} : memref<?x64xbf16> to tensor<?x64xbf16>
// CHECK:         bufferization.to_tensor {{.*}} : memref<9xi32> to tensor<9xi32>
// CHECK:         math.exp
// CHECK:         arith.truncf {{.*}} : f32 to bf16
// CHECK:         bufferization.to_tensor {{.*}} : memref<?x64xbf16> to tensor<?x64xbf16>
// CHECK:         %[[Y:.*]] = bufferization.to_tensor {{.*}} : memref<?x64xbf16> to tensor<?x64xbf16>
// CHECK:         return %[[Y]]
func.func @layer(%x: tensor<?x64xbf16>, %router: tensor<8x64xf32>,
                 %gate_up: tensor<8x256x64xbf16>, %down: tensor<8x64x128xbf16>)
    -> tensor<?x64xbf16> {
  %logits = moe.gate %x, %router
      : (tensor<?x64xbf16>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %w = moe.route #moe.top_k<k = 2, normalize = sum> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xbf16>, tensor<?x2xi32>)
      -> (tensor<?x64xbf16>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%gate_up : tensor<8x256x64xbf16>) down(%down : tensor<8x64x128xbf16>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x64xbf16> -> tensor<?x64xbf16>
  %y = moe.combine %h, %ids experts 8 weights(%w : tensor<?x2xf32>)
      : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xbf16>
  return %y : tensor<?x64xbf16>
}

// -----

// T comes from the operand where experts choose and T is dynamic.

// CHECK-LABEL: func @num_tokens(
// CHECK-SAME:    %[[T:[a-z0-9]+]]: index
// CHECK:         memref.alloc(%[[T]]) : memref<?x4xf32>
func.func @num_tokens(%rows: tensor<?x4xf32>, %ids: tensor<8x?xi32>,
                      %t: index) -> tensor<?x4xf32> {
  %y = moe.combine %rows, %ids experts 8 chosen_by <expert> num_tokens(%t)
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// CHECK-LABEL: func @relayout(
// CHECK:         memref.alloc() : memref<8x4x3xf16>
// CHECK:         memref.alloc() : memref<8x4x3xf16>
// CHECK-NOT:     arith.addf
func.func @relayout(%w: tensor<24x8xf16>)
    -> (tensor<8x4x3xf16>, tensor<8x4x3xf16>) {
  %gate, %up = moe.relayout <up> %w experts 8 gated
      from <orientation = in_out, expert_axis = folded>
      to <orientation = out_in, pairing = separate>
      : (tensor<24x8xf16>) -> (tensor<8x4x3xf16>, tensor<8x4x3xf16>)
  return %gate, %up : tensor<8x4x3xf16>, tensor<8x4x3xf16>
}
