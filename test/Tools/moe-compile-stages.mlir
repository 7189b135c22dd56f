// What each stage leaves behind, on both roads.
// REQUIRES: moe-compile
// DEFINE: %{stage} =
// DEFINE: %{compile} = moe-compile %S/Inputs/tiny.mlir -o %t.mlir --compile-to=%{stage}

// REDEFINE: %{stage} = moe
// RUN: %{compile} && FileCheck %s --check-prefix=MOE --input-file=%t.mlir
// MOE-NOT: scf.
// MOE: func.func @tiny({{.*}}tensor<?x2xf32>{{.*}}memref<?x2xf32>
// MOE: moe.gate
// MOE: moe.route #moe.top_k
// MOE: moe.experts
// MOE: bufferization.materialize_in_destination

// The gate and the choice share one loop over tokens.
// REDEFINE: %{stage} = routed
// RUN: %{compile} && FileCheck %s --check-prefix=ROUTED --input-file=%t.mlir
// ROUTED: scf.forall
// ROUTED: moe.gate
// ROUTED-NEXT: moe.route #moe.top_k
// ROUTED: scf.forall.in_parallel
// ROUTED: moe.experts

// REDEFINE: %{stage} = grouped
// RUN: %{compile} && FileCheck %s --check-prefix=GROUPED --input-file=%t.mlir \
// RUN:   --implicit-check-not='moe.{{(gate |route|dispatch|experts|combine )}}'
// GROUPED: moe.group
// GROUPED: moe.grouped_matmul
// GROUPED: moe.combine_slots

// REDEFINE: %{stage} = buffers
// RUN: %{compile} && FileCheck %s --check-prefix=BUFFERS --input-file=%t.mlir \
// RUN:   --implicit-check-not='tensor<'
// BUFFERS: memref.alloc
// BUFFERS: moe.grouped_matmul
// BUFFERS: moe.combine_slots

// REDEFINE: %{stage} = cpu
// RUN: %{compile} && FileCheck %s --check-prefix=CPU --input-file=%t.mlir \
// RUN:   --implicit-check-not='tensor<' --implicit-check-not='moe.g' \
// RUN:   --implicit-check-not=memref.alloc{{' '}}
// CPU: func.func private @tiny.body(
// CPU: llvm.func @moe_tiny(
// CPU: llvm.func @moe_tiny_workspace(
// CPU: llvm.func @moe_tiny_pack(

// REDEFINE: %{stage} = llvm
// RUN: %{compile} && FileCheck %s --check-prefix=LLVM --input-file=%t.mlir \
// RUN:   --implicit-check-not='{{ (func|scf|cf|arith|memref|vector|math)\.}}'
// LLVM: llvm.func @moe_tiny(

// The oracle has loops where the other road has primitives.
// RUN: moe-compile %S/Inputs/tiny.mlir --compile-to=routed --target=oracle \
// RUN:   | FileCheck %s --check-prefix=ORACLE --implicit-check-not='moe.g'
// ORACLE: func.func @tiny(
// ORACLE: scf.for
// RUN: moe-compile %S/Inputs/tiny.mlir --compile-to=llvm --target=oracle \
// RUN:   | FileCheck %s --check-prefix=LLVM

// A stage is IR that reads back.
// RUN: moe-compile %S/Inputs/tiny.mlir --compile-to=cpu | moe-opt \
// RUN:   | FileCheck %s --check-prefix=CPU
