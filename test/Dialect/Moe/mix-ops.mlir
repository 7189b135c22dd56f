// Text and generic form of the mixes, unit rows and soft slots.

// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func.func @mix(
// CHECK:         moe.mix %{{.+}} query(%[[U:.+]] : tensor<?x6xf32>) key(%[[U]] : tensor<?x6xf32>) :
// CHECK:         moe.mix %{{.+}} query(%{{.+}}) key(%{{.+}}) posterior(%{{.+}} : tensor<?x2xf32>)
// CHECK-SAME:      mask(%{{.+}} : tensor<?xi1>) groups(%{{.+}} : tensor<?xi32>) from(%{{.+}}) heads 2
// CHECK-SAME:      scale 5.000000e-01 causal : tensor<?x8xf32> -> tensor<?x8xf32>
func.func @mix(%v: tensor<?x8xf32>, %u: tensor<?x6xf32>, %k: tensor<?x3xf32>,
               %p: tensor<?x2xf32>, %m: tensor<?xi1>, %g: tensor<?xi32>,
               %first: i64) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %0 = moe.mix %v query(%u : tensor<?x6xf32>) key(%u : tensor<?x6xf32>)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  %1 = moe.mix %v query(%u : tensor<?x6xf32>) key(%k : tensor<?x3xf32>)
      causal scale 0.5 heads 2 groups(%g : tensor<?xi32>)
      mask(%m : tensor<?xi1>) posterior(%p : tensor<?x2xf32>) from(%first)
      : tensor<?x8xf32> -> tensor<?x8xf32>
  return %0, %1 : tensor<?x8xf32>, tensor<?x8xf32>
}

// CHECK-LABEL: func.func @mix_matrix(
// CHECK:         moe.mix_matrix %{{.+}} by %{{.+}} posterior(%{{.+}} : tensor<?x2xbf16>) mask(%{{.+}} : tensor<?xi1>) causal
// CHECK-SAME:      : (tensor<?x8xf32>, tensor<2x?x?xf32>) -> tensor<?x8xf32>
func.func @mix_matrix(%v: tensor<?x8xf32>, %a: tensor<2x?x?xf32>,
                      %p: tensor<?x2xbf16>, %m: tensor<?xi1>)
    -> tensor<?x8xf32> {
  %0 = moe.mix_matrix %v by %a posterior(%p : tensor<?x2xbf16>)
      mask(%m : tensor<?xi1>) causal
      : (tensor<?x8xf32>, tensor<2x?x?xf32>) -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @slots(
// CHECK:         moe.unit_rows %{{.+}} eps <clamp> 9.9999999999999998E-13 scale(%{{.+}} : tensor<f32>)
// CHECK:         moe.route_slots %{{.+}} mask(%{{.+}} : tensor<?xi1>) groups(%{{.+}} : tensor<3xi32>)
// CHECK:         moe.soft_dispatch %{{.+}}, %{{.+}} experts 2 groups(%{{.+}} : tensor<3xi32>)
// CHECK:         moe.soft_combine %{{.+}}, %{{.+}} experts 2 groups(%{{.+}} : tensor<3xi32>)
func.func @slots(%x: tensor<?x6xf32>, %s: tensor<f32>, %m: tensor<?xi1>,
                 %g: tensor<3xi32>) -> tensor<?x6xf32> {
  %u = moe.unit_rows %x eps <clamp> 1.0e-12 scale(%s : tensor<f32>)
      : tensor<?x6xf32> -> tensor<?x6xf32>
  %d, %c = moe.route_slots %u mask(%m : tensor<?xi1>) groups(%g : tensor<3xi32>)
      : tensor<?x6xf32> -> tensor<?x6xf32>, tensor<?x6xf32>
  %rows, %offsets = moe.soft_dispatch %x, %d experts 2 groups(%g : tensor<3xi32>)
      : (tensor<?x6xf32>, tensor<?x6xf32>) -> (tensor<12x6xf32>, tensor<3xi32>)
  %y = moe.soft_combine %rows, %c experts 2 groups(%g : tensor<3xi32>)
      : (tensor<12x6xf32>, tensor<?x6xf32>) -> tensor<?x6xf32>
  return %y : tensor<?x6xf32>
}
