// The header tells a C programmer what to pass; two entries share one.
// REQUIRES: moe-compile
// RUN: rm -rf %t && mkdir %t
// RUN: moe-compile %s -o %t/two-layers.h
// RUN: FileCheck %s --input-file=%t/two-layers.h --match-full-lines

// It is C99 and C++, by the strictest reading.
// RUN: echo '#include "two-layers.h"' > %t/use.c
// RUN: echo 'const void *a[] = {(void *)&moe_second_info};' >> %t/use.c
// RUN: cp %t/use.c %t/use.cpp
// RUN: %moe_cc -std=c99 -pedantic -Wall -Wextra -Werror -I%moe_include \
// RUN:   -fsyntax-only %t/use.c
// RUN: %moe_cxx -std=c++11 -Wall -Wextra -Werror -I%moe_include \
// RUN:   -fsyntax-only %t/use.cpp

//      CHECK: #ifndef MOE_LAYER_TWO_LAYERS_H
// CHECK-NEXT: #define MOE_LAYER_TWO_LAYERS_H
//  CHECK-DAG: #include "moe/Runtime/moe_rt.h"
//  CHECK-DAG: extern "C" {
//      CHECK: // first
// CHECK-NEXT: //   in[0] logits: f32[tokens, 4]
// CHECK-NEXT: //   out[0] ids: i32[tokens, 2]
// CHECK-NEXT: //   out[1] weights: f32[tokens, 2]
// CHECK-NEXT: //   tokens <= 100
// CHECK-NEXT: int moe_first(moe_context *context, const moe_tensor *in, moe_tensor *out,
// CHECK-NEXT:     void *workspace, size_t workspace_bytes);
// CHECK-NEXT: int moe_first_workspace(moe_context *context, const moe_tensor *in,
// CHECK-NEXT:     size_t *bytes);
// CHECK-NEXT: int moe_first_pack(moe_context *context, const moe_tensor *in, moe_tensor *out);
// CHECK-NEXT: extern const moe_entry_info moe_first_info;
// CHECK-NEXT: extern const moe_entry_info moe_first_pack_info;
func.func @first(%l: tensor<?x4xf32> {moe.name = "logits",
                                      moe.dims = ["tokens", ""]})
    -> (tensor<?x2xi32> {moe.name = "ids"},
        tensor<?x2xf32> {moe.name = "weights"})
    attributes {moe.entry, moe.bounds = {tokens = 100 : i64}} {
  %ids, %weights = moe.route #moe.top_k<k = 2> %l
      : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
}

//      CHECK: // second
// CHECK-NEXT: //   in[0] a name\\ : bf16[3, 8]
// CHECK-NEXT: //   in[1] w: bf16[2, 8] #moe.layout<orientation = out_in>
// CHECK-NEXT: //   out[0] result0: f32[3, 2]
//      CHECK: extern const moe_entry_info moe_second_pack_info;
//      CHECK: #endif // MOE_LAYER_TWO_LAYERS_H
func.func @second(%x: tensor<3x8xbf16> {moe.name = "a name\\ "},
                  %w: tensor<2x8xbf16> {
                      moe.name = "w",
                      moe.layout = #moe.layout<orientation = out_in>})
    -> tensor<3x2xf32> attributes {moe.entry} {
  %l = moe.gate %x, %w
      : (tensor<3x8xbf16>, tensor<2x8xbf16>) -> tensor<3x2xf32>
  return %l : tensor<3x2xf32>
}
