# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random operands for a layer, the same on every machine.

Scales keep logits at a standard deviation near 2 and outputs near 1. Tokens
whose routing a last-place difference could change are drawn again: a gap
between competing keys that is too small, or a value next to a boundary of a
16-bit rounding. What is left has one right answer, so ids are compared
exactly.
"""

from __future__ import annotations

import dataclasses
import math
import zlib

import numpy as np

import dtypes
import routing
from spec import LayerSpec, Operand

# A competing pair of keys is told apart when its gap exceeds this share of
# the largest key. f32 logits are right to about 1e-6.
KEY_GAP = 1e-4
# Priorities and expert choice compare across tokens: many pairs, so the
# bound is nearer to the error.
PRIORITY_GAP = 1e-5
# Distance from a 16-bit rounding boundary: of a logit relative to the row's
# largest (sums cancel), of a score or weight relative to itself.
LOGIT_SLACK = 2e-6
SCORE_SLACK = 5e-6
ATTEMPTS = 200


class Stream:
    """Random numbers from raw PCG64 words: independent of NumPy's version."""

    def __init__(self, seed: int, *names: str | int):
        words = [seed] + [
            name if isinstance(name, int) else zlib.crc32(name.encode())
            for name in names
        ]
        self._bits = np.random.PCG64(np.random.SeedSequence(words))

    def uniform(self, *shape: int) -> np.ndarray:
        """Uniform in [0, 1), 53 bits."""
        count = math.prod(shape)
        raw = self._bits.random_raw(count) if count else np.zeros(0, np.uint64)
        return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)

    def normal(self, *shape: int) -> np.ndarray:
        """Near normal, mean 0, variance 1: twelve uniforms, bounded by 6."""
        return self.uniform(*shape, 12).sum(axis=-1) - 6.0

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        return int(self.uniform(1)[0] * bound)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.uniform(1)[0] < probability)

    def pick(self, choices: list | tuple):
        """One of `choices`."""
        return choices[self.below(len(choices))]


def _offsets(stream: Stream, tokens: int, count: int) -> np.ndarray:
    """Ascending bounds of `count` groups, [count + 1]; groups may be empty."""
    cuts = sorted(stream.below(tokens + 1) for _ in range(count - 1))
    return np.array([0, *cuts, tokens], dtype=np.int32)


def _indices(spec: LayerSpec, stream: Stream, tokens: int) -> np.ndarray:
    """Given ids [T, k]: mostly distinct, some slots empty, some repeated."""
    out = np.full((tokens, spec.top_k), -1, dtype=np.int32)
    for token in range(tokens):
        order = np.argsort(stream.uniform(spec.router_width), kind="stable")
        for slot in range(spec.top_k):
            out[token, slot] = order[slot % spec.router_width]
        if stream.chance(0.2):
            out[token, stream.below(spec.top_k)] = -1
        if stream.chance(0.1):
            out[token, 0] = out[token, -1]
    return out


def _operand(
    spec: LayerSpec, operand: Operand, stream: Stream, tokens: int
) -> np.ndarray:
    """Values of one operand other than x."""
    name, shape = operand.name, operand.shape
    if name == "indices":
        return _indices(spec, stream, tokens)
    if name == "token_mask":
        return stream.uniform(*shape) < 0.75
    if name == "group_offsets":
        return _offsets(stream, tokens, shape[0] - 1)
    if name == "expert_scale":
        values = 0.5 + stream.uniform(*shape)
    elif name == "router_scale":
        values = 1.0 + 0.2 * stream.normal(*shape)
    elif name == "router_weight":
        # The normed router input has length 1, otherwise about sqrt(H).
        fan = 1 if spec.router_norm else spec.hidden
        values = 2.0 / math.sqrt(fan) * stream.normal(*shape)
    else:
        fans = {
            "gate_up": (1.5, spec.expert_width),
            "gate": (1.5, spec.expert_width),
            "up": (1.5, spec.expert_width),
            "down": (2.0, spec.inter),
            "shared_gate_up": (1.5, spec.hidden),
            "shared_down": (1.5, max(1, spec.shared_inter)),
            "shared_gate": (1.0, spec.hidden),
            "latent_in": (1.0, spec.hidden),
            "latent_out": (1.0, max(1, spec.latent)),
            "selection_bias": (0.3, 1),
        }
        gain, fan = fans.get(name, (0.4, 1))
        values = gain / math.sqrt(fan) * stream.normal(*shape)
    return dtypes.round_to(values, operand.dtype)


def _near_boundary(values: np.ndarray, slack: np.ndarray, dtype: str) -> bool:
    """Whether a rounding to a 16-bit type could go either way."""
    if dtype not in ("f16", "bf16"):
        return False
    low = dtypes.round_to(values - slack, dtype)
    return not np.array_equal(low, dtypes.round_to(values + slack, dtype))


