// The assembler spills nothing of a whole layer, and leaves three blocks of the
// gated product on a multiprocessor: 168 registers at most.

// REQUIRES: nvptx, ptxas
// RUN: moe-compile --example olmoe -o %t.mlir
// RUN: moe-opt %t.mlir --moe-gpu=chip=sm_80 -o %t.bin.mlir
// RUN: %python %S/Inputs/extract_ptx.py %t.bin.mlir %t.ptx
// RUN: ptxas -arch=sm_80 -v --maxrregcount=168 %t.ptx -o %t.cubin 2>&1 | FileCheck %s
// RUN: moe-opt %t.mlir --moe-gpu=chip=sm_90 -o %t.bin.mlir
// RUN: %python %S/Inputs/extract_ptx.py %t.bin.mlir %t.ptx
// RUN: ptxas -arch=sm_90 -v --maxrregcount=168 %t.ptx -o %t.cubin 2>&1 | FileCheck %s

// CHECK-NOT: {{[1-9][0-9]*}} bytes spill
// CHECK:     49152 bytes smem
// CHECK-NOT: {{[1-9][0-9]*}} bytes spill
// CHECK:     49152 bytes smem
// CHECK-NOT: {{[1-9][0-9]*}} bytes spill
