// The numbers below were computed by hand. The pipeline is the one that takes
// this conversion's output to LLVM.

// DEFINE: %{pipeline} = "builtin.module( \
// DEFINE:   func.func(convert-moe-to-linalg), empty-tensor-to-alloc-tensor, \
// DEFINE:   one-shot-bufferize{bufferize-function-boundaries=true \
// DEFINE:     function-boundary-type-conversion=identity-layout-map}, \
// DEFINE:   canonicalize, cse, canonicalize, buffer-deallocation-pipeline, \
// DEFINE:   convert-bufferization-to-memref, func.func(convert-linalg-to-loops), \
// DEFINE:   expand-strided-metadata, lower-affine, canonicalize, \
// DEFINE:   convert-math-to-llvm{approximate-log1p=false}, \
// DEFINE:   convert-math-to-libm, convert-scf-to-cf, convert-cf-to-llvm, \
// DEFINE:   arith-expand{include-bf16=true}, convert-arith-to-llvm, \
// DEFINE:   finalize-memref-to-llvm, convert-func-to-llvm, \
// DEFINE:   convert-cf-to-llvm, reconcile-unrealized-casts)"
// DEFINE: %{libs} = -shared-libs=%mlir_libs/libmlir_runner_utils.so \
// DEFINE:   -shared-libs=%mlir_libs/libmlir_c_runner_utils.so

// RUN: moe-opt %s --pass-pipeline=%{pipeline} -o %t
// RUN: mlir-runner %t -e main -entry-point-result=void %{libs} \
// RUN:   | FileCheck %s
// A failed assertion is printed and ends the process.
// RUN: stdbuf -oL not --crash mlir-runner %t -e bad_index \
// RUN:   -entry-point-result=void %{libs} 2>&1 | FileCheck %s --check-prefix=INDEX
// RUN: stdbuf -oL not --crash mlir-runner %t -e bad_groups \
// RUN:   -entry-point-result=void %{libs} 2>&1 | FileCheck %s --check-prefix=GROUPS

// INDEX:  moe.route: a given expert id is outside [-1, 3)
// GROUPS: moe.route_experts: the group offsets do not ascend from 0 to the number of tokens

func.func private @printMemrefF32(
    %p: tensor<*xf32> {bufferization.access = "read"})
func.func private @printMemrefI32(
    %p: tensor<*xi32> {bufferization.access = "read"})

