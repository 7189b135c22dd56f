// Every rule of the subset ops and of the routers that sample, broken once.

// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @subset_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{sizes from 3 to 2 are no band within 1 to 4 (subset_c1)}}
  %0 = moe.subset_marginals %x size 3 to 2 : tensor<?x4xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @subset_c1_none(%x: tensor<?x4xf32>) {
  // expected-error @below {{sizes from 0 to 2 are no band within 1 to 4 (subset_c1)}}
  %0 = moe.subset_partition %x size 0 to 2
      : tensor<?x4xf32> -> tensor<?x3xf32>
  return
}

// -----

func.func @subset_c1_many(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{sizes from 2 to 5 are no band within 1 to 4 (subset_c1)}}
  %0 = moe.subset_sample %x size 2 to 5 draw(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x5xi32>
  return
}

// -----

func.func @subset_c1_dynamic(%x: tensor<?x?xf32>) {
  // expected-error @below {{logits has E = ?, which must be static (subset_c1)}}
  %0 = moe.subset_marginals %x size 2 to 2 : tensor<?x?xf32> -> tensor<?x?xf32>
  return
}

// -----

func.func @subset_c2(%x: tensor<3x4xf32>, %v: tensor<2x4xf32>) {
  // expected-error @below {{logits has T = 3 but vector has 2 (subset_c2)}}
  %0 = moe.subset_covariance %x, %v size 2 to 2
      : tensor<3x4xf32>, tensor<2x4xf32> -> tensor<3x4xf32>
  return
}

// -----

func.func @subset_c3(%x: tensor<?x4xf32>) {
  // expected-error @below {{the band has columns = 2 but result has 3 (subset_c3)}}
  %0 = moe.subset_partition %x size 2 to 3
      : tensor<?x4xf32> -> tensor<?x3xf32>
  return
}

// -----

func.func @subset_c3_ids(%x: tensor<?x4xf32>, %ids: tensor<?x2xi32>) {
  // expected-error @below {{the band has columns = 3 but ids has 2 (subset_c3)}}
  %0 = moe.subset_log_prob %x, %ids size 2 to 3
      : tensor<?x4xf32>, tensor<?x2xi32> -> tensor<?xf32>
  return
}

// -----

func.func @philox_c1(%n: index, %s: i64) {
  // expected-error @below {{draws ? numbers a token, not 1 to 2^31 (philox_c1)}}
  %u = moe.philox %n at(%s, %s, %s) : tensor<?x?xf32>
  return
}

// -----

func.func @route_c6(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{router #moe.top_k<k = 2> draws nothing in training (route_c6)}}
  %0:2 = moe.route #moe.top_k<k = 2> %x training(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c6_part(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{training takes seed, layer and first token together (route_c6)}}
  %0:2 = "moe.route"(%x, %s) <{router = #moe.exact_k<k = 2>,
      operandSegmentSizes = array<i32: 1, 0, 0, 0, 0, 0, 1, 0, 0>}>
      : (tensor<?x4xf32>, i64) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @route_c7(%x: tensor<?x4xf32>) {
  // expected-error @below {{noise is for training alone (route_c7)}}
  %0:2 = moe.route #moe.exact_k<k = 2> %x noise(%x : tensor<?x4xf32>)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c8(%x: tensor<?x4xf32>, %b: tensor<4xf32>) {
  // expected-error @below {{exact_k takes no selection bias (route_c8)}}
  %0:2 = moe.route #moe.exact_k<k = 2> %x bias(%b : tensor<4xf32>)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @exact_k_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{takes up to 5 of 4 experts (exact_k_c1)}}
  %0:2 = moe.route #moe.exact_k<k = 5> %x
      : tensor<?x4xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return
}

// -----

func.func @dynamic_k_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{takes up to 5 of 4 experts (dynamic_k_c1)}}
  %0:2 = moe.route #moe.dynamic_k<min = 1, max = 5> %x
      : tensor<?x4xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return
}

// -----

func.func @moesart_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{takes up to 5 of 4 experts (moesart_c1)}}
  %0:2 = moe.route #moe.moesart<k = 5> %x
      : tensor<?x4xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return
}

// -----

// expected-error @below {{k = 0 chooses nothing}}
#a = #moe.exact_k<k = 0>

// -----

// expected-error @below {{weights are divided by their sum or not at all}}
#a = #moe.exact_k<k = 1, normalize = pnorm>

// -----

// expected-error @below {{sizes from 3 to 2 are no band of at least 1}}
#a = #moe.dynamic_k<min = 3, max = 2>

// -----

// expected-error @below {{sizes from 0 to 2 are no band of at least 1}}
#a = #moe.dynamic_k<min = 0, max = 2>

// -----

// expected-error @below {{k = 0 chooses nothing}}
#a = #moe.moesart<k = 0>

// -----

// expected-error @below {{temperature is not positive or not finite}}
#a = #moe.moesart<k = 2, temperature = 0.0>

// -----

func.func @noisy_top_k_c1(%x: tensor<?x4xf32>) {
  // expected-error @below {{takes up to 5 of 4 experts (noisy_top_k_c1)}}
  %0:2 = moe.route #moe.noisy_top_k<k = 5> %x
      : tensor<?x4xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return
}

// -----

func.func @noisy_top_k_c2(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{learned noise is an operand in training (noisy_top_k_c2)}}
  %0:2 = moe.route #moe.noisy_top_k<k = 2> %x training(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @noise_not_taken(%x: tensor<?x4xf32>, %s: i64) {
  // expected-error @below {{noisy_top_k takes no noise (route_c8)}}
  %0:2 = moe.route #moe.noisy_top_k<k = 2, noise = gumbel> %x
      noise(%x : tensor<?x4xf32>) training(%s, %s, %s)
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

// expected-error @below {{k = 0 chooses nothing}}
#a = #moe.noisy_top_k<k = 0>

// -----

// expected-error @below {{normal noise has a std that is positive and finite}}
#a = #moe.noisy_top_k<k = 1, noise = normal>

// -----

// expected-error @below {{learned noise has a floor that is positive and finite}}
#a = #moe.noisy_top_k<k = 1, floor = 0.0>
