// What takes a slower road is said aloud, once, and on demand is an error.
// REQUIRES: moe-compile
// RUN: rm -f %t.o
// RUN: moe-compile %s --emit=object -o %t.o 2>&1 | FileCheck %s \
// RUN:   --implicit-check-not=remark: --implicit-check-not=error:
// RUN: rm %t.o
// RUN: not moe-compile %s --emit=object -o %t.o --Werror=fallback 2>&1 \
// RUN:   | FileCheck %s --check-prefix=ERROR --implicit-check-not=warning:
// RUN: not ls %t.o

// A layer without any says nothing.
// RUN: moe-compile %S/Inputs/tiny.mlir --Werror=fallback --emit=object -o %t.o \
// RUN:   2>&1 | count 0
// RUN: ls %t.o

// CHECK: moe-compile-remarks.mlir:[[#@LINE+5]]:{{[0-9]+}}: warning: {{.*}}not fused with a gate: its logits do not come from a gate or score
// ERROR: moe-compile-remarks.mlir:[[#@LINE+4]]:{{[0-9]+}}: error: {{.*}}not fused with a gate: its logits do not come from a gate or score [--Werror=fallback]
func.func @choose(%l: tensor<?x8xf32>)
    -> (tensor<?x2xi32>, tensor<?x2xf32>) attributes {moe.entry} {
  // The first route has no gate.
  %ids, %weights = moe.route #moe.top_k<k = 2> %l
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}
