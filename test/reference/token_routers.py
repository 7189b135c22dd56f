# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Token-choice routers with a law of their own, in float64.

ProbMoE (arXiv 2606.01509, formulas as in the authors' code), MOESART (ICLR
2024 submission KTq2XSBNsa, formulas as in the first author's code; the
paper's own text was not at hand). The routers with added noise and the rest
are in noisy_routers.py, gradients in router_gradients.py.

All take logits [T, E] and return ids [T, slots] i32 and weights [T, slots].
Rules common to all of them:
  - Random numbers are operands; where they come from is philox.py's matter.
  - An empty slot is id -1, weight 0; empty slots come last.
  - Ties: the larger value first, then the lower expert. NaN loses to all.
  - A logit of -inf marks an expert that cannot be chosen. A row with fewer
    than k others (the admissible experts) fills fewer slots.
  - A row with a NaN or a +inf has NaN weights; its ids are placeholders,
    distinct and in range.
  - mask [T]: a token whose entry is false has only empty slots.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Sequence

import numpy as np

import subsets
from subsets import NEVER

EMPTY = -1


@dataclasses.dataclass
class Routed:
    """What every token router returns.

    margin [T] is the distance of the random numbers of a token to the nearest
    threshold that would have changed its ids; inf where nothing is random.
    """

    ids: np.ndarray  # [T, slots] i32
    weights: np.ndarray  # [T, slots]
    probs: np.ndarray  # [T, E] softmax of the logits
    margin: np.ndarray  # [T]


@dataclasses.dataclass
class SubsetRouted(Routed):
    """ProbMoE: also the law of the set."""

    marginals: np.ndarray  # [T, E]
    log_prob: np.ndarray  # [T] log P(S) of the chosen set
    entropy: np.ndarray  # [T]


@dataclasses.dataclass
class SampledRouted(Routed):
    """MOESART: also how often each slot was drawn, and the kept slot."""

    counts: np.ndarray  # [T, slots] i32, 0 in an empty slot
    kept: np.ndarray  # [T] i32, -1 where no slot is kept


def softmax(values: np.ndarray) -> np.ndarray:
    """Softmax over the last axis; 0 for -inf, also when all are -inf.

    A row with a NaN or a +inf is all NaN.
    """
    out = np.zeros(values.shape)
    for index in np.ndindex(values.shape[:-1]):
        row = values[index]
        if subsets.unusable(row):
            out[index] = math.nan
        elif len(subsets.admissible(row)) > 0:
            shifted = np.exp(row - np.max(row))
            out[index] = shifted / math.fsum(shifted)
    return out


def best(values: np.ndarray, count: int) -> list[int]:
    """The `count` largest, best first, ties to the lower index, NaN last."""
    order = np.argsort(-values, kind="stable")
    return [int(index) for index in order[:count]]


def best_admissible(row: np.ndarray, count: int) -> list[int]:
    """The same, leaving out -inf unless the row is unusable anyway."""
    chosen = best(row, count)
    if subsets.unusable(row):
        return chosen
    return [index for index in chosen if row[index] != NEVER]


def put(
    routed: Routed, token: int, ids: Sequence[int], weights: Sequence[float]
) -> None:
    """Fills the first slots of a token."""
    for slot, (expert, weight) in enumerate(zip(ids, weights)):
        routed.ids[token, slot] = expert
        routed.weights[token, slot] = weight


def empty_slots(tokens: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """ids -1 and weights 0, [T, slots] each."""
    ids = np.full((tokens, slots), EMPTY, dtype=np.int32)
    return ids, np.zeros((tokens, slots))


def live_tokens(tokens: int, mask: np.ndarray | None) -> list[int]:
    """The tokens that take part in routing."""
    if mask is None:
        return list(range(tokens))
    return [token for token in range(tokens) if mask[token]]


# ProbMoE.


def probmoe(
    logits: np.ndarray,
    kmin: int,
    kmax: int,
    uniforms: np.ndarray | None = None,
    normalize: bool = False,
    mask: np.ndarray | None = None,
) -> SubsetRouted:
    """ProbMoE, exact k (kmin = kmax) or dynamic k; kmax slots.

    Training (uniforms [T, E], [T, E+1] for a band): S is drawn from the law
    of subsets.py, ids ascending.
    Inference (no uniforms): the most likely S, ids by decreasing logit: the k
    largest; in a band clamp(number of logits > 0, kmin, kmax) of them.
    Weights: softmax over ALL experts at the ids, not renormalised, in both;
    with `normalize` (norm_topk_prob of the models) inference divides them by
    their sum, training never does.
    """
    tokens = logits.shape[0]
    ids, weights = empty_slots(tokens, kmax)
    routed = SubsetRouted(
        ids=ids,
        weights=weights,
        probs=softmax(logits),
        margin=np.full(tokens, math.inf),
        marginals=np.zeros(logits.shape),
        log_prob=np.zeros(tokens),
        entropy=np.zeros(tokens),
    )
    for token in live_tokens(tokens, mask):
        row = logits[token]
        if uniforms is None:
            chosen = subsets.most_likely(row, kmin, kmax)
        else:
            sample = subsets.draw(row, kmin, kmax, uniforms[token])
            chosen, routed.margin[token] = sample.ids, sample.margin
        picked = routed.probs[token, chosen]
        if uniforms is None and normalize:
            picked = picked / np.sum(picked)
        put(routed, token, chosen, picked)
        routed.marginals[token] = subsets.marginals(row, kmin, kmax)
        routed.log_prob[token] = subsets.log_probability(
            row, chosen, kmin, kmax
        )
        routed.entropy[token] = subsets.entropy(row, kmin, kmax)
    return routed


# MOESART.

STRATEGIES = ("zero", "small_random", "large")


def inverse_cdf(probs: np.ndarray, uniform: float) -> tuple[int, float]:
    """The smallest index with uniform < cumulative sum; and the margin.

    Should rounding leave the last sum at or below the uniform, the last index
    with positive probability (the original code falls to index 0 there).
    """
    cumulative = np.cumsum(probs)
    positive = np.flatnonzero(probs > 0.0)
    above = np.flatnonzero(uniform < cumulative)
    drawn = int(above[0]) if len(above) else int(positive[-1])
    drawn = min(drawn, int(positive[-1]))
    steps = cumulative[positive[:-1]]
    margin = np.min(np.abs(uniform - steps)) if len(steps) else math.inf
    return drawn, float(margin)


def draw_sequence(
    row: np.ndarray, k: int, replacement: bool, uniforms: np.ndarray
) -> tuple[list[int], float]:
    """The experts drawn one after the other with uniforms[0], [1], ...

    Without replacement (Plackett-Luce) a drawn expert is struck out and the
    rest renormalised; the draws end when no admissible expert is left.
    """
    left = row.copy()
    drawn: list[int] = []
    margin = math.inf
    for uniform in uniforms[:k]:
        if len(subsets.admissible(left)) == 0:
            break
        expert, distance = inverse_cdf(softmax(left), float(uniform))
        margin = min(margin, distance)
        drawn.append(expert)
        if not replacement:
            left[expert] = NEVER
    return drawn, margin


def support(drawn: Sequence[int]) -> tuple[list[int], list[int]]:
    """Distinct experts in the order first drawn, and how often each was."""
    distinct = list(dict.fromkeys(drawn))
    return distinct, [list(drawn).count(expert) for expert in distinct]


def moesart_weights(
    row: np.ndarray,
    experts: Sequence[int],
    counts: Sequence[int],
    kept: int,
    strategy: str,
) -> np.ndarray:
    """Softmax over the support of the adjusted logits, [len(experts)].

    n_i are the counts, k their sum, g the softmax of the row [E]:
      zero          o_i + log n_i - log(k g_i)
      small_random  o_j + log n_j for the kept slot j,
                    o_i + log n_i - log((k - 1) g_i) for the others
      large         o_i + log n_i
    The 1e-10 that the original code adds to g is left out. o_i - log g_i is
    the same number for all i, so `zero` gives n_i / k exactly.
    """
    draws = sum(counts)
    top = float(np.max(row))
    log_total = top + math.log(math.fsum(np.exp(row - top)))
    adjusted = np.zeros(len(experts))
    for slot, (expert, count) in enumerate(zip(experts, counts)):
        log_g = row[expert] - log_total
        adjusted[slot] = row[expert] + math.log(count)
        if strategy == "zero":
            adjusted[slot] -= math.log(draws) + log_g
        elif strategy == "small_random" and slot != kept:
            adjusted[slot] -= math.log(draws - 1) + log_g
    return softmax(adjusted)


def moesart_empty(logits: np.ndarray, k: int) -> SampledRouted:
    """A MOESART result without any choice yet."""
    tokens = logits.shape[0]
    ids, weights = empty_slots(tokens, k)
    return SampledRouted(
        ids=ids,
        weights=weights,
        probs=softmax(logits),
        margin=np.full(tokens, math.inf),
        counts=np.zeros((tokens, k), dtype=np.int32),
        kept=np.full(tokens, EMPTY, dtype=np.int32),
    )


def moesart_training(
    logits: np.ndarray,
    k: int,
    uniforms: np.ndarray,
    strategy: str = "small_random",
    replacement: bool = False,
    temperature: float = 1.0,
    mask: np.ndarray | None = None,
) -> SampledRouted:
    """MOESART, training; uniforms [T, k+1], slots k.

    o = logits / temperature, g = softmax(o). Draw d (0 .. k-1) uses uniform d
    by inverse CDF over g. Slots are the distinct experts in the order first
    drawn, so with replacement some may stay empty. small_random keeps slot
    floor(u_k * number of full slots). Weights: moesart_weights.
    Without replacement a row with n < k admissible experts has n draws.
    """
    if strategy not in STRATEGIES:
        raise ValueError(strategy)
    scaled = logits / temperature
    routed = moesart_empty(scaled, k)
    for token in live_tokens(logits.shape[0], mask):
        row = scaled[token]
        if subsets.unusable(row):
            put(routed, token, range(k), [math.nan] * k)
            routed.counts[token] = 1
            continue
        drawn, margin = draw_sequence(row, k, replacement, uniforms[token])
        experts, counts = support(drawn)
        if not experts:
            continue
        kept = EMPTY
        if strategy == "small_random":
            position = float(uniforms[token, k]) * len(experts)
            kept = min(int(position), len(experts) - 1)
            for edge in range(1, len(experts)):
                margin = min(margin, abs(position - edge) / len(experts))
        weights = moesart_weights(row, experts, counts, kept, strategy)
        put(routed, token, experts, weights)
        routed.counts[token, : len(counts)] = counts
        routed.kept[token] = kept
        routed.margin[token] = margin
    return routed


def moesart_inference(
    logits: np.ndarray, k: int, mask: np.ndarray | None = None
) -> SampledRouted:
    """MOESART, inference: the k largest logits, weight 1/k each.

    The code subtracts log(k g_i) and takes the softmax over the chosen, which
    is 1/k whatever the logits. With n < k admissible experts: 1/n.
    """
    routed = moesart_empty(logits, k)
    for token in live_tokens(logits.shape[0], mask):
        chosen = best_admissible(logits[token], k)
        weight = 1.0 / len(chosen) if chosen else 0.0
        if subsets.unusable(logits[token]):
            weight = math.nan
        put(routed, token, chosen, [weight] * len(chosen))
        routed.counts[token, : len(chosen)] = 1
    return routed
