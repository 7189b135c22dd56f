// Sizes of results without the op that makes them: a dynamic size becomes the
// size of an operand or arithmetic on it, and folds where that is known.
//
// RUN: moe-opt %s --split-input-file --resolve-ranked-shaped-type-result-dims \
// RUN:   --inline --canonicalize --cse | FileCheck %s

// Tokens of logits, scores, ids and weights are those of the input.
// CHECK-LABEL: func.func @routing(
// CHECK-SAME: %[[X:[^ ]*]]: tensor<?x64xf32>
func.func @routing(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>)
    -> (index, index, index, index, index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %logits = moe.gate %x, %w
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %scores = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %scores
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %kept, %kept_weights = moe.limit_capacity %ids, %weights experts 8
      by <> queue <first_come> : tensor<?x2xi32>, tensor<?x2xf32>
  %0 = tensor.dim %scores, %c0 : tensor<?x8xf32>
  %1 = tensor.dim %scores, %c1 : tensor<?x8xf32>
  %2 = tensor.dim %ids, %c0 : tensor<?x2xi32>
  %3 = tensor.dim %weights, %c0 : tensor<?x2xf32>
  %4 = tensor.dim %kept, %c0 : tensor<?x2xi32>
  %5 = tensor.dim %kept_weights, %c0 : tensor<?x2xf32>
  // CHECK-DAG: %[[EIGHT:.*]] = arith.constant 8 : index
  // CHECK-DAG: %[[T:.*]] = tensor.dim %[[X]], %c0
  // CHECK-NOT: moe.
  // CHECK: return %[[T]], %[[EIGHT]], %[[T]], %[[T]], %[[T]], %[[T]]
  return %0, %1, %2, %3, %4, %5 : index, index, index, index, index, index
}

// -----

// N is T * k; the output of combine has ids' tokens again.
// CHECK: #[[$TWICE:.*]] = affine_map<()[s0] -> (s0 * 2)>
// CHECK-LABEL: func.func @layer(
// CHECK-SAME: %[[X:[^ ]*]]: tensor<?x64xf32>, %[[IDS:[^ ]*]]: tensor<?x2xi32>
func.func @layer(%x: tensor<?x64xf32>, %ids: tensor<?x2xi32>,
                 %up: tensor<8x128x64xf32>, %down: tensor<8x32x128xf32>)
    -> (index, index, index, index) {
  %c0 = arith.constant 0 : index
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  %out = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x128x64xf32>) down(%down : tensor<8x32x128xf32>)
      activation #moe.activation<kind = relu> layout <orientation = out_in>
      : tensor<?x64xf32> -> tensor<?x32xf32>
  %y = moe.combine %out, %ids experts 8
      : (tensor<?x32xf32>, tensor<?x2xi32>) -> tensor<?x32xf32>
  %0 = tensor.dim %rows, %c0 : tensor<?x64xf32>
  %1 = tensor.dim %offsets, %c0 : tensor<9xi32>
  %2 = tensor.dim %out, %c0 : tensor<?x32xf32>
  %3 = tensor.dim %y, %c0 : tensor<?x32xf32>
  // CHECK-DAG: %[[NINE:.*]] = arith.constant 9 : index
  // CHECK-DAG: %[[T:.*]] = tensor.dim %[[IDS]], %c0
  // CHECK-DAG: %[[N:.*]] = affine.apply #[[$TWICE]]()[%[[T]]]
  // CHECK-NOT: moe.
  // CHECK: return %[[N]], %[[NINE]], %[[N]], %[[T]]
  return %0, %1, %2, %3 : index, index, index, index
}

// -----

// Where experts chose, num_tokens is T.
// CHECK-LABEL: func.func @chosen(
// CHECK-SAME: %[[T:[^ ]*]]: index
func.func @chosen(%rows: tensor<?x4xf32>, %ids: tensor<8x?xi32>, %t: index)
    -> index {
  %c0 = arith.constant 0 : index
  %y = moe.combine %rows, %ids experts 8 chosen_by <expert> num_tokens(%t)
      : (tensor<?x4xf32>, tensor<8x?xi32>) -> tensor<?x4xf32>
  %0 = tensor.dim %y, %c0 : tensor<?x4xf32>
  // CHECK: return %[[T]]
  return %0 : index
}

// -----

