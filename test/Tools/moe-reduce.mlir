// A layer shrinks to the op that a test asks for.
// REQUIRES: moe-reduce
// RUN: moe-reduce %S/Inputs/tiny.mlir \
// RUN:   -reduction-tree='traversal-mode=0 test=%S/Inputs/has-gate.sh' \
// RUN:   | FileCheck %s --implicit-check-not='moe.{{(route|dispatch|experts|combine)}} '
// CHECK: moe.gate
