# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Routing in float64: logits, scores, choice, weights, capacity.

Written one token and one expert at a time, straight from the formulas, so
that each line can be held against its source. Sources: the published layer
families as read in huggingface/transformers (settings of one pipeline);
DeepSeek-V2 (arXiv 2405.04434) and DeepSeek-V3 (2412.19437) for expert
groups and the selection bias; Switch (2101.03961), GShard (2006.16668) and
V-MoE (2106.05974) for capacity; Expert Choice (2202.09368) and
tensorflow/mesh for its token axis.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Callable, Mapping

import numpy as np

from dtypes import round_to
from spec import LayerSpec

Inputs = Mapping[str, np.ndarray]
Rounder = Callable[[np.ndarray, str], np.ndarray]

RMS_EPS = 1e-6


@dataclasses.dataclass
class Routing:
    """Who works on what.

    Token choice: ids [T, k] i32 and weights [T, k] f64, slots in order of
    choice. Expert choice: ids [E, C] are tokens; with several token groups
    the columns of the groups follow each other, C being their sum.
    An empty slot is id -1, weight 0.
    """

    logits: np.ndarray  # [T, R], after bias and soft-cap
    scores: np.ndarray  # [T, R]; NaN where score_domain=topk has none
    keys: np.ndarray  # [T, R], what the choice compares
    group_scores: np.ndarray  # [T, groups]; empty without dropped groups
    ids: np.ndarray
    weights: np.ndarray
    chosen_ids: np.ndarray  # ids and weights before capacity took its part
    chosen_weights: np.ndarray
    capacities: list[int]  # per token group; empty without capacity


def no_rounding(values: np.ndarray, dtype: str) -> np.ndarray:
    """The rounder of exact evaluation."""
    del dtype
    return np.asarray(values, dtype=np.float64)


# Scalar functions. All of them return NaN for NaN.


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-v)), without overflow on either side."""
    if value >= 0.0:
        return 1.0 / (1.0 + math.exp(-value))
    small = math.exp(value)
    return small / (1.0 + small)


def softplus(value: float) -> float:
    """log(1 + exp(v)), without overflow."""
    if math.isnan(value):
        return value
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def softmax(row: np.ndarray) -> np.ndarray:
    """exp(r - max r) / sum of the same; all NaN for a NaN or +inf entry."""
    if row.size == 0:
        return row.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted = np.exp(row - np.max(row))
        return shifted / np.sum(shifted)


def score_row(kind: str, row: np.ndarray) -> np.ndarray:
    """The score function on one row of logits."""
    if kind == "softmax":
        return softmax(row)
    if kind == "sigmoid":
        return np.array([sigmoid(value) for value in row], dtype=np.float64)
    if kind == "sqrt_softplus":
        return np.array(
            [math.sqrt(softplus(value)) for value in row], dtype=np.float64
        )
    return row.astype(np.float64)


def beats(challenger: float, holder: float) -> bool:
    """Whether the challenger wins although the holder came first.

    A NaN loses to everything, also to -inf; -0 equals +0.
    """
    if math.isnan(holder):
        return not math.isnan(challenger)
    return challenger > holder


def largest(values: np.ndarray, count: int) -> list[int]:
    """Indices of the `count` largest values, best first, ties to the lower.

    Plain repeated selection: each round looks at every index not yet taken.
    """
    taken: list[int] = []
    for _ in range(count):
        best = -1
        for index in range(len(values)):
            if index in taken:
                continue
            if best < 0 or beats(values[index], values[best]):
                best = index
        taken.append(best)
    return taken


# Gate.


def router_input(spec: LayerSpec, inputs: Inputs, token: int) -> np.ndarray:
    """What the router reads of one token, [H].

    router_norm (Gemma 4): x / sqrt(mean x^2 + eps) * scale * H^-0.5.
    """
    row = inputs["x"][token]
    if not spec.router_norm:
        return row
    mean_square = sum(float(v) * float(v) for v in row) / spec.hidden
    normed = row / math.sqrt(mean_square + RMS_EPS)
    return normed * inputs["router_scale"] * spec.hidden**-0.5


def gate(spec: LayerSpec, inputs: Inputs, rounder: Rounder) -> np.ndarray:
    """Logits [T, R]: x W^T + bias, rounded once to logit_dtype; soft-cap."""
    tokens = inputs["x"].shape[0]
    logits = np.zeros((tokens, spec.router_width))
    for token in range(tokens):
        row = router_input(spec, inputs, token)
        for expert in range(spec.router_width):
            logit = np.dot(inputs["router_weight"][expert], row)
            if spec.router_bias:
                logit += inputs["router_bias"][expert]
            logits[token, expert] = logit
    logits = rounder(logits, spec.logit_dtype)
    if spec.softcap > 0.0:
        logits = spec.softcap * np.tanh(logits / spec.softcap)
    return logits


# Token choice.


def limit_groups(
    spec: LayerSpec, basis: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fills the keys of experts in dropped groups; also the group scores.

    Group scores come from `basis` [R], the biased scores: the largest of a
    group (DeepSeek-V2) or the sum of its two largest (DeepSeek-V3).
    """
    size = spec.router_width // spec.groups
    take = 1 if spec.group_score == "max" else 2
    group_scores = np.zeros(spec.groups)
    for group in range(spec.groups):
        members = basis[group * size : (group + 1) * size]
        best = largest(members, take)
        group_scores[group] = sum(members[index] for index in best)
    kept = largest(group_scores, spec.kept_groups)
    fill = -math.inf if spec.group_fill == "neg_inf" else 0.0
    filled = keys.copy()
    for expert in range(spec.router_width):
        if expert // size not in kept:
            filled[expert] = fill
    return filled, group_scores


