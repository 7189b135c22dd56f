// RUN: moe-opt %s --split-input-file --moe-fuse-gating | FileCheck %s
// RUN: moe-opt %s --split-input-file --moe-fuse-gating=tile-size=16 \
// RUN:   | FileCheck %s --check-prefix=SIXTEEN

// The one gate left stands in the loop, and logits do not leave it.
// CHECK-LABEL: func.func @gate_and_route(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x64xf32>, %[[W:[a-z0-9]+]]: tensor<8x64xf32>
// CHECK-NOT:     moe.gate
// CHECK:         %[[R:.+]]:2 = scf.forall (%[[I:.+]]) = (0) to (%{{.+}}) step (64)
// CHECK-SAME:      -> (tensor<?x2xi32>, tensor<?x2xf32>)
// CHECK:           %[[TILE:.+]] = tensor.extract_slice %[[X]][%[[I]], 0]
// CHECK:           %[[L:.+]] = moe.gate %[[TILE]], %[[W]]
// CHECK-SAME:        (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
// CHECK:           moe.route #moe.top_k<k = 2> %[[L]]
// CHECK:           scf.forall.in_parallel
// CHECK-NOT:     moe.gate
// CHECK-NOT:     moe.route
// CHECK:         return %[[R]]#0, %[[R]]#1
// SIXTEEN-LABEL: func.func @gate_and_route(
// SIXTEEN:         step (16)
func.func @gate_and_route(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func.func @gate_score_and_route(
// CHECK-NOT:     moe.gate
// CHECK-NOT:     moe.score
// CHECK:         scf.forall
// CHECK-SAME:      -> (tensor<?x2xi32>, tensor<?x2xf32>)
// CHECK:           moe.gate
// CHECK-NEXT:      moe.score
// CHECK-NEXT:      moe.route
// CHECK-NOT:     moe.gate
// CHECK-NOT:     moe.score
func.func @gate_score_and_route(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %scores = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, score = none> %scores
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Logits and scores with other users leave the loop as results, also where the
// users, and what is computed from these, stand in front of the route.
// CHECK-LABEL: func.func @other_users(
// CHECK-NOT:     moe.gate
// CHECK:         %[[R:.+]]:4 = scf.forall
// CHECK-SAME:      -> (tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf32>, tensor<?x8xf32>)
// CHECK:           moe.gate
// CHECK:           moe.score
// CHECK:           moe.route
// CHECK-NOT:     moe.gate
// CHECK-NOT:     moe.score
// CHECK:         %[[E:.+]] = math.exp %[[S:.+#.]] :
// CHECK:         %[[D:.+]] = arith.mulf %[[E]], %[[L:.+#.]] :
// CHECK:         return %[[R]]#0, %[[R]]#1, %[[D]], %{{.+}} :
func.func @other_users(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf32>, index) {
  %c0 = arith.constant 0 : index
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %scores = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  %size = tensor.dim %scores, %c0 : tensor<?x8xf32>
  %exp = math.exp %scores : tensor<?x8xf32>
  %product = arith.mulf %exp, %logits : tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, score = none> %scores
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights, %product, %size
      : tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf32>, index
}

// -----

// A size of the logits is no reason to write them; a mask made of it stays in
// front.
// CHECK-LABEL: func.func @size_of_logits(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<?x64xf32>
// CHECK:         %[[T:.+]] = tensor.dim %[[X]]
// CHECK:         %[[M:.+]] = tensor.splat %{{.+}}[%[[T]]] : tensor<?xi1>
// CHECK:         scf.forall
// CHECK-SAME:      -> (tensor<?x2xi32>, tensor<?x2xf32>)
// CHECK:           tensor.extract_slice %[[M]]
// CHECK:           moe.route {{.*}} mask(
func.func @size_of_logits(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %b: i1)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %c0 = arith.constant 0 : index
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %size = tensor.dim %logits, %c0 : tensor<?x8xf32>
  %mask = tensor.splat %b[%size] : tensor<?xi1>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Two routes by one gate: the second reads the logits that the first writes,
// tile by tile too.
// CHECK-LABEL: func.func @two_routes(
// CHECK-NOT:     moe.gate
// CHECK:         %[[R:.+]]:3 = scf.forall
// CHECK:           moe.gate
// CHECK:           moe.route
// CHECK-NOT:     moe.gate
// CHECK:         scf.forall
// CHECK:           %[[L:.+]] = tensor.extract_slice %[[R]]#2
// CHECK:           moe.route #moe.top_k<k = 1> %[[L]]
// CHECK-NOT:     moe.gate
func.func @two_routes(%x: tensor<128x64xbf16>, %w: tensor<8x64xbf16>)
    -> (tensor<128x2xi32>, tensor<128x2xf32>, tensor<128x1xi32>,
        tensor<128x1xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<128x64xbf16>, tensor<8x64xbf16>) -> tensor<128x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<128x8xf32> -> tensor<128x2xi32>, tensor<128x2xf32>
  %id, %weight = moe.route #moe.top_k<k = 1> %logits
      : tensor<128x8xf32> -> tensor<128x1xi32>, tensor<128x1xf32>
  return %ids, %weights, %id, %weight
      : tensor<128x2xi32>, tensor<128x2xf32>, tensor<128x1xi32>,
        tensor<128x1xf32>
}

// -----

// CHECK-LABEL: func.func @no_tokens(
// CHECK:         moe.gate
// CHECK:         moe.route
func.func @no_tokens(%x: tensor<0x64xf64>, %w: tensor<8x64xf64>)
    -> (tensor<0x2xi32>, tensor<0x2xf64>) {
  %logits = moe.gate %x, %w
      : (tensor<0x64xf64>, tensor<8x64xf64>) -> tensor<0x8xf64>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<0x8xf64> -> tensor<0x2xi32>, tensor<0x2xf64>
  return %ids, %weights : tensor<0x2xi32>, tensor<0x2xf64>
}

// -----

// Draws are those of the token, whatever tile it is in.
// CHECK-LABEL: func.func @training(
// CHECK-SAME:    %[[S:[a-z0-9]+]]: i64, %[[L:[a-z0-9]+]]: i64, %[[F:[a-z0-9]+]]: i64
// CHECK:         scf.forall (%[[T:.+]]) =
// CHECK:           moe.gate
// CHECK:           %[[OWN:.+]] = arith.index_cast %[[T]] : index to i64
// CHECK:           %[[FIRST:.+]] = arith.addi %[[F]], %[[OWN]] : i64
// CHECK:           moe.route #moe.exact_k<k = 2> %{{.+}} training(%[[S]], %[[L]], %[[FIRST]])
func.func @training(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %seed: i64,
                    %layer: i64, %first: i64)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.exact_k<k = 2> %logits
      training(%seed, %layer, %first)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// Exact marginals in one pass with their gate.
// CHECK-LABEL: func.func @marginals(
// CHECK-NOT:     moe.gate
// CHECK:         scf.forall
// CHECK:           %[[G:.+]] = moe.gate
// CHECK:           moe.subset_marginals %[[G]] size 2 to 2
// CHECK-NOT:     moe.gate
func.func @marginals(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> tensor<?x8xf32> {
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %m = moe.subset_marginals %logits size 2 to 2
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return %m : tensor<?x8xf32>
}
