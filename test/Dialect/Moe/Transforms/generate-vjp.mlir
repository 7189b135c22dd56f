// RUN: moe-opt %s --split-input-file --moe-generate-vjp | FileCheck %s
// RUN: moe-opt %s --split-input-file --moe-generate-vjp=save=recompute \
// RUN:   | FileCheck %s --check-prefix=AGAIN
// RUN: moe-opt %s --split-input-file \
// RUN:   --moe-generate-vjp="function=layer wrt=down,x" \
// RUN:   | FileCheck %s --check-prefix=WRT

// The function stays as it is; the forward returns what the backward takes by
// the same names: ids, weights, what the activation was given, logits.

// CHECK-LABEL: func.func @layer(
// CHECK-NOT:     keeping
// CHECK:         return %{{[^,]*}} : tensor<?x16xf32>
// CHECK-LABEL: func.func @layer_fwd(
// CHECK-SAME:    %[[X:[^ ]*]]: tensor<?x16xf32> {moe.dims = ["T", ""], moe.name = "x"}
// CHECK-SAME:    -> (tensor<?x16xf32> {moe.dims = ["T", ""], moe.name = "y"}, tensor<?x2xi32> {moe.dims = ["T", ""], moe.name = "saved_0"}, tensor<?x2xf32> {moe.dims = ["T", ""], moe.name = "saved_1"}, tensor<?x2x24xf32> {moe.dims = ["T", "", ""], moe.name = "saved_2"}, tensor<?x2x24xf32> {moe.dims = ["T", "", ""], moe.name = "saved_3"}, tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "saved_4"})
// CHECK-SAME:    attributes {moe.entry}
// CHECK:         %[[LOGITS:.*]] = moe.gate %[[X]]
// CHECK:         %[[IDS:.*]], %[[WEIGHTS:.*]] = moe.route
// CHECK:         %{{.*}}, %[[KEPT:.*]]:2 = moe.experts {{.*}} keeping tensor<?x24xf32>, tensor<?x24xf32>
// CHECK:         %[[Y:.*]] = moe.combine
// CHECK:         %[[GATE:.*]] = tensor.expand_shape %[[KEPT]]#0
// CHECK:         %[[UP:.*]] = tensor.expand_shape %[[KEPT]]#1
// CHECK:         return %[[Y]], %[[IDS]], %[[WEIGHTS]], %[[GATE]], %[[UP]], %[[LOGITS]] :

// A cotangent has the size of its result. No output of experts is made again,
// no row is copied into expert order.
// CHECK-LABEL: func.func @layer_bwd(
// CHECK-SAME:    %[[X:[^ ]*]]: tensor<?x16xf32> {moe.dims = ["T", ""], moe.name = "x"}
// CHECK-SAME:    moe.name = "router_weight"}
// CHECK-SAME:    moe.layout = #moe.layout<orientation = out_in>, moe.name = "gate_up"}
// CHECK-SAME:    moe.name = "down"}
// CHECK-SAME:    %[[IDS:[^ ]*]]: tensor<?x2xi32> {moe.dims = ["T", ""], moe.name = "saved_0"}
// CHECK-SAME:    %[[WEIGHTS:[^ ]*]]: tensor<?x2xf32> {moe.dims = ["T", ""], moe.name = "saved_1"}
// CHECK-SAME:    moe.name = "saved_4"}
// CHECK-SAME:    %[[DY:[^ ]*]]: tensor<?x16xf32> {moe.dims = ["T", ""], moe.name = "d_y"})
// CHECK-SAME:    -> (tensor<?x16xf32> {moe.dims = ["T", ""], moe.name = "d_x"}, tensor<4x16xf32> {moe.dims = ["", ""], moe.name = "d_router_weight"}, tensor<4x48x16xf32> {moe.dims = ["", "", ""], moe.layout = #moe.layout<orientation = out_in>, moe.name = "d_gate_up"}, tensor<4x16x24xf32> {{.*}}moe.name = "d_down"})
// CHECK-NOT:     moe.{{experts|dispatch|gate |route }}
// CHECK:         %[[GROUP:.*]]:5 = moe.group ins(%[[IDS]], %[[WEIGHTS]] :
// CHECK:         %[[P:.*]]:4 = moe.grouped_matmul %[[DY]] rows(%[[GROUP]]#1 : tensor<?xi32>) {{.*}} elements({{.*}}) row_values(%[[GROUP]]#4
// CHECK:         moe.grouped_outer %[[DY]] rows(%[[GROUP]]#1 : tensor<?xi32>) by %[[P]]#0 offsets(%[[GROUP]]#0
// CHECK:         moe.grouped_outer %[[P]]#1 by %[[X]] rows(%[[GROUP]]#1 : tensor<?xi32>) offsets(%[[GROUP]]#0
// CHECK:         moe.grouped_outer %[[P]]#2 by %[[X]] rows(%[[GROUP]]#1 : tensor<?xi32>) offsets(%[[GROUP]]#0
// CHECK:         %[[DW:.*]] = moe.slot_dots %[[P]]#3, %[[IDS]] experts 4
// CHECK:         moe.grouped_matmul %[[P]]#1, %[[P]]#2 {{.*}} weights(%{{[^ ]*}}, %{{[^ ]*}} :
// CHECK:         moe.combine_slots %{{.*}}, %[[GROUP]]#2, %[[GROUP]]#3
// CHECK:         %[[DR:.*]] = moe.route_vjp #moe.top_k<k = 2, normalize = sum> %{{.*}}, %[[IDS]], %[[WEIGHTS]] by %[[DW]]
// CHECK:         moe.grouped_outer %[[DR]] by %[[X]] outs(

// What activations were given is a product of the backward.
// AGAIN-LABEL: func.func @layer_fwd(
// AGAIN-SAME:    -> (tensor<?x16xf32> {moe.dims = ["T", ""], moe.name = "y"}, tensor<?x2xi32> {moe.dims = ["T", ""], moe.name = "saved_0"}, tensor<?x2xf32> {moe.dims = ["T", ""], moe.name = "saved_1"}, tensor<?x4xf32> {moe.dims = ["T", ""], moe.name = "saved_2"})
// AGAIN-NOT:     keeping
// AGAIN:         return
// AGAIN-LABEL: func.func @layer_bwd(
// AGAIN-SAME:    %[[X:[^ ]*]]: tensor<?x16xf32>
// AGAIN-NOT:     moe.experts
// AGAIN:         %[[GIVEN:.*]]:2 = moe.grouped_matmul %[[X]] rows(
// AGAIN:         moe.grouped_matmul {{.*}} elements(%[[GIVEN]]#0, %[[GIVEN]]#1 :

// In the order that they are asked for; nothing of the router's own is saved
// that they do not need.
// WRT-LABEL:   func.func @layer_fwd(
// WRT-LABEL:   func.func @layer_bwd(
// WRT-SAME:      -> (tensor<4x16x24xf32> {{[^>]*>?[^>]*}}moe.name = "d_down"}, tensor<?x16xf32> {moe.dims = ["T", ""], moe.name = "d_x"})
// WRT:           moe.grouped_outer
// WRT-NOT:       moe.grouped_outer
// WRT:           return

func.func @layer(
    %x: tensor<?x16xf32> {moe.name = "x", moe.dims = ["T", ""]},
    %router: tensor<4x16xf32> {moe.name = "router_weight"},
    %gate_up: tensor<4x48x16xf32>
        {moe.name = "gate_up", moe.layout = #moe.layout<orientation = out_in>},
    %down: tensor<4x16x24xf32> {moe.name = "down"})
    -> (tensor<?x16xf32> {moe.name = "y", moe.dims = ["T", ""]})
    attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x16xf32>, tensor<4x16xf32>) -> tensor<?x4xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, normalize = sum> %logits
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 4
      : (tensor<?x16xf32>, tensor<?x2xi32>)
      -> (tensor<?x16xf32>, tensor<5xi32>)
  %out = moe.experts %rows offsets(%offsets : tensor<5xi32>)
      up(%gate_up : tensor<4x48x16xf32>) down(%down : tensor<4x16x24xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x16xf32> -> tensor<?x16xf32>
  %y = moe.combine %out, %ids experts 4 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x16xf32>, tensor<?x2xi32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
