// Every rule of the routers of two experts, jitter, hashing and the
// renormalising capacity, broken once.

// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @gshard_c1(%x: tensor<?x1xf32>) {
  // expected-error @below {{takes up to 2 of 1 experts (gshard_c1)}}
  %0:2 = moe.route #moe.gshard<> %x
      : tensor<?x1xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @sparse_mixer_c1(%x: tensor<?x1xf32>) {
  // expected-error @below {{takes up to 2 of 1 experts (sparse_mixer_c1)}}
  %0:2 = moe.route #moe.sparse_mixer<> %x
      : tensor<?x1xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @slots(%x: tensor<?x4xf32>) {
  // expected-error @below {{router has k = 2 but ids has 3 (route_c2)}}
  %0:2 = moe.route #moe.gshard<> %x
      : tensor<?x4xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return
}

// -----

// A policy that draws nothing takes no part in training.
func.func @policy_that_draws_nothing(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{draws nothing in training (route_c6)}}
  %0:2 = moe.route #moe.gshard<policy = threshold> %x training(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @indices_not_taken(%x: tensor<?x4xf32>, %i: tensor<?x2xi32>) {
  // expected-error @below {{sparse_mixer takes no given indices (route_c8)}}
  %0:2 = moe.route #moe.sparse_mixer<> %x indices(%i : tensor<?x2xi32>)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @noise_not_taken(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{gshard takes no noise (route_c8)}}
  %0:2 = moe.route #moe.gshard<policy = random> %x noise(%x : tensor<?x4xf32>)
      training(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

// expected-error @below {{threshold is not positive or not finite}}
#a = #moe.gshard<policy = random, threshold = 0.0>

// -----

// expected-error @below {{threshold is not positive or not finite}}
#a = #moe.gshard<threshold = -0.2>

// -----

// expected-error @below {{eps is negative or not finite}}
#a = #moe.gshard<eps = -1.0e-9>

// -----

// expected-error @below {{eps is negative or not finite}}
#a = #moe.sparse_mixer<eps = -0.01>

// -----

// expected-error @below {{third is negative or not finite}}
#a = #moe.sparse_mixer<third = -0.5>

// -----

// expected-error @below {{temperature is not positive or not finite}}
#a = #moe.noisy_top_k<k = 1, noise = gumbel, temperature = 0.0>

// -----

// expected-error @below {{a temperature is one of gumbel noise}}
#a = #moe.noisy_top_k<k = 1, temperature = 0.5>

// -----

func.func @limit_capacity_c3(%ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{normalize is not positive or not finite (limit_capacity_c3)}}
  %0:2 = moe.limit_capacity %ids, %w experts 8 by #moe.capacity<factor = 2.0>
      queue <first_come> normalize 0.0 : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @limit_capacity_c3_infinite(%ids: tensor<?x2xi32>,
                                      %w: tensor<?x2xf32>) {
  // expected-error @below {{normalize is not positive or not finite (limit_capacity_c3)}}
  %0:2 = moe.limit_capacity %ids, %w experts 8 by #moe.capacity<factor = 2.0>
      queue <first_come> normalize 0x7FF0000000000000
      : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @jitter_c1(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{input has H = 4 but output has 5 (jitter_c1)}}
  %0 = moe.jitter %x eps 0.1 draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x5xf32>
  return
}

// -----

func.func @jitter_c1_tokens(%x: tensor<3x4xf32>, %s: i64) {
  // expected-error @below {{input has T = 3 but output has 2 (jitter_c1)}}
  %0 = moe.jitter %x eps 0.1 draw(%s, %s, %s)
      : tensor<3x4xf32> -> tensor<2x4xf32>
  return
}

// -----

func.func @jitter_c1_dynamic(%x: tensor<?x?xf32>, %s: i64) {
  // expected-error @below {{input has H = ?, which must be static (jitter_c1)}}
  %0 = moe.jitter %x eps 0.1 draw(%s, %s, %s)
      : tensor<?x?xf32> -> tensor<?x?xf32>
  return
}

// -----

func.func @jitter_c1_none(%x: tensor<?x0xf32>, %s: i64) {
  // expected-error @below {{draws 0 numbers a token, not 1 to 2^31 (jitter_c1)}}
  %0 = moe.jitter %x eps 0.1 draw(%s, %s, %s)
      : tensor<?x0xf32> -> tensor<?x0xf32>
  return
}

// -----

func.func @jitter_c2(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{eps is not within 0 and 1 (jitter_c2)}}
  %0 = moe.jitter %x eps -0.1 draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @jitter_c2_nan(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{eps is not within 0 and 1 (jitter_c2)}}
  %0 = moe.jitter %x eps 0x7FF8000000000000 draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @route_hash_c1(%t: tensor<?xi32>, %table: tensor<9x2xi32>) {
  // expected-error @below {{table has k = 2 but ids has 1 (route_hash_c1)}}
  %0:2 = moe.route_hash %t, %table experts 8
      : tensor<?xi32>, tensor<9x2xi32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}

// -----

func.func @route_hash_c1_dynamic(%t: tensor<?xi32>, %table: tensor<9x?xi32>) {
  // expected-error @below {{table has k = ?, which must be static (route_hash_c1)}}
  %0:2 = moe.route_hash %t, %table experts 8
      : tensor<?xi32>, tensor<9x?xi32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}

// -----

func.func @route_hash_c2(%t: tensor<3xi32>, %table: tensor<9x1xi32>) {
  // expected-error @below {{token ids has T = 3 but ids has 2 (route_hash_c2)}}
  %0:2 = moe.route_hash %t, %table experts 8
      : tensor<3xi32>, tensor<9x1xi32> -> tensor<2x1xi32>, tensor<2x1xf32>
  return
}

// -----

func.func @route_hash_c2_mask(%t: tensor<3xi32>, %table: tensor<9x1xi32>,
                              %mask: tensor<2xi1>) {
  // expected-error @below {{token ids has T = 3 but mask has 2 (route_hash_c2)}}
  %0:2 = moe.route_hash %t, %table experts 8 mask(%mask : tensor<2xi1>)
      : tensor<3xi32>, tensor<9x1xi32> -> tensor<3x1xi32>, tensor<3x1xf32>
  return
}

// -----

func.func @route_hash_c3(%t: tensor<?xi32>, %table: tensor<9x1xi32>) {
  // expected-error @below {{has 0 experts, not 1 to 2147483646 (route_hash_c3)}}
  %0:2 = moe.route_hash %t, %table experts 0
      : tensor<?xi32>, tensor<9x1xi32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}

// -----

func.func @route_hash_c4(%t: tensor<?xi32>) {
  %table = arith.constant dense<[[0, 1], [2, 3]]> : tensor<2x2xi32>
  // expected-error @below {{table names expert 3 of 3 for token id 1 (route_hash_c4)}}
  %0:2 = moe.route_hash %t, %table experts 3
      : tensor<?xi32>, tensor<2x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_hash_c4_negative(%t: tensor<?xi32>) {
  %table = arith.constant dense<-1> : tensor<2x2xi32>
  // expected-error @below {{table names expert -1 of 3 for token id 0 (route_hash_c4)}}
  %0:2 = moe.route_hash %t, %table experts 3
      : tensor<?xi32>, tensor<2x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @product_keys_c1(%x: tensor<?x8xf32>) {
  // expected-error @below {{logits of 8 columns, 8 of them on the left, leave none on the right (product_keys_c1)}}
  %0:2 = moe.route #moe.product_keys<k = 2, left = 8> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @product_keys_c2(%x: tensor<?x100000xf32>) {
  // expected-error @below {{50000 x 50000 experts are more than i32 ids name (product_keys_c2)}}
  %0:2 = moe.route #moe.product_keys<k = 2, left = 50000> %x
      : tensor<?x100000xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @product_keys_c3(%x: tensor<?x4xf32>) {
  // expected-error @below {{k = 5 of 4 experts (product_keys_c3)}}
  %0:2 = moe.route #moe.product_keys<k = 5, left = 2> %x
      : tensor<?x4xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return
}

// -----

func.func @product_keys_k(%x: tensor<?x4xf32>) {
  // expected-error @below {{k = 0 chooses nothing}}
  %0:2 = moe.route #moe.product_keys<k = 0, left = 2> %x
      : tensor<?x4xf32> -> tensor<?x0xi32>, tensor<?x0xf32>
  return
}

// -----

func.func @product_keys_left(%x: tensor<?x4xf32>) {
  // expected-error @below {{left = 0 is no width}}
  %0:2 = moe.route #moe.product_keys<k = 1, left = 0> %x
      : tensor<?x4xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}
