# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What is around the Mixture of Experts, in NumPy with hand-written backward.

A function `f` returns its result and what `f_backward` needs; that returns the
cotangents of the inputs from that of the result. Rows are [N, D], sequences
[B, T, D] with B sequences of T tokens, D the width, d the width of a head.
All work in the dtype of their inputs, f32 or f64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NORM_EPS = 1e-6
ROTATION_BASE = 100.0  # Sequences are short: the slowest angle is T / 100.


def rms_norm(x: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, Any]:
    """x / sqrt(mean(x^2) + eps) * scale along the last axis."""
    mean = np.einsum("...d,...d->...", x, x)[..., None] / x.shape[-1]
    inverse = 1.0 / np.sqrt(mean + NORM_EPS)
    unit = x * inverse
    return unit * scale, (unit, inverse, scale)


def rms_norm_backward(
    saved: Any, d_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cotangents of x and of scale."""
    unit, inverse, scale = saved
    axes = tuple(range(unit.ndim - 1))
    d_scale = (d_y * unit).sum(axis=axes)
    d_unit = d_y * scale
    along = np.einsum("...d,...d->...", d_unit, unit)[..., None]
    return inverse * (d_unit - unit * (along / unit.shape[-1])), d_scale


def angles(
    length: int, width: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [T, d / 2] of rotary positions."""
    rates = ROTATION_BASE ** (-np.arange(0, width, 2) / width)
    phase = np.arange(length)[:, None] * rates
    return np.cos(phase).astype(dtype), np.sin(phase).astype(dtype)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turns the pairs (x_i, x_{i + d/2}) of [..., T, d] by the angles.

    A query and a key at a distance then meet at the difference of angles. The
    backward is the rotation by the negative angle: the same with -sin.
    """
    left, right = np.split(x, 2, axis=-1)
    return np.concatenate(
        [left * cos - right * sin, right * cos + left * sin], axis=-1
    )


def heads_first(x: np.ndarray, heads: int) -> np.ndarray:
    """[B, T, heads * d] to [B, heads, T, d]."""
    batch, length, width = x.shape
    split = x.reshape(batch, length, heads, width // heads)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3))


def heads_last(x: np.ndarray) -> np.ndarray:
    """[B, heads, T, d] to [B, T, heads * d]."""
    batch, heads, length, width = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * width)


def softmax_over_keys(scores: np.ndarray, causal: bool) -> np.ndarray:
    """Softmax of [..., T, T] over keys; causal: up to the query, 0 elsewhere.

    A later key leaves no bit behind: it is not in the maximum, and adds an
    exact zero to every sum.
    """
    if causal:
        length = scores.shape[-1]
        later = np.triu(np.ones((length, length), bool), 1)
        scores = np.where(later, -np.inf, scores)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def softmax_backward(probs: np.ndarray, d_probs: np.ndarray) -> np.ndarray:
    """Cotangent of the inputs of a softmax over the last axis."""
    along = np.einsum("...k,...k->...", probs, d_probs)[..., None]
    return probs * (d_probs - along)


def attention(
    x: np.ndarray, qkv: np.ndarray, out: np.ndarray, heads: int, causal: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Attention of x [B, T, D]: result, query, key and what is kept.

    qkv [D, 3 D] and out [D, D] act from the right. query and key are the
    turned ones, [B, T, D] with the heads side by side: softmax(query key /
    sqrt(d)) is the attention, which a router may ask for.
    """
    query, key, value = (
        heads_first(part, heads) for part in np.split(x @ qkv, 3, axis=-1)
    )
    cos, sin = angles(x.shape[1], query.shape[-1], x.dtype)
    query, key = rotate(query, cos, sin), rotate(key, cos, sin)
    scale = query.shape[-1] ** -0.5
    probs = softmax_over_keys(query @ key.swapaxes(-1, -2) * scale, causal)
    mixed = heads_last(probs @ value)
    saved = (x, qkv, out, query, key, value, probs, mixed)
    return mixed @ out, heads_last(query), heads_last(key), saved


def attention_backward(
    saved: Any,
    d_y: np.ndarray,
    d_query: np.ndarray | None = None,
    d_key: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cotangents of x, qkv and out.

    d_query and d_key [B, T, D] are those that arrive at the returned query
    and key from elsewhere.
    """
    x, qkv, out, query, key, value, probs, mixed = saved
    heads, width = query.shape[1], query.shape[3]
    scale = width**-0.5
    d_out = rows(mixed).T @ rows(d_y)
    d_mixed = heads_first(d_y @ out.T, heads)
    d_value = probs.swapaxes(-1, -2) @ d_mixed
    d_scores = softmax_backward(probs, d_mixed @ value.swapaxes(-1, -2))
    d_q = d_scores @ key * scale
    d_k = d_scores.swapaxes(-1, -2) @ query * scale
    if d_query is not None:
        d_q += heads_first(d_query, heads)
    if d_key is not None:
        d_k += heads_first(d_key, heads)
    cos, sin = angles(x.shape[1], width, x.dtype)
    d_parts = np.concatenate(
        [
            heads_last(rotate(d_q, cos, -sin)),
            heads_last(rotate(d_k, cos, -sin)),
            heads_last(d_value),
        ],
        axis=-1,
    )
    return d_parts @ qkv.T, rows(x).T @ rows(d_parts), d_out


def rows(x: np.ndarray) -> np.ndarray:
    """[B, T, D] as rows [B T, D]."""
    return x.reshape(-1, x.shape[-1])


def cross_entropy(
    logits: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nats [..] of logits [.., V] at targets [..], and softmax."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, targets[..., None], axis=-1)
    return (np.log(total) - chosen)[..., 0], powers / total


def cross_entropy_backward(
    probs: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Cotangent of the logits from the mean over all predictions."""
    d_logits = probs.copy()
    at = np.indices(targets.shape, sparse=True)
    d_logits[(*at, targets)] -= 1.0
    return d_logits / targets.size
