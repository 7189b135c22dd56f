// RUN: moe-opt %s --split-input-file \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --implicit-check-not='{{ moe[.]}}'

// Offsets of groups are checked before a token is read by them; the size of
// the result is the bound of the capacity rule.

// CHECK-LABEL: func @experts_choose(
// CHECK-SAME:    %[[LOGITS:.*]]: tensor<?x8xf32>, %{{.*}}, %{{.*}})
// CHECK:         %[[BUFFER:.*]] = bufferization.to_buffer %[[LOGITS]] read_only
// CHECK-NOT:     memref.load %[[BUFFER]]
// CHECK:         cf.assert %{{.*}}, "moe.route_experts: group offsets do not ascend from 0 to the number of tokens"
// CHECK:         memref.alloc({{.*}}) : memref<8x?xi32>
// CHECK:         memref.load %[[BUFFER]]
func.func @experts_choose(%logits: tensor<?x8xf32>, %mask: tensor<?xi1>,
                          %groups: tensor<?xi32>)
    -> (tensor<8x?xi32>, tensor<8x?xf32>) {
  %ids, %w = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>> %logits
      mask(%mask : tensor<?xi1>) groups(%groups : tensor<?xi32>)
      : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
  return %ids, %w : tensor<8x?xi32>, tensor<8x?xf32>
}

// -----

// A static C and a dynamic T may not fit each other.

// CHECK-LABEL: func @static_slots(
// CHECK:         cf.assert %{{.*}}, "moe.route_experts: the experts choose more tokens than the ids have slots"
func.func @static_slots(%logits: tensor<?x8xf32>)
    -> (tensor<8x4xi32>, tensor<8x4xf32>) {
  %ids, %w = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>> %logits
      : tensor<?x8xf32> -> tensor<8x4xi32>, tensor<8x4xf32>
  return %ids, %w : tensor<8x4xi32>, tensor<8x4xf32>
}

// -----

// CHECK-LABEL: func @capacity(
// CHECK:         cf.assert %{{.*}}, "moe.limit_capacity: group offsets do not ascend from 0 to the number of tokens"
// CHECK:         scf.for
func.func @capacity(%ids: tensor<?x2xi32>, %w: tensor<?x2xbf16>,
                    %groups: tensor<5xi32>)
    -> (tensor<?x2xi32>, tensor<?x2xbf16>) {
  %0, %1 = moe.limit_capacity %ids, %w experts 8
      by #moe.capacity<factor = 1.25, per = slots> queue <prioritized>
      groups(%groups : tensor<5xi32>) : tensor<?x2xi32>, tensor<?x2xbf16>
  return %0, %1 : tensor<?x2xi32>, tensor<?x2xbf16>
}
