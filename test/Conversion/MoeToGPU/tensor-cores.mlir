// RUN: moe-opt %s --split-input-file --convert-moe-to-gpu | FileCheck %s
// RUN: moe-opt %s --split-input-file --convert-moe-to-gpu=batch-invariant=true \
// RUN:   | FileCheck %s --check-prefix=INVARIANT

// A product of 16-bit numbers is a kernel of four warps: four stages of
// workgroup memory, copies that are zero outside of the expert and of D, and
// mma.sync; two weights share the rows. Experts of few rows are another kernel.

// CHECK-LABEL: func @gated
// CHECK-SAME:    %[[X:[^ ]+]]: memref<?x40xbf16>, %[[ROWS:[^ ]+]]: memref<?xi32>
// CHECK:      cf.assert %{{.+}}, "argument 0 is not aligned to 16 bytes"
// CHECK:      cf.assert %{{.+}}, "argument 3 is not aligned to 16 bytes"
// INVARIANT-LABEL: func @gated
// INVARIANT-NOT: gpu.shuffle xor
// INVARIANT:     workgroup
// INVARIANT-NOT: gpu.shuffle xor

// Two outputs of two weights a warp: 13 groups across, each a block's where
// experts have at most 4 rows on average, and one block otherwise.
// CHECK:      %[[DECODES:.+]] = arith.cmpi ult, %{{.+}}, %c21{{[_0-9]*}}
// CHECK:      %[[BLOCKS:.+]] = arith.select %[[DECODES]], %c13{{[_0-9]*}}, %c1{{[_0-9]*}}
// CHECK:      gpu.launch blocks({{.+}}) in (%{{.+}} = %[[BLOCKS]], {{.+}}) threads({{.+}}) in (%{{.+}} = %c128
// CHECK-NOT:    workgroup
// The expert, by lanes.
// CHECK:        gpu.shuffle up
// CHECK:        nvvm.vote.sync ballot
// One row: its piece and four of the weights, then four sums over the lanes.
// CHECK:        scf.if
// CHECK:            memref.load %[[ROWS]]
// CHECK-NOT:        memref.load %[[ROWS]]
// CHECK:            scf.for
// CHECK:              scf.for
// CHECK-COUNT-5:        vector.load
// CHECK-NOT:            vector.load
// CHECK-COUNT-20:     gpu.shuffle xor
// Up to four rows.
// CHECK:        } else {
// CHECK-COUNT-4:    memref.load %[[ROWS]]
// CHECK:            scf.for
// CHECK:              scf.for
// CHECK-COUNT-8:        vector.load
// CHECK-COUNT-80:     gpu.shuffle xor

// CHECK:      gpu.launch blocks({{.+}}) in (%{{.+}} = %c2{{[_0-9]*}}, {{.+}}) threads({{.+}}) in (%{{.+}} = %c128
// CHECK-SAME:   workgroup(%[[A:.+]] : memref<4x64x32xbf16, #gpu.address_space<workgroup>>, %{{.+}} : memref<4x64x32xbf16, {{.+}}>, %{{.+}} : memref<4x64x32xbf16, {{.+}}>)
// The tile's expert, among those with more rows. What depends on the thread
// stays in the loop.
// CHECK:        scf.for
// CHECK:          llvm.inline_asm has_side_effects "mov.u32 $0, %tid.x;"
// CHECK:          arith.cmpi sle, %{{.+}}, %c4_i32
// CHECK:          gpu.shuffle up
// CHECK:          nvvm.vote.sync ballot
// At most 16 rows: a tile of rows and two of outputs for each of two weights.
// The row of a copy comes from the list.
// CHECK:          scf.if
// CHECK:            scf.if
// CHECK:              memref.load %[[ROWS]]
// CHECK:              nvgpu.device_async_copy %[[X]]{{.+}}, %[[A]]{{.+}}, 8, %{{.+}} {bypassL1}
// CHECK:              nvgpu.device_async_create_group
// CHECK:              nvgpu.device_async_wait %{{.+}} {numGroups = 1 : i32}
// CHECK-NEXT:         gpu.barrier
// CHECK:              nvgpu.ldmatrix %[[A]]
// CHECK-COUNT-4:      nvgpu.mma.sync
// CHECK:              nvgpu.ldmatrix %[[A]]
// CHECK-COUNT-4:      nvgpu.mma.sync
// CHECK:            } else {
// More than 32: two tiles of rows and four of outputs.
// CHECK:          } else {
// CHECK:              nvgpu.device_async_wait %{{.+}} {numGroups = 1 : i32}
// CHECK-NEXT:         gpu.barrier
// CHECK-COUNT-2:      nvgpu.ldmatrix %[[A]]
// CHECK-COUNT-16:     nvgpu.mma.sync
// CHECK-COUNT-2:      nvgpu.ldmatrix %[[A]]
// CHECK-COUNT-16:     nvgpu.mma.sync
// The epilogue, where rows and outputs are there, four outputs at a time.
// CHECK:            scf.if
// CHECK:              scf.if
// CHECK-COUNT-4:        arith.mulf
// CHECK:                vector.store {{.+}}, vector<4xbf16>
// CHECK:            gpu.barrier
// CHECK:        gpu.terminator
// CHECK-NOT:  moe.
func.func @gated(%x: memref<?x40xbf16>, %rows: memref<?xi32>,
                 %offsets: memref<6xi32>, %w: memref<5x200x40xbf16>,
                 %h: memref<?x100xbf16>) {
  %gate = memref.subview %w[0, 0, 0] [5, 100, 40] [1, 1, 1]
      : memref<5x200x40xbf16> to memref<5x100x40xbf16, strided<[8000, 40, 1]>>
  %up = memref.subview %w[0, 100, 0] [5, 100, 40] [1, 1, 1]
      : memref<5x200x40xbf16>
      to memref<5x100x40xbf16, strided<[8000, 40, 1], offset: 4000>>
  moe.grouped_matmul %x rows(%rows : memref<?xi32>)
      offsets(%offsets : memref<6xi32>)
      weights(%gate, %up : memref<5x100x40xbf16, strided<[8000, 40, 1]>>,
              memref<5x100x40xbf16, strided<[8000, 40, 1], offset: 4000>>)
      outs(%h : memref<?x100xbf16>) : memref<?x40xbf16> {
  ^bb0(%a: f32, %b: f32):
    %0 = arith.mulf %a, %b : f32
    moe.yield %0 : f32
  }
  return
}

