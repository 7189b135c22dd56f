# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a layer of random_routers reads and chooses, in f64.

The routers are those of token_routers, noisy_routers, gates and
global_routers; this is which of them a layer means, and with which numbers.
"""

from __future__ import annotations

import numpy as np

import gates
import global_routers
import noisy_routers
import philox
import routing
import token_routers
from random_routers import RouterLayer
from spec import LayerSpec

Operands = dict[str, np.ndarray]


def facts_of(layer: RouterLayer) -> dict[str, str]:
    """The settings of the router's attribute, but of expert choice."""
    return dict(part.split(" = ") for part in layer.settings.split(", "))


def _uniforms(
    layer: RouterLayer, operands: Operands, draws: int, above: int = 0
) -> np.ndarray:
    """Numbers of the layer `above` the one that is given."""
    seed, place, first = (int(number) for number in operands["random"])
    return philox.uniforms(seed, layer.tokens, draws, place + above, first)


def _gumbels(layer: RouterLayer, operands: Operands) -> np.ndarray:
    drawn = _uniforms(layer, operands, layer.experts)
    return philox.gumbels_of(drawn)


def _normals(layer: RouterLayer, operands: Operands) -> np.ndarray:
    even = layer.experts + layer.experts % 2
    drawn = _uniforms(layer, operands, even)
    return philox.normals_of(drawn)[:, : layer.experts]


def read_rows(layer: RouterLayer, operands: Operands) -> np.ndarray:
    """What the gate reads."""
    x = operands["x"]
    if layer.jitter:
        u = _uniforms(layer, operands, layer.hidden, above=1)
        x = x * (1.0 - layer.jitter + 2.0 * layer.jitter * u)
    return x


def logits_of(layer: RouterLayer, operands: Operands) -> np.ndarray:
    """The gate's logits [T, R]."""
    x, router = read_rows(layer, operands), operands["router"]
    if layer.kind == "soft":
        scale = float(operands["scale"])
        return global_routers.soft_logits(x, router.T, scale)
    if layer.gate == "cosine":
        out = gates.cosine_gate(x, router, float(operands["scale"]))
    else:
        out = x @ router.T
    return out + operands["router_bias"] if layer.gate_bias else out


