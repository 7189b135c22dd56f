// Every parameter of every attribute, from text, generic form and bytecode.
// Parameters at their default are not printed, even where they were written;
// doubles come back to the last digit.
//
// RUN: moe-opt %s -o %t.mlir
// RUN: FileCheck %s < %t.mlir
// RUN: moe-opt %t.mlir | diff %t.mlir -
// RUN: moe-opt %s --emit-bytecode | moe-opt | diff %t.mlir -
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | diff %t.mlir -

//===----------------------------------------------------------------------===//
// top_k
//===----------------------------------------------------------------------===//

// CHECK-LABEL: @top_k_defaults
// CHECK-SAME: a = #moe.top_k<k = 1>
// CHECK-SAME: b = #moe.top_k<k = 1>
func.func private @top_k_defaults() attributes {
  a = #moe.top_k<k = 1>,
  b = #moe.top_k<k = 1, score = softmax, domain = all, softcap = 0.0,
                 groups = 1, kept_groups = 1, group_score = max,
                 group_fill = neg_inf, normalize = none, p = 1.0, eps = 0.0,
                 eps_mode = add, scale = 1.0>
}

// Written in another order, printed in the order of the declaration.
// CHECK-LABEL: @top_k_all
// CHECK-SAME: a = #moe.top_k<k = 8, score = sigmoid, domain = topk, softcap = 3.000000e+01, groups = 8, kept_groups = 4, group_score = top2sum, group_fill = zero, normalize = pnorm, p = 2.000000e+00, eps = 9.9999999999999995E-21, eps_mode = clamp, scale = 2.500000e+00, score_dtype = bf16>
func.func private @top_k_all() attributes {
  a = #moe.top_k<score_dtype = bf16, scale = 2.5, eps_mode = clamp,
                 eps = 1.0e-20, p = 2.0, normalize = pnorm, group_fill = zero,
                 group_score = top2sum, kept_groups = 4, groups = 8,
                 softcap = 30.0, domain = topk, score = sigmoid, k = 8>
}

// CHECK-LABEL: @top_k_enumerations
// CHECK-SAME: a = #moe.top_k<k = 1, score = sqrt_softplus, normalize = sum>
// CHECK-SAME: b = #moe.top_k<k = 1, score = none>
// CHECK-SAME: c = #moe.top_k<k = 1, domain = topk, groups = 4, kept_groups = 2>
// CHECK-SAME: f16 = #moe.top_k<k = 1, score_dtype = f16>
// CHECK-SAME: f32 = #moe.top_k<k = 1, score_dtype = f32>
// CHECK-SAME: f64 = #moe.top_k<k = 1, score_dtype = f64>
// CHECK-SAME: large = #moe.top_k<k = 9223372036854775807>
func.func private @top_k_enumerations() attributes {
  a = #moe.top_k<k = 1, score = sqrt_softplus, normalize = sum>,
  b = #moe.top_k<k = 1, score = none>,
  c = #moe.top_k<k = 1, domain = topk, groups = 4, kept_groups = 2>,
  f16 = #moe.top_k<k = 1, score_dtype = f16>,
  f32 = #moe.top_k<k = 1, score_dtype = f32>,
  f64 = #moe.top_k<k = 1, score_dtype = f64>,
  large = #moe.top_k<k = 9223372036854775807>
}

//===----------------------------------------------------------------------===//
// Doubles
//===----------------------------------------------------------------------===//

