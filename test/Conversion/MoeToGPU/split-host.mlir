// RUN: moe-opt %s --split-input-file --moe-split-host | FileCheck %s

// What touches a buffer beside parallel loops is a loop of one thread. A number
// that it makes and another needs goes through a buffer of one element.

// CHECK-LABEL: func @numbers
// CHECK-SAME:    %[[IN:.+]]: memref<8xf32>, %[[OUT:.+]]: memref<8xf32>
// CHECK:      %[[SPILL:.+]] = memref.alloc() : memref<1xf32>
// CHECK:      scf.forall (%{{.+}}) in (1) {
// CHECK:        %[[SUM:.+]] = scf.for
// CHECK:        memref.store %[[SUM]], %[[SPILL]][%{{.+}}]
// CHECK:      }
// CHECK:      scf.forall (%[[I:.+]]) in (8) {
// CHECK:        %[[READ:.+]] = memref.load %[[SPILL]]
// CHECK:        memref.store %[[READ]], %[[OUT]][%[[I]]]
// CHECK:      }
// CHECK:      scf.forall (%{{.+}}) in (1) {
// CHECK:        %[[AGAIN:.+]] = memref.load %[[SPILL]]
// CHECK:        memref.store %[[AGAIN]], %[[IN]]
// CHECK:      }
// CHECK-NEXT: return
func.func @numbers(%in: memref<8xf32>, %out: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %zero = arith.constant 0.0 : f32
  %sum = scf.for %i = %c0 to %c8 step %c1 iter_args(%s = %zero) -> f32 {
    %v = memref.load %in[%i] : memref<8xf32>
    %n = arith.addf %s, %v : f32
    scf.yield %n : f32
  }
  scf.forall (%i) in (8) {
    memref.store %sum, %out[%i] : memref<8xf32>
  }
  memref.store %sum, %in[%c0] : memref<8xf32>
  return
}

// -----

// What follows from inputs alone is read where it is needed, once more in each
// loop: an input does not change.

// CHECK-LABEL: func @inputs
// CHECK-SAME:    %[[SEED:.+]]: memref<1xi64>, %[[OUT:.+]]: memref<8xi64>
// CHECK-NOT:  memref.load
// CHECK:      scf.forall (%[[I:.+]]) in (8) {
// CHECK:        %[[READ:.+]] = memref.load %[[SEED]]
// CHECK:        %[[NEXT:.+]] = arith.addi %[[READ]],
// CHECK:        memref.store %[[NEXT]], %[[OUT]][%[[I]]]
// CHECK-NOT:  scf.forall
// CHECK:      return
func.func @inputs(%seed: memref<1xi64>, %out: memref<8xi64>)
    attributes {moe.num_inputs = 1 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : i64
  %s = memref.load %seed[%c0] : memref<1xi64>
  %n = arith.addi %s, %c1 : i64
  scf.forall (%i) in (8) {
    memref.store %n, %out[%i] : memref<8xi64>
  }
  return
}

// -----

// The host copies back what it has to know.

// CHECK-LABEL: func @checked
// CHECK-SAME:    %[[GROUPS:.+]]: memref<3xi32>
// CHECK:      %[[SPILL:.+]] = memref.alloc() : memref<1xi1>
// CHECK:      scf.forall (%{{.+}}) in (1) {
// CHECK:        memref.load %[[GROUPS]]
// CHECK:        %[[OK:.+]] = arith.cmpi
// CHECK:        memref.store %[[OK]], %[[SPILL]]
// CHECK:      }
// CHECK:      %[[OWN:.+]] = memref.alloca() : memref<1xi1>
// CHECK:      gpu.memcpy %[[OWN]], %[[SPILL]] : memref<1xi1>, memref<1xi1>
// CHECK:      %[[KNOWN:.+]] = memref.load %[[OWN]]
// CHECK:      cf.assert %[[KNOWN]], "groups begin at 0"
func.func @checked(%groups: memref<3xi32>, %out: memref<8xi32>)
    attributes {moe.num_inputs = 1 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0 : i32
  %first = memref.load %groups[%c0] : memref<3xi32>
  %ok = arith.cmpi eq, %first, %zero : i32
  cf.assert %ok, "groups begin at 0"
  scf.forall (%i) in (8) {
    memref.store %zero, %out[%i] : memref<8xi32>
  }
  return
}

// -----

// Buffers of such a loop whose size is known in front are made there.

// CHECK-LABEL: func @buffers
// CHECK:      %[[ROW:.+]] = memref.alloc() : memref<4xf32>
// CHECK:      scf.forall (%{{.+}}) in (1) {
// CHECK-NOT:    memref.alloc
// CHECK:        memref.store %{{.+}}, %[[ROW]]
func.func @buffers(%in: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  scf.for %i = %c0 to %c8 step %c1 {
    %row = memref.alloc() : memref<4xf32>
    %v = memref.load %in[%i] : memref<8xf32>
    memref.store %v, %row[%c0] : memref<4xf32>
    %w = memref.load %row[%c0] : memref<4xf32>
    memref.store %w, %in[%i] : memref<8xf32>
  }
  return
}

// -----

// A loop of kernels is the host's, and what they need is read in each; one that
// touches a buffer beside them is one thread's.

// CHECK-LABEL: func @rounds
// CHECK-SAME:    %[[IN:.+]]: memref<8xf32>
// CHECK:      %[[SPILL:.+]] = memref.alloc() : memref<1xf32>
// CHECK:      scf.forall (%{{.+}}) in (1) {
// CHECK:        memref.store %{{.+}}, %[[SPILL]]
// CHECK:      scf.for %{{.+}} = %c0 to %c8
// CHECK-NEXT:   scf.forall (%{{.+}}) in (8) {
// CHECK:          memref.load %[[SPILL]]
// CHECK:        scf.forall (%{{.+}}) in (4) {
// CHECK:      }
// CHECK-NEXT: }
// CHECK:      scf.forall (%{{.+}}) in (1) {
// CHECK:        scf.for
// CHECK:          memref.store
// CHECK:          scf.forall (%{{.+}}) in (8)
func.func @rounds(%in: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %v = memref.load %in[%c0] : memref<8xf32>
  %n = arith.addf %v, %v : f32
  scf.for %round = %c0 to %c8 step %c1 {
    scf.forall (%i) in (8) {
      memref.store %n, %in[%i] : memref<8xf32>
    }
    scf.forall (%i) in (4) {
      memref.store %n, %in[%i] : memref<8xf32>
    }
  }
  scf.for %round = %c0 to %c8 step %c1 {
    memref.store %n, %in[%round] : memref<8xf32>
    scf.forall (%i) in (8) {
      memref.store %n, %in[%i] : memref<8xf32>
    }
  }
  return
}
