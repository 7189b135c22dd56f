# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A second formulation of the layer, to check the first one by.

Everything is dense and whole-array: a choice is a rank (how many others come
before), a queue position is a count of earlier assignments, a routing is a
[T, S, R] tensor of weights, every expert sees every token. It shares only
the spec with the reference. Exact evaluation of finite inputs only; not a
judge of rounding, NaN, or speed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spec import LayerSpec

Inputs = dict[str, np.ndarray]


def _before(keys: np.ndarray) -> np.ndarray:
    """rank [.., N]: how many of the last axis come before each entry."""
    mine, other = keys[..., :, None], keys[..., None, :]
    count = keys.shape[-1]
    lower = np.arange(count)[None, :] < np.arange(count)[:, None]
    return np.sum((other > mine) | ((other == mine) & lower), axis=-1)


def _logits(spec: LayerSpec, inputs: Inputs) -> np.ndarray:
    x = inputs["x"]
    if spec.router_norm:
        # The H^-0.5 cancels against the mean's 1/H, up to eps.
        length = np.sqrt((x**2).sum(1, keepdims=True) + 1e-6 * spec.hidden)
        x = x / length * inputs["router_scale"]
    logits = x @ inputs["router_weight"].T
    if spec.router_bias:
        logits = logits + inputs["router_bias"]
    if spec.softcap:
        logits = np.tanh(logits / spec.softcap) * spec.softcap
    return logits


def _score(kind: str, logits: np.ndarray, axis: int = -1) -> np.ndarray:
    if kind == "softmax":
        if logits.shape[axis] == 0:
            return logits
        log_sum = np.logaddexp.reduce(logits, axis=axis, keepdims=True)
        return np.exp(logits - log_sum)
    if kind == "sigmoid":
        return np.exp(-np.logaddexp(0.0, -logits))
    if kind == "sqrt_softplus":
        return np.sqrt(np.logaddexp(0.0, logits))
    return logits


def _live(spec: LayerSpec, inputs: Inputs) -> np.ndarray:
    if spec.token_mask:
        return inputs["token_mask"].astype(bool)
    return np.ones(len(inputs["x"]), dtype=bool)


def _group_of(
    spec: LayerSpec, inputs: Inputs
) -> tuple[np.ndarray, np.ndarray]:
    """(group of each token [T], size of that group [T])."""
    tokens = np.arange(len(inputs["x"]))
    if not spec.group_offsets:
        return np.zeros(len(tokens), int), np.full(len(tokens), len(tokens))
    bounds = inputs["group_offsets"]
    group = np.searchsorted(bounds, tokens, side="right") - 1
    return group, np.diff(bounds)[group]


def _capacity(spec: LayerSpec, sizes: np.ndarray) -> np.ndarray:
    if spec.capacity_fixed:
        return np.full(sizes.shape, spec.capacity_fixed)
    per = spec.top_k if spec.capacity_per == "slots" else 1
    share = spec.capacity_factor * (sizes * per) / spec.experts
    rounded = {
        "floor": np.floor(share),
        "ceil": np.ceil(share),
        "nearest": np.floor(share + 0.5),
    }[spec.capacity_rounding]
    multiple = spec.capacity_multiple
    return np.maximum(
        np.ceil(rounded / multiple) * multiple, spec.capacity_min
    )


