// A layer through the code that speaks with NVIDIA's driver, which is here the
// one of the tests (test/lib/Driver): by the tool that compiles it, from a
// library, and from a program in C. What it leaves behind or does wrong ends
// the program with exit code 97.

// REQUIRES: nvptx
// UNSUPPORTED: asan, ubsan, tsan
// DEFINE: %{args} = --dim=T=9 --arg=x=random:1 --arg=router=random:2:0.3 \
// DEFINE:   --arg=gate_up=random:3:0.1 --arg=down=random:4:0.1
// DEFINE: %{cuda} = env LD_LIBRARY_PATH=%moe_test_driver moe-run
// RUN: moe-run %s %{args} --target=gpu-emulator --out=y=%t.emulated.npy
// RUN: %{cuda} %s %{args} --target=cuda --out=y=%t.jit.npy | FileCheck %s
// RUN: moe-compile %s --target=cuda --chip=sm_90 -o %t.so
// RUN: %{cuda} %t.so --entry=layer %{args} --target=cuda --out=y=%t.aot.npy
// RUN: %{cuda} %t.so --entry=layer %{args} --target=cuda --repeat=3
// RUN: cmp %t.emulated.npy %t.jit.npy
// RUN: cmp %t.emulated.npy %t.aot.npy
// RUN: %moe_cc -std=c99 -Wall -Wextra -Werror -I%moe_include %moe_source/examples/c/call_layer.c \
// RUN:   %moe_libs/libmoe_rt.a -lpthread -ldl -lm -o %t.call_layer
// RUN: env LD_LIBRARY_PATH=%moe_test_driver %t.call_layer %t.so layer T=9 \
// RUN:   | FileCheck %s --check-prefix=C
// CHECK: entry layer, target cuda
// CHECK: result y: f32 [9, 16]
// C: y[9, 16]: {{-?[0-9.e-]+ }}

// Tensors that lie on the GPU, on a stream of the program's.
// RUN: %moe_cc -std=c99 -D_GNU_SOURCE -Wall -Wextra -Werror -I%moe_include %S/Inputs/device_layer.c \
// RUN:   %moe_libs/libmoe_rt.a -lpthread -ldl -lm -o %t.device
// RUN: env LD_LIBRARY_PATH=%moe_test_driver %t.device %t.so layer \
// RUN:   | FileCheck %s --check-prefix=DEVICE
// DEVICE: call: later, equal
// DEVICE: run: later, equal
// DEVICE: layer: argument 'router' (input 1): expected data aligned to 16 bytes on a GPU, got address 0x{{.*}}4{{$}}

// Without an array there is nothing to copy, and a launch all the same.
// RUN: %{cuda} %s --dim=T=0 --arg=x=zeros --arg=router=zeros \
// RUN:   --arg=gate_up=zeros --arg=down=zeros --target=cuda \
// RUN:   | FileCheck %s --check-prefix=NONE
// NONE: result y: f32 [0, 16]

// What is no driver, what is too old to be looked at, and what refuses.
// DEFINE: %{refused} = not %{cuda} %s %{args} --target=cuda
// DEFINE: %{says} = FileCheck %s --implicit-check-not="test driver" --check-prefix
// RUN: mkdir -p %t.none && echo text > %t.none/libcuda.so.1
// RUN: not env LD_LIBRARY_PATH=%t.none moe-run %s %{args} --target=cuda 2>&1 \
// RUN:   | %{says}=NODRIVER
// NODRIVER: moe-run: error: there is no NVIDIA driver: {{.*}}libcuda.so.1
// RUN: not env LD_LIBRARY_PATH=%moe_old_test_driver moe-run %s %{args} --target=cuda 2>&1 \
// RUN:   | %{says}=LACKING
// LACKING: moe-run: error: the NVIDIA driver is too old: it has no cuDeviceGetCount
// RUN: env MOE_TEST_DRIVER=devices=0 %{refused} 2>&1 | %{says}=NODEVICE
// NODEVICE: moe-run: error: cuInit: no CUDA-capable device is detected (CUDA error 100)
// RUN: env MOE_TEST_DRIVER=version=11070 %{refused} 2>&1 | %{says}=OLD
// OLD: moe-run: error: the NVIDIA driver is too old: PTX 7.8 needs one of CUDA 11.8, and this is of CUDA 11.7
// RUN: env MOE_TEST_DRIVER=capability=75 %{refused} 2>&1 | %{says}=CHIP
// CHIP: moe-run: error: kernels for sm_80 do not run on GPU 0, which is sm_75: compile them for its chip
// RUN: env MOE_TEST_DRIVER=capability=100 %{refused} --chip=sm_90a 2>&1 | %{says}=ALONE
// ALONE: moe-run: error: kernels for sm_90a do not run on GPU 0, which is sm_100
// RUN: env MOE_TEST_DRIVER=memory=2000 %{refused} 2>&1 | %{says}=MEMORY
// MEMORY: moe-run: error: layer: argument 'gate_up' (input 2): GPU 0: 12288 bytes of memory: out of memory (CUDA error 2)
// RUN: env MOE_TEST_DRIVER=fail=cuModuleLoadDataEx:1:218 %{refused} 2>&1 | %{says}=IMAGE
// IMAGE: moe-run: error: loading kernels: a PTX JIT compilation failed (CUDA error 218): asked to refuse
// RUN: env MOE_TEST_DRIVER=fail=cuLaunchKernel:2:719 %{refused} 2>&1 | %{says}=LAUNCH
// LAUNCH: moe-run: error: layer_kernel{{.*}}: unspecified launch failure (CUDA error 719)
// RUN: env LD_LIBRARY_PATH=%moe_test_driver MOE_TEST_DRIVER=devices=0 \
// RUN:   not %t.call_layer %t.so layer T=9 2>&1 | %{says}=CNONE
// CNONE: call_layer: device: cuInit: no CUDA-capable device

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
