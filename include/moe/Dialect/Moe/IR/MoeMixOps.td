//===- MoeMixOps.td - Routing on scores mixed over tokens -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A mix stands in front of any router: the token then chooses by an average of
// its own scores and those of other tokens. Probabilities are mixed where the
// values are scores, logits where they are logits.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEMIXOPS_TD
#define MOE_DIALECT_MOE_IR_MOEMIXOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_MixOp : Moe_LayerOp<"mix", [AttrSizedOperandSegments]> {
  let summary = "values averaged over tokens by similarity or attention";
  let description = [{
    mixed[i, :] = sum over heads h of P(h|i) * sum over tokens j of A_h[i, j]
    values[j, :], where A_h[i, :] is the softmax over the tokens j that i sees
    of `scale` * <query_h[i], key_h[j]>. values [T, R], query [T, heads * d],
    key [T, shared * d], head h being columns h d to (h + 1) d of the query and
    head floor(h shared / heads) of the key (`shared` divides `heads`), result
    [T, R]. P(h|i) is 1 / heads, or `posterior` [T, heads], used as given. No
    T x T buffer exists: keys are streamed under a running maximum.

    Similarity-aware routing has one head, query = key = the tokens' rows u and
    `scale` = 1 / temperature; a learned similarity u W u' has for its query
    moe.gate of u with the transpose of W. Attention-aware routing takes the
    queries and keys of the attention in front.

    A token sees its group alone (`groups`: offsets [G+1], ascending from 0 to
    T, otherwise a run-time error of the entry), with `causal` only itself and
    the tokens before it, and no token whose `mask` is false; a masked token has
    a row of zeros. What a token does not see does not reach it, be it NaN. NaN
    or a product of +inf in what it sees makes its row NaN. Computed in f32
    (f64 where the query or the result is), one rounding at the end.

    With `from(%first)` (i64) the query has the rows of tokens first, first + 1,
    .. alone, and so has the result: a tile of tokens, or new tokens whose
    predecessors' keys and values are kept. These tokens must be among the keys'
    (the caller's duty).

    Labels: mix_c1 R of values and result, static; mix_c2 T of values, key and
    mask, and of query, posterior and result, all equal without `from`; mix_c3
    heads at least 1 and of posterior; mix_c4 widths of query and key static,
    d = width / heads whole, key a number of heads that divides them; mix_c5
    scale finite and positive.

    Source: arXiv 2505.00792 for the idea; every formula here is a
    reconstruction, see docs/Routers.md.

    ```mlir
    %mixed = moe.mix %scores query(%u : tensor<?x64xf32>)
        key(%u : tensor<?x64xf32>) scale 1.250000e-01 causal
        : tensor<?x8xf32> -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$values,
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
  let results = (outs Moe_FloatTensor<[2]>:$mixed);
  let assemblyFormat = [{
    $values `query` `(` $query `:` type($query) `)`
    `key` `(` $key `:` type($key) `)`
    oilist(`posterior` `(` $posterior `:` type($posterior) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`
         | `from` `(` $first_token `)`
         | `heads` $heads
         | `scale` $scale
         | `causal` $causal)
    attr-dict `:` type($values) `->` type($mixed)
  }];
}

def Moe_MixMatrixOp : Moe_LayerOp<"mix_matrix", [AttrSizedOperandSegments]> {
  let summary = "values averaged over tokens by a given matrix";
  let description = [{
    moe.mix with the matrices A [heads, T, T] given, as an attention that keeps
    them has them: values [T, R], result [T, R]. Entries of tokens that are not
    seen count as zero, and the rest of a row is not scaled up. Masks, groups,
    `causal`, `posterior` and `from` as there; with `from` the matrices are
    [heads, rows of the result, T].

    Labels: mix_matrix_c1 R of values and result, static; mix_matrix_c2 T of
    values, mask and the matrices' last axis, and of the middle axis, posterior
    and result, all equal without `from`; mix_matrix_c3 heads static, at least
    1, and of posterior.

    ```mlir
    %mixed = moe.mix_matrix %scores by %a causal
        : (tensor<?x8xf32>, tensor<4x?x?xf32>) -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$values,
    Moe_FloatTensor<[3]>:$matrices,
    Optional<Moe_FloatTensor<[2]>>:$posterior,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    Optional<I64>:$first_token,
    UnitAttr:$causal
  );
  let results = (outs Moe_FloatTensor<[2]>:$mixed);
  let assemblyFormat = [{
    $values `by` $matrices
    oilist(`posterior` `(` $posterior `:` type($posterior) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`
         | `from` `(` $first_token `)`
         | `causal` $causal)
    attr-dict `:` `(` type($values) `,` type($matrices) `)`
    `->` type($mixed)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEMIXOPS_TD
