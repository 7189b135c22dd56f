// What a GPU's code is made of, read off the IR, and with what it executes.

// REQUIRES: nvptx
// DEFINE: %{bf16} = --set x_dtype=bf16 --set weight_dtype=bf16 --set router_dtype=bf16
// RUN: moe-compile --example layer %{bf16} -o %t.layer.mlir
// RUN: moe-compile %t.layer.mlir --target=cuda --chip=sm_90 --plan -o %t.txt
// RUN: FileCheck %s --input-file=%t.txt
// CHECK:      plan of {{.*}}layer.mlir, target cuda, chip sm_90: 10 kernels, an image of {{[1-9][0-9]+}} bytes
// CHECK-NEXT: kernel of at shared bytes private barriers shuffles mma in the code cp.async in it stages
// CHECK-NEXT: layer_kernel moe.gate, moe.route [[FILE:.*layer.mlir]]:4:{{[0-9]+}} - 32 - - - - -
// CHECK-NEXT: layer_kernel_0 moe.dispatch [[FILE]]:5:{{[0-9]+}} - - - - - - -
// CHECK:      layer_kernel_4 moe.experts [[FILE]]:6:{{[0-9]+}} - - - {{[1-9][0-9]*}} - - -
// CHECK-NEXT: layer_kernel_5 moe.experts {{.*}} 49152 - {{[1-9].*}} {{[1-9][0-9]*}} m16n8k16 bf16 {{[1-9][0-9]*}} 4 x (64x32 + 64x32 + 64x32) bf16
// CHECK:      layer_kernel_7 moe.experts {{.*}} 32768 {{.*}} m16n8k16 bf16 {{[1-9][0-9]*}} 4 x (64x32 + 64x32) bf16
// CHECK-NEXT: layer_kernel_8 moe.combine
// CHECK-NEXT: entry layer: 10 launches, one after the other
// CHECK-NEXT: kernel threads blocks
// CHECK-NEXT: 1 layer_kernel 128 max(ceil(T / 128), 1)
// CHECK-NEXT: 2 layer_kernel_0 128 max(ceil(ceil(T / 32) * 8 / 128), 1)
// CHECK-NEXT: 3 layer_kernel_1 128 1
// CHECK-NEXT: 4 layer_kernel_2 1 1
// CHECK-NEXT: 5 layer_kernel_3 128 max(ceil(T * 2 / 128), 1)
// CHECK-NEXT: 6 layer_kernel_4 128 (T * 2 < 33 ? 16 : 1) x max(min(T * 2, 8), 1)
// CHECK-NEXT: 7 layer_kernel_5 128 2 x max(min(ceil(T * 2 / 64) + 8, 128), 1)
// CHECK:      10 layer_kernel_8 128 max(ceil(T * 64 / 128), 1)
// CHECK-NEXT: bounds of a call, modelled: moe-run --target=gpu-emulator --plan

// With a call: what is executed stands beside what the code has.
// DEFINE: %{args} = --dim=T=64 --arg=x=random:1 --arg=router_weight=random:2:0.3 \
// DEFINE:   --arg=gate_up=random:3:0.1 --arg=down=random:4:0.1
// RUN: moe-run %t.layer.mlir --target=gpu-emulator --plan %{args} \
// RUN:   | FileCheck %s --check-prefix=CALL
// CALL:      entry layer, target gpu-emulator
// CALL:      10 kernels, an image of
// CALL-NEXT: kernel {{.*}} launched instructions mma sectors modelled us, A100-SXM 80GB modelled us, H100-SXM 80GB
// CALL-NEXT: layer_kernel {{.*}} 1 {{[1-9][0-9]* - [1-9][0-9]*}} {{[0-9.e-]+}} memory {{[0-9.e-]+}} memory
// CALL:      layer_kernel_5 {{.*}} bf16 1 {{[1-9][0-9]*}} {{[1-9][0-9]*}} {{[1-9][0-9]*}} {{[0-9.e-]+}} memory
// CALL:      entry layer: 10 launches
// CALL:      modelled bound of all launches: {{[0-9.e-]+}} us on A100-SXM 80GB, {{[0-9.e-]+}} us on H100-SXM 80GB

// A shared expert's kernels are its own alone, though it shares sizes with the
// gate, and what a size is made of floats is no formula.
// RUN: moe-compile --example layer %{bf16} --set shared_inter=64 -o %t.shared.mlir
// RUN: moe-compile %t.shared.mlir --target=gpu-emulator --plan \
// RUN:   | FileCheck %s --check-prefix=SHARED
// SHARED:     target gpu-emulator, chip sm_80: 14 kernels
// SHARED-NOT: moe.gate, moe.experts
// RUN: moe-compile --example layer --set router=expert_choice -o %t.choice.mlir
// RUN: moe-compile %t.choice.mlir --target=cuda --plan \
// RUN:   | FileCheck %s --check-prefix=CHOICE
// CHOICE: moe.experts
// CHOICE: entry layer
// CHOICE: max(ceil(min(T, max(?, 1)) * 8 / 128), 1)

// Of no known place, as IR that was built and never read.
// RUN: moe-opt %t.layer.mlir --strip-debuginfo --emit-bytecode -o %t.stripped.bc
// RUN: moe-compile %t.stripped.bc --target=cuda --plan | FileCheck %s --check-prefix=NOWHERE
// NOWHERE:      kernel shared bytes private
// NOWHERE-NEXT: layer_kernel - 32 - -

// DEFINE: %{says} = FileCheck %s --implicit-check-not=error: --check-prefix
// RUN: not moe-compile %t.layer.mlir --plan 2>&1 | %{says}=CPU
// CPU: moe-compile: error: there is no plan of target cpu yet: --plan goes with --target=cuda or gpu-emulator
// RUN: not moe-compile %t.layer.mlir --target=cuda --plan --emit=object 2>&1 | %{says}=INPLACE
// RUN: not moe-compile %t.layer.mlir --target=cuda --plan --compile-to=llvm 2>&1 | %{says}=INPLACE
// RUN: not moe-compile %t.layer.mlir --target=cuda --plan --header=%t.h 2>&1 | %{says}=INPLACE
// INPLACE: moe-compile: error: --plan is written in place of code: it goes without --emit, --header and --compile-to
// RUN: echo "module {}" | not moe-compile - --target=cuda --plan 2>&1 | %{says}=ENTRY
// ENTRY: moe-compile: error: -: no function is marked moe.entry
// RUN: not moe-run %t.layer.mlir %{args} --plan 2>&1 | %{says}=TARGET
// TARGET: moe-run: error: --plan is of --target=gpu-emulator
// RUN: not moe-run %t.layer.mlir %{args} --target=gpu-emulator --plan --json 2>&1 | %{says}=JSON
// RUN: not moe-run %t.layer.mlir %{args} --target=gpu-emulator --plan --statistics 2>&1 | %{says}=JSON
// JSON: moe-run: error: --plan has the statistics in its table, and no JSON: it goes without --statistics and --json
// RUN: moe-compile %t.layer.mlir --target=cuda -o %t.so
// RUN: not moe-run %t.so --entry=layer %{args} --target=gpu-emulator --plan 2>&1 | %{says}=LIBRARY
// LIBRARY: moe-run: error: {{.*}}.so: a library has no IR to describe
