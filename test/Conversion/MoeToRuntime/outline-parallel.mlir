// RUN: moe-opt %s --split-input-file --moe-outline-parallel | FileCheck %s

// A task is a function of what it captures, of the loop's bounds and of its
// number; the runtime calls it for a range of numbers.
// CHECK-LABEL: llvm.func internal @entry.task0.range(
// CHECK-SAME:    %[[DATA:[a-z0-9]+]]: !llvm.ptr, %[[BEGIN:[a-z0-9]+]]: i64, %[[END:[a-z0-9]+]]: i64)
// CHECK:         scf.for
// CHECK:           func.call @entry.task0(
// CHECK:         llvm.return
// CHECK-LABEL: func.func private @entry.task0(
// CHECK-SAME:    %[[F:[a-z0-9]+]]: f32, %[[X:[a-z0-9]+]]: memref<?xf32>,
// CHECK-SAME:    %[[N:[a-z0-9]+]]: index) {
// CHECK-NOT:     scf.forall
// Constants are made anew.
// CHECK:         arith.constant 1.5
// CHECK:         memref.store %[[F]], %[[X]]
// CHECK:         return
// CHECK-LABEL: func.func @entry(
// CHECK-SAME:    %[[C:[a-z0-9]+]]: !llvm.ptr) -> i32
// CHECK-NOT:     scf.forall
// CHECK:         llvm.alloca
// CHECK:         arith.ceildivsi
// CHECK:         %[[FN:.+]] = llvm.mlir.addressof @entry.task0.range
// CHECK:         llvm.call %{{.+}}(%[[C]], %{{.+}}, %[[FN]], %{{.+}}) : !llvm.ptr, (!llvm.ptr, i64, !llvm.ptr, !llvm.ptr) -> ()
// CHECK:         return
func.func @entry(%x: memref<?xf32>, %f: f32, %n: index, %context: !llvm.ptr)
    -> i32 attributes {moe.entry, moe.num_inputs = 3 : i64} {
  %cst = arith.constant 1.5 : f32
  scf.forall (%i) = (0) to (%n) step (4) {
    %0 = arith.addf %f, %cst : f32
    memref.store %0, %x[%i] : memref<?xf32>
    memref.store %f, %x[%i] : memref<?xf32>
  }
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// Two dimensions share one count of tasks; one loop inside another runs in
// order.
// CHECK-LABEL: func.func private @nested.task0(
// CHECK:         arith.remui
// CHECK:         arith.divui
// CHECK-NOT:     scf.forall
// CHECK:         scf.for
// CHECK-NOT:   @nested.task1
// CHECK-LABEL: func.func @nested(
// CHECK-NOT:     scf.forall
// CHECK:         arith.muli
// CHECK-NOT:     scf.forall
func.func @nested(%x: memref<?x?xf32>, %f: f32, %n: index, %context: !llvm.ptr)
    -> i32 attributes {moe.entry, moe.num_inputs = 3 : i64} {
  scf.forall (%i, %j) in (%n, 8) {
    scf.forall (%k) in (%n) {
      memref.store %f, %x[%i, %k] : memref<?x?xf32>
    }
  }
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// Two loops are two tasks, and one in a sequential loop keeps its place: what
// holds its captures is made once, at the top.
// CHECK-DAG:   func.func private @two.task0(
// CHECK-DAG:   func.func private @two.task1(
// CHECK-LABEL: func.func @two(
// CHECK:         llvm.alloca
// CHECK:         llvm.alloca
// CHECK:         scf.for
// CHECK-NOT:       llvm.alloca
// CHECK:           llvm.call
// CHECK:         return
func.func @two(%x: memref<?xf32>, %f: f32, %n: index, %context: !llvm.ptr)
    -> i32 attributes {moe.entry, moe.num_inputs = 3 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.forall (%i) in (%n) {
    memref.store %f, %x[%i] : memref<?xf32>
  }
  scf.for %k = %c0 to %n step %c1 {
    scf.forall (%i) in (%n) {
      memref.store %f, %x[%k] : memref<?xf32>
    }
  }
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// -----

// CHECK-LABEL: func.func @no_loop(
// CHECK-NEXT:    arith.constant
// CHECK-NEXT:    return
func.func @no_loop(%x: memref<?xf32>, %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}

// CHECK-LABEL: func.func @no_entry(
// CHECK-NEXT:    scf.forall
func.func @no_entry(%x: memref<?xf32>, %f: f32, %n: index) {
  scf.forall (%i) in (%n) {
    memref.store %f, %x[%i] : memref<?xf32>
  }
  return
}