def _token_choice(spec: LayerSpec, inputs: Inputs) -> np.ndarray:
    """Combine weights [T, k, R] and which slots are taken, [T, k, R]."""
    logits = _logits(spec, inputs)
    tokens, width = logits.shape
    live = _live(spec, inputs)
    if spec.indices:
        hot = inputs["indices"][:, :, None] == np.arange(width)
    else:
        base = logits if spec.score_domain == "topk" else None
        if base is None:
            base = _score(spec.score, logits)
        if spec.select_bias:
            base = base + inputs["selection_bias"]
        if spec.kept_groups < spec.groups:
            size = width // spec.groups
            split = base.reshape(tokens, spec.groups, size)
            count = 1 if spec.group_score == "max" else 2
            best = np.sort(split, axis=-1)[..., -count:].sum(-1)
            kept = _before(best) < spec.kept_groups
            fill = 0.0 if spec.group_fill == "zero" else -np.inf
            base = np.where(kept[..., None], split, fill)
            base = base.reshape(tokens, width)
        hot = _before(base)[:, None, :] == np.arange(spec.top_k)[:, None]
    hot = hot & live[:, None, None]
    if spec.score_domain == "all":
        scores = _score(spec.score, logits)[:, None, :] * hot
    elif spec.score == "softmax":
        raw = np.exp(logits - logits.max(1, keepdims=True))[:, None, :] * hot
        total = raw.sum((1, 2), keepdims=True)
        scores = raw / np.where(total > 0, total, 1.0)
    else:
        scores = _score(spec.score, logits)[:, None, :] * hot
    if spec.normalize != "none":
        power = spec.norm_p if spec.normalize == "pnorm" else None
        total = (
            scores.sum((1, 2))
            if power is None
            else (np.abs(scores) ** power).sum((1, 2)) ** (1 / power)
        )
        if spec.eps_mode == "clamp":
            total = np.maximum(total, spec.eps)
        else:
            total = total + spec.eps
        total = np.where(hot.any((1, 2)), total, 1.0)
        scores = scores / total[:, None, None]
    weights = scores * spec.scale
    if spec.expert_scale:
        weights = weights * inputs["expert_scale"]
    if spec.capacity != "none":
        kept = _queue(spec, inputs, hot, weights)
        hot, weights = hot & kept, weights * kept
    return weights, hot


