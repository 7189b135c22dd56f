// RUN: moe-opt %s --convert-moe-to-linalg --split-input-file --verify-diagnostics

func.func @buffers(%x: memref<4x8xf32>, %v: memref<4x2xf32>,
                   %i: memref<4x2xi32>) {
  // expected-error @below {{works on buffers, of type memref<4x8xf32>, and convert-moe-to-linalg on tensors}}
  moe.top_k ins(%x : memref<4x8xf32>)
      outs(%v, %i : memref<4x2xf32>, memref<4x2xi32>)
  return
}

// -----

func.func @wide(%x: tensor<?x8xf128>) -> tensor<?x8xf128> {
  // expected-error @below {{holds f128, which f64 sums would round}}
  %s = moe.score %x by softmax : tensor<?x8xf128> -> tensor<?x8xf128>
  return %s : tensor<?x8xf128>
}

// -----

func.func @encoding(%x: tensor<?x8xf32, "rows">) -> tensor<?x8xf32> {
  // expected-error @below {{works on a tensor with an encoding}}
  %s = moe.score %x by softmax
      : tensor<?x8xf32, "rows"> -> tensor<?x8xf32>
  return %s : tensor<?x8xf32>
}
