// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-lower-routing
// RUN: not moe-opt %s --split-input-file --moe-lower-routing=lanes=1 2>&1 \
// RUN:   | FileCheck %s --check-prefix=LANES
// RUN: not moe-opt %s --split-input-file --moe-lower-routing=lanes=12 2>&1 \
// RUN:   | FileCheck %s --check-prefix=LANES

// LANES: error: moe-lower-routing needs a power of two of lanes, at least 2

func.func @no_body(%logits: tensor<?x8xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  // expected-error @below {{router #moe_test.no_body<k = 2> has no token body to generate code from}}
  %ids, %weights = moe.route #moe_test.no_body<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

func.func @read(%logits: tensor<?x8xf32>)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  // expected-error @below {{reads or writes a row at an index that depends on the token; a body on lanes cannot}}
  %ids, %weights = moe.route #moe_test.rule_breaker<rule = "read"> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}

// -----

func.func @write(%logits: tensor<?x8xf32>)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  // expected-error @below {{reads or writes a row at an index that depends on the token; a body on lanes cannot}}
  %ids, %weights = moe.route #moe_test.rule_breaker<rule = "write"> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}

// -----

func.func @shared(%logits: tensor<?x8xf32>)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  // expected-error @below {{writes to a tensor that all tokens share}}
  %ids, %weights = moe.route #moe_test.rule_breaker<rule = "shared"> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}

// -----

func.func @bound(%logits: tensor<?x8xf32>)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  // expected-error @below {{has a bound that depends on the token}}
  %ids, %weights = moe.route #moe_test.rule_breaker<rule = "bound"> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}

// -----

func.func @branch(%logits: tensor<?x8xf32>)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  // expected-error @below {{has an else part that does something; on lanes only what few tokens need may stand in a branch}}
  %ids, %weights = moe.route #moe_test.rule_breaker<rule = "branch"> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}

// -----

func.func @memory(%logits: tensor<?x8xf32>)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  // expected-error @below {{has no form on lanes; a token body or epilogue is made of arith, math, scf.for and row accesses}}
  %ids, %weights = moe.route #moe_test.rule_breaker<rule = "memory"> %logits
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}
