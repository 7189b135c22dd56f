// RUN: moe-opt %s --split-input-file --transform-interpreter \
// RUN:   --canonicalize | FileCheck %s

// Gate, score and route tile over their tokens through the interface that
// upstream's transforms know.

// CHECK-LABEL: func.func @route(
// CHECK-SAME:    %[[L:[a-z0-9]+]]: tensor<?x8xf32>, %[[B:[a-z0-9]+]]: tensor<8xf32>, %[[M:[a-z0-9]+]]: tensor<?xi1>
// CHECK:         scf.for %[[I:.+]] = %{{.+}} to %{{.+}} step %{{.+}} iter_args
// CHECK:           %[[SIZE:.+]] = affine.min
// CHECK-DAG:       %[[LT:.+]] = tensor.extract_slice %[[L]][%[[I]], 0] [%[[SIZE]], 8] [1, 1]
// CHECK-DAG:       %[[MT:.+]] = tensor.extract_slice %[[M]][%[[I]]] [%[[SIZE]]] [1]
// CHECK:           %[[IDS:.+]], %[[W:.+]] = moe.route #moe.top_k<k = 2> %[[LT]] bias(%[[B]] : tensor<8xf32>) mask(%[[MT]] : tensor<?xi1>)
// CHECK:           tensor.insert_slice %[[IDS]] into %{{.+}}[%[[I]], 0] [%[[SIZE]], 2] [1, 1]
// CHECK:           tensor.insert_slice %[[W]] into %{{.+}}[%[[I]], 0] [%[[SIZE]], 2] [1, 1]
func.func @route(%logits: tensor<?x8xf32>, %bias: tensor<8xf32>,
                 %mask: tensor<?xi1>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      bias(%bias : tensor<8xf32>) mask(%mask : tensor<?xi1>)
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(
      %root: !transform.any_op {transform.readonly}) {
    %op = transform.structured.match ops{["moe.route"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_for %op tile_sizes [4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// A tile that divides the tokens has a static size; weights are not sliced.
// CHECK-LABEL: func.func @gate(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<16x64xbf16>, %[[W:[a-z0-9]+]]: tensor<8x64xbf16>
// CHECK:         scf.forall
// CHECK:           %[[T:.+]] = tensor.extract_slice %[[X]]
// CHECK:           moe.gate %[[T]], %[[W]] : (tensor<4x64xbf16>, tensor<8x64xbf16>) -> tensor<4x8xf32>
// CHECK-NEXT:      scf.forall.in_parallel
func.func @gate(%x: tensor<16x64xbf16>, %w: tensor<8x64xbf16>)
    -> tensor<16x8xf32> {
  %logits = moe.gate %x, %w
      : (tensor<16x64xbf16>, tensor<8x64xbf16>) -> tensor<16x8xf32>
  return %logits : tensor<16x8xf32>
}

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(
      %root: !transform.any_op {transform.readonly}) {
    %op = transform.structured.match ops{["moe.gate"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.tile_using_forall %op tile_sizes [4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

// CHECK-LABEL: func.func @fuse_producer(
// CHECK-NOT:     moe.gate
// CHECK:         scf.for
// CHECK:           moe.gate {{.*}} -> tensor<4x8xf32>
// CHECK:           moe.score {{.*}} : tensor<4x8xf32> -> tensor<4x8xf32>
// CHECK-NOT:     moe.gate
func.func @fuse_producer(%x: tensor<16x64xf32>, %w: tensor<8x64xf32>)
    -> tensor<16x8xf32> {
  %logits = moe.gate %x, %w
      : (tensor<16x64xf32>, tensor<8x64xf32>) -> tensor<16x8xf32>
  %s = moe.score %logits by softmax : tensor<16x8xf32> -> tensor<16x8xf32>
  return %s : tensor<16x8xf32>
}

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(
      %root: !transform.any_op {transform.readonly}) {
    %op = transform.structured.match ops{["moe.score"]} in %root
        : (!transform.any_op) -> !transform.any_op
    %tiled, %loop = transform.structured.fuse %op tile_sizes [4]
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
