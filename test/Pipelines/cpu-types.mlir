// Every storage type, and numbers of tokens known when compiling, none among
// them, take both roads.

// RUN: moe-opt %s --split-input-file --moe-cpu | FileCheck %s
// RUN: moe-opt %s --split-input-file --moe-oracle | FileCheck %s

// CHECK: llvm.func @moe_dynamic_bf16(
func.func @dynamic_bf16(%x: tensor<?x64xbf16>, %router: tensor<8x64xbf16>,
    %up: tensor<8x256x64xbf16>, %down: tensor<8x64x128xbf16>)
    -> tensor<?x64xbf16> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x64xbf16>, tensor<8x64xbf16>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xbf16>, tensor<?x2xi32>)
      -> (tensor<?x64xbf16>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xbf16>) down(%down : tensor<8x64x128xbf16>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x64xbf16> -> tensor<?x64xbf16>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x64xbf16>, tensor<?x2xi32>) -> tensor<?x64xbf16>
  return %y : tensor<?x64xbf16>
}

// -----

// CHECK: llvm.func @moe_dynamic_f16(
func.func @dynamic_f16(%x: tensor<?x64xf16>, %router: tensor<8x64xf16>,
    %up: tensor<8x256x64xf16>, %down: tensor<8x64x128xf16>)
    -> tensor<?x64xf16> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x64xf16>, tensor<8x64xf16>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf16>, tensor<?x2xi32>)
      -> (tensor<?x64xf16>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xf16>) down(%down : tensor<8x64x128xf16>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x64xf16> -> tensor<?x64xf16>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x64xf16>, tensor<?x2xi32>) -> tensor<?x64xf16>
  return %y : tensor<?x64xf16>
}

// -----

// CHECK: llvm.func @moe_dynamic_f64(
func.func @dynamic_f64(%x: tensor<?x64xf64>, %router: tensor<8x64xf64>,
    %up: tensor<8x256x64xf64>, %down: tensor<8x64x128xf64>)
    -> tensor<?x64xf64> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x64xf64>, tensor<8x64xf64>) -> tensor<?x8xf64>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf64> -> tensor<?x2xi32>, tensor<?x2xf64>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf64>, tensor<?x2xi32>)
      -> (tensor<?x64xf64>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xf64>) down(%down : tensor<8x64x128xf64>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x64xf64> -> tensor<?x64xf64>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x2xf64>)
      : (tensor<?x64xf64>, tensor<?x2xi32>) -> tensor<?x64xf64>
  return %y : tensor<?x64xf64>
}

// -----

// CHECK: llvm.func @moe_no_tokens(
func.func @no_tokens(%x: tensor<0x64xf32>, %router: tensor<8x64xf32>,
    %up: tensor<8x256x64xf32>, %down: tensor<8x64x128xf32>)
    -> tensor<0x64xf32> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<0x64xf32>, tensor<8x64xf32>) -> tensor<0x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<0x8xf32> -> tensor<0x2xi32>, tensor<0x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<0x64xf32>, tensor<0x2xi32>)
      -> (tensor<0x64xf32>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xf32>) down(%down : tensor<8x64x128xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<0x64xf32> -> tensor<0x64xf32>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<0x2xf32>)
      : (tensor<0x64xf32>, tensor<0x2xi32>) -> tensor<0x64xf32>
  return %y : tensor<0x64xf32>
}

// -----

// CHECK: llvm.func @moe_static_bf16(
func.func @static_bf16(%x: tensor<16x64xbf16>, %router: tensor<8x64xbf16>,
    %up: tensor<8x256x64xbf16>, %down: tensor<8x64x128xbf16>)
    -> tensor<16x64xbf16> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<16x64xbf16>, tensor<8x64xbf16>) -> tensor<16x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<16x8xf32> -> tensor<16x2xi32>, tensor<16x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<16x64xbf16>, tensor<16x2xi32>)
      -> (tensor<32x64xbf16>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xbf16>) down(%down : tensor<8x64x128xbf16>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<32x64xbf16> -> tensor<32x64xbf16>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<16x2xf32>)
      : (tensor<32x64xbf16>, tensor<16x2xi32>) -> tensor<16x64xbf16>
  return %y : tensor<16x64xbf16>
}

// -----

// CHECK: llvm.func @moe_one_token(
func.func @one_token(%x: tensor<1x64xf64>, %router: tensor<8x64xf64>,
    %up: tensor<8x256x64xf64>, %down: tensor<8x64x128xf64>)
    -> tensor<1x64xf64> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<1x64xf64>, tensor<8x64xf64>) -> tensor<1x8xf64>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<1x8xf64> -> tensor<1x2xi32>, tensor<1x2xf64>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<1x64xf64>, tensor<1x2xi32>)
      -> (tensor<2x64xf64>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xf64>) down(%down : tensor<8x64x128xf64>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<2x64xf64> -> tensor<2x64xf64>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<1x2xf64>)
      : (tensor<2x64xf64>, tensor<1x2xi32>) -> tensor<1x64xf64>
  return %y : tensor<1x64xf64>
}

// -----

// The error function of f64 has no polynomial and is taken lane by lane from the
// math library.
// CHECK: llvm.call @erf
// CHECK: llvm.func @moe_gelu_f64(
func.func @gelu_f64(%x: tensor<?x64xf64>, %router: tensor<8x64xf64>,
    %up: tensor<8x128x64xf64>, %down: tensor<8x64x128xf64>)
    -> tensor<?x64xf64> attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x64xf64>, tensor<8x64xf64>) -> tensor<?x8xf64>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf64> -> tensor<?x2xi32>, tensor<?x2xf64>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf64>, tensor<?x2xi32>)
      -> (tensor<?x64xf64>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x128x64xf64>) down(%down : tensor<8x64x128xf64>)
      activation #moe.activation<kind = gelu>
      layout <orientation = out_in> : tensor<?x64xf64> -> tensor<?x64xf64>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x2xf64>)
      : (tensor<?x64xf64>, tensor<?x2xi32>) -> tensor<?x64xf64>
  return %y : tensor<?x64xf64>
}
