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
func.func @scalar_result(%x: f32) -> f32 attributes {moe.entry} {
  return %x : f32
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

// A size that depends on data.
// expected-error @below {{result 'result0' has a size that is not known before the call}}
func.func @size_of_data(%x: tensor<4xi32>) -> tensor<?xi32>
    attributes {moe.entry} {
  %c0 = arith.constant 0 : index
  %e = tensor.extract %x[%c0] : tensor<4xi32>
  %n = arith.index_cast %e : i32 to index
  %0 = tensor.splat %e[%n] : tensor<?xi32>
  return %0 : tensor<?xi32>
}