def _close(values: np.ndarray, count: int, gap: float) -> bool:
    """Whether any of the first `count` gaps of the sorted values is small."""
    finite = values[np.isfinite(values)]
    ordered = np.sort(finite)[::-1][: count + 1]
    if len(ordered) < 2:
        return False
    slack = gap * float(np.max(np.abs(finite)))
    return bool(np.any(ordered[:-1] - ordered[1:] <= slack))


def _is_fragile(
    spec: LayerSpec, inputs: dict[str, np.ndarray], token: int
) -> bool:
    """Whether the token's own routing could go either way."""
    alone = dict(inputs)
    alone["x"] = inputs["x"][token : token + 1]
    for name in ("token_mask", "group_offsets"):
        alone.pop(name, None)
    if spec.indices:
        alone["indices"] = inputs["indices"][token : token + 1]
    single = dataclasses.replace(
        spec, capacity="none", token_mask=False, group_offsets=False
    )
    doubtful = False

    def watching(values: np.ndarray, dtype: str) -> np.ndarray:
        nonlocal doubtful
        # The gate rounds [1, R] logits; scores and weights are single rows.
        slack = SCORE_SLACK * np.abs(values)
        if values.ndim == 2:
            slack = LOGIT_SLACK * np.max(np.abs(values))
        doubtful = doubtful or _near_boundary(values, slack, dtype)
        return dtypes.round_to(values, dtype)

    if spec.router == "expert_choice":
        routing.gate(single, alone, watching)
        return doubtful
    out = routing.route_tokens(single, alone, watching)
    if doubtful or spec.indices:
        return doubtful
    if out.group_scores.size:
        # Only the cut between the kept and the dropped groups matters.
        ordered = np.sort(out.group_scores[0])[::-1]
        cut = ordered[spec.kept_groups - 1 : spec.kept_groups + 1]
        if cut[0] - cut[1] <= KEY_GAP * np.max(np.abs(ordered)):
            return True
    keys = out.keys[0]
    if spec.group_fill == "zero" and out.group_scores.size:
        # Filled keys are the same zero everywhere: one of them competes.
        keys = np.unique(keys)
    return _close(keys, spec.top_k, KEY_GAP)


def _rivals(spec: LayerSpec, inputs: dict[str, np.ndarray]) -> set[int]:
    """Tokens whose order against another token could go either way."""
    if spec.router != "expert_choice" and spec.capacity != "prioritized":
        return set()
    out = routing.route(spec, inputs)
    rivals: set[int] = set()

    def scan(tokens: list[int], values: np.ndarray, count: int) -> None:
        order = sorted(range(len(tokens)), key=lambda at: -values[at])
        slack = PRIORITY_GAP * float(np.max(np.abs(values), initial=0.0))
        for at, after in list(zip(order, order[1:]))[:count]:
            if values[at] - values[after] <= slack:
                rivals.add(tokens[after])

    groups = routing.token_groups(spec, inputs)
    for at, group in enumerate(groups):
        live = [t for t in group if not routing.is_masked(spec, inputs, t)]
        if spec.router == "expert_choice":
            for expert in range(spec.experts):
                column = np.array([out.scores[t, expert] for t in live])
                scan(live, column, out.capacities[at])
        else:
            scan(live, out.chosen_weights[live, 0], len(live))
    return rivals


def draw_inputs(
    spec: LayerSpec,
    seed: int,
    tokens: int,
    token_groups: int = 1,
    **given: np.ndarray,
) -> dict[str, np.ndarray]:
    """Operands of a layer on `tokens` tokens, with clear-cut routing.

    Values are float64 (representable in the operand's type), int32 or bool.
    Operands in `given` are taken as they are. Raises RuntimeError where a
    layer leaves no clear-cut inputs.
    """
    inputs: dict[str, np.ndarray] = {}
    for operand in spec.operands(tokens, token_groups):
        if operand.name in given:
            inputs[operand.name] = given[operand.name]
        elif operand.name == "x":
            inputs["x"] = np.zeros(operand.shape)
        else:
            stream = Stream(seed, operand.name)
            inputs[operand.name] = _operand(spec, operand, stream, tokens)
    if "x" in given:
        return inputs
    attempts = [0] * tokens
    pending = set(range(tokens))
    while pending:
        for token in sorted(pending):
            while True:
                if attempts[token] == ATTEMPTS:
                    raise RuntimeError(f"{spec.stated()}: no clear-cut inputs")
                stream = Stream(seed, "x", token, attempts[token])
                attempts[token] += 1
                inputs["x"][token] = dtypes.round_to(
                    stream.normal(spec.hidden), spec.x_dtype
                )
                if not _is_fragile(spec, inputs, token):
                    break
        pending = _rivals(spec, inputs)
    return inputs
