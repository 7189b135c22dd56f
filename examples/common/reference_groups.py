# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Routers that look at a sequence, in NumPy f64, forward and backward.

Names are those of reference_routers.py; sequences are equally long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .layer_text import SOFT_EPS
from .parts import softmax_backward, softmax_over_keys
from .reference_routers import TIE, Routing, choose_by_scores, softmax


def mixed_top_k(
    logits: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    sequences: int,
    heads: int,
    scale: float,
    causal: bool,
    k: int,
    coefficient: float,
    given: np.ndarray | None = None,
) -> Routing:
    """Top-k of scores averaged over the tokens of a sequence.

    mixed_i = mean over heads of sum_j A[i, j] pi_j, A a softmax over j of
    scale <query_i, key_j>; with `causal` the j are i and the tokens before it.
    """
    plain = softmax(logits)

    def split(rows: np.ndarray, parts: int) -> np.ndarray:
        """[T, n] to [sequences, parts, T / sequences, n / parts]."""
        shape = (sequences, len(rows) // sequences, parts, -1)
        return rows.reshape(shape).transpose(0, 2, 1, 3)

    def join(x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 2, 1, 3).reshape(len(logits), -1)

    q, c, v = split(query, heads), split(key, heads), split(plain, 1)
    probs = softmax_over_keys(scale * (q @ c.swapaxes(-1, -2)), causal)
    mixed = join((probs @ v).mean(axis=1, keepdims=True))
    routing, pull = choose_by_scores(mixed, k, coefficient, given)

    def pull_all(d_weights: np.ndarray, d_loss: float) -> dict:
        d_mixed = split(pull(d_weights, d_loss), 1) / heads
        d_plain = (probs.swapaxes(-1, -2) @ d_mixed).sum(axis=1, keepdims=True)
        d_products = scale * softmax_backward(
            probs, d_mixed @ v.swapaxes(-1, -2)
        )
        return {
            "logits": softmax_backward(plain, join(d_plain)),
            "query": join(d_products @ c),
            "key": join(d_products.swapaxes(-1, -2) @ q),
        }

    routing.pull = pull_all
    return routing


def expert_choice(
    logits: np.ndarray,
    sequences: int,
    mean: int,
    given: np.ndarray | None = None,
) -> Routing:
    """Every expert takes the tokens of a sequence that score it highest.

    So many that a token has `mean` experts in the mean, ties to the lower
    token. Scores are softmaxes over experts, and the weights, not divided.
    given: [E, C] tokens for experts whose last one is nearly a tie, or None.
    """
    tokens, experts = logits.shape
    length = tokens // sequences
    count = mean * length // experts
    scores = softmax(logits)
    # [G, E, L]: what an expert sorts.
    columns = scores.reshape(sequences, length, experts).transpose(0, 2, 1)
    order = np.argsort(-columns, axis=2, kind="stable")[:, :, :count]
    ties = 0
    if given is not None and count < length:
        first = length * np.arange(sequences)[:, None, None]
        other = given.reshape(experts, sequences, count)
        other = other.transpose(1, 0, 2) - first
        ordered = np.sort(columns, axis=2)[:, :, ::-1]
        last = ordered[:, :, count - 1]
        tie = last - ordered[:, :, count] < TIE * last
        order[tie] = other[tie]
        ties = int(tie.sum())
    chosen = np.zeros(columns.shape, bool)
    np.put_along_axis(chosen, order, True, axis=2)
    chosen = chosen.transpose(0, 2, 1).reshape(tokens, experts)
    ids = np.where(chosen, np.arange(experts), -1)
    order = order + length * np.arange(sequences)[:, None, None]
    taken = order.transpose(1, 0, 2).reshape(experts, -1).astype(np.int32)

    def pull(d_weights: np.ndarray, d_loss: float) -> dict:
        d_scores = np.where(chosen, d_weights, 0.0)
        return {"logits": softmax_backward(scores, d_scores)}

    weights = np.where(chosen, scores, 0.0)
    return Routing(ids, weights, scores, 0.0, pull, ties, taken)


# Soft slots.


def unit_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x / sqrt(sum x^2 + eps) of each row, and the factors [T, 1]."""
    factor = ((rows * rows).sum(axis=1, keepdims=True) + SOFT_EPS) ** -0.5
    return rows * factor, factor


def unit_rows_backward(
    unit: np.ndarray, factor: np.ndarray, d_unit: np.ndarray
) -> np.ndarray:
    """Cotangent of the rows."""
    return factor * (d_unit - unit * (unit * d_unit).sum(axis=1, keepdims=True))


class Slots(NamedTuple):
    """dispatch and combine [G, L, S], and what they were made of."""

    dispatch: np.ndarray
    combine: np.ndarray
    rows: tuple[np.ndarray, np.ndarray]
    slots: tuple[np.ndarray, np.ndarray]


def soft_slots(
    x: np.ndarray, router: np.ndarray, scale: float, sequences: int
) -> Slots:
    """Per slot a softmax over tokens, per token one over slots (2308.00951).

    Logits are products of unit rows of x [T, D] and router [S, D], times
    scale.
    """
    rows, slots = unit_rows(x), unit_rows(router)
    logits = scale * (rows[0] @ slots[0].T)
    logits = logits.reshape(sequences, -1, len(router))
    combine = softmax(logits)
    dispatch = softmax(logits.swapaxes(1, 2)).swapaxes(1, 2)
    return Slots(dispatch, combine, rows, slots)


def soft_slots_backward(
    soft: Slots, scale: float, d_dispatch: np.ndarray, d_combine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Cotangents of x, router and scale."""
    d_logits = softmax_backward(soft.combine, d_combine)
    d_logits += softmax_backward(
        soft.dispatch.swapaxes(1, 2), d_dispatch.swapaxes(1, 2)
    ).swapaxes(1, 2)
    d_logits = d_logits.reshape(-1, d_logits.shape[2])
    (rows, _), (slots, _) = soft.rows, soft.slots
    d_x = unit_rows_backward(*soft.rows, scale * (d_logits @ slots))
    d_router = unit_rows_backward(*soft.slots, scale * (d_logits.T @ rows))
    return d_x, d_router, float((d_logits * (rows @ slots.T)).sum())
