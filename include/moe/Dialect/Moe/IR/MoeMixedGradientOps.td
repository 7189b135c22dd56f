//===- MoeMixedGradientOps.td - Backwards beyond a token -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ops of backwards in which a token reads others: expert choice, soft slots
// and mixes.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEMIXEDGRADIENTOPS_TD
#define MOE_DIALECT_MOE_IR_MOEMIXEDGRADIENTOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_RouteExpertsVJPOp : Moe_LayerOp<"route_experts_vjp",
    [AttrSizedOperandSegments]> {
  let summary = "cotangent of the logits of an expert choice";
  let description = [{
    The backward of moe.route_experts with the same router and operands, given
    the ids [E, C] that it chose and the `cotangent` [E, C] of its weights: the
    cotangent of the logits [T, E]. A score has the cotangent of the slot that
    holds its token, divided where the weight was by the number of experts that
    took the token, which is a constant; scores that no slot holds have none.
    The way from the scores to the logits is the backward of the softmax over
    the experts, or over the live tokens of a group, or none. Masked tokens have
    zeros, and with a softmax over experts so has a token that nobody took. The
    choice of a capped router has no derivative, but weights that are scores
    have. Computed in f32 (f64 where an operand or the result is), one rounding.

    Labels: route_experts_vjp_c1 the router has experts choose, and weights that
    are scores; route_experts_vjp_c2 E of all, static, at least 1;
    route_experts_vjp_c3 C of ids and cotangent; route_experts_vjp_c4 T of
    logits, mask and result.

    ```mlir
    %dr = moe.route_experts_vjp
        #moe.expert_choice<capacity = <factor = 2.0>> %logits, %ids by %dw
        : tensor<?x8xf32>, tensor<8x?xi32>, tensor<8x?xf32> -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Moe_IndexTensor<[2]>:$ids,
    Moe_FloatTensor<[2]>:$cotangent,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    Moe_RouterAttrInterface:$router
  );
  let results = (outs Moe_FloatTensor<[2]>:$gradient);
  let assemblyFormat = [{
    $router $logits `,` $ids `by` $cotangent
    oilist(`mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`)
    attr-dict `:` type($logits) `,` type($ids) `,` type($cotangent)
    `->` type($gradient)
  }];
}

def Moe_RouteSlotsVJPOp : Moe_LayerOp<"route_slots_vjp",
    [AttrSizedOperandSegments]> {
  let summary = "cotangent of the logits of soft slots";
  let description = [{
    The backward of moe.route_slots, given what it returned, the shares D
    (dispatch) and C (combine) [T, S], and their cotangents dD and dC:
    C (dC - sum over the slots of C dC) + D (dD - sum over the tokens of the
    group of D dD), all [T, S]. Masked tokens have zeros, be their cotangents
    NaN, and take no part in sums. Computed in f32 (f64 where an operand or the
    result is), in the order of slots and tokens, one rounding.

    Labels: route_slots_vjp_c1 S of all, static, at least 1; route_slots_vjp_c2
    T of all.

    ```mlir
    %dr = moe.route_slots_vjp %d, %c by %dd, %dc
        : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x32xf32>,
          tensor<?x32xf32> -> tensor<?x32xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$dispatch,
    Moe_FloatTensor<[2]>:$combine,
    Moe_FloatTensor<[2]>:$d_dispatch,
    Moe_FloatTensor<[2]>:$d_combine,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets
  );
  let results = (outs Moe_FloatTensor<[2]>:$gradient);
  let assemblyFormat = [{
    $dispatch `,` $combine `by` $d_dispatch `,` $d_combine
    oilist(`mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`)
    attr-dict `:` type($dispatch) `,` type($combine) `,` type($d_dispatch) `,`
    type($d_combine) `->` type($gradient)
  }];
}

def Moe_SoftDotsOp : Moe_LayerOp<"soft_dots"> {
  let summary = "dot products of tokens with the rows of their group's slots";
  let description = [{
    dots[t, s] = sum over d of tokens[t, d] * the row of slot s of the token's
    group: tokens [T, D], rows [G * S, D] in the order of moe.soft_dispatch,
    dots [T, S]. It is the gradient of the weights of moe.soft_combine (tokens
    are the cotangent) and of moe.soft_dispatch (rows are). Sums in f32 (f64 for
    f64), in the order of d, rounded once.

    Labels: soft_dots_c1 T of tokens and dots; soft_dots_c2 D of tokens and
    rows, static; soft_dots_c3 experts at least 1 and S static, a multiple of
    them; soft_dots_c4 rows are G * S, within an i32.

    ```mlir
    %dc = moe.soft_dots %dy, %h experts 8
        : (tensor<?x64xf32>, tensor<32x64xf32>) -> tensor<?x32xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$tokens,
    Moe_FloatTensor<[2]>:$rows,
    Optional<Moe_GroupOffsets>:$group_offsets,
    I64Attr:$num_experts
  );
  let results = (outs Moe_FloatTensor<[2]>:$dots);
  let assemblyFormat = [{
    $tokens `,` $rows `experts` $num_experts
    (`groups` `(` $group_offsets^ `:` type($group_offsets) `)`)? attr-dict
    `:` `(` type($tokens) `,` type($rows) `)` `->` type($dots)
  }];
}

def Moe_MixQueryVJPOp : Moe_LayerOp<"mix_query_vjp",
    [AttrSizedOperandSegments]> {
  let summary = "cotangents of a mix that belong to the tokens that see";
  let description = [{
    The half of the backward of moe.mix that goes by query, with the same
    operands and the `cotangent` g [T, R] of what was mixed. With s_h[i, j] =
    `scale` <query_h[i], key_h[j]>, A_h its softmax and w[i, j] = <g[i],
    values[j]>:

    - log_sums[i, h] = log of the sum over the j that i sees of exp(s_h[i, j]),
    - dots[i, h] = sum over j of A_h[i, j] w[i, j], which is the cotangent of
      P(h|i),
    - gradient, of the query: in the columns of head h `scale` P(h|i) times the
      sum over j of A_h[i, j] (w[i, j] - dots[i, h]) key_h[j].

    No T x T buffer exists. Zeros for masked tokens. `from(%first)` is as in
    moe.mix, for a tile of tokens. Computed in f32 (f64 where an operand or a
    result is), in the order of keys, one rounding.

    Labels: mix_query_vjp_c1 R of values and cotangent, static; mix_query_vjp_c2
    T of values, key and mask, and of query, cotangent, posterior and results,
    all equal without `from`; mix_query_vjp_c3 heads at least 1 and of
    posterior, dots and sums; mix_query_vjp_c4 widths of query and key as in
    moe.mix, and that of the gradient; mix_query_vjp_c5 scale finite and
    positive.

    ```mlir
    %dq, %dots, %sums = moe.mix_query_vjp %s by %g query(%q : tensor<?x64xf32>)
        key(%k : tensor<?x64xf32>) causal
        : tensor<?x8xf32>, tensor<?x8xf32>
        -> tensor<?x64xf32>, tensor<?x1xf32>, tensor<?x1xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$values,
    Moe_FloatTensor<[2]>:$cotangent,
    Moe_FloatTensor<[2]>:$query,
    Moe_FloatTensor<[2]>:$key,
    Optional<Moe_FloatTensor<[2]>>:$posterior,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    Optional<I64>:$first_token,
    DefaultValuedAttr<I64Attr, "1">:$heads,
    DefaultValuedAttr<F64Attr, "1.0">:$scale,
    UnitAttr:$causal
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$gradient,
    Moe_FloatTensor<[2]>:$dots,
    Moe_FloatTensor<[2]>:$log_sums
  );
  let assemblyFormat = [{
    $values `by` $cotangent `query` `(` $query `:` type($query) `)`
    `key` `(` $key `:` type($key) `)`
    oilist(`posterior` `(` $posterior `:` type($posterior) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`
         | `from` `(` $first_token `)`
         | `heads` $heads
         | `scale` $scale
         | `causal` $causal)
    attr-dict `:` type($values) `,` type($cotangent) `->` type($gradient) `,`
    type($dots) `,` type($log_sums)
  }];
}

def Moe_MixKeyVJPOp : Moe_LayerOp<"mix_key_vjp", [AttrSizedOperandSegments]> {
  let summary = "cotangents of a mix that belong to the tokens that are seen";
  let description = [{
    The half of the backward of moe.mix that goes by key, with the same operands
    and the `dots` and `sums` [T, heads] of moe.mix_query_vjp; letters as there.
    With B_h[i, j] = P(h|i) exp(s_h[i, j] - sums[i, h]):

    - d_values[j] = sum over the heads and the i that see j of B_h[i, j] g[i],
    - d_key[j], in the columns of a head of the keys: `scale` times the sum over
      its heads h and the i of B_h[i, j] (w[i, j] - dots[i, h]) query_h[i].

    No T x T buffer exists. Zeros for masked tokens. With `from(%first)` the
    values and keys have the rows of tokens first, first + 1, .. alone, and so
    have the results. Computed in f32 (f64 where an operand or a result is), in
    the order of heads and then of queries, one rounding.

    Labels: mix_key_vjp_c1 R of values, cotangent and their gradient, static;
    mix_key_vjp_c2 T of query, cotangent, dots, sums, posterior and mask, and of
    values, key and results, all equal without `from`; mix_key_vjp_c3 heads at
    least 1 and of posterior, dots and sums; mix_key_vjp_c4 widths of query and
    key as in moe.mix, and that of the gradient; mix_key_vjp_c5 scale finite and
    positive.

    ```mlir
    %dk, %ds = moe.mix_key_vjp %s by %g query(%q : tensor<?x64xf32>)
        key(%k : tensor<?x64xf32>) dots(%dots : tensor<?x1xf32>)
        sums(%sums : tensor<?x1xf32>) causal
        : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x64xf32>, tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$values,
    Moe_FloatTensor<[2]>:$cotangent,
    Moe_FloatTensor<[2]>:$query,
    Moe_FloatTensor<[2]>:$key,
    Moe_FloatTensor<[2]>:$dots,
    Moe_FloatTensor<[2]>:$log_sums,
    Optional<Moe_FloatTensor<[2]>>:$posterior,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    Optional<I64>:$first_token,
    DefaultValuedAttr<I64Attr, "1">:$heads,
    DefaultValuedAttr<F64Attr, "1.0">:$scale,
    UnitAttr:$causal
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$d_key,
    Moe_FloatTensor<[2]>:$d_values
  );
  let assemblyFormat = [{
    $values `by` $cotangent `query` `(` $query `:` type($query) `)`
    `key` `(` $key `:` type($key) `)` `dots` `(` $dots `:` type($dots) `)`
    `sums` `(` $log_sums `:` type($log_sums) `)`
    oilist(`posterior` `(` $posterior `:` type($posterior) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`
         | `from` `(` $first_token `)`
         | `heads` $heads
         | `scale` $scale
         | `causal` $causal)
    attr-dict `:` type($values) `,` type($cotangent) `->` type($d_key) `,`
    type($d_values)
  }];
}

def Moe_MixMatrixVJPOp : Moe_LayerOp<"mix_matrix_vjp",
    [AttrSizedOperandSegments]> {
  let summary = "cotangents of a mix by a given matrix";
  let description = [{
    The backward of moe.mix_matrix, with the same operands and the `cotangent` g
    [T, R] of what was mixed; w[i, j] = <g[i], values[j]>. Over the j that i
    sees:

    - d_values[j] = sum over the i that see j of
      (sum over the heads of P(h|i) A_h[i, j]) g[i],
    - d_matrices[h, i, j] = P(h|i) w[i, j], 0 where i does not see j,
    - dots[i, h] = sum over j of A_h[i, j] w[i, j], the cotangent of P(h|i).

    Zeros for masked tokens. Computed in f32 (f64 where an operand or a result
    is), one rounding; sums in the order of tokens.

    Labels: mix_matrix_vjp_c1 R of values, cotangent and their gradient, static;
    mix_matrix_vjp_c2 T of values, mask, their gradient and the matrices' last
    axes, and of the middle axes, cotangent, posterior and dots, all equal
    without `from`; mix_matrix_vjp_c3 heads static, at least 1, and of
    posterior, the matrices' gradient and dots.

    ```mlir
    %ds, %da, %dots = moe.mix_matrix_vjp %s by %a cotangent(%g :
        tensor<?x8xf32>) causal : (tensor<?x8xf32>, tensor<4x?x?xf32>)
        -> (tensor<?x8xf32>, tensor<4x?x?xf32>, tensor<?x4xf32>)
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$values,
    Moe_FloatTensor<[3]>:$matrices,
    Moe_FloatTensor<[2]>:$cotangent,
    Optional<Moe_FloatTensor<[2]>>:$posterior,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    Optional<I64>:$first_token,
    UnitAttr:$causal
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$d_values,
    Moe_FloatTensor<[3]>:$d_matrices,
    Moe_FloatTensor<[2]>:$dots
  );
  let assemblyFormat = [{
    $values `by` $matrices
    `cotangent` `(` $cotangent `:` type($cotangent) `)`
    oilist(`posterior` `(` $posterior `:` type($posterior) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`
         | `from` `(` $first_token `)`
         | `causal` $causal)
    attr-dict `:` `(` type($values) `,` type($matrices) `)`
    `->` `(` type($d_values) `,` type($d_matrices) `,` type($dots) `)`
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEMIXEDGRADIENTOPS_TD
