// A router and an activation of another dialect: every road takes them as they
// are. Integration/CPU/external-router.mlir runs them.

// RUN: moe-opt %s --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --convert-moe-to-loops | FileCheck %s --check-prefix=LOOPS
// RUN: moe-opt %s --convert-moe-to-linalg | FileCheck %s --check-prefix=LINALG
// RUN: moe-opt %s --moe-fuse-gating --moe-lower-routing \
// RUN:   | FileCheck %s --check-prefix=LANES
// RUN: moe-opt %s --moe-cpu | FileCheck %s --check-prefix=CPU
// RUN: moe-opt %s --moe-oracle | FileCheck %s --check-prefix=CPU

// CPU-NOT: moe_test
// CPU:     llvm.func @moe_layer(
// CPU-NOT: moe_test

// CHECK-LABEL:  func.func @layer(
// CHECK:          moe.route #moe_test.threshold<k = 2>
// CHECK:          moe.experts {{.*}} activation #moe_test.cube<factor = 2>
// LOOPS-LABEL:  func.func @layer(
// LOOPS-NOT:      = moe.
// LOOPS:          tensor.insert
// LOOPS:          math.exp {{.*}} : f32
// LOOPS-NOT:      = moe.
// LOOPS:          return
// LINALG-LABEL: func.func @layer(
// LINALG-NOT:     = moe.
// LINALG:         math.exp {{.*}} : f32
// LINALG-NOT:     = moe.
// LINALG:         return
// LANES-LABEL:  func.func @layer(
// LANES:          scf.forall
// LANES:            moe.gate
// LANES-NOT:        moe.route
// The scratch row of a token is one of lanes.
// LANES:            tensor.empty() : tensor<3x16xf32>
// LANES:            vector.transfer_write {{.*}} : vector<16xf32>, tensor<3x16xf32>
// LANES:            math.exp {{.*}} : vector<16xf32>
// LANES:            arith.select {{.*}} : vector<16xi1>, vector<16xi32>
// LANES-NOT:        scf.if
// LANES:          return
func.func @layer(%x: tensor<?x4xf32>, %w: tensor<3x4xf32>, %bias: tensor<3xf32>,
                 %up: tensor<3x4x4xf32>, %down: tensor<3x4x4xf32>)
    -> tensor<?x4xf32> attributes {moe.entry} {
  %logits = moe.gate %x, %w
      : (tensor<?x4xf32>, tensor<3x4xf32>) -> tensor<?x3xf32>
  %ids, %weights = moe.route #moe_test.threshold<k = 2> %logits
      bias(%bias : tensor<3xf32>)
      : tensor<?x3xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 3
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x4xf32>, tensor<4xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<4xi32>)
      up(%up : tensor<3x4x4xf32>) down(%down : tensor<3x4x4xf32>)
      activation #moe_test.cube<factor = 2> layout <orientation = out_in>
      : tensor<?x4xf32> -> tensor<?x4xf32>
  %y = moe.combine %h, %ids experts 3 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
