// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-verify-stage=stage=buffers

// Primitives on buffers, and allocs, may stand in the buffers stage.
func.func @buffers(%rows: memref<?x8xf32>, %w: memref<1x4x8xf32>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %rows, %c0 : memref<?x8xf32>
  %init = memref.alloc(%n) : memref<?x4xf32>
  moe.grouped_matmul %rows weights(%w : memref<1x4x8xf32>)
      outs(%init : memref<?x4xf32>) : memref<?x8xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @tensor_op(%n: index) {
  // expected-error @below {{still works on tensors after stage 'buffers'}}
  %0 = tensor.empty(%n) : tensor<?xf32>
  return
}

// -----

// expected-error @below {{still works on tensors after stage 'buffers'}}
func.func @tensor_argument(%unused: tensor<?xf32>) {
  return
}

// -----

// expected-error @below {{still works on tensors after stage 'buffers'}}
func.func private @tensor_of_a_declaration(tensor<?xf32>)