// Four tokens, three experts: a tie, a NaN row, a masked token and a token
// whose second choice finds expert 0 full. Every score is a logit, experts
// multiply by 1, 2 and 3 (down) on relu (up is 1).
func.func @main() {
  %logits = arith.constant dense<[[2.0, 2.0, 1.0], [4.0, 0x7FC00000, 3.0],
                                  [9.0, 9.0, 9.0], [1.0, 5.0, -1.0]]>
      : tensor<4x3xf32>
  %mask = arith.constant dense<[true, true, false, true]> : tensor<4xi1>
  %all = tensor.cast %logits : tensor<4x3xf32> to tensor<?x3xf32>
  %m = tensor.cast %mask : tensor<4xi1> to tensor<?xi1>
  %ids, %w = moe.route #moe.top_k<k = 2, score = none> %all
      mask(%m : tensor<?xi1>)
      : tensor<?x3xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %kept, %kw = moe.limit_capacity %ids, %w experts 3
      by #moe.capacity<fixed = 2> queue <first_come>
      : tensor<?x2xi32>, tensor<?x2xf32>
  %u = tensor.cast %kept : tensor<?x2xi32> to tensor<*xi32>
  // CHECK:      {{\[\[}}0,   1],
  // CHECK-NEXT:  [0,   2],
  // CHECK-NEXT:  [-1,   -1],
  // CHECK-NEXT:  [1,   -1]]
  call @printMemrefI32(%u) : (tensor<*xi32>) -> ()
  %uw = tensor.cast %kw : tensor<?x2xf32> to tensor<*xf32>
  // CHECK:      {{\[\[}}2,   2],
  // CHECK-NEXT:  [4,   3],
  // CHECK-NEXT:  [0,   0],
  // CHECK-NEXT:  [5,   0]]
  call @printMemrefF32(%uw) : (tensor<*xf32>) -> ()

  %x0 = arith.constant dense<[[1.0], [2.0], [3.0], [-4.0]]> : tensor<4x1xf32>
  %x = tensor.cast %x0 : tensor<4x1xf32> to tensor<?x1xf32>
  %rows, %offsets = moe.dispatch %x, %kept experts 3
      : (tensor<?x1xf32>, tensor<?x2xi32>)
      -> (tensor<?x1xf32>, tensor<4xi32>)
  %uo = tensor.cast %offsets : tensor<4xi32> to tensor<*xi32>
  // CHECK: [0,  2,  4,  5]
  call @printMemrefI32(%uo) : (tensor<*xi32>) -> ()
  %up = arith.constant dense<1.0> : tensor<3x1x1xf32>
  %down = arith.constant dense<[[[1.0]], [[2.0]], [[3.0]]]>
      : tensor<3x1x1xf32>
  %h = moe.experts %rows offsets(%offsets : tensor<4xi32>)
      up(%up : tensor<3x1x1xf32>) down(%down : tensor<3x1x1xf32>)
      activation #moe.activation<kind = relu> layout <orientation = out_in>
      : tensor<?x1xf32> -> tensor<?x1xf32>
  %y = moe.combine %h, %kept experts 3 weights(%kw : tensor<?x2xf32>)
      residual(%x : tensor<?x1xf32>)
      : (tensor<?x1xf32>, tensor<?x2xi32>) -> tensor<?x1xf32>
  // 1*(2*1 + 2*2) + 1, 2*(4*1 + 3*3) + 2, 0 + 3, relu(-4) - 4
  // CHECK:      {{\[\[}}7],
  // CHECK-NEXT:  [28],
  // CHECK-NEXT:  [3],
  // CHECK-NEXT:  [-4]]
  %uy = tensor.cast %y : tensor<?x1xf32> to tensor<*xf32>
  call @printMemrefF32(%uy) : (tensor<*xf32>) -> ()

  // Two groups of tokens, one of them empty; expert 1 has a tie and expert 2
  // a token that is NaN and comes last.
  %s0 = arith.constant dense<[[0.0, 0.0, 0.0], [0.0, 0.0, 0x7FC00000],
                              [0.0, 0.0, 0.0]]> : tensor<3x3xf32>
  %s = tensor.cast %s0 : tensor<3x3xf32> to tensor<?x3xf32>
  %g = arith.constant dense<[0, 0, 3]> : tensor<3xi32>
  %tokens, %tw = moe.route_experts
      #moe.expert_choice<capacity = <fixed = 2>, axis = tokens> %s
      groups(%g : tensor<3xi32>)
      : tensor<?x3xf32> -> tensor<3x?xi32>, tensor<3x?xf32>
  // CHECK: {{\[\[}}0,   1, {{.*}}],
  // CHECK-NEXT: [0,   1, {{.*}}],
  // CHECK-NEXT: [0,   2, {{.*}}]]
  %ut = tensor.cast %tokens : tensor<3x?xi32> to tensor<*xi32>
  call @printMemrefI32(%ut) : (tensor<*xi32>) -> ()

  // No tokens.
  %none0 = tensor.empty() : tensor<0x3xf32>
  %none = tensor.cast %none0 : tensor<0x3xf32> to tensor<?x3xf32>
  %ids0, %w0 = moe.route #moe.top_k<k = 2> %none
      : tensor<?x3xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %rows0, %offsets0 = moe.dispatch %none, %ids0 experts 2
      : (tensor<?x3xf32>, tensor<?x2xi32>)
      -> (tensor<?x3xf32>, tensor<3xi32>)
  %uz = tensor.cast %offsets0 : tensor<3xi32> to tensor<*xi32>
  // CHECK: [0,  0,  0]
  call @printMemrefI32(%uz) : (tensor<*xi32>) -> ()
  return
}

func.func @bad_index() {
  %logits = arith.constant dense<0.0> : tensor<1x3xf32>
  %given = arith.constant dense<[[0, 3]]> : tensor<1x2xi32>
  %ids, %w = moe.route #moe.top_k<k = 2> %logits
      indices(%given : tensor<1x2xi32>)
      : tensor<1x3xf32> -> tensor<1x2xi32>, tensor<1x2xf32>
  %u = tensor.cast %ids : tensor<1x2xi32> to tensor<*xi32>
  call @printMemrefI32(%u) : (tensor<*xi32>) -> ()
  return
}

func.func @bad_groups() {
  %logits = arith.constant dense<0.0> : tensor<4x3xf32>
  %groups = arith.constant dense<[0, 3, 2, 4]> : tensor<4xi32>
  %ids, %w = moe.route_experts
      #moe.expert_choice<capacity = <fixed = 1>> %logits
      groups(%groups : tensor<4xi32>)
      : tensor<4x3xf32> -> tensor<3x3xi32>, tensor<3x3xf32>
  %u = tensor.cast %ids : tensor<3x3xi32> to tensor<*xi32>
  call @printMemrefI32(%u) : (tensor<*xi32>) -> ()
  return
}