// -----

// Weights the other way round lie in workgroup memory as they come, and
// ldmatrix transposes them; they have no kernel for few rows. Each weight may
// have rows of its own. A scaled row is rounded before it is multiplied.

// CHECK-LABEL: func @in_out
// CHECK-COUNT-1: gpu.launch
// CHECK-SAME:  workgroup(%[[A:.+]] : memref<3x64x32xf16, {{.+}}>, %[[C:.+]] : memref<3x64x32xf16, {{.+}}>, %[[V:.+]] : memref<3x32x64xf16, {{.+}}>, %[[W:.+]] : memref<3x32x64xf16, {{.+}}>)
// CHECK:       nvgpu.ldmatrix %[[A]]{{.+}}transpose = false
// CHECK:       arith.mulf {{.+}} : vector<2xf32>
// CHECK-NEXT:  arith.truncf {{.+}} : vector<2xf32> to vector<2xf16>
// CHECK:       nvgpu.ldmatrix %[[C]]{{.+}}transpose = false
// CHECK:       nvgpu.ldmatrix %[[V]]{{.+}}transpose = true
// CHECK:       nvgpu.ldmatrix %[[W]]{{.+}}transpose = true
func.func @in_out(%x: memref<?x16xf16>, %y: memref<?x16xf16>,
                  %scale: memref<?xf32>, %offsets: memref<3xi32>,
                  %v: memref<2x16x24xf16>, %w: memref<2x16x24xf16>,
                  %h: memref<?x24xf16>) {
  moe.grouped_matmul %x, %y row_scale(%scale : memref<?xf32>)
      offsets(%offsets : memref<3xi32>)
      weights(%v, %w : memref<2x16x24xf16>, memref<2x16x24xf16>) in_out
      outs(%h : memref<?x24xf16>) : memref<?x16xf16>, memref<?x16xf16> {
  ^bb0(%a: f32, %b: f32):
    %0 = arith.addf %a, %b : f32
    moe.yield %0 : f32
  }
  return
}

// -----

// Seventeen parts of D: sixteen in a loop of as many as there are stages, one
// behind it, which waits for all that is under way and starts nothing.

