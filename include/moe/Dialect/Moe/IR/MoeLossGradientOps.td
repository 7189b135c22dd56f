//===- MoeLossGradientOps.td - Backwards of the losses -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOELOSSGRADIENTOPS_TD
#define MOE_DIALECT_MOE_IR_MOELOSSGRADIENTOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_AuxLossVJPOp : Moe_LayerOp<"aux_loss_vjp", [AttrSizedOperandSegments]> {
  let summary = "the scores' cotangent of an auxiliary loss";
  let description = [{
    The backward of moe.aux_loss with the same operands and settings, given the
    loss's `cotangent`: that of the scores, of their shape. With g = cotangent *
    coefficient over the number of groups that have tokens, T the tokens of the
    group that take part, and s, p as moe.aux_loss has them:

    - `balance`: g R f_e / T for each of the tokens. Like every count below f_e
      is a constant, and so are the ids.
    - `first_place`: g R f1_e / T.
    - `second_place`: (a_e - sum_j a_j q_j) / (sum + 1e-9) with a_e = g R f2_e /
      T and q the token's shares; 0 for the first slot's expert.
    - `importance`: with x_e the summed scores, m their mean, v the variance
      over n = R (R - 1 where `unbiased`, at least 1), u = m^2 + `eps`:
      2 g ((x_e - m) / n - v m / (R u)) / u.
    - `z`: 2 g logsumexp(s_t) softmax(s_t)_e / T.
    - `trimmed_lasso`: g / T outside the k largest, 0 inside. Of equal scores
      the lower expert counts as the larger; NaN is the least.
    - `entropy`: -g (log s + 1) / T; 0 where s is 0, as 0 log 0 is a constant.
    - `token_balance`: p_te (h_t - sum_u h_u p_ue) with h_t = 2 g T / R times
      the mean over e of p_te.
    - `l1_balance`: g R c_e / (k T^2), for scores of 0 too: it is the backward
      of ReLU that closes those.

    Masked tokens have exact zeros, and so has everything where no token takes
    part. A NaN goes where the formula reads it. Computed in f32 (f64 where the
    scores, the cotangent or the result are), one rounding.

    Labels: those of moe.aux_loss; aux_loss_vjp_c1 the result has the shape of
    the scores.

    ```mlir
    %ds = moe.aux_loss_vjp <balance> %scores by %dl
        ids(%ids : tensor<?x2xi32>) coefficient 1.000000e-02
        : tensor<?x8xf32>, tensor<f32> -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_AuxLossKindAttr:$kind,
    Moe_FloatTensor<[2]>:$scores,
    Moe_FloatTensor<[0]>:$cotangent,
    Optional<Moe_IndexTensor<[2]>>:$ids,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    OptionalAttr<I64Attr>:$k,
    UnitAttr:$per_slot,
    UnitAttr:$unbiased,
    OptionalAttr<F64Attr>:$eps,
    F64Attr:$coefficient
  );
  let results = (outs Moe_FloatTensor<[2]>:$gradient);
  let assemblyFormat = [{
    $kind $scores `by` $cotangent
    oilist(`ids` `(` $ids `:` type($ids) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`
         | `k` $k
         | `per_slot` $per_slot
         | `unbiased` $unbiased
         | `eps` $eps)
    `coefficient` $coefficient attr-dict
    `:` type($scores) `,` type($cotangent) `->` type($gradient)
  }];
  let extraClassDeclaration = [{
    /// What is added to the squared mean.
    double getEpsOrZero() {
      return getEps() ? getEps()->convertToDouble() : 0.0;
    }
  }];
}

def Moe_LoadLossVJPOp : Moe_LayerOp<"load_loss_vjp",
    [AttrSizedOperandSegments]> {
  let summary = "the cotangents of a load loss's logits";
  let description = [{
    The backward of moe.load_loss with the same operands and settings, given the
    loss's `cotangent`. Results, of the shape of clean: the cotangents of clean
    and noisy and, where `sigma` is an operand, of sigma.

    With z = (clean - threshold) / sigma and h_e what the loss gives to the load
    of expert e (see `importance` in moe.aux_loss_vjp), the chance of an entry
    gives d = h_e exp(-z^2 / 2) / (sqrt(2 pi) sigma) to clean, -d to the noisy
    logit that is its threshold, and -d z to sigma. Of equal noisy logits the
    lower expert counts as the larger; an entry is above the (k+1)-th where it
    is among the k first in this order. Chances of 0 and 1 that do not depend on
    the threshold give nothing.

    Masked tokens have exact zeros. Computed in f32 (f64 where a tensor is), one
    rounding.

    Labels: those of moe.load_loss; load_loss_vjp_c1 a third result exactly with
    sigma; load_loss_vjp_c2 results have the shape of clean.

    ```mlir
    %dc, %dn, %dsigma = moe.load_loss_vjp <kth_excluding> %clean, %noisy by %dl
        sigma(%sigma : tensor<?x8xf32>) k 2 eps 1.000000e-10
        coefficient 1.000000e-02
        : tensor<?x8xf32>, tensor<?x8xf32>, tensor<f32>
        -> tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_LoadThresholdAttr:$threshold,
    Moe_FloatTensor<[2]>:$clean,
    Moe_FloatTensor<[2]>:$noisy,
    Moe_FloatTensor<[0]>:$cotangent,
    Optional<Moe_FloatTensor<[2]>>:$sigma,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    OptionalAttr<F64Attr>:$std,
    I64Attr:$k,
    DefaultValuedAttr<F64Attr, "0.0">:$eps,
    F64Attr:$coefficient
  );
  let results = (outs Variadic<Moe_FloatTensor<[2]>>:$gradients);
  let assemblyFormat = [{
    $threshold $clean `,` $noisy `by` $cotangent
    oilist(`sigma` `(` $sigma `:` type($sigma) `)`
         | `std` $std
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`)
    `k` $k (`eps` $eps^)? `coefficient` $coefficient attr-dict
    `:` type($clean) `,` type($noisy) `,` type($cotangent)
    `->` type($gradients)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOELOSSGRADIENTOPS_TD
