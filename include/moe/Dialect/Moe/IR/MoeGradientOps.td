//===- MoeGradientOps.td - Ops of backwards -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEGRADIENTOPS_TD
#define MOE_DIALECT_MOE_IR_MOEGRADIENTOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_SlotDotsOp : Moe_LayerOp<"slot_dots", [AttrSizedOperandSegments]> {
  let summary = "dot products of assignments, in the shape of their ids";
  let description = [{
    dots[s] = sum_d rows[n, d] * tokens[t, d] for every entry s of ids that is
    an assignment, of token t and with row n in the order of moe.dispatch;
    without `tokens` sum_d rows[n, d]. Entries that are none get 0, but where
    `identity` [T, D] is given, ids at or past `experts` get the sum of
    identity[t, d] * tokens[t, d]. rows [N, D], tokens [T, D], ids and dots [T,
    k], or [E, C] where experts chose (`chosen_by <expert>`; the ids of an
    expert are distinct). Accumulates in f32 (f64 where an operand or the result
    is), in the order of d, rounds once. Rows past the last assignment are not
    read. `num_tokens` gives T where experts chose and there are no tokens.

    It is the gradient of the weights of moe.combine (tokens are the cotangent)
    and of moe.dispatch (tokens are its input).

    Labels: slot_dots_c1 D of all; slot_dots_c2 N of ids and rows, within an
    i32; slot_dots_c3 T of all; slot_dots_c4 the result has the shape of ids;
    slot_dots_c5 identity needs tokens and ids by token; slot_dots_c6 E at least
    1, and of ids where experts choose; slot_dots_c7 num_tokens is given exactly
    where experts choose without tokens.

    ```mlir
    %dw = moe.slot_dots %h, %ids experts 8 tokens(%dy : tensor<?x64xf32>)
        : (tensor<?x64xf32>, tensor<?x2xi32>) -> tensor<?x2xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$rows,
    Moe_IndexTensor<[2]>:$ids,
    Optional<Moe_FloatTensor<[2]>>:$tokens,
    Optional<Moe_FloatTensor<[2]>>:$identity,
    Optional<Index>:$num_tokens,
    I64Attr:$num_experts,
    DefaultValuedAttr<Moe_ChoiceAttr, "::mlir::moe::Choice::token">:$choice
  );
  let results = (outs Moe_FloatTensor<[2]>:$dots);
  let assemblyFormat = [{
    $rows `,` $ids `experts` $num_experts (`chosen_by` $choice^)?
    oilist(`tokens` `(` $tokens `:` type($tokens) `)`
         | `identity` `(` $identity `:` type($identity) `)`
         | `num_tokens` `(` $num_tokens `)`)
    attr-dict `:` `(` type($rows) `,` type($ids) `)` `->` type($dots)
  }];
}

def Moe_RouteVJPOp : Moe_LayerOp<"route_vjp", [AttrSizedOperandSegments]> {
  let summary = "cotangents of a route's operands";
  let description = [{
    The backward of moe.route with the same router and operands, given what it
    chose: ids and weights [T, k] as it returned them, and the weights'
    `cotangent` [T, k]. Results, in this order: the cotangent of the logits
    [T, R]; that of `noise` [T, R], where it is given; and, where
    `expert_scale` is, every token's share of its cotangent [T, R], whose sum
    over the tokens it is. Ids, and whatever only moves the choice (the
    selection bias, the uniform numbers), have none.

    Which gradient this is, is the router's to say (routers that sample have
    surrogates); see there. Nothing is drawn again but what the ids do not tell.
    A token with empty slots alone has zeros. Computed in f32 (f64 where an
    operand or a result is), one rounding.

    Labels: route_vjp_c1 the router has a backward and is token-local;
    route_vjp_c2 k of ids, weights and cotangent is the router's, static;
    route_vjp_c3 T of all; route_vjp_c4 R of logits, optional operands and
    results, static; route_vjp_c5 as many results as described; route_vjp_c6
    training for routers that sample alone, and with noise; plus those of the
    router, as moe.route has them.

    ```mlir
    %dr = moe.route_vjp #moe.top_k<k = 2> %logits, %ids, %weights by %dw
        : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
        -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Moe_IndexTensor<[2]>:$ids,
    Moe_FloatTensor<[2]>:$weights,
    Moe_FloatTensor<[2]>:$cotangent,
    Optional<Moe_FloatTensor<[1]>>:$expert_scale,
    Optional<Moe_FloatTensor<[2]>>:$noise,
    Optional<I64>:$seed,
    Optional<I64>:$layer,
    Optional<I64>:$first_token,
    Moe_RouterAttrInterface:$router
  );
  let results = (outs Variadic<Moe_FloatTensor<[2]>>:$gradients);
  let assemblyFormat = [{
    $router $logits `,` $ids `,` $weights `by` $cotangent
    oilist(`expert_scale` `(` $expert_scale `:` type($expert_scale) `)`
         | `noise` `(` $noise `:` type($noise) `)`
         | `training` `(` $seed `,` $layer `,` $first_token `)`)
    attr-dict `:` type($logits) `,` type($ids) `,` type($weights) `,`
    type($cotangent) `->` type($gradients)
  }];
}

def Moe_ScoreVJPOp : Moe_LayerOp<"score_vjp"> {
  let summary = "cotangents of logits from those of their scores";
  let description = [{
    The backward of moe.score of the same kind and softcap: logits, cotangent
    and result [T, R]. Softmax: s_i (g_i - sum_j g_j s_j), s the scores.
    Computed in f32 (f64 where an operand or the result is), one rounding.

    Labels: score_vjp_c1 equal shapes, R static; score_vjp_c2 softcap finite and
    not negative.

    ```mlir
    %dr = moe.score_vjp %logits by softmax cotangent(%ds : tensor<?x8xf32>)
        : tensor<?x8xf32> -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Moe_FloatTensor<[2]>:$cotangent,
    Moe_ScoreKindAttr:$kind,
    DefaultValuedAttr<F64Attr, "0.0">:$softcap
  );
  let results = (outs Moe_FloatTensor<[2]>:$gradient);
  let assemblyFormat = [{
    $logits `by` custom<ScoreKind>($kind)
    `cotangent` `(` $cotangent `:` type($cotangent) `)` attr-dict
    `:` type($logits) `->` type($gradient)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEGRADIENTOPS_TD
