// The road of a layer, stage by stage: what is left after each, and what no
// stage makes.

// RUN: moe-opt %s --moe-to-moe -o %t.moe.mlir
// RUN: FileCheck %s --check-prefix=MOE --input-file=%t.moe.mlir
// RUN: moe-opt %t.moe.mlir --moe-to-routed -o %t.routed.mlir
// RUN: FileCheck %s --check-prefix=ROUTED --input-file=%t.routed.mlir
// RUN: moe-opt %t.routed.mlir --moe-to-grouped -o %t.grouped.mlir
// RUN: FileCheck %s --check-prefix=GROUPED --input-file=%t.grouped.mlir
// RUN: moe-opt %t.grouped.mlir --moe-to-buffers -o %t.buffers.mlir
// RUN: FileCheck %s --check-prefix=BUFFERS --input-file=%t.buffers.mlir
// RUN: moe-opt %t.buffers.mlir --moe-to-cpu -o %t.cpu.mlir
// RUN: FileCheck %s --check-prefix=CPU --input-file=%t.cpu.mlir
// RUN: moe-opt %t.cpu.mlir --moe-to-llvm -o %t.llvm.mlir
// RUN: FileCheck %s --check-prefix=LLVM --input-file=%t.llvm.mlir

// The stages one by one are the whole road.
// RUN: moe-opt %s --moe-cpu -o %t.all.mlir
// RUN: diff %t.llvm.mlir %t.all.mlir

// Options reach the passes.
// RUN: moe-opt %s --moe-cpu="tile-size=32 lanes=8" --dump-pass-pipeline \
// RUN:   -o /dev/null 2>&1 | FileCheck %s --check-prefix=DUMP
// DUMP: moe-fuse-gating{tile-size=32}
// DUMP: moe-lower-routing{lanes=8}

// MOE:         memref<?x64xf32> {moe.dims = ["T", ""]
// MOE:         moe.gate
// MOE:         moe.combine

// One gate, in the loop over tiles of tokens.
// ROUTED-NOT:  moe.gate
// ROUTED:      scf.forall
// ROUTED:        moe.gate
// ROUTED-NEXT:   moe.route
// ROUTED-NOT:  moe.gate

// Of the dialect the primitives alone; the gate's weight is put into panels in
// front of its loop. One grouping serves both ends, and no row is copied.
// GROUPED-NOT: moe.{{gate|route|dispatch|experts|combine }}
// GROUPED:     scf.forall {{.*}} -> (tensor<1x64x16xf32>)
// GROUPED:     scf.forall
// GROUPED:       vector.fma
// GROUPED:       vector.transfer_write
// GROUPED:     moe.group ins
// GROUPED-NOT: linalg.generic
// GROUPED:     moe.grouped_matmul {{.*}} rows(
// GROUPED:     moe.grouped_matmul
// GROUPED:     moe.combine_slots
// GROUPED-NOT: moe.{{gate|route|dispatch|experts|group|combine}}

// Nothing is copied: the last op writes to the destination. Outside the tasks
// the buffers are ids and weights [T, 2], the lists of the grouping, and per
// assignment a hidden row and an output row: nothing of T x E but a tile's own
// logits, nothing of T x E x H, no one-hot matrix. The router's weight has a
// copy in panels.
// BUFFERS-LABEL: func.func @layer(
// BUFFERS-SAME:    %[[OUT:[a-z0-9]+]]: memref<?x64xf32> {moe.dims = ["T", ""], moe.name = "y"}
// BUFFERS-NOT:   memref.copy
// BUFFERS:       moe.combine_slots {{.*}} outs(%[[OUT]]
// BUFFERS-NOT:   memref.copy

// RUN: grep -o "memref.alloc(.*" %t.buffers.mlir | sed "s/.* : //" | sort -u \
// RUN:   | FileCheck %s --check-prefix=ALLOCS
// ALLOCS:      memref<1x64x16xf32>
// ALLOCS-NEXT: memref<8x16xf32>
// ALLOCS-NEXT: memref<9xi32>
// ALLOCS-NEXT: memref<?x128xf32>
// ALLOCS-NEXT: memref<?x2xf32>
// ALLOCS-NEXT: memref<?x2xi32>
// ALLOCS-NEXT: memref<?x64xf32>
// ALLOCS-NEXT: memref<?x8xf32>
// ALLOCS-NEXT: memref<?xf32>
// ALLOCS-NEXT: memref<?xi32>
// ALLOCS-NOT:  memref

// CPU-NOT:     moe.
// CPU-NOT:     memref.alloc(
// CPU-NOT:     memref.copy
// CPU-NOT:     scf.forall
// CPU:         llvm.func @moe_layer(
// CPU-NOT:     scf.forall

// LLVM-NOT:    {{(func\.func|scf\.|arith\.|memref\.|vector\.|math\.)}}
// LLVM:        llvm.func @moe_layer(

func.func @layer(%x: tensor<?x64xf32> {moe.name = "x"},
                 %router: tensor<8x64xf32> {moe.name = "router"},
                 %up: tensor<8x256x64xf32> {moe.name = "up"},
                 %down: tensor<8x64x128xf32> {moe.name = "down"})
    -> (tensor<?x64xf32> {moe.name = "y"}) attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, normalize = sum> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x64xf32>, tensor<?x2xi32>)
      -> (tensor<?x64xf32>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%up : tensor<8x256x64xf32>) down(%down : tensor<8x64x128xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x64xf32> -> tensor<?x64xf32>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
