//===- MoeRoutingOps.td - Ops from rows to a routing -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEROUTINGOPS_TD
#define MOE_DIALECT_MOE_IR_MOEROUTINGOPS_TD

include "moe/Dialect/Moe/IR/MoeRouterAttrs.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

/// A tensor of floats of the given ranks.
class Moe_FloatTensor<list<int> ranks>
    : TensorRankOf<[AnyFloat], ranks>;
class Moe_IndexTensor<list<int> ranks> : TensorRankOf<[I32], ranks>;
class Moe_MaskTensor<list<int> ranks> : TensorRankOf<[I1], ranks>;
/// Where groups of tokens begin, from 0 to T: one more than there are groups.
def Moe_GroupOffsets : ConfinedType<Moe_IndexTensor<[1]>,
    [CPred<"::llvm::cast<::mlir::ShapedType>($_self).getDimSize(0) != 0">],
    "1D tensor of 32-bit signless integer offsets, at least one">;

class Moe_Op<string mnemonic, list<Trait> traits = []>
    : Op<Moe_Dialect, mnemonic, traits>;

/// An op of a layer: pure, on tensors, shapes reified from its operands.
class Moe_LayerOp<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, !listconcat([Pure,
        DeclareOpInterfaceMethods<ReifyRankedShapedTypeOpInterface,
                                  ["reifyResultShapes"]>],
        traits)> {
  let hasVerifier = 1;
}

