// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-fuse-gating=tile-size=64 --canonicalize \
// RUN:   --convert-moe-gating-to-gpu

// The first op that no kernel covers is named, before anything is changed.

func.func @layer(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                 %out: memref<?x64xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // expected-error @+1 {{'moe.dispatch' op has no GPU code}}
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  %y = moe.combine %rows, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x64xf32>
  bufferization.materialize_in_destination %y in restrict writable %out
      : (tensor<?x64xf32>, memref<?x64xf32>) -> ()
  return
}

// -----

func.func @indices(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                   %given: tensor<?x2xi32>, %out: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-error @+1 {{'moe.route' op has no GPU code: a given index out of range could not be reported}}
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      indices(%given : tensor<?x2xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

func.func @no_gate(%logits: tensor<?x8xf32>, %out: memref<?x2xf32>) {
  // expected-remark @+2 {{not fused with a gate: its logits do not come from a gate or score}}
  // expected-error @+1 {{'moe.route' op has no GPU code: its logits do not come from a gate beside it}}
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

func.func @returned(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> tensor<?x2xf32> {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-error @+1 {{'moe.route' op has no GPU code: its routing is not written to a memref alone}}
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // expected-note @+1 {{used here; a function marked moe.entry returns nothing after stage 'moe'}}
  return %weights : tensor<?x2xf32>
}

// -----

func.func @narrow(%x: tensor<?x64xf8E4M3FN>, %w: tensor<8x64xf32>,
                  %out: memref<?x2xf32>) {
  // expected-error @+1 {{'moe.gate' op has no GPU code: 'f8E4M3FN' is none of bf16, f16, f32 and f64}}
  %logits = moe.gate %x, %w
      : (tensor<?x64xf8E4M3FN>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

func.func @score(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>,
                 %out: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-error @+1 {{'moe.score' op has no GPU code}}
  %scores = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, score = none> %scores
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}

// -----

func.func @draws(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %s: i64,
                 %out: memref<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  // expected-error @+1 {{'moe.route' op has no GPU code: it draws, and no kernel counts tokens yet}}
  %ids, %weights = moe.route #moe.exact_k<k = 2> %logits training(%s, %s, %s)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  bufferization.materialize_in_destination %weights in restrict writable %out
      : (tensor<?x2xf32>, memref<?x2xf32>) -> ()
  return
}
