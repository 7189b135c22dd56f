// RUN: moe-opt %s --split-input-file --allow-unregistered-dialect \
// RUN:   --moe-asserts-to-status | FileCheck %s

// The entry takes the context and returns a status; a failed assertion keeps
// its message in the context and returns, and each has a message of its own.
// CHECK-DAG:   llvm.mlir.global private constant @[[$M1:.+]]("first\00")
// CHECK-DAG:   llvm.mlir.global private constant @[[$M2:.+]]("second\00")
// CHECK-LABEL: func.func @entry(
// CHECK-SAME:    %[[A:[a-z0-9]+]]: i1, %[[B:[a-z0-9]+]]: i1, %[[X:[a-z0-9]+]]: memref<4xf32>, %[[C:[a-z0-9]+]]: !llvm.ptr) -> i32
// CHECK:         cf.cond_br %[[A]], ^[[NEXT:.+]], ^[[FAIL:.+]]
// CHECK:       ^[[FAIL]]:
// CHECK:         llvm.mlir.addressof @[[$M1]]
// CHECK:         %[[S:.+]] = llvm.call
// CHECK:         return %[[S]] : i32
// CHECK:       ^[[NEXT]]:
// CHECK:         cf.cond_br %[[B]], ^[[LAST:.+]], ^[[FAIL2:.+]]
// CHECK:       ^[[FAIL2]]:
// CHECK:         llvm.mlir.addressof @[[$M2]]
// CHECK:       ^[[LAST]]:
// CHECK:         "test.use"
// CHECK:         %[[OK:.+]] = arith.constant 0 : i32
// CHECK:         return %[[OK]] : i32
// CHECK-NOT:     cf.assert
func.func @entry(%a: i1, %b: i1, %x: memref<4xf32>)
    attributes {moe.entry, moe.num_inputs = 2 : i64} {
  cf.assert %a, "first"
  cf.assert %b, "second"
  "test.use"(%x) : (memref<4xf32>) -> ()
  return
}

// -----

// CHECK-LABEL: func.func @no_assert(
// CHECK-SAME:    %{{.+}}: memref<4xf32>, %{{.+}}: !llvm.ptr) -> i32
// CHECK-NEXT:    %[[OK:.+]] = arith.constant 0 : i32
// CHECK-NEXT:    return %[[OK]]
func.func @no_assert(%x: memref<4xf32>)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  return
}

// -----

// CHECK-LABEL: func.func @no_entry(
// CHECK-NEXT:    cf.assert
// CHECK-NEXT:    return
func.func @no_entry(%a: i1) {
  cf.assert %a, "stays"
  return
}
