// Kernels of a layer, run by the emulator: by the tool that compiles them, and
// from a library that was compiled before.

// REQUIRES: nvptx
// DEFINE: %{args} = --dim=T=9 --arg=x=random:1 --arg=router=random:2:0.3 \
// DEFINE:   --arg=gate_up=random:3:0.1 --arg=down=random:4:0.1
// RUN: moe-run %s %{args} --out=y=%t.cpu.npy
// RUN: moe-run %s %{args} --target=gpu-emulator --out=y=%t.gpu.npy | FileCheck %s
// RUN: moe-compile %s --target=cuda --chip=sm_90 -o %t.so
// RUN: moe-run %t.so --entry=layer %{args} --target=gpu-emulator --out=y=%t.aot.npy
// RUN: %python -c "import numpy as n; a, b, c = (n.load('%t.' + k + '.npy') for k in ('cpu', 'gpu', 'aot')); print(bool(n.abs(a - b).max() < 1e-6 * n.abs(a).max()), (b == c).all())" \
// RUN:   | FileCheck %s --check-prefix=SAME

// CHECK: entry layer, target gpu-emulator
// CHECK: result y: f32 [9, 16]
// SAME: True True

// RUN: moe-run %s --dim=T=0 --arg=x=zeros --arg=router=zeros \
// RUN:   --arg=gate_up=zeros --arg=down=zeros --target=gpu-emulator \
// RUN:   | FileCheck %s --check-prefix=NONE
// NONE: result y: f32 [0, 16]

// RUN: not moe-run %t.so --entry=layer %{args} 2>&1 | FileCheck %s --check-prefix=ALONE
// ALONE: moe-run: error: layer: runs on a GPU, and this context has none
// RUN: not moe-run %s %{args} --target=gpu-emulator --chip=sm_42 2>&1 | FileCheck %s --check-prefix=CHIP
// CHIP: error: no GPU code for chip 'sm_42'; known are sm_80,
// RUN: moe-run %s %{args} --target=gpu-emulator --statistics \
// RUN:   | FileCheck %s --check-prefix=COUNTS
// COUNTS: kernel launches instructions
// COUNTS: layer_kernel 1 {{[1-9][0-9]*}} 0 {{[1-9]}}
// COUNTS: modelled bound in us, by limit A100-SXM 80GB H100-SXM 80GB
// COUNTS: layer_kernel_5 memory 0.{{[0-9]+}} memory 0.{{[0-9]+$}}
// RUN: moe-run %s %{args} --target=gpu-emulator --statistics --json \
// RUN:   | FileCheck %s --check-prefix=BOUND
// BOUND: "kernel": "layer_kernel", {{.*}}"modelled_bound": {"A100-SXM 80GB": {"microseconds": {{[0-9.e-]+}}, "limit": "memory", "units": {"memory": {{.*}}"H100-SXM 80GB"
// RUN: not moe-run %s %{args} --statistics 2>&1 | FileCheck %s --check-prefix=COUNTLESS
// COUNTLESS: moe-run: error: --statistics is of --target=gpu-emulator
// RUN: moe-run %s %{args} --target=gpu-emulator --schedule=7 \
// RUN:   --out=y=%t.seven.npy
// RUN: cmp %t.gpu.npy %t.seven.npy
// RUN: not moe-run %s %{args} --schedule=7 2>&1 \
// RUN:   | FileCheck %s --check-prefix=ORDERLESS
// ORDERLESS: moe-run: error: --schedule is of --target=gpu-emulator
// RUN: not moe-run %s %{args} --chip=sm_80 2>&1 | FileCheck %s --check-prefix=CPU
// CPU: moe-run: error: --chip is of a GPU: it goes with --target=cuda or gpu-emulator
// RUN: not moe-run %s %{args} --target=gpu 2>&1 | FileCheck %s --check-prefix=TARGET
// TARGET: moe-run: error: --target: 'gpu' is none of cpu, oracle, cuda and gpu-emulator
// RUN: not moe-run %s %{args} --target=gpu-emulator --check-gradients 2>&1 | FileCheck %s --check-prefix=CHECKED
// CHECKED: moe-run: error: --check-gradients has no target gpu-emulator
// RUN: not moe-compile %s --target=cuda --compile-to=grouped 2>&1 | FileCheck %s --check-prefix=STAGE
// STAGE: error: target cuda stops at no stage; moe-opt --moe-to-gpu prints its kernels
// RUN: not moe-compile %s --chip=sm_80 -o %t.o 2>&1 | FileCheck %s --check-prefix=CHIPLESS
// CHIPLESS: error: --chip goes with --target=cuda or gpu-emulator
// RUN: not moe-run %s %{args} --tf32 2>&1 | FileCheck %s --check-prefix=OPTIONS
// RUN: not moe-compile %s --batch-invariant -o %t.o 2>&1 \
// RUN:   | FileCheck %s --check-prefix=OPTIONS
// OPTIONS: error: --tf32 and --batch-invariant {{are of a GPU: they go|go}} with --target=cuda or gpu-emulator
// RUN: moe-run %s %{args} --target=gpu-emulator --batch-invariant --statistics \
// RUN:   | FileCheck %s --check-prefix=TILES --implicit-check-not=layer_kernel_7
// TILES: layer_kernel_6

func.func @layer(%x: tensor<?x16xf32> {moe.name = "x"},
                 %router: tensor<8x16xf32> {moe.name = "router"},
                 %gate_up: tensor<8x24x16xf32> {moe.name = "gate_up"},
                 %down: tensor<8x16x12xf32> {moe.name = "down"})
    -> (tensor<?x16xf32> {moe.name = "y"}) attributes {moe.entry} {
  %logits = moe.gate %x, %router
      : (tensor<?x16xf32>, tensor<8x16xf32>) -> tensor<?x8xf32>
  %ids, %weights = moe.route #moe.top_k<k = 2> %logits
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts 8
      : (tensor<?x16xf32>, tensor<?x2xi32>)
      -> (tensor<?x16xf32>, tensor<9xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<9xi32>)
      up(%gate_up : tensor<8x24x16xf32>) down(%down : tensor<8x16x12xf32>)
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : tensor<?x16xf32> -> tensor<?x16xf32>
  %y = moe.combine %h, %ids experts 8 weights(%weights : tensor<?x2xf32>)
      : (tensor<?x16xf32>, tensor<?x2xi32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
