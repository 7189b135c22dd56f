// The backwards of losses, noise, rows and subsets: text, generic form,
// bytecode, sizes.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --emit-bytecode | moe-opt | FileCheck %s
// RUN: moe-opt %s --resolve-ranked-shaped-type-result-dims --canonicalize --cse \
// RUN:   | FileCheck %s --check-prefix=SIZE

// CHECK-LABEL: func.func @aux_loss(
func.func @aux_loss(%s: tensor<?x8xf32>, %g: tensor<f32>, %g64: tensor<f64>,
                    %ids: tensor<?x2xi32>, %mask: tensor<?xi1>,
                    %groups: tensor<?xi32>) {
  // CHECK: moe.aux_loss_vjp <balance> %{{.*}} by %{{.*}} ids(%{{.*}} : tensor<?x2xi32>) mask(%{{.*}} : tensor<?xi1>) groups(%{{.*}} : tensor<?xi32>) per_slot coefficient 1.000000e-02 : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  %0 = moe.aux_loss_vjp <balance> %s by %g per_slot
      groups(%groups : tensor<?xi32>) mask(%mask : tensor<?xi1>)
      ids(%ids : tensor<?x2xi32>) coefficient 0.01
      : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  // CHECK: moe.aux_loss_vjp <importance> %{{.*}} by %{{.*}} unbiased eps 1.000000e-10 coefficient 1.000000e+00 : tensor<?x8xf32>, tensor<f64> -> tensor<?x8xf64>
  %1 = moe.aux_loss_vjp <importance> %s by %g64 unbiased eps 1.0e-10
      coefficient 1.0 : tensor<?x8xf32>, tensor<f64> -> tensor<?x8xf64>
  // CHECK: moe.aux_loss_vjp <trimmed_lasso> %{{.*}} by %{{.*}} k 2 coefficient 1.000000e+00 : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  %2 = moe.aux_loss_vjp <trimmed_lasso> %s by %g k 2 coefficient 1.0
      : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @load_loss(
func.func @load_loss(%x: tensor<?x8xf32>, %noisy: tensor<?x8xf32>,
                     %sigma: tensor<?x8xf64>, %g: tensor<f32>,
                     %mask: tensor<?xi1>, %groups: tensor<?xi32>) {
  // CHECK: moe.load_loss_vjp <kth_excluding> %{{.*}}, %{{.*}} by %{{.*}} sigma(%{{.*}} : tensor<?x8xf64>) k 2 eps 1.000000e-10 coefficient 1.000000e-02 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf64>
  %0:3 = moe.load_loss_vjp <kth_excluding> %x, %noisy by %g
      sigma(%sigma : tensor<?x8xf64>) k 2 eps 1.0e-10 coefficient 0.01
      : tensor<?x8xf32>, tensor<?x8xf32>, tensor<f32>
      -> tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf64>
  // CHECK: moe.load_loss_vjp <kth> %{{.*}}, %{{.*}} by %{{.*}} std 1.250000e-01 mask(%{{.*}} : tensor<?xi1>) groups(%{{.*}} : tensor<?xi32>) k 8 coefficient 1.000000e+00
  %1:2 = moe.load_loss_vjp <kth> %x, %noisy by %g
      groups(%groups : tensor<?xi32>) mask(%mask : tensor<?xi1>) std 0.125 k 8
      coefficient 1.0 : tensor<?x8xf32>, tensor<?x8xf32>, tensor<f32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @tokens(
func.func @tokens(%x: tensor<?x8xf32>, %g: tensor<?x8xbf16>, %s: tensor<f32>,
                  %z: tensor<?x3xf32>, %n: i64) {
  // CHECK: moe.noisy_logits_vjp %{{.*}} by %{{.*}} draw(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf32>
  %0 = moe.noisy_logits_vjp %x by %g draw(%n, %n, %n)
      : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf32>
  // CHECK: moe.noisy_logits_vjp %{{.*}} by %{{.*}} sigma(%{{.*}} : tensor<?x8xf32>) draw(%{{.*}}, %{{.*}}, %{{.*}}) : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf64>
  %1 = moe.noisy_logits_vjp %x by %g sigma(%x : tensor<?x8xf32>)
      draw(%n, %n, %n) : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf64>
  // CHECK: moe.unit_rows_vjp %{{.*}} by %{{.*}} eps <clamp> 5.000000e-01 : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf32>
  %2 = moe.unit_rows_vjp %x by %g eps <clamp> 0.5
      : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf32>
  // CHECK: moe.unit_rows_vjp %{{.*}} by %{{.*}} eps <add> 2.500000e-01 scale(%{{.*}} : tensor<f32>) : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf32>, tensor<?x1xf32>
  %3:2 = moe.unit_rows_vjp %x by %g eps <add> 0.25 scale(%s : tensor<f32>)
      : tensor<?x8xf32>, tensor<?x8xbf16> -> tensor<?x8xf32>, tensor<?x1xf32>
  // CHECK: moe.subset_partition_vjp %{{.*}} by %{{.*}} size 2 to 4 : tensor<?x8xf32>, tensor<?x3xf32> -> tensor<?x8xf32>
  %4 = moe.subset_partition_vjp %x by %z size 2 to 4
      : tensor<?x8xf32>, tensor<?x3xf32> -> tensor<?x8xf32>
  return
}

// SIZE-LABEL: func.func @sizes(
// SIZE-SAME:    %[[X:[a-z0-9]+]]: tensor<?x8xf32>
// SIZE:         %[[T:.*]] = tensor.dim %[[X]], %c0
// SIZE:         return %[[T]], %[[T]], %[[T]], %[[T]], %[[T]], %c1
// CHECK-LABEL: func.func @sizes(
func.func @sizes(%x: tensor<?x8xf32>, %g: tensor<f32>, %z: tensor<?x1xf32>,
                 %s: tensor<f32>, %n: i64)
    -> (index, index, index, index, index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %0 = moe.aux_loss_vjp <z> %x by %g coefficient 1.0
      : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  %1:2 = moe.load_loss_vjp <kth> %x, %x by %g std 0.125 k 2 coefficient 1.0
      : tensor<?x8xf32>, tensor<?x8xf32>, tensor<f32>
      -> tensor<?x8xf32>, tensor<?x8xf32>
  %2 = moe.noisy_logits_vjp %x by %x draw(%n, %n, %n)
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %3:2 = moe.unit_rows_vjp %x by %x eps <add> 0.5 scale(%s : tensor<f32>)
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x1xf32>
  %4 = moe.subset_partition_vjp %x by %z size 2 to 2
      : tensor<?x8xf32>, tensor<?x1xf32> -> tensor<?x8xf32>
  %d0 = tensor.dim %0, %c0 : tensor<?x8xf32>
  %d1 = tensor.dim %1#1, %c0 : tensor<?x8xf32>
  %d2 = tensor.dim %2, %c0 : tensor<?x8xf32>
  %d3 = tensor.dim %3#1, %c0 : tensor<?x1xf32>
  %d4 = tensor.dim %4, %c0 : tensor<?x8xf32>
  %d5 = tensor.dim %3#1, %c1 : tensor<?x1xf32>
  return %d0, %d1, %d2, %d3, %d4, %d5
      : index, index, index, index, index, index
}
