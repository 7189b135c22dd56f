//===- ExampleTable.cpp - The examples as data ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A row holds only what differs from the defaults. Types: weights and
// activations are bf16; `logit_dtype`, `score_dtype` and `route_dtype` say
// where a family's own code rounds. Layouts are those in which the family's
// experts are stored fused, or the plain one (gate rows, then up rows, out by
// in) where they are stored one by one.
//
//===----------------------------------------------------------------------===//

#include "moe/Layer/Examples.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

// Storage; the router's weight is bf16 too unless the family says otherwise.
#define BF16 "x_dtype=bf16 router_dtype=bf16 weight_dtype=bf16 "
#define BF16_F32_ROUTER "x_dtype=bf16 weight_dtype=bf16 "

// Softmax over all experts, then the k largest.
#define SOFTMAX BF16 "logit_dtype=bf16 "
#define MIXTRAL SOFTMAX "normalize=sum "
#define OLMOE SOFTMAX "route_dtype=bf16 "
#define QWEN3 OLMOE "normalize=sum "
#define HUNYUAN BF16_F32_ROUTER "normalize=sum "
#define DBRX                                                                   \
  OLMOE "score_dtype=bf16 normalize=pnorm pairing=separate "                   \
        "expert_axis=folded down_orientation=in_out "
#define MISTRAL4                                                               \
  OLMOE "score_dtype=bf16 group_score=top2sum group_fill=zero "                \
        "normalize=sum eps=1e-20 "
#define ERNIE                                                                  \
  BF16_F32_ROUTER "route_dtype=bf16 select_bias=true normalize=sum "           \
                  "eps=1e-12 eps_mode=clamp "
#define GEMMA4                                                                 \
  OLMOE "score_dtype=bf16 router_norm=true normalize=sum "                     \
        "expert_scale=true activation=gelu_tanh "
#define T5                                                                     \
  BF16_F32_ROUTER "score_dtype=bf16 route_dtype=bf16 gated=false "             \
                  "activation=relu capacity=first_come "

// The k largest logits, then the score function on them.
#define TOPK_SOFTMAX OLMOE "score_domain=topk "
#define GPT_OSS                                                                \
  TOPK_SOFTMAX "score_dtype=bf16 router_bias=true expert_bias=true "           \
               "act_style=oai act_limit=7.0 orientation=in_out "               \
               "down_orientation=in_out pairing=interleaved "
#define LLAMA4                                                                 \
  TOPK_SOFTMAX "score=sigmoid weight_site=input orientation=in_out "           \
               "down_orientation=in_out "

// Independent scores and a bias to choose by.
#define SIGMOID "score=sigmoid select_bias=true normalize=sum "
#define DEEPSEEK_V3 BF16 SIGMOID "eps=1e-20 "
#define V3_GROUPS "group_score=top2sum groups=8 kept_groups=4 "
#define DEEPSEEK_V3_SIZES                                                      \
  "experts=256 top_k=8 hidden=7168 inter=2048 shared_inter=2048 scale=2.5"
#define MINIMAX_M2 BF16_F32_ROUTER SIGMOID
#define NEMOTRON                                                               \
  BF16_F32_ROUTER SIGMOID "eps=1e-20 gated=false activation=relu2 "
#define DEEPSEEK_V4                                                            \
  BF16 "score=sqrt_softplus normalize=sum eps=1e-20 scale=1.5 "                \
       "act_limit=10.0 "

static constexpr Source kT = Source::project;
static constexpr Source kS = Source::reference;
static constexpr Source kR = Source::repository;
static constexpr Source kP = Source::published;