// The capacity of expert choice, for T = 6 and E = 3 behind a cast: 2; a
// factor of 1.4 gives 2.8, which is 2, 3 or 3 by rounding, and 4 as a multiple
// of four; never more than T; at least `min`.
// CHECK-LABEL: func.func @capacity_constant(
func.func @capacity_constant(%x: tensor<6x3xf32>)
    -> (index, index, index, index, index, index, index) {
  %c1 = arith.constant 1 : index
  %logits = tensor.cast %x : tensor<6x3xf32> to tensor<?x3xf32>
  %a:2 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %b:2 = moe.route_experts #moe.expert_choice<capacity = <factor = 1.4>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %c:2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.4, rounding = ceil>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %d:2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.4, rounding = nearest>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %e:2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.4, multiple = 4>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %f:2 = moe.route_experts #moe.expert_choice<capacity = <fixed = 9>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %g:2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 0.1, min = 5>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %0 = tensor.dim %a#0, %c1 : tensor<3x?xi32>
  %1 = tensor.dim %b#1, %c1 : tensor<3x?xf32>
  %2 = tensor.dim %c#0, %c1 : tensor<3x?xi32>
  %3 = tensor.dim %d#0, %c1 : tensor<3x?xi32>
  %4 = tensor.dim %e#0, %c1 : tensor<3x?xi32>
  %5 = tensor.dim %f#0, %c1 : tensor<3x?xi32>
  %6 = tensor.dim %g#0, %c1 : tensor<3x?xi32>
  // CHECK-NOT: moe.
  // CHECK: return %c2, %c2, %c3, %c3, %c4, %c6, %c5
  return %0, %1, %2, %3, %4, %5, %6
      : index, index, index, index, index, index, index
}

// -----

// With a dynamic T it is arithmetic in f64 on T alone.
// CHECK-LABEL: func.func @capacity_dynamic(
// CHECK-SAME: %[[X:[^ ]*]]: tensor<?x3xf32>
func.func @capacity_dynamic(%logits: tensor<?x3xf32>) -> index {
  %c1 = arith.constant 1 : index
  %ids, %weights = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.4, rounding = ceil,
                                     multiple = 4>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  // CHECK-DAG: %[[FACTOR:.*]] = arith.constant 1.400000e+00 : f64
  // CHECK-DAG: %[[E:.*]] = arith.constant 3.000000e+00 : f64
  // CHECK-DAG: %[[T:.*]] = tensor.dim %[[X]], %c0
  // CHECK: %[[TI:.*]] = arith.index_cast %[[T]] : index to i64
  // CHECK: %[[TF:.*]] = arith.sitofp %[[TI]] : i64 to f64
  // CHECK: %[[PRODUCT:.*]] = arith.mulf %[[TF]], %[[FACTOR]] : f64
  // CHECK: %[[SHARE:.*]] = arith.divf %[[PRODUCT]], %[[E]] : f64
  // CHECK: %[[DOWN:.*]] = arith.fptosi %[[SHARE]] : f64 to i64
  // CHECK: %[[BACK:.*]] = arith.sitofp %[[DOWN]] : i64 to f64
  // CHECK: %[[CUT:.*]] = arith.cmpf olt, %[[BACK]], %[[SHARE]] : f64
  // CHECK: %[[ONE:.*]] = arith.extui %[[CUT]] : i1 to i64
  // CHECK: %[[UP:.*]] = arith.addi %[[DOWN]], %[[ONE]] : i64
  // CHECK: %[[COUNT:.*]] = arith.index_cast %[[UP]] : i64 to index
  // CHECK: %[[FOURS:.*]] = arith.ceildivui %[[COUNT]], %c4 : index
  // CHECK: %[[MULTIPLE:.*]] = arith.muli %[[FOURS]], %c4 : index
  // CHECK: %[[LEAST:.*]] = arith.maxui %[[MULTIPLE]], %c1 : index
  // CHECK: %[[C:.*]] = arith.minui %[[T]], %[[LEAST]] : index
  // CHECK: return %[[C]]
  %0 = tensor.dim %ids, %c1 : tensor<3x?xi32>
  return %0 : index
}

// -----

// The arithmetic folds to the numbers of the verifier: T turns out to be 6 only
// when the call is inlined, after the sizes were resolved.
func.func private @six() -> index {
  %c6 = arith.constant 6 : index
  return %c6 : index
}

