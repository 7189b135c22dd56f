//===- MoeEnums.td - Enumerations -*- tablegen -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_MOE_IR_MOEENUMS_TD
#define MOE_DIALECT_MOE_IR_MOEENUMS_TD

include "moe/Dialect/Moe/IR/MoeBase.td"

class Moe_Enum<string name, string summary, list<string> cases>
    : I32EnumAttr<name, summary,
        !foreach(i, !range(!size(cases)),
                 I32EnumAttrCase<cases[i], i>)> {
  let cppNamespace = "::mlir::moe";
  let genSpecializedAttr = 0;
}

def Moe_ScoreKind : Moe_Enum<"ScoreKind", "score function",
    ["softmax", "sigmoid", "sqrt_softplus", "none"]>;
def Moe_ScoreDomain : Moe_Enum<"ScoreDomain", "experts a score is taken over",
    ["all", "topk"]>;
def Moe_Normalize : Moe_Enum<"Normalize", "normalisation of chosen scores",
    ["none", "sum", "pnorm"]>;
def Moe_EpsMode : Moe_Enum<"EpsMode", "how the divisor is kept from zero",
    ["add", "clamp"]>;
def Moe_GroupScore : Moe_Enum<"GroupScore", "score of a group of experts",
    ["max", "top2sum"]>;
def Moe_GroupFill : Moe_Enum<"GroupFill", "choice key in a dropped group",
    ["neg_inf", "zero"]>;
def Moe_Rounding : Moe_Enum<"Rounding", "rounding of a capacity",
    ["floor", "ceil", "nearest"]>;
def Moe_CapacityPer : Moe_Enum<"CapacityPer", "what a capacity is a share of",
    ["tokens", "slots"]>;
def Moe_QueueOrder : Moe_Enum<"QueueOrder", "who is served first",
    ["first_come", "prioritized"]>;
def Moe_ChoiceAxis : Moe_Enum<"ChoiceAxis", "axis of expert choice's score",
    ["experts", "tokens", "given"]>;
def Moe_Choice : Moe_Enum<"Choice", "who chose: tokens or experts",
    ["token", "expert"]>;
def Moe_Locality : Moe_Enum<"Locality", "what one token's routing depends on",
    ["token", "mixed", "global"]>;
def Moe_Orientation : Moe_Enum<"Orientation", "order of a weight's two axes",
    ["out_in", "in_out"]>;
def Moe_Pairing : Moe_Enum<"Pairing", "how gate and up lie in the weight",
    ["cat", "interleaved", "separate"]>;
def Moe_PairOrder : Moe_Enum<"PairOrder", "which of gate and up comes first",
    ["gate_up", "up_gate"]>;
def Moe_ExpertAxis : Moe_Enum<"ExpertAxis", "where the expert axis is",
    ["lead", "folded"]>;
def Moe_ActivationKind : Moe_Enum<"ActivationKind", "activation function",
    ["silu", "gelu", "gelu_tanh", "relu", "relu2", "identity"]>;
def Moe_ActivationStyle : Moe_Enum<"ActivationStyle",
    "form of a gated activation",
    ["plain", "oai"]>;
def Moe_SampleWeighting : Moe_Enum<"SampleWeighting",
    "how weights are corrected for sampling",
    ["zero", "small_random", "large"]>;
def Moe_NoiseKind : Moe_Enum<"NoiseKind", "noise on logits in training",
    ["learned", "normal", "gumbel"]>;
def Moe_NoisyWeights : Moe_Enum<"NoisyWeights",
    "what the weights are a softmax over",
    ["chosen", "all", "clean"]>;
def Moe_SecondPolicy : Moe_Enum<"SecondPolicy",
    "whether a token's second expert is kept",
    ["all", "none", "threshold", "random", "sampling"]>;
def Moe_NormalizeAt : Moe_Enum<"NormalizeAt",
    "when two gates are normalised: before or after some are dropped",
    ["before", "after"]>;
def Moe_AuxLossKind : Moe_Enum<"AuxLossKind", "auxiliary loss",
    ["balance", "importance", "z", "trimmed_lasso", "entropy", "first_place",
     "second_place", "token_balance", "l1_balance"]>;
def Moe_LoadThreshold : Moe_Enum<"LoadThreshold",
    "what a noisy logit has to exceed to be chosen",
    ["kth_excluding", "kth"]>;
def Moe_ChoiceWeights : Moe_Enum<"ChoiceWeights",
    "what the weights of a capped expert choice are",
    ["scores", "assignment"]>;
def Moe_Projection : Moe_Enum<"Projection", "one of an expert's weights",
    ["up", "down", "up_bias"]>;

/// The enumerations that ops hold as inherent attributes.
class Moe_EnumAttr<EnumInfo info, string name>
    : EnumAttr<Moe_Dialect, info, name> {
  let assemblyFormat = "`<` $value `>`";
}
def Moe_ChoiceAttr : Moe_EnumAttr<Moe_Choice, "choice">;
def Moe_QueueOrderAttr : Moe_EnumAttr<Moe_QueueOrder, "queue">;
def Moe_ScoreKindAttr : Moe_EnumAttr<Moe_ScoreKind, "score">;
def Moe_AuxLossKindAttr : Moe_EnumAttr<Moe_AuxLossKind, "aux_loss">;
def Moe_EpsModeAttr : Moe_EnumAttr<Moe_EpsMode, "eps_mode">;
def Moe_NoiseKindAttr : Moe_EnumAttr<Moe_NoiseKind, "noise">;
def Moe_LoadThresholdAttr
    : Moe_EnumAttr<Moe_LoadThreshold, "load_threshold">;
def Moe_ProjectionAttr : Moe_EnumAttr<Moe_Projection, "projection">;

#endif // MOE_DIALECT_MOE_IR_MOEENUMS_TD
