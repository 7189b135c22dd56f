//===- MoeSlotOps.td - Soft slots -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOESLOTOPS_TD
#define MOE_DIALECT_MOE_IR_MOESLOTOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_UnitRowsOp : Moe_LayerOp<"unit_rows"> {
  let summary = "rows scaled to length one";
  let description = [{
    unit[t, :] = s * rows[t, :] / |rows[t, :]| for rows [T, D], the length kept
    from zero by `eps`: |x| is max(sqrt(sum x^2), eps) (`clamp`), or
    sqrt(sum x^2 + eps) (`add`). s is 1, or the scalar operand `scale`. A row of
    zeros stays zero; one with NaN is NaN. Computed in f32 (f64 for f64), one
    rounding at the end. moe.gate on unit rows and unit weights is the cosine
    gate.

    Labels: unit_rows_c1 T and D (static) of rows and result; unit_rows_c2 eps
    finite and not negative.

    Source: `clamp` with 1e-12 is what tutel's and torchscale's gates of X-MoE
    (2204.09179) call; `add` with 1e-6 is google-research/vmoe's Soft MoE
    (2308.00951).

    ```mlir
    %u = moe.unit_rows %x eps <clamp> 1.000000e-12 scale(%s : tensor<f32>)
        : tensor<?x64xf32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$rows,
    Optional<Moe_FloatTensor<[0]>>:$scale,
    Moe_EpsModeAttr:$mode,
    F64Attr:$eps
  );
  let results = (outs Moe_FloatTensor<[2]>:$unit);
  let assemblyFormat = [{
    $rows `eps` $mode $eps
    (`scale` `(` $scale^ `:` type($scale) `)`)? attr-dict
    `:` type($rows) `->` type($unit)
  }];
}

def Moe_RouteSlotsOp : Moe_LayerOp<"route_slots", [AttrSizedOperandSegments]> {
  let summary = "Soft MoE: every slot takes an average of all tokens";
  let description = [{
    From logits [T, S] the weights dispatch [T, S], per slot a softmax over the
    tokens of a group, and combine [T, S], per token a softmax over all slots;
    each rounded once to its type. With `groups` (offsets [G+1], ascending from
    0 to T, otherwise a run-time error of the entry) every group has S slots of
    its own. A token whose `mask` is false has zeros, and no slot of its group
    sees it. A NaN stays in its group. A slot of a group without tokens has no
    input.

    Labels: route_slots_c1 S of all, static, at least 1; route_slots_c2 T of
    all.

    Source: arXiv 2308.00951, as google-research/vmoe has it. Its logits are
    moe.gate of moe.unit_rows of both the tokens and the slots' parameters,
    `add` with 1e-6, the latter with a learned scale.

    ```mlir
    %d, %c = moe.route_slots %logits
        : tensor<?x32xf32> -> tensor<?x32xf32>, tensor<?x32xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$dispatch,
    Moe_FloatTensor<[2]>:$combine
  );
  let assemblyFormat = [{
    $logits
    oilist(`mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`)
    attr-dict `:` type($logits) `->` type($dispatch) `,` type($combine)
  }];
}

def Moe_SoftDispatchOp : Moe_LayerOp<"soft_dispatch"> {
  let summary = "the inputs of soft slots, in expert order";
  let description = [{
    Row s of a group is sum over its tokens t of dispatch[t, s] * input[t, :]:
    input [T, D], dispatch [T, S], S = experts * p. The p slots s = e p .. of
    expert e come from every group; rows [G * S, D] are in expert order, and
    within an expert by group, with offsets [E+1] (i32) such that expert e owns
    rows e G p to (e + 1) G p, as moe.experts wants them. A token whose weight
    is 0 adds nothing, be it NaN. Sums in f32 (f64 for f64), in the order of
    tokens, rounded once.

    Labels: soft_dispatch_c1 T of input and dispatch; soft_dispatch_c2 D of
    input and rows, static; soft_dispatch_c3 experts at least 1 and S static, a
    multiple of them; soft_dispatch_c4 rows are G * S, within an i32;
    soft_dispatch_c5 offsets are experts + 1.

    ```mlir
    %rows, %offsets = moe.soft_dispatch %x, %d experts 8
        : (tensor<?x64xf32>, tensor<?x32xf32>)
        -> (tensor<32x64xf32>, tensor<9xi32>)
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$input,
    Moe_FloatTensor<[2]>:$dispatch,
    Optional<Moe_GroupOffsets>:$group_offsets,
    I64Attr:$num_experts
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$rows,
    Moe_IndexTensor<[1]>:$offsets
  );
  let assemblyFormat = [{
    $input `,` $dispatch `experts` $num_experts
    (`groups` `(` $group_offsets^ `:` type($group_offsets) `)`)? attr-dict
    `:` `(` type($input) `,` type($dispatch) `)`
    `->` `(` type($rows) `,` type($offsets) `)`
  }];
}

def Moe_SoftCombineOp : Moe_LayerOp<"soft_combine"> {
  let summary = "tokens from the outputs of soft slots";
  let description = [{
    output[t, :] = sum over the slots s of the token's group of combine[t, s] *
    row of s: rows [G * S, D] in the order of moe.soft_dispatch, combine [T, S],
    output [T, D]. Sums in f32 (f64 for f64), in the order of slots, rounded
    once. Rows of NaN make their group's tokens NaN, those of weight 0 too.

    Labels: soft_combine_c1 T of combine and output; soft_combine_c2 D of rows
    and output, static; soft_combine_c3 experts at least 1 and S static, a
    multiple of them; soft_combine_c4 rows are G * S, within an i32.

    ```mlir
    %y = moe.soft_combine %h, %c experts 8
        : (tensor<32x64xf32>, tensor<?x32xf32>) -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$rows,
    Moe_FloatTensor<[2]>:$combine,
    Optional<Moe_GroupOffsets>:$group_offsets,
    I64Attr:$num_experts
  );
  let results = (outs Moe_FloatTensor<[2]>:$output);
  let assemblyFormat = [{
    $rows `,` $combine `experts` $num_experts
    (`groups` `(` $group_offsets^ `:` type($group_offsets) `)`)? attr-dict
    `:` `(` type($rows) `,` type($combine) `)` `->` type($output)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOESLOTOPS_TD
