// RUN: moe-opt %s --split-input-file --moe-parallel-to-launch=threads=64 \
// RUN:   | FileCheck %s

// Neighbours differ in the last number; the rest of the last block is idle, and
// a launch has a block at least.

// CHECK-LABEL: func @places
// CHECK-SAME:    %[[T:[^ ]+]]: index
// CHECK:      %[[COUNT:.+]] = arith.muli %[[T]], %c40
// CHECK:      arith.divui
// CHECK:      %[[BLOCKS:.+]] = arith.maxui
// CHECK:      gpu.launch blocks(%[[B:.+]], %{{.+}}, %{{.+}}) in (%{{.+}} = %[[BLOCKS]],
// CHECK-SAME:   threads(%[[I:.+]], %{{.+}}, %{{.+}}) in (%{{.+}} = %c64
// CHECK:        memref.alloca() : memref<4xf32>
// CHECK:        %[[FIRST:.+]] = arith.muli %[[B]],
// CHECK:        %[[NUMBER:.+]] = arith.addi %[[FIRST]], %[[I]]
// CHECK:        %[[IS:.+]] = arith.cmpi ult, %[[NUMBER]], %[[COUNT]]
// CHECK:        scf.if %[[IS]]
// CHECK:          %[[LAST:.+]] = arith.remui %[[NUMBER]], %c40
// CHECK:          %[[ROW:.+]] = arith.divui %[[NUMBER]], %c40
// CHECK:          memref.store %{{.+}}, %{{.+}}[%[[ROW]], %[[LAST]]]
// CHECK-NOT:  scf.forall
func.func @places(%tokens: index, %out: memref<?x40xf32>) {
  %c0 = arith.constant 0 : index
  %one = arith.constant 1.0 : f32
  scf.forall (%t, %j) in (%tokens, 40) {
    %own = memref.alloca() : memref<4xf32>
    memref.store %one, %own[%c0] : memref<4xf32>
    %v = memref.load %own[%c0] : memref<4xf32>
    memref.store %v, %out[%t, %j] : memref<?x40xf32>
  }
  return
}

// -----

// A loop of one iteration is one thread; loops inside of threads are sequential.

// CHECK-LABEL: func @one
// CHECK:      gpu.launch blocks({{.*}}) in (%{{.+}} = %c1{{[_0-9]*}}, {{.*}} threads({{.*}}) in (%{{.+}} = %c1
// CHECK-NOT:    scf.if
// CHECK:        scf.for
// CHECK:        gpu.terminator
// CHECK-NOT:  scf.forall
func.func @one(%out: memref<8xf32>) {
  %one = arith.constant 1.0 : f32
  scf.forall (%i) in (1) {
    scf.forall (%j) in (8) {
      memref.store %one, %out[%j] : memref<8xf32>
    }
  }
  return
}

// -----

// The host's loop launches a kernel in each round.

// CHECK-LABEL: func @rounds
// CHECK:      scf.for
// CHECK:        gpu.launch
// CHECK:          memref.store
// CHECK:          gpu.terminator
// CHECK-NOT:  scf.forall
func.func @rounds(%out: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c9 = arith.constant 9 : index
  %one = arith.constant 1.0 : f32
  scf.for %round = %c0 to %c9 step %c1 {
    scf.forall (%i) in (8) {
      memref.store %one, %out[%i] : memref<8xf32>
    }
  }
  return
}
