//===- MoeDispatchOps.td - Rows to experts and back -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEDISPATCHOPS_TD
#define MOE_DIALECT_MOE_IR_MOEDISPATCHOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_DispatchOp : Moe_LayerOp<"dispatch"> {
  let summary = "rows by a routing, in expert order";
  let description = [{
    Copies the row of every assignment of a routing: input [T, D] to rows
    [N, D], offsets [E+1] (i32) such that expert e owns the rows
    offsets[e] .. offsets[e+1]. Within an expert, assignments come in token
    order, those of one token in slot order. N is T * k or E * C, the largest
    possible number; rows from offsets[E] on are unspecified. Empty slots, and
    ids at or past `experts` (identity experts), have no row.

    `choice` says what the ids are: expert ids [T, k] (`token`, the default) or
    token ids [E, C] (`expert`). With `weights` each row is multiplied by its
    weight and rounded once to the row's type.

    Labels: dispatch_c1 E of offsets, static, at least 1; dispatch_c2 D (static)
    and element type of the rows; dispatch_c3 N of ids and rows, within an i32;
    dispatch_c4 weights have the shape of ids; dispatch_c5 T of ids (or E, where
    experts choose).

    ```mlir
    %rows, %offsets = moe.dispatch %x, %ids experts 8
        : (tensor<?x64xf32>, tensor<?x2xi32>)
        -> (tensor<?x64xf32>, tensor<9xi32>)
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$input,
    Moe_IndexTensor<[2]>:$ids,
    Optional<Moe_FloatTensor<[2]>>:$weights,
    I64Attr:$num_experts,
    DefaultValuedAttr<Moe_ChoiceAttr, "::mlir::moe::Choice::token">:$choice
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$rows,
    Moe_IndexTensor<[1]>:$offsets
  );
  let assemblyFormat = [{
    $input `,` $ids `experts` $num_experts (`chosen_by` $choice^)?
    (`weights` `(` $weights^ `:` type($weights) `)`)? attr-dict
    `:` `(` type($input) `,` type($ids) `)`
    `->` `(` type($rows) `,` type($offsets) `)`
  }];
}

def Moe_CombineOp : Moe_LayerOp<"combine", [AttrSizedOperandSegments]> {
  let summary = "weighted sum of expert rows, back in token order";
  let description = [{
    output[t] = scale * (sum over the assignments of t, in slot order (in expert
    order where experts chose), of weight * row, plus the sum of the weights of
    its identity slots times identity[t]) + bias + residual[t]; halved after
    the residual where `average` is set. rows [N, D] in the order of
    moe.dispatch with the same ids, output [T, D], bias [D], identity and
    residual [T, D]. Accumulated in f32 (f64 for f64 rows) and rounded once.
    Without `weights` every weight is 1. A token without experts gives
    bias + residual, or 0.

    `identity` is the input of identity experts: slots whose id is at or past
    `experts`. `residual` is a shared expert's output or any other branch.
    `num_tokens` gives T where experts chose and T is dynamic.

    Labels: combine_c1 D of all, static; combine_c2 N of ids and rows, within an
    i32; combine_c3 T of all; combine_c4 weights have the shape of ids;
    combine_c5 num_tokens is given exactly where experts choose and T is
    dynamic; combine_c6 identity needs ids by token; combine_c7 average needs a
    residual; combine_c8 E at least 1, and of ids where experts choose;
    combine_c9 scale finite.

    ```mlir
    %y = moe.combine %rows, %ids experts 8 weights(%w : tensor<?x2xf32>)
        : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$rows,
    Moe_IndexTensor<[2]>:$ids,
    Optional<Moe_FloatTensor<[2]>>:$weights,
    Optional<Moe_FloatTensor<[2]>>:$identity,
    Optional<Moe_FloatTensor<[2]>>:$residual,
    Optional<Moe_FloatTensor<[1]>>:$bias,
    Optional<Index>:$num_tokens,
    I64Attr:$num_experts,
    DefaultValuedAttr<Moe_ChoiceAttr, "::mlir::moe::Choice::token">:$choice,
    DefaultValuedAttr<F64Attr, "1.0">:$scale,
    UnitAttr:$average
  );
  let results = (outs Moe_FloatTensor<[2]>:$output);
  let assemblyFormat = [{
    $rows `,` $ids `experts` $num_experts (`chosen_by` $choice^)?
    oilist(`weights` `(` $weights `:` type($weights) `)`
         | `identity` `(` $identity `:` type($identity) `)`
         | `residual` `(` $residual `:` type($residual) `)`
         | `bias` `(` $bias `:` type($bias) `)`
         | `num_tokens` `(` $num_tokens `)`)
    attr-dict `:` `(` type($rows) `,` type($ids) `)` `->` type($output)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEDISPATCHOPS_TD
