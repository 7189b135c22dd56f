//===- MoeRouterAttrs.td - Routers that sample -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEROUTERATTRS_TD
#define MOE_DIALECT_MOE_IR_MOEROUTERATTRS_TD

include "moe/Dialect/Moe/IR/MoeAttrs.td"

/// `sampled` is the body of isSampled.
class Moe_RouterAttr<string name, string attrMnemonic,
                     string sampled = "return true;">
    : Moe_Attr<name, attrMnemonic,
               [DeclareAttrInterfaceMethods<Moe_RouterAttrInterface,
                                            ["isSampled"]>]> {
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDefinition = [{
    ::mlir::moe::Locality $cppClass::getLocality() const {
      return ::mlir::moe::Locality::token;
    }
    bool $cppClass::isSampled() const { }] # sampled # [{ }
  }];
}

def Moe_ExactKAttr : Moe_RouterAttr<"ExactK", "exact_k"> {
  let summary = "ProbMoE with exactly k experts";
  let description = [{
    In training the experts of a token are an exact sample of the law
    P(S) = exp(sum of the logits in S) / e_k over subsets of size k, in
    ascending order (the draws of moe.subset_sample). Their weights are
    pi = softmax of the logits over all experts, not renormalised. The gradient
    is that of the weights g * pi with g = m + stopgrad(z - m), m the exact
    marginals, so that it reaches the logits by pi and by the covariance of the
    law.

    In inference the k largest logits are taken, in descending order, ties to
    the lower expert, with weights pi, divided by their sum where
    `normalize = sum`.

    A token with n < k experts above -inf takes all n; the other slots are
    empty. A row with NaN or +inf has ids in range and distinct, and weights
    that are NaN.

    Source: arXiv 2606.01509 and its authors' code (read).

    Example: `#moe.exact_k<k = 8>`
  }];
  let parameters = (ins
    "int64_t":$k,
    Moe_EnumParam<"Normalize", "none">:$normalize
  );
}

def Moe_DynamicKAttr : Moe_RouterAttr<"DynamicK", "dynamic_k"> {
  let summary = "ProbMoE with min to max experts, as many as a token needs";
  let description = [{
    The law of #moe.exact_k over all subsets of `min` to `max` experts. In
    training the size is drawn first, with probability e_j / sum of e_j over the
    band, then the subset. In inference the most likely subset of all is taken:
    the k* largest logits, k* = the number of positive logits, within `min` and
    `max`. Weights as in #moe.exact_k. Slots past a token's size are empty and
    cost nothing.

    Unlike the law of one size, this one changes when a constant is added to a
    row of logits.

    Source: arXiv 2606.01509 and its authors' code (read). The paper's text on
    inference says that the size is drawn there too; its code does what stands
    here.

    Example: `#moe.dynamic_k<min = 6, max = 8>`
  }];
  let parameters = (ins
    "int64_t":$min,
    "int64_t":$max,
    Moe_EnumParam<"Normalize", "none">:$normalize
  );
}

def Moe_MoesartAttr : Moe_RouterAttr<"Moesart", "moesart"> {
  let summary = "MOESART: sampled sparse routing with adjusted weights";
  let description = [{
    With g = softmax(logits / temperature): in training k experts are drawn one
    after the other, draw d by inverse CDF with number d, from g without those
    drawn before (or with them, `replacement`: an expert then takes one slot,
    and counts n times). Slots are in the order of the first draw. The weights
    are a softmax over the drawn of log(n g), corrected for the sampling:
    `zero`: each by -log(k g), so that they are n / k; `small_random`: all but
    one, slot floor(u m) of the m drawn with u draw k, by -log((k-1) g);
    `large`: none. In inference the k largest logits are taken, descending, ties
    to the lower expert, with weights 1/k. k = 1 has weight 1.

    A token with n < k experts above -inf takes all n. A row with NaN or +inf
    has ids in range and NaN weights where they depend on it.

    Source: the first author's code (read); the paper's text (OpenReview
    KTq2XSBNsa) was not at hand. What the corrections come to is derived.

    Example: `#moe.moesart<k = 2, weighting = small_random>`
  }];
  let parameters = (ins
    "int64_t":$k,
    Moe_EnumParam<"SampleWeighting", "small_random">:$weighting,
    DefaultValuedParameter<"bool", "false">:$replacement,
    Moe_F64Param<"1.0">:$temperature
  );
}

def Moe_NoisyTopKAttr : Moe_RouterAttr<"NoisyTopK", "noisy_top_k"> {
  let summary = "the k largest logits after noise";
  let description = [{
    In training expert e's logit becomes logit + sigma n: `noise = learned` with
    sigma = softplus of the operand `noise` + `floor` and a normal n; `normal`
    with sigma = `std`; `gumbel` with sigma = `temperature` and
    n = -log(-log(u + 2^-25)), u draw e, so that k = 1 is a sample of
    softmax(logits / temperature). Normals are those of Box and Muller: draws
    2 floor(e / 2) and the next one give sqrt(-2 log(u + 2^-25)) times cosine
    (even e) or sine (odd e) of 2 pi u'. The k largest are taken, descending,
    ties to the lower expert. Their weights are a softmax over the chosen noisy
    logits (`weights = chosen`), over all noisy logits (`all`) or over all
    without noise (`clean`). In inference there is no noise.

    Experts at -inf are not taken: their slots are empty. A row with NaN or +inf
    has ids in range and distinct.

    Sources: `learned` and `chosen` arXiv 1701.06538 as tensor2tensor has it;
    `normal` with std 1/E and `all` V-MoE (2106.05974) as google-research/vmoe
    has it; `gumbel`, k = 1 and `clean` DeepSpeed's RSample, with a temperature
    the sampling policy of tensorflow/mesh (all read).

    Example: `#moe.noisy_top_k<k = 2, noise = normal, std = 0.125,
    weights = all>`
  }];
  let parameters = (ins
    "int64_t":$k,
    Moe_EnumParam<"NoiseKind", "learned">:$noise,
    Moe_F64Param<"0.0">:$std,
    Moe_F64Param<"0.01">:$floor,
    Moe_EnumParam<"NoisyWeights", "chosen">:$weights,
    Moe_F64Param<"1.0">:$temperature
  );
  let extraClassDeclaration = [{
    ::mlir::moe::NoiseSettings getSettings() const {
      return {getNoise(), getStd().convertToDouble(),
              getFloor().convertToDouble(),
              getTemperature().convertToDouble()};
    }
  }];
}

