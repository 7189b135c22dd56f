// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-fuse-gating=tile-size=64 --canonicalize \
// RUN:   --convert-moe-gating-to-gpu

// No kernel draws, and none reports a token id out of range.

func.func @gshard(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: i64,
                  %out: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-error @+1 {{'moe.route' op has no GPU code: it draws, and no kernel counts tokens yet}}
  %ids, %weights = moe.route #moe.gshard<policy = sampling> %logits
      training(%s, %s, %s)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

func.func @sparse_mixer(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: i64,
                        %out: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-error @+1 {{'moe.route' op has no GPU code: it draws, and no kernel counts tokens yet}}
  %ids, %weights = moe.route #moe.sparse_mixer<> %logits training(%s, %s, %s)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

func.func @jitter(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: i64,
                  %out: memref<?x2xf32>) {
  // expected-error @+1 {{'moe.jitter' op has no GPU code}}
  %y = moe.jitter %x eps 1.0e-2 draw(%s, %s, %s)
      : tensor<?x64xf32> -> tensor<?x64xf32>
  %logits = moe.gate %y, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

func.func @hash(%t: tensor<?xi32>, %table: tensor<9x2xi32>,
                %out: memref<?x2xf32>) {
  // expected-error @+1 {{'moe.route_hash' op has no GPU code}}
  %ids, %weights = moe.route_hash %t, %table experts 8
      : tensor<?xi32>, tensor<9x2xi32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}