static constexpr LayerExample kExamples[] = {
    {"layer", "a small layer with every key at its default", kT, "", ""},

    {"mixtral", "Mixtral-8x7B", kP, MIXTRAL,
     "experts=8 top_k=2 hidden=4096 inter=14336"},
    {"mixtral-8x22b", "Mixtral-8x22B", kP, MIXTRAL,
     "experts=8 top_k=2 hidden=6144 inter=16384"},
    {"minimax-text-01", "MiniMax-Text-01: the router of Mixtral", kP, MIXTRAL,
     "experts=32 top_k=2 hidden=6144 inter=9216"},
    {"grok-1", "Grok-1: GELU gate, no division", kP, HUNYUAN,
     "normalize=none experts=8 top_k=2 hidden=6144 inter=32768 "
     "activation=gelu"},
    {"dbrx", "DBRX: p-norm, weights [E*I, H]", kP, DBRX,
     "experts=16 top_k=4 hidden=6144 inter=10752"},
    {"jamba", "Jamba-v0.1: weights are not divided by their sum", kS, OLMOE,
     "experts=16 top_k=2 hidden=4096 inter=14336"},
    {"jamba-1.5-large", "Jamba-1.5-Large", kP, OLMOE,
     "experts=16 top_k=2 hidden=8192 inter=24576"},
    {"olmoe", "OLMoE-1B-7B: 2I = H", kP, OLMOE,
     "experts=64 top_k=8 hidden=2048 inter=1024"},
    {"flex-olmo", "FlexOlmo-7x7B: 7 experts", kS, OLMOE,
     "experts=7 top_k=5 hidden=4096 inter=11008"},
    {"qwen1.5-moe", "Qwen1.5-MoE-A2.7B: 60 experts", kS, OLMOE,
     "experts=60 top_k=4 hidden=2048 inter=1408 shared_inter=5632 "
     "shared_gate=true"},
    {"qwen2-moe", "Qwen2-57B-A14B: shared expert behind a sigmoid gate", kP,
     OLMOE,
     "experts=64 top_k=8 hidden=3584 inter=2560 shared_inter=20480 "
     "shared_gate=true"},
    {"qwen3-30b", "Qwen3-30B-A3B", kS, QWEN3,
     "experts=128 top_k=8 hidden=2048 inter=768"},
    {"qwen3-235b", "Qwen3-235B-A22B", kP, QWEN3,
     "experts=128 top_k=8 hidden=4096 inter=1536"},
    {"qwen3-coder-480b", "Qwen3-Coder-480B-A35B", kP, QWEN3,
     "experts=160 top_k=8 hidden=6144 inter=2560"},
    {"qwen3-next", "Qwen3-Next-80B-A3B: 10 of 512 experts", kS, QWEN3,
     "experts=512 top_k=10 hidden=2048 inter=512 shared_inter=512 "
     "shared_gate=true"},
    {"qwen3.5-35b", "Qwen3.5-35B-A3B", kS, QWEN3,
     "experts=256 top_k=8 hidden=2048 inter=512 shared_inter=512 "
     "shared_gate=true"},
    {"qwen3.5-397b", "Qwen3.5-397B-A17B", kP, QWEN3,
     "experts=512 top_k=10 hidden=4096 inter=1024 shared_inter=1024 "
     "shared_gate=true"},
    {"mellum-2", "Mellum-2: the router of Qwen3", kS, QWEN3,
     "experts=64 top_k=8 hidden=2304 inter=896"},
    {"hunyuan", "Hunyuan-A13B: f32 router, shared expert", kP, HUNYUAN,
     "experts=64 top_k=8 hidden=4096 inter=3072 shared_inter=3072"},
    {"deepseek-v2-lite", "DeepSeek-V2-Lite: no groups", kP, BF16,
     "experts=64 top_k=6 hidden=2048 inter=1408 shared_inter=2816"},
    {"deepseek-v2", "DeepSeek-V2: 3 of 8 groups by their best expert, x16", kP,
     BF16,
     "experts=160 top_k=6 hidden=5120 inter=1536 shared_inter=3072 groups=8 "
     "kept_groups=3 group_score=max group_fill=zero scale=16.0"},
    {"mistral4", "Mistral-4 small: softmax in the DeepSeek-V3 form", kS,
     MISTRAL4, "experts=128 top_k=4 hidden=4096 inter=2048 shared_inter=2048"},
    {"ernie-4.5", "ERNIE-4.5-21B-A3B: bias on a softmax, sum clamped to 1e-12",
     kS, ERNIE, "experts=64 top_k=6 hidden=2560 inter=1536 shared_inter=3072"},
    {"ernie-4.5-300b", "ERNIE-4.5-300B-A47B", kP, ERNIE,
     "experts=64 top_k=8 hidden=8192 inter=3584"},
    {"longcat", "LongCat-Flash: 256 identity experts in the softmax, x6", kS,
     BF16,
     "experts=512 zero_experts=256 top_k=12 hidden=6144 inter=2048 "
     "select_bias=true scale=6.0"},
    {"gemma4", "Gemma-4-26B-A4B: normed router input, expert scale, GELU-tanh",
     kR, GEMMA4, "experts=128 top_k=8 hidden=2816 inter=704"},
    {"switch-base-8", "Switch-base-8: top-1, ReLU, capacity 64", kP, T5,
     "experts=8 top_k=1 hidden=768 inter=3072 capacity_fixed=64"},
    {"nllb", "NLLB-MoE-54B: divided before dropping, 2 ceil(T / E), x0.8", kP,
     T5,
     "experts=128 top_k=2 hidden=2048 inter=8192 normalize=sum "
     "eps=1.1920928955078125e-07 eps_mode=clamp expert_bias=true "
     "output_scale=0.8 capacity_factor=2.0 capacity_rounding=ceil "
     "capacity_multiple=2"},

    {"gpt-oss-20b", "gpt-oss-20B: biases, interleaved in by out, H = I", kP,
     GPT_OSS, "experts=32 top_k=4 hidden=2880 inter=2880"},
    {"gpt-oss-120b", "gpt-oss-120B", kS, GPT_OSS,
     "experts=128 top_k=4 hidden=2880 inter=2880"},
    {"granite-3.0-1b", "Granite-3.x-1B-A400M: softmax over the chosen", kP,
     TOPK_SOFTMAX, "experts=32 top_k=8 hidden=1024 inter=512"},
    {"granite-3.0-3b", "Granite-3.x-3B-A800M: 40 experts", kP, TOPK_SOFTMAX,
     "experts=40 top_k=8 hidden=1536 inter=512"},
    {"granite-4.0-h-tiny", "Granite-4.0-H-Tiny: a shared expert", kP,
     TOPK_SOFTMAX,
     "experts=64 top_k=6 hidden=1536 inter=512 shared_inter=1024"},
    {"granite-4.0-h-small", "Granite-4.0-H-Small: 72 experts", kR, TOPK_SOFTMAX,
     "experts=72 top_k=10 hidden=4096 inter=768 shared_inter=1536"},
    {"jetmoe", "JetMoE-8B: an output bias", kS, TOPK_SOFTMAX,
     "experts=8 top_k=2 hidden=2048 inter=5632 output_bias=true"},
    {"aria", "Aria: in by out, wide shared expert", kP, TOPK_SOFTMAX,
     "score_dtype=bf16 experts=64 top_k=6 hidden=2560 inter=1664 "
     "shared_inter=3328 orientation=in_out down_orientation=in_out"},
    {"cohere2-moe", "Cohere2-MoE: sizes of the configuration's defaults", kS,
     TOPK_SOFTMAX, "experts=8 top_k=2 hidden=8192 inter=22528"},
    {"llama4-scout", "Llama-4-Scout: the weight acts on the expert's input", kS,
     LLAMA4, "experts=16 top_k=1 hidden=5120 inter=8192 shared_inter=8192"},
    {"llama4-maverick", "Llama-4-Maverick", kP, LLAMA4,
     "experts=128 top_k=1 hidden=5120 inter=8192 shared_inter=8192"},

    {"deepseek-v3", "DeepSeek-V3, R1, V3.2: 4 of 8 groups by their two best",
     kS, DEEPSEEK_V3 V3_GROUPS, DEEPSEEK_V3_SIZES},
    {"deepseek", "the same as deepseek-v3", kS, DEEPSEEK_V3 V3_GROUPS,
     DEEPSEEK_V3_SIZES},
    {"kimi-k2", "Kimi-K2: 384 experts in one group", kP, DEEPSEEK_V3,
     "experts=384 top_k=8 hidden=7168 inter=2048 shared_inter=2048 "
     "scale=2.827"},
    {"glm-4.5", "GLM-4.5", kP, DEEPSEEK_V3,
     "experts=160 top_k=8 hidden=5120 inter=1536 shared_inter=1536 scale=2.5"},
    {"glm-4.5-air", "GLM-4.5-Air", kS, DEEPSEEK_V3,
     "experts=128 top_k=8 hidden=4096 inter=1408 shared_inter=1408"},
    {"glm-4.7-flash", "GLM-4.7-Flash", kS, DEEPSEEK_V3,
     "experts=64 top_k=4 hidden=2048 inter=1536 shared_inter=1536 scale=1.8"},
    {"glm-5", "GLM-5", kS, DEEPSEEK_V3,
     "experts=256 top_k=8 hidden=6144 inter=2048 shared_inter=2048 scale=2.5"},
    {"dots1", "dots.llm1", kP, DEEPSEEK_V3,
     "experts=128 top_k=6 hidden=4096 inter=1408 shared_inter=2816 scale=2.5"},
    {"k-exaone", "K-EXAONE-236B", kP, DEEPSEEK_V3,
     "experts=128 top_k=8 hidden=6144 inter=2048 shared_inter=2048 scale=2.5"},
    {"solar-open", "Solar-Open-100B", kS, DEEPSEEK_V3,
     "experts=128 top_k=8 hidden=4096 inter=1280 shared_inter=1280"},
    {"hy-v3", "HY-V3", kS, DEEPSEEK_V3,
     "experts=192 top_k=8 hidden=4096 inter=1536 shared_inter=1536 "
     "scale=2.826"},
    {"afmoe", "AFMoE (Trinity): sizes of the configuration's defaults", kS,
     DEEPSEEK_V3,
     "logit_dtype=bf16 experts=64 top_k=6 hidden=2048 inter=1408 "
     "shared_inter=2816"},
    {"ling-mini-2.0", "Ling-mini-2.0: 4 of 8 groups", kR, DEEPSEEK_V3 V3_GROUPS,
     "experts=256 top_k=8 hidden=2048 inter=512 shared_inter=512 scale=2.5"},
    {"ling-1t", "Ling-1T", kP, DEEPSEEK_V3 V3_GROUPS,
     "experts=256 top_k=8 hidden=8192 inter=2048 shared_inter=2048 scale=2.5"},
    {"nemotron-3-nano", "Nemotron-3-Nano-30B-A3B: ungated ReLU^2", kR, NEMOTRON,
     "experts=128 top_k=6 hidden=2688 inter=1856 shared_inter=3712 "
     "scale=2.5"},
    {"minimax-m2", "MiniMax-M2: no epsilon", kS, MINIMAX_M2,
     "experts=256 top_k=8 hidden=3072 inter=1536"},
    {"minimax-m3", "MiniMax-M3: clamped SwiGLU of gpt-oss, summed output x2",
     kS, MINIMAX_M2,
     "experts=128 top_k=4 hidden=6144 inter=3072 shared_inter=3072 "
     "act_style=oai act_limit=7.0 output_scale=2.0"},
    {"lfm2", "LFM2-8B-A1B: scores in bf16, eps 1e-6", kS, SOFTMAX SIGMOID,
     "score_dtype=bf16 route_dtype=bf16 eps=1e-6 experts=32 top_k=4 "
     "hidden=2048 inter=1792"},
    {"laguna", "Laguna: no epsilon, a shared expert", kS, OLMOE SIGMOID,
     "experts=256 top_k=8 hidden=2048 inter=512 shared_inter=512"},
    {"deepseek-v4-flash", "DeepSeek-V4-Flash: sqrt(softplus), clamp 10", kS,
     DEEPSEEK_V4,
     "select_bias=true experts=256 top_k=6 hidden=4096 inter=2048 "
     "shared_inter=2048"},
    {"deepseek-v4-flash-hash", "DeepSeek-V4-Flash, a layer with given ids", kS,
     DEEPSEEK_V4,
     "indices=true experts=256 top_k=6 hidden=4096 inter=2048 "
     "shared_inter=2048"},
    {"deepseek-v4-pro", "DeepSeek-V4-Pro", kR, DEEPSEEK_V4,
     "select_bias=true experts=384 top_k=6 hidden=7168 inter=3072 "
     "shared_inter=3072"},

    {"expert-choice", "Expert Choice (2202.09368), 64 experts, factor 2", kP,
     BF16_F32_ROUTER,
     "router=expert_choice capacity_factor=2.0 experts=64 hidden=768 "
     "inter=3072 gated=false activation=gelu"},
    {"vmoe", "V-MoE (2106.05974) in ViT-B: batch-prioritised, capacity 1.05",
     kP, BF16_F32_ROUTER,
     "capacity=prioritized capacity_factor=1.05 capacity_per=slots "
     "capacity_rounding=nearest experts=32 top_k=2 hidden=768 inter=3072 "
     "gated=false activation=gelu expert_bias=true"},
};

ArrayRef<LayerExample> layer::listExamples() { return kExamples; }