// A value next to the default is not the default, and -0 is not 0.
// CHECK-LABEL: @doubles
// CHECK-SAME: above_one = #moe.top_k<k = 1, scale = 1.0000000000000002>
// CHECK-SAME: below_one = #moe.top_k<k = 1, scale = 0.99999999999999988>
// CHECK-SAME: hex = #moe.top_k<k = 1, scale = 0.33333333333333331>
// CHECK-SAME: largest = #moe.top_k<k = 1, scale = 1.7976931348623157E+308>
// CHECK-SAME: minus_zero = #moe.top_k<k = 1, scale = -0.000000e+00>
// CHECK-SAME: negative = #moe.top_k<k = 1, scale = -2.500000e+00>
// CHECK-SAME: smallest = #moe.top_k<k = 1, scale = 4.940660e-324>
// CHECK-SAME: third = #moe.top_k<k = 1, scale = 0.33333333333333331>
// CHECK-SAME: zero = #moe.top_k<k = 1, scale = 0.000000e+00>
func.func private @doubles() attributes {
  above_one = #moe.top_k<k = 1, scale = 1.0000000000000002>,
  below_one = #moe.top_k<k = 1, scale = 0.99999999999999989>,
  hex = #moe.top_k<k = 1, scale = 0x3FD5555555555555>,
  largest = #moe.top_k<k = 1, scale = 1.7976931348623157e308>,
  minus_zero = #moe.top_k<k = 1, scale = -0.0>,
  negative = #moe.top_k<k = 1, scale = -2.5>,
  smallest = #moe.top_k<k = 1, scale = 5.0e-324>,
  third = #moe.top_k<k = 1, scale = 0.33333333333333333>,
  zero = #moe.top_k<k = 1, scale = 0.0>
}

//===----------------------------------------------------------------------===//
// capacity, expert_choice
//===----------------------------------------------------------------------===//

// CHECK-LABEL: @capacity
// CHECK-SAME: a = #moe.capacity<>
// CHECK-SAME: b = #moe.capacity<>
// CHECK-SAME: c = #moe.capacity<factor = 1.250000e+00, rounding = ceil, per = slots, multiple = 4, min = 0>
// CHECK-SAME: d = #moe.capacity<fixed = 2147483647, rounding = nearest>
// CHECK-SAME: e = #moe.capacity<factor = 0x4130000000000000>
func.func private @capacity() attributes {
  a = #moe.capacity<>,
  b = #moe.capacity<fixed = 0, factor = 1.0, rounding = floor, per = tokens,
                    multiple = 1, min = 1>,
  c = #moe.capacity<min = 0, multiple = 4, per = slots, rounding = ceil,
                    factor = 1.25>,
  d = #moe.capacity<fixed = 2147483647, rounding = nearest>,
  e = #moe.capacity<factor = 1048576.0>
}

// CHECK-LABEL: @expert_choice
// CHECK-SAME: a = #moe.expert_choice<capacity = <factor = 2.000000e+00>>
// CHECK-SAME: b = #moe.expert_choice<capacity = <fixed = 3>, axis = tokens, normalize = sum>
// CHECK-SAME: c = #moe.expert_choice<capacity = <>, cap = 1.500000e+00>
// CHECK-SAME: d = #moe.expert_choice<capacity = <>, normalize = sum, cap = 2.000000e+00, strength = 1.000000e-01, sweeps = 7, weights = assignment>
func.func private @expert_choice() attributes {
  a = #moe.expert_choice<capacity = <factor = 2.0>, axis = experts,
                         normalize = none>,
  b = #moe.expert_choice<normalize = sum, axis = tokens,
                         capacity = <fixed = 3>>,
  c = #moe.expert_choice<cap = 1.5, strength = 1.0e-3, sweeps = 100,
                         weights = scores, capacity = <>>,
  d = #moe.expert_choice<capacity = <>, normalize = sum, cap = 2.0,
                         weights = assignment, sweeps = 7, strength = 0.1>
}

//===----------------------------------------------------------------------===//
// layout, activation
//===----------------------------------------------------------------------===//

// CHECK-LABEL: @layout
// CHECK-SAME: a = #moe.layout<orientation = out_in>
// CHECK-SAME: b = #moe.layout<orientation = in_out, down = in_out, order = up_gate, expert_axis = folded, shards = 4>
// CHECK-SAME: c = #moe.layout<orientation = in_out, pairing = interleaved>
// CHECK-SAME: d = #moe.layout<orientation = out_in, pairing = separate>
func.func private @layout() attributes {
  a = #moe.layout<orientation = out_in, down = out_in, pairing = cat,
                  order = gate_up, expert_axis = lead, shards = 1>,
  b = #moe.layout<orientation = in_out, down = in_out, pairing = cat,
                  order = up_gate, expert_axis = folded, shards = 4>,
  c = #moe.layout<orientation = in_out, pairing = interleaved>,
  d = #moe.layout<orientation = out_in, pairing = separate>
}

// CHECK-LABEL: @activation
// CHECK-SAME: a = #moe.activation<kind = silu>
// CHECK-SAME: b = #moe.activation<kind = silu, style = oai, limit = 7.000000e+00, alpha = 1.500000e+00>
// CHECK-SAME: c = #moe.activation<kind = gelu>
// CHECK-SAME: d = #moe.activation<kind = gelu_tanh>
// CHECK-SAME: e = #moe.activation<kind = relu>
// CHECK-SAME: f = #moe.activation<kind = relu2, limit = 1.000000e+00>
// CHECK-SAME: g = #moe.activation<kind = identity>
func.func private @activation() attributes {
  a = #moe.activation<kind = silu, style = plain, limit = 0.0, alpha = 1.702>,
  b = #moe.activation<kind = silu, style = oai, limit = 7.0, alpha = 1.5>,
  c = #moe.activation<kind = gelu>,
  d = #moe.activation<kind = gelu_tanh>,
  e = #moe.activation<kind = relu>,
  f = #moe.activation<kind = relu2, limit = 1.0>,
  g = #moe.activation<kind = identity>
}

//===----------------------------------------------------------------------===//
// Enumerations that ops hold
//===----------------------------------------------------------------------===//

// CHECK-LABEL: @enumerations
// CHECK-SAME: aux = [#moe.aux_loss<balance>, #moe.aux_loss<importance>, #moe.aux_loss<z>, #moe.aux_loss<trimmed_lasso>, #moe.aux_loss<entropy>, #moe.aux_loss<first_place>, #moe.aux_loss<second_place>, #moe.aux_loss<token_balance>, #moe.aux_loss<l1_balance>]
// CHECK-SAME: choice = [#moe.choice<token>, #moe.choice<expert>]
// CHECK-SAME: noise = [#moe.noise<learned>, #moe.noise<normal>, #moe.noise<gumbel>]
// CHECK-SAME: projection = [#moe.projection<up>, #moe.projection<down>, #moe.projection<up_bias>]
// CHECK-SAME: queue = [#moe.queue<first_come>, #moe.queue<prioritized>]
// CHECK-SAME: score = [#moe.score<softmax>, #moe.score<sigmoid>, #moe.score<sqrt_softplus>, #moe.score<none>]
// CHECK-SAME: threshold = [#moe.load_threshold<kth_excluding>, #moe.load_threshold<kth>]
func.func private @enumerations() attributes {
  aux = [#moe.aux_loss<balance>, #moe.aux_loss<importance>, #moe.aux_loss<z>,
         #moe.aux_loss<trimmed_lasso>, #moe.aux_loss<entropy>,
         #moe.aux_loss<first_place>, #moe.aux_loss<second_place>,
         #moe.aux_loss<token_balance>, #moe.aux_loss<l1_balance>],
  choice = [#moe.choice<token>, #moe.choice<expert>],
  noise = [#moe.noise<learned>, #moe.noise<normal>, #moe.noise<gumbel>],
  projection = [#moe.projection<up>, #moe.projection<down>,
                #moe.projection<up_bias>],
  queue = [#moe.queue<first_come>, #moe.queue<prioritized>],
  score = [#moe.score<softmax>, #moe.score<sigmoid>,
           #moe.score<sqrt_softplus>, #moe.score<none>],
  threshold = [#moe.load_threshold<kth_excluding>, #moe.load_threshold<kth>]
}
