//===- MoeTrainingOps.td - What training adds to a routing -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Noise that a loss sees too, the load loss, and the selection bias that a
// training step moves. Losses of scores and ids are moe.aux_loss.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOETRAININGOPS_TD
#define MOE_DIALECT_MOE_IR_MOETRAININGOPS_TD

include "moe/Dialect/Moe/IR/MoeRoutingOps.td"

def Moe_NoisyLogitsOp : Moe_LayerOp<"noisy_logits"> {
  let summary = "the noisy logits of #moe.noisy_top_k in training";
  let description = [{
    noisy[t, e] = logits[t, e] + sigma n, with the sigma and the draws n of
    #moe.noisy_top_k for these numbers: `learned` with sigma = softplus(noise)
    + `floor`, which is the second result; `normal` with sigma = `std`;
    `gumbel` with sigma 1. logits, noise and results [T, E]. A route on them
    without training chooses what the router chooses in training from the clean
    logits, with the weights of `chosen` and of `all`, bit for bit where the
    types of logits and result are equal and f32 or f64.

    Results round once to their types. An expert at -inf stays there; a NaN
    stays where it is. The draws are those of moe.philox: the same for every
    number of threads and any split of the batch.

    Labels: noisy_logits_c1 equal shapes, E static; noisy_logits_c2 noise and
    sigma exactly for `learned`; noisy_logits_c3 std positive and finite,
    exactly for `normal`; noisy_logits_c4 floor positive and finite, for
    `learned` alone.

    Source: those of #moe.noisy_top_k.

    ```mlir
    %noisy, %sigma = moe.noisy_logits <learned> %logits
        noise(%noise : tensor<?x8xf32>) draw(%seed, %layer, %first)
        : tensor<?x8xf32> -> tensor<?x8xf32>, tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_NoiseKindAttr:$kind,
    Moe_FloatTensor<[2]>:$logits,
    Optional<Moe_FloatTensor<[2]>>:$noise,
    I64:$seed,
    I64:$layer,
    I64:$first_token,
    OptionalAttr<F64Attr>:$std,
    OptionalAttr<F64Attr>:$floor
  );
  let results = (outs
    Moe_FloatTensor<[2]>:$noisy,
    Optional<Moe_FloatTensor<[2]>>:$sigma
  );
  let assemblyFormat = [{
    $kind $logits
    oilist(`noise` `(` $noise `:` type($noise) `)`
         | `std` $std
         | `floor` $floor)
    `draw` `(` $seed `,` $layer `,` $first_token `)` attr-dict
    `:` type($logits) `->` type($noisy) (`,` type($sigma)^)?
  }];
  let extraClassDeclaration = [{
    ::mlir::moe::NoiseSettings getSettings();
  }];
}

def Moe_LoadLossOp : Moe_LayerOp<"load_loss", [AttrSizedOperandSegments]> {
  let summary = "importance of the smooth load of experts that noise chooses";
  let description = [{
    `coefficient` times the squared coefficient of variation over the experts of
      load_e = sum_t Phi((clean[t, e] - threshold) / sigma),
    the chance that expert e would be among the k best of token t if its noise
    were drawn again: variance / (mean^2 + `eps`), population variance. clean
    and noisy [T, R]; sigma the operand [T, R], or one number `std`.
    `kth_excluding` takes as threshold the k-th largest of the token's other
    noisy logits: the (k+1)-th for an entry strictly above it, the k-th for any
    other (1701.06538 as tensor2tensor has it, eps 1e-10); `kth` the k-th
    largest of all for every entry (V-MoE, 2106.05974, std 1/R).

    An entry at -inf has the chance 0; where the row has no such threshold, for
    k >= R (`kth`: k > R), others have 1. Without noise sigma is 0 and there is
    no such load: the counts of moe.expert_load take its place. A NaN in clean
    or sigma makes the loss NaN where k < R; one in noisy alone may. Masked
    tokens take no part, without tokens the loss is 0, and with `groups` the
    losses of the groups are averaged over the groups that have tokens.

    Labels: load_loss_c1 T of all; load_loss_c2 R of all, static; load_loss_c3
    either sigma or a std that is positive and finite; load_loss_c4 k at least
    1; load_loss_c5 coefficient finite; load_loss_c6 eps finite and not
    negative.

    ```mlir
    %loss = moe.load_loss <kth_excluding> %clean, %noisy
        sigma(%sigma : tensor<?x8xf32>) k 2 eps 1.000000e-10
        coefficient 1.000000e-02
        : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<f32>
    ```
  }];
  let arguments = (ins
    Moe_LoadThresholdAttr:$threshold,
    Moe_FloatTensor<[2]>:$clean,
    Moe_FloatTensor<[2]>:$noisy,
    Optional<Moe_FloatTensor<[2]>>:$sigma,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    OptionalAttr<F64Attr>:$std,
    I64Attr:$k,
    DefaultValuedAttr<F64Attr, "0.0">:$eps,
    F64Attr:$coefficient
  );
  let results = (outs Moe_FloatTensor<[0]>:$loss);
  let assemblyFormat = [{
    $threshold $clean `,` $noisy
    oilist(`sigma` `(` $sigma `:` type($sigma) `)`
         | `std` $std
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`)
    `k` $k (`eps` $eps^)? `coefficient` $coefficient attr-dict
    `:` type($clean) `,` type($noisy) `->` type($loss)
  }];
}

