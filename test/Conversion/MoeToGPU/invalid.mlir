// RUN: split-file %s %t
// RUN: not moe-opt %t/threads.mlir --moe-parallel-to-launch=threads=2048 2>&1 \
// RUN:   | FileCheck %s --check-prefix=THREADS
// RUN: not moe-opt %t/view.mlir --moe-split-host 2>&1 \
// RUN:   | FileCheck %s --check-prefix=VIEW
// RUN: not moe-opt %t/branches.mlir --moe-split-host 2>&1 \
// RUN:   | FileCheck %s --check-prefix=BRANCHES

// THREADS: error: 'func.func' op has no GPU code: a block of 2048 threads; 1 to 1024 are possible
// VIEW: error: 'memref.subview' op has no GPU code: its result depends on data and is no number
// BRANCHES: error: 'func.func' op has no GPU code: it has branches

//--- threads.mlir
func.func @f(%out: memref<8xf32>) {
  return
}

//--- view.mlir
func.func @f(%in: memref<2xindex>, %out: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %one = arith.constant 1.0 : f32
  %at = memref.load %in[%c0] : memref<2xindex>
  %part = memref.subview %out[%at] [2] [1]
      : memref<8xf32> to memref<2xf32, strided<[1], offset: ?>>
  scf.forall (%i) in (2) {
    memref.store %one, %part[%i] : memref<2xf32, strided<[1], offset: ?>>
  }
  return
}

//--- branches.mlir
func.func @f(%c: i1, %out: memref<8xf32>) {
  cf.cond_br %c, ^a, ^b
^a:
  return
^b:
  return
}
