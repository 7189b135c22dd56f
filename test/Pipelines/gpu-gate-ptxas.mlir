// The assembler takes the PTX of both layers, spills nothing, and stays below a
// ceiling of registers that leaves four blocks a multiprocessor.

// REQUIRES: nvptx, ptxas
// RUN: split-file %S/gpu-gate.mlir %t
// RUN: moe-opt %t/mixtral.mlir --moe-gpu -o %t/mixtral.bin.mlir
// RUN: %python %S/Inputs/extract_ptx.py %t/mixtral.bin.mlir %t/mixtral.ptx
// RUN: ptxas -arch=sm_80 -v --maxrregcount=128 %t/mixtral.ptx -o %t/mixtral.cubin 2>&1 \
// RUN:   | FileCheck %s --check-prefixes=CHECK,SMALL
// RUN: moe-opt %t/deepseek.mlir --moe-gpu -o %t/deepseek.bin.mlir
// RUN: %python %S/Inputs/extract_ptx.py %t/deepseek.bin.mlir %t/deepseek.ptx
// RUN: ptxas -arch=sm_80 -v --maxrregcount=128 %t/deepseek.ptx -o %t/deepseek.cubin 2>&1 \
// RUN:   | FileCheck %s --check-prefixes=CHECK,LARGE

// A cubin inside the module.
// RUN: moe-opt %t/mixtral.mlir --moe-gpu=format=bin | FileCheck %s --check-prefix=CUBIN

// CHECK: Compiling entry function '{{mixtral|deepseek}}_kernel' for 'sm_80'
// SMALL: 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
// LARGE: 2096 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
// CHECK: Used {{[0-9]+}} registers, used 0 barriers
// CUBIN: gpu.binary @kernels {{.*}}"\7FELF
