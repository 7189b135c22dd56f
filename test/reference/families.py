# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One small layer per published family; with them, the edges.

Sizes are reduced; every other setting is the family's, as read in
huggingface/transformers. Types are the family's with bf16 activations where
it has a rounding of its own there, else f32, which judges more sharply.
"""

from __future__ import annotations

import numpy as np

import edges  # noqa: F401, registers its cases
from cases import BF16, CASES, V3, Case, add

__all__ = ["CASES", "Case"]


# Softmax over all experts, then the k largest.

add(
    "mixtral",
    "always divided by the sum",
    normalize="sum",
    hidden=32,
    tokens=16,
)
add(
    "mixtral_bf16",
    "as mixtral on bf16 operands with logits in the model's type",
    normalize="sum",
    logit_dtype="bf16",
    **BF16,
)
add(
    "qwen2",
    "no division; shared expert of its own width behind a sigmoid gate",
    experts=12,
    top_k=4,
    shared_inter=28,
    shared_gate=True,
)
add(
    "qwen3",
    "division, weights rounded to the model's type; fused in x out",
    experts=16,
    inter=6,
    top_k=4,
    normalize="sum",
    logit_dtype="bf16",
    route_dtype="bf16",
    orientation="in_out",
    down_orientation="in_out",
    **BF16,
)
add("olmoe", "no division, 2I = H", experts=8, top_k=4, hidden=20)
add(
    "hunyuan",
    "f32 router, one shared expert without gate",
    top_k=3,
    normalize="sum",
    shared_inter=16,
    pairing="separate",
    x_dtype="bf16",
    weight_dtype="bf16",
)
add(
    "dbrx",
    "p-norm, scores in the model's type; folded [E*I, H], down in x out",
    experts=8,
    top_k=4,
    normalize="pnorm",
    norm_p=1.0,
    logit_dtype="bf16",
    score_dtype="bf16",
    route_dtype="bf16",
    pairing="separate",
    expert_axis="folded",
    down_orientation="in_out",
    **BF16,
)
add(
    "dbrx_p2",
    "the p-norm with p = 2, in f32",
    top_k=4,
    normalize="pnorm",
    norm_p=2.0,
    pairing="separate",
    expert_axis="folded",
    down_orientation="in_out",
)
add(
    "deepseek_v2",
    "3 of 8 groups by their best, dropped ones filled with 0, x16",
    experts=16,
    inter=6,
    top_k=4,
    groups=8,
    kept_groups=3,
    group_score="max",
    group_fill="zero",
    scale=16.0,
    shared_inter=32,
    tokens=16,
)
add(
    "mistral4",
    "softmax, groups by the sum of two best, filled with 0, + 1e-20",
    experts=16,
    inter=6,
    top_k=4,
    groups=4,
    kept_groups=2,
    group_score="top2sum",
    group_fill="zero",
    normalize="sum",
    eps=1e-20,
    shared_inter=16,
    tokens=24,
)
add(
    "ernie",
    "choice by softmax + bias, the sum clamped to 1e-12",
    top_k=3,
    select_bias=True,
    normalize="sum",
    eps=1e-12,
    eps_mode="clamp",
    shared_inter=32,
)
add(
    "longcat",
    "4 identity experts in the softmax, bias, no division, x6",
    experts=8,
    zero_experts=4,
    top_k=5,
    select_bias=True,
    scale=6.0,
    tokens=16,
)
add(
    "gemma4",
    "normed router input, scores in the model's type, expert scale, GELU-tanh",
    top_k=3,
    router_norm=True,
    normalize="sum",
    expert_scale=True,
    activation="gelu_tanh",
    score_dtype="bf16",
    route_dtype="bf16",
    **BF16,
)
add(
    "gemma4_f32",
    "as gemma4 in f32, which tells GELU-tanh from the erf form",
    top_k=3,
    router_norm=True,
    normalize="sum",
    expert_scale=True,
    activation="gelu_tanh",
)
add(
    "switch",
    "top-1, ungated ReLU, capacity floor(T / E)",
    experts=4,
    top_k=1,
    gated=False,
    activation="relu",
    capacity="first_come",
    tokens=18,
)
add(
    "nllb",
    "top-2 divided by the pair sum (clamped) before dropping, ReLU with "
    "biases, output x0.8, capacity 2 ceil(T / E)",
    experts=4,
    top_k=2,
    normalize="sum",
    eps=float(np.finfo(np.float32).eps),
    eps_mode="clamp",
    gated=False,
    activation="relu",
    expert_bias=True,
    output_scale=0.8,
    router_bias=True,
    capacity="first_come",
    capacity_factor=2.0,
    capacity_rounding="ceil",
    capacity_multiple=2,
    tokens=18,
    given={"router_bias": np.array([2.0, 0.0, 0.0, -1.0])},
)


# The k largest logits, then the score function on them.

_GPT_OSS = {
    "top_k": 4,
    "score_domain": "topk",
    "router_bias": True,
    "expert_bias": True,
    "act_style": "oai",
    "act_limit": 7.0,
    "orientation": "in_out",
    "down_orientation": "in_out",
}
add(
    "gpt_oss",
    "softmax of the chosen, biases everywhere, interleaved in x out, H = I",
    hidden=16,
    inter=16,
    pairing="interleaved",
    logit_dtype="bf16",
    score_dtype="bf16",
    route_dtype="bf16",
    **_GPT_OSS,
    **BF16,
)
add(
    "gpt_oss_f32",
    "as gpt_oss in f32, out x in, another alpha and a limit often reached",
    hidden=16,
    inter=16,
    pairing="interleaved",
    **{
        **_GPT_OSS,
        "act_limit": 0.75,
        "act_alpha": 1.5,
        "orientation": "out_in",
        "down_orientation": "out_in",
    },
)
add(
    "openai_privacy_filter",
    "as gpt_oss but cat; weights / k, output x k",
    scale=0.25,
    output_scale=4.0,
    **_GPT_OSS,
)
add(
    "granite",
    "softmax of the chosen, fused out x in, a shared expert",
    experts=10,
    top_k=4,
    score_domain="topk",
    shared_inter=20,
)
add(
    "jetmoe",
    "softmax of the chosen, output bias",
    score_domain="topk",
    output_bias=True,
)
add(
    "aria",
    "softmax of the chosen, fused in x out, wide shared expert",
    experts=8,
    top_k=3,
    score_domain="topk",
    shared_inter=32,
    orientation="in_out",
    down_orientation="in_out",
)
add(
    "cohere2_sigmoid",
    "sigmoid of the chosen, divided by their sum, average with shared",
    top_k=3,
    score="sigmoid",
    score_domain="topk",
    normalize="sum",
    shared_inter=24,
    shared_mode="average",
)
add(
    "cohere2_softmax",
    "softmax of the chosen, sum with shared",
    top_k=3,
    score_domain="topk",
    shared_inter=24,
)
add(
    "llama4",
    "sigmoid of the best logit on the expert input, shared added",
    experts=4,
    top_k=1,
    score="sigmoid",
    score_domain="topk",
    weight_site="input",
    shared_inter=16,
    orientation="in_out",
    down_orientation="in_out",
)
add(
    "llama4_bf16",
    "as llama4 with weight and weighted input rounded to bf16",
    experts=4,
    top_k=1,
    score="sigmoid",
    score_domain="topk",
    weight_site="input",
    route_dtype="bf16",
    orientation="in_out",
    down_orientation="in_out",
    **BF16,
)


# The DeepSeek-V3 lineage: independent scores, a bias to choose by.

add(
    "deepseek_v3",
    "2 of 4 groups by the sum of two best biased, -inf, + 1e-20, x2.5",
    experts=16,
    inter=6,
    top_k=4,
    groups=4,
    kept_groups=2,
    group_score="top2sum",
    scale=2.5,
    shared_inter=16,
    tokens=24,
    **V3,
)
add(
    "deepseek_v3_zero_fill",
    "as older V3 code: dropped experts at 0 beat negative biased scores",
    experts=16,
    inter=6,
    top_k=4,
    groups=4,
    kept_groups=1,
    group_score="top2sum",
    group_fill="zero",
    scale=2.5,
    tokens=16,
    given={"selection_bias": -0.5 - np.arange(16.0) / 256.0},
    **V3,
)
add(
    "glm",
    "one group, a shared expert",
    top_k=3,
    shared_inter=16,
    scale=1.5,
    **V3,
)
add(
    "lfm2",
    "scores in the model's type, + 1e-6",
    top_k=4,
    eps=1e-6,
    score="sigmoid",
    select_bias=True,
    normalize="sum",
    score_dtype="bf16",
    route_dtype="bf16",
    **BF16,
)
add(
    "minimax_m2",
    "eps 0",
    top_k=4,
    score="sigmoid",
    select_bias=True,
    normalize="sum",
    pairing="separate",
)
add(
    "minimax_m3",
    "OAI activation on a cat layout, summed output x2, shared apart",
    top_k=4,
    score="sigmoid",
    select_bias=True,
    normalize="sum",
    act_style="oai",
    act_limit=7.0,
    output_scale=2.0,
    shared_inter=20,
)
add(
    "laguna",
    "tanh soft-cap, output scale",
    top_k=4,
    score="sigmoid",
    select_bias=True,
    normalize="sum",
    softcap=4.0,
    output_scale=2.5,
    shared_inter=16,
)
_DEEPSEEK_V4 = {
    "experts": 12,
    "top_k": 4,
    "score": "sqrt_softplus",
    "normalize": "sum",
    "eps": 1e-20,
    "scale": 1.5,
    "act_limit": 10.0,
    "shared_inter": 16,
}
add(
    "deepseek_v4",
    "sqrt(softplus), bias, clamp 10",
    select_bias=True,
    **_DEEPSEEK_V4,
)
add(
    "deepseek_v4_hash",
    "given ids, some slots empty, some repeated",
    indices=True,
    tokens=16,
    **_DEEPSEEK_V4,
)
add(
    "deepseek_v4_clamped",
    "as deepseek_v4 with a limit that many values reach, up first",
    select_bias=True,
    order="up_gate",
    **{**_DEEPSEEK_V4, "act_limit": 0.5},
)
add(
    "nemotron_h",
    "ungated ReLU^2, experts in a latent, shared on the full input",
    top_k=3,
    gated=False,
    activation="relu2",
    latent=12,
    scale=2.5,
    shared_inter=32,
    **V3,
)
add(
    "f64",
    "every type f64",
    experts=4,
    top_k=2,
    hidden=17,
    inter=13,
    expert_bias=True,
    x_dtype="f64",
    router_dtype="f64",
    weight_dtype="f64",
    logit_dtype="f64",
    score_dtype="f64",
    route_dtype="f64",
    **V3,
)
add(
    "f16",
    "f16 operands and scores; erf GELU; interleaved, up first",
    top_k=3,
    score="sigmoid",
    normalize="sum",
    activation="gelu",
    pairing="interleaved",
    order="up_gate",
    x_dtype="f16",
    router_dtype="f16",
    weight_dtype="f16",
    score_dtype="f16",
    route_dtype="f16",
)