def Moe_GShardAttr : Moe_RouterAttr<"GShard", "gshard", [{
      return getPolicy() == SecondPolicy::random ||
             getPolicy() == SecondPolicy::sampling;
    }]> {
  let summary = "GShard's two experts, the second by a policy";
  let description = [{
    p = softmax(logits); the first expert is the one with the largest logit, the
    second the one with the largest of the rest, ties to the lower. Their gates
    are g = p / (p1 + p2 + eps) (`normalize = before`) or p (`after`). The
    second is kept by `policy`: `all` always; `none` never; `threshold` where
    g2 > threshold; `random` where u < g2 / threshold, u draw E; `sampling`
    always, and it is the largest of logit + Gumbel over the rest, expert e's
    Gumbel from draw e as in #moe.noisy_top_k. A second that is not kept is an
    empty slot, and never in the queue of moe.limit_capacity. The weights are
    the gates; with `after` they are divided by the sum of what is kept, at
    least `eps` (moe.limit_capacity with `normalize` does so again for what it
    keeps). A second that was not kept stays in the sum of `before`, in the
    gradient too.

    `random` and `sampling` draw where the op says `training`; without, they are
    `all`. The other policies draw nothing.

    Experts at -inf are not taken. A row with NaN or +inf has ids in range and
    distinct, and NaN weights; `threshold` and `random` drop its second.

    Sources: arXiv 2006.16668; tensorflow/mesh (`random`, .2, `before`), lingvo
    (`all`, either), DeepSpeed (`sampling`, `after`), torchscale (`random` with
    threshold 1/2) (all read).

    Example: `#moe.gshard<policy = random, threshold = 0.2>`
  }];
  let parameters = (ins
    Moe_EnumParam<"SecondPolicy", "all">:$policy,
    Moe_F64Param<"0.2">:$threshold,
    Moe_EnumParam<"NormalizeAt", "before">:$normalize,
    Moe_F64Param<"1.0e-9">:$eps
  );
}

def Moe_SparseMixerAttr : Moe_RouterAttr<"SparseMixer", "sparse_mixer"> {
  let summary = "SparseMixer-v2: two rounds of a choice among the near-best";
  let description = [{
    Two rounds, the second without the expert of the first. With m the largest
    logit left, an expert with logit s is masked where
    (m - s) / max(|s|, m) > 2 eps (an undefined quotient masks nothing); p is
    the softmax over the others. In inference the largest is taken, ties to the
    lower expert, with weight p. In training the largest of logit + Gumbel among
    those not masked is, with weight p h: h = 1 where it is the one with the
    largest logit or where a uniform number is above 3/4, else `third`. Round r
    takes expert e's Gumbel from draw r E + e and its uniform number from draw
    2 E + r. The two weights are not renormalised.

    Experts at -inf are not taken. A row with NaN or +inf has the ids of its two
    largest logits, NaN last, and NaN weights.

    The gradient is g w (onehot(i) - p) for a weight's cotangent g, w = p at the
    choice i, by which the factor h makes the third-order rule of Heun: h is no
    part of it, nor are masks. In inference it is the derivative.

    Source: Phi-3.5-MoE as in huggingface/transformers (read).

    Example: `#moe.sparse_mixer<eps = 0.01>`
  }];
  let parameters = (ins
    Moe_F64Param<"0.01">:$eps,
    Moe_F64Param<"0.3333">:$third
  );
}

def Moe_ProductKeysAttr : Moe_Attr<"ProductKeys", "product_keys",
    [DeclareAttrInterfaceMethods<Moe_RouterAttrInterface>]> {
  let summary = "the k largest sums of two half-routers";
  let description = [{
    The logits [T, n + m] are those of two routers, `left` = n of the one and m
    of the other; expert i m + j of the n m has the logit left[i] + right[j].
    The k largest are taken, descending, ties to the lower expert, from the sums
    of the min(k, n) and min(k, m) largest halves, which is where they are; no
    row of n m logits exists. (Sums that rounding makes equal may hide a lower
    expert outside of these.) Weights are a softmax over the chosen (`domain =
    topk`) or over all n m (`all`).

    Experts at -inf are not taken: their slots are empty. A row with NaN or +inf
    has ids in range and distinct; weights that depend on it are NaN.

    Source: arXiv 1907.05242, as the Doge model of huggingface/transformers has
    it (read).

    Example: `#moe.product_keys<k = 8, left = 32>`
  }];
  let parameters = (ins
    "int64_t":$k,
    "int64_t":$left,
    Moe_EnumParam<"ScoreDomain", "topk">:$domain
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif // MOE_DIALECT_MOE_IR_MOEROUTERATTRS_TD
