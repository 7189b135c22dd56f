// RUN: moe-opt %s --moe-merge-kernels | FileCheck %s

// Kernels of one name in different modules stay apart by the modules' names.

// CHECK:      func.func @host
// CHECK:        gpu.launch_func @kernels::@first blocks
// CHECK:        gpu.launch_func @kernels::@second blocks
// CHECK:      gpu.module @kernels {
// CHECK:        gpu.func @first()
// CHECK:        gpu.func @second()
// CHECK-NOT:  gpu.module

module attributes {gpu.container_module} {
  func.func @host() {
    %c1 = arith.constant 1 : index
    gpu.launch_func @first::@k blocks in (%c1, %c1, %c1)
        threads in (%c1, %c1, %c1)
    gpu.launch_func @second::@k blocks in (%c1, %c1, %c1)
        threads in (%c1, %c1, %c1)
    return
  }
  gpu.module @first {
    gpu.func @k() kernel {
      gpu.return
    }
  }
  gpu.module @second {
    gpu.func @k() kernel {
      gpu.return
    }
  }
}
