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

class Moe_RouterAttr<string name, string attrMnemonic>
    : Moe_Attr<name, attrMnemonic,
               [DeclareAttrInterfaceMethods<Moe_RouterAttrInterface,
                                            ["isSampled"]>]> {
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDefinition = [{
    ::mlir::moe::Locality $cppClass::getLocality() const {
      return ::mlir::moe::Locality::token;
    }
    bool $cppClass::isSampled() const { return true; }
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
    with sigma = `std`; `gumbel` with sigma 1 and n = -log(-log(u + 2^-25)), u
    draw e. Normals are those of Box and Muller: draws 2 floor(e / 2) and the
    next one give sqrt(-2 log(u + 2^-25)) times cosine (even e) or sine (odd e)
    of 2 pi u'. The k largest are taken, descending, ties to the lower expert.
    Their weights are a softmax over the chosen noisy logits (`weights =
    chosen`), over all noisy logits (`all`) or over all without noise (`clean`).
    In inference there is no noise.

    Experts at -inf are not taken: their slots are empty. A row with NaN or +inf
    has ids in range and distinct.

    Sources: `learned` and `chosen` arXiv 1701.06538 as tensor2tensor has it;
    `normal` with std 1/E and `all` V-MoE (2106.05974) as google-research/vmoe
    has it; `gumbel`, k = 1 and `clean` DeepSpeed's RSample (all read).

    Example: `#moe.noisy_top_k<k = 2, noise = normal, std = 0.125,
    weights = all>`
  }];
  let parameters = (ins
    "int64_t":$k,
    Moe_EnumParam<"NoiseKind", "learned">:$noise,
    Moe_F64Param<"0.0">:$std,
    Moe_F64Param<"0.01">:$floor,
    Moe_EnumParam<"NoisyWeights", "chosen">:$weights
  );
  let extraClassDeclaration = [{
    ::mlir::moe::NoiseSettings getSettings() const {
      return {getNoise(), getStd().convertToDouble(),
              getFloor().convertToDouble()};
    }
  }];
}

#endif // MOE_DIALECT_MOE_IR_MOEROUTERATTRS_TD