def values_of(layer: RouterLayer, operands: Operands) -> np.ndarray:
    """What the choice reads [T, R]: logits, or what a mix makes of them."""
    values, mix = logits_of(layer, operands), layer.mix
    if mix is None:
        return values
    if mix.of_scores:
        values = token_routers.softmax(values)
    seen = (mix.causal, operands.get("groups"), operands.get("mask"))
    if mix.form == "matrix":
        matrices = operands["matrices"]
    else:
        x, tokens = operands["x"], layer.tokens
        query = key = x[:, None, :]
        if mix.form == "learned":
            query = (x @ operands["similarity"].T)[:, None, :]
        elif mix.form == "attention":
            query = operands["query"].reshape(tokens, mix.heads, mix.width)
            key = operands["key"].reshape(tokens, mix.shared, mix.width)
            key = np.repeat(key, mix.heads // mix.shared, axis=1)
        matrices = global_routers.attention(
            query.transpose(1, 0, 2), key.transpose(1, 0, 2), mix.scale, *seen
        )
    return global_routers.mix(
        values, matrices, operands.get("posterior"), *seen
    )


def _prob_moe(layer, operands, values):
    facts = facts_of(layer)
    high = int(facts.get("max", facts.get("k")))
    low = int(facts.get("min", high))
    uniforms = None
    if layer.training:
        uniforms = _uniforms(layer, operands, layer.experts + 1)
    return token_routers.probmoe(
        values, low, high, uniforms, "normalize" in facts,
        operands.get("mask"),
    )  # fmt: skip


def _moesart(layer, operands, values):
    facts, mask = facts_of(layer), operands.get("mask")
    if not layer.training:
        return token_routers.moesart_inference(values, layer.slots, mask)
    return token_routers.moesart_training(
        values,
        layer.slots,
        _uniforms(layer, operands, layer.slots + 1),
        facts["weighting"],
        facts["replacement"] == "true",
        float(facts["temperature"]),
        mask,
    )


def _noisy(layer, operands, values):
    """The published combinations; None for the others."""
    facts, mask = facts_of(layer), operands.get("mask")
    which, weights = facts["noise"], facts["weights"]
    if which == "learned" and weights == "chosen" and "floor" not in facts:
        raw = normals = None
        if layer.training:
            reads = operands["x"]
            if layer.gate != "cosine":
                reads = read_rows(layer, operands)
            raw = reads @ operands["router_noise"].T
            normals = _normals(layer, operands)
        return noisy_routers.noisy_top_k(
            values, layer.slots, raw, normals, mask
        )
    if which == "normal" and weights == "all":
        normals = _normals(layer, operands) if layer.training else None
        std = float(facts["std"])
        return noisy_routers.vmoe(values, layer.slots, normals, std, mask)
    if which == "gumbel" and weights == "clean" and layer.slots == 1:
        gumbels = None
        if layer.training:
            gumbels = _gumbels(layer, operands) * float(facts["temperature"])
        return noisy_routers.gumbel_top1(values, gumbels, mask)
    return None


def _gshard(layer, operands, values):
    facts = facts_of(layer)
    policy, numbers = facts["policy"], {}
    if policy == "random":
        drawn = _uniforms(layer, operands, layer.experts + 1)
        numbers["uniforms"] = drawn[:, layer.experts]
    elif policy == "sampling":
        numbers["gumbels"] = _gumbels(layer, operands)
    return noisy_routers.gshard_top2(
        values, policy, float(facts["threshold"]), facts["normalize"],
        mask=operands.get("mask"), **numbers,
    )  # fmt: skip


def _sparse_mixer(layer, operands, values):
    gumbels = uniforms = None
    if layer.training:
        wide = 2 * layer.experts
        drawn = _uniforms(layer, operands, wide + 2)
        gumbels = philox.gumbels_of(drawn[:, :wide])
        gumbels = gumbels.reshape(layer.tokens, 2, layer.experts)
        uniforms = drawn[:, wide:]
    eps = float(facts_of(layer)["eps"])
    return noisy_routers.sparsemixer(
        values, eps, gumbels, uniforms, mask=operands.get("mask")
    )


def _product_keys(layer, operands, values):
    over = "chosen" if facts_of(layer)["domain"] == "topk" else "all"
    return gates.product_keys(
        values[:, : layer.left], values[:, layer.left :], layer.slots, over,
        operands.get("mask"),
    )  # fmt: skip


def _top_k(layer, operands, values):
    """A softmax over logits, or the mixed scores themselves."""
    of_scores = layer.mix is not None and layer.mix.of_scores
    scores = values if of_scores else token_routers.softmax(values)
    mask = operands.get("mask")
    ids, weights = global_routers.mixed_top_k(
        scores, layer.slots, "normalize" in layer.settings, mask
    )
    return token_routers.Routed(ids, weights, scores, np.zeros(len(ids)))


_ROUTERS = {
    "exact_k": _prob_moe,
    "dynamic_k": _prob_moe,
    "moesart": _moesart,
    "noisy_top_k": _noisy,
    "gshard": _gshard,
    "sparse_mixer": _sparse_mixer,
    "product_keys": _product_keys,
    "top_k": _top_k,
}


def choice_rule(layer: RouterLayer) -> LayerSpec:
    """The capacity rule of an expert choice, as a spec."""
    text = layer.settings.partition("<")[2].partition(">")[0]
    facts = dict(part.split(" = ") for part in text.split(", "))
    return LayerSpec(
        router="expert_choice",
        experts=layer.experts,
        top_k=1,
        capacity_fixed=int(facts.get("fixed", 0)),
        capacity_factor=float(facts.get("factor", 1.0)),
        capacity_rounding=facts.get("rounding", "floor"),
        capacity_multiple=int(facts.get("multiple", 1)),
    )


def choice_counts(layer: RouterLayer, operands: Operands) -> list[int]:
    """How many tokens an expert takes of each group, masked or not."""
    rule = choice_rule(layer)
    sizes = np.diff(operands.get("groups", np.array([0, layer.tokens])))
    return [min(int(n), routing.capacity(rule, int(n))) for n in sizes]


def expert_choice(
    layer: RouterLayer, operands: Operands, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ids and weights [E, C], C the sum of what the groups give."""
    text = layer.settings.partition(">")[2].removeprefix(", ")
    facts = dict(part.split(" = ") for part in text.split(", ") if part)
    counts = choice_counts(layer, operands)
    offsets, mask = operands.get("groups"), operands.get("mask")
    if "cap" in facts:
        chosen = global_routers.capped_expert_choice(
            values, counts, float(facts["cap"]), float(facts["strength"]),
            int(facts["sweeps"]), facts.get("weights", "scores"), offsets,
            mask,
        )  # fmt: skip
        ids, weights = chosen.ids, chosen.weights
    else:
        ids = np.full((layer.experts, sum(counts)), -1, dtype=np.int32)
        weights, first = np.zeros(ids.shape), 0
        groups = global_routers.live_groups(layer.tokens, offsets, mask)
        for group, count in zip(groups, counts, strict=True):
            scores = values[group]
            if facts["axis"] == "experts":
                scores = token_routers.softmax(scores)
            elif facts["axis"] == "tokens":
                scores = token_routers.softmax(scores.T).T
            for expert, column in enumerate(scores.T):
                best = token_routers.best(column, min(count, len(group)))
                for slot, at in enumerate(best):
                    ids[expert, first + slot] = group[at]
                    weights[expert, first + slot] = column[at]
            first += count
    if "normalize" in facts:
        taken = np.bincount(ids[ids >= 0], minlength=layer.tokens + 1)
        weights = weights / np.maximum(1, taken[ids])
    return ids, weights


def route(
    layer: RouterLayer, operands: Operands, values: np.ndarray
) -> token_routers.Routed | None:
    """A token choice, before any capacity; None where no reference has these
    settings."""
    return _ROUTERS[layer.kind](layer, operands, values)


def routing_of(
    layer: RouterLayer, operands: Operands, values: np.ndarray
) -> dict[str, np.ndarray]:
    """Results that are known without the experts, by name."""
    if layer.kind == "soft":
        dispatch, combine = global_routers.soft_route(
            values, operands.get("groups"), operands.get("mask")
        )
        return {"d": dispatch, "w": combine}
    if layer.kind == "expert_choice":
        ids, weights = expert_choice(layer, operands, values)
        return {"ids": ids, "w": weights}
    routed = route(layer, operands, values)
    if routed is None:
        return {}
    names = ("ids0", "weights0") if layer.capacity else ("ids", "w")
    return dict(zip(names, (routed.ids, routed.weights), strict=True))
