// RUN: moe-opt %s --split-input-file --moe-lower-to-grouped | FileCheck %s

// A dispatch that feeds experts copies no row: its rows are an operand of the
// first product. Dispatch and combine share one grouping, with the weights.
// CHECK-LABEL: func.func @layer(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x64xf32>, %[[IDS:[a-z0-9]+]]: tensor<?x2xi32>, %[[W:[a-z0-9]+]]: tensor<?x2xf32>, %[[UP:[a-z0-9]+]]: tensor<8x256x64xf32>
// CHECK-NOT:     linalg
// CHECK:         %[[G:.+]]:5 = moe.group ins(%[[IDS]], %[[W]] :
// CHECK-NOT:     linalg
// CHECK-DAG:     %[[GATE:.+]] = tensor.extract_slice %[[UP]][0, 0, 0] [8, 128, 64] [1, 1, 1]
// CHECK-DAG:     %[[UPV:.+]] = tensor.extract_slice %[[UP]][0, 128, 0] [8, 128, 64] [1, 1, 1]
// CHECK:         %[[H:.+]] = moe.grouped_matmul %[[X]] rows(%[[G]]#1 : {{.+}}) offsets(%[[G]]#0 : {{.+}}) weights(%[[GATE]], %[[UPV]] :
// CHECK-NOT:       in_out
// CHECK-NEXT:    ^bb0(%[[A:.+]]: f32, %[[B:.+]]: f32):
// CHECK:           math.exp
// CHECK:           moe.yield
// CHECK:         %[[O:.+]] = moe.grouped_matmul %[[H]] offsets(%[[G]]#0
// CHECK-NOT:     moe.group ins
// CHECK:         %[[Y:.+]] = moe.combine_slots %[[O]], %[[G]]#2, %[[G]]#3 weight(%[[G]]#4
// CHECK:         return %[[Y]]
func.func @layer(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                 %w: tensor<?x2xf32>, %up: tensor<8x256x64xf32>,
                 %down: tensor<8x64x128xf32>) -> tensor<?x64xf32> {
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xf32>) down(%down : tensor<8x64x128xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x64xf32> -> tensor<?x64xf32>
  %y = moe.combine %h, %ids experts 8 weights(%w : tensor<?x2xf32>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// Rows that something else reads are materialised, for that alone.
// CHECK-LABEL: func.func @other_user(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x64xf32>
// CHECK:         %[[G:.+]]:4 = moe.group
// CHECK:         %[[ROWS:.+]] = linalg.generic {{.*}} ins(%[[G]]#1 :
// CHECK:           tensor.extract %[[X]]
// CHECK:         moe.grouped_matmul %[[X]] rows(%[[G]]#1
// CHECK:         return %[[ROWS]]
func.func @other_user(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                      %up: tensor<8x128x64xf32>, %down: tensor<8x64x128xf32>)
    -> (tensor<?x64xf32>, tensor<?x64xf32>) {
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x128x64xf32>) down(%down : tensor<8x64x128xf32>)
      activation #moe.activation<kind = relu>
      layout <orientation = out_in> : tensor<?x64xf32> -> tensor<?x64xf32>
  return %rows, %h : tensor<?x64xf32>, tensor<?x64xf32>
}

// -----

// A size of the rows, or no use at all, is no reason to copy them.
// CHECK-LABEL: func.func @size_of_rows(
// CHECK-NOT:     linalg
// CHECK:         %[[G:.+]]:4 = moe.group
// CHECK-NOT:     linalg
// CHECK:         %[[N:.+]] = tensor.dim %[[G]]#1
// CHECK:         return %[[G]]#0, %[[N]]
func.func @size_of_rows(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>)
    -> (tensor<9xi32>, index) {
  %c0 = arith.constant 0 : index
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  %n = tensor.dim %rows, %c0 : tensor<?x64xf32>
  return %offsets, %n : tensor<9xi32>, index
}

// -----

// Weights of a dispatch scale its rows in the load; those of the combine are
// others and need their own grouping.
// CHECK-LABEL: func.func @weights_on_input(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<16x64xbf16>, %[[IDS:[a-z0-9]+]]: tensor<16x2xi32>, %[[W:[a-z0-9]+]]: tensor<16x2xf32>
// CHECK:         %[[G:.+]]:5 = moe.group ins(%[[IDS]], %[[W]] :
// CHECK:         moe.grouped_matmul %[[X]] rows(%[[G]]#1 : tensor<32xi32>) row_scale(%[[G]]#4 : tensor<32xf32>) offsets(%[[G]]#0
// CHECK-NEXT:    ^bb0(%{{.+}}: f32):
// CHECK-NOT:     moe.group ins
// CHECK:         moe.combine_slots %{{.+}}, %[[G]]#2, %[[G]]#3 outs(
func.func @weights_on_input(%x: tensor<16x64xbf16>, %ids: tensor<16x2xi32>,
                            %w: tensor<16x2xf32>, %up: tensor<8x128x64xbf16>,
                            %down: tensor<8x64x128xbf16>)
    -> tensor<16x64xbf16> {
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      weights(%w : tensor<16x2xf32>)
      : (tensor<16x64xbf16>, tensor<16x2xi32>)
      -> (tensor<32x64xbf16>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x128x64xbf16>) down(%down : tensor<8x64x128xbf16>)
      activation #moe.activation<kind = relu>
      layout <orientation = out_in> : tensor<32x64xbf16> -> tensor<32x64xbf16>
  %y = moe.combine %h, %ids experts 8
      : (tensor<32x64xbf16>, tensor<16x2xi32>) -> tensor<16x64xbf16>
  return %y : tensor<16x64xbf16>
}

// -----

// Every layout is a view of the weights: interleaved with a stride, the order
// by which of the two views is first, a folded axis as a reshape.
// CHECK-LABEL: func.func @interleaved(
// CHECK-SAME:    %{{[a-z0-9]+}}: tensor<?x64xf32>, %{{[a-z0-9]+}}: tensor<3xi32>, %[[UP:[a-z0-9]+]]: tensor<2x64x256xf32>
// CHECK-DAG:     %[[FIRST:.+]] = tensor.extract_slice %[[UP]][0, 0, 0] [2, 64, 128] [1, 1, 2]
// CHECK-DAG:     %[[SECOND:.+]] = tensor.extract_slice %[[UP]][0, 0, 1] [2, 64, 128] [1, 1, 2]
// CHECK:         moe.grouped_matmul {{.*}} weights(%[[SECOND]], %[[FIRST]] : {{.*}} in_out
// CHECK:         moe.grouped_matmul {{.*}} in_out
func.func @interleaved(%rows: tensor<?x64xf32>, %offsets: tensor<3xi32>,
                       %up: tensor<2x64x256xf32>, %down: tensor<2x128x64xf32>)
    -> tensor<?x64xf32> {
  %h = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%up : tensor<2x64x256xf32>) down(%down : tensor<2x128x64xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = in_out, down = in_out, pairing = interleaved,
              order = up_gate>
      : tensor<?x64xf32> -> tensor<?x64xf32>
  return %h : tensor<?x64xf32>
}

// -----

// CHECK-LABEL: func.func @folded(
// CHECK-SAME:    %{{[a-z0-9]+}}: tensor<?x64xf32>, %{{[a-z0-9]+}}: tensor<3xi32>, %[[UP:[a-z0-9]+]]: tensor<512x64xf32>
// CHECK:         tensor.expand_shape %[[UP]] {{\[\[}}0, 1], [2]] output_shape [2, 256, 64]
// CHECK:         tensor.expand_shape %{{.+}} {{\[\[}}0, 1], [2]] output_shape [2, 64, 128]
func.func @folded(%rows: tensor<?x64xf32>, %offsets: tensor<3xi32>,
                  %up: tensor<512x64xf32>, %down: tensor<128x128xf32>)
    -> tensor<?x64xf32> {
  %h = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%up : tensor<512x64xf32>) down(%down : tensor<128x128xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in, expert_axis = folded>
      : tensor<?x64xf32> -> tensor<?x64xf32>
  return %h : tensor<?x64xf32>
}

// -----

// Shards alone are no view: one relayout, of up weight and bias.
// CHECK-LABEL: func.func @shards(
// CHECK:         %[[UP:.+]] = moe.relayout <up>
// CHECK:         %[[BIAS:.+]] = moe.relayout <up_bias>
// CHECK-NOT:     moe.experts
// CHECK-DAG:     tensor.extract_slice %[[UP]][0, 128, 0]
// CHECK-DAG:     tensor.extract_slice %[[BIAS]][0, 128]
// CHECK:         moe.grouped_matmul {{.*}} biases(
// CHECK-NEXT:    ^bb0(%[[A:.+]]: f32, %[[B:.+]]: f32, %[[C:.+]]: f32, %[[D:.+]]: f32):
// CHECK-DAG:       arith.addf %[[A]], %[[C]] : f32
// CHECK-DAG:       arith.addf %[[B]], %[[D]] : f32
func.func @shards(%rows: tensor<?x64xf32>, %offsets: tensor<3xi32>,
                  %up: tensor<2x256x64xf32>, %bias: tensor<2x256xf32>,
                  %down: tensor<2x64x128xf32>) -> tensor<?x64xf32> {
  %h = moe.experts %rows offsets(%offsets : tensor<3xi32>)
      up(%up : tensor<2x256x64xf32>) bias(%bias : tensor<2x256xf32>)
      down(%down : tensor<2x64x128xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in, shards = 2>
      : tensor<?x64xf32> -> tensor<?x64xf32>
  return %h : tensor<?x64xf32>
}

// -----

// A gate is a product with one expert; f64 stays f64 in accumulator and bias.
// CHECK-LABEL: func.func @gate(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<0x64xf64>
// CHECK:         moe.grouped_matmul %[[X]] weights(%{{.+}} : tensor<1x8x64xf64>) biases(%{{.+}} : tensor<1x8xf64>)
// CHECK-NEXT:    ^bb0(%[[A:.+]]: f64, %[[B:.+]]: f64):
// CHECK-NEXT:      %[[S:.+]] = arith.addf %[[A]], %[[B]] : f64
// CHECK-NEXT:      moe.yield %[[S]] : f64
func.func @gate(%x: tensor<0x64xf64>, %w: tensor<8x64xf64>,
                %b: tensor<8xf64>) -> tensor<0x8xf64> {
  %0 = moe.gate %x, %w bias(%b : tensor<8xf64>)
      : (tensor<0x64xf64>, tensor<8x64xf64>) -> tensor<0x8xf64>
  return %0 : tensor<0x8xf64>
}

// -----

// Identity experts have no rows: the combine weighs their input.
// CHECK-LABEL: func.func @identity(
// CHECK-SAME:    %{{[a-z0-9]+}}: tensor<?x64xf32>, %[[IDS:[a-z0-9]+]]: tensor<?x2xi32>, %[[W:[a-z0-9]+]]: tensor<?x2xf32>, %[[X:[a-z0-9]+]]: tensor<?x64xf32>
// CHECK:         %[[IW:.+]] = linalg.generic {{.*}} ins(%[[IDS]], %[[W]] :
// CHECK:           arith.cmpi sge
// CHECK:         moe.combine_slots {{.*}} identity(%[[IW]], %[[X]] :
func.func @identity(%rows: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                    %w: tensor<?x2xf32>, %x: tensor<?x64xf32>)
    -> tensor<?x64xf32> {
  %y = moe.combine %rows, %ids experts 8 weights(%w : tensor<?x2xf32>)
      identity(%x : tensor<?x64xf32>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// Experts chose: the number of tokens is the combine's own.
// CHECK-LABEL: func.func @chosen_by_expert(
// CHECK:         moe.group {{.*}} chosen_by <expert>
// CHECK:         moe.combine_slots
func.func @chosen_by_expert(%rows: tensor<?x64xf32>, %ids: tensor<8x?xi32>,
                            %w: tensor<8x?xf32>, %tokens: index)
    -> tensor<?x64xf32> {
  %y = moe.combine %rows, %ids experts 8 chosen_by <expert>
      weights(%w : tensor<8x?xf32>) num_tokens(%tokens)
      : (tensor<?x64xf32>, tensor<8x?xi32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// Selection is another pass's.
// CHECK-LABEL: func.func @no_change(
// CHECK-NEXT:    moe.route
// CHECK-NEXT:    moe.score
// CHECK-NEXT:    return
func.func @no_change(%logits: tensor<?x8xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %s = moe.score %logits by sigmoid : tensor<?x8xf32> -> tensor<?x8xf32>
  return %ids, %weights, %s
      : tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf32>
}

// -----

// Inside a loop over tiles of tokens: the weight goes into panels of 16 rows in
// front of the loop, and a tile of up to 6 rows and 4 panels sums in registers,
// in the order of h. The last panel's columns past the 40th are not written.
// CHECK-LABEL: func.func @tiled_gate(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x33xf32>, %[[W:[a-z0-9]+]]: tensor<40x33xf32>
// CHECK:         %[[PANELS:.+]] = scf.forall {{.*}} -> (tensor<3x33x16xf32>)
// CHECK:           vector.transfer_read %[[W]]
// CHECK:           vector.shuffle
// CHECK:           tensor.parallel_insert_slice
// CHECK:         scf.forall
// CHECK:           scf.for %[[H:[a-z0-9]+]] = {{.*}} -> (vector<16xf32>,
// CHECK:             vector.transfer_read %[[PANELS]][%{{.+}}, %[[H]], %{{.+}}]
// CHECK-COUNT-18:    vector.fma
// CHECK:             scf.yield
// CHECK:           vector.transfer_write %{{.+}} {in_bounds = [true]} : vector<16xf32>, tensor<64x40xf32>
// CHECK:           vector.transfer_write %{{[^{]+}} : vector<16xf32>, tensor<64x40xf32>
// CHECK-NOT:     moe.grouped_matmul
func.func @tiled_gate(%x: tensor<?x33xf32>, %w: tensor<40x33xf32>,
                      %out: tensor<?x40xf32>, %tiles: index)
    -> tensor<?x40xf32> {
  %r = scf.forall (%i) in (%tiles) shared_outs(%o = %out)
      -> (tensor<?x40xf32>) {
    %first = affine.apply affine_map<(d0) -> (d0 * 64)>(%i)
    %tile = tensor.extract_slice %x[%first, 0] [64, 33] [1, 1]
        : tensor<?x33xf32> to tensor<64x33xf32>
    %y = moe.gate %tile, %w
        : (tensor<64x33xf32>, tensor<40x33xf32>) -> tensor<64x40xf32>
    scf.forall.in_parallel {
      tensor.parallel_insert_slice %y into %o[%first, 0] [64, 40] [1, 1]
          : tensor<64x40xf32> into tensor<?x40xf32>
    }
  }
  return %r : tensor<?x40xf32>
}
