// What a stock mlir-opt offers for finding faults, moe-opt has too.
// REQUIRES: moe-opt
// RUN: rm -f %t.mlir

// A pass that fails leaves a file that fails again.
// RUN: not moe-opt %s --moe-prepare-entry --mlir-disable-threading \
// RUN:   --mlir-pass-pipeline-crash-reproducer=%t.mlir 2>&1 \
// RUN:   | FileCheck %s --check-prefix=FAILS
// FAILS: error: Failures have been detected
// RUN: FileCheck %s --check-prefix=REPRODUCER --input-file=%t.mlir
// REPRODUCER: func.func @scalar
// REPRODUCER: mlir_reproducer
// REPRODUCER: pipeline: "builtin.module(moe-prepare-entry)"
// RUN: not moe-opt %t.mlir --run-reproducer 2>&1 \
// RUN:   | FileCheck %s --check-prefix=AGAIN
// AGAIN: error: 'func.func' op entry argument 0 is 'f32'

// The pipeline can be printed.
// RUN: moe-opt %S/Inputs/tiny.mlir --moe-cpu --dump-pass-pipeline -o /dev/null \
// RUN:   2>&1 | FileCheck %s --check-prefix=PIPELINE
// PIPELINE: moe-prepare-entry
// PIPELINE: moe-fuse-gating
// PIPELINE: moe-emit-entry
func.func @scalar(%s: f32) attributes {moe.entry} {
  return
}
