// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The digits classifier: a linear embedding and an RMS norm in plain linalg, a
// Mixture-of-Experts layer, a linear classifier. No residual goes around the
// experts: what the classifier sees, they have computed. make_weights.py makes the
// weights, reference.py is the same function in NumPy f64.

#layout = #moe.layout<orientation = out_in>

#row = affine_map<(t, h) -> (t)>
#column = affine_map<(t, h) -> (h)>
#element = affine_map<(t, h) -> (t, h)>

func.func @digits(
    %x: tensor<?x64xf32> {moe.name = "x"},
    %embed_weight: tensor<64x32xf32> {moe.name = "embed_weight"},
    %embed_bias: tensor<32xf32> {moe.name = "embed_bias"},
    %norm_scale: tensor<32xf32> {moe.name = "norm_scale"},
    %router_weight: tensor<8x32xf32> {moe.name = "router_weight"},
    %gate_up: tensor<8x16x32xf32> {moe.name = "gate_up", moe.layout = #layout},
    %down: tensor<8x32x8xf32> {moe.name = "down", moe.layout = #layout},
    %head_weight: tensor<32x10xf32> {moe.name = "head_weight"},
    %head_bias: tensor<10xf32> {moe.name = "head_bias"})
    -> (tensor<?x10xf32> {moe.name = "logits"},
        tensor<?x2xi32> {moe.name = "ids"},
        tensor<?x2xf32> {moe.name = "weights"},
        tensor<8xi32> {moe.name = "expert_loads"})
    attributes {moe.entry} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %width = arith.constant 32.0 : f32
  %eps = arith.constant 1.0e-6 : f32
  %tokens = tensor.dim %x, %c0 : tensor<?x64xf32>

  // hidden = x embed_weight + embed_bias.
  %hidden_empty = tensor.empty(%tokens) : tensor<?x32xf32>
  %hidden_bias = linalg.broadcast ins(%embed_bias : tensor<32xf32>)
      outs(%hidden_empty : tensor<?x32xf32>) dimensions = [0]
  %hidden = linalg.matmul
      ins(%x, %embed_weight : tensor<?x64xf32>, tensor<64x32xf32>)
      outs(%hidden_bias : tensor<?x32xf32>) -> tensor<?x32xf32>

  // normed = hidden / sqrt(mean(hidden^2) + eps) * norm_scale.
  %sum_empty = tensor.empty(%tokens) : tensor<?xf32>
  %sum_zero = linalg.fill ins(%zero : f32) outs(%sum_empty : tensor<?xf32>)
      -> tensor<?xf32>
  %squares = linalg.generic {
      indexing_maps = [#element, #row],
      iterator_types = ["parallel", "reduction"]}
      ins(%hidden : tensor<?x32xf32>) outs(%sum_zero : tensor<?xf32>) {
  ^bb0(%value: f32, %sum: f32):
    %square = arith.mulf %value, %value : f32
    %next = arith.addf %sum, %square : f32
    linalg.yield %next : f32
  } -> tensor<?xf32>
  %normed = linalg.generic {
      indexing_maps = [#element, #row, #column, #element],
      iterator_types = ["parallel", "parallel"]}
      ins(%hidden, %squares, %norm_scale
          : tensor<?x32xf32>, tensor<?xf32>, tensor<32xf32>)
      outs(%hidden_empty : tensor<?x32xf32>) {
  ^bb0(%value: f32, %sum: f32, %scale: f32, %out: f32):
    %mean = arith.divf %sum, %width : f32
    %shifted = arith.addf %mean, %eps : f32
    %inverse = math.rsqrt %shifted : f32
    %unit = arith.mulf %value, %inverse : f32
    %scaled = arith.mulf %unit, %scale : f32
    linalg.yield %scaled : f32
  } -> tensor<?x32xf32>

  // The Mixture of Experts: two of eight, weights that sum to one.
  %scores = moe.gate %normed, %router_weight
      : (tensor<?x32xf32>, tensor<8x32xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, normalize = sum> %scores
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %normed, %ids experts 8
      : (tensor<?x32xf32>, tensor<?x2xi32>)
      -> (tensor<?x32xf32>, tensor<9xi32>)
  %expert_rows = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%gate_up : tensor<8x16x32xf32>) down(%down : tensor<8x32x8xf32>)
      gated activation #moe.activation<kind = silu> layout #layout
      : tensor<?x32xf32> -> tensor<?x32xf32>
  %mixed = moe.combine %expert_rows, %ids experts 8
      weights(%weights : tensor<?x2xf32>)
      : (tensor<?x32xf32>, tensor<?x2xi32>) -> tensor<?x32xf32>

  // How many slots each expert served.
  %ends = tensor.extract_slice %offsets[1] [8] [1]
      : tensor<9xi32> to tensor<8xi32>
  %begins = tensor.extract_slice %offsets[0] [8] [1]
      : tensor<9xi32> to tensor<8xi32>
  %loads_empty = tensor.empty() : tensor<8xi32>
  %loads = linalg.sub ins(%ends, %begins : tensor<8xi32>, tensor<8xi32>)
      outs(%loads_empty : tensor<8xi32>) -> tensor<8xi32>

  // logits = mixed head_weight + head_bias.
  %logits_empty = tensor.empty(%tokens) : tensor<?x10xf32>
  %logits_bias = linalg.broadcast ins(%head_bias : tensor<10xf32>)
      outs(%logits_empty : tensor<?x10xf32>) dimensions = [0]
  %logits = linalg.matmul
      ins(%mixed, %head_weight : tensor<?x32xf32>, tensor<32x10xf32>)
      outs(%logits_bias : tensor<?x10xf32>) -> tensor<?x10xf32>

  return %logits, %ids, %weights, %loads
      : tensor<?x10xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<8xi32>
}