// CHECK-LABEL: func.func @capacity_folds(
func.func @capacity_folds() -> (index, index, index, index, index) {
  %c1 = arith.constant 1 : index
  %t = call @six() : () -> index
  %logits = tensor.empty(%t) : tensor<?x3xf32>
  %a:2 = moe.route_experts #moe.expert_choice<capacity = <>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %b:2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.4, rounding = ceil>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %c:2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.4, rounding = nearest>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %d:2 = moe.route_experts
      #moe.expert_choice<capacity = <factor = 1.4, multiple = 4>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %e:2 = moe.route_experts #moe.expert_choice<capacity = <fixed = 9>> %logits
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %0 = tensor.dim %a#0, %c1 : tensor<3x?xi32>
  %1 = tensor.dim %b#1, %c1 : tensor<3x?xf32>
  %2 = tensor.dim %c#0, %c1 : tensor<3x?xi32>
  %3 = tensor.dim %d#0, %c1 : tensor<3x?xi32>
  %4 = tensor.dim %e#0, %c1 : tensor<3x?xi32>
  // CHECK-NOT: moe.
  // CHECK: return %c2, %c3, %c3, %c4, %c6
  return %0, %1, %2, %3, %4 : index, index, index, index, index
}

// -----

// Groups: a bound for any partition, here ceil(60 / 3) + 4 * (1 + 1), or four
// times the fixed capacity; then the same with the number of groups dynamic,
// where one group has the rule itself.
// CHECK-LABEL: func.func @capacity_groups(
// CHECK-SAME: %[[G:[^ ]*]]: tensor<?xi32>
func.func @capacity_groups(%x: tensor<60x3xf32>, %four: tensor<5xi32>,
                           %some: tensor<?xi32>) -> (index, index, index) {
  %c1 = arith.constant 1 : index
  %a:2 = moe.route_experts #moe.expert_choice<capacity = <>> %x
      groups(%four : tensor<5xi32>)
      : tensor<60x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %b:2 = moe.route_experts #moe.expert_choice<capacity = <fixed = 7>> %x
      groups(%four : tensor<5xi32>)
      : tensor<60x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %c:2 = moe.route_experts #moe.expert_choice<capacity = <>> %x
      groups(%some : tensor<?xi32>)
      : tensor<60x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  %0 = tensor.dim %a#0, %c1 : tensor<3x?xi32>
  %1 = tensor.dim %b#0, %c1 : tensor<3x?xi32>
  %2 = tensor.dim %c#0, %c1 : tensor<3x?xi32>
  // CHECK: %[[LENGTH:.*]] = tensor.dim %[[G]], %c0
  // CHECK: %[[GROUPS:.*]] = arith.subi %[[LENGTH]], %c1
  // CHECK: %[[SLACK:.*]] = arith.muli %[[GROUPS]], %c2
  // CHECK: %[[SUM:.*]] = arith.addi %[[SLACK]], %c20
  // CHECK: %[[BOUND:.*]] = arith.minui %[[SUM]], %c60
  // CHECK: %[[ONE:.*]] = arith.cmpi eq, %[[GROUPS]], %c1
  // CHECK: %[[C:.*]] = arith.select %[[ONE]], %c20, %[[BOUND]]
  // CHECK: return %c28, %c28, %[[C]]
  return %0, %1, %2 : index, index, index
}

// -----

// A loss has no sizes, a weight of another layout static ones; primitives have
// the sizes of their destinations.
// CHECK-LABEL: func.func @others(
// CHECK-SAME: %[[V:[^ ]*]]: tensor<?x2xf32>
func.func @others(%x: tensor<?x8xf32>, %v: tensor<?x2xf32>, %i: tensor<?x2xi32>,
                  %w: tensor<2x6x4xf32>) -> (index, index) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %values, %indices = moe.top_k ins(%x : tensor<?x8xf32>)
      outs(%v, %i : tensor<?x2xf32>, tensor<?x2xi32>)
      -> tensor<?x2xf32>, tensor<?x2xi32>
  %turned = moe.relayout <up> %w experts 2 from <orientation = out_in>
      to <orientation = in_out> : (tensor<2x6x4xf32>) -> tensor<2x4x6xf32>
  %0 = tensor.dim %values, %c0 : tensor<?x2xf32>
  %1 = tensor.dim %turned, %c2 : tensor<2x4x6xf32>
  // CHECK: %[[T:.*]] = tensor.dim %[[V]], %c0
  // CHECK: return %[[T]], %c6
  return %0, %1 : index, index
}