def _queue(
    spec: LayerSpec, inputs: Inputs, hot: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Which slots [T, k, 1] find room: fewer earlier claims than capacity."""
    tokens, slots, _ = hot.shape
    group, sizes = _group_of(spec, inputs)
    place = np.arange(tokens)
    if spec.capacity == "prioritized":
        place = _before(weights[:, 0].sum(-1))
    rank = np.arange(slots)[None, :] * tokens + place[:, None]
    flat = hot.reshape(tokens * slots, spec.router_width).astype(int)
    same_expert = flat @ flat.T > 0
    same_group = np.repeat(group, slots)
    same_group = same_group[:, None] == same_group[None, :]
    earlier = rank.ravel()[None, :] < rank.ravel()[:, None]
    position = np.sum(same_expert & same_group & earlier, axis=1)
    kept = position.reshape(tokens, slots) < _capacity(spec, sizes)[:, None]
    return kept[:, :, None]


def _expert_choice(spec: LayerSpec, inputs: Inputs) -> np.ndarray:
    """Combine weights [T, E, E] (slot s is expert s), and which are taken."""
    logits = _logits(spec, inputs)
    live = _live(spec, inputs)
    group, sizes = _group_of(spec, inputs)
    scores = np.zeros_like(logits)
    taken = np.zeros(logits.shape, dtype=bool)
    limits = np.minimum(_capacity(spec, sizes), sizes)
    for number in np.unique(group):
        at = (group == number) & live
        if not at.any():
            continue
        axis = 1 if spec.choice_axis == "experts" else 0
        scores[at] = _score("softmax", logits[at], axis)
        taken[at] = _before(scores[at].T).T < limits[at][:, None]
    weights = scores * taken
    if spec.choice_normalize:
        takers = np.maximum(1, taken.sum(1, keepdims=True))
        weights = weights / takers.astype(weights.dtype)
    eye = np.eye(spec.experts, dtype=weights.dtype)
    return weights[:, :, None] * eye, taken[:, :, None] & (eye > 0)


def _stack(
    spec: LayerSpec, stored: np.ndarray, orientation: str
) -> np.ndarray:
    """[E, out, in] whatever the stored form."""
    stack = stored.reshape(spec.experts, -1, stored.shape[-1])
    return stack if orientation == "out_in" else stack.swapaxes(1, 2)


def _pair(spec: LayerSpec, fused: np.ndarray, pairing: str) -> np.ndarray:
    """[2, E, I, ...]: gate, then up, from [E, 2I, ...]."""
    rest = fused.shape[2:]
    if pairing == "interleaved":
        pair = fused.reshape(spec.experts, spec.inter, 2, *rest)
        pair = np.moveaxis(pair, 2, 0)
    else:
        pair = fused.reshape(spec.experts, 2, spec.inter, *rest)
        pair = np.moveaxis(pair, 1, 0)
    return pair if spec.order == "gate_up" else pair[::-1]


def _activation(spec: LayerSpec, gate: np.ndarray, up: Any) -> np.ndarray:
    if spec.act_limit:
        gate = np.where(gate > spec.act_limit, spec.act_limit, gate)
        if spec.gated:
            up = np.clip(up, -spec.act_limit, spec.act_limit)
    if spec.act_style == "oai":
        swish = gate / (1.0 + np.exp(-spec.act_alpha * gate))
        return swish * up + swish
    erfc = np.vectorize(math.erfc, otypes=[gate.dtype])
    cubic = math.sqrt(8 / math.pi) * (gate + 0.044715 * gate**3)
    shapes = {
        "silu": lambda: gate / (1.0 + np.exp(-gate)),
        "gelu": lambda: 0.5 * gate * erfc(-gate / math.sqrt(2.0)),
        "gelu_tanh": lambda: gate / (1.0 + np.exp(-cubic)),
        "relu": lambda: np.where(gate > 0, gate, 0.0),
        "relu2": lambda: np.where(gate > 0, gate, 0.0) ** 2,
        "identity": lambda: gate,
    }
    return shapes[spec.activation]() * up


def _experts(spec: LayerSpec, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
    """Every expert on every row: [E, T, S, D] from [T, S, D]."""
    if spec.pairing == "separate":
        pair = np.stack(
            [_stack(spec, inputs[n], spec.orientation) for n in ("gate", "up")]
        )
    else:
        fused = _stack(spec, inputs["gate_up"], spec.orientation)
        pair = _pair(spec, fused, spec.pairing) if spec.gated else fused[None]
    first = np.einsum("peid,tsd->petsi", pair, rows)
    if spec.expert_bias:
        bias = inputs["gate_up_bias"]
        pairing = "cat" if spec.pairing == "separate" else spec.pairing
        bias = _pair(spec, bias, pairing) if spec.gated else bias[None]
        first = first + bias[:, :, None, None, :]
    hidden = _activation(spec, first[0], first[1] if spec.gated else 1.0)
    down = _stack(spec, inputs["down"], spec.down_orientation)
    out = np.einsum("edi,etsi->etsd", down, hidden)
    if spec.expert_bias:
        out = out + inputs["down_bias"][:, None, None, :]
    return out


def dense_run(spec: LayerSpec, inputs: Inputs) -> dict[str, np.ndarray]:
    """y [T, H], weight of each expert for each token [T, R], loads [E]."""
    with np.errstate(over="ignore"):
        return _dense_run(spec, inputs)


def _dense_run(spec: LayerSpec, inputs: Inputs) -> dict[str, np.ndarray]:
    x = inputs["x"]
    if spec.router == "expert_choice":
        weights, taken = _expert_choice(spec, inputs)
    else:
        weights, taken = _token_choice(spec, inputs)
    real, zero = weights[..., : spec.experts], weights[..., spec.experts :]
    rows = x @ inputs["latent_in"].T if spec.latent else x
    rows = np.repeat(rows[:, None, :], weights.shape[1], axis=1)
    site = taken[..., : spec.experts].astype(weights.dtype)
    if spec.weight_site == "input":
        rows = rows * weights.sum(-1)[..., None]
    else:
        site = real
    y = np.einsum("tse,etsd->td", site, _experts(spec, inputs, rows))
    if spec.latent:
        y = y @ inputs["latent_out"].T
    y = spec.output_scale * (y + zero.sum((1, 2))[:, None] * x)
    if spec.shared_inter:
        both = x @ inputs["shared_gate_up"].T
        gate, up = both, 1.0
        if spec.gated:
            gate, up = np.split(both, 2, axis=1)
        shared = _activation(spec, gate, up) @ inputs["shared_down"].T
        if spec.shared_gate:
            shared = shared * _score("sigmoid", x @ inputs["shared_gate"].T)
        y = y + shared
        if spec.shared_mode == "average":
            y = 0.5 * y
    if spec.output_bias:
        y = y + inputs["output_bias"]
    return {
        "y": y,
        "weights": weights.sum(1),
        "expert_loads": taken.sum((0, 1))[: spec.experts],
    }
