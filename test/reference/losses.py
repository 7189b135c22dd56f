# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Auxiliary losses of routers in float64, with their gradients.

Switch (arXiv 2101.03961; mesh, flaxformer, Megatron-LM), GShard (2006.16668;
mesh), importance and load (1701.06538; V-MoE 2106.05974), z-loss (ST-MoE
2202.08906), trimmed lasso (MOESART's code), ReMoE (2412.14711), mesh's
expert-choice loss. No coefficient is applied unless it is a parameter.

A loss is about one group of tokens; `grouped` takes the mean over groups.
`mask` [T]: a token whose entry is false does not count, neither in sums nor
in T. A loss over no tokens is 0. A NaN in a counted row makes the loss NaN.
Gradients are with respect to logits [T, E], 0 for tokens left out.
"""

from __future__ import annotations

import math
from typing import Callable

import numpy as np

from noisy_routers import shazeer_load, vmoe_load
from token_routers import best, live_tokens, softmax

CV_FLOOR = 1e-10


def grouped(
    loss: Callable[[range], float], offsets: np.ndarray | None, tokens: int
) -> float:
    """Mean of loss(range of tokens) over the groups that have tokens."""
    bounds = [0, tokens] if offsets is None else [int(at) for at in offsets]
    values = [
        loss(range(low, high))
        for low, high in zip(bounds, bounds[1:])
        if high > low
    ]
    return float(np.mean(values)) if values else 0.0


def expert_counts(
    ids: np.ndarray, experts: int, mask: np.ndarray | None = None
) -> np.ndarray:
    """How many slots [T, k] name each expert, [E]."""
    counts = np.zeros(experts)
    for token in live_tokens(ids.shape[0], mask):
        for expert in ids[token]:
            if expert >= 0:
                counts[expert] += 1.0
    return counts


def dense_weights(
    ids: np.ndarray, weights: np.ndarray, experts: int
) -> np.ndarray:
    """Weights by expert [T, E] of a routing; empty slots add nothing."""
    out = np.zeros((ids.shape[0], experts))
    for (token, slot), expert in np.ndenumerate(ids):
        if expert >= 0:
            out[token, expert] += weights[token, slot]
    return out


def softmax_gradient(probs: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
    """Softmax backward of rows: p (c - <p, c>), [T, E]."""
    means = np.sum(probs * cotangents, axis=1, keepdims=True)
    return probs * (cotangents - means)


# Balance.


def balance(
    probs: np.ndarray,
    ids: np.ndarray,
    sum_to: str = "one",
    mask: np.ndarray | None = None,
) -> float:
    """E sum_e f_e P_e; ids [T, k] before capacity, P the mean of probs.

    sum_to="one": f_e = count_e / (T k), so that f sums to 1 (Switch, Megatron)
    and the loss is 1 at balance; "k": f_e = count_e / T (flaxformer), k at
    balance. GShard's E^2 mean_e(f1_e P_e) is this with the first choices.
    """
    live = live_tokens(probs.shape[0], mask)
    if not live:
        return 0.0
    experts = probs.shape[1]
    share = expert_counts(ids, experts, mask) / len(live)
    if sum_to == "one":
        share = share / ids.shape[1]
    return float(experts * np.dot(share, np.mean(probs[live], axis=0)))


def balance_gradient(
    logits: np.ndarray,
    ids: np.ndarray,
    sum_to: str = "one",
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of balance with probs = softmax(logits); only through P."""
    tokens, experts = logits.shape
    live = live_tokens(tokens, mask)
    out = np.zeros(logits.shape)
    if not live:
        return out
    share = expert_counts(ids, experts, mask) / len(live)
    if sum_to == "one":
        share = share / ids.shape[1]
    probs = softmax(logits[live])
    cotangents = np.tile(experts * share / len(live), (len(live), 1))
    out[live] = softmax_gradient(probs, cotangents)
    return out


def gshard(
    probs: np.ndarray, first: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """E^2 mean_e(f1_e P_e), f1 the shares of the first choices [T]."""
    experts = probs.shape[1]
    live = live_tokens(probs.shape[0], mask)
    if not live:
        return 0.0
    share = np.zeros(experts)
    for token in live:
        share[first[token]] += 1.0 / len(live)
    mean = np.mean(probs[live], axis=0)
    return float(experts**2 * np.mean(share * mean))


def gshard_second(
    probs: np.ndarray,
    choices: np.ndarray,
    mask: np.ndarray | None = None,
    eps: float = 1e-9,
) -> float:
    """The loss on second places, before mesh's factor 1/2.

    E^2 mean_e(f2_e P2_e): f2 the shares of the second choices (column 1 of
    choices [T, 2], before the policy), P2 the mean of the probabilities
    without the first choice, divided by their sum + eps.
    """
    experts = probs.shape[1]
    live = live_tokens(probs.shape[0], mask)
    if not live:
        return 0.0
    share, proxy = np.zeros(experts), np.zeros(experts)
    for token in live:
        if choices[token, 1] >= 0:
            share[choices[token, 1]] += 1.0 / len(live)
        rest = probs[token].copy()
        rest[choices[token, 0]] = 0.0
        proxy += rest / (np.sum(rest) + eps) / len(live)
    return float(experts**2 * np.mean(share * proxy))


# Squared coefficients of variation.


def cv_squared(
    values: np.ndarray, unbiased: bool = False, floor: float = CV_FLOOR
) -> float:
    """Variance / (mean^2 + floor); population variance unless `unbiased`.

    0 for a single value.
    """
    count = len(values)
    if count < 2:
        return 0.0
    mean = math.fsum(values) / count
    total = math.fsum((value - mean) ** 2 for value in values)
    return total / (count - 1 if unbiased else count) / (mean**2 + floor)


def cv_squared_gradient(
    values: np.ndarray, unbiased: bool = False, floor: float = CV_FLOOR
) -> np.ndarray:
    """Gradient of cv_squared with respect to its values."""
    count = len(values)
    if count < 2:
        return np.zeros(count)
    mean = float(np.mean(values))
    below = mean**2 + floor
    over = count - 1 if unbiased else count
    variance = float(np.sum((values - mean) ** 2)) / over
    first = 2.0 * (values - mean) / over / below
    return first - variance * 2.0 * mean / count / below**2


def importance(
    gates: np.ndarray, unbiased: bool = False, mask: np.ndarray | None = None
) -> float:
    """CV^2 over the experts of the gates' sums over tokens.

    gates [T, E]: the sparse weights (noisy top-k), or the clean softmax
    (V-MoE). tutel takes the unbiased variance.
    """
    live = live_tokens(gates.shape[0], mask)
    return cv_squared(np.sum(gates[live], axis=0), unbiased)


def importance_gradient(
    logits: np.ndarray, unbiased: bool = False, mask: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of importance(softmax(logits)), V-MoE's form."""
    live = live_tokens(logits.shape[0], mask)
    out = np.zeros(logits.shape)
    probs = softmax(logits[live])
    step = cv_squared_gradient(np.sum(probs, axis=0), unbiased)
    out[live] = softmax_gradient(probs, np.tile(step, (len(live), 1)))
    return out


def load_shazeer(
    clean: np.ndarray,
    noisy: np.ndarray,
    sigma: np.ndarray,
    k: int,
    mask: np.ndarray | None = None,
) -> float:
    """CV^2 of sum_t Phi((clean - threshold) / sigma), two thresholds."""
    live = live_tokens(clean.shape[0], mask)
    chance = shazeer_load(clean[live], noisy[live], sigma[live], k)
    return cv_squared(np.sum(chance, axis=0))


def load_vmoe(
    clean: np.ndarray,
    noisy: np.ndarray,
    sigma: float,
    k: int,
    mask: np.ndarray | None = None,
) -> float:
    """CV^2 of mean_t Phi((clean - k-th noisy) / sigma), one threshold."""
    live = live_tokens(clean.shape[0], mask)
    if not live:
        return 0.0
    chance = vmoe_load(clean[live], noisy[live], sigma, k)
    return cv_squared(np.mean(chance, axis=0))


# Losses on the logits.


def z_loss(logits: np.ndarray, mask: np.ndarray | None = None) -> float:
    """mean_t logsumexp(r_t)^2."""
    live = live_tokens(logits.shape[0], mask)
    if not live:
        return 0.0
    return math.fsum(log_sum(logits[t]) ** 2 for t in live) / len(live)


def log_sum(row: np.ndarray) -> float:
    """logsumexp of a row; NaN for a NaN; +inf and -inf as they come."""
    top = float(np.max(row))
    if not math.isfinite(top):
        return top
    return top + math.log(math.fsum(np.exp(row - top)))


def z_loss_gradient(
    logits: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """2 logsumexp(r_t) softmax(r_t) / T."""
    live = live_tokens(logits.shape[0], mask)
    out = np.zeros(logits.shape)
    probs = softmax(logits)
    for token in live:
        scale = 2.0 * log_sum(logits[token]) / len(live)
        out[token] = scale * probs[token]
    return out


def trimmed_lasso(
    logits: np.ndarray, k: int, mask: np.ndarray | None = None
) -> float:
    """mean_t of the softmax mass outside the k largest."""
    live = live_tokens(logits.shape[0], mask)
    if not live:
        return 0.0
    total = 0.0
    for token, probs in zip(live, softmax(logits[live])):
        rest = best(logits[token], len(probs))[k:]
        total += math.fsum(probs[rest])
    return total / len(live)


def trimmed_lasso_gradient(
    logits: np.ndarray, k: int, mask: np.ndarray | None = None
) -> np.ndarray:
    """- sum_{t in top} g_t (delta_ti - g_i), over the number of tokens."""
    live = live_tokens(logits.shape[0], mask)
    out = np.zeros(logits.shape)
    for token in live:
        probs = softmax(logits[token])
        outside = np.ones(len(probs))
        outside[best(logits[token], k)] = 0.0
        mean = np.dot(probs, outside)
        out[token] = probs * (outside - mean) / len(live)
    return out


def row_entropy(probs: np.ndarray) -> float:
    """- sum p log p of a row, in nats; 0 log 0 = 0; NaN for a NaN."""
    terms = [float(p) * math.log(p) if p != 0.0 else 0.0 for p in probs]
    return math.nan if np.isnan(probs).any() else -math.fsum(terms)


def entropy(probs: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean entropy of the rows [T, E]."""
    live = live_tokens(probs.shape[0], mask)
    if not live:
        return 0.0
    return math.fsum(row_entropy(probs[t]) for t in live) / len(live)


def entropy_gradient(
    logits: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of entropy(softmax(logits)): -p_i (log p_i + H) / T."""
    live = live_tokens(logits.shape[0], mask)
    out = np.zeros(logits.shape)
    for token in live:
        probs = softmax(logits[token])
        level = row_entropy(probs)
        for expert, p in enumerate(probs):
            if p != 0.0:
                step = -float(p) * (math.log(p) + level)
                out[token, expert] = step / len(live)
    return out


def mesh_expert_choice(
    probs: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """T^2 mean_t( mean_e(prob)^2 ), probs a softmax over tokens, [T, E].

    tensorflow/mesh's loss for its expert choice, one group of T tokens.
    """
    live = live_tokens(probs.shape[0], mask)
    if not live:
        return 0.0
    means = np.mean(probs[live], axis=1)
    return float(len(live) ** 2 * np.mean(means**2))


# ReMoE's regulariser.


def remoe_regulariser(
    weights: np.ndarray,
    k: int,
    strength: float = 1.0,
    mask: np.ndarray | None = None,
) -> float:
    """strength E/(k T^2) sum_e count_e sum_t R[t, e] of R = relu(logits).

    count_e: how many tokens have a positive weight for e.
    """
    live = live_tokens(weights.shape[0], mask)
    if not live:
        return 0.0
    open_gates = weights[live] > 0.0
    counts = np.sum(open_gates, axis=0)
    total = float(np.dot(counts, np.sum(weights[live], axis=0)))
    return strength * weights.shape[1] / (k * len(live) ** 2) * total


def remoe_gradient(
    weights: np.ndarray,
    k: int,
    strength: float = 1.0,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """strength E count_e / (k T^2) where the gate is open; counts fixed."""
    live = live_tokens(weights.shape[0], mask)
    out = np.zeros(weights.shape)
    counts = np.sum(weights[live] > 0.0, axis=0)
    for token in live:
        step = strength * weights.shape[1] * counts / (k * len(live) ** 2)
        out[token] = np.where(weights[token] > 0.0, step, 0.0)
    return out


def remoe_strength(
    strength: float,
    weights: np.ndarray,
    k: int,
    factor: float = 1.2,
    mask: np.ndarray | None = None,
) -> float:
    """The strength of the next step: times the factor while too few gates
    are closed (sparsity < 1 - k/E), else divided by it.
    """
    live = live_tokens(weights.shape[0], mask)
    sparsity = float(np.mean(weights[live] <= 0.0))
    if sparsity < 1.0 - k / weights.shape[1]:
        return strength * factor
    return strength / factor
