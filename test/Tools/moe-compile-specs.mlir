// The builder and the reference mean the same by the same keys.
// REQUIRES: python, moe-compile
// RUN: %python -B %S/Inputs/check_layer_specs.py moe-compile \
// RUN:   %moe_source/test/reference 50 | FileCheck %s
// CHECK: layers, 0 problems
