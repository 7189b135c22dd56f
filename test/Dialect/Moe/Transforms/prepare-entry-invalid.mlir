// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-prepare-entry

// expected-error @below {{entry argument 0 is 'index'; an entry takes and gives ranked tensors of numbers}}
func.func @scalar(%n: index) attributes {moe.entry} {
  return
}

// -----

// expected-error @below {{entry argument 1 is 'tensor<*xf32>'}}
func.func @unranked(%x: tensor<4xf32>, %y: tensor<*xf32>)
    attributes {moe.entry} {
  return
}

// -----

// expected-error @below {{entry argument 0 is 'tensor<4xindex>'}}
func.func @no_number(%x: tensor<4xindex>) attributes {moe.entry} {
  return
}

// -----

// expected-error @below {{entry result 0 is 'f32'}}
func.func @scalar_result(%x: tensor<f32>) -> f32 attributes {moe.entry} {
  %0 = tensor.extract %x[] : tensor<f32>
  return %0 : f32
}

// -----

// expected-error @below {{entry needs a body of one block}}
func.func private @declaration(tensor<4xf32>) attributes {moe.entry}

// -----

// expected-error @below {{entry needs a body of one block}}
func.func @branches(%x: tensor<4xf32>) -> tensor<4xf32>
    attributes {moe.entry} {
  cf.br ^bb1
^bb1:
  return %x : tensor<4xf32>
}

// -----

// A size that is known only when the work is done.
// expected-error @below {{result 'result0' has a size that is not known before the call}}
func.func @size_of_work(%x: tensor<4xf32>, %w: tensor<?xf32>, %c: tensor<i1>)
    -> tensor<?xf32> attributes {moe.entry} {
  %bit = tensor.extract %c[] : tensor<i1>
  %c1 = arith.constant 1 : index
  %c0 = arith.constant 0 : index
  %size = tensor.dim %w, %c0 : tensor<?xf32>
  %n = scf.if %bit -> index {
    scf.yield %size : index
  } else {
    scf.yield %c1 : index
  }
  %e = tensor.extract %x[%c0] : tensor<4xf32>
  %0 = tensor.splat %e[%n] : tensor<?xf32>
  return %0 : tensor<?xf32>
}
