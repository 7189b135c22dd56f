// RUN: moe-opt %s --split-input-file --verify-diagnostics \
// RUN:   --moe-to-moe --moe-to-routed --moe-to-grouped --moe-pack-weights | FileCheck %s
// RUN: moe-opt %s --split-input-file \
// RUN:   --pass-pipeline='builtin.module(moe-to-moe,moe-to-routed,moe-to-grouped{pack-weights=true bf16-dot=true panel-columns=32})' | FileCheck %s --check-prefix=DOT

// Gate and up become one argument, of pairs of bf16. The pack function takes any
// number of experts; past J = 40 its panels hold zeros. Rows are widened once,
// and the first product writes the second's wide, rounded as bf16 is.
// CHECK-LABEL: func.func @layer.pack(
// CHECK-SAME:    %[[GATE:[a-z0-9]+]]: tensor<?x40x24xbf16> {moe.dims = ["E", "", ""]
// CHECK-SAME:    %[[UP:[a-z0-9]+]]: tensor<?x40x24xbf16>
// CHECK-SAME:    %[[DOWN:[a-z0-9]+]]: tensor<?x24x40xbf16>
// CHECK-SAME:    memref<?x2x12x64x2xbf16> {moe.dims = ["E", "", "", "", ""], moe.layout = #moe.panels<columns = 64, steps = 2, sides = 2>, moe.name = "gate"}
// CHECK-SAME:    memref<?x1x20x64x2xbf16> {{.*}}moe.name = "down"
// CHECK-SAME:    moe.bounds = {E = 4 : i64}, moe.entry, moe.num_inputs = 3
// CHECK:         scf.forall (%[[E:.+]], %[[P:.+]]) in (%{{.+}}, 2)
// CHECK:           linalg.fill
// CHECK:           %[[COLUMNS:.+]] = arith.minui
// CHECK:           tensor.extract_slice {{.*}}[12, %[[COLUMNS]], 2]
// CHECK:           linalg.generic
// CHECK:             tensor.extract %[[GATE]][%[[E]],
// CHECK:           tensor.insert_slice
// CHECK:           linalg.generic
// CHECK:             tensor.extract %[[UP]][
// CHECK:           scf.forall.in_parallel
// CHECK:         bufferization.materialize_in_destination
// CHECK:         tensor.extract %[[DOWN]][
// CHECK-LABEL: func.func @layer(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x24xbf16>
// CHECK-SAME:    %[[FIRST:[a-z0-9]+]]: tensor<4x2x12x64x2xbf16>
// CHECK-SAME:    moe.layout = #moe.panels<columns = 64, steps = 2, sides = 2>, moe.name = "gate"
// CHECK-SAME:    %[[SECOND:[a-z0-9]+]]: tensor<4x1x20x64x2xbf16>
// CHECK-SAME:    moe.num_inputs = 4
// CHECK:         %[[WIDE:.+]] = scf.forall
// CHECK:           arith.extf %{{.+}} : bf16 to f32
// CHECK:         %[[H:.+]] = moe.grouped_matmul %[[WIDE]] rows
// CHECK-SAME:      weights(%[[FIRST]] : tensor<4x2x12x64x2xbf16>) panels<columns = 64, steps = 2, sides = 2>
// CHECK-SAME:      -> tensor<?x40xf32>
// CHECK:           %[[NARROW:.+]] = arith.truncf %{{.+}} : f32 to bf16
// CHECK:           %[[ROUNDED:.+]] = arith.extf %[[NARROW]]
// CHECK:           moe.yield %[[ROUNDED]]
// CHECK:         moe.grouped_matmul %[[H]] offsets
// CHECK-SAME:      weights(%[[SECOND]] : tensor<4x1x20x64x2xbf16>)

