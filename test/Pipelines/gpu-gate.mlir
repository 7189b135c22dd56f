// Gate and token choice as one kernel, down to PTX. Private memory is used only
// where a row is indexed at run time.

// REQUIRES: nvptx
// RUN: split-file %s %t
// RUN: moe-opt %t/mixtral.mlir --moe-gpu=chip=sm_80 -o %t/mixtral.bin.mlir
// RUN: %python %S/Inputs/extract_ptx.py %t/mixtral.bin.mlir %t/mixtral.ptx
// RUN: FileCheck %t/mixtral.mlir --input-file=%t/mixtral.ptx
// RUN: moe-opt %t/deepseek.mlir --moe-gpu=chip=sm_80 -o %t/deepseek.bin.mlir
// RUN: %python %S/Inputs/extract_ptx.py %t/deepseek.bin.mlir %t/deepseek.ptx
// RUN: FileCheck %t/deepseek.mlir --input-file=%t/deepseek.ptx

// RUN: moe-opt %t/mixtral.mlir --moe-gpu=chip=sm_90a | FileCheck %s --check-prefix=HOPPER
// RUN: not moe-opt %t/mixtral.mlir --moe-gpu=chip=sm_42 2>&1 | FileCheck %s --check-prefix=CHIP
// RUN: not moe-opt %t/mixtral.mlir --moe-gpu=format=text 2>&1 | FileCheck %s --check-prefix=FORMAT

// HOPPER: gpu.binary @kernels
// HOPPER-SAME: chip = "sm_90a", features = "+ptx80"
// HOPPER-SAME: .target sm_90a
// CHIP: error: no GPU code for chip 'sm_42'; known are sm_80, sm_86,
// CHIP-NOT: LLVM ERROR
// FORMAT: for the --format option: Cannot find option named 'text'

//--- mixtral.mlir
// A row of 8 logits lives in registers: every index of it is known.
// CHECK: .target sm_80
// CHECK-NOT: .extern
// CHECK: .visible .entry mixtral_kernel(
// CHECK: .maxntid 128, 1, 1
// CHECK-NEXT: .minnctapersm 4
// CHECK-NOT: .local
// CHECK-NOT: .shared
// CHECK: ld.global.v4.b32
// CHECK-COUNT-32: fma.rn.f32
// CHECK: st.global.b32
func.func @mixtral(%x: tensor<?x4096xf32> {moe.name = "x"},
                   %w: tensor<8x4096xf32> {moe.name = "router"})
    -> (tensor<?x2xi32>, tensor<?x2xf32>) attributes {moe.entry} {
  %logits = moe.gate %x, %w
      : (tensor<?x4096xf32>, tensor<8x4096xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2, normalize = sum> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

//--- deepseek.mlir
// Two rows of 256 numbers, logits and scores, are private memory; neighbours
// in a warp read one place at a time, so its accesses are whole lines.
// CHECK: .target sm_80
// CHECK-NOT: .extern
// CHECK: .visible .entry deepseek_kernel(
// CHECK: .local .align {{[0-9]+}} .b8 {{.*}}[2048];
// CHECK-NOT: .shared
// CHECK: ld.global.v4.b32
// CHECK: st.local
// CHECK: st.global.b32
func.func @deepseek(%x: tensor<?x7168xbf16> {moe.name = "x"},
                    %w: tensor<256x7168xbf16> {moe.name = "router"},
                    %bias: tensor<256xf32> {moe.name = "bias"})
    -> (tensor<?x8xi32>, tensor<?x8xf32>) attributes {moe.entry} {
  %logits = moe.gate %x, %w
      : (tensor<?x7168xbf16>, tensor<256x7168xbf16>) -> tensor<?x256xf32>
  %ids, %weights = moe.route
      #moe.top_k<k = 8, score = sigmoid, groups = 8, kept_groups = 4,
                 group_score = top2sum, normalize = sum, eps = 1.0e-20,
                 scale = 2.5>
      %logits bias(%bias : tensor<256xf32>)
      : tensor<?x256xf32> -> tensor<?x8xi32>, tensor<?x8xf32>
  return %ids, %weights : tensor<?x8xi32>, tensor<?x8xf32>
}
