// Backwards of what reads beyond a token: text, generic form, bytecode, sizes.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s
// RUN: moe-opt %s --resolve-ranked-shaped-type-result-dims --canonicalize \
// RUN:   | FileCheck %s --check-prefix=SIZE

// CHECK-LABEL: func.func @route_experts_vjp(
// CHECK:         moe.route_experts_vjp #moe.expert_choice<{{.*}}> %{{[^ ]*}}, %{{[^ ]*}} by %{{[^ ]*}} mask(%{{[^ ]*}} : tensor<?xi1>) groups(%{{[^ ]*}} : tensor<?xi32>)
// CHECK-SAME:      : tensor<?x8xf32>, tensor<8x?xi32>, tensor<8x?xf32> -> tensor<?x8xf32>
// SIZE-LABEL: func.func @route_experts_vjp(
// SIZE-SAME:    %[[X:[^ ]*]]: tensor<?x8xf32>
// SIZE:         %[[D:.+]] = tensor.dim %[[X]], %c0
// SIZE-NEXT:    return %[[D]]
func.func @route_experts_vjp(%x: tensor<?x8xf32>, %i: tensor<8x?xi32>,
                             %c: tensor<8x?xf32>, %m: tensor<?xi1>,
                             %g: tensor<?xi32>) -> index {
  %zero = arith.constant 0 : index
  %0 = moe.route_experts_vjp #moe.expert_choice<capacity = <factor = 2.0>>
      %x, %i by %c groups(%g : tensor<?xi32>) mask(%m : tensor<?xi1>)
      : tensor<?x8xf32>, tensor<8x?xi32>, tensor<8x?xf32> -> tensor<?x8xf32>
  %d = tensor.dim %0, %zero : tensor<?x8xf32>
  return %d : index
}

// CHECK-LABEL: func.func @slots(
// CHECK:         moe.route_slots_vjp %{{[^ ]*}}, %{{[^ ]*}} by %{{[^ ]*}}, %{{[^ ]*}} mask(%{{[^ ]*}} : tensor<?xi1>) groups(%{{[^ ]*}} : tensor<3xi32>)
// CHECK-SAME:      : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32> -> tensor<?x4xf32>
// CHECK:         moe.soft_dots %{{[^ ]*}}, %{{[^ ]*}} experts 2 groups(%{{[^ ]*}} : tensor<3xi32>)
// CHECK-SAME:      : (tensor<?x6xf32>, tensor<8x6xbf16>) -> tensor<?x4xf32>
// SIZE-LABEL: func.func @slots(
// SIZE-SAME:    %[[D:[^ ]*]]: tensor<?x4xf32>
// SIZE:         %[[N:.+]] = tensor.dim %[[D]], %c0
// SIZE:         return %[[N]], %c4
func.func @slots(%d: tensor<?x4xf32>, %x: tensor<?x6xf32>,
                 %h: tensor<8x6xbf16>, %m: tensor<?xi1>, %g: tensor<3xi32>)
    -> (index, index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %0 = moe.route_slots_vjp %d, %d by %d, %d groups(%g : tensor<3xi32>)
      mask(%m : tensor<?xi1>)
      : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>
      -> tensor<?x4xf32>
  %1 = moe.soft_dots %x, %h experts 2 groups(%g : tensor<3xi32>)
      : (tensor<?x6xf32>, tensor<8x6xbf16>) -> tensor<?x4xf32>
  %d0 = tensor.dim %0, %zero : tensor<?x4xf32>
  %d1 = tensor.dim %1, %one : tensor<?x4xf32>
  return %d0, %d1 : index, index
}

