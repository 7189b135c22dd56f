# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random valid layers and their operands.

Every key of the spec is drawn. A few combinations have no stated meaning
and stay out: a selection bias with scores over the chosen logits, zero
experts inside a latent layer, an output bias with an average. Priorities
and expert choice compare across tokens, so their routing types stay f32 or
f64: in 16 bits most pairs would tie.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import draw
from draw import Stream
from spec import LayerSpec


def _types(stream: Stream) -> dict[str, Any]:
    storage = stream.pick(["f32", "f32", "bf16", "bf16", "f16", "f64"])
    if storage == "f64":
        return {
            key: "f64"
            for key in (
                "x_dtype",
                "router_dtype",
                "weight_dtype",
                "logit_dtype",
                "score_dtype",
                "route_dtype",
            )
        }
    model = ["f32", "f32", storage]
    return {
        "x_dtype": storage,
        "router_dtype": stream.pick(["f32", storage]),
        "weight_dtype": stream.pick([storage, storage, "bf16"]),
        "logit_dtype": stream.pick(model),
        "score_dtype": stream.pick(model),
        "route_dtype": stream.pick(model),
    }


def _token_choice(stream: Stream, experts: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if stream.chance(0.15):
        out["zero_experts"] = 1 + stream.below(4)
    width = experts + out.get("zero_experts", 0)
    out["score"] = stream.pick(
        ["softmax", "softmax", "sigmoid", "sigmoid", "sqrt_softplus", "none"]
    )
    if out["score"] in ("softmax", "sigmoid") and stream.chance(0.3):
        out["score_domain"] = "topk"
    elif stream.chance(0.4):
        out["select_bias"] = True
    divisors = [n for n in range(2, width) if width % n == 0]
    limit = width
    if divisors and stream.chance(0.4):
        groups = stream.pick(divisors)
        kept = 1 + stream.below(groups)
        out.update(groups=groups, kept_groups=kept)
        if width // groups >= 2:
            out["group_score"] = stream.pick(["max", "top2sum"])
        if out["score"] == "softmax" and "score_domain" in out:
            # A softmax over the chosen has no scores to choose groups by.
            out.pop("score_domain")
        # A logit can be negative, so a zero among logits is never meant.
        if out["score"] != "none" and "score_domain" not in out:
            out["group_fill"] = stream.pick(["neg_inf", "zero"])
        limit = kept * (width // groups)
    out["top_k"] = 1 + stream.below(min(limit, 6))
    if stream.chance(0.05):
        out["top_k"] = limit
    if stream.chance(0.2) and limit == width:
        # Nothing is chosen, so nothing biases a choice.
        out["indices"] = True
        out.pop("select_bias", None)
    if out["score"] != "none":
        # Raw logits can sum to nearly zero.
        out["normalize"] = stream.pick(["none", "sum", "sum", "pnorm"])
    if out.get("normalize", "none") != "none":
        out["eps"] = stream.pick([0.0, 1e-20, 1e-12, 1e-6])
        out["eps_mode"] = stream.pick(["add", "clamp"])
    if out.get("normalize") == "pnorm":
        out["norm_p"] = stream.pick([1.0, 2.0, 3.0])
    out["scale"] = stream.pick([1.0, 1.0, 2.5, 0.25])
    out["expert_scale"] = stream.chance(0.15)
    return out


def _capacity(stream: Stream) -> dict[str, Any]:
    # Dyadic factors: their products are exact, whatever the order.
    return {
        "capacity_fixed": stream.pick([0, 0, 0, 1, 3]),
        "capacity_factor": stream.pick([0.5, 1.0, 1.25, 2.0]),
        "capacity_rounding": stream.pick(["floor", "ceil", "nearest"]),
        "capacity_multiple": stream.pick([1, 1, 2, 4]),
        "capacity_min": stream.pick([1, 1, 4]),
    }


def _experts(stream: Stream) -> dict[str, Any]:
    out: dict[str, Any] = {"gated": stream.chance(0.75)}
    if out["gated"]:
        out["pairing"] = stream.pick(["cat", "interleaved", "separate"])
        if out["pairing"] != "separate":
            out["order"] = stream.pick(["gate_up", "up_gate"])
        if stream.chance(0.25):
            out.update(act_style="oai", act_alpha=stream.pick([1.702, 1.0]))
    if "act_style" not in out:
        out["activation"] = stream.pick(
            ["silu", "silu", "gelu", "gelu_tanh", "relu", "relu2", "identity"]
        )
    out["act_limit"] = stream.pick([0.0, 0.0, 0.75, 7.0])
    out["expert_bias"] = stream.chance(0.3)
    out["orientation"] = stream.pick(["out_in", "in_out"])
    out["down_orientation"] = stream.pick(["out_in", "in_out"])
    out["expert_axis"] = stream.pick(["lead", "lead", "folded"])
    return out


def _around(stream: Stream, zero_experts: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if not zero_experts and stream.chance(0.2):
        out["latent"] = 4 + stream.below(16)
    if stream.chance(0.4):
        out["shared_inter"] = 1 + stream.below(40)
        out["shared_gate"] = stream.chance(0.5)
        out["shared_mode"] = stream.pick(["sum", "average"])
    out["output_scale"] = stream.pick([1.0, 1.0, 2.0, 0.8])
    if out.get("shared_mode") != "average":
        out["output_bias"] = stream.chance(0.2)
    out["token_mask"] = stream.chance(0.3)
    out["group_offsets"] = stream.chance(0.3)
    return out


def random_spec(seed: int) -> LayerSpec:
    """A valid layer; the same for the same seed."""
    stream = Stream(seed, "spec")
    keys: dict[str, Any] = _types(stream)
    experts = stream.pick([1, 2, 3, 4, 5, 7, 8, 8, 12, 16, 60])
    keys["experts"] = experts
    if experts == 60 and keys["x_dtype"] == "f16":
        # Too many fine f16 steps in a row to keep clear of every boundary.
        keys.update(logit_dtype="f32", score_dtype="f32")
    keys["hidden"] = 16 + stream.below(49)
    keys["inter"] = 4 + stream.below(45)
    across_tokens = False
    if stream.chance(0.2):
        keys["router"] = "expert_choice"
        # A softmax over one expert is 1 for every token.
        axes = ["experts", "tokens"] if experts > 1 else ["tokens"]
        keys["choice_axis"] = stream.pick(axes)
        keys["choice_normalize"] = stream.chance(0.5)
        keys.update(_capacity(stream))
        keys["top_k"] = 1
        across_tokens = True
    else:
        keys.update(_token_choice(stream, experts))
        if "zero_experts" not in keys and stream.chance(0.35):
            keys["capacity"] = stream.pick(["first_come", "prioritized"])
            keys["capacity_per"] = stream.pick(["tokens", "slots"])
            keys.update(_capacity(stream))
            # A lone normalised weight is 1 for every token.
            alone = keys["top_k"] == 1 or experts == 1 or "indices" in keys
            if keys["capacity"] == "prioritized" and alone:
                keys["capacity"] = "first_come"
            across_tokens = keys["capacity"] == "prioritized"
    keys["router_bias"] = stream.chance(0.2)
    keys["router_norm"] = stream.chance(0.15)
    if keys.get("router") != "expert_choice":
        keys["softcap"] = stream.pick([0.0, 0.0, 0.0, 5.0])
    keys["weight_site"] = stream.pick(["output", "output", "output", "input"])
    keys.update(_experts(stream))
    keys.update(_around(stream, "zero_experts" in keys))
    if across_tokens and keys["x_dtype"] != "f64":
        keys.update(logit_dtype="f32", score_dtype="f32", route_dtype="f32")
    return LayerSpec(**keys)


def random_shape(seed: int) -> tuple[int, int]:
    """(tokens, token groups) that go with `random_spec(seed)`."""
    stream = Stream(seed, "shape")
    tokens = stream.pick([0, 1, 2, 5, 9, 16, 17, 24, 31, 40])
    return tokens, 1 + stream.below(4)


def random_inputs(
    spec: LayerSpec,
    seed: int,
    tokens: int | None = None,
    token_groups: int | None = None,
) -> dict[str, np.ndarray]:
    """Operands for `spec` (see draw.draw_inputs), sizes drawn if not given."""
    drawn_tokens, drawn_groups = random_shape(seed)
    return draw.draw_inputs(
        spec,
        seed,
        drawn_tokens if tokens is None else tokens,
        drawn_groups if token_groups is None else token_groups,
    )
