# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares ids and weights of a gate with those of NumPy in f64."""

import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
x, w, ids, weights = (
    np.load(folder / f"{name}.npy") for name in ("x", "w", "ids", "weights")
)
logits = x.astype(np.float64) @ w.astype(np.float64).T
probabilities = np.exp(logits - logits.max(1, keepdims=True))
probabilities /= probabilities.sum(1, keepdims=True)
chosen = np.argsort(-logits, axis=1, kind="stable")[:, :2]
best = np.take_along_axis(probabilities, chosen, 1)
best /= best.sum(1, keepdims=True)
close = np.allclose(weights, best, rtol=1e-3, atol=1e-5)
print(
    f"{len(ids)} rows, {(ids != chosen).any(1).sum()} other choices,",
    "weights close" if close else "weights differ",
)