def Moe_GateOp : Moe_LayerOp<"gate"> {
  let summary = "token rows to router logits";
  let description = [{
    logits[t, r] = sum_h input[t, h] * weight[r, h] + bias[r]: input [T, H],
    weight [R, H], bias [R], result [T, R]. Products accumulate in f32 (f64
    where an operand or the result is f64), in the order of h, and round once
    to the result's type; that type is the family's logit dtype.

    A NaN in a token's row makes that token's logits NaN and no other's.

    Labels: gate_c1 H of input and weight, static; gate_c2 R of weight, bias and
    result, static; gate_c3 T of input and result.

    ```mlir
    %logits = moe.gate %x, %w bias(%b : tensor<8xf32>)
        : (tensor<?x64xf32>, tensor<8x64xf32>) -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$input,
    Moe_FloatTensor<[2]>:$weight,
    Optional<Moe_FloatTensor<[1]>>:$bias
  );
  let results = (outs Moe_FloatTensor<[2]>:$logits);
  let assemblyFormat = [{
    $input `,` $weight (`bias` `(` $bias^ `:` type($bias) `)`)? attr-dict
    `:` `(` type($input) `,` type($weight) `)` `->` type($logits)
  }];
}

def Moe_ScoreOp : Moe_LayerOp<"score"> {
  let summary = "logits to scores";
  let description = [{
    Row by row: softmax over the R logits, sigmoid, sqrt(softplus), or none,
    after softcap * tanh(logit / softcap) where `softcap` is positive. logits
    [T, R], scores [T, R]. Computed in f32 (f64 for f64 logits), one rounding
    to the result's type. Routers score by themselves; this op serves mixes of
    probabilities and losses. A row with NaN has NaN scores under softmax.

    Labels: score_c1 equal shapes, R static; score_c2 softcap finite and not
    negative.

    ```mlir
    %s = moe.score %logits by softmax : tensor<?x8xf32> -> tensor<?x8xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Moe_ScoreKindAttr:$kind,
    DefaultValuedAttr<F64Attr, "0.0">:$softcap
  );
  let results = (outs Moe_FloatTensor<[2]>:$scores);
  let assemblyFormat = [{
    $logits `by` custom<ScoreKind>($kind) attr-dict
    `:` type($logits) `->` type($scores)
  }];
}

def Moe_RouteOp : Moe_LayerOp<"route", [AttrSizedOperandSegments]> {
  let summary = "token choice: every token takes experts";
  let description = [{
    Applies a router to logits [T, R]: ids [T, k] (i32, in the router's order)
    and weights [T, k], rounded once to their type. An empty slot has id -1 and
    weight 0. A token whose `mask` is false has empty slots only.

    Optional operands, where the router takes them: `bias` [R] moves the choice
    and not the weights; `expert_scale` [R] multiplies the weight of a chosen
    expert; `indices` [T, k] replaces the choice (an id outside [-1, R) is a
    run-time error of the entry); `noise` [T, R] scales random noise.

    With `training(%seed, %layer, %first)`, three i64 numbers, a router that
    samples draws, and otherwise follows its rule of inference. Draws are those
    of moe.philox: the same for every number of threads and any split of the
    batch, as long as `first` is the number of the first token.

    Labels: route_c1 the router is token-local or mixed; route_c2 k of the
    router and the results, static; route_c3 T of all; route_c4 R of logits and
    optional operands, static; route_c5 k of indices, static; route_c6 training
    for routers that sample alone; route_c7 noise of the shape of the logits and
    with training; route_c8 no operand that the router does not take; plus the
    router's own: top_k_c1 k at most R, top_k_c2 groups divide R, top_k_c3 kept
    experts are at least k, top_k_c4 no bias or groups with given indices;
    exact_k_c1, dynamic_k_c1, moesart_c1, noisy_top_k_c1, gshard_c1 and
    sparse_mixer_c1 as many experts at most as R; noisy_top_k_c2 noise given
    where it is learned, in training; product_keys_c1 columns left for the right
    half, product_keys_c2 n m experts within an i32, product_keys_c3 k at most
    n m.

    ```mlir
    %ids, %weights = moe.route #moe.top_k<k = 2, normalize = sum> %logits
        mask(%mask : tensor<?xi1>)
        : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Optional<Moe_FloatTensor<[1]>>:$selection_bias,
    Optional<Moe_FloatTensor<[1]>>:$expert_scale,
    Optional<Moe_IndexTensor<[2]>>:$indices,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_FloatTensor<[2]>>:$noise,
    Optional<I64>:$seed,
    Optional<I64>:$layer,
    Optional<I64>:$first_token,
    Moe_RouterAttrInterface:$router
  );
  let results = (outs
    Moe_IndexTensor<[2]>:$ids,
    Moe_FloatTensor<[2]>:$weights
  );
  let assemblyFormat = [{
    $router $logits
    oilist(`bias` `(` $selection_bias `:` type($selection_bias) `)`
         | `expert_scale` `(` $expert_scale `:` type($expert_scale) `)`
         | `indices` `(` $indices `:` type($indices) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `noise` `(` $noise `:` type($noise) `)`
         | `training` `(` $seed `,` $layer `,` $first_token `)`)
    attr-dict `:` type($logits) `->` type($ids) `,` type($weights)
  }];
  let extraClassDeclaration = [{
    /// Whether a sampling router draws.
    bool isTraining() { return static_cast<bool>(getSeed()); }
  }];
}

def Moe_RouteExpertsOp : Moe_LayerOp<"route_experts",
    [AttrSizedOperandSegments]> {
  let summary = "expert choice: every expert takes tokens";
  let description = [{
    Applies a router by which experts choose to logits [T, E]: token ids [E, C]
    (i32) and weights [E, C]. C is the router's capacity rule applied to T; it
    is part of the op's shape function. With `groups` (offsets [G+1] from 0 to
    T, ascending; otherwise a run-time error of the entry) each expert chooses
    in every group apart, C is the rule's bound for T tokens in G groups, and
    the slots of one group follow those of the one before. Unused slots have id
    -1 and weight 0. A masked token cannot be chosen. A token with a NaN score
    is chosen last.

    Labels: route_experts_c1 the router has experts choose; route_experts_c2 E
    of logits and results, static, at least 1; route_experts_c3 C of both
    results; route_experts_c4 T of the mask; route_experts_c5 C is the rule's
    where C, T and G are static.

    ```mlir
    %tokens, %weights = moe.route_experts
        #moe.expert_choice<capacity = <factor = 2.0>> %logits
        : tensor<?x8xf32> -> tensor<8x?xi32>, tensor<8x?xf32>
    ```
  }];
  let arguments = (ins
    Moe_FloatTensor<[2]>:$logits,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    Moe_RouterAttrInterface:$router
  );
  let results = (outs
    Moe_IndexTensor<[2]>:$ids,
    Moe_FloatTensor<[2]>:$weights
  );
  let assemblyFormat = [{
    $router $logits
    oilist(`mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`)
    attr-dict `:` type($logits) `->` type($ids) `,` type($weights)
  }];
}

def Moe_LimitCapacityOp : Moe_LayerOp<"limit_capacity",
    [AllTypesMatch<["ids", "kept_ids"]>,
     AllTypesMatch<["weights", "kept_weights"]>]> {
  let summary = "drops assignments past the capacity of an expert";
  let description = [{
    Takes the ids and weights [T, k] of a token choice and empties every slot
    (id -1, weight 0) that finds its expert full. Experts serve the first slots
    of all tokens, then the second slots, and so on; within one slot by token
    index (`first_come`) or by falling weight of the token's first slot, ties to
    the lower token and NaN last (`prioritized`, batch-prioritised routing). The
    other weights stay as they are, or, with `normalize`, are divided by their
    sum over the token's slots, at least that number, with one rounding. With
    `groups` every group has a capacity and a queue of its own. Ids at or past
    `experts` (identity experts) have no capacity.

    Labels: limit_capacity_c1 shapes of ids and weights agree, k is static;
    limit_capacity_c2 experts at least 1; limit_capacity_c3 normalize positive
    and finite.

    ```mlir
    %kept, %w = moe.limit_capacity %ids, %weights experts 8
        by #moe.capacity<factor = 1.25, per = slots> queue <first_come>
        : tensor<?x2xi32>, tensor<?x2xf32>
    ```
  }];
  let arguments = (ins
    Moe_IndexTensor<[2]>:$ids,
    Moe_FloatTensor<[2]>:$weights,
    Optional<Moe_GroupOffsets>:$group_offsets,
    I64Attr:$num_experts,
    Moe_CapacityAttr:$capacity,
    Moe_QueueOrderAttr:$queue,
    OptionalAttr<F64Attr>:$normalize
  );
  let results = (outs
    Moe_IndexTensor<[2]>:$kept_ids,
    Moe_FloatTensor<[2]>:$kept_weights
  );
  let assemblyFormat = [{
    $ids `,` $weights `experts` $num_experts `by` $capacity `queue` $queue
    (`normalize` $normalize^)?
    (`groups` `(` $group_offsets^ `:` type($group_offsets) `)`)? attr-dict
    `:` type($ids) `,` type($weights)
  }];
}

def Moe_AuxLossOp : Moe_LayerOp<"aux_loss", [AttrSizedOperandSegments]> {
  let summary = "auxiliary training loss of a routing";
  let description = [{
    One scalar, times `coefficient`; masked tokens take no part, and without
    tokens the loss is 0. scores [T, R] (s below, T of the tokens that take
    part), ids [T, K] in the order of the choice, before any capacity.

    - `balance`: R * sum_e f_e P_e, f_e the slots that chose e over T, P_e the
      mean score: f sums to K, which is the value at balance. With `per_slot`
      f_e is divided by K, so that it sums to 1. (Switch, 2101.03961, for K = 1;
      flaxformer for more; Megatron-LM has `per_slot`. The count is a constant
      to the gradient.)
    - `first_place`: R^2 mean_e(f1_e P_e), f1 from the first slots alone.
      (GShard, 2006.16668.)
    - `second_place`: R^2 mean_e(f2_e Q_e), f2 from the second slots, Q_e the
      mean over tokens of s without the first slot's expert, divided by its sum
      + 1e-9. (GShard in tensorflow/mesh, which adds half of it.)
    - `importance`: squared coefficient of variation of the summed scores of the
      experts: variance / (mean^2 + `eps`), population variance, or the unbiased
      one where `unbiased`. (1701.06538, eps 1e-10; V-MoE, 2106.05974; tutel is
      unbiased.)
    - `z`: mean over tokens of logsumexp(s_t)^2; give it logits. (ST-MoE,
      2202.08906)
    - `trimmed_lasso`: mean over tokens of the scores outside the token's k
      largest; 0 where k >= R. (MOESART's code.)
    - `entropy`: mean over tokens of -sum_e s log s, in nats, 0 log 0 = 0.
      (DSelect-k, 2106.03760, for one.)
    - `token_balance`: T^2 mean_t(mean_e(p_te)^2), p the softmax of each column
      over the tokens of the group that take part; give it logits. Its value at
      balance is 1. (tensorflow/mesh's expert choice.)
    - `l1_balance`: R / (k T^2) sum_e c_e sum_t s_te, c_e the tokens with s > 0;
      give it the weights of ReLU routing. (ReMoE, 2412.14711; the count is a
      constant to the gradient.)

    With `groups` the losses of the groups are averaged over the groups that
    have tokens. A NaN in the scores of a token that takes part makes the loss
    NaN; for `trimmed_lasso` where k < R, as it is outside.

    Labels: aux_loss_c1 ids are given exactly for balance, first_place and
    second_place; aux_loss_c2 T of all; aux_loss_c3 R of scores and K of ids
    static; aux_loss_c4 coefficient finite; aux_loss_c5 k exactly for
    trimmed_lasso and l1_balance, at least 1; aux_loss_c6 per_slot for balance,
    unbiased and eps for importance alone; aux_loss_c7 eps finite and not
    negative; aux_loss_c8 K at least 1, 2 for second_place.

    ```mlir
    %loss = moe.aux_loss <balance> %scores ids(%ids : tensor<?x2xi32>)
        coefficient 1.000000e-02 : tensor<?x8xf32> -> tensor<f32>
    %tail = moe.aux_loss <trimmed_lasso> %scores k 2
        coefficient 1.000000e-03 : tensor<?x8xf32> -> tensor<f32>
    ```
  }];
  let arguments = (ins
    Moe_AuxLossKindAttr:$kind,
    Moe_FloatTensor<[2]>:$scores,
    Optional<Moe_IndexTensor<[2]>>:$ids,
    Optional<Moe_MaskTensor<[1]>>:$token_mask,
    Optional<Moe_GroupOffsets>:$group_offsets,
    OptionalAttr<I64Attr>:$k,
    UnitAttr:$per_slot,
    UnitAttr:$unbiased,
    OptionalAttr<F64Attr>:$eps,
    F64Attr:$coefficient
  );
  let results = (outs Moe_FloatTensor<[0]>:$loss);
  let assemblyFormat = [{
    $kind $scores
    oilist(`ids` `(` $ids `:` type($ids) `)`
         | `mask` `(` $token_mask `:` type($token_mask) `)`
         | `groups` `(` $group_offsets `:` type($group_offsets) `)`
         | `k` $k
         | `per_slot` $per_slot
         | `unbiased` $unbiased
         | `eps` $eps)
    `coefficient` $coefficient attr-dict `:` type($scores) `->` type($loss)
  }];
  let extraClassDeclaration = [{
    /// What is added to the squared mean.
    double getEpsOrZero() {
      return getEps() ? getEps()->convertToDouble() : 0.0;
    }
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEROUTINGOPS_TD