// Where the processor multiplies pairs, rows stay as they are.
// DOT-LABEL: func.func @layer(
// DOT-SAME:    %[[X:[a-z0-9]+]]: tensor<?x24xbf16>
// DOT-SAME:    tensor<4x3x12x32x2xbf16>
// DOT-NOT:     arith.extf
// DOT:         %[[H:.+]] = moe.grouped_matmul %[[X]]
// DOT-SAME:      -> tensor<?x40xbf16>
// DOT:         moe.grouped_matmul %[[H]]
func.func @layer(
    %x: tensor<?x24xbf16> {moe.name = "x"}, %ids: tensor<?x2xi32> {moe.name = "ids"},
    %gate: tensor<4x40x24xbf16> {moe.name = "gate", moe.layout = #moe.layout<orientation = out_in, pairing = separate>},
    %up: tensor<4x40x24xbf16> {moe.name = "up", moe.layout = #moe.layout<orientation = out_in, pairing = separate>},
    %down: tensor<4x24x40xbf16> {moe.name = "down", moe.layout = #moe.layout<orientation = out_in, pairing = separate>})
    -> tensor<?x24xbf16> attributes {moe.entry} {
  %rows, %offsets = moe.dispatch %x, %ids experts 4 : (tensor<?x24xbf16>, tensor<?x2xi32>) -> (tensor<?x24xbf16>, tensor<5xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<5xi32>) up(%gate, %up : tensor<4x40x24xbf16>, tensor<4x40x24xbf16>) down(%down : tensor<4x24x40xbf16>) gated activation #moe.activation<kind = silu> layout <orientation = out_in, pairing = separate> : tensor<?x24xbf16> -> tensor<?x24xbf16>
  %y = moe.combine %h, %ids experts 4 : (tensor<?x24xbf16>, tensor<?x2xi32>) -> tensor<?x24xbf16>
  return %y : tensor<?x24xbf16>
}

// -----

// Rows that are scaled as they are read have no packed form; the down weight
// has. Half numbers have one step.
// CHECK-LABEL: func.func @scaled.pack(
// CHECK-SAME:    %[[UP:[a-z0-9]+]]: tensor<?x32x24xf16>
// CHECK-SAME:    memref<?x32x24xf16> {{.*}}moe.layout = #moe.layout
// CHECK:         bufferization.materialize_in_destination %[[UP]]
// CHECK-LABEL: func.func @scaled(
// CHECK:         moe.grouped_matmul
// CHECK-SAME:      row_scale
// CHECK-SAME:      weights(%{{.+}} : tensor<4x32x24xf16>) outs
// CHECK:         moe.grouped_matmul
// CHECK-SAME:      weights(%{{.+}} : tensor<4x1x32x64x1xf16>) panels<columns = 64, steps = 1, sides = 1>
func.func @scaled(
    %x: tensor<?x24xf16> {moe.name = "x"}, %ids: tensor<?x2xi32> {moe.name = "ids"},
    %weights: tensor<?x2xf32> {moe.name = "weights"},
    %up: tensor<4x32x24xf16> {moe.name = "up", moe.layout = #moe.layout<orientation = out_in>},
    %down: tensor<4x24x32xf16> {moe.name = "down", moe.layout = #moe.layout<orientation = out_in>})
    -> tensor<?x24xf16> attributes {moe.entry} {
  %rows, %offsets = moe.dispatch %x, %ids experts 4 weights(%weights : tensor<?x2xf32>) : (tensor<?x24xf16>, tensor<?x2xi32>) -> (tensor<?x24xf16>, tensor<5xi32>)
  // expected-remark @+1 {{weights stay as they are stored: rows are scaled as they are read}}
  %h = moe.experts %rows offsets(%offsets : tensor<5xi32>) up(%up : tensor<4x32x24xf16>) down(%down : tensor<4x24x32xf16>) activation #moe.activation<kind = relu> layout <orientation = out_in> : tensor<?x24xf16> -> tensor<?x24xf16>
  %y = moe.combine %h, %ids experts 4 : (tensor<?x24xf16>, tensor<?x2xi32>) -> tensor<?x24xf16>
  return %y : tensor<?x24xf16>
}

// -----

// What reads a weight beside a product wants it as it is stored.
// CHECK-LABEL: func.func @read_twice(
// CHECK:         moe.grouped_matmul
// CHECK-SAME:      weights(%{{.+}} : tensor<1x32x24xf32>) outs
// CHECK:         moe.grouped_matmul
// CHECK-SAME:      panels
func.func @read_twice(
    %x: tensor<?x24xf32> {moe.name = "x"},
    %up: tensor<1x32x24xf32> {moe.name = "up", moe.layout = #moe.layout<orientation = out_in>},
    %down: tensor<1x24x32xf32> {moe.name = "down", moe.layout = #moe.layout<orientation = out_in>})
    -> (tensor<?x24xf32>, tensor<1x32x24xf32>) attributes {moe.entry} {
  // expected-remark @+1 {{weights stay as they are stored: something else reads a weight too}}
  %y = moe.experts %x up(%up : tensor<1x32x24xf32>) down(%down : tensor<1x24x32xf32>) activation #moe.activation<kind = relu> layout <orientation = out_in> : tensor<?x24xf32> -> tensor<?x24xf32>
  return %y, %up : tensor<?x24xf32>, tensor<1x32x24xf32>
}

// -----

// A bias that lies beside a weight is another reader of it.
// CHECK-LABEL: func.func @bias_beside(
// CHECK:         moe.grouped_matmul
// CHECK-SAME:      biases(
// CHECK:         bufferization.materialize_in_destination
func.func @bias_beside(
    %x: tensor<?x24xf32> {moe.name = "x"}, %offsets: tensor<5xi32> {moe.name = "offsets"},
    %w: tensor<4x32x25xf32> {moe.name = "w", moe.layout = #moe.layout<orientation = out_in>},
    %down: tensor<4x24x32xf32> {moe.name = "down", moe.layout = #moe.layout<orientation = out_in>})
    -> tensor<?x24xf32> attributes {moe.entry} {
  %up = tensor.extract_slice %w[0, 0, 0] [4, 32, 24] [1, 1, 1] : tensor<4x32x25xf32> to tensor<4x32x24xf32>
  %bias = tensor.extract_slice %w[0, 0, 24] [4, 32, 1] [1, 1, 1] : tensor<4x32x25xf32> to tensor<4x32xf32>
  // expected-remark @+1 {{weights stay as they are stored: something else reads a weight too}}
  %y = moe.experts %x offsets(%offsets : tensor<5xi32>) up(%up : tensor<4x32x24xf32>) bias(%bias : tensor<4x32xf32>) down(%down : tensor<4x24x32xf32>) activation #moe.activation<kind = relu> layout <orientation = out_in> : tensor<?x24xf32> -> tensor<?x24xf32>
  return %y : tensor<?x24xf32>
}

// -----

// Some of an argument's experts are no packed argument: a call could not say
// which.
// CHECK-LABEL: func.func @some_experts(
// CHECK-SAME:    tensor<8x32x24xf32>
// CHECK:         moe.grouped_matmul
// CHECK-SAME:      weights(%{{.+}} : tensor<4x32x24xf32>) outs
// CHECK:         moe.grouped_matmul
// CHECK-SAME:      panels
func.func @some_experts(
    %x: tensor<?x24xf32> {moe.name = "x"}, %offsets: tensor<5xi32> {moe.name = "offsets"},
    %all: tensor<8x32x24xf32> {moe.name = "all", moe.layout = #moe.layout<orientation = out_in>},
    %down: tensor<4x24x32xf32> {moe.name = "down", moe.layout = #moe.layout<orientation = out_in>})
    -> tensor<?x24xf32> attributes {moe.entry} {
  %up = tensor.extract_slice %all[4, 0, 0] [4, 32, 24] [1, 1, 1] : tensor<8x32x24xf32> to tensor<4x32x24xf32>
  %y = moe.experts %x offsets(%offsets : tensor<5xi32>) up(%up : tensor<4x32x24xf32>) down(%down : tensor<4x24x32xf32>) activation #moe.activation<kind = relu> layout <orientation = out_in> : tensor<?x24xf32> -> tensor<?x24xf32>
  return %y : tensor<?x24xf32>
}
