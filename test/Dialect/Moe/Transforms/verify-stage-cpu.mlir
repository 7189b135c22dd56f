// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-verify-stage=stage=cpu

func.func @stack(%rows: memref<?x8xf32>) -> vector<8xf32> {
  %c0 = arith.constant 0 : index
  %0 = memref.alloca() : memref<8xf32>
  %1 = vector.load %0[%c0] : memref<8xf32>, vector<8xf32>
  return %1 : vector<8xf32>
}

// -----

func.func @primitive(%rows: memref<?x8xf32>, %w: memref<1x4x8xf32>,
                     %init: memref<?x4xf32>) {
  // expected-error @below {{has no CPU code after stage 'cpu'}}
  moe.grouped_matmul %rows weights(%w : memref<1x4x8xf32>)
      outs(%init : memref<?x4xf32>) : memref<?x8xf32> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

func.func @alloc(%n: index) {
  // expected-error @below {{allocates in a call after stage 'cpu'}}
  %0 = memref.alloc(%n) : memref<?xf32>
  return
}

// -----

func.func @tensor_op(%n: index) {
  // expected-error @below {{still works on tensors after stage 'cpu'}}
  %0 = tensor.empty(%n) : tensor<?xf32>
  return
}
