// What the packaged LLVM makes of a kernel with vector loads, shuffles, shared
// memory and barriers is run, and each barrier is missed when it is gone.

// REQUIRES: moe-ptx-run, nvptx
// RUN: mlir-opt %s -pass-pipeline='builtin.module(gpu.module(convert-scf-to-cf),nvvm-attach-target{chip=sm_80 features=+ptx78},gpu.module(convert-gpu-to-nvvm,reconcile-unrealized-casts),gpu-module-to-binary{format=isa})' -o %t.bin.mlir
// RUN: %python %S/../Pipelines/Inputs/extract_ptx.py %t.bin.mlir %t.ptx
// DEFINE: %{arguments} = --grid 3 --block 128 --memref x=f32:3x128:random:5 --memref y=f32:3x128
// RUN: moe-ptx-run %t.ptx %{arguments} --schedules 6 --out x=%t.x.npy --out y=%t.y.npy | FileCheck %s --check-prefix=CLEAN
// RUN: %python -c "import numpy as np; x = np.load('%t.x.npy').astype(np.float64); e = np.exp(x - x.max(1, keepdims=True)); print('close', np.allclose(np.load('%t.y.npy'), e / e.sum(1, keepdims=True), rtol=1e-5))" | FileCheck %s --check-prefix=VALUES

// CLEAN: kernel 'softmax': 6 runs, 0 reports
// VALUES: close True

// RUN: grep -c 'bar.sync' %t.ptx | FileCheck %s --check-prefix=BARRIERS
// BARRIERS: 4
// RUN: awk '/bar.sync/ && ++n == 1 {next} 1' %t.ptx > %t.1.ptx
// RUN: awk '/bar.sync/ && ++n == 2 {next} 1' %t.ptx > %t.2.ptx
// RUN: awk '/bar.sync/ && ++n == 3 {next} 1' %t.ptx > %t.3.ptx
// RUN: awk '/bar.sync/ && ++n == 4 {next} 1' %t.ptx > %t.4.ptx
// RUN: not moe-ptx-run %t.1.ptx %{arguments} --schedules 2 | FileCheck %s --check-prefix=RACE
// RUN: not moe-ptx-run %t.2.ptx %{arguments} --schedules 2 | FileCheck %s --check-prefix=RACE
// RUN: not moe-ptx-run %t.3.ptx %{arguments} --schedules 2 | FileCheck %s --check-prefix=RACE
// RUN: not moe-ptx-run %t.4.ptx %{arguments} --schedules 2 | FileCheck %s --check-prefix=RACE
// RACE: race:

gpu.module @kernels {
  gpu.func @softmax(%x: memref<?x128xf32>, %y: memref<?x128xf32>)
      workgroup(%shared : memref<4xf32, #gpu.address_space<workgroup>>)
      kernel {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c4 = arith.constant 4 : index
    %c32 = arith.constant 32 : index
    %width = arith.constant 32 : i32
    %zero = arith.constant 0.0 : f32
    %low = arith.constant 0xFF800000 : f32
    %row = gpu.block_id x
    %column = gpu.thread_id x
    %lane = arith.remui %column, %c32 : index
    %warp = arith.divui %column, %c32 : index
    %first = arith.cmpi eq, %lane, %c0 : index
    %value = memref.load %x[%row, %column] : memref<?x128xf32>
    %i1 = arith.constant 1 : i32
    %i2 = arith.constant 2 : i32
    %i4 = arith.constant 4 : i32
    %i8 = arith.constant 8 : i32
    %i16 = arith.constant 16 : i32
    %a16, %p16 = gpu.shuffle xor %value, %i16, %width : f32
    %m16 = arith.maximumf %value, %a16 : f32
    %a8, %p8 = gpu.shuffle xor %m16, %i8, %width : f32
    %m8 = arith.maximumf %m16, %a8 : f32
    %a4, %p4 = gpu.shuffle xor %m8, %i4, %width : f32
    %m4 = arith.maximumf %m8, %a4 : f32
    %a2, %p2 = gpu.shuffle xor %m4, %i2, %width : f32
    %m2 = arith.maximumf %m4, %a2 : f32
    %a1, %p1 = gpu.shuffle xor %m2, %i1, %width : f32
    %m1 = arith.maximumf %m2, %a1 : f32
    scf.if %first {
      memref.store %m1, %shared[%warp]
          : memref<4xf32, #gpu.address_space<workgroup>>
    }
    gpu.barrier
    %max = scf.for %i = %c0 to %c4 step %c1 iter_args(%so = %low) -> (f32) {
      %one = memref.load %shared[%i]
          : memref<4xf32, #gpu.address_space<workgroup>>
      %next = arith.maximumf %so, %one : f32
      scf.yield %next : f32
    }
    %away = arith.subf %value, %max : f32
    %log2e = arith.constant 1.44269504 : f32
    %scaled = arith.mulf %away, %log2e : f32
    %power = llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f"(%scaled)
        : (f32) -> f32
    gpu.barrier
    memref.store %zero, %shared[%warp]
        : memref<4xf32, #gpu.address_space<workgroup>>
    gpu.barrier
    %old = memref.atomic_rmw addf %power, %shared[%warp]
        : (f32, memref<4xf32, #gpu.address_space<workgroup>>) -> f32
    gpu.barrier
    %sum = scf.for %i = %c0 to %c4 step %c1 iter_args(%so = %zero) -> (f32) {
      %one = memref.load %shared[%i]
          : memref<4xf32, #gpu.address_space<workgroup>>
      %next = arith.addf %so, %one : f32
      scf.yield %next : f32
    }
    %result = arith.divf %power, %sum : f32
    memref.store %result, %y[%row, %column] : memref<?x128xf32>
    gpu.return
  }
}