def Moe_ExpertLoadOp : Moe_LayerOp<"expert_load"> {
  let summary = "how often, or with which weight, experts were chosen";
  let description = [{
    load[e] = the number of slots of ids [T, k] that name e (i32), or with
    `weights` [T, k] the sum of the weights of these slots, in the order of the
    tokens: load [E]. Ids outside [0, E) do not count: slots that are empty,
    masked or dropped. Without tokens the load is 0. A NaN weight stays in its
    expert's sum.

    The load of the weights of #moe.noisy_top_k, as one row [1, E], is what the
    importance loss of 1701.06538 takes.

    Labels: expert_load_c1 shapes of ids and weights; expert_load_c2 load is of
    floats with weights, of i32 without; expert_load_c3 E static, at least 1.

    ```mlir
    %counts = moe.expert_load %ids : tensor<?x2xi32> -> tensor<8xi32>
    ```
  }];
  let arguments = (ins
    Moe_IndexTensor<[2]>:$ids,
    Optional<Moe_FloatTensor<[2]>>:$weights
  );
  let results = (outs TensorRankOf<[I32, AnyFloat], [1]>:$load);
  let assemblyFormat = [{
    $ids (`weights` `(` $weights^ `:` type($weights) `)`)? attr-dict
    `:` type($ids) `->` type($load)
  }];
}

def Moe_UpdateBiasOp : Moe_LayerOp<"update_bias"> {
  let summary = "a step of a selection bias towards experts with few tokens";
  let description = [{
    updated[e] = bias[e] + rate * sign(mean of the counts - counts[e]), sign(0)
    = 0: bias, counts and result [E]. Counts are the slots that chose an expert
    in the whole batch, over all ranks: those of moe.expert_load, summed by
    whoever has the parts, as i32 or floats. The sign is exact for whole numbers
    whose sum times E is below 2^53. The step is added in f32 (f64 for f64),
    which rounds once. No gradient passes. A NaN among the counts makes the
    result NaN.

    Labels: update_bias_c1 E of all, static, at least 1; update_bias_c2 rate
    finite.

    Source: Megatron-LM's router (read); DeepSeek-V3 (2412.19437) and
    2408.15664, whose rate of 1e-3 is not verified.

    ```mlir
    %new = moe.update_bias %bias, %counts rate 1.000000e-03
        : tensor<8xf32>, tensor<8xi32> -> tensor<8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[1]>:$bias,
    TensorRankOf<[I32, AnyFloat], [1]>:$counts,
    F64Attr:$rate
  );
  let results = (outs Moe_FloatTensor<[1]>:$updated);
  let assemblyFormat = [{
    $bias `,` $counts `rate` $rate attr-dict
    `:` type($bias) `,` type($counts) `->` type($updated)
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOETRAININGOPS_TD
