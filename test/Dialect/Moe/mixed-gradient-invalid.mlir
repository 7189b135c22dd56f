// Every rule of backwards beyond a token, broken once.

// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @route_experts_vjp_c1(%x: tensor<?x8xf32>, %i: tensor<8x2xi32>,
    %c: tensor<8x2xf32>) {
  // expected-error @below {{needs a router by which experts choose, with weights that are scores (route_experts_vjp_c1)}}
  %0 = moe.route_experts_vjp #moe.top_k<k = 2>
      %x, %i by %c
      : tensor<?x8xf32>, tensor<8x2xi32>, tensor<8x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @route_experts_vjp_c1_assignment(%x: tensor<?x8xf32>, %i: tensor<8x2xi32>,
    %c: tensor<8x2xf32>) {
  // expected-error @below {{needs a router by which experts choose, with weights that are scores (route_experts_vjp_c1)}}
  %0 = moe.route_experts_vjp #moe.expert_choice<capacity = <fixed = 2>, cap = 1.0,
                                               weights = assignment>
      %x, %i by %c
      : tensor<?x8xf32>, tensor<8x2xi32>, tensor<8x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @route_experts_vjp_c2(%x: tensor<?x8xf32>, %i: tensor<8x2xi32>,
    %c: tensor<7x2xf32>) {
  // expected-error @below {{logits has E = 8 but cotangent has 7 (route_experts_vjp_c2)}}
  %0 = moe.route_experts_vjp #moe.expert_choice<capacity = <fixed = 2>>
      %x, %i by %c
      : tensor<?x8xf32>, tensor<8x2xi32>, tensor<7x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @route_experts_vjp_c3(%x: tensor<?x8xf32>, %i: tensor<8x2xi32>,
    %c: tensor<8x3xf32>) {
  // expected-error @below {{ids has C = 2 but cotangent has 3 (route_experts_vjp_c3)}}
  %0 = moe.route_experts_vjp #moe.expert_choice<capacity = <fixed = 2>>
      %x, %i by %c
      : tensor<?x8xf32>, tensor<8x2xi32>, tensor<8x3xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @route_experts_vjp_c4(%x: tensor<5x8xf32>, %i: tensor<8x2xi32>,
    %c: tensor<8x2xf32>, %m: tensor<4xi1>) {
  // expected-error @below {{logits has T = 5 but mask has 4 (route_experts_vjp_c4)}}
  %0 = moe.route_experts_vjp #moe.expert_choice<capacity = <fixed = 2>>
      %x, %i by %c mask(%m : tensor<4xi1>)
      : tensor<5x8xf32>, tensor<8x2xi32>, tensor<8x2xf32> -> tensor<5x8xf32>
  return
}

// -----

func.func @route_slots_vjp_c1(%d: tensor<?x4xf32>, %e: tensor<?x5xf32>) {
  // expected-error @below {{dispatch has S = 4 but the cotangent of dispatch has 5 (route_slots_vjp_c1)}}
  %0 = moe.route_slots_vjp %d, %d by %e, %d
      : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x5xf32>, tensor<?x4xf32>
      -> tensor<?x4xf32>
  return
}

// -----

func.func @route_slots_vjp_c1_none(%d: tensor<?x0xf32>, %e: tensor<?x0xf32>) {
  // expected-error @below {{has no slots (route_slots_vjp_c1)}}
  %0 = moe.route_slots_vjp %d, %d by %e, %d
      : tensor<?x0xf32>, tensor<?x0xf32>, tensor<?x0xf32>, tensor<?x0xf32>
      -> tensor<?x0xf32>
  return
}

// -----

func.func @route_slots_vjp_c2(%d: tensor<3x4xf32>, %e: tensor<3x4xf32>) {
  // expected-error @below {{dispatch has T = 3 but result has 5 (route_slots_vjp_c2)}}
  %0 = moe.route_slots_vjp %d, %d by %e, %d
      : tensor<3x4xf32>, tensor<3x4xf32>, tensor<3x4xf32>, tensor<3x4xf32>
      -> tensor<5x4xf32>
  return
}

// -----

func.func @soft_dots_c1(%x: tensor<3x6xf32>, %h: tensor<4x6xf32>) {
  // expected-error @below {{tokens has T = 3 but dots has 2 (soft_dots_c1)}}
  %0 = moe.soft_dots %x, %h experts 2
      : (tensor<3x6xf32>, tensor<4x6xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @soft_dots_c2(%x: tensor<?x6xf32>, %h: tensor<4x5xf32>) {
  // expected-error @below {{tokens has D = 6 but rows has 5 (soft_dots_c2)}}
  %0 = moe.soft_dots %x, %h experts 2
      : (tensor<?x6xf32>, tensor<4x5xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @soft_dots_c3(%x: tensor<?x6xf32>, %h: tensor<4x6xf32>) {
  // expected-error @below {{has S = 4, which are no slots of 3 experts (soft_dots_c3)}}
  %0 = moe.soft_dots %x, %h experts 3
      : (tensor<?x6xf32>, tensor<4x6xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @soft_dots_c4(%x: tensor<?x6xf32>, %h: tensor<5x6xf32>) {
  // expected-error @below {{the slots has G * S = 4 but rows has 5 (soft_dots_c4)}}
  %0 = moe.soft_dots %x, %h experts 2
      : (tensor<?x6xf32>, tensor<5x6xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @mix_query_vjp_c1(%v: tensor<7x4xf32>, %g: tensor<7x5xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>) {
  // expected-error @below {{values has R = 4 but cotangent has 5 (mix_query_vjp_c1)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x5xf32>
      -> tensor<7x6xf32>, tensor<7x2xf32>, tensor<7x2xf32>
  return
}

// -----

func.func @mix_query_vjp_c2(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<6x6xf32>) {
  // expected-error @below {{values has T = 7 but key has 6 (mix_query_vjp_c2)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<6x6xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x2xf32>, tensor<7x2xf32>
  return
}

// -----

func.func @mix_query_vjp_c2_cotangent(%v: tensor<7x4xf32>, %g: tensor<6x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>) {
  // expected-error @below {{values has T = 7 but cotangent has 6 (mix_query_vjp_c2)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) heads 2
      : tensor<7x4xf32>, tensor<6x4xf32>
      -> tensor<7x6xf32>, tensor<7x2xf32>, tensor<7x2xf32>
  return
}

// -----

func.func @mix_query_vjp_c3(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>) {
  // expected-error @below {{the op has heads = 2 but dots has 3 (mix_query_vjp_c3)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x3xf32>, tensor<7x3xf32>
  return
}

// -----

func.func @mix_query_vjp_c3_none(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>) {
  // expected-error @below {{has 0 heads (mix_query_vjp_c3)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) heads 0
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x0xf32>, tensor<7x0xf32>
  return
}

// -----

func.func @mix_query_vjp_c4(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x4xf32>) {
  // expected-error @below {{key has 4 columns; heads of 3 columns that divide 2 heads are needed (mix_query_vjp_c4)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x4xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x2xf32>, tensor<7x2xf32>
  return
}

// -----

func.func @mix_query_vjp_c4_gradient(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>) {
  // expected-error @below {{query has columns = 6 but gradient has 5 (mix_query_vjp_c4)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x5xf32>, tensor<7x2xf32>, tensor<7x2xf32>
  return
}

// -----

func.func @mix_query_vjp_c5(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>) {
  // expected-error @below {{scale is not finite and positive (mix_query_vjp_c5)}}
  %0:3 = moe.mix_query_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) heads 2 scale 0.0
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x2xf32>, tensor<7x2xf32>
  return
}

// -----

func.func @mix_key_vjp_c1(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>,
    %d: tensor<7x2xf32>) {
  // expected-error @below {{values has R = 4 but gradient has 5 (mix_key_vjp_c1)}}
  %0:2 = moe.mix_key_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) dots(%d : tensor<7x2xf32>)
      sums(%d : tensor<7x2xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x5xf32>
  return
}

// -----

func.func @mix_key_vjp_c2(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>,
    %d: tensor<7x2xf32>) {
  // expected-error @below {{query has T = 7 but gradient of key has 6 (mix_key_vjp_c2)}}
  %0:2 = moe.mix_key_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) dots(%d : tensor<7x2xf32>)
      sums(%d : tensor<7x2xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<6x6xf32>, tensor<7x4xf32>
  return
}

// -----

func.func @mix_key_vjp_c3(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>,
    %d: tensor<7x3xf32>) {
  // expected-error @below {{the op has heads = 2 but dots has 3 (mix_key_vjp_c3)}}
  %0:2 = moe.mix_key_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) dots(%d : tensor<7x3xf32>)
      sums(%d : tensor<7x3xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x4xf32>
  return
}

// -----

func.func @mix_key_vjp_c4(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x5xf32>, %k: tensor<7x6xf32>,
    %d: tensor<7x2xf32>) {
  // expected-error @below {{query has 5 columns, which are no 2 heads (mix_key_vjp_c4)}}
  %0:2 = moe.mix_key_vjp %v by %g query(%q : tensor<7x5xf32>)
      key(%k : tensor<7x6xf32>) dots(%d : tensor<7x2xf32>)
      sums(%d : tensor<7x2xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x4xf32>
  return
}

// -----

func.func @mix_key_vjp_c4_gradient(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>,
    %d: tensor<7x2xf32>) {
  // expected-error @below {{key has columns = 6 but gradient has 3 (mix_key_vjp_c4)}}
  %0:2 = moe.mix_key_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) dots(%d : tensor<7x2xf32>)
      sums(%d : tensor<7x2xf32>) heads 2
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x3xf32>, tensor<7x4xf32>
  return
}

// -----

func.func @mix_key_vjp_c5(%v: tensor<7x4xf32>, %g: tensor<7x4xf32>,
    %q: tensor<7x6xf32>, %k: tensor<7x6xf32>,
    %d: tensor<7x2xf32>) {
  // expected-error @below {{scale is not finite and positive (mix_key_vjp_c5)}}
  %0:2 = moe.mix_key_vjp %v by %g query(%q : tensor<7x6xf32>)
      key(%k : tensor<7x6xf32>) dots(%d : tensor<7x2xf32>)
      sums(%d : tensor<7x2xf32>) heads 2 scale -1.0
      : tensor<7x4xf32>, tensor<7x4xf32>
      -> tensor<7x6xf32>, tensor<7x4xf32>
  return
}

// -----

func.func @mix_matrix_vjp_c1(%v: tensor<7x4xf32>, %a: tensor<2x7x7xf32>,
    %g: tensor<7x5xf32>) {
  // expected-error @below {{values has R = 4 but cotangent has 5 (mix_matrix_vjp_c1)}}
  %0:3 = moe.mix_matrix_vjp %v by %a cotangent(%g : tensor<7x5xf32>)
      : (tensor<7x4xf32>, tensor<2x7x7xf32>)
      -> (tensor<7x4xf32>, tensor<2x7x7xf32>, tensor<7x2xf32>)
  return
}

// -----

func.func @mix_matrix_vjp_c2(%v: tensor<7x4xf32>, %a: tensor<2x7x7xf32>,
    %g: tensor<7x4xf32>) {
  // expected-error @below {{values has T = 7 but their gradient has 6 (mix_matrix_vjp_c2)}}
  %0:3 = moe.mix_matrix_vjp %v by %a cotangent(%g : tensor<7x4xf32>)
      : (tensor<7x4xf32>, tensor<2x7x7xf32>)
      -> (tensor<7x4xf32>, tensor<2x6x7xf32>, tensor<7x2xf32>)
  return
}

// -----

func.func @mix_matrix_vjp_c3(%v: tensor<7x4xf32>, %a: tensor<2x7x7xf32>,
    %g: tensor<7x4xf32>) {
  // expected-error @below {{matrices has heads = 2 but dots has 3 (mix_matrix_vjp_c3)}}
  %0:3 = moe.mix_matrix_vjp %v by %a cotangent(%g : tensor<7x4xf32>)
      : (tensor<7x4xf32>, tensor<2x7x7xf32>)
      -> (tensor<7x4xf32>, tensor<2x7x7xf32>, tensor<7x3xf32>)
  return
}
