// One case or more for every label of moe.experts and moe.relayout, named
// after it.
//
// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// experts
//===----------------------------------------------------------------------===//

// Gate and up in one tensor: one weight.
func.func @experts_c1_fused(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                            %up: tensor<2x6x4xf32>, %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{takes 1 up weight(s) and none or as many up biases, but has 2 and 0 (experts_c1)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up, %up : tensor<2x6x4xf32>, tensor<2x6x4xf32>)
      down(%down : tensor<2x4x6xf32>) gated
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c1_separate(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                               %up: tensor<2x6x4xf32>,
                               %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{takes 2 up weight(s) and none or as many up biases, but has 1 and 0 (experts_c1)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>) gated
      activation #moe.activation<kind = silu>
      layout <orientation = out_in, pairing = separate>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c1_biases(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                             %up: tensor<2x6x4xf32>, %b: tensor<2x6xf32>,
                             %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{takes 2 up weight(s) and none or as many up biases, but has 2 and 1 (experts_c1)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up, %up : tensor<2x6x4xf32>, tensor<2x6x4xf32>)
      bias(%b : tensor<2x6xf32>)
      down(%down : tensor<2x4x6xf32>) gated
      activation #moe.activation<kind = silu>
      layout <orientation = out_in, pairing = separate>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c1_types(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                            %gate: tensor<2x6x4xf32>, %up: tensor<2x6x4xbf16>,
                            %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{gate and up weights have different types (experts_c1)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%gate, %up : tensor<2x6x4xf32>, tensor<2x6x4xbf16>)
      down(%down : tensor<2x4x6xf32>) gated
      activation #moe.activation<kind = silu>
      layout <orientation = out_in, pairing = separate>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c2(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                      %up: tensor<2x6x5xf32>, %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{rows has D = 4 but up weight has 5 (experts_c2)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x5xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c2_dynamic(%x: tensor<?x?xf32>, %o: tensor<3xi32>,
                              %up: tensor<2x6x4xf32>,
                              %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{rows has D = ?, which must be static (experts_c2)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x?xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c3_up(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                         %up: tensor<5x6x4xf32>, %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{up weight of shape 5x6x4 is no weight of 2 experts in layout #moe.layout<orientation = out_in> (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<5x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c3_up_rank(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                              %up: tensor<12x4xf32>, %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{up weight of shape 12x4 is no weight of 2 experts in layout #moe.layout<orientation = out_in> (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<12x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c3_up_dynamic(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                                 %up: tensor<2x?x4xf32>,
                                 %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{up weight of shape 2x?x4 is no weight of 2 experts in layout #moe.layout<orientation = out_in> (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x?x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c3_folded(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                             %up: tensor<13x4xf32>, %down: tensor<8x6xf32>) {
  // expected-error @+1 {{up weight of shape 13x4 is no weight of 2 experts in layout #moe.layout<orientation = out_in, expert_axis = folded> (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<13x4xf32>) down(%down : tensor<8x6xf32>)
      activation #moe.activation<kind = silu>
      layout <orientation = out_in, expert_axis = folded>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c3_down(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                           %up: tensor<2x6x4xf32>, %down: tensor<3x4x6xf32>) {
  // expected-error @+1 {{down weight of shape 3x4x6 is no weight of 2 experts in layout #moe.layout<orientation = out_in> (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<3x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c3_down_bias(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                                %up: tensor<2x6x4xf32>,
                                %down: tensor<2x4x6xf32>, %b: tensor<3x4xf32>) {
  // expected-error @+1 {{down_bias has 3 experts, not 2 (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      down_bias(%b : tensor<3x4xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c3_offsets(%x: tensor<?x4xf32>, %o: tensor<?xi32>,
                              %up: tensor<2x6x4xf32>,
                              %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{has ? experts, not 1 to 2147483646 (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<?xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

// One offset is no expert; the folded axis has nothing to divide by.
func.func @experts_c3_none(%x: tensor<?x4xf32>, %o: tensor<1xi32>,
                           %up: tensor<12x4xf32>, %down: tensor<8x6xf32>) {
  // expected-error @+1 {{has 0 experts, not 1 to 2147483646 (experts_c3)}}
  %0 = moe.experts %x offsets(%o : tensor<1xi32>)
      up(%up : tensor<12x4xf32>) down(%down : tensor<8x6xf32>)
      activation #moe.activation<kind = silu>
      layout <orientation = out_in, expert_axis = folded>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c4(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                      %up: tensor<2x7x4xf32>, %down: tensor<2x4x3xf32>) {
  // expected-error @+1 {{the up weight's 7 outputs do not divide into gate and up of 1 equal shards (experts_c4)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x7x4xf32>) down(%down : tensor<2x4x3xf32>) gated
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c4_shards(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                             %up: tensor<2x6x4xf32>, %down: tensor<2x4x3xf32>) {
  // expected-error @+1 {{the up weight's 6 outputs do not divide into gate and up of 4611686018427387904 equal shards (experts_c4)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x3xf32>) gated
      activation #moe.activation<kind = silu>
      layout <orientation = out_in, shards = 4611686018427387904>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c5(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                      %up: tensor<2x6x4xf32>, %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{down weight takes 6 inputs but the experts' width is 3 (experts_c5)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>) gated
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c6(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                      %up: tensor<2x6x4xf32>, %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{down weight has D' = 4 but output has 5 (experts_c6)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x5xf32>
  return
}

// -----

func.func @experts_c6_bias(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                           %up: tensor<2x6x4xf32>, %down: tensor<2x4x6xf32>,
                           %b: tensor<2x5xf32>) {
  // expected-error @+1 {{down weight has D' = 4 but down_bias has 5 (experts_c6)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      down_bias(%b : tensor<2x5xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c6_dynamic(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                              %up: tensor<2x6x4xf32>,
                              %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{output has D' = ?, which must be static (experts_c6)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x?xf32>
  return
}

// -----

func.func @experts_c7(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                      %up: tensor<2x6x4xf32>, %b: tensor<2x3xf32>,
                      %down: tensor<2x4x3xf32>) {
  // expected-error @+1 {{up bias of shape 2x3 should be 2x6 (experts_c7)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) bias(%b : tensor<2x3xf32>)
      down(%down : tensor<2x4x3xf32>) gated
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c7_dynamic(%x: tensor<?x4xf32>, %o: tensor<3xi32>,
                              %up: tensor<2x6x4xf32>, %b: tensor<?x6xf32>,
                              %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{up bias of shape ?x6 should be 2x6 (experts_c7)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) bias(%b : tensor<?x6xf32>)
      down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c8(%x: tensor<5x4xf32>, %o: tensor<3xi32>,
                      %up: tensor<2x6x4xf32>, %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{rows has N = 5 but output has 6 (experts_c8)}}
  %0 = moe.experts %x offsets(%o : tensor<3xi32>)
      up(%up : tensor<2x6x4xf32>) down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<5x4xf32> -> tensor<6x4xf32>
  return
}

// -----

func.func @experts_c9(%x: tensor<?x4xf32>, %up: tensor<2x6x4xf32>,
                      %down: tensor<2x4x6xf32>) {
  // expected-error @+1 {{has 2 experts but no offsets to give them rows (experts_c9)}}
  %0 = moe.experts %x up(%up : tensor<2x6x4xf32>)
      down(%down : tensor<2x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c9_dynamic(%x: tensor<?x4xf32>, %up: tensor<?x6x4xf32>,
                              %down: tensor<1x4x6xf32>) {
  // expected-error @+1 {{has ? experts but no offsets to give them rows (experts_c9)}}
  %0 = moe.experts %x up(%up : tensor<?x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_rank(%x: tensor<?x4xf32>, %up: tensor<f32>,
                        %down: tensor<1x4x6xf32>) {
  // expected-error @+1 {{operand #1 must be variadic of 2D/3D tensor of floating-point values, but got 'tensor<f32>'}}
  %0 = moe.experts %x up(%up : tensor<f32>) down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @experts_c10(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
                       %down: tensor<1x4x3xf32>) {
  // expected-error @+1 {{keeps 1 results, not 2 (experts_c10)}}
  %0:2 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x3xf32>) gated
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32> keeping tensor<?x3xf32>
  return
}

// -----

func.func @experts_c10_ungated(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
                               %down: tensor<1x4x6xf32>) {
  // expected-error @+1 {{keeps 2 results, not 1 (experts_c10)}}
  %0:3 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
      keeping tensor<?x6xf32>, tensor<?x6xf32>
  return
}

// -----

// The width of the fused weight is not that of its halves.
func.func @experts_c10_width(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
                             %down: tensor<1x4x3xf32>) {
  // expected-error @+1 {{keeps a result of width 6 but the experts' width is 3 (experts_c10)}}
  %0:3 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x3xf32>) gated
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
      keeping tensor<?x6xf32>, tensor<?x3xf32>
  return
}

// -----

func.func @experts_c10_dynamic(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
                               %down: tensor<1x4x6xf32>) {
  // expected-error @+1 {{keeps a result of width ? but the experts' width is 6 (experts_c10)}}
  %0:2 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32> keeping tensor<?x?xf32>
  return
}

// -----

func.func @experts_c8_kept(%x: tensor<5x4xf32>, %up: tensor<1x6x4xf32>,
                           %down: tensor<1x4x6xf32>) {
  // expected-error @+1 {{rows has N = 5 but kept has 7 (experts_c8)}}
  %0:2 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<5x4xf32> -> tensor<5x4xf32> keeping tensor<7x6xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// relayout
//===----------------------------------------------------------------------===//

func.func @relayout_c1(%w: tensor<2x6x4xf32>) {
  // expected-error @+1 {{takes 1 tensor(s) to 2, not 1 to 1 (relayout_c1)}}
  %0 = moe.relayout <up> %w experts 2 gated from <orientation = out_in>
      to <orientation = out_in, pairing = separate>
      : (tensor<2x6x4xf32>) -> tensor<2x3x4xf32>
  return
}

// -----

func.func @relayout_c1_nothing() {
  // expected-error @+1 {{takes 1 tensor(s) to 1, not 0 to 0 (relayout_c1)}}
  moe.relayout <up> experts 2 from <orientation = out_in>
      to <orientation = out_in> : () -> ()
  return
}

// -----

func.func @relayout_c2(%w: tensor<2x6x4xf32>) {
  // expected-error @+1 {{result of shape 2x6x4 should be 2x4x6 (relayout_c2)}}
  %0 = moe.relayout <up> %w experts 2 from <orientation = out_in>
      to <orientation = in_out> : (tensor<2x6x4xf32>) -> tensor<2x6x4xf32>
  return
}

// -----

func.func @relayout_c2_dynamic(%w: tensor<2x6x4xf32>) {
  // expected-error @+1 {{result of shape ?x4x6 should be 2x4x6 (relayout_c2)}}
  %0 = moe.relayout <up> %w experts 2 from <orientation = out_in>
      to <orientation = in_out> : (tensor<2x6x4xf32>) -> tensor<?x4x6xf32>
  return
}

// -----

// Both products of sizes leave 64 bits.
func.func @relayout_c2_huge(%w: tensor<2x4611686018427387904x4xf32>) {
  // expected-error @+1 {{result of shape 8x4 should be 9223372036854775807x4 (relayout_c2)}}
  %0 = moe.relayout <up> %w, %w experts 2 gated
      from <orientation = out_in, pairing = separate>
      to <orientation = out_in, expert_axis = folded>
      : (tensor<2x4611686018427387904x4xf32>,
         tensor<2x4611686018427387904x4xf32>) -> tensor<8x4xf32>
  return
}

// -----

func.func @relayout_c3(%w: tensor<2x6x4xf32>) {
  // expected-error @+1 {{changes the element type from 'f32' to 'bf16' (relayout_c3)}}
  %0 = moe.relayout <up> %w experts 2 from <orientation = out_in>
      to <orientation = in_out> : (tensor<2x6x4xf32>) -> tensor<2x4x6xbf16>
  return
}

// -----

func.func @relayout_c4(%w: tensor<3x6x4xf32>) {
  // expected-error @+1 {{source of shape 3x6x4 does not fit layout #moe.layout<orientation = out_in> of 2 experts (relayout_c4)}}
  %0 = moe.relayout <up> %w experts 2 from <orientation = out_in>
      to <orientation = in_out> : (tensor<3x6x4xf32>) -> tensor<2x4x6xf32>
  return
}

// -----

func.func @relayout_c4_odd(%w: tensor<2x7x4xf32>) {
  // expected-error @+1 {{source of shape 2x7x4 does not fit layout #moe.layout<orientation = out_in> of 2 experts (relayout_c4)}}
  %0 = moe.relayout <up> %w experts 2 gated from <orientation = out_in>
      to <orientation = in_out> : (tensor<2x7x4xf32>) -> tensor<2x4x7xf32>
  return
}

// -----

func.func @relayout_c4_types(%a: tensor<2x6x4xf32>, %b: tensor<2x6x4xbf16>) {
  // expected-error @+1 {{sources have different types (relayout_c4)}}
  %0 = moe.relayout <up> %a, %b experts 2 gated
      from <orientation = out_in, pairing = separate>
      to <orientation = out_in>
      : (tensor<2x6x4xf32>, tensor<2x6x4xbf16>) -> tensor<2x12x4xf32>
  return
}

// -----

func.func @relayout_c4_shards(%w: tensor<2x6x4xf32>) {
  // expected-error @+1 {{the width 3 does not divide into 2 shards (relayout_c4)}}
  %0 = moe.relayout <up> %w experts 2 gated from <orientation = out_in>
      to <orientation = out_in, shards = 2>
      : (tensor<2x6x4xf32>) -> tensor<2x6x4xf32>
  return
}

// -----

func.func @relayout_c4_source_shards(%w: tensor<2x6x4xf32>) {
  // expected-error @+1 {{the width 3 does not divide into 9223372036854775807 shards (relayout_c4)}}
  %0 = moe.relayout <up> %w experts 2 gated
      from <orientation = out_in, shards = 9223372036854775807>
      to <orientation = out_in> : (tensor<2x6x4xf32>) -> tensor<2x6x4xf32>
  return
}

// -----

// The folded axis has nothing to divide by.
func.func @relayout_c5(%w: tensor<12x4xf32>) {
  // expected-error @+1 {{has 0 experts, not 1 to 2147483646 (relayout_c5)}}
  %0 = moe.relayout <up> %w experts 0
      from <orientation = out_in, expert_axis = folded>
      to <orientation = out_in> : (tensor<12x4xf32>) -> tensor<2x6x4xf32>
  return
}
