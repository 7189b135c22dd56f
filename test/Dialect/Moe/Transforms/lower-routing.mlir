// RUN: moe-opt %s --split-input-file --moe-lower-routing | FileCheck %s
// RUN: moe-opt %s --split-input-file --moe-lower-routing=lanes=8 \
// RUN:   | FileCheck %s --check-prefix=EIGHT

// Sixteen tokens a step, one a lane; the rows that are loaded are transposed by
// shuffles, lanes past the last token repeat it, and no branch is left.
// CHECK-LABEL: func.func @route(
// CHECK-SAME:    %[[L:[a-z0-9]+]]: tensor<?x8xf32>
// CHECK-NOT:     moe.route
// CHECK:         scf.for %[[T:.+]] = %{{.+}} to %{{.+}} step %{{.+}} iter_args
// CHECK-SAME:      -> (tensor<?x2xi32>, tensor<?x2xf32>)
// CHECK:           %[[OWN:.+]] = arith.addi %[[T]], %{{.+}} : index
// CHECK-NEXT:      %[[TOKEN:.+]] = arith.minui %[[OWN]], %[[LAST:.+]] : index
// CHECK:           vector.transfer_read %[[L]][%[[TOKEN]], %{{.+}}], %{{.+}} : tensor<?x8xf32>, vector<16xf32>
// CHECK:           vector.shuffle %{{.+}}, %{{.+}} [0, 16, 1, 17, 2, 18, {{.*}} : vector<16xf32>, vector<16xf32>
// CHECK-NOT:       scf.if
// CHECK:           scf.for
// CHECK:             vector.transfer_read {{.*}} vector<16xf32>
// CHECK:             arith.cmpi sgt, {{.*}} : vector<16xi32>
// CHECK:             arith.select {{.*}} : vector<16xi1>, vector<16xi32>
// CHECK:           math.exp {{.*}} : vector<16xf32>
// CHECK-NOT:       scf.if
// CHECK:           vector.shuffle %{{.+}}, %{{.+}} [7, 15] : vector<16xi32>, vector<16xi32>
// CHECK:           vector.transfer_write %{{.+}}, %{{.+}}[%[[TOKEN]], %{{.+}}] {in_bounds = [true]} : vector<2xi32>, tensor<?x2xi32>
// EIGHT-LABEL: func.func @route(
// EIGHT:         vector.shuffle %{{.+}}, %{{.+}} [0, 8, 1, 9, 2, 10, 3, 11]
// EIGHT-NOT:     vector<16
// EIGHT:         return
func.func @route(%logits: tensor<?x8xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// A masked token's slots are emptied at the end, by selects.
// CHECK-LABEL: func.func @mask(
// CHECK-SAME:    %[[M:[a-z0-9]+]]: tensor<?xi1>
// CHECK:         scf.for
// CHECK:           %[[READ:.+]] = vector.transfer_read %[[M]]
// CHECK-SAME:        vector<16xi1>
// CHECK:           %[[OF_LAST:.+]] = vector.broadcast %{{.+}} : i1 to vector<16xi1>
// CHECK:           %[[F:.+]] = arith.select %{{.+}}, %[[READ]], %[[OF_LAST]] : vector<16xi1>, vector<16xi1>
// CHECK:           arith.constant -1 : i32
// CHECK:           arith.select %[[F]], %{{.+}} : vector<16xi1>, vector<16xi32>
// CHECK:           arith.select %[[F]], %{{.+}} : vector<16xi1>, vector<16xf32>
func.func @mask(%logits: tensor<?x8xf32>, %mask: tensor<?xi1>)
    -> (tensor<?x1xi32>, tensor<?x1xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 1> %logits
      mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return %ids, %weights : tensor<?x1xi32>, tensor<?x1xf32>
}

// -----

// Given ids are checked in front, all of them, and rows of ids are lanes too.
// CHECK-LABEL: func.func @indices(
// CHECK-SAME:    %[[L:[a-z0-9]+]]: tensor<?x8xf32>, %[[I:[a-z0-9]+]]: tensor<?x2xi32>
// CHECK:         linalg.generic {{.*}} ins(%[[I]] : tensor<?x2xi32>)
// CHECK:         cf.assert %{{.+}}, "moe.route: {{.+}} outside [-1, 8)"
// CHECK:         scf.for
// CHECK:           vector.transfer_read %[[I]]{{.*}} : tensor<?x2xi32>, vector<16xi32>
func.func @indices(%logits: tensor<?x8xf32>, %given: tensor<?x2xi32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      indices(%given : tensor<?x2xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// What all tokens share is read once a step and broadcast, not transposed.
// CHECK-LABEL: func.func @shared(
// CHECK-SAME:    %{{[a-z0-9]+}}: tensor<?x8xf32>, %[[B:[a-z0-9]+]]: tensor<8xbf16>
// CHECK-NOT:     vector.transfer_read %[[B]]
// CHECK:         tensor.extract %[[B]][%{{.+}}] : tensor<8xbf16>
func.func @shared(%logits: tensor<?x8xf32>, %bias: tensor<8xbf16>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2, score = sigmoid> %logits
      bias(%bias : tensor<8xbf16>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// bf16 logits are computed on in f32 and weights round once; of rows wider than
// the lanes the rest is masked.
// CHECK-LABEL: func.func @bf16(
// CHECK:         {in_bounds = [true]} : tensor<32x20xbf16>, vector<16xbf16>
// CHECK:         arith.extf {{.*}} : vector<16xbf16> to vector<16xf32>
// CHECK:         vector.transfer_read %{{[^{]+}} : tensor<32x20xbf16>, vector<16xbf16>
// CHECK:         arith.truncf {{.*}} : vector<2xf32> to vector<2xbf16>
// CHECK:         vector<2xbf16>, tensor<32x2xbf16>
func.func @bf16(%logits: tensor<32x20xbf16>)
    -> (tensor<32x2xi32>, tensor<32x2xbf16>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<32x20xbf16> -> tensor<32x2xi32>, tensor<32x2xbf16>
  return %ids, %weights : tensor<32x2xi32>, tensor<32x2xbf16>
}

// -----

// CHECK-LABEL: func.func @f64_without_tokens(
// CHECK:         arith.cmpi sgt, {{.*}} : vector<16xi64>
// CHECK:         math.exp {{.*}} : vector<16xf64>
// CHECK-NOT:     f32
// CHECK:         return
func.func @f64_without_tokens(%logits: tensor<0x8xf64>)
    -> (tensor<0x2xi32>, tensor<0x2xf64>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<0x8xf64> -> tensor<0x2xi32>, tensor<0x2xf64>
  return %ids, %weights : tensor<0x2xi32>, tensor<0x2xf64>
}

// -----

// CHECK-LABEL: func.func @top_k(
// CHECK-SAME:    %{{[a-z0-9]+}}: tensor<?x8xf32>, %[[V:[a-z0-9]+]]: tensor<?x2xf32>, %[[I:[a-z0-9]+]]: tensor<?x2xi32>
// CHECK-NOT:     moe.top_k
// CHECK:         scf.for {{.*}} iter_args(%{{.+}} = %[[V]], %{{.+}} = %[[I]])
func.func @top_k(%x: tensor<?x8xf32>, %v: tensor<?x2xf32>,
                 %i: tensor<?x2xi32>) -> (tensor<?x2xf32>, tensor<?x2xi32>) {
  %0, %1 = moe.top_k ins(%x : tensor<?x8xf32>)
      outs(%v, %i : tensor<?x2xf32>, tensor<?x2xi32>)
      -> tensor<?x2xf32>, tensor<?x2xi32>
  return %0, %1 : tensor<?x2xf32>, tensor<?x2xi32>
}

// -----

// CHECK-LABEL: func.func @no_change(
// CHECK-NEXT:    moe.gate
// CHECK-NEXT:    return
func.func @no_change(%x: tensor<?x4xf32>, %w: tensor<8x4xf32>)
    -> tensor<?x8xf32> {
  %s = moe.gate %x, %w
      : (tensor<?x4xf32>, tensor<8x4xf32>) -> tensor<?x8xf32>
  return %s : tensor<?x8xf32>
}

// -----

// A score is a loop over lanes as well: its largest, powers and shares.
// CHECK-LABEL: func.func @score(
// CHECK-NOT:     moe.score
// CHECK:         scf.for {{.*}} step %c16
// CHECK:           arith.maximumf {{.*}} : vector<16xf32>
// CHECK:           math.exp {{.*}} : vector<16xf32>
// CHECK:           arith.divf {{.*}} : vector<16xf32>
func.func @score(%logits: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %s = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  return %s : tensor<?x8xf32>
}

// -----

// Groups are checked in front. A key's row is shared by the lanes, a token's is
// not; lanes outside a group, or in front of a key, keep what they have.
// CHECK-LABEL: func.func @mix(
// CHECK:         cf.assert {{.*}}"moe.mix: the group offsets do not ascend from 0 to the number of tokens"
// CHECK-NOT:     moe.mix
// CHECK:         scf.for {{.*}} step %c16
// CHECK:           vector.reduction <or>, {{.*}} : vector<16xi1> into i1
// CHECK:           scf.if
// CHECK:             math.fma {{.*}} : vector<16xf32>
func.func @mix(%v: tensor<?x8xf32>, %u: tensor<?x6xf32>, %g: tensor<?xi32>)
    -> tensor<?x8xf32> {
  %m = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>)
      groups(%g : tensor<?xi32>) causal : tensor<?x8xf32> -> tensor<?x8xf32>
  return %m : tensor<?x8xf32>
}

// -----

// Nine bf16 logits: a masked vector of sixteen, as processors have no other.
// CHECK-LABEL: func.func @odd(
// CHECK-NOT:     vector<9xbf16>
// CHECK:         vector.transfer_read %{{[^{]+}} : tensor<?x9xbf16>, vector<16xbf16>
func.func @odd(%logits: tensor<?x9xbf16>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x9xbf16> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// What few tokens need: the tilted form runs where any lane's polynomials leave
// the range of f32, and changes the rows of those lanes alone.
// CHECK-LABEL: func.func @marginals(
// CHECK:         scf.for
// CHECK:           %[[BAD:.+]] = arith.xori %{{.+}} : vector<16xi1>
// CHECK:           %[[ANY:.+]] = vector.reduction <or>, %[[BAD]] : vector<16xi1> into i1
// CHECK-NEXT:      scf.if %[[ANY]]
// CHECK:             arith.select %[[BAD]], %{{.+}}, %{{.+}} : vector<16xi1>, vector<16xf32>
// CHECK:           vector.transfer_write %{{.+}} : vector<16xf32>, tensor<?x40xf32>
// CHECK:           vector.transfer_write %{{.+}} : vector<8xf32>, tensor<?x40xf32>
func.func @marginals(%logits: tensor<?x40xf32>) -> tensor<?x40xf32> {
  %m = moe.subset_marginals %logits size 2 to 2
      : tensor<?x40xf32> -> tensor<?x40xf32>
  return %m : tensor<?x40xf32>
}

// -----

// A token's number counts from the op's first one.
// CHECK-LABEL: func.func @draw(
// CHECK-SAME:    %[[SEED:[a-z0-9]+]]: i64, %[[LAYER:[a-z0-9]+]]: i64, %[[FIRST:[a-z0-9]+]]: i64
// CHECK:         scf.for %[[T:[^ ]+]] =
// CHECK:           %[[OWN:.+]] = arith.index_cast %[[T]] : index to i64
// CHECK:           %[[NUMBER:.+]] = arith.addi %[[FIRST]], %[[OWN]] : i64
// CHECK:           vector.broadcast %[[NUMBER]] : i64 to vector<16xi64>
// CHECK:           arith.minsi %{{.+}} : vector<16xi64>
// CHECK:           arith.mului_extended
func.func @draw(%n: index, %seed: i64, %layer: i64, %first: i64)
    -> tensor<?x8xf32> {
  %u = moe.philox %n at(%seed, %layer, %first) : tensor<?x8xf32>
  return %u : tensor<?x8xf32>
}
