# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The layer of layer.mlir in NumPy f64, one image at a time.

Nothing here is grouped, batched or fused: it is what the compiled layer is
judged by. A dense network is the same layer with one expert and top_k = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from digits import Weights

NORM_EPS = 1e-6


class Outputs(NamedTuple):
    """What the layer returns for T images."""

    logits: np.ndarray  # f64 [T, 10]
    ids: np.ndarray  # i64 [T, k], chosen experts, best first
    weights: np.ndarray  # f64 [T, k], the combine weights; a row sums to 1
    loads: np.ndarray  # i64 [E], slots that each expert serves
    margin: float  # smallest gap between a chosen and a refused router logit


def top_k_of(weights: Weights) -> int:
    """Slots per image: 2, or 1 where there is one expert only."""
    return min(2, len(weights["router_weight"]))


def parameters(weights: Weights) -> int:
    """Parameters of the layer; a lone expert needs no router."""
    router = weights["router_weight"]
    total = sum(tensor.size for tensor in weights.values())
    return total - (router.size if len(router) == 1 else 0)


def active_parameters(weights: Weights) -> int:
    """Parameters that one image meets."""
    experts = len(weights["router_weight"])
    idle = experts - top_k_of(weights)
    stack = weights["gate_up"].size + weights["down"].size
    return parameters(weights) - stack // experts * idle


def expert(
    row: np.ndarray, gate_up: np.ndarray, down: np.ndarray
) -> np.ndarray:
    """One gated SiLU expert: row [H], gate_up [2I, H], down [H, I] -> [H]."""
    gate, up = np.split(gate_up @ row, 2)
    return down @ (gate / (1.0 + np.exp(-gate)) * up)


def forward(weights: Weights, pixels: np.ndarray) -> Outputs:
    """Runs the layer on pixels [T, 64]."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    experts = len(w["router_weight"])
    top_k = top_k_of(weights)
    logits, all_ids, all_weights = [], [], []
    loads = np.zeros(experts, np.int64)
    margin = np.inf
    for image in pixels.astype(np.float64):
        hidden = image @ w["embed_weight"] + w["embed_bias"]
        rms = np.sqrt(np.mean(hidden**2) + NORM_EPS)
        row = hidden / rms * w["norm_scale"]

        scores = w["router_weight"] @ row
        # Decreasing; a stable sort of the negated scores keeps the lower
        # expert first where two are equal.
        order = np.argsort(-scores, kind="stable")
        ids = order[:top_k]
        if top_k < experts:
            margin = min(margin, scores[ids[-1]] - scores[order[top_k]])
        probs = np.exp(scores - scores.max())
        probs /= probs.sum()
        route = probs[ids] / probs[ids].sum()

        mixed = np.zeros_like(row)
        for slot, e in enumerate(ids):
            loads[e] += 1
            mixed += route[slot] * expert(row, w["gate_up"][e], w["down"][e])
        logits.append(mixed @ w["head_weight"] + w["head_bias"])
        all_ids.append(ids)
        all_weights.append(route)
    return Outputs(
        np.array(logits).reshape(-1, w["head_bias"].size),
        np.array(all_ids, np.int64).reshape(-1, top_k),
        np.array(all_weights).reshape(-1, top_k),
        loads,
        float(margin),
    )


def permute_experts(weights: Weights, order: np.ndarray) -> Weights:
    """Puts expert order[e] where the router expects expert e."""
    return weights | {
        "gate_up": weights["gate_up"][order],
        "down": weights["down"][order],
    }


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows of logits [T, 10] whose largest entry is the label [T]."""
    return float(np.mean(logits.argmax(axis=1) == labels))
