// RUN: moe-opt %s --split-input-file --allow-unregistered-dialect \
// RUN:   --moe-plan-workspace | FileCheck %s
// RUN: moe-opt %s --split-input-file --allow-unregistered-dialect \
// RUN:   --moe-plan-workspace --canonicalize --cse | FileCheck %s --check-prefix=SIZE

// Buffers are views of one last argument, at multiples of 64 bytes; a function
// of the same arguments gives the bytes.
// CHECK-LABEL: func.func @entry(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<?x3xf32>, %[[Y:[a-z0-9]+]]: memref<?xf32>, %[[WS:[a-z0-9]+]]: memref<?xi8>
// CHECK-NOT:     memref.alloc
// CHECK:         %[[A:.+]] = memref.view %[[WS]][%{{.+}}][%{{.+}}] : memref<?xi8> to memref<?x3xf32>
// CHECK:         %[[B:.+]] = memref.view %[[WS]][%{{.+}}][] : memref<?xi8> to memref<5xbf16>
// CHECK-NOT:     memref.alloc
// CHECK-NOT:     memref.dealloc
// CHECK:         "test.use"(%[[A]], %[[B]])
// CHECK:         return
// CHECK-LABEL: func.func private @entry.workspace(
// CHECK-SAME:    %{{.+}}: memref<?x3xf32>, %{{.+}}: memref<?xf32>) -> index

// 12 bytes a row, up to a multiple of 64, and 10 bytes, up to 64.
// SIZE-LABEL: func.func private @entry.workspace(
// SIZE-SAME:    %[[X:[a-z0-9]+]]: memref<?x3xf32>
// SIZE-DAG:     %[[C12:.+]] = arith.constant 12 : index
// SIZE-DAG:     %[[C64:.+]] = arith.constant 64 : index
// SIZE-DAG:     %[[T:.+]] = memref.dim %[[X]]
// SIZE:         %[[BYTES:.+]] = arith.muli %[[T]], %[[C12]]
// SIZE:         %[[UNITS:.+]] = arith.ceildivui %[[BYTES]], %[[C64]]
// SIZE:         %[[FIRST:.+]] = arith.muli %[[UNITS]], %[[C64]]
// SIZE:         %[[ALL:.+]] = arith.addi %[[FIRST]], %[[C64]]
// SIZE:         return %[[ALL]]
func.func @entry(%x: memref<?x3xf32>, %y: memref<?xf32>)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : memref<?x3xf32>
  %a = memref.alloc(%t) {alignment = 64 : i64} : memref<?x3xf32>
  %b = memref.alloc() : memref<5xbf16>
  "test.use"(%a, %b) : (memref<?x3xf32>, memref<5xbf16>) -> ()
  memref.dealloc %a : memref<?x3xf32>
  return
}

// -----

// Inside a parallel loop a buffer has its largest size on the task's stack.
// CHECK-LABEL: func.func @task(
// CHECK:         scf.forall
// CHECK:           %[[S:.+]] = memref.alloca() {alignment = 64 : i64} : memref<64x8xf32>
// CHECK:           %[[N:.+]] = affine.min
// CHECK:           %[[V:.+]] = memref.reinterpret_cast %[[S]] to offset: [0], sizes: [%[[N]], 8], strides: [8, 1] : memref<64x8xf32> to memref<?x8xf32>
// CHECK-NOT:       memref.alloc(
// CHECK:           "test.use"(%[[V]])
// SIZE-LABEL: func.func private @task.workspace(
// SIZE:         %[[ZERO:.+]] = arith.constant 0 : index
// SIZE:         return %[[ZERO]]
func.func @task(%t: index, %x: memref<?xf32>)
    attributes {moe.entry, moe.num_inputs = 2 : i64} {
  scf.forall (%i) = (0) to (%t) step (64) {
    %n = affine.min affine_map<(d0)[s0] -> (-d0 + s0, 64)>(%i)[%t]
    %a = memref.alloc(%n) : memref<?x8xf32>
    "test.use"(%a) : (memref<?x8xf32>) -> ()
  }
  return
}

// -----

// One buffer serves all iterations of a sequential loop.
// CHECK-LABEL: func.func @loop(
// CHECK:         %[[A:.+]] = memref.view
// CHECK:         scf.for
// CHECK-NOT:       memref.alloc
// CHECK:           "test.use"(%[[A]])
func.func @loop(%x: memref<?xf32>)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = memref.dim %x, %c0 : memref<?xf32>
  scf.for %i = %c0 to %t step %c1 {
    %a = memref.alloc(%t) : memref<?xf32>
    "test.use"(%a) : (memref<?xf32>) -> ()
  }
  return
}

// -----

// Functions that are no entries keep their buffers.
// CHECK-LABEL: func.func @no_entry(
// CHECK-NEXT:    memref.alloc
// CHECK-NOT:   @no_entry.workspace
func.func @no_entry() -> memref<4xf32> {
  %a = memref.alloc() : memref<4xf32>
  return %a : memref<4xf32>
}

// -----

// A task whose buffers no stack holds runs on one thread, by the workspace; its
// other buffers go there too.
// CHECK-LABEL: func.func @large_task(
// CHECK-NOT:     memref.alloca
// CHECK-DAG:     memref.view {{.*}} to memref<1048576xf32>
// CHECK-DAG:     memref.view {{.*}} to memref<16xf32>
// CHECK:         scf.for
// CHECK-NOT:     scf.forall
// CHECK:           "test.use"
func.func @large_task(%x: memref<?xf32>)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %c0 = arith.constant 0 : index
  %t = memref.dim %x, %c0 : memref<?xf32>
  scf.forall (%i) in (%t) {
    %a = memref.alloc() : memref<1048576xf32>
    %b = memref.alloc() : memref<16xf32>
    "test.use"(%a, %b) : (memref<1048576xf32>, memref<16xf32>) -> ()
  }
  return
}
