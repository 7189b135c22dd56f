# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Token routers around a softmax and noise, in float64.

Noisy top-k (Shazeer et al., arXiv 1701.06538, as in tensor2tensor), V-MoE
(2106.05974, as in google-research/vmoe), GShard top-2 (2006.16668, as in
tensorflow/mesh, lingvo and DeepSpeed), Gumbel top-1 (DeepSpeed's RSample),
SparseMixer-v2 (PhiMoE, as in huggingface/transformers), ReMoE (2412.14711, as
in its authors' code).

The rules for ties, -inf, NaN, masks and empty slots are those at the head of
token_routers.py. Here `margin` is the smallest gap between the perturbed
values (or between a random number and its threshold) that decides a choice.
Without random operands every router takes its deterministic, inference form.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import subsets
from routing import softplus
from subsets import NEVER
from token_routers import EMPTY, Routed, best, best_admissible
from token_routers import empty_slots, live_tokens, put, softmax

NOISE_FLOOR = 1e-2


@dataclasses.dataclass
class NoisyRouted(Routed):
    """A choice by noisy values, and the smooth load of every expert."""

    noisy: np.ndarray  # [T, E] the values compared
    sigma: np.ndarray  # [T, E] standard deviation of the noise
    load: np.ndarray  # [E]


def base(logits: np.ndarray, slots: int) -> dict[str, np.ndarray]:
    """The fields of Routed, all slots empty."""
    ids, weights = empty_slots(logits.shape[0], slots)
    margin = np.full(logits.shape[0], math.inf)
    probs = softmax(logits)
    return {"ids": ids, "weights": weights, "probs": probs, "margin": margin}


def order_margin(values: np.ndarray, count: int) -> float:
    """Smallest gap between neighbours among the count + 1 largest."""
    ordered = np.sort(values[np.isfinite(values)])[::-1][: count + 1]
    if len(ordered) < 2:
        return math.inf
    return float(np.min(ordered[:-1] - ordered[1:]))


def normal_cdf(value: float) -> float:
    """Phi(v), accurate in both tails; NaN for NaN."""
    return 0.5 * math.erfc(-value / math.sqrt(2.0))


def above_chance(clean: float, threshold: float, sigma: float) -> float:
    """P(clean + sigma N > threshold); 0 for -inf, 1 against nothing."""
    if clean == NEVER:
        return 0.0
    if threshold == NEVER:
        return 1.0
    return normal_cdf((clean - threshold) / sigma)


def row_thresholds(noisy: np.ndarray, k: int) -> tuple[float, float]:
    """The k-th and the (k+1)-th largest, -inf where there is none."""
    order = best(noisy, len(noisy))
    at = [float(noisy[expert]) for expert in order]
    at += [NEVER, NEVER]
    return at[k - 1], at[k]


# Noisy top-k.


def shazeer_load(
    clean: np.ndarray, noisy: np.ndarray, sigma: np.ndarray, k: int
) -> np.ndarray:
    """P(the entry is among the top k if its noise is drawn again), [T, E].

    Phi((clean - threshold) / sigma); an entry strictly above the (k+1)-th
    noisy value has that as its threshold, any other entry the k-th.
    """
    out = np.zeros(clean.shape)
    for token, row in enumerate(noisy):
        kth, next_one = row_thresholds(row, k)
        for expert, value in enumerate(row):
            threshold = next_one if value > next_one else kth
            out[token, expert] = above_chance(
                clean[token, expert], threshold, sigma[token, expert]
            )
    return out


def noisy_top_k(
    clean: np.ndarray,
    k: int,
    noise_logits: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> NoisyRouted:
    """Noisy top-k gating.

    Training (noise_logits and normals, [T, E]): sigma = softplus(noise
    logits) + 1e-2, noisy = clean + normals * sigma. Otherwise sigma = 0.
    Weights: softmax over the k largest noisy values alone.
    load [E]: sum over tokens of shazeer_load; with k = E or without noise the
    number of tokens whose weight of the expert is positive.
    """
    tokens, experts = clean.shape
    sigma = np.zeros(clean.shape)
    noisy = clean.astype(np.float64)
    if normals is not None and noise_logits is not None:
        for index, value in np.ndenumerate(noise_logits):
            sigma[index] = softplus(float(value)) + NOISE_FLOOR
        noisy = clean + normals * sigma
    routed = NoisyRouted(
        **base(clean, k), noisy=noisy, sigma=sigma, load=np.zeros(experts)
    )
    live = live_tokens(tokens, mask)
    for token in live:
        chosen = best_admissible(noisy[token], k)
        weights = softmax(noisy[token, chosen])
        if subsets.unusable(noisy[token]):
            weights = np.full(len(chosen), math.nan)
        put(routed, token, chosen, weights)
        routed.margin[token] = order_margin(noisy[token], k)
        if normals is None or k == experts:
            for expert, weight in zip(chosen, weights):
                routed.load[expert] += float(weight > 0.0)
    if normals is not None and k < experts:
        chance = shazeer_load(clean[live], noisy[live], sigma[live], k)
        routed.load = np.sum(chance, axis=0)
    return routed


# V-MoE.


def vmoe_load(
    clean: np.ndarray, noisy: np.ndarray, sigma: float, k: int
) -> np.ndarray:
    """Phi((clean - k-th largest noisy) / sigma), [T, E]."""
    out = np.zeros(clean.shape)
    for token, row in enumerate(noisy):
        kth, _ = row_thresholds(row, k)
        for expert in range(len(row)):
            out[token, expert] = above_chance(
                clean[token, expert], kth, sigma
            )
    return out


def vmoe(
    logits: np.ndarray,
    k: int,
    normals: np.ndarray | None = None,
    noise_std: float | None = None,
    mask: np.ndarray | None = None,
) -> NoisyRouted:
    """V-MoE: softmax of the noisy logits, then top-k, not renormalised.

    noisy = logits + noise_std * normals, noise_std = 1/E unless given; no
    noise at inference. load [E]: mean over tokens of vmoe_load (0 without
    noise, where the source has no load loss). probs are those of the clean
    logits, which the importance loss takes.
    """
    tokens, experts = logits.shape
    std = 1.0 / experts if noise_std is None else noise_std
    noisy = logits.astype(np.float64)
    if normals is not None:
        noisy = logits + std * normals
    routed = NoisyRouted(
        **base(logits, k),
        noisy=noisy,
        sigma=np.full(logits.shape, std if normals is not None else 0.0),
        load=np.zeros(experts),
    )
    gates = softmax(noisy)
    live = live_tokens(tokens, mask)
    for token in live:
        chosen = best_admissible(noisy[token], k)
        put(routed, token, chosen, gates[token, chosen])
        routed.margin[token] = order_margin(noisy[token], k)
    if normals is not None and live:
        chance = vmoe_load(logits[live], noisy[live], std, k)
        routed.load = np.mean(chance, axis=0)
    return routed


# Capacity queues, and GShard's two experts.


def queue_positions(
    ids: np.ndarray,
    experts: int,
    capacity: int,
    priority: np.ndarray | None = None,
) -> np.ndarray:
    """The place of every slot in its expert's queue, [T, slots]; one group.

    All slots 0 come before all slots 1; inside a slot the order is that of
    the tokens, or of decreasing priority [T] (V-MoE's batch prioritised
    routing). A later slot's queue starts behind the kept entries of the
    earlier slots. -1 for an empty slot; a place >= capacity is dropped.
    """
    tokens, slots = ids.shape
    order = list(range(tokens))
    if priority is not None:
        order = best(priority, tokens)
    positions = np.full(ids.shape, EMPTY, dtype=np.int64)
    kept = [0] * experts
    for slot in range(slots):
        length = list(kept)
        for token in order:
            expert = int(ids[token, slot])
            if expert >= 0:
                positions[token, slot] = length[expert]
                length[expert] += 1
        kept = [min(count, capacity) for count in length]
    return positions


@dataclasses.dataclass
class TopTwo(Routed):
    """GShard: both choices, before the policy and the capacity."""

    choices: np.ndarray  # [T, 2] first and second expert
    positions: np.ndarray  # [T, 2] in the queues, -1 where not queued


SECOND_POLICIES = ("all", "none", "threshold", "random", "sampling")


def second_choice(
    row: np.ndarray, first: int, gumbels: np.ndarray | None
) -> tuple[int, float]:
    """The best of the rest, after adding Gumbels if there are any."""
    values = np.array(row, dtype=np.float64)
    if gumbels is not None:
        values += gumbels
    others = [expert for expert in range(len(row)) if expert != first]
    chosen = best_admissible(values[others], 1)
    if not chosen:
        return EMPTY, math.inf
    return others[chosen[0]], order_margin(values[others], 1)


def gshard_top2(
    logits: np.ndarray,
    policy: str = "all",
    threshold: float = 0.2,
    normalize: str = "before",
    uniforms: np.ndarray | None = None,
    gumbels: np.ndarray | None = None,
    capacity: int | None = None,
    eps: float = 1e-9,
    mask: np.ndarray | None = None,
) -> TopTwo:
    """GShard's two experts of one group of tokens; 2 slots.

    p = softmax; the first is its argmax, the second the best of the rest
    (`sampling`: of logits + gumbels [T, E] over the rest). With
    normalize="before", g = p / (p1 + p2 + eps) (mesh); with "after" the
    policy sees the raw p, and what is left after policy and capacity is
    divided by its sum, at least eps (lingvo, DeepSpeed). A dropped slot
    keeps its place, with id -1 and weight 0.
    The second is kept
      all, sampling  always           threshold  iff g2 > threshold
      none           never            random     iff uniform [T] < g2/threshold
    (torchscale's rule 2 g2 > u is `random` with threshold 1/2).
    """
    if policy not in SECOND_POLICIES or normalize not in ("before", "after"):
        raise ValueError(f"{policy}, {normalize}")
    tokens, experts = logits.shape
    choices = np.full((tokens, 2), EMPTY, dtype=np.int32)
    gates = np.zeros((tokens, 2))
    queued = choices.copy()
    routed = TopTwo(**base(logits, 2), choices=choices, positions=choices)
    for token in live_tokens(tokens, mask):
        row = logits[token]
        found = best_admissible(row, 1)
        if not found:
            continue
        noise = gumbels[token] if policy == "sampling" else None
        second, gap = second_choice(row, found[0], noise)
        choices[token] = found[0], second
        g1 = routed.probs[token, found[0]]
        g2 = routed.probs[token, second] if second >= 0 else 0.0
        if normalize == "before":
            g1, g2 = g1 / (g1 + g2 + eps), g2 / (g1 + g2 + eps)
        gates[token] = g1, g2
        routed.margin[token] = min(order_margin(row, 1), gap)
        keep = policy in ("all", "sampling")
        if policy == "threshold":
            keep = g2 > threshold
            routed.margin[token] = min(
                routed.margin[token], abs(g2 - threshold)
            )
        elif policy == "random":
            ratio = g2 / max(threshold, 1e-9)
            keep = uniforms[token] < ratio
            routed.margin[token] = min(
                routed.margin[token], abs(uniforms[token] - ratio)
            )
        queued[token] = found[0], second if keep else EMPTY
    limit = tokens if capacity is None else capacity
    routed.positions = queue_positions(queued, experts, limit)
    kept = (queued >= 0) & (routed.positions < limit)
    routed.ids[kept] = queued[kept]
    routed.weights[kept] = gates[kept]
    if normalize == "after":
        total = np.sum(routed.weights, axis=1, keepdims=True)
        routed.weights = np.where(
            kept, routed.weights / np.maximum(total, eps), 0.0
        )
    return routed


# One expert by Gumbel-max.


def gumbel_top1(
    logits: np.ndarray,
    gumbels: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> Routed:
    """argmax(logits + gumbels), weight the clean softmax there; 1 slot."""
    routed = Routed(**base(logits, 1))
    noisy = logits if gumbels is None else logits + gumbels
    for token in live_tokens(logits.shape[0], mask):
        chosen = best_admissible(noisy[token], 1)
        put(routed, token, chosen, routed.probs[token, chosen])
        routed.margin[token] = order_margin(noisy[token], 1)
    return routed


# SparseMixer-v2.

# The constant of the code; the rule it comes from (Heun's third-order
# method) has 1/3.
MIXER_THIRD = 0.3333


@dataclasses.dataclass
class MixerRouted(Routed):
    """SparseMixer-v2: two rounds of choice."""

    multipliers: np.ndarray  # [T, 2] p at the choice, without the factor h
    round_probs: np.ndarray  # [T, 2, E] softmax over the unmasked


def mixer_round(
    row: np.ndarray, left: np.ndarray, eps: float
) -> tuple[np.ndarray, float]:
    """Logits of one round, -inf where masked; and the margin of the masks.

    left [E] is the row with earlier choices at -inf, mx its largest entry.
    Masked iff (mx - s_i) / max(|s_i|, mx) > 2 eps; an undefined quotient
    masks nothing.
    """
    top = float(np.max(left))
    out, margin = left.copy(), math.inf
    for expert, score in enumerate(row):
        below = max(abs(float(score)), top)
        if left[expert] == NEVER or below == 0.0:
            continue
        quotient = (top - float(score)) / below
        margin = min(margin, abs(quotient - 2.0 * eps))
        if quotient > 2.0 * eps:
            out[expert] = NEVER
    return out, margin


def sparsemixer(
    logits: np.ndarray,
    eps: float,
    gumbels: np.ndarray | None = None,
    uniforms: np.ndarray | None = None,
    third: float = MIXER_THIRD,
    mask: np.ndarray | None = None,
) -> MixerRouted:
    """SparseMixer-v2, two experts, not renormalised.

    Each round masks (mixer_round), p = softmax over the unmasked, takes the
    argmax of the masked logits (training: of masked logits + gumbels
    [T, 2, E]) and has the multiplier w = p there. Training weights are w h,
    h = 1 if the choice is the argmax or uniform [T, 2] > 3/4, else `third`.
    The second round starts with the first choice struck out.
    """
    tokens, experts = logits.shape
    routed = MixerRouted(
        **base(logits, 2),
        multipliers=np.zeros((tokens, 2)),
        round_probs=np.zeros((tokens, 2, experts)),
    )
    for token in live_tokens(tokens, mask):
        row = logits[token]
        if subsets.unusable(row):
            put(routed, token, best(row, 2), [math.nan] * 2)
            routed.multipliers[token] = math.nan
            routed.round_probs[token] = math.nan
            continue
        left, margin = row.astype(np.float64), math.inf
        for turn in range(2):
            if len(subsets.admissible(left)) == 0:
                break
            scores, gap = mixer_round(row, left, eps)
            probs = softmax(scores)
            noisy, factor = scores, 1.0
            if gumbels is not None:
                noisy = scores + gumbels[token, turn]
            chosen = best(noisy, 1)[0]
            margin = min(margin, gap, order_margin(noisy, 1))
            if uniforms is not None and chosen != best(scores, 1)[0]:
                uniform = float(uniforms[token, turn])
                factor = 1.0 if uniform > 0.75 else third
                margin = min(margin, abs(uniform - 0.75))
            routed.ids[token, turn] = chosen
            routed.weights[token, turn] = probs[chosen] * factor
            routed.multipliers[token, turn] = probs[chosen]
            routed.round_probs[token, turn] = probs
            left[chosen] = NEVER
        routed.margin[token] = margin
    return routed


# ReMoE.


def remoe(logits: np.ndarray, mask: np.ndarray | None = None) -> Routed:
    """ReLU routing: every expert with a positive logit, weight the logit.

    E slots, ids ascending, the rest empty; no softmax, no normalisation. A
    row with a NaN or a +inf keeps its positive entries; a NaN is not
    positive.
    """
    experts = logits.shape[1]
    routed = Routed(**base(logits, experts))
    for token in live_tokens(logits.shape[0], mask):
        chosen = [e for e in range(experts) if logits[token, e] > 0.0]
        put(routed, token, chosen, logits[token, chosen])
        routed.margin[token] = float(np.min(np.abs(logits[token])))
    return routed