// CHECK-LABEL: func @deep
// CHECK:      workgroup(
// CHECK-COUNT-3: nvgpu.device_async_create_group
// CHECK:      scf.for {{.+}} iter_args
// CHECK-COUNT-4: nvgpu.device_async_wait %{{.+}} {numGroups = 2 : i32}
// CHECK:      scf.yield
// CHECK-NOT:  nvgpu.device_async_create_group
// CHECK:      nvgpu.device_async_wait %{{.+}} {numGroups = 2 : i32}
// CHECK-NOT:  nvgpu.device_async_wait
// CHECK-NOT:  nvgpu.device_async_create_group
// CHECK:      vector.store
func.func @deep(%x: memref<?x544xf16>, %w: memref<1x8x544xf16>,
                %y: memref<?x8xf16>) {
  moe.grouped_matmul %x weights(%w : memref<1x8x544xf16>)
      outs(%y : memref<?x8xf16>) : memref<?x544xf16> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// Three parts of D are code without a loop: the last wait is for all groups.

// CHECK-LABEL: func @short
// CHECK:      workgroup(
// CHECK-COUNT-3: nvgpu.device_async_create_group
// CHECK-NOT:  nvgpu.device_async_create_group
// CHECK:      nvgpu.device_async_wait %{{.+}} {numGroups = 2 : i32}
// CHECK:      nvgpu.device_async_wait %{{.+}} {numGroups = 1 : i32}
// CHECK:      nvgpu.device_async_wait %{{.+}} {numGroups = 0 : i32}
// CHECK-NOT:  nvgpu.device_async_wait
// CHECK:      vector.store
func.func @short(%x: memref<?x96xf16>, %w: memref<1x8x96xf16>,
                 %y: memref<?x8xf16>) {
  moe.grouped_matmul %x weights(%w : memref<1x8x96xf16>)
      outs(%y : memref<?x8xf16>) : memref<?x96xf16> {
  ^bb0(%a: f32):
    moe.yield %a : f32
  }
  return
}

// -----

// What an epilogue of a tile computes is approximate where numbers have 16
// bits.

// CHECK-LABEL: func @sigmoid
// CHECK-NOT:  math.exp
// CHECK:      llvm.call_intrinsic "llvm.nvvm.ex2.approx"
// CHECK:      arith.divf %{{.+}}, %{{.+}} fastmath<afn>
func.func @sigmoid(%x: memref<?x16xf16>, %w: memref<1x8x16xf16>,
                   %y: memref<?x8xf16>) {
  moe.grouped_matmul %x weights(%w : memref<1x8x16xf16>)
      outs(%y : memref<?x8xf16>) : memref<?x16xf16> {
  ^bb0(%a: f32):
    %one = arith.constant 1.0 : f32
    %0 = arith.negf %a : f32
    %1 = math.exp %0 : f32
    %2 = arith.addf %1, %one : f32
    %3 = arith.divf %one, %2 : f32
    moe.yield %3 : f32
  }
  return
}

// -----

// A weight's gradient: both sides are transposed as they are read; an expert's
// rows are counted on the device.

// CHECK-LABEL: func @outer
// CHECK-SAME:    %[[DY:[^ ]+]]: memref<?x72xbf16>, %[[TOKEN:[^ ]+]]: memref<?xi32>
// CHECK:      gpu.launch blocks({{.+}}) in (%{{.+}} = %c2{{[_0-9]*}}, %{{.+}} = %c2{{[_0-9]*}}, %{{.+}} = %c5{{[_0-9]*}})
// CHECK-SAME:   workgroup(%[[A:.+]] : memref<4x32x64xbf16, {{.+}}>, %[[B:.+]] : memref<4x32x128xbf16, {{.+}}>)
// CHECK:        memref.load %[[TOKEN]]
// CHECK:        nvgpu.device_async_copy %[[DY]]{{.+}}, %[[A]]
// CHECK:        scf.for
// CHECK:          nvgpu.device_async_wait %{{.+}} {numGroups = 2 : i32}
// CHECK:          scf.if
// CHECK-COUNT-2:    nvgpu.ldmatrix %[[A]]{{.+}}transpose = true
// CHECK:            nvgpu.ldmatrix %[[B]]{{.+}}transpose = true
// CHECK:          } else {
// CHECK-NEXT:       scf.yield
// CHECK:        vector.store %{{.+}} : memref<5x72x200xf32>, vector<2xf32>
func.func @outer(%dy: memref<?x72xbf16>, %token: memref<?xi32>,
                 %h: memref<?x200xbf16>, %offsets: memref<6xi32>,
                 %dw: memref<5x72x200xf32>) {
  moe.grouped_outer %dy rows(%token : memref<?xi32>) by %h
      offsets(%offsets : memref<6xi32>) outs(%dw : memref<5x72x200xf32>)
      : memref<?x72xbf16>, memref<?x200xbf16>
  return
}

// -----

// All else is a thread a number: a row that is not whole pieces of 16 bytes,
// numbers of 32 bits. Few rows are read in what pieces there are.

// INVARIANT-LABEL: func @others
// INVARIANT-NOT: arith.cmpi ugt
// INVARIANT:     return
// CHECK-LABEL: func @others
// CHECK:      gpu.launch
// CHECK:        vector.load {{.+}}, vector<4xf16>
// CHECK-NOT:    nvgpu
// CHECK:      scf.forall
// CHECK:      gpu.launch
// CHECK:        vector.load {{.+}}, vector<4xf32>
// CHECK:      scf.forall
// CHECK:      scf.forall
// CHECK:      return
func.func @others(%x: memref<?x12xf16>, %v: memref<1x8x12xf16>,
                  %y: memref<?x16xf32>, %w: memref<1x8x16xf32>,
                  %a: memref<?x8xf16>, %b: memref<?x8xf32>,
                  %dw: memref<1x12x16xf32>) {
  moe.grouped_matmul %x weights(%v : memref<1x8x12xf16>)
      outs(%a : memref<?x8xf16>) : memref<?x12xf16> {
  ^bb0(%0: f32):
    moe.yield %0 : f32
  }
  moe.grouped_matmul %y weights(%w : memref<1x8x16xf32>)
      outs(%b : memref<?x8xf32>) : memref<?x16xf32> {
  ^bb0(%0: f32):
    moe.yield %0 : f32
  }
  moe.grouped_outer %x by %y outs(%dw : memref<1x12x16xf32>)
      : memref<?x12xf16>, memref<?x16xf32>
  return
}
