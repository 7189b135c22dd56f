# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Routers in which tokens meet, in float64: slots, assignments, mixing.

Soft MoE (arXiv 2308.00951, as in google-research/vmoe), capped expert choice
(2202.09368, with Dykstra's projections), BASE (2103.16716), Sinkhorn (as in
Megatron-LM), similarity- and attention-aware mixing (2505.00792), the
selection bias of DeepSeek-V3 (2408.15664).

RECONSTRUCTED, the papers' texts not having been at hand: the objective of
the capped expert choice, its strength and number of sweeps, the order of its
projections, and whether weights are scores or the assignment; every formula
of similarity- and attention-aware routing.

Rules common to all: nothing crosses a group (group_offsets [G+1]; None is
one group of all tokens); a token whose mask [T] entry is false is as if it
were not there: zero rows, never chosen, never a key. BASE and Sinkhorn take one
group of live tokens: call them once for each.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Callable

import numpy as np

import subsets
from routing import sigmoid
from subsets import log_sum_exp
from token_routers import EMPTY, best, best_admissible, softmax

Groups = list[list[int]]


def live_groups(
    tokens: int, offsets: np.ndarray | None, mask: np.ndarray | None
) -> Groups:
    """The tokens of every group that take part."""
    bounds = [0, tokens] if offsets is None else [int(at) for at in offsets]
    return [
        [t for t in range(low, high) if mask is None or mask[t]]
        for low, high in zip(bounds, bounds[1:])
    ]


# Soft MoE.

SOFT_EPS = 1e-6


def soft_norm(rows: np.ndarray) -> np.ndarray:
    """x / sqrt(sum x^2 + 1e-6) along the last axis, eps inside the root."""
    square = np.sum(rows * rows, axis=-1, keepdims=True)
    return rows / np.sqrt(square + SOFT_EPS)


def soft_logits(x: np.ndarray, phi: np.ndarray, scale: float) -> np.ndarray:
    """Logits [T, S] = norm(x [T, d]) scale norm(phi [d, S] along d)."""
    return soft_norm(x) @ (scale * soft_norm(phi.T).T)