def choice_keys(
    spec: LayerSpec, inputs: Inputs, logits: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the choice of one token compares, [R]; and its group scores.

    Score plus bias where there is a bias. Otherwise the logit, since every
    score here is increasing in it and a stored score can underflow into a
    false tie. A zero fill stands among scores, so there scores are compared;
    likewise a sum of two best is one of scores.
    """
    bias = inputs["selection_bias"] if spec.select_bias else 0.0
    biased = (logits if spec.score_domain == "topk" else scores) + bias
    keys = biased if spec.select_bias else logits
    if spec.kept_groups == spec.groups:
        return keys, np.zeros(0)
    if spec.group_fill == "zero":
        keys = biased
    basis = keys if spec.group_score == "max" else biased
    return limit_groups(spec, basis, keys)


def divisor(spec: LayerSpec, picked: list[float]) -> float:
    """What the chosen scores are divided by.

    The sum (or p-norm, DBRX), with eps added (DeepSeek-V3: 1e-20, LFM2:
    1e-6) or as a lower bound (ERNIE 4.5: 1e-12).
    """
    if spec.normalize == "none":
        return 1.0
    if spec.normalize == "sum":
        total = float(sum(picked))
    else:
        powers = sum(abs(value) ** spec.norm_p for value in picked)
        total = float(powers ** (1.0 / spec.norm_p))
    if spec.eps_mode == "add":
        return total + spec.eps
    return total if math.isnan(total) else max(total, spec.eps)


def token_weights(
    spec: LayerSpec,
    inputs: Inputs,
    logits: np.ndarray,
    scores: np.ndarray,
    ids: list[int],
    rounder: Rounder,
) -> np.ndarray:
    """Combine weights [k] of one token's ids (-1: an empty slot).

    Unbiased scores of the chosen, normalised over them, then scaled, then
    times the chosen expert's own scale; rounded once, at the end.
    """
    full = [slot for slot, expert in enumerate(ids) if expert >= 0]
    if spec.score_domain == "topk":
        row = np.array([logits[ids[slot]] for slot in full])
        picked = rounder(score_row(spec.score, row), spec.score_dtype)
    else:
        picked = np.array([scores[ids[slot]] for slot in full])
    below = divisor(spec, list(picked))
    weights = np.zeros(len(ids))
    for slot, score in zip(full, picked):
        weight = np.float64(score) / below * spec.scale
        if spec.expert_scale:
            weight *= inputs["expert_scale"][ids[slot]]
        weights[slot] = weight
    return rounder(weights, spec.route_dtype)


# Groups of tokens, masks, capacity.


def token_groups(spec: LayerSpec, inputs: Inputs) -> list[range]:
    """The token ranges that nothing crosses; one range by default."""
    if not spec.group_offsets:
        return [range(inputs["x"].shape[0])]
    bounds = [int(bound) for bound in inputs["group_offsets"]]
    return [range(low, high) for low, high in zip(bounds, bounds[1:])]


def is_masked(spec: LayerSpec, inputs: Inputs, token: int) -> bool:
    """A token whose mask entry is false takes no part in routing."""
    return spec.token_mask and not bool(inputs["token_mask"][token])


def capacity(spec: LayerSpec, tokens: int) -> int:
    """Assignments that one expert takes from a group of `tokens` tokens.

    The share factor * T / E (or T * k / E), rounded, then up to a multiple,
    then at least the minimum; or the fixed number.
    """
    if spec.capacity_fixed > 0:
        return spec.capacity_fixed
    slots = tokens * (spec.top_k if spec.capacity_per == "slots" else 1)
    share = spec.capacity_factor * slots / spec.experts
    if spec.capacity_rounding == "floor":
        count = math.floor(share)
    elif spec.capacity_rounding == "ceil":
        count = math.ceil(share)
    else:
        count = math.floor(share + 0.5)
    multiple = spec.capacity_multiple
    count = (count + multiple - 1) // multiple * multiple
    return max(spec.capacity_min, count)


def drop_over_capacity(
    spec: LayerSpec, group: range, ids: np.ndarray, weights: np.ndarray
) -> int:
    """Empties, in place, the slots that find their expert full.

    Queue order: every slot 0 before every slot 1 and so on; inside a slot by
    token, or by decreasing slot-0 weight (batch prioritised routing, V-MoE).
    Returns the group's capacity.
    """
    limit = capacity(spec, len(group))
    order = list(group)
    if spec.capacity == "prioritized":
        first = np.array([weights[token, 0] for token in group])
        order = [group[index] for index in largest(first, len(group))]
    served = [0] * spec.experts
    for slot in range(spec.top_k):
        for token in order:
            expert = int(ids[token, slot])
            if expert < 0:
                continue
            if served[expert] < limit:
                served[expert] += 1
            else:
                ids[token, slot] = -1
                weights[token, slot] = 0.0
    return limit


def logit_terms(spec: LayerSpec, inputs: Inputs) -> np.ndarray:
    """Sums of the sizes of a logit's terms, [T, R]: |x| |W|^T + |bias|."""
    rows = [
        np.abs(router_input(spec, inputs, token))
        for token in range(inputs["x"].shape[0])
    ]
    weight = np.abs(inputs["router_weight"])
    terms = np.array(rows).reshape(-1, weight.shape[1]) @ weight.T
    if spec.router_bias:
        terms = terms + np.abs(inputs["router_bias"])
    return terms


def route_tokens(spec: LayerSpec, inputs: Inputs, rounder: Rounder) -> Routing:
    """Token choice: every token takes the k experts with the best keys."""
    tokens = inputs["x"].shape[0]
    width, slots = spec.router_width, spec.top_k
    logits = gate(spec, inputs, rounder)
    scores = np.full((tokens, width), np.nan)
    keys = np.full((tokens, width), np.nan)
    dropped_groups = spec.kept_groups < spec.groups
    shape = (tokens, spec.groups if dropped_groups else 0)
    group_scores = np.full(shape, np.nan)
    ids = np.full((tokens, slots), -1, dtype=np.int32)
    weights = np.zeros((tokens, slots))
    for token in range(tokens):
        if spec.score_domain == "all":
            scores[token] = rounder(
                score_row(spec.score, logits[token]), spec.score_dtype
            )
        keys[token], group_scores[token] = choice_keys(
            spec, inputs, logits[token], scores[token]
        )
        if is_masked(spec, inputs, token):
            continue
        if spec.indices:
            chosen = [int(expert) for expert in inputs["indices"][token]]
        else:
            chosen = largest(keys[token], slots)
        ids[token] = chosen
        weights[token] = token_weights(
            spec, inputs, logits[token], scores[token], chosen, rounder
        )
    chosen_ids, chosen_weights = ids.copy(), weights.copy()
    capacities = []
    if spec.capacity != "none":
        for group in token_groups(spec, inputs):
            capacities.append(drop_over_capacity(spec, group, ids, weights))
    return Routing(
        logits,
        scores,
        keys,
        group_scores,
        ids,
        weights,
        chosen_ids,
        chosen_weights,
        capacities,
    )


# Expert choice.


def choice_scores(
    spec: LayerSpec, inputs: Inputs, logits: np.ndarray, rounder: Rounder
) -> np.ndarray:
    """Softmax [T, E] over a token's experts, or over a group's tokens."""
    scores = np.zeros(logits.shape)
    if spec.choice_axis == "experts":
        for token in range(logits.shape[0]):
            scores[token] = softmax(logits[token])
        return rounder(scores, spec.score_dtype)
    for group in token_groups(spec, inputs):
        live = [t for t in group if not is_masked(spec, inputs, t)]
        for expert in range(spec.experts):
            column = softmax(np.array([logits[t, expert] for t in live]))
            for token, score in zip(live, column):
                scores[token, expert] = score
    return rounder(scores, spec.score_dtype)


def route_experts(
    spec: LayerSpec, inputs: Inputs, rounder: Rounder
) -> Routing:
    """Expert choice (arXiv 2202.09368): every expert takes its C best tokens.

    C is at most the group's size; a masked token cannot be chosen, so a slot
    without a candidate stays empty. Weights are the scores, not normalised;
    the mesh variant divides by the number of experts that took the token.
    """
    tokens = inputs["x"].shape[0]
    logits = gate(spec, inputs, rounder)
    scores = choice_scores(spec, inputs, logits, rounder)
    # Over tokens the score is increasing in the logit of its column.
    keys = logits if spec.choice_axis == "tokens" else scores
    groups = token_groups(spec, inputs)
    capacities = [
        min(capacity(spec, len(group)), len(group)) for group in groups
    ]
    ids = np.full((spec.experts, sum(capacities)), -1, dtype=np.int32)
    weights = np.zeros(ids.shape)
    taken_by = np.zeros(tokens, dtype=np.int64)
    first = 0
    for group, limit in zip(groups, capacities):
        live = [t for t in group if not is_masked(spec, inputs, t)]
        for expert in range(spec.experts):
            column = np.array([keys[t, expert] for t in live])
            for slot, at in enumerate(largest(column, min(limit, len(live)))):
                token = live[at]
                ids[expert, first + slot] = token
                weights[expert, first + slot] = scores[token, expert]
                taken_by[token] += 1
        first += limit
    if spec.choice_normalize:
        for index, token in np.ndenumerate(ids):
            if token >= 0:
                weights[index] /= max(1, int(taken_by[token]))
    weights = rounder(weights, spec.route_dtype)
    return Routing(
        logits,
        scores,
        keys,
        np.zeros((tokens, 0)),
        ids,
        weights,
        ids.copy(),
        weights.copy(),
        capacities,
    )


def route(spec: LayerSpec, inputs: Inputs, rounding: bool = True) -> Routing:
    """The routing of a layer, with or without the stated roundings."""
    rounder = round_to if rounding else no_rounding
    with np.errstate(all="ignore"):
        if spec.router == "expert_choice":
            return route_experts(spec, inputs, rounder)
        return route_tokens(spec, inputs, rounder)
