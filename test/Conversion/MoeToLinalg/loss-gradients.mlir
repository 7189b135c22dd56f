// The backwards of losses and of what stands in front of them, on upstream
// tensors and as loops.

// RUN: moe-opt %s --convert-moe-to-linalg | FileCheck %s --implicit-check-not='{{ moe[.]}}'
// RUN: moe-opt %s \
// RUN:   --pass-pipeline='builtin.module(func.func(convert-moe-to-loops))' \
// RUN: | FileCheck %s --check-prefix=LOOPS --implicit-check-not='{{ moe[.]}}'

// One list for all tokens; a masked token keeps the zeros that stand there.

// CHECK-LABEL: func @balance
// CHECK:         linalg.fill ins(%{{.*}} : f32) outs(%{{.*}} : tensor<?x8xf32>)
// CHECK:         %[[LIST:.*]] = linalg.generic
// CHECK:         scf.for
// CHECK:           scf.if
// CHECK:             tensor.insert_slice %[[LIST]] into %{{.*}} : tensor<8xf32> into tensor<?x8xf32>
// LOOPS-LABEL: func.func @balance
// LOOPS:         memref.store
func.func @balance(%s: tensor<?x8xf32>, %g: tensor<f32>,
                   %ids: tensor<?x2xi32>, %mask: tensor<?xi1>)
    -> tensor<?x8xf32> {
  %0 = moe.aux_loss_vjp <balance> %s by %g ids(%ids : tensor<?x2xi32>)
      mask(%mask : tensor<?xi1>) coefficient 1.0
      : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// The offsets are asserted once; the groups are counted, and then visited.

// CHECK-LABEL: func @groups
// CHECK:         cf.assert
// CHECK-NOT:     cf.assert
// CHECK:         scf.for
// CHECK:         %[[G:.*]] = arith.sitofp
// CHECK:         arith.divf %{{.*}}, %[[G]]
// CHECK:         scf.for
// CHECK:           math.log
// CHECK:           math.exp
// LOOPS-LABEL: func.func @groups
// LOOPS:         cf.assert
// LOOPS-NOT:     cf.assert
// LOOPS:         math.log
func.func @groups(%s: tensor<?x8xf32>, %g: tensor<f32>, %at: tensor<?xi32>)
    -> tensor<?x8xf32> {
  %0 = moe.aux_loss_vjp <z> %s by %g groups(%at : tensor<?xi32>)
      coefficient 1.0 : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// k of all: nothing is outside.

// CHECK-LABEL: func @all
// CHECK-NOT:     arith.bitcast
// CHECK:         return
// LOOPS-LABEL: func.func @all
func.func @all(%s: tensor<?x8xf32>, %g: tensor<f32>) -> tensor<?x8xf32> {
  %0 = moe.aux_loss_vjp <trimmed_lasso> %s by %g k 8 coefficient 1.0
      : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// What both thresholds are given is carried, and written behind the experts.

// CHECK-LABEL: func @load
// CHECK:         math.erfc
// CHECK:         %[[SUMS:.*]]:5 = scf.for
// CHECK:           math.exp
// CHECK:         tensor.insert %[[SUMS]]#3 into %[[SUMS]]#1
// CHECK:         tensor.insert %[[SUMS]]#4 into
// LOOPS-LABEL: func.func @load
// LOOPS:         math.erfc
// LOOPS:         math.exp
func.func @load(%x: tensor<?x8xf32>, %noisy: tensor<?x8xf32>,
                %sigma: tensor<?x8xf32>, %g: tensor<f32>)
    -> (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>) {
  %0:3 = moe.load_loss_vjp <kth_excluding> %x, %noisy by %g
      sigma(%sigma : tensor<?x8xf32>) k 2 coefficient 1.0
      : tensor<?x8xf32>, tensor<?x8xf32>, tensor<f32>
      -> tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>
  return %0#0, %0#1, %0#2
      : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>
}

// Normal numbers are drawn again.

// CHECK-LABEL: func @noise
// CHECK:         arith.mului_extended
// CHECK:         math.cos
// LOOPS-LABEL: func.func @noise
// LOOPS:         math.cos
func.func @noise(%raw: tensor<?x8xf32>, %g: tensor<?x8xf32>, %seed: i64)
    -> tensor<?x8xf32> {
  %0 = moe.noisy_logits_vjp %raw by %g sigma(%g : tensor<?x8xf32>)
      draw(%seed, %seed, %seed)
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// CHECK-LABEL: func @rows
// CHECK:         math.sqrt
// LOOPS-LABEL: func.func @rows
// LOOPS:         math.sqrt
func.func @rows(%x: tensor<?x8xf32>, %s: tensor<f32>, %z: tensor<?x2xf32>)
    -> (tensor<?x8xf32>, tensor<?x1xf32>, tensor<?x8xf32>) {
  %0:2 = moe.unit_rows_vjp %x by %x eps <clamp> 1.0e-12
      scale(%s : tensor<f32>)
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x1xf32>
  %1 = moe.subset_partition_vjp %x by %z size 2 to 3
      : tensor<?x8xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return %0#0, %0#1, %1 : tensor<?x8xf32>, tensor<?x1xf32>, tensor<?x8xf32>
}