// CHECK-LABEL: func.func @mix(
// CHECK:         moe.mix_query_vjp %{{[^ ]*}} by %{{[^ ]*}} query(%{{[^ ]*}} : tensor<?x6xf32>) key(%{{[^ ]*}} : tensor<?x3xf32>)
// CHECK-SAME:      posterior(%{{[^ ]*}} : tensor<?x2xf32>) mask(%{{[^ ]*}} : tensor<?xi1>) groups(%{{[^ ]*}} : tensor<?xi32>) from(%{{[^ ]*}}) heads 2
// CHECK-SAME:      scale 5.000000e-01 causal : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x6xf32>, tensor<?x2xf32>, tensor<?x2xf32>
// CHECK:         moe.mix_key_vjp %{{[^ ]*}} by %{{[^ ]*}} query(%{{[^ ]*}} : tensor<?x6xf32>) key(%{{[^ ]*}} : tensor<?x3xf32>)
// CHECK-SAME:      dots(%{{[^ ]*}} : tensor<?x2xf32>) sums(%{{[^ ]*}} : tensor<?x2xf32>)
// CHECK-SAME:      posterior(%{{[^ ]*}} : tensor<?x2xf32>) mask(%{{[^ ]*}} : tensor<?xi1>) groups(%{{[^ ]*}} : tensor<?xi32>) from(%{{[^ ]*}}) heads 2
// CHECK-SAME:      scale 5.000000e-01 causal : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x3xf32>, tensor<?x8xf32>
// SIZE-LABEL: func.func @mix(
// SIZE-SAME:    %[[V:[^ ]*]]: tensor<?x8xf32>, %{{.+}}: tensor<?x6xf32>, %[[K:[^ ]*]]: tensor<?x3xf32>
// SIZE:         %[[N:.+]] = tensor.dim %[[K]], %c0
// SIZE:         return %c2, %[[N]]
func.func @mix(%v: tensor<?x8xf32>, %u: tensor<?x6xf32>, %k: tensor<?x3xf32>,
               %p: tensor<?x2xf32>, %m: tensor<?xi1>, %g: tensor<?xi32>,
               %first: i64) -> (index, index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %0:3 = moe.mix_query_vjp %v by %v query(%u : tensor<?x6xf32>)
      key(%k : tensor<?x3xf32>) causal scale 0.5 heads 2
      groups(%g : tensor<?xi32>) mask(%m : tensor<?xi1>)
      posterior(%p : tensor<?x2xf32>) from(%first)
      : tensor<?x8xf32>, tensor<?x8xf32>
      -> tensor<?x6xf32>, tensor<?x2xf32>, tensor<?x2xf32>
  %1:2 = moe.mix_key_vjp %v by %v query(%u : tensor<?x6xf32>)
      key(%k : tensor<?x3xf32>) dots(%0#1 : tensor<?x2xf32>)
      sums(%0#2 : tensor<?x2xf32>) causal scale 0.5 heads 2
      groups(%g : tensor<?xi32>) mask(%m : tensor<?xi1>)
      posterior(%p : tensor<?x2xf32>) from(%first)
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x3xf32>, tensor<?x8xf32>
  %d0 = tensor.dim %0#2, %one : tensor<?x2xf32>
  %d1 = tensor.dim %1#0, %zero : tensor<?x3xf32>
  return %d0, %d1 : index, index
}

// CHECK-LABEL: func.func @mix_matrix(
// CHECK:         moe.mix_matrix_vjp %{{[^ ]*}} by %{{[^ ]*}} cotangent(%{{[^ ]*}} : tensor<?x8xf32>)
// CHECK-SAME:      posterior(%{{[^ ]*}} : tensor<?x2xbf16>) mask(%{{[^ ]*}} : tensor<?xi1>) causal
// CHECK-SAME:      : (tensor<?x8xf32>, tensor<2x?x?xf32>) -> (tensor<?x8xf32>, tensor<2x?x?xf32>, tensor<?x2xf32>)
// SIZE-LABEL: func.func @mix_matrix(
// SIZE-SAME:    %{{.+}}: tensor<?x8xf32>, %[[A:[^ ]*]]: tensor<2x?x?xf32>
// SIZE:         %[[N:.+]] = tensor.dim %[[A]], %c2
// SIZE-NEXT:    return %[[N]]
func.func @mix_matrix(%v: tensor<?x8xf32>, %a: tensor<2x?x?xf32>,
                      %p: tensor<?x2xbf16>, %m: tensor<?xi1>) -> index {
  %two = arith.constant 2 : index
  %0:3 = moe.mix_matrix_vjp %v by %a cotangent(%v : tensor<?x8xf32>)
      mask(%m : tensor<?xi1>) posterior(%p : tensor<?x2xbf16>) causal
      : (tensor<?x8xf32>, tensor<2x?x?xf32>)
      -> (tensor<?x8xf32>, tensor<2x?x?xf32>, tensor<?x2xf32>)
  %d = tensor.dim %0#1, %two : tensor<2x?x?xf32>
  return %d : index
}
