// RUN: moe-opt %s --convert-moe-to-linalg --split-input-file | FileCheck %s

// The product starts from the bias, accumulates in f32 and rounds once.

// CHECK-LABEL: func @gate
// CHECK:         %[[BIAS:.+]] = linalg.generic
// CHECK:           arith.extf %{{.*}} : bf16 to f32
// CHECK:         %[[SUM:.+]] = linalg.matmul
// CHECK-SAME:      outs(%[[BIAS]] : tensor<?x8xf32>)
// CHECK:         linalg.generic
// CHECK-SAME:      ins(%[[SUM]]
// CHECK:           arith.truncf %{{.*}} : f32 to bf16
func.func @gate(%x: tensor<?x64xbf16>, %w: tensor<8x64xbf16>,
                %b: tensor<8xbf16>) -> tensor<?x8xbf16> {
  %logits = moe.gate %x, %w bias(%b : tensor<8xbf16>)
      : (tensor<?x64xbf16>, tensor<8x64xbf16>) -> tensor<?x8xbf16>
  return %logits : tensor<?x8xbf16>
}

// -----

// Upstream's softmax is decomposed on the spot, since no pass does it later.

// CHECK-LABEL: func @score
// CHECK-NOT:     linalg.softmax
// CHECK:         math.tanh
// CHECK:         arith.maxnumf
// CHECK:         math.exp
// CHECK:         arith.divf
// CHECK-NOT:     moe.
func.func @score(%logits: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %s = moe.score %logits by softmax {softcap = 3.0}
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return %s : tensor<?x8xf32>
}

// -----

// One token at a time; a masked token's slots are empty.

// CHECK-LABEL: func @route
// CHECK-SAME:    %{{.*}}: tensor<?x8xf32>, %[[MASK:.+]]: tensor<?xi1>
// CHECK:         scf.for %[[T:[a-z0-9]+]] = {{.*}} -> (tensor<?x2xi32>, tensor<?x2xf32>)
// CHECK:           tensor.extract_slice %{{.*}}[%[[T]], 0] [1, 8] [1, 1] : tensor<?x8xf32> to tensor<8xf32>
// CHECK:           %[[LIVE:.+]] = tensor.extract %[[MASK]][%[[T]]]
// CHECK:           arith.select %[[LIVE]], %{{.*}}, %{{.*}} : i32
// CHECK:           arith.select %[[LIVE]], %{{.*}}, %{{.*}} : f32
// CHECK-NOT:     cf.assert
func.func @route(%logits: tensor<?x8xf32>, %mask: tensor<?xi1>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func @indices
// CHECK:         cf.assert %{{.*}}, "moe.route: a given expert id is outside [-1, 8)"
// CHECK:         scf.for
// CHECK-NOT:     moe.
func.func @indices(%logits: tensor<?x8xf32>, %given: tensor<?x2xi32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      indices(%given : tensor<?x2xi32>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

// -----

// A static C is checked in front of the groups, since these may need more. Every
// group is chosen in and takes the slots after those of the group before.

// CHECK-LABEL: func @route_experts
// CHECK:         cf.assert %{{.*}}, "moe.route_experts: the group offsets do not ascend from 0 to the number of tokens"
// CHECK:         cf.assert %{{.*}}, "moe.route_experts: an expert chooses more tokens than the 6 slots of its result"
// CHECK:         scf.for {{.*}} -> (tensor<8x6xi32>, tensor<8x6xf32>, index)
// CHECK-NOT:     moe.{{[a-z_]+}} %
func.func @route_experts(%logits: tensor<?x8xf32>, %groups: tensor<3xi32>)
    -> (tensor<8x6xi32>, tensor<8x6xf32>) {
  %ids, %weights = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>> %logits
      groups(%groups : tensor<3xi32>)
      : tensor<?x8xf32> -> tensor<8x6xi32>, tensor<8x6xf32>
  return %ids, %weights : tensor<8x6xi32>, tensor<8x6xf32>
}

// -----

// First come: no order is made. Prioritized: a sort by the first slot's weight.

// CHECK-LABEL: func @first_come
// CHECK-NOT:     math.ctlz
// CHECK:         scf.for
// CHECK-NOT:     math.ctlz
// CHECK-LABEL: func @prioritized
// CHECK:         math.ctlz
// CHECK-NOT:     moe.
func.func @first_come(%ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %kept, %w = moe.limit_capacity %ids, %weights experts 8
      by #moe.capacity<factor = 1.25> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  return %kept, %w : tensor<?x2xi32>, tensor<?x2xf32>
}
func.func @prioritized(%ids: tensor<?x2xi32>, %weights: tensor<?x2xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %kept, %w = moe.limit_capacity %ids, %weights experts 8
      by #moe.capacity<factor = 1.25> queue <prioritized>
      : tensor<?x2xi32>, tensor<?x2xf32>
  return %kept, %w : tensor<?x2xi32>, tensor<?x2xf32>
}
