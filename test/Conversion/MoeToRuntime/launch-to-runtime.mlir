// RUN: split-file %s %t
// RUN: moe-opt %t/launch.mlir --moe-launch-to-runtime | FileCheck %t/launch.mlir
// RUN: not moe-opt %t/context.mlir --moe-launch-to-runtime 2>&1 \
// RUN:   | FileCheck %s --check-prefix=NOCONTEXT
// RUN: not moe-opt %t/code.mlir --moe-launch-to-runtime 2>&1 \
// RUN:   | FileCheck %s --check-prefix=CODE

// NOCONTEXT: error: 'func.func' op needs a context to launch kernels
// CODE: error: 'gpu.launch_func' op has no code for 'kernels'

//--- launch.mlir
// A memref is five arguments, as kernels take it; a flag is a byte. The first
// call that fails is the entry's status.

// CHECK-DAG:   llvm.mlir.global internal constant @kernels.image("text\00")
// CHECK-LABEL: func.func @host(
// CHECK-SAME:    %[[CONTEXT:[^ ]+]]: !llvm.ptr) -> i32
// CHECK-COUNT-6: llvm.store
// CHECK:         llvm.mlir.addressof @kernels.image
// The image's hash is the same wherever the image is.
// CHECK:         %[[LOW:.+]] = llvm.mlir.constant(7599434527709967072 : i64)
// CHECK:         %[[PLACE:.+]] = llvm.getelementptr %{{.+}}[64]
// CHECK:         llvm.store %[[LOW]], %[[PLACE]]
// CHECK:         %[[HIGH:.+]] = llvm.mlir.constant(3993523496989593328 : i64)
// CHECK:         %[[REST:.+]] = llvm.getelementptr %{{.+}}[72]
// CHECK:         llvm.store %[[HIGH]], %[[REST]]
// CHECK:         %[[LAUNCH:.+]] = llvm.getelementptr %[[CONTEXT]][40]
// CHECK:         %[[CALLEE:.+]] = llvm.load %[[LAUNCH]]
// CHECK:         %[[STATUS:.+]] = llvm.call %[[CALLEE]](%[[CONTEXT]], %{{.+}})
// CHECK:         %[[OK:.+]] = arith.cmpi eq, %[[STATUS]],
// CHECK:         cf.cond_br %[[OK]], ^[[NEXT:.+]], ^[[FAILED:.+]]
// CHECK:       ^[[FAILED]]:
// CHECK-NEXT:    return %[[STATUS]] : i32
// CHECK:       ^[[NEXT]]:
// CHECK:         llvm.getelementptr %[[CONTEXT]][48]
// CHECK:         llvm.call
// CHECK:         cf.cond_br
// CHECK-NOT:   gpu.
module attributes {gpu.container_module} {
  func.func @host(%buffer: memref<4xi1>, %flag: i1, %context: !llvm.ptr) -> i32
      attributes {moe.entry} {
    %c1 = arith.constant 1 : index
    %zero = arith.constant 0 : i32
    gpu.launch_func @kernels::@k blocks in (%c1, %c1, %c1)
        threads in (%c1, %c1, %c1) args(%buffer : memref<4xi1>, %flag : i1)
    %own = memref.alloca() : memref<4xi1>
    gpu.memcpy %own, %buffer : memref<4xi1>, memref<4xi1>
    return %zero : i32
  }
  gpu.binary @kernels [#gpu.object<#nvvm.target, kernels = <[#gpu.kernel_metadata<"k", () -> ()>]>, assembly = "text">]
}

//--- context.mlir
module attributes {gpu.container_module} {
  func.func @host() attributes {moe.entry} {
    %c1 = arith.constant 1 : index
    gpu.launch_func @kernels::@k blocks in (%c1, %c1, %c1)
        threads in (%c1, %c1, %c1)
    return
  }
  gpu.binary @kernels [#gpu.object<#nvvm.target, kernels = <[#gpu.kernel_metadata<"k", () -> ()>]>, assembly = "text">]
}

//--- code.mlir
module attributes {gpu.container_module} {
  func.func @host(%context: !llvm.ptr) -> i32 attributes {moe.entry} {
    %c1 = arith.constant 1 : index
    %zero = arith.constant 0 : i32
    gpu.launch_func @kernels::@k blocks in (%c1, %c1, %c1)
        threads in (%c1, %c1, %c1)
    return %zero : i32
  }
  gpu.module @kernels {
    gpu.func @k() kernel {
      gpu.return
    }
  }
}
