// RUN: not moe-opt %s --moe-generate-vjp=function=g \
// RUN:   --mlir-print-op-on-diagnostic=false 2>&1 \
// RUN:   | FileCheck %s --check-prefix=FUNCTION
// FUNCTION: error: moe-generate-vjp: there is no function @g

// RUN: not moe-opt %s --moe-generate-vjp=save=all \
// RUN:   --mlir-print-op-on-diagnostic=false 2>&1 \
// RUN:   | FileCheck %s --check-prefix=SAVE
// SAVE: error: moe-generate-vjp: save is minimal or recompute, not 'all'

// RUN: not moe-opt %s --moe-generate-vjp=wrt=x,z \
// RUN:   --mlir-print-op-on-diagnostic=false 2>&1 \
// RUN:   | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: error: moe-generate-vjp: @f has no argument 'z'

// RUN: not moe-opt %s --moe-generate-vjp=wrt=ids \
// RUN:   --mlir-print-op-on-diagnostic=false 2>&1 \
// RUN:   | FileCheck %s --check-prefix=INTEGER
// INTEGER: error: moe-generate-vjp: argument 'ids' is no tensor of floating-point numbers

// RUN: not moe-opt %s --moe-generate-vjp=wrt=arg2 \
// RUN:   --mlir-print-op-on-diagnostic=false 2>&1 \
// RUN:   | FileCheck %s --check-prefix=SCALAR
// SCALAR: error: moe-generate-vjp: argument 'arg2' is no tensor of floating-point numbers

// RUN: not moe-opt %s --moe-generate-vjp=wrt=x,x \
// RUN:   --mlir-print-op-on-diagnostic=false 2>&1 \
// RUN:   | FileCheck %s --check-prefix=TWICE
// TWICE: error: moe-generate-vjp: argument 'x' is named twice

// Nothing is printed after an error.
// FUNCTION-NOT: return
// SAVE-NOT: return
// UNKNOWN-NOT: return
// TWICE-NOT: return

func.func @f(%x: tensor<4xf32> {moe.name = "x"},
             %ids: tensor<4xi32> {moe.name = "ids"}, %s: f32)
    -> tensor<4xf32> {
  return %x : tensor<4xf32>
}
