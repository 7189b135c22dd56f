// moe.route_vjp refuses what its router does not take, as moe.route does, and a
// router that has no backward when code is to be made of it.
//
// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --convert-moe-to-linalg
// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --convert-moe-to-loops

func.func @noise_not_taken(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                           %w: tensor<?x2xf32>) {
  // expected-error @below {{top_k takes no noise (route_c8)}}
  %0:2 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      noise(%x : tensor<?x8xf32>)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @scale_not_taken(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                           %w: tensor<?x2xf32>, %s: tensor<8xf32>) {
  // expected-error @below {{exact_k takes no expert scale (route_c8)}}
  %0:2 = moe.route_vjp #moe.exact_k<k = 2> %x, %i, %w by %w
      expert_scale(%s : tensor<8xf32>)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @noise_missing(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                         %w: tensor<?x2xf32>, %s: i64) {
  // expected-error @below {{learned noise is an operand in training (noisy_top_k_c2)}}
  %0 = moe.route_vjp #moe.noisy_top_k<k = 2> %x, %i, %w by %w
      training(%s, %s, %s)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @noise_in_inference(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                              %w: tensor<?x2xf32>) {
  // expected-error @below {{noise is for training alone}}
  %0:2 = moe.route_vjp #moe.noisy_top_k<k = 2> %x, %i, %w by %w
      noise(%x : tensor<?x8xf32>)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @more_slots_than_experts(%x: tensor<?x1xf32>, %i: tensor<?x2xi32>,
                                   %w: tensor<?x2xf32>) {
  // expected-error @below {{(top_k_c1)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      : tensor<?x1xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x1xf32>
  return
}

// -----

func.func @route_vjp_c1_mixed(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                              %w: tensor<?x2xf32>) {
  // expected-error @below {{(route_vjp_c1)}}
  %0 = moe.route_vjp #moe_test.no_body<k = 2, mixed = true> %x, %i, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @no_backward(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                       %w: tensor<?x2xf32>) -> tensor<?x8xf32> {
  // expected-error @below {{a router without a backward}}
  %0 = moe.route_vjp #moe_test.no_body<k = 2> %x, %i, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}