def soft_route(
    logits: np.ndarray,
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """dispatch and combine, [T, S] each; slots S = experts * p.

    dispatch: per slot a softmax over the tokens of the group; combine: per
    token a softmax over all slots. Every group has S slots of its own; a
    group without live tokens leaves its slots with no input.
    """
    dispatch, combine = np.zeros(logits.shape), np.zeros(logits.shape)
    for group in live_groups(logits.shape[0], offsets, mask):
        dispatch[group] = softmax(logits[group].T).T
        combine[group] = softmax(logits[group])
    return dispatch, combine


def soft_inputs(
    x: np.ndarray, dispatch: np.ndarray, offsets: np.ndarray | None = None
) -> np.ndarray:
    """Slot inputs [G, S, d]: dispatch^T x of every group, x unnormalised."""
    groups = live_groups(x.shape[0], offsets, None)
    return np.stack([dispatch[group].T @ x[group] for group in groups])


def soft_outputs(
    slots: np.ndarray, combine: np.ndarray, offsets: np.ndarray | None = None
) -> np.ndarray:
    """y [T, d] = combine times the group's slot outputs [G, S, d]."""
    y = np.zeros((combine.shape[0], slots.shape[2]))
    groups = live_groups(combine.shape[0], offsets, None)
    for index, group in enumerate(groups):
        y[group] = combine[group] @ slots[index]
    return y


def soft_norm_backward(rows: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    """rho (c - n <n, c>), rho = rsqrt(sum x^2 + eps), n = rho x."""
    square = np.sum(rows * rows, axis=-1, keepdims=True)
    rho = 1.0 / np.sqrt(square + SOFT_EPS)
    normed = rho * rows
    along = np.sum(normed * cotangent, axis=-1, keepdims=True)
    return rho * (cotangent - normed * along)


@dataclasses.dataclass
class SoftGradient:
    """Gradients of a Soft MoE layer; those of its experts are theirs."""

    x: np.ndarray
    phi: np.ndarray
    scale: float
    logits: np.ndarray


def soft_backward(
    x: np.ndarray,
    phi: np.ndarray,
    scale: float,
    slot_outputs: np.ndarray,
    d_y: np.ndarray,
    expert_backward: Callable[[np.ndarray], np.ndarray],
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> SoftGradient:
    """Backward of logits, route, experts and combine.

    With dispatch D, combine C, slot inputs Xs and outputs Ys of a group:
      dYs = C^T dY, dC = dY Ys^T, dXs = expert_backward(dYs),
      dD = X dXs^T, dX = D dXs + through the logits,
      dlogits = C (dC - rowsum(C dC)) + D (dD - colsum(D dD)).
    expert_backward maps [G, S, d] to [G, S, d].
    """
    logits = soft_logits(x, phi, scale)
    dispatch, combine = soft_route(logits, offsets, mask)
    groups = live_groups(x.shape[0], offsets, None)
    d_slots = np.stack([combine[g].T @ d_y[g] for g in groups])
    d_inputs = expert_backward(d_slots)
    d_x, d_logits = np.zeros(x.shape), np.zeros(logits.shape)
    for index, group in enumerate(groups):
        c, d = combine[group], dispatch[group]
        d_c = d_y[group] @ slot_outputs[index].T
        d_d = x[group] @ d_inputs[index].T
        d_x[group] = d @ d_inputs[index]
        rows = c * (d_c - np.sum(c * d_c, axis=1, keepdims=True))
        columns = d * (d_d - np.sum(d * d_d, axis=0, keepdims=True))
        d_logits[group] = rows + columns
    normed, keys = soft_norm(x), soft_norm(phi.T)
    d_x += soft_norm_backward(x, scale * (d_logits @ keys))
    d_keys = scale * (d_logits.T @ normed)
    d_phi = soft_norm_backward(phi.T, d_keys).T
    d_scale = float(np.sum(d_logits * (normed @ keys.T)))
    return SoftGradient(d_x, d_phi, d_scale, d_logits)


# Expert choice with a cap.


def capped_assignment(
    scores: np.ndarray, k: int, cap: float, strength: float, sweeps: int
) -> np.ndarray:
    """A [E, T] of one group by Dykstra's KL projections, in log space.

    RECONSTRUCTED. argmax of <scores^T, A> + strength * entropy(A) with rows
    summing to k, columns to at most cap, 0 <= A <= 1. Start: log A =
    scores^T / strength. A sweep projects on
      rows      A scaled so that each sums to k (an affine set: no memory)
      columns   those above the cap scaled down to it
      entries   min(A, 1)
    where the two inequalities first undo their own last correction. It ends
    with the entries. A solution needs k <= T and E k <= cap T; the limit is
    unique, what a few sweeps give depends on this order.
    """
    log_a = scores.T.astype(np.float64) / strength
    column_memory = np.zeros(scores.shape[0])
    entry_memory = np.zeros(log_a.shape)
    for _ in range(sweeps):
        for expert in range(log_a.shape[0]):
            total = log_sum_exp(log_a[expert])
            log_a[expert] += math.log(k) - total
        for token in range(log_a.shape[1]):
            restored = log_a[:, token] + column_memory[token]
            above = log_sum_exp(restored) - math.log(cap)
            column_memory[token] = max(above, 0.0)
            log_a[:, token] = restored - column_memory[token]
        restored = log_a + entry_memory
        entry_memory = np.maximum(restored, 0.0)
        log_a = restored - entry_memory
    return np.exp(log_a)


@dataclasses.dataclass
class CappedChoice:
    """Expert choice: ids [E, C] of tokens, -1 empty; weights [E, C].

    C is the sum of the groups' k; the columns of the groups follow each
    other. assignment [T, E] is A transposed.
    """

    ids: np.ndarray
    weights: np.ndarray
    assignment: np.ndarray


def capped_expert_choice(
    logits: np.ndarray,
    counts: list[int],
    cap: float,
    strength: float = 1e-3,
    sweeps: int = 100,
    weigh_by: str = "scores",
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> CappedChoice:
    """Every expert takes counts[g] tokens of group g, a token about cap.

    Scores are the softmax over experts of logits [T, E]; ids the largest
    entries of the assignment row, ties to the lower token; weights the
    scores there or, weigh_by="assignment", the assignment (which of the two
    is RECONSTRUCTED). An expert takes at most the live tokens of a group, its
    other slots stay empty. Should A not be integral, the rounded ids can
    exceed the cap. The ids of a group with a NaN are placeholders.
    """
    tokens, experts = logits.shape
    scores = softmax(logits)
    ids = np.full((experts, sum(counts)), EMPTY, dtype=np.int32)
    weights = np.zeros(ids.shape)
    assignment = np.zeros(logits.shape)
    first = 0
    groups = live_groups(tokens, offsets, mask)
    for group, count in zip(groups, counts, strict=True):
        take = min(count, len(group))
        if take > 0:
            part = capped_assignment(
                scores[group], take, cap, strength, sweeps
            )
            assignment[group] = part.T
        for expert in range(experts if take > 0 else 0):
            for slot, at in enumerate(best(part[expert], take)):
                token = group[at]
                value = scores[token, expert]
                if weigh_by == "assignment":
                    value = assignment[token, expert]
                ids[expert, first + slot] = token
                weights[expert, first + slot] = value
        first += count
    return CappedChoice(ids, weights, assignment)


def expert_choice_backward(
    logits: np.ndarray, ids: np.ndarray, cotangents: np.ndarray
) -> np.ndarray:
    """Gradient [T, E] of scores read at ids [E, C]; cotangents [E, C].

    dS[ids[e, c], e] = cotangent, zero elsewhere, then softmax over experts.
    """
    d_scores = np.zeros(logits.shape)
    for (expert, slot), token in np.ndenumerate(ids):
        if token >= 0:
            d_scores[token, expert] += cotangents[expert, slot]
    probs = softmax(logits)
    means = np.sum(probs * d_scores, axis=1, keepdims=True)
    return probs * (d_scores - means)


# BASE and Sinkhorn.


def balanced_assignment(affinity: np.ndarray) -> np.ndarray:
    """Expert [T] of every token: equally many each, largest total affinity.

    Exact, by shortest augmenting paths on costs -affinity with T/E columns
    an expert (the Hungarian method with potentials). Where several
    assignments are best, which one is not specified: compare totals. BASE
    trains with it; its own solver is native code of another kind.
    """
    tokens, experts = affinity.shape
    if tokens % experts != 0:
        raise ValueError(f"{tokens} tokens on {experts} experts")
    size = tokens // experts
    cost = -np.repeat(affinity, size, axis=1)
    row_price, column_price = np.zeros(tokens + 1), np.zeros(tokens + 1)
    owner = [0] * (tokens + 1)  # row (from 1) of each column (from 1)
    for row in range(1, tokens + 1):
        owner[0], column = row, 0
        shortest = np.full(tokens + 1, math.inf)
        came_from, done = [0] * (tokens + 1), [False] * (tokens + 1)
        while owner[column] != 0:
            done[column] = True
            here, step, nearest = owner[column], math.inf, 0
            for other in range(1, tokens + 1):
                if done[other]:
                    continue
                reduced = cost[here - 1, other - 1]
                reduced -= row_price[here] + column_price[other]
                if reduced < shortest[other]:
                    shortest[other], came_from[other] = reduced, column
                if shortest[other] < step:
                    step, nearest = shortest[other], other
            for other in range(tokens + 1):
                if done[other]:
                    row_price[owner[other]] += step
                    column_price[other] -= step
                else:
                    shortest[other] -= step
            column = nearest
        while column != 0:
            owner[column] = owner[came_from[column]]
            column = came_from[column]
    out = np.zeros(tokens, dtype=np.int32)
    for column in range(1, tokens + 1):
        out[owner[column] - 1] = (column - 1) // size
    return out


def base_route(
    affinity: np.ndarray, training: bool
) -> tuple[np.ndarray, np.ndarray]:
    """BASE: ids [T, 1] and weights sigmoid(affinity) there.

    Training: balanced_assignment, inference: argmax. The layer's output is
    weight * expert(h) + (1 - weight) * h.
    """
    if training:
        chosen = balanced_assignment(affinity)
    else:
        picks = [best(row, 1)[0] for row in affinity]
        chosen = np.array(picks, dtype=np.int32)
    values = affinity[np.arange(len(chosen)), chosen]
    weights = np.array([sigmoid(float(value)) for value in values])
    return chosen[:, None], weights[:, None]


def sinkhorn(
    logits: np.ndarray, tolerance: float = 1e-4, floor: float = 1e-8
) -> tuple[np.ndarray, int]:
    """d0 K d1 [T, E] of K = exp(logits), and the number of iterations.

    d1 starts at 1; an iteration is d0 = 1 / (T (K d1 + floor)), then
    d1 = 1 / (E (K^T d0 + floor)); it is the last when the mean |change of
    d1| is at most the tolerance. No shift: exp may overflow for large logits.
    """
    kernel = np.exp(logits)
    tokens, experts = logits.shape
    d1, change, rounds = np.ones(experts), math.inf, 0
    d0 = np.ones(tokens)
    while change > tolerance:
        d0 = 1.0 / (tokens * (kernel @ d1 + floor))
        moved = 1.0 / (experts * (kernel.T @ d0 + floor))
        change = float(np.mean(np.abs(moved - d1)))
        d1, rounds = moved, rounds + 1
    return d0[:, None] * kernel * d1[None, :], rounds


def sinkhorn_route(
    logits: np.ndarray, k: int, training: bool
) -> tuple[np.ndarray, np.ndarray]:
    """ids, weights [T, k]: chosen by Sinkhorn in training, else by logit.

    Weights: k = 1 the sigmoid of the raw logit; k > 1 the softmax over all
    raw logits of the row, read at the ids.
    """
    keys = sinkhorn(logits)[0] if training else logits
    ids = np.array([best(row, k) for row in keys], dtype=np.int32)
    gates = softmax(logits)
    if k == 1:
        gates = np.vectorize(sigmoid, otypes=[float])(logits)
    return ids, np.take_along_axis(gates, ids, axis=1)


# Mixing over tokens.


def allowed_keys(
    tokens: int,
    causal: bool = False,
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> list[list[int]]:
    """For every token the tokens that it may mix in; none if it is masked."""
    out: list[list[int]] = [[] for _ in range(tokens)]
    for group in live_groups(tokens, offsets, mask):
        for token in group:
            out[token] = [k for k in group if k <= token or not causal]
    return out


def dot_similarity(
    u: np.ndarray,
    tau: float = 1.0,
    w_s: np.ndarray | None = None,
    causal: bool = False,
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """[1, T, T]: softmax over the allowed keys of u_i W_s u_j / tau.

    RECONSTRUCTED: similarity-aware routing; W_s [d, d] is the identity
    unless given.
    """
    left = u if w_s is None else u @ w_s
    return masked_softmax(left @ u.T / tau, causal, offsets, mask)[None]


def attention(
    query: np.ndarray,
    key: np.ndarray,
    scale: float | None = None,
    causal: bool = False,
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """[heads, T, T]: softmax over the allowed keys of scale * q_i k_j.

    query and key are [heads, T, d]; scale is d^-0.5 unless given.
    """
    if scale is None:
        scale = query.shape[2] ** -0.5
    heads = [
        masked_softmax(scale * (q @ k.T), causal, offsets, mask)
        for q, k in zip(query, key, strict=True)
    ]
    return np.stack(heads)


def masked_softmax(
    logits: np.ndarray,
    causal: bool,
    offsets: np.ndarray | None,
    mask: np.ndarray | None,
) -> np.ndarray:
    """Rows of [T, T]: softmax over the allowed keys, 0 elsewhere."""
    out = np.zeros(logits.shape)
    keys = allowed_keys(logits.shape[0], causal, offsets, mask)
    for token, allowed in enumerate(keys):
        if allowed:
            out[token, allowed] = softmax(logits[token, allowed])
    return out


def mix(
    values: np.ndarray,
    matrices: np.ndarray,
    heads: np.ndarray | None = None,
    causal: bool = False,
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """sum_h P(h | i) sum_j A_h[i, j] values[j], [T, E].

    matrices [heads, T, T]. P(h | i) is 1 / heads, or heads [T, heads], a
    posterior over heads that is used as given. Entries of a matrix that are
    not allowed (causal, groups, mask) count as zero and the rest of the row
    is not rescaled. values are scores or logits: mixing probabilities, the
    result is the score; mixing logits, the score function follows.
    RECONSTRUCTED: attention-aware routing.
    """
    tokens = values.shape[0]
    out = np.zeros(values.shape)
    keys = allowed_keys(tokens, causal, offsets, mask)
    for token, allowed in enumerate(keys):
        for head in range(matrices.shape[0]):
            share = 1.0 / matrices.shape[0]
            if heads is not None:
                share = heads[token, head]
            row = matrices[head, token, allowed]
            out[token] += share * (row @ values[allowed])
    return out


@dataclasses.dataclass
class MixGradient:
    """Gradients of mix."""

    values: np.ndarray
    matrices: np.ndarray
    heads: np.ndarray  # [T, heads]


def mix_backward(
    values: np.ndarray,
    matrices: np.ndarray,
    cotangent: np.ndarray,
    heads: np.ndarray | None = None,
    causal: bool = False,
    offsets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> MixGradient:
    """dvalues_j = sum_hi P(h|i) A_h[i,j] c_i; dA_h[i,j] = P(h|i) <c_i, v_j>.

    Zero where an entry is not allowed. The gradient of a given posterior is
    dP(h|i) = <c_i, (A_h v)_i>.
    """
    count = matrices.shape[0]
    tokens = values.shape[0]
    shares = np.full((tokens, count), 1.0 / count)
    if heads is not None:
        shares = heads
    out = MixGradient(
        np.zeros(values.shape),
        np.zeros(matrices.shape),
        np.zeros((tokens, count)),
    )
    keys = allowed_keys(tokens, causal, offsets, mask)
    for token, allowed in enumerate(keys):
        for head in range(count):
            for key in allowed:
                entry = matrices[head, token, key]
                weight = shares[token, head]
                along = float(np.dot(cotangent[token], values[key]))
                out.values[key] += weight * entry * cotangent[token]
                out.matrices[head, token, key] = weight * along
                out.heads[token, head] += entry * along
    return out


def masked_softmax_backward(
    probs: np.ndarray, cotangent: np.ndarray
) -> np.ndarray:
    """Row softmax backward of [..., T, T]; zero entries stay zero."""
    means = np.sum(probs * cotangent, axis=-1, keepdims=True)
    return probs * (cotangent - means)


def mixed_top_k(
    scores: np.ndarray,
    k: int,
    normalize: bool = False,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """ids and weights [T, k] of plain top-k on mixed scores [T, E].

    RECONSTRUCTED: weights are the kept scores, or those over their sum.
    """
    ids = np.full((scores.shape[0], k), EMPTY, dtype=np.int32)
    weights = np.zeros(ids.shape)
    for token, row in enumerate(scores):
        if mask is not None and not mask[token]:
            continue
        chosen = best_admissible(row, k)
        picked = row[chosen]
        if normalize:
            picked = picked / np.sum(picked)
        if subsets.unusable(row):
            picked = np.full(len(chosen), math.nan)
        ids[token, : len(chosen)] = chosen
        weights[token, : len(chosen)] = picked
    return ids, weights


# The selection bias of DeepSeek-V3.


def update_bias(
    bias: np.ndarray, counts: np.ndarray, rate: float = 1e-3
) -> np.ndarray:
    """bias [E] + rate * sign(mean count - count_e) after a step.

    counts [E] over the whole global batch; sign(0) = 0. No gradient.
    """
    counts = np.asarray(counts, dtype=np.float64)
    return bias + rate * np.sign(np.mean(counts) - counts)
