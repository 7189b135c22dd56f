// Every op with every optional clause: text, generic form and bytecode all
// read back as the text that was checked.
//
// RUN: moe-opt %s -o %t.mlir
// RUN: FileCheck %s < %t.mlir
// RUN: moe-opt %t.mlir | diff %t.mlir -
// RUN: moe-opt %s --mlir-print-op-generic -o %t.generic.mlir
// RUN: FileCheck %s --check-prefix=GENERIC < %t.generic.mlir
// RUN: moe-opt %t.generic.mlir | diff %t.mlir -
// RUN: moe-opt %s --emit-bytecode -o %t.mlirbc
// RUN: moe-opt %t.mlirbc | diff %t.mlir -
// RUN: moe-opt %t.mlirbc --mlir-print-op-generic | diff %t.generic.mlir -
// RUN: moe-opt %s --mlir-print-local-scope --mlir-print-debuginfo \
// RUN:   | moe-opt | diff %t.mlir -

// The generic form writes inherent attributes with their full names.
// GENERIC: "moe.dispatch"(%{{.*}}, %{{.*}}) <{choice = #moe.choice<token>, num_experts = 8 : i64}>

//===----------------------------------------------------------------------===//
// Gate and score
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func.func @gate(
func.func @gate(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                %b: tensor<8xf32>) -> tensor<?x8xf32> {
  // CHECK: moe.gate %{{[^ ]*}}, %{{[^ ]*}} : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %plain = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // CHECK: moe.gate %{{[^ ]*}}, %{{[^ ]*}} bias(%{{[^ ]*}} : tensor<8xf32>) : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %biased = moe.gate %x, %w bias(%b : tensor<8xf32>)
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  return %biased : tensor<?x8xf32>
}

// Storage types, the logits' type, and no tokens at all.
// CHECK-LABEL: func.func @gate_types(
func.func @gate_types(%x: tensor<0x64xbf16>, %w: tensor<8x64xf32>,
                      %b: tensor<8xf64>) -> tensor<0x8xf16> {
  // CHECK: moe.gate {{.*}} bias({{.*}} : tensor<8xf64>) : (tensor<0x64xbf16>, tensor<8x64xf32>) -> tensor<0x8xf16>
  %logits = moe.gate %x, %w bias(%b : tensor<8xf64>)
      : (tensor<0x64xbf16>, tensor<8x64xf32>) -> tensor<0x8xf16>
  return %logits : tensor<0x8xf16>
}

// CHECK-LABEL: func.func @score(
func.func @score(%logits: tensor<?x8xf32>) -> tensor<?x8xf64> {
  // CHECK: moe.score %{{[^ ]*}} by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  %0 = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  // CHECK: moe.score %{{[^ ]*}} by sigmoid : tensor<?x8xf32> -> tensor<?x8xf32>
  %1 = moe.score %0 by sigmoid : tensor<?x8xf32> -> tensor<?x8xf32>
  // CHECK: moe.score %{{[^ ]*}} by sqrt_softplus : tensor<?x8xf32> -> tensor<?x8xf32>
  %2 = moe.score %1 by sqrt_softplus : tensor<?x8xf32> -> tensor<?x8xf32>
  // CHECK: moe.score %{{[^ ]*}} by none {softcap = 3.000000e+01 : f64} : tensor<?x8xf32> -> tensor<?x8xf64>
  %3 = moe.score %2 by none {softcap = 30.0 : f64}
      : tensor<?x8xf32> -> tensor<?x8xf64>
  return %3 : tensor<?x8xf64>
}

//===----------------------------------------------------------------------===//
// Routings
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func.func @route(
func.func @route(%logits: tensor<?x8xf32>, %bias: tensor<8xf32>,
                 %scale: tensor<8xbf16>, %indices: tensor<?x2xi32>,
                 %mask: tensor<?xi1>) -> tensor<?x2xi32> {
  // CHECK: moe.route #moe.top_k<k = 2> %{{[^ ]*}} : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %i0, %w0 = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route {{.*}} bias(%{{[^ ]*}} : tensor<8xf32>) expert_scale(%{{[^ ]*}} : tensor<8xbf16>) mask(%{{[^ ]*}} : tensor<?xi1>) : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xbf16>
  %i1, %w1 = moe.route #moe.top_k<k = 2, score = sigmoid> %logits
      bias(%bias : tensor<8xf32>) expert_scale(%scale : tensor<8xbf16>)
      mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xbf16>
  // CHECK: moe.route {{.*}} expert_scale(%{{[^ ]*}} : tensor<8xbf16>) indices(%{{[^ ]*}} : tensor<?x2xi32>) mask(%{{[^ ]*}} : tensor<?xi1>)
  %i2, %w2 = moe.route #moe.top_k<k = 2> %logits
      mask(%mask : tensor<?xi1>) indices(%indices : tensor<?x2xi32>)
      expert_scale(%scale : tensor<8xbf16>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %i2 : tensor<?x2xi32>
}

// CHECK-LABEL: func.func @route_experts(
func.func @route_experts(%logits: tensor<?x8xf32>, %mask: tensor<?xi1>,
                         %offsets: tensor<?xi32>, %static: tensor<6x3xf32>,
                         %two: tensor<3xi32>) -> tensor<8x?xi32> {
  // CHECK: moe.route_experts #moe.expert_choice<capacity = <>> %{{[^ ]*}} : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  %i0, %w0 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  // CHECK: moe.route_experts #moe.expert_choice<capacity = <factor = 2.000000e+00>, axis = tokens, normalize = sum> %{{[^ ]*}} mask(%{{[^ ]*}} : tensor<?xi1>) groups(%{{[^ ]*}} : tensor<?xi32>) : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  %i1, %w1 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>, axis = tokens,
                         normalize = sum> %logits
      groups(%offsets : tensor<?xi32>) mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  // T = 6, E = 3: C = 2, and 4 at most in two groups.
  // CHECK: moe.route_experts {{.*}} : tensor<6x3xf32> -> tensor<3x2xi32>, tensor<3x2xf64>
  %i2, %w2 = moe.route_experts #moe.expert_choice<capacity = <>> %static
      : tensor<6x3xf32> -> tensor<3x2xi32>, tensor<3x2xf64>
  // CHECK: moe.route_experts {{.*}} groups(%{{[^ ]*}} : tensor<3xi32>) : tensor<6x3xf32> -> tensor<3x4xi32>, tensor<3x4xf32>
  %i3, %w3 = moe.route_experts #moe.expert_choice<capacity = <min = 0>> %static
      groups(%two : tensor<3xi32>)
      : tensor<6x3xf32> -> tensor<3x4xi32>, tensor<3x4xf32>
  return %i1 : tensor<8x?xi32>
}

// CHECK-LABEL: func.func @limit_capacity(
func.func @limit_capacity(%ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                          %offsets: tensor<5xi32>) -> tensor<?x2xi32> {
  // CHECK: moe.limit_capacity %{{[^ ]*}}, %{{[^ ]*}} experts 8 by <factor = 1.250000e+00, per = slots> queue <first_come> : tensor<?x2xi32>, tensor<?x2xf32>
  %i0, %w0 = moe.limit_capacity %ids, %weights experts 8
      by #moe.capacity<factor = 1.25, per = slots> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.limit_capacity %{{[^ ]*}}, %{{[^ ]*}} experts 8 by <fixed = 3> queue <prioritized> groups(%{{[^ ]*}} : tensor<5xi32>) : tensor<?x2xi32>, tensor<?x2xf32>
  %i1, %w1 = moe.limit_capacity %i0, %w0 experts 8
      by <fixed = 3> queue <prioritized> groups(%offsets : tensor<5xi32>)
      : tensor<?x2xi32>, tensor<?x2xf32>
  return %i1 : tensor<?x2xi32>
}

// CHECK-LABEL: func.func @aux_loss(
func.func @aux_loss(%scores: tensor<?x8xf32>, %ids: tensor<?x2xi32>,
                    %mask: tensor<?xi1>, %offsets: tensor<?xi32>)
    -> tensor<f64> {
  // CHECK: moe.aux_loss <balance> %{{[^ ]*}} ids(%{{[^ ]*}} : tensor<?x2xi32>) mask(%{{[^ ]*}} : tensor<?xi1>) groups(%{{[^ ]*}} : tensor<?xi32>) coefficient 1.000000e-02 : tensor<?x8xf32> -> tensor<f32>
  %0 = moe.aux_loss <balance> %scores ids(%ids : tensor<?x2xi32>)
      mask(%mask : tensor<?xi1>) groups(%offsets : tensor<?xi32>)
      coefficient 0.01 : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <importance> %{{[^ ]*}} coefficient 1.000000e+00 : tensor<?x8xf32> -> tensor<f32>
  %1 = moe.aux_loss <importance> %scores coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  // CHECK: moe.aux_loss <z> %{{[^ ]*}} coefficient -1.000000e+00 : tensor<?x8xf32> -> tensor<f64>
  %2 = moe.aux_loss <z> %scores coefficient -1.0
      : tensor<?x8xf32> -> tensor<f64>
  return %2 : tensor<f64>
}

//===----------------------------------------------------------------------===//
// Dispatch and combine
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func.func @dispatch(
func.func @dispatch(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                    %weights: tensor<?x2xf32>, %chosen: tensor<8x?xi32>,
                    %chosen_weights: tensor<8x?xf32>) -> tensor<?x64xf32> {
  // CHECK: moe.dispatch %{{[^ ]*}}, %{{[^ ]*}} experts 8 : (tensor<?x64xf32>, tensor<?x2xi32>) -> (tensor<?x64xf32>, tensor<9xi32>)
  %r0, %o0 = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  // CHECK: moe.dispatch %{{[^ ]*}}, %{{[^ ]*}} experts 8 weights(%{{[^ ]*}} : tensor<?x2xf32>) : (tensor<?x64xf32>, tensor<?x2xi32>) -> (tensor<?x64xf32>, tensor<9xi32>)
  %r1, %o1 = moe.dispatch %x, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  // CHECK: moe.dispatch %{{[^ ]*}}, %{{[^ ]*}} experts 8 chosen_by <expert> weights(%{{[^ ]*}} : tensor<8x?xf32>) : (tensor<?x64xf32>, tensor<8x?xi32>) -> (tensor<?x64xf32>, tensor<9xi32>)
  %r2, %o2 = moe.dispatch %x, %chosen experts 8 chosen_by <expert>
      weights(%chosen_weights : tensor<8x?xf32>)
      : (tensor<?x64xf32>, tensor<8x?xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  return %r2 : tensor<?x64xf32>
}

// The default is elided even where it is written.
// CHECK-LABEL: func.func @dispatch_static(
func.func @dispatch_static(%x: tensor<5x4xbf16>, %ids: tensor<5x3xi32>)
    -> tensor<15x4xbf16> {
  // CHECK: moe.dispatch %{{[^ ]*}}, %{{[^ ]*}} experts 1 : (tensor<5x4xbf16>, tensor<5x3xi32>) -> (tensor<15x4xbf16>, tensor<2xi32>)
  %rows, %offsets = moe.dispatch %x, %ids experts 1 chosen_by <token>
      : (tensor<5x4xbf16>, tensor<5x3xi32>)
      -> (tensor<15x4xbf16>, tensor<2xi32>)
  return %rows : tensor<15x4xbf16>
}

// CHECK-LABEL: func.func @combine(
func.func @combine(%rows: tensor<?x64xbf16>, %ids: tensor<?x2xi32>,
                   %weights: tensor<?x2xf32>, %x: tensor<?x64xf32>,
                   %bias: tensor<64xf16>) -> tensor<?x64xf32> {
  // CHECK: moe.combine %{{[^ ]*}}, %{{[^ ]*}} experts 8 : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xf32>
  %0 = moe.combine %rows, %ids experts 8
      : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xf32>
  // CHECK: moe.combine %{{[^ ]*}}, %{{[^ ]*}} experts 8 weights(%{{[^ ]*}} : tensor<?x2xf32>) identity(%{{[^ ]*}} : tensor<?x64xf32>) residual(%{{[^ ]*}} : tensor<?x64xf32>) bias(%{{[^ ]*}} : tensor<64xf16>) {average, scale = 2.500000e+00 : f64} : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xf32>
  %1 = moe.combine %rows, %ids experts 8 bias(%bias : tensor<64xf16>)
      residual(%x : tensor<?x64xf32>) identity(%x : tensor<?x64xf32>)
      weights(%weights : tensor<?x2xf32>) {average, scale = 2.5 : f64}
      : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xf32>
  return %1 : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @combine_chosen(
func.func @combine_chosen(%rows: tensor<?x64xf32>, %ids: tensor<8x?xi32>,
                          %weights: tensor<8x?xf32>, %tokens: index)
    -> (tensor<?x64xf32>, tensor<5x64xf32>) {
  // CHECK: moe.combine %{{[^ ]*}}, %{{[^ ]*}} experts 8 chosen_by <expert> weights(%{{[^ ]*}} : tensor<8x?xf32>) num_tokens(%{{[^ ]*}}) : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<?x64xf32>
  %0 = moe.combine %rows, %ids experts 8 chosen_by <expert>
      weights(%weights : tensor<8x?xf32>) num_tokens(%tokens)
      : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<?x64xf32>
  // CHECK: moe.combine %{{[^ ]*}}, %{{[^ ]*}} experts 8 chosen_by <expert> : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<5x64xf32>
  %1 = moe.combine %rows, %ids experts 8 chosen_by <expert>
      : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<5x64xf32>
  return %0, %1 : tensor<?x64xf32>, tensor<5x64xf32>
}

//===----------------------------------------------------------------------===//
// Experts and their weights
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func.func @experts(
func.func @experts(%rows: tensor<?x64xf32>, %offsets: tensor<9xi32>,
                   %gate_up: tensor<8x256x64xf32>, %down: tensor<8x64x128xf32>,
                   %gate_up_bias: tensor<8x256xf32>, %down_bias: tensor<8x64xf32>)
    -> tensor<?x64xf32> {
  // CHECK: moe.experts %{{[^ ]*}} offsets(%{{[^ ]*}} : tensor<9xi32>) up(%{{[^ ]*}} : tensor<8x256x64xf32>) down(%{{[^ ]*}} : tensor<8x64x128xf32>) gated activation #moe.activation<kind = silu> layout <orientation = out_in> : tensor<?x64xf32> -> tensor<?x64xf32>
  %0 = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%gate_up : tensor<8x256x64xf32>) down(%down : tensor<8x64x128xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in>
      : tensor<?x64xf32> -> tensor<?x64xf32>
  // CHECK: moe.experts %{{[^ ]*}} offsets(%{{[^ ]*}} : tensor<9xi32>) up(%{{[^ ]*}} : tensor<8x256x64xf32>) bias(%{{[^ ]*}} : tensor<8x256xf32>) down(%{{[^ ]*}} : tensor<8x64x128xf32>) down_bias(%{{[^ ]*}} : tensor<8x64xf32>) gated activation #moe.activation<kind = silu, style = oai, limit = 7.000000e+00> layout <orientation = out_in, pairing = interleaved> : tensor<?x64xf32> -> tensor<?x64xf32>
  %1 = moe.experts %0 offsets(%offsets : tensor<9xi32>)
      up(%gate_up : tensor<8x256x64xf32>)
      bias(%gate_up_bias : tensor<8x256xf32>)
      down(%down : tensor<8x64x128xf32>)
      down_bias(%down_bias : tensor<8x64xf32>)
      gated activation #moe.activation<kind = silu, style = oai, limit = 7.0>
      layout <orientation = out_in, pairing = interleaved>
      : tensor<?x64xf32> -> tensor<?x64xf32>
  return %1 : tensor<?x64xf32>
}

// Two up tensors, each with its bias.
// CHECK-LABEL: func.func @experts_separate(
func.func @experts_separate(%rows: tensor<10x4xbf16>, %offsets: tensor<3xi32>,
                            %gate: tensor<2x4x6xbf16>, %up: tensor<2x4x6xbf16>,
                            %gate_bias: tensor<2x6xf32>,
                            %up_bias: tensor<2x6xf32>,
                            %down: tensor<2x6x3xbf16>) -> tensor<10x3xf32> {
  // CHECK: up(%{{[^ ]*}}, %{{[^ ]*}} : tensor<2x4x6xbf16>, tensor<2x4x6xbf16>) bias(%{{[^ ]*}}, %{{[^ ]*}} : tensor<2x6xf32>, tensor<2x6xf32>)
  %0 = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%gate, %up : tensor<2x4x6xbf16>, tensor<2x4x6xbf16>)
      bias(%gate_bias, %up_bias : tensor<2x6xf32>, tensor<2x6xf32>)
      down(%down : tensor<2x6x3xbf16>)
      gated activation #moe.activation<kind = gelu_tanh>
      layout <orientation = in_out, down = in_out, pairing = separate>
      : tensor<10x4xbf16> -> tensor<10x3xf32>
  return %0 : tensor<10x3xf32>
}

// Ungated, expert axis folded into the rows of the weights.
// CHECK-LABEL: func.func @experts_folded(
func.func @experts_folded(%rows: tensor<?x4xf32>, %offsets: tensor<3xi32>,
                          %up: tensor<12x4xf32>, %down: tensor<8x6xf32>)
    -> tensor<?x4xf32> {
  // CHECK: down(%{{[^ ]*}} : tensor<8x6xf32>) activation #moe.activation<kind = relu2> layout <orientation = out_in, expert_axis = folded>
  %0 = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%up : tensor<12x4xf32>) down(%down : tensor<8x6xf32>)
      activation #moe.activation<kind = relu2>
      layout <orientation = out_in, expert_axis = folded>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}

// A shared expert: no offsets.
// CHECK-LABEL: func.func @experts_shared(
func.func @experts_shared(%rows: tensor<?x4xf64>, %up: tensor<1x6x4xf64>,
                          %down: tensor<1x4x6xf64>) -> tensor<?x4xf64> {
  // CHECK: moe.experts %{{[^ ]*}} up(%{{[^ ]*}} : tensor<1x6x4xf64>) down(
  %0 = moe.experts %rows up(%up : tensor<1x6x4xf64>)
      down(%down : tensor<1x4x6xf64>)
      activation #moe.activation<kind = identity>
      layout <orientation = out_in> : tensor<?x4xf64> -> tensor<?x4xf64>
  return %0 : tensor<?x4xf64>
}

// CHECK-LABEL: func.func @relayout(
func.func @relayout(%up: tensor<8x64x256xbf16>, %down: tensor<512x128xf32>,
                    %bias: tensor<8x256xf32>) -> tensor<8x256x64xbf16> {
  // CHECK: moe.relayout <up> %{{[^ ]*}} experts 8 gated from <orientation = in_out, pairing = interleaved> to <orientation = out_in> : (tensor<8x64x256xbf16>) -> tensor<8x256x64xbf16>
  %0 = moe.relayout <up> %up experts 8 gated
      from <orientation = in_out, pairing = interleaved>
      to <orientation = out_in>
      : (tensor<8x64x256xbf16>) -> tensor<8x256x64xbf16>
  // CHECK: moe.relayout <up> %{{[^ ]*}} experts 8 gated from <orientation = out_in> to <orientation = out_in, pairing = separate> : (tensor<8x256x64xbf16>) -> (tensor<8x128x64xbf16>, tensor<8x128x64xbf16>)
  %1:2 = moe.relayout <up> %0 experts 8 gated
      from <orientation = out_in>
      to <orientation = out_in, pairing = separate>
      : (tensor<8x256x64xbf16>)
      -> (tensor<8x128x64xbf16>, tensor<8x128x64xbf16>)
  // CHECK: moe.relayout <up> %{{[^ ]*}}, %{{[^ ]*}} experts 8 gated from <orientation = out_in, pairing = separate> to <orientation = out_in, order = up_gate, shards = 4>
  %2 = moe.relayout <up> %1#0, %1#1 experts 8 gated
      from <orientation = out_in, pairing = separate>
      to <orientation = out_in, order = up_gate, shards = 4>
      : (tensor<8x128x64xbf16>, tensor<8x128x64xbf16>)
      -> tensor<8x256x64xbf16>
  // CHECK: moe.relayout <down> %{{[^ ]*}} experts 8 from <orientation = out_in, expert_axis = folded> to <orientation = out_in, down = in_out> : (tensor<512x128xf32>) -> tensor<8x128x64xf32>
  %3 = moe.relayout <down> %down experts 8
      from <orientation = out_in, expert_axis = folded>
      to <orientation = out_in, down = in_out>
      : (tensor<512x128xf32>) -> tensor<8x128x64xf32>
  // CHECK: moe.relayout <up_bias> %{{[^ ]*}} experts 8 gated from <orientation = out_in, shards = 2> to <orientation = out_in, pairing = interleaved> : (tensor<8x256xf32>) -> tensor<8x256xf32>
  %4 = moe.relayout <up_bias> %bias experts 8 gated
      from <orientation = out_in, shards = 2>
      to <orientation = out_in, pairing = interleaved>
      : (tensor<8x256xf32>) -> tensor<8x256xf32>
  return %2 : tensor<8x256x64xbf16>
}

//===----------------------------------------------------------------------===//
// Primitives, on tensors and on memrefs
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func.func @group(
func.func @group(%ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>,
                 %o: tensor<9xi32>, %n: tensor<?xi32>, %f: tensor<?xi32>,
                 %w: tensor<?xf32>) -> tensor<?xf32> {
  // CHECK: moe.group ins(%{{[^ ]*}} : tensor<?x2xi32>) outs(%{{.*}} : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>) chosen_by <token> -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>
  %0:4 = moe.group ins(%ids : tensor<?x2xi32>)
      outs(%o, %n, %f, %n
           : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>)
      chosen_by <token>
      -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>
  // CHECK: moe.group ins(%{{[^ ]*}}, %{{[^ ]*}} : tensor<?x2xi32>, tensor<?x2xf32>) outs(%{{.*}} : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>) chosen_by <token> -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xf32>
  %1:5 = moe.group ins(%ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>)
      outs(%o, %n, %f, %n, %w
           : tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>,
             tensor<?xf32>)
      chosen_by <token>
      -> tensor<9xi32>, tensor<?xi32>, tensor<?xi32>, tensor<?xi32>,
         tensor<?xf32>
  return %1#4 : tensor<?xf32>
}

// CHECK-LABEL: func.func @group_memref(
func.func @group_memref(%ids: memref<3x4xi32>, %o: memref<4xi32>,
                        %n: memref<12xi32>, %f: memref<7xi32>) {
  // CHECK: moe.group ins(%{{[^ ]*}} : memref<3x4xi32>) outs(%{{.*}} : memref<4xi32>, memref<12xi32>, memref<7xi32>, memref<12xi32>) chosen_by <expert>{{$}}
  moe.group ins(%ids : memref<3x4xi32>)
      outs(%o, %n, %f, %n
           : memref<4xi32>, memref<12xi32>, memref<7xi32>, memref<12xi32>)
      chosen_by <expert>
  return
}

// CHECK-LABEL: func.func @grouped_matmul(
func.func @grouped_matmul(%x: tensor<?x64xbf16>, %rows: tensor<?xi32>,
                          %scale: tensor<?xf32>, %offsets: tensor<9xi32>,
                          %gate: tensor<8x128x64xbf16>,
                          %up: tensor<8x128x64xbf16>,
                          %bias: tensor<8x128xf32>, %init: tensor<?x128xbf16>)
    -> tensor<?x128xbf16> {
  // CHECK: moe.grouped_matmul %{{[^ ]*}} rows(%{{[^ ]*}} : tensor<?xi32>) row_scale(%{{[^ ]*}} : tensor<?xf32>) offsets(%{{[^ ]*}} : tensor<9xi32>) weights(%{{[^ ]*}}, %{{[^ ]*}} : tensor<8x128x64xbf16>, tensor<8x128x64xbf16>) biases(%{{[^ ]*}} : tensor<8x128xf32>) outs(%{{[^ ]*}} : tensor<?x128xbf16>) : tensor<?x64xbf16> -> tensor<?x128xbf16> {
  // CHECK-NEXT: ^bb0(%[[A:.*]]: f32, %[[B:.*]]: f32, %[[C:.*]]: f32):
  // CHECK:   moe.yield %{{[^ ]*}} : f32
  // CHECK-NEXT: }
  %0 = moe.grouped_matmul %x offsets(%offsets : tensor<9xi32>)
      rows(%rows : tensor<?xi32>) row_scale(%scale : tensor<?xf32>)
      weights(%gate, %up : tensor<8x128x64xbf16>, tensor<8x128x64xbf16>)
      biases(%bias : tensor<8x128xf32>) outs(%init : tensor<?x128xbf16>)
      : tensor<?x64xbf16> -> tensor<?x128xbf16> {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %sum = arith.addf %a, %c : f32
    %product = arith.mulf %sum, %b : f32
    moe.yield %product : f32
  }
  return %0 : tensor<?x128xbf16>
}

// CHECK-LABEL: func.func @grouped_matmul_memref(
func.func @grouped_matmul_memref(%x: memref<?x64xf64, strided<[?, 1]>>,
                                 %weight: memref<1x64x128xf64>,
                                 %init: memref<?x128xf64>) {
  // CHECK: moe.grouped_matmul %{{[^ ]*}} weights(%{{[^ ]*}} : memref<1x64x128xf64>) in_out outs(%{{[^ ]*}} : memref<?x128xf64>) : memref<?x64xf64, strided<[?, 1]>> {
  // CHECK-NEXT: ^bb0(%[[A:.*]]: f64):
  // CHECK-NEXT:   moe.yield %[[A]] : f64
  moe.grouped_matmul %x weights(%weight : memref<1x64x128xf64>) in_out
      outs(%init : memref<?x128xf64>) : memref<?x64xf64, strided<[?, 1]>> {
  ^bb0(%a: f64):
    moe.yield %a : f64
  }
  return
}

// CHECK-LABEL: func.func @combine_slots(
func.func @combine_slots(%rows: tensor<?x64xf32>, %first: tensor<?xi32>,
                         %slot: tensor<?xi32>, %weight: tensor<?xf32>,
                         %identity_weight: tensor<?xf32>,
                         %identity: tensor<?x64xf32>,
                         %residual: tensor<?x64xf32>, %bias: tensor<64xf32>,
                         %init: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // CHECK: moe.combine_slots %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} outs(%{{[^ ]*}} : tensor<?x64xf32>) : tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
  %0 = moe.combine_slots %rows, %first, %slot outs(%init : tensor<?x64xf32>)
      : tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
  // CHECK: moe.combine_slots %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} weight(%{{[^ ]*}} : tensor<?xf32>) identity(%{{[^ ]*}}, %{{[^ ]*}} : tensor<?xf32>, tensor<?x64xf32>) residual(%{{[^ ]*}} : tensor<?x64xf32>) bias(%{{[^ ]*}} : tensor<64xf32>) outs(%{{[^ ]*}} : tensor<?x64xf32>) {average, scale = 2.500000e+00 : f64} : tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
  %1 = moe.combine_slots %rows, %first, %slot bias(%bias : tensor<64xf32>)
      residual(%residual : tensor<?x64xf32>)
      identity(%identity_weight, %identity : tensor<?xf32>, tensor<?x64xf32>)
      weight(%weight : tensor<?xf32>) outs(%0 : tensor<?x64xf32>)
      {average, scale = 2.5 : f64}
      : tensor<?x64xf32>, tensor<?xi32>, tensor<?xi32> -> tensor<?x64xf32>
  return %1 : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @combine_slots_memref(
func.func @combine_slots_memref(%rows: memref<8x4xf32>, %first: memref<5xi32>,
                                %slot: memref<8xi32>, %init: memref<4x4xbf16>) {
  // CHECK: moe.combine_slots {{.*}} outs(%{{[^ ]*}} : memref<4x4xbf16>) : memref<8x4xf32>, memref<5xi32>, memref<8xi32>{{$}}
  moe.combine_slots %rows, %first, %slot outs(%init : memref<4x4xbf16>)
      : memref<8x4xf32>, memref<5xi32>, memref<8xi32>
  return
}

// CHECK-LABEL: func.func @top_k(
func.func @top_k(%x: tensor<?x64xf32>, %v: tensor<?x8xf32>,
                 %i: tensor<?x8xi32>, %xm: memref<4x6xbf16>,
                 %vm: memref<4x6xbf16>, %im: memref<4x6xi32>)
    -> tensor<?x8xi32> {
  // CHECK: moe.top_k ins(%{{[^ ]*}} : tensor<?x64xf32>) outs(%{{[^ ]*}}, %{{[^ ]*}} : tensor<?x8xf32>, tensor<?x8xi32>) -> tensor<?x8xf32>, tensor<?x8xi32>
  %values, %indices = moe.top_k ins(%x : tensor<?x64xf32>)
      outs(%v, %i : tensor<?x8xf32>, tensor<?x8xi32>)
      -> tensor<?x8xf32>, tensor<?x8xi32>
  // CHECK: moe.top_k ins(%{{[^ ]*}} : memref<4x6xbf16>) outs(%{{[^ ]*}}, %{{[^ ]*}} : memref<4x6xbf16>, memref<4x6xi32>){{$}}
  moe.top_k ins(%xm : memref<4x6xbf16>)
      outs(%vm, %im : memref<4x6xbf16>, memref<4x6xi32>)
  return %indices : tensor<?x8xi32>
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

// CHECK-LABEL: func.func @entry(
// CHECK-SAME: %{{[^ ]*}}: tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "x"}
// CHECK-SAME: %{{[^ ]*}}: tensor<2x6x4xf32> {moe.layout = #moe.layout<orientation = out_in>, moe.name = "up"}
// CHECK-SAME: -> (tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "y"})
// CHECK-SAME: attributes {moe.bounds = {T = 4096 : i64}, moe.entry, moe.num_inputs = 2 : i64}
func.func @entry(
    %x: tensor<?x4xf32> {moe.name = "x", moe.dims = ["T", ""]},
    %up: tensor<2x6x4xf32> {moe.name = "up",
                            moe.layout = #moe.layout<orientation = out_in>})
    -> (tensor<?x4xf32> {moe.name = "y", moe.dims = ["T", ""]})
    attributes {moe.entry, moe.bounds = {T = 4096}, moe.num_inputs = 2} {
  return %x : tensor<?x4xf32>
}
