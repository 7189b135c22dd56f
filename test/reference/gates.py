# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Other ways to logits or to a choice, in float64.

Product keys (arXiv 1907.05242, as in Doge of huggingface/transformers), the
cosine gate of X-MoE (2204.09179; in two published forms, those of tutel and
of torchscale), hash layers (2106.04426), DSelect-k (2106.03760, as in its
authors' code).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import subsets
from token_routers import Routed, best_admissible
from token_routers import empty_slots, live_tokens, put, softmax

# Product keys.


def product_grid(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Logits [T, n * m] of expert i * m + j: left [T, n] + right [T, m]."""
    grid = left[:, :, None] + right[:, None, :]
    return grid.reshape(left.shape[0], left.shape[1] * right.shape[1])


def product_keys(
    left: np.ndarray,
    right: np.ndarray,
    k: int,
    over: str = "chosen",
    mask: np.ndarray | None = None,
) -> Routed:
    """The k best sums of two half-routers.

    Choosing first the best min(k, n) of each half and then among their sums
    is the same: an expert outside is beaten by k others, ties included, as
    long as the sums are exact. Weights: softmax over the chosen (Doge), or
    over all experts and then kept (`over`="all").
    """
    grid = product_grid(left, right)
    ids, weights = empty_slots(grid.shape[0], k)
    margin = np.full(grid.shape[0], math.inf)
    routed = Routed(ids, weights, softmax(grid), margin)
    for token in live_tokens(grid.shape[0], mask):
        chosen = best_admissible(grid[token], k)
        picked = routed.probs[token, chosen]
        if over == "chosen" and not subsets.unusable(grid[token]):
            picked = softmax(grid[token, chosen])
        put(routed, token, chosen, picked)
    return routed


def product_keys_backward(
    grid_gradient: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of both halves from that of the grid [T, n * m]."""
    tokens, experts = grid_gradient.shape
    cells = grid_gradient.reshape(tokens, n, experts // n)
    return np.sum(cells, axis=2), np.sum(cells, axis=1)


# Cosine gate.

NORM_FLOOR = 1e-12
LOG_SCALE_LIMIT = math.log(100.0)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their Euclidean norm, at least 1e-12."""
    norms = np.sqrt(np.sum(rows * rows, axis=-1, keepdims=True))
    return rows / np.maximum(norms, NORM_FLOOR)


def cosine_gate(
    projected: np.ndarray,
    keys: np.ndarray,
    scale: float,
    unit_tokens: bool = True,
) -> np.ndarray:
    """Logits [T, E]: scale * cos(projected [T, P], keys [E, P]).

    projected is W x + b. X-MoE: scale 1/tau; tutel: scale exp(min(theta,
    log 100)), see cosine_scale. torchscale leaves the token side as it is
    (unit_tokens false) and has scale 1. A zero row has logits 0.
    """
    tokens = unit_rows(projected) if unit_tokens else projected
    return scale * (tokens @ unit_rows(keys).T)


def cosine_scale(theta: float) -> float:
    """tutel's learned scale, exp(min(theta, log 100)); theta0 = log 2."""
    return math.exp(min(theta, LOG_SCALE_LIMIT))


def unit_rows_backward(
    rows: np.ndarray, cotangent: np.ndarray
) -> np.ndarray:
    """(c - u <u, c>) / |row| with u the unit row."""
    unit = unit_rows(rows)
    norms = np.sqrt(np.sum(rows * rows, axis=-1, keepdims=True))
    along = np.sum(unit * cotangent, axis=-1, keepdims=True)
    return (cotangent - unit * along) / np.maximum(norms, NORM_FLOOR)


def cosine_gate_backward(
    projected: np.ndarray,
    keys: np.ndarray,
    scale: float,
    cotangent: np.ndarray,
    unit_tokens: bool = True,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Gradients of projected, keys and scale for logits' cotangent [T, E].

    d cos/dx = (key^ - cos x^) / |x|. At a zero row the function has no
    derivative; what the floor of the norm gives there is returned.
    """
    tokens = unit_rows(projected) if unit_tokens else projected
    unit_keys = unit_rows(keys)
    d_tokens = scale * (cotangent @ unit_keys)
    d_keys = unit_rows_backward(keys, scale * (cotangent.T @ tokens))
    if unit_tokens:
        d_tokens = unit_rows_backward(projected, d_tokens)
    d_scale = float(np.sum(cotangent * (tokens @ unit_keys.T)))
    return d_tokens, d_keys, d_scale


# Hash layers.


def hash_route(
    token_ids: np.ndarray,
    table: np.ndarray,
    experts: int,
    mask: np.ndarray | None = None,
) -> Routed:
    """ids [T, k] = table [V, k] (or [V]) at the token's id; weights 1.

    No logits, no gradient. A token id outside the table or an expert outside
    0 .. E-1 is an error. probs [T, E] counts the weights by expert.
    """
    columns = table.reshape(table.shape[0], -1)
    if np.any(columns < 0) or np.any(columns >= experts):
        raise ValueError("table: an expert is out of range")
    if np.any(token_ids < 0) or np.any(token_ids >= table.shape[0]):
        raise ValueError("token_ids: out of range")
    tokens = len(token_ids)
    ids, weights = empty_slots(tokens, columns.shape[1])
    probs = np.zeros((tokens, experts))
    for token in live_tokens(tokens, mask):
        ids[token] = columns[token_ids[token]]
        weights[token] = 1.0
        for expert in ids[token]:
            probs[token, expert] += 1.0
    return Routed(ids, weights, probs, np.full(tokens, math.inf))


# DSelect-k.


@dataclasses.dataclass
class Selectors:
    """DSelect-k of one token (or of all, when static)."""

    steps: np.ndarray  # [k, bits] smooth steps
    codes: np.ndarray  # [k, E] r_q
    alphas: np.ndarray  # [k] softmax over the selectors
    weights: np.ndarray  # [E]


def smooth_step(value: float, gamma: float = 1.0) -> float:
    """0 below -gamma/2, 1 above gamma/2, a cubic between."""
    if value <= -gamma / 2.0:
        return 0.0
    if value >= gamma / 2.0:
        return 1.0
    cubic = -2.0 * value**3 / gamma**3 + 3.0 * value / (2.0 * gamma)
    return cubic + 0.5


def dselect_k(
    z: np.ndarray, w: np.ndarray, experts: int, gamma: float = 1.0
) -> Selectors:
    """Weights sum_q softmax(w)_q r_q of z [k, ceil(log2 E)] and w [k].

    r_q(i) = prod over bits of (s if the bit of i is set, else 1 - s), the
    most significant bit first. Where E is not a power of two the codes of
    missing experts are left out and the rest does not sum to 1.
    """
    selectors, bits = z.shape
    if bits != max(experts - 1, 0).bit_length():
        raise ValueError(f"{bits} bits for {experts} experts")
    steps = np.zeros(z.shape)
    for index, value in np.ndenumerate(z):
        steps[index] = smooth_step(float(value), gamma)
    codes = np.ones((selectors, experts))
    for selector in range(selectors):
        for expert in range(experts):
            for bit in range(bits):
                step = steps[selector, bit]
                is_set = expert >> (bits - 1 - bit) & 1
                codes[selector, expert] *= step if is_set else 1.0 - step
    alphas = softmax(w)
    return Selectors(steps, codes, alphas, alphas @ codes)


def dselect_entropy(selectors: Selectors) -> float:
    """- sum over selectors and experts of r log(r + 1e-6)."""
    codes = selectors.codes
    return float(-np.sum(codes * np.log(codes + 1e-6)))


def dselect_missing(selectors: Selectors) -> float:
    """sum_q 1 / sum_i r_q(i), added where E is not a power of two."""
    return float(np.sum(1.0 / np.sum(selectors.codes, axis=1)))
