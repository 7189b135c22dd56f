# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Routers of one token in NumPy f64, forward and backward.

All tokens go at a time. Written from the formulas of docs/Routers.md, not from the compiler. The laws
of ProbMoE are enumerated: few experts have few subsets. T tokens, E experts, k
slots; logits r [T, E], pi = softmax(r). Rows are finite: a model that trains.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np

from .parts import softmax_backward

# From cotangents of weights [T, k] and loss to those of what was read.
Pull = Callable[[np.ndarray, float], dict[str, np.ndarray]]


@dataclasses.dataclass
class Routing:
    """A choice of experts; ids are -1 and weights 0 in empty slots."""

    ids: np.ndarray  # i64 [T, k]; k = E where experts choose
    weights: np.ndarray  # [T, k]
    scores: np.ndarray  # [T, E], rows sum to 1
    loss: float = 0.0
    pull: Pull | None = None
    ties: int = 0  # Choices that were given.
    taken: np.ndarray | None = None  # i32 [E, C] where experts choose.


# Random numbers.

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)


def uniforms(random: np.ndarray, tokens: int, draws: int) -> np.ndarray:
    """Numbers [T, draws] in [0, 1): Philox4x32-10, as in docs/Routers.md.

    random is (seed, layer, first token); a number depends on these, on the
    place of its token and on the draw.
    """
    seed, layer, first = (int(value) % 2**64 for value in random)
    blocks = -(-draws // 4)
    token = np.arange(tokens, dtype=np.uint64) + np.uint64(first)
    shape = (tokens, blocks)
    c0 = np.broadcast_to((token & LOW)[:, None], shape)
    c1 = np.broadcast_to((token >> np.uint64(32))[:, None], shape)
    c2 = np.broadcast_to(np.arange(blocks, dtype=np.uint64), shape)
    c3 = np.full(shape, layer % 2**32, np.uint64)
    keys = [seed % 2**32, seed // 2**32]
    for _ in range(10):
        p0 = c0 * np.uint64(PHILOX_MULTIPLIERS[0])
        p1 = c2 * np.uint64(PHILOX_MULTIPLIERS[1])
        c0, c1 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(keys[0]), p1 & LOW
        c2, c3 = (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(keys[1]), p0 & LOW
        keys = [(k + w) % 2**32 for k, w in zip(keys, PHILOX_WEYL)]
    words = np.stack([c0, c1, c2, c3], axis=-1).reshape(tokens, 4 * blocks)
    return (words[:, :draws] >> np.uint64(8)) * 2.0**-24


# Pieces.


def softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """Experts of the k largest of [T, E], best first, ties to the lower."""
    return np.argsort(-values, axis=1, kind="stable")[:, :k]


def gather(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """values [T, E] at ids [T, k], 0 where a slot is empty."""
    read = np.take_along_axis(values, np.maximum(ids, 0), axis=1)
    return np.where(ids >= 0, read, 0.0)


def scatter(ids: np.ndarray, values: np.ndarray, experts: int) -> np.ndarray:
    """Values [T, k] of distinct full slots at their experts, [T, E]."""
    out = np.zeros((len(ids), experts + 1))  # The last is for empty slots.
    np.put_along_axis(out, np.where(ids < 0, experts, ids), values, axis=1)
    return out[:, :experts]


# Losses: value and cotangent of the scores.


def balance(
    scores: np.ndarray, ids: np.ndarray
) -> tuple[float, np.ndarray]:
    """E sum_e f_e P_e: f the slots of e over T, a constant, P the mean."""
    tokens, experts = scores.shape
    share = np.bincount(ids[ids >= 0], minlength=experts) / tokens
    value = experts * float(share @ scores.mean(axis=0))
    return value, np.broadcast_to(experts * share / tokens, scores.shape)


def trimmed_lasso(scores: np.ndarray, k: int) -> tuple[float, np.ndarray]:
    """Mean over tokens of the scores outside of the k largest."""
    outside = np.ones(scores.shape)
    np.put_along_axis(outside, largest(scores, k), 0.0, axis=1)
    tokens = len(scores)
    return float((scores * outside).sum()) / tokens, outside / tokens


# Top-k. `given` are experts [T, k] for tokens that are nearly ties, or None.

# Relative difference of the k-th score and the next below which it is a tie.
# f32 has 6e-8, and rows that a hundred steps made differ by some 1e-6.
TIE = 1e-5


def top_k(
    logits: np.ndarray,
    k: int,
    coefficient: float,
    given: np.ndarray | None = None,
) -> Routing:
    """The k largest; softmax over all, divided by its sum over the chosen."""
    routing, pull = choose_by_scores(softmax(logits), k, coefficient, given)

    def pull_logits(d_weights: np.ndarray, d_loss: float) -> dict:
        d_scores = pull(d_weights, d_loss)
        return {"logits": softmax_backward(routing.scores, d_scores)}

    routing.pull = pull_logits
    return routing


def choose_by_scores(
    scores: np.ndarray,
    k: int,
    coefficient: float,
    given: np.ndarray | None,
) -> tuple[Routing, Callable[[np.ndarray, float], np.ndarray]]:
    """The k largest scores over their sum, with a balance loss.

    Also returns the way from cotangents of weights and loss to the scores'.
    """
    ids, ties = largest(scores, k), 0
    if given is not None:
        ordered = np.sort(scores, axis=1)[:, ::-1]
        tie = ordered[:, k - 1] - ordered[:, k] < TIE * ordered[:, k - 1]
        ids[tie] = given[tie]
        ties = int(tie.sum())
    picked = gather(scores, ids)
    total = picked.sum(axis=1, keepdims=True)
    weights = picked / total
    value, d_value = balance(scores, ids)

    def pull(d_weights: np.ndarray, d_loss: float) -> np.ndarray:
        along = (d_weights * weights).sum(axis=1, keepdims=True)
        d_picked = (d_weights - along) / total
        direct = scatter(ids, d_picked, scores.shape[1])
        return direct + d_loss * coefficient * d_value

    return (
        Routing(ids, weights, scores, coefficient * value, ties=ties), pull
    )  # fmt: skip


# ProbMoE.


@functools.lru_cache(maxsize=None)
def all_subsets(experts: int, low: int, high: int) -> np.ndarray:
    """Indicators [subsets, E] of the sets of low to high experts."""
    chosen = [
        subset
        for count in range(low, high + 1)
        for subset in itertools.combinations(range(experts), count)
    ]
    out = np.zeros((len(chosen), experts))
    for row, subset in enumerate(chosen):
        out[row, list(subset)] = 1.0
    return out


def draw_subset(
    logits: np.ndarray, low: int, high: int, u: np.ndarray
) -> np.ndarray:
    """Exact samples: ids [T, high], ascending, empty slots last.

    P(S) is proportional to exp(sum of r in S) for low <= |S| <= high. Of a
    band the size comes first, by inverse CDF with u[:, E]; then, from the last
    expert to the first and with j to take, expert i is taken iff
    u_i < w_i e_{j-1}(before i) / e_j(up to i), w = exp(r).
    """
    tokens, experts = logits.shape
    # The largest is 1; e_j has j factors of what was divided by.
    top = logits.max(axis=1)
    odds = np.exp(logits - top[:, None])
    table = np.zeros((experts + 1, tokens, high + 1))
    table[:, :, 0] = 1.0
    for i in range(experts):
        table[i + 1, :, 1:] = (
            table[i, :, 1:] + odds[:, i, None] * table[i, :, :-1]
        )
    left = np.full(tokens, high)
    if low < high:
        sizes = np.arange(low, high + 1)
        law = softmax(np.log(table[-1][:, sizes]) + sizes * top[:, None])
        steps = np.cumsum(law, axis=1)[:, :-1]
        left = low + (u[:, experts, None] >= steps).sum(axis=1)
    ids = np.full((tokens, high), -1)
    row = np.arange(tokens)
    for i in range(experts - 1, -1, -1):
        before = np.where(left > 0, table[i, row, left - 1], 0.0)
        take = u[:, i] * table[i + 1, row, left] < odds[:, i] * before
        take |= left == i + 1
        left = left - take
        ids[row[take], left[take]] = i
    # Slots were filled from the back, the lower experts in front.
    return ids


def subset_router(
    logits: np.ndarray, low: int, high: int, random: np.ndarray | None
) -> Routing:
    """ProbMoE: a sample with weights pi, not divided; or the likeliest set.

    The gradient is that of the weights g pi, g = m + stopgrad(z - m), where m
    are the exact marginals, whose Jacobian is the covariance of the law.
    """
    tokens, experts = logits.shape
    scores = softmax(logits)
    if random is None:
        order = largest(logits, high)
        count = np.clip((logits > 0.0).sum(axis=1), low, high)
        ids = np.where(np.arange(high) < count[:, None], order, -1)
        return Routing(ids, gather(scores, ids), scores)
    ids = draw_subset(
        logits, low, high, uniforms(random, tokens, experts + (low < high))
    )

    def pull(d_weights: np.ndarray, d_loss: float) -> dict:
        c = scatter(ids, np.where(ids >= 0, d_weights, 0.0), experts)
        sets = all_subsets(experts, low, high)
        law = softmax(logits @ sets.T)
        sums = (c * scores) @ sets.T
        mean = (law * sums).sum(axis=1, keepdims=True)
        # Cov v = E[z (z - m) v], the expectation over the law.
        marginal = (law * (sums - mean)) @ sets
        return {"logits": softmax_backward(scores, c) + marginal}

    return Routing(ids, gather(scores, ids), scores, 0.0, pull)


# MOESART.


def moesart(
    logits: np.ndarray,
    k: int,
    coefficient: float,
    random: np.ndarray | None,
) -> Routing:
    """k draws without replacement, one of which keeps its score.

    With g = softmax(r) the kept one weighs g / (1 + g), the others share the
    rest equally, and the router learns through that g alone, and through the
    trimmed lasso. In evaluation the k largest weigh 1 / k.
    """
    tokens, experts = logits.shape
    scores = softmax(logits)
    if random is None:
        ids = largest(logits, k)
        return Routing(ids, np.full(ids.shape, 1.0 / k), scores)
    u = uniforms(random, tokens, k + 1)
    row = np.arange(tokens)
    ids = np.zeros((tokens, k), np.int64)
    left = scores.copy()
    for draw in range(k):
        steps = np.cumsum(left, axis=1) / left.sum(axis=1, keepdims=True)
        past = (u[:, draw, None] >= steps).sum(axis=1)
        ids[:, draw] = np.minimum(past, experts - 1)
        left[row, ids[:, draw]] = 0.0
    kept = np.minimum((u[:, k] * k).astype(np.int64), k - 1)
    g = scores[row, ids[row, kept]]
    is_kept = np.arange(k) == kept[:, None]
    weights = np.where(
        is_kept, (g / (1 + g))[:, None], (1 / ((k - 1) * (1 + g)))[:, None]
    )
    value, d_value = trimmed_lasso(scores, k)

    def pull(d_weights: np.ndarray, d_loss: float) -> dict:
        sign = np.where(is_kept, 1.0, -1.0 / (k - 1))
        d_g = (d_weights * sign).sum(axis=1) / (1 + g) ** 2
        d_scores = d_loss * coefficient * d_value
        d_scores[row, ids[row, kept]] += d_g
        return {"logits": softmax_backward(scores, d_scores)}

    return Routing(ids, weights, scores, coefficient * value, pull)
