// Every rule of moe.route_vjp and moe.score_vjp, broken once or more.
//
// RUN: moe-opt %s --split-input-file --verify-diagnostics

//===----------------------------------------------------------------------===//
// route_vjp
//===----------------------------------------------------------------------===//

func.func @route_vjp_c1(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                        %w: tensor<?x2xf32>) {
  // expected-error @below {{needs a router that looks at its token alone (route_vjp_c1)}}
  %0 = moe.route_vjp #moe.expert_choice<capacity = <factor = 1.0>> %x, %i, %w
      by %w : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>,
              tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c2(%x: tensor<?x8xf32>, %i: tensor<?x3xi32>,
                        %w: tensor<?x2xf32>) {
  // expected-error @below {{router has k = 2 but ids has 3 (route_vjp_c2)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      : tensor<?x8xf32>, tensor<?x3xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c2_weights(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                                %w: tensor<?x3xf32>, %g: tensor<?x2xf32>) {
  // expected-error @below {{router has k = 2 but weights has 3 (route_vjp_c2)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %g
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x3xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c2_cotangent(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                                  %w: tensor<?x2xf32>, %g: tensor<?x1xf32>) {
  // expected-error @below {{router has k = 2 but cotangent has 1 (route_vjp_c2)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %g
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x1xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c2_dynamic(%x: tensor<?x8xf32>, %i: tensor<?x?xi32>,
                                %w: tensor<?x2xf32>) {
  // expected-error @below {{ids has k = ?, which must be static (route_vjp_c2)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      : tensor<?x8xf32>, tensor<?x?xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c3(%x: tensor<5x8xf32>, %i: tensor<5x2xi32>,
                        %w: tensor<5x2xf32>, %g: tensor<6x2xf32>) {
  // expected-error @below {{logits has T = 5 but cotangent has 6 (route_vjp_c3)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %g
      : tensor<5x8xf32>, tensor<5x2xi32>, tensor<5x2xf32>, tensor<6x2xf32>
      -> tensor<5x8xf32>
  return
}

// -----

func.func @route_vjp_c3_result(%x: tensor<5x8xf32>, %i: tensor<5x2xi32>,
                               %w: tensor<5x2xf32>) {
  // expected-error @below {{logits has T = 5 but result has 6 (route_vjp_c3)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      : tensor<5x8xf32>, tensor<5x2xi32>, tensor<5x2xf32>, tensor<5x2xf32>
      -> tensor<6x8xf32>
  return
}

// -----

func.func @route_vjp_c4(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                        %w: tensor<?x2xf32>, %s: tensor<7xf32>) {
  // expected-error @below {{logits has R = 8 but expert_scale has 7 (route_vjp_c4)}}
  %0:2 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      expert_scale(%s : tensor<7xf32>)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c4_result(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                               %w: tensor<?x2xf32>) {
  // expected-error @below {{logits has R = 8 but result has 7 (route_vjp_c4)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x7xf32>
  return
}

// -----

func.func @route_vjp_c4_dynamic(%x: tensor<?x?xf32>, %i: tensor<?x2xi32>,
                                %w: tensor<?x2xf32>) {
  // expected-error @below {{logits has R = ?, which must be static (route_vjp_c4)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      : tensor<?x?xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x?xf32>
  return
}

// -----

func.func @route_vjp_c5(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                        %w: tensor<?x2xf32>) {
  // expected-error @below {{has 2 results, not 1 (route_vjp_c5)}}
  %0:2 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c5_noise(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                              %w: tensor<?x2xf32>, %s: i64) {
  // expected-error @below {{has 1 results, not 2 (route_vjp_c5)}}
  %0 = moe.route_vjp #moe.noisy_top_k<k = 2> %x, %i, %w by %w
      noise(%x : tensor<?x8xf32>) training(%s, %s, %s)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c6(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                        %w: tensor<?x2xf32>, %s: i64) {
  // expected-error @below {{training takes seed, layer and first token, for routers that draw (route_vjp_c6)}}
  %0 = moe.route_vjp #moe.top_k<k = 2> %x, %i, %w by %w training(%s, %s, %s)
      : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
      -> tensor<?x8xf32>
  return
}

// -----

func.func @route_vjp_c6_part(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>,
                             %w: tensor<?x2xf32>, %s: i64) {
  // expected-error @below {{training takes seed, layer and first token, for routers that draw (route_vjp_c6)}}
  %0 = "moe.route_vjp"(%x, %i, %w, %w, %s)
      <{operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 1, 0, 0>,
        router = #moe.exact_k<k = 2>}>
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>,
         i64) -> tensor<?x8xf32>
  return
}

// -----

//===----------------------------------------------------------------------===//
// score_vjp
//===----------------------------------------------------------------------===//

func.func @score_vjp_c1(%x: tensor<?x8xf32>, %g: tensor<?x7xf32>) {
  // expected-error @below {{logits has R = 8 but cotangent has 7 (score_vjp_c1)}}
  %0 = moe.score_vjp %x by softmax cotangent(%g : tensor<?x7xf32>)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @score_vjp_c1_tokens(%x: tensor<5x8xf32>, %g: tensor<5x8xf32>) {
  // expected-error @below {{logits has T = 5 but result has 6 (score_vjp_c1)}}
  %0 = moe.score_vjp %x by softmax cotangent(%g : tensor<5x8xf32>)
      : tensor<5x8xf32> -> tensor<6x8xf32>
  return
}

// -----

func.func @score_vjp_c1_dynamic(%x: tensor<?x?xf32>) {
  // expected-error @below {{logits has R = ?, which must be static (score_vjp_c1)}}
  %0 = moe.score_vjp %x by softmax cotangent(%x : tensor<?x?xf32>)
      : tensor<?x?xf32> -> tensor<?x?xf32>
  return
}

// -----

func.func @score_vjp_c2(%x: tensor<?x8xf32>) {
  // expected-error @below {{softcap is negative or not finite (score_vjp_c2)}}
  %0 = moe.score_vjp %x by softmax cotangent(%x : tensor<?x8xf32>)
      {softcap = -1.0 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @score_vjp_c2_infinite(%x: tensor<?x8xf32>) {
  // expected-error @below {{softcap is negative or not finite (score_vjp_c2)}}
  %0 = moe.score_vjp %x by softmax cotangent(%x : tensor<?x8xf32>)
      {softcap = 0x7FF0000000000000 : f64} : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}
