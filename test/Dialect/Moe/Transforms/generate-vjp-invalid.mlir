// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-generate-vjp

// expected-error @below {{moe-generate-vjp: choose one of the 2 functions by the option 'function'}}
module {
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
  func.func @g(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
}

// -----

// expected-error @below {{moe-generate-vjp: choose one of the 2 functions by the option 'function'}}
module {
  func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {moe.entry} {
    return %x : tensor<4xf32>
  }
  func.func @g(%x: tensor<4xf32>) -> tensor<4xf32> attributes {moe.entry} {
    return %x : tensor<4xf32>
  }
}

// -----

// expected-error @below {{moe-generate-vjp: choose one of the 0 functions by the option 'function'}}
module {
}

// -----

// expected-error @below {{moe-generate-vjp: @f has no argument to differentiate by}}
func.func @f(%ids: tensor<4xi32>) -> tensor<4xi32> {
  return %ids : tensor<4xi32>
}

// -----

// expected-error @below {{moe-generate-vjp: there is a function @f_fwd already}}
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {moe.entry} {
  return %x : tensor<4xf32>
}
func.func private @f_fwd(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error @below {{moe-generate-vjp: there is a function @f_bwd already}}
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {moe.entry} {
  return %x : tensor<4xf32>
}
func.func private @f_bwd(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error @below {{moe-generate-vjp: @f needs a body of one block, before moe-prepare-entry}}
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  cf.br ^bb1
^bb1:
  return %x : tensor<4xf32>
}

// -----

// expected-error @below {{moe-generate-vjp: @f needs a body of one block, before moe-prepare-entry}}
func.func private @f(tensor<4xf32>) -> tensor<4xf32>

// -----

// expected-error @below {{moe-generate-vjp: @f needs a body of one block, before moe-prepare-entry}}
func.func @f(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32>
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  return %x : tensor<4xf32>
}

// -----

// An op in the way.
func.func @f(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @below {{'math.atan' op has no backward, and stands between a result and what it is differentiated by}}
  %0 = math.atan %x : tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// -----

// An op whose body the rule does not know.
func.func @f(%x: tensor<5x7xf32>) -> tensor<5xf32> {
  %zero = arith.constant dense<0.0> : tensor<5xf32>
  // expected-error @below {{'linalg.reduce' op has no backward: its body is neither a value for each element nor a sum}}
  %s = linalg.reduce ins(%x : tensor<5x7xf32>) outs(%zero : tensor<5xf32>)
      dimensions = [1]
      (%a: f32, %b: f32) {
        %0 = arith.maximumf %a, %b : f32
        linalg.yield %0 : f32
      }
  return %s : tensor<5xf32>
}

// -----

func.func @f(%x: tensor<?x8xf32>) -> tensor<?x2xf32> {
  // expected-error @below {{'moe.route' op has a router without a backward: #moe_test.no_body<k = 2>}}
  %ids, %weights = moe.route #moe_test.no_body<k = 2> %x
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %weights : tensor<?x2xf32>
}

// -----

// What experts keep is for a backward, and has none itself.
func.func @f(%x: tensor<?x4xf32>, %up: tensor<1x6x4xf32>,
             %down: tensor<1x4x6xf32>) -> tensor<?x6xf32> {
  // expected-error @below {{'moe.experts' op has no backward through results that are kept}}
  %0:2 = moe.experts %x up(%up : tensor<1x6x4xf32>)
      down(%down : tensor<1x4x6xf32>)
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32> keeping tensor<?x6xf32>
  return %0#1 : tensor<?x6xf32>
}
