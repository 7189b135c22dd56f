// One case or more for every label of the layer ops, named after it.
//
// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// gate
//===----------------------------------------------------------------------===//

func.func @gate_c1(%x: tensor<?x64xf32>, %w: tensor<8x32xf32>) {
  // expected-error @+1 {{'moe.gate' op input has H = 64 but weight has 32 (gate_c1)}}
  %0 = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x32xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @gate_c1_dynamic(%x: tensor<?x?xf32>, %w: tensor<8x32xf32>) {
  // expected-error @+1 {{input has H = ?, which must be static (gate_c1)}}
  %0 = moe.gate %x, %w
      : (tensor<?x?xf32>, tensor<8x32xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @gate_c2(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{weight has R = 8 but logits has 4 (gate_c2)}}
  %0 = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @gate_c2_bias(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                        %b: tensor<4xf32>) {
  // expected-error @+1 {{weight has R = 8 but bias has 4 (gate_c2)}}
  %0 = moe.gate %x, %w bias(%b : tensor<4xf32>)
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @gate_c2_dynamic(%x: tensor<?x64xf32>, %w: tensor<?x64xf32>) {
  // expected-error @+1 {{weight has R = ?, which must be static (gate_c2)}}
  %0 = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<?x64xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @gate_c3(%x: tensor<5x64xf32>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{input has T = 5 but logits has 6 (gate_c3)}}
  %0 = moe.gate %x, %w
      : (tensor<5x64xf32>, tensor<8x64xf32>) -> tensor<6x8xf32>
  return
}

// -----

func.func @gate_rank(%x: tensor<64xf32>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{operand #0 must be 2D tensor of floating-point values, but got 'tensor<64xf32>'}}
  %0 = moe.gate %x, %w
      : (tensor<64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @gate_unranked(%x: tensor<*xf32>, %w: tensor<8x64xf32>) {
  %0 = moe.gate %x, %w
      // expected-error @+1 {{invalid kind of type specified: expected builtin.tensor, but found 'tensor<*xf32>'}}
      : (tensor<*xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// score
//===----------------------------------------------------------------------===//

func.func @score_c1_tokens(%logits: tensor<5x8xf32>) {
  // expected-error @+1 {{logits has T = 5 but scores has 4 (score_c1)}}
  %0 = moe.score %logits by softmax : tensor<5x8xf32> -> tensor<4x8xf32>
  return
}

// -----

func.func @score_c1_width(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{logits has R = 8 but scores has 4 (score_c1)}}
  %0 = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @score_c1_dynamic(%logits: tensor<?x?xf32>) {
  // expected-error @+1 {{logits has R = ?, which must be static (score_c1)}}
  %0 = moe.score %logits by softmax : tensor<?x?xf32> -> tensor<?x?xf32>
  return
}

// -----

func.func @score_c2_negative(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{softcap is negative or not finite (score_c2)}}
  %0 = moe.score %logits by softmax {softcap = -1.0 : f64}
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @score_c2_nan(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{softcap is negative or not finite (score_c2)}}
  %0 = moe.score %logits by softmax {softcap = 0x7FF8000000000000 : f64}
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @score_c2_infinite(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{softcap is negative or not finite (score_c2)}}
  %0 = moe.score %logits by softmax {softcap = 0x7FF0000000000000 : f64}
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @score_kind(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{expected one of [softmax, sigmoid, sqrt_softplus, none] for score function, got: relu}}
  %0 = moe.score %logits by relu : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// route
//===----------------------------------------------------------------------===//

func.func @route_c1(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{needs a router by which a token chooses for itself; experts choose in moe.route_experts (route_c1)}}
  %0, %1 = moe.route #moe.expert_choice<capacity = <>> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c2_ids(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{router has k = 2 but ids has 3 (route_c2)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c2_weights(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{router has k = 2 but weights has 1 (route_c2)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x1xf32>
  return
}

// -----

func.func @route_c2_dynamic(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{ids has k = ?, which must be static (route_c2)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x?xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c3(%logits: tensor<5x8xf32>) {
  // expected-error @+1 {{logits has T = 5 but ids has 4 (route_c3)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits
      : tensor<5x8xf32> -> tensor<4x2xi32>, tensor<5x2xf32>
  return
}

// -----

// The first two agree with anything; the mask does not agree with the weights.
func.func @route_c3_mask(%logits: tensor<?x8xf32>, %mask: tensor<4xi1>) {
  // expected-error @+1 {{weights has T = 5 but mask has 4 (route_c3)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits mask(%mask : tensor<4xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<5x2xf32>
  return
}

// -----

func.func @route_c3_indices(%logits: tensor<5x8xf32>, %i: tensor<4x2xi32>) {
  // expected-error @+1 {{logits has T = 5 but indices has 4 (route_c3)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits indices(%i : tensor<4x2xi32>)
      : tensor<5x8xf32> -> tensor<5x2xi32>, tensor<5x2xf32>
  return
}

// -----

func.func @route_c4_bias(%logits: tensor<?x8xf32>, %b: tensor<7xf32>) {
  // expected-error @+1 {{logits has R = 8 but bias has 7 (route_c4)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits bias(%b : tensor<7xf32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c4_scale(%logits: tensor<?x8xf32>, %s: tensor<9xf32>) {
  // expected-error @+1 {{logits has R = 8 but expert_scale has 9 (route_c4)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits expert_scale(%s : tensor<9xf32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c4_dynamic(%logits: tensor<?x?xf32>) {
  // expected-error @+1 {{logits has R = ?, which must be static (route_c4)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x?xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c5(%logits: tensor<?x8xf32>, %i: tensor<?x3xi32>) {
  // expected-error @+1 {{router has k = 2 but indices has 3 (route_c5)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits indices(%i : tensor<?x3xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c5_dynamic(%logits: tensor<?x8xf32>, %i: tensor<?x?xi32>) {
  // expected-error @+1 {{indices has k = ?, which must be static (route_c5)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits indices(%i : tensor<?x?xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @top_k_c1(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{'moe.route' op chooses k = 9 of 8 experts (top_k_c1)}}
  %0, %1 = moe.route #moe.top_k<k = 9> %logits
      : tensor<?x8xf32> -> tensor<?x9xi32>, tensor<?x9xf32>
  return
}

// -----

func.func @top_k_c1_no_experts(%logits: tensor<?x0xf32>) {
  // expected-error @+1 {{chooses k = 1 of 0 experts (top_k_c1)}}
  %0, %1 = moe.route #moe.top_k<k = 1> %logits
      : tensor<?x0xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}

// -----

func.func @top_k_c2(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{3 groups do not divide 8 experts (top_k_c2)}}
  %0, %1 = moe.route #moe.top_k<k = 2, groups = 3> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @top_k_c3(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{chooses k = 5 of the 4 experts in kept groups (top_k_c3)}}
  %0, %1 = moe.route #moe.top_k<k = 5, groups = 4, kept_groups = 2> %logits
      : tensor<?x8xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return
}

// -----

func.func @top_k_c4_bias(%logits: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                         %b: tensor<8xf32>) {
  // expected-error @+1 {{given indices leave no choice to a selection bias or groups (top_k_c4)}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits bias(%b : tensor<8xf32>)
      indices(%i : tensor<?x2xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @top_k_c4_groups(%logits: tensor<?x8xf32>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{given indices leave no choice to a selection bias or groups (top_k_c4)}}
  %0, %1 = moe.route #moe.top_k<k = 2, groups = 2> %logits
      indices(%i : tensor<?x2xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_clause_twice(%logits: tensor<?x8xf32>, %m: tensor<?xi1>) {
  // expected-error @+1 {{`mask` clause can appear at most once in the expansion of the oilist directive}}
  %0, %1 = moe.route #moe.top_k<k = 2> %logits mask(%m : tensor<?xi1>)
      mask(%m : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_no_router(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{'moe.route' invalid kind of attribute specified}}
  %0, %1 = moe.route 3 %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// route_experts
//===----------------------------------------------------------------------===//

func.func @route_experts_c1(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{needs a router by which experts choose (route_experts_c1)}}
  %0, %1 = moe.route_experts #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  return
}

// -----

func.func @route_experts_c2(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{logits has E = 8 but weights has 4 (route_experts_c2)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<4x?xf32>
  return
}

// -----

func.func @route_experts_c2_dynamic(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{ids has E = ?, which must be static (route_experts_c2)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<?x8xf32> -> tensor<?x?xi32>, tensor<8x?xf32>
  return
}

// -----

func.func @route_experts_c2_none(%logits: tensor<4x0xf32>) {
  // expected-error @+1 {{has 0 experts, not 1 to 2147483646 (route_experts_c2)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<4x0xf32> -> tensor<0x1xi32>, tensor<0x1xf32>
  return
}

// -----

func.func @route_experts_c3(%logits: tensor<?x8xf32>) {
  // expected-error @+1 {{ids has C = 2 but weights has 3 (route_experts_c3)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<?x8xf32> -> tensor<8x2xi32>, tensor<8x3xf32>
  return
}

// -----

func.func @route_experts_c4(%logits: tensor<6x3xf32>, %m: tensor<5xi1>) {
  // expected-error @+1 {{logits has T = 6 but mask has 5 (route_experts_c4)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      mask(%m : tensor<5xi1>)
      : tensor<6x3xf32> -> tensor<3x2xi32>, tensor<3x2xf32>
  return
}

// -----

func.func @route_experts_c5(%logits: tensor<6x3xf32>) {
  // expected-error @+1 {{ids have C = 3 but the capacity rule gives 2 (route_experts_c5)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<6x3xf32> -> tensor<3x3xi32>, tensor<3x3xf32>
  return
}

// -----

// Never more than there are tokens.
func.func @route_experts_c5_tokens(%logits: tensor<6x3xf32>) {
  // expected-error @+1 {{ids have C = 9 but the capacity rule gives 6 (route_experts_c5)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <fixed = 9>> %logits
      : tensor<6x3xf32> -> tensor<3x9xi32>, tensor<3x9xf32>
  return
}

// -----

func.func @route_experts_c5_groups(%logits: tensor<60x3xf32>,
                                   %o: tensor<5xi32>) {
  // ceil(60 / 3), and 2 for each group that rounds up or is lifted.
  // expected-error @+1 {{ids have C = 20 but the capacity rule gives 28 (route_experts_c5)}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      groups(%o : tensor<5xi32>)
      : tensor<60x3xf32> -> tensor<3x20xi32>, tensor<3x20xf32>
  return
}

// -----

// More tokens than an f64 holds exactly, and a product past an i64.
func.func @route_experts_c5_huge(%logits: tensor<9223372036854775807x1xf32>,
                                 %o: tensor<9223372036854775807xi32>) {
  // expected-error @+1 {{ids have C = 1 but the capacity rule gives 9223372036854775807 (route_experts_c5)}}
  %0, %1 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1048576.0>> %logits
      groups(%o : tensor<9223372036854775807xi32>)
      : tensor<9223372036854775807x1xf32> -> tensor<1x1xi32>, tensor<1x1xf32>
  return
}

// -----

func.func @group_offsets(%logits: tensor<?x8xf32>, %o: tensor<0xi32>) {
  // expected-error @+1 {{operand #1 must be 1D tensor of 32-bit signless integer offsets, at least one, but got 'tensor<0xi32>'}}
  %0, %1 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      groups(%o : tensor<0xi32>)
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// limit_capacity
//===----------------------------------------------------------------------===//

func.func @limit_capacity_c1_tokens(%ids: tensor<5x2xi32>, %w: tensor<4x2xf32>) {
  // expected-error @+1 {{ids has T = 5 but weights has 4 (limit_capacity_c1)}}
  %0, %1 = moe.limit_capacity %ids, %w experts 8 by <> queue <first_come>
      : tensor<5x2xi32>, tensor<4x2xf32>
  return
}

// -----

func.func @limit_capacity_c1_slots(%ids: tensor<?x2xi32>, %w: tensor<?x3xf32>) {
  // expected-error @+1 {{ids has k = 2 but weights has 3 (limit_capacity_c1)}}
  %0, %1 = moe.limit_capacity %ids, %w experts 8 by <> queue <first_come>
      : tensor<?x2xi32>, tensor<?x3xf32>
  return
}

// -----

func.func @limit_capacity_c1_dynamic(%ids: tensor<?x?xi32>,
                                     %w: tensor<?x?xf32>) {
  // expected-error @+1 {{ids has k = ?, which must be static (limit_capacity_c1)}}
  %0, %1 = moe.limit_capacity %ids, %w experts 8 by <> queue <first_come>
      : tensor<?x?xi32>, tensor<?x?xf32>
  return
}

// -----

func.func @limit_capacity_c2(%ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{has 0 experts, not 1 to 2147483646 (limit_capacity_c2)}}
  %0, %1 = moe.limit_capacity %ids, %w experts 0 by <> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @limit_capacity_c2_negative(%ids: tensor<?x2xi32>,
                                      %w: tensor<?x2xf32>) {
  // expected-error @+1 {{has -8 experts, not 1 to 2147483646 (limit_capacity_c2)}}
  %0, %1 = moe.limit_capacity %ids, %w experts -8 by <> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @limit_capacity_queue(%ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+2 {{expected ::mlir::moe::QueueOrder to be one of: first_come, prioritized}}
  // expected-error @+1 {{failed to parse Moe_QueueOrderAttr parameter 'value'}}
  %0, %1 = moe.limit_capacity %ids, %w experts 8 by <> queue <last>
      : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// aux_loss
//===----------------------------------------------------------------------===//

func.func @aux_loss_c1_without(%s: tensor<?x8xf32>) {
  // expected-error @+1 {{takes ids for balance, first_place and second_place and for no other (aux_loss_c1)}}
  %0 = moe.aux_loss <balance> %s coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c1_with(%s: tensor<?x8xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{takes ids for balance, first_place and second_place and for no other (aux_loss_c1)}}
  %0 = moe.aux_loss <z> %s ids(%ids : tensor<?x2xi32>) coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c2_ids(%s: tensor<5x8xf32>, %ids: tensor<4x2xi32>) {
  // expected-error @+1 {{scores has T = 5 but ids has 4 (aux_loss_c2)}}
  %0 = moe.aux_loss <balance> %s ids(%ids : tensor<4x2xi32>) coefficient 1.0
      : tensor<5x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c2_mask(%s: tensor<5x8xf32>, %m: tensor<4xi1>) {
  // expected-error @+1 {{scores has T = 5 but mask has 4 (aux_loss_c2)}}
  %0 = moe.aux_loss <z> %s mask(%m : tensor<4xi1>) coefficient 1.0
      : tensor<5x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c3_width(%s: tensor<?x?xf32>) {
  // expected-error @+1 {{scores has R = ?, which must be static (aux_loss_c3)}}
  %0 = moe.aux_loss <z> %s coefficient 1.0 : tensor<?x?xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c3_slots(%s: tensor<?x8xf32>, %ids: tensor<?x?xi32>) {
  // expected-error @+1 {{ids has K = ?, which must be static (aux_loss_c3)}}
  %0 = moe.aux_loss <balance> %s ids(%ids : tensor<?x?xi32>) coefficient 1.0
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

func.func @aux_loss_c4(%s: tensor<?x8xf32>) {
  // expected-error @+1 {{coefficient is not finite (aux_loss_c4)}}
  %0 = moe.aux_loss <z> %s coefficient 0x7FF0000000000000
      : tensor<?x8xf32> -> tensor<f32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// dispatch
//===----------------------------------------------------------------------===//

func.func @dispatch_c1(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{experts has E + 1 = 9 but offsets has 8 (dispatch_c1)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x4xf32>, tensor<8xi32>)
  return
}

// -----

func.func @dispatch_c1_dynamic(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{offsets has E + 1 = ?, which must be static (dispatch_c1)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x4xf32>, tensor<?xi32>)
  return
}

// -----

func.func @dispatch_c1_none(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{has 0 experts, not 1 to 2147483646 (dispatch_c1)}}
  %0, %1 = moe.dispatch %x, %ids experts 0
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x4xf32>, tensor<1xi32>)
  return
}

// -----

func.func @dispatch_c1_huge(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{has 9223372036854775807 experts, not 1 to 2147483646 (dispatch_c1)}}
  %0, %1 = moe.dispatch %x, %ids experts 9223372036854775807
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x4xf32>, tensor<9xi32>)
  return
}

// -----

func.func @dispatch_c2(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{input has D = 4 but rows has 5 (dispatch_c2)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x5xf32>, tensor<9xi32>)
  return
}

// -----

func.func @dispatch_c2_dynamic(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{rows has D = ?, which must be static (dispatch_c2)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x?xf32>, tensor<9xi32>)
  return
}

// -----

func.func @dispatch_c2_type(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{input and rows have different element types (dispatch_c2)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x4xbf16>, tensor<9xi32>)
  return
}

// -----

func.func @dispatch_c3(%x: tensor<5x4xf32>, %ids: tensor<5x2xi32>) {
  // expected-error @+1 {{ids has N = 10 but rows has 5 (dispatch_c3)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<5x4xf32>, tensor<5x2xi32>) -> (tensor<5x4xf32>, tensor<9xi32>)
  return
}

// -----

// The product wraps to 0 in 64 bits.
func.func @dispatch_c3_overflow(%x: tensor<4611686018427387904x4xf32>,
                                %ids: tensor<4611686018427387904x4xi32>) {
  // expected-error @+1 {{ids have 4611686018427387904 x 4 slots, more than i32 offsets count (dispatch_c3)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<4611686018427387904x4xf32>, tensor<4611686018427387904x4xi32>)
      -> (tensor<0x4xf32>, tensor<9xi32>)
  return
}

// -----

func.func @dispatch_c4(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>,
                       %w: tensor<?x3xf32>) {
  // expected-error @+1 {{ids has second size = 2 but weights has 3 (dispatch_c4)}}
  %0, %1 = moe.dispatch %x, %ids experts 8 weights(%w : tensor<?x3xf32>)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x4xf32>, tensor<9xi32>)
  return
}

// -----

func.func @dispatch_c5_tokens(%x: tensor<5x4xf32>, %ids: tensor<6x2xi32>) {
  // expected-error @+1 {{input has T = 5 but ids has 6 (dispatch_c5)}}
  %0, %1 = moe.dispatch %x, %ids experts 8
      : (tensor<5x4xf32>, tensor<6x2xi32>) -> (tensor<12x4xf32>, tensor<9xi32>)
  return
}

// -----

func.func @dispatch_c5_experts(%x: tensor<5x4xf32>, %ids: tensor<6x2xi32>) {
  // expected-error @+1 {{experts has E = 8 but ids has 6 (dispatch_c5)}}
  %0, %1 = moe.dispatch %x, %ids experts 8 chosen_by <expert>
      : (tensor<5x4xf32>, tensor<6x2xi32>) -> (tensor<12x4xf32>, tensor<9xi32>)
  return
}

// -----

//===----------------------------------------------------------------------===//
// combine
//===----------------------------------------------------------------------===//

func.func @combine_c1(%rows: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{rows has D = 4 but output has 5 (combine_c1)}}
  %0 = moe.combine %rows, %ids experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x5xf32>
  return
}

// -----

func.func @combine_c1_bias(%rows: tensor<?x4xf32>, %ids: tensor<?x2xi32>,
                           %b: tensor<5xf32>) {
  // expected-error @+1 {{rows has D = 4 but bias has 5 (combine_c1)}}
  %0 = moe.combine %rows, %ids experts 8 bias(%b : tensor<5xf32>)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @combine_c1_dynamic(%rows: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{output has D = ?, which must be static (combine_c1)}}
  %0 = moe.combine %rows, %ids experts 8
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x?xf32>
  return
}

// -----

func.func @combine_c2(%rows: tensor<9x4xf32>, %ids: tensor<5x2xi32>) {
  // expected-error @+1 {{ids has N = 10 but rows has 9 (combine_c2)}}
  %0 = moe.combine %rows, %ids experts 8
      : (tensor<9x4xf32>, tensor<5x2xi32>) -> tensor<5x4xf32>
  return
}

// -----

func.func @combine_c2_overflow(%rows: tensor<?x4xf32>,
                               %ids: tensor<1073741824x2xi32>) {
  // expected-error @+1 {{ids have 1073741824 x 2 slots, more than i32 offsets count (combine_c2)}}
  %0 = moe.combine %rows, %ids experts 8
      : (tensor<?x4xf32>, tensor<1073741824x2xi32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @combine_c3(%rows: tensor<?x4xf32>, %ids: tensor<5x2xi32>) {
  // expected-error @+1 {{output has T = 6 but ids has 5 (combine_c3)}}
  %0 = moe.combine %rows, %ids experts 8
      : (tensor<?x4xf32>, tensor<5x2xi32>) -> tensor<6x4xf32>
  return
}

// -----

func.func @combine_c3_residual(%rows: tensor<?x4xf32>, %ids: tensor<5x2xi32>,
                               %r: tensor<6x4xf32>) {
  // expected-error @+1 {{ids has T = 5 but residual has 6 (combine_c3)}}
  %0 = moe.combine %rows, %ids experts 8 residual(%r : tensor<6x4xf32>)
      : (tensor<?x4xf32>, tensor<5x2xi32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @combine_c4(%rows: tensor<?x4xf32>, %ids: tensor<5x2xi32>,
                      %w: tensor<4x2xf32>) {
  // expected-error @+1 {{ids has first size = 5 but weights has 4 (combine_c4)}}
  %0 = moe.combine %rows, %ids experts 8 weights(%w : tensor<4x2xf32>)
      : (tensor<?x4xf32>, tensor<5x2xi32>) -> tensor<5x4xf32>
  return
}

// -----

func.func @combine_c5_without(%rows: tensor<?x4xf32>, %ids: tensor<8x?xi32>) {
  // expected-error @+1 {{takes num_tokens where experts choose and T is dynamic, and nowhere else (combine_c5)}}
  %0 = moe.combine %rows, %ids experts 8 chosen_by <expert>
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @combine_c5_static(%rows: tensor<?x4xf32>, %ids: tensor<8x?xi32>,
                             %n: index) {
  // expected-error @+1 {{takes num_tokens where experts choose and T is dynamic, and nowhere else (combine_c5)}}
  %0 = moe.combine %rows, %ids experts 8 chosen_by <expert> num_tokens(%n)
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<6x4xf32>
  return
}

// -----

func.func @combine_c5_token(%rows: tensor<?x4xf32>, %ids: tensor<?x2xi32>,
                            %n: index) {
  // expected-error @+1 {{takes num_tokens where experts choose and T is dynamic, and nowhere else (combine_c5)}}
  %0 = moe.combine %rows, %ids experts 8 num_tokens(%n)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @combine_c6(%rows: tensor<?x4xf32>, %ids: tensor<8x?xi32>,
                      %x: tensor<6x4xf32>) {
  // expected-error @+1 {{identity experts need ids by token (combine_c6)}}
  %0 = moe.combine %rows, %ids experts 8 chosen_by <expert>
      identity(%x : tensor<6x4xf32>)
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<6x4xf32>
  return
}

// -----

func.func @combine_c7(%rows: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{has no residual to average with (combine_c7)}}
  %0 = moe.combine %rows, %ids experts 8 {average}
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @combine_c8(%rows: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{has 0 experts, not 1 to 2147483646 (combine_c8)}}
  %0 = moe.combine %rows, %ids experts 0
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @combine_c8_chosen(%rows: tensor<?x4xf32>, %ids: tensor<7x?xi32>) {
  // expected-error @+1 {{experts has E = 8 but ids has 7 (combine_c8)}}
  %0 = moe.combine %rows, %ids experts 8 chosen_by <expert>
      : (tensor<?x4xf32>, tensor<7x?xi32>) -> tensor<6x4xf32>
  return
}

// -----

func.func @combine_c9(%rows: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @+1 {{scale is not finite (combine_c9)}}
  %0 = moe.combine %rows, %ids experts 8 {scale = 0x7FF8000000000000 : f64}
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x4xf32>
  return
}
