// RUN: moe-opt %s --moe-plan-workspace=padding=100 --canonicalize --cse \
// RUN:   | FileCheck %s
// RUN: moe-opt %s --moe-plan-workspace=padding=100 --canonicalize --cse \
// RUN:   | FileCheck %s --check-prefix=SIZE

// Between two buffers lie 128 bytes, the padding up to a multiple of 64: of
// 64 bytes each they begin at 0, 192 and 384.
// CHECK-LABEL: func.func @entry(
// CHECK-DAG:     %[[C0:.+]] = arith.constant 0 : index
// CHECK-DAG:     %[[C192:.+]] = arith.constant 192 : index
// CHECK-DAG:     %[[C384:.+]] = arith.constant 384 : index
// CHECK:         memref.view %{{.+}}[%[[C0]]][] : memref<?xi8> to memref<5xf32>
// CHECK:         memref.view %{{.+}}[%[[C192]]][] : memref<?xi8> to memref<6xf32>
// CHECK:         memref.view %{{.+}}[%[[C384]]][] : memref<?xi8> to memref<7xf32>
// SIZE-LABEL: func.func private @entry.workspace(
// SIZE:         %[[ALL:.+]] = arith.constant 448 : index
// SIZE:         return %[[ALL]]
func.func @entry(%x: memref<3xf32>)
    attributes {moe.entry, moe.num_inputs = 1 : i64} {
  %a = memref.alloc() : memref<5xf32>
  %b = memref.alloc() : memref<6xf32>
  %c = memref.alloc() : memref<7xf32>
  %f = arith.constant 1.0 : f32
  linalg.fill ins(%f : f32) outs(%a : memref<5xf32>)
  linalg.fill ins(%f : f32) outs(%b : memref<6xf32>)
  linalg.fill ins(%f : f32) outs(%c : memref<7xf32>)
  return
}
