// Code for every chip that is known: each is taken from the list that an
// unknown one is answered with, so that none is listed that LLVM refuses. The
// runtime knows a driver that is too old for each.

// REQUIRES: nvptx, python
// RUN: not moe-opt %s --moe-gpu=chip=sm_1 2> %t.refused
// RUN: FileCheck %s --check-prefix=UNKNOWN --input-file=%t.refused
// RUN: %python %S/Inputs/emit_all_chips.py %moe_test_driver %s %t.refused moe-run moe-opt \
// RUN:   | FileCheck %s
// UNKNOWN: error: no GPU code for chip 'sm_1'; known are sm_80, {{.*}}, sm_120
// CHECK-DAG: sm_80: .version 7.8
// CHECK-DAG: sm_90a: .version 8.0
// CHECK-DAG: sm_100a: .version 8.6
// CHECK-DAG: sm_120: .version 8.7
// CHECK: 8 chips

// The assembler is not there: one error, and no PTX in place of a cubin.
// RUN: not env PATH= CUDA_PATH=%t.none CUDA_HOME=%t.none CUDA_ROOT=%t.none \
// RUN:   moe-opt %s --moe-gpu=format=bin 2>&1 | FileCheck %s --check-prefix=PTXAS
// PTXAS: error: {{.*}}ptxas

func.func @gate(%x: tensor<?x16xbf16> {moe.name = "x"},
                %w: tensor<8x16xbf16> {moe.name = "router"})
    -> (tensor<?x2xi32>, tensor<?x2xf32>) attributes {moe.entry} {
  %logits = moe.gate %x, %w
      : (tensor<?x16xbf16>, tensor<8x16xbf16>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
