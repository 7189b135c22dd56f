// RUN: moe-opt %s --split-input-file --convert-moe-to-gpu | FileCheck %s

// A product of 16-bit numbers is a kernel of four warps: three stages of
// workgroup memory, copies that are zero outside of the expert and of D, and
// mma.sync; two weights share the rows.

// CHECK-LABEL: func @gated
// CHECK-SAME:    %[[X:[^ ]+]]: memref<?x40xbf16>, %[[ROWS:[^ ]+]]: memref<?xi32>
// CHECK:      cf.assert %{{.+}}, "argument 0 is not aligned to 16 bytes"
// CHECK:      cf.assert %{{.+}}, "argument 3 is not aligned to 16 bytes"
// CHECK:      gpu.launch blocks({{.+}}) in (%{{.+}} = %c2{{[_0-9]*}}, {{.+}}) threads({{.+}}) in (%{{.+}} = %c128
// CHECK-SAME:   workgroup(%[[A:.+]] : memref<3x64x32xbf16, #gpu.address_space<workgroup>>, %{{.+}} : memref<3x64x32xbf16, {{.+}}>, %{{.+}} : memref<3x64x32xbf16, {{.+}}>)
// The tile's expert, by counting tiles.
// CHECK:        scf.for
// CHECK:          scf.for %{{.+}} = %c0{{.*}} to %c5
// CHECK:          scf.if
// The row of a copy comes from the list.
// CHECK:            memref.load %[[ROWS]]
// CHECK:            nvgpu.device_async_copy %[[X]]{{.+}}, %[[A]]{{.+}}, 8, %{{.+}} {bypassL1}
// CHECK:            nvgpu.device_async_create_group
// CHECK:            scf.for
// CHECK-NEXT:         nvgpu.device_async_wait %{{.+}} {numGroups = 1 : i32}
// CHECK-NEXT:         gpu.barrier
// CHECK:              scf.if
// CHECK:                nvgpu.device_async_copy
// CHECK:              nvgpu.device_async_create_group
// Two steps of 16, each two tiles of rows and four of outputs for two weights.
// CHECK-COUNT-2:      nvgpu.ldmatrix %[[A]]
// CHECK-COUNT-16:     nvgpu.mma.sync
// CHECK-COUNT-2:      nvgpu.ldmatrix %[[A]]
// CHECK-COUNT-16:     nvgpu.mma.sync
// The epilogue, where rows and outputs are there.
// CHECK:            scf.if
// CHECK:              scf.if
// CHECK:                arith.mulf
// CHECK:                memref.store
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

// All else is a thread a number: a row that is not whole pieces of 16 bytes,
// numbers of 32 bits, weights the other way round, scaled rows.

// CHECK-LABEL: func @others
// CHECK-NOT:  gpu.launch
// CHECK-COUNT-4: scf.forall
// CHECK-NOT:  gpu.launch
// CHECK:      return
func.func @others(%x: memref<?x12xf16>, %v: memref<1x8x12xf16>,
                  %y: memref<?x16xf32>, %w: memref<1x8x16xf32>,
                  %z: memref<?x16xbf16>, %u: memref<1x16x8xbf16>,
                  %t: memref<1x8x16xbf16>, %s: memref<?xf32>,
                  %a: memref<?x8xf16>, %b: memref<?x8xf32>,
                  %c: memref<?x8xbf16>, %d: memref<?x8xbf16>) {
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
  moe.grouped_matmul %z weights(%u : memref<1x16x8xbf16>) in_out
      outs(%c : memref<?x8xbf16>) : memref<?x16xbf16> {
  ^bb0(%0: f32):
    moe.yield %0 : f32
  }
  moe.grouped_matmul %z row_scale(%s : memref<?xf32>)
      weights(%t : memref<1x8x16xbf16>)
      outs(%d : memref<?x8xbf16>) : memref<?x16xbf16> {
  ^bb0(%0: f32):
    moe.yield %0 : f32
  }
  return
}
