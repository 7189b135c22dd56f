// RUN: moe-opt %s --split-input-file --moe-emit-entry | FileCheck %s

// Three functions and two descriptions a entry, under the names of moe_rt.h;
// the function itself is private and has lost its marks.
// CHECK-LABEL: func.func private @layer.body(
// CHECK-NOT:     moe.
// CHECK:       func.func private @layer.workspace(
// CHECK:       llvm.mlir.global external constant @moe_layer_info("
// CHECK-SAME:    {{.*}}layer\00{{.*}}T\00{{.*}}x\00{{.*}}w\00{{.*}}#moe.layout<orientation = out_in>\00{{.*}}y\00
// CHECK-LABEL: llvm.func @moe_layer(
// CHECK-SAME:    %[[C:[a-z0-9]+]]: !llvm.ptr, %[[IN:[a-z0-9]+]]: !llvm.ptr, %[[OUT:[a-z0-9]+]]: !llvm.ptr, %[[WS:[a-z0-9]+]]: !llvm.ptr, %[[N:[a-z0-9]+]]: i64) -> i32
// Nothing is called through a context of another version; inputs are checked
// before a size is computed from them, outputs and workspace after.
// CHECK:         llvm.load %{{.+}} : !llvm.ptr -> i32
// CHECK:         llvm.cond_br
// CHECK:         llvm.call %{{.+}}(%[[C]], %{{.+}}, %[[IN]])
// CHECK:         llvm.cond_br
// CHECK:         %[[NEED:.+]] = func.call @layer.workspace(
// CHECK:         llvm.call %{{.+}}(%[[C]], %{{.+}}, %[[IN]], %[[OUT]], %[[WS]], %[[N]], %{{.+}})
// CHECK:         llvm.cond_br
// CHECK:         %[[S:.+]] = func.call @layer.body(
// CHECK:         llvm.return %[[S]] : i32
// CHECK-LABEL: llvm.func @moe_layer_workspace(
// CHECK:         func.call @layer.workspace(
// CHECK:         llvm.store
// CHECK:       llvm.mlir.global external constant @moe_layer_pack_info("
// CHECK-LABEL: llvm.func @moe_layer_pack(
// CHECK-COUNT-1: memref.copy
// CHECK-NOT:     memref.copy
// CHECK:         llvm.return
func.func @layer(%x: memref<?x4xf32> {moe.name = "x", moe.dims = ["T", ""]},
                 %w: memref<2x4x4xbf16>
                     {moe.name = "w", moe.dims = ["", "", ""],
                      moe.layout = #moe.layout<orientation = out_in>},
                 %y: memref<?x4xf32> {moe.name = "y", moe.dims = ["T", ""]},
                 %workspace: memref<?xi8>, %context: !llvm.ptr) -> i32
    attributes {moe.entry, moe.num_inputs = 2 : i64,
                moe.bounds = {T = 64 : i64}} {
  %ok = arith.constant 0 : i32
  return %ok : i32
}
func.func private @layer.workspace(%x: memref<?x4xf32>, %w: memref<2x4x4xbf16>,
                                   %y: memref<?x4xf32>) -> index {
  %c0 = arith.constant 0 : index
  return %c0 : index
}

// -----

// A function that is no entry has no entry points.
// CHECK-LABEL: func.func @no_entry(
// CHECK-NOT:     llvm
func.func @no_entry(%x: memref<?x4xf32>) {
  return
}
