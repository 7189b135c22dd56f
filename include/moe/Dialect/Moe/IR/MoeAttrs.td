//===- MoeAttrs.td - Routers, capacity, layout, activation -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEATTRS_TD
#define MOE_DIALECT_MOE_IR_MOEATTRS_TD

include "moe/Dialect/Moe/IR/MoeEnums.td"
include "moe/Dialect/Moe/IR/MoeInterfaces.td"

class Moe_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Moe_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

/// A double, printed with as many digits as it needs.
class Moe_F64Param<string default>
    : DefaultValuedParameter<"::llvm::APFloat",
                             "::llvm::APFloat(double(" # default # "))"> {
  let comparator = "$_lhs.bitwiseIsEqual($_rhs)";
  let parser = "::mlir::moe::detail::parseDouble($_parser)";
  let printer = "::mlir::moe::detail::printDouble($_printer, $_self)";
}

class Moe_EnumParam<string enum, string default>
    : DefaultValuedParameter<"::mlir::moe::" # enum,
                             "::mlir::moe::" # enum # "::" # default>;

class Moe_IntParam<string default>
    : DefaultValuedParameter<"int64_t", default>;

def Moe_TopKAttr : Moe_Attr<"TopK", "top_k",
    [DeclareAttrInterfaceMethods<Moe_RouterAttrInterface>]> {
  let summary = "token choice by the k largest scores";
  let description = [{
    On one row of R logits r: r' = softcap * tanh(r / softcap) where softcap is
    positive; s = score(r'), rounded once to `score_dtype` where given (r'
    itself for `domain = topk`). The choice compares s + bias where a selection
    bias is given, else r' (the scores are increasing in it, and f32 scores
    underflow into false ties). Experts lie in `groups` equal groups in order;
    where `kept_groups` is less, a group's score is its largest key, or the sum
    of its two largest s (+ bias); the best groups are kept (ties to the lower
    group), and experts of the others get `group_fill` as their key: as a zero
    stands among scores, s is compared then. The k largest keys win, in
    descending order.

    The weights are the unbiased scores of the winners (`domain = topk`: the
    score function over the k winners' logits alone), divided by their sum or
    p-norm (`normalize`; `eps` is added to the divisor or is its minimum),
    times `scale`, times the chosen expert's scale where that operand is given.
    With the operand `indices` nothing is chosen: the weights of the given ids
    are computed, empty slots (-1) stay empty and are left out of the divisor.

    Ties: larger key, then lower id. A row with NaN has ids in range and
    distinct; its weights are NaN where the score or divisor is.

    Sources: the settings are those of the published families as read in
    huggingface/transformers; DeepSeek-V2 (2405.04434) and DeepSeek-V3
    (2412.19437) for groups and bias.

    Example: `#moe.top_k<k = 8, score = sigmoid, groups = 8, kept_groups = 4,
    group_score = top2sum, normalize = sum, eps = 1.0e-20, scale = 2.5>`
  }];
  let parameters = (ins
    "int64_t":$k,
    Moe_EnumParam<"ScoreKind", "softmax">:$score,
    Moe_EnumParam<"ScoreDomain", "all">:$domain,
    Moe_F64Param<"0.0">:$softcap,
    Moe_IntParam<"1">:$groups,
    Moe_IntParam<"1">:$kept_groups,
    Moe_EnumParam<"GroupScore", "max">:$group_score,
    Moe_EnumParam<"GroupFill", "neg_inf">:$group_fill,
    Moe_EnumParam<"Normalize", "none">:$normalize,
    Moe_F64Param<"1.0">:$p,
    Moe_F64Param<"0.0">:$eps,
    Moe_EnumParam<"EpsMode", "add">:$eps_mode,
    Moe_F64Param<"1.0">:$scale,
    OptionalParameter<"::mlir::FloatType">:$score_dtype
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def Moe_CapacityAttr : Moe_Attr<"Capacity", "capacity"> {
  let summary = "how many assignments an expert takes from a group of tokens";
  let description = [{
    `fixed` where positive; otherwise, for a group of T tokens, E experts and
    k slots a token, round(factor * T / E) (`per = tokens`) or
    round(factor * T * k / E) (`per = slots`), with `rounding` floor, ceil or
    nearest (halves up), then up to a multiple of `multiple`, then at least
    `min`. With `min = 0` it can be 0, and the expert takes nothing from the
    group: a choice by experts has no slots for it, and all assignments to it
    are dropped. A negative one is refused. Computed in f64. `factor` is at most
    2^20, the other numbers at most 2^31 - 1.

    Example: `#moe.capacity<factor = 1.25, rounding = ceil, multiple = 4>`
  }];
  let parameters = (ins
    Moe_IntParam<"0">:$fixed,
    Moe_F64Param<"1.0">:$factor,
    Moe_EnumParam<"Rounding", "floor">:$rounding,
    Moe_EnumParam<"CapacityPer", "tokens">:$per,
    Moe_IntParam<"1">:$multiple,
    Moe_IntParam<"1">:$min
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The capacity for a group of `tokens` tokens.
    int64_t getCapacity(int64_t tokens, int64_t numExperts,
                        int64_t numSlots) const;
    /// The most slots that an expert who chooses can fill from `tokens` tokens
    /// in `groups` groups; exactly the rule, at most `tokens`, for one group.
    int64_t getChoiceBound(int64_t tokens, int64_t groups,
                           int64_t numExperts) const;
    /// The capacity, as index arithmetic on a value; constant for a constant.
    ::mlir::OpFoldResult build(::mlir::OpBuilder &builder,
                               ::mlir::Location loc,
                               ::mlir::OpFoldResult tokens, int64_t numExperts,
                               int64_t numSlots) const;
    /// The choice bound, likewise.
    ::mlir::OpFoldResult buildChoiceBound(::mlir::OpBuilder &builder,
                                          ::mlir::Location loc,
                                          ::mlir::OpFoldResult tokens,
                                          ::mlir::OpFoldResult groups,
                                          int64_t numExperts) const;
    /// The rule's share alone, rounded up: no multiple, no smallest number.
    ::mlir::moe::CapacityAttr getShareRule() const;
  }];
}

def Moe_ExpertChoiceAttr : Moe_Attr<"ExpertChoice", "expert_choice",
    [DeclareAttrInterfaceMethods<Moe_RouterAttrInterface>]> {
  let summary = "every expert takes the tokens that score highest with it";
  let description = [{
    S = softmax of the logits over the experts of a token (`axis = experts`),
    or over the tokens of a group for each expert (`axis = tokens`), or the
    logits themselves, which are scores already (`axis = given`). Expert e
    takes from each group the C tokens with the largest S[., e] (with
    `axis = tokens` compared as logits, the same order without false ties), C by
    `capacity` and at most the group's size; ties to the lower token. Its
    weights are S, divided where `normalize = sum` by max(1, number of experts
    that took the token).

    With `cap` positive a token is taken by about `cap` experts at most: the C
    tokens of an expert are the largest entries of its row of A [E, T], ties to
    the lower token, where A maximises <S^T, A> + strength * entropy(A), rows
    summing to C, columns to at most `cap`, 0 <= A <= 1. A comes from `sweeps`
    rounds of Dykstra's projections, in log space, from log A = S^T / strength:
    rows are scaled to sum to C; columns above `cap` down to it; entries at
    most 1; the two inequalities first undo their own last correction. Weights
    are S at the ids, or A (`weights = assignment`). Masked tokens are not
    there, and an expert takes at most the live tokens of a group. Computed in
    f64 whatever the types, as `strength` divides the error of S; entries are
    compared as logarithms, which do not underflow into false ties.

    Where A is not integral, the ids can exceed the cap. Where E C > cap T there
    is no solution: the last sweep leaves columns at about `cap`, rows below C,
    and every expert still takes C tokens. With a NaN in a group's live logits
    its A is NaN: every expert takes the first live tokens.

    Source: arXiv 2202.09368; the token axis and the division are the variant
    of tensorflow/mesh. Read about the cap: an entropy-regularised linear
    program, Dykstra's algorithm. Reconstructed: its constants, `strength` and
    `sweeps`, the order of the projections, which of S and A the weights are.

    Examples: `#moe.expert_choice<capacity = <factor = 2.0>, axis = experts>`,
    `#moe.expert_choice<capacity = <factor = 2.0>, cap = 2.0>`
  }];
  let parameters = (ins
    "::mlir::moe::CapacityAttr":$capacity,
    Moe_EnumParam<"ChoiceAxis", "experts">:$axis,
    Moe_EnumParam<"Normalize", "none">:$normalize,
    Moe_F64Param<"0.0">:$cap,
    Moe_F64Param<"1.0e-3">:$strength,
    Moe_IntParam<"100">:$sweeps,
    Moe_EnumParam<"ChoiceWeights", "scores">:$weights
  );
  let builders = [
    /// Without a cap.
    AttrBuilder<(ins "::mlir::moe::CapacityAttr":$capacity,
                     "::mlir::moe::ChoiceAxis":$axis,
                     "::mlir::moe::Normalize":$normalize), [{
      return $_get($_ctxt, capacity, axis, normalize, ::llvm::APFloat(0.0),
                   ::llvm::APFloat(1.0e-3), 100,
                   ::mlir::moe::ChoiceWeights::scores);
    }]>
  ];
  let extraClassDeclaration = [{
    bool isCapped() const { return !getCap().isZero(); }
  }];
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def Moe_LayoutAttr : Moe_Attr<"Layout", "layout"> {
  let summary = "how expert weights lie in memory";
  let description = [{
    The five facts that no checkpoint records: `orientation` of the up (and
    gate) weight and `down` orientation (out_in: [.., out, in]); `pairing` of
    gate and up on the output axis (one block after the other, interleaved
    element by element, or two tensors); which comes first (`order`); the
    expert axis, leading or folded into the first weight axis
    (`expert_axis = folded`: [E*rows, cols]); `shards`, the number of equal
    parts of the output axis inside each of which a cat pairing is made.
    Biases follow pairing, order and shards. For ungated experts pairing,
    order and shards are ignored.

    Example:
    `#moe.layout<orientation = in_out, down = in_out, pairing = interleaved>`
  }];
  let parameters = (ins
    EnumParameter<Moe_Orientation>:$orientation,
    Moe_EnumParam<"Orientation", "out_in">:$down,
    Moe_EnumParam<"Pairing", "cat">:$pairing,
    Moe_EnumParam<"PairOrder", "gate_up">:$order,
    Moe_EnumParam<"ExpertAxis", "lead">:$expert_axis,
    Moe_IntParam<"1">:$shards
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The shape of one weight of a projection with `out` output and `in` input
    /// features per expert (`out` counts gate and up where they are fused; a
    /// bias has no input axis).
    ::llvm::SmallVector<int64_t> getShape(::mlir::moe::Projection projection,
                                          int64_t numExperts, int64_t out,
                                          int64_t in) const;
    /// The inverse: output and input features of a weight of this layout, or
    /// failure where rank or divisibility do not fit.
    ::llvm::FailureOr<std::pair<int64_t, int64_t>>
    getFeatures(::mlir::moe::Projection projection, int64_t numExperts,
                ::llvm::ArrayRef<int64_t> shape) const;
    /// Whether one tensor holds gate and up of gated experts.
    bool isFused() const {
      return getPairing() != ::mlir::moe::Pairing::separate;
    }
  }];
}

def Moe_PanelsAttr : Moe_Attr<"Panels", "panels"> {
  let summary = "how packed weights lie in memory";
  let description = [{
    Weights [E, J, D] of `sides` projections with the same rows (gate and up,
    or one) as one tensor [E, P, ceil(D / steps), columns, steps], P =
    ceil(J / width), width = columns / sides. Element [e, p, s, c, i] is weight
    c / width at [e, p * width + c % width, s * steps + i], or zero where that
    is past J or D. A panel is what one pass over the inner dimension reads,
    front to back; `steps` neighbours of it lie side by side for instructions
    that multiply so many at once.

    Example: `#moe.panels<columns = 64, steps = 2, sides = 2>`
  }];
  let parameters = (ins "int64_t":$columns, "int64_t":$steps, "int64_t":$sides);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Columns that each weight has in a panel.
    int64_t getWidth() const { return getColumns() / getSides(); }
    /// The packed shape of weights of `out` output and `in` input features.
    ::llvm::SmallVector<int64_t, 5> getShape(int64_t numExperts, int64_t out,
                                             int64_t in) const;
  }];
}

def Moe_ActivationAttr : Moe_Attr<"Activation", "activation",
    [DeclareAttrInterfaceMethods<Moe_ActivationAttrInterface,
                                 ["buildActivationVJP"]>]> {
  let summary = "an expert's activation function";
  let description = [{
    On a gate value g and, for gated experts, an up value u. With style
    `plain`: act(g) * u; with a positive `limit` L, act(min(g, L)) *
    clamp(u, -L, L). With style `oai`: g' = min(g, L), u' = clamp(u, -L, L),
    g' * sigmoid(alpha * g') * (u' + 1). Ungated: act(g), clamped from above
    where a limit is given. gelu is the erf form, relu2 is relu squared.

    The derivative of relu and relu2 at 0 is 0; a clamped value passes its
    gradient up to the limit, and there too.

    Example: `#moe.activation<kind = silu, style = oai, limit = 7.0>`
  }];
  let parameters = (ins
    EnumParameter<Moe_ActivationKind>:$kind,
    Moe_EnumParam<"ActivationStyle", "plain">:$style,
    Moe_F64Param<"0.0">:$limit,
    Moe_F64Param<"1.702">:$alpha
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif // MOE_DIALECT_MOE_IR_MOEATTRS_TD
