# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Text as a task: the next character of every place of a window."""

from __future__ import annotations

import numpy as np

from common import parts
from common.layers import Sizes
from common.measures import NOISE_SEED
from common.model import Batch, Shapes
from common.report import Told
from common.weights import Weights

from . import data

HELD_OUT = 512  # Windows that are evaluated.


def as_batch(windows: np.ndarray) -> Batch:
    """Windows [N, L + 1]: all but the last character, all but the first."""
    return Batch(windows[:, :-1], windows[:, 1:])


class Text:
    """Inputs are i32 codes [B, L], targets the same one place later."""

    causal = True

    def __init__(self, text: data.Text, sizes: Sizes | None = None) -> None:
        self.text = text
        self.sizes = sizes or Sizes(classes=len(text.alphabet))

    def front_shapes(self) -> Shapes:
        # The embedding is small beside what blocks add.
        return {"embed": ((self.sizes.classes, self.sizes.width), 0.5)}

    def back_shapes(self) -> Shapes:
        width = self.sizes.width
        return {"head": ((width, self.sizes.classes), width**-0.5)}

    def batch(self, seed: int, step: int) -> Batch:
        s = self.sizes
        return as_batch(
            data.random_windows(self.text.train, s.length, s.batch, seed, step)
        )

    def held_out(self, count: int | None) -> Batch:
        """Windows at equal distances."""
        return as_batch(
            data.spread_windows(
                self.text.held_out, self.sizes.length, count or HELD_OUT
            )
        )

    def told(self, held_out: Batch) -> Told:
        """The words of the report."""
        return Told(
            title="Routers in a character-level language model",
            prediction="a character",
            held_out=f"held-out windows of {self.sizes.length} characters",
            trained="such windows",
            disturbed="the embedded characters",
            baseline_name="a bigram model of the training text",
            baseline=data.bigram_entropy(
                self.text, held_out.inputs, held_out.targets
            ),
            folder="charlm",
        )

    def noise(
        self, w: Weights, inputs: np.ndarray, level: float, at: int
    ) -> np.ndarray:
        scale = level * float(np.sqrt(np.mean(w["embed"] ** 2)))
        rng = np.random.default_rng([NOISE_SEED, at])
        size = (*inputs.shape, self.sizes.width)
        return (scale * rng.standard_normal(size)).astype(w.vector.dtype)

    def embed(
        self, w: Weights, inputs: np.ndarray, noise: np.ndarray | None
    ) -> np.ndarray:
        x = w["embed"][inputs]
        return x if noise is None else x + noise

    def embed_backward(
        self, d: Weights, inputs: np.ndarray, d_x: np.ndarray
    ) -> None:
        np.add.at(d["embed"], inputs, d_x)

    def read(self, w: Weights, x: np.ndarray) -> np.ndarray:
        return x @ w["head"]

    def read_backward(
        self, w: Weights, d: Weights, x: np.ndarray, d_logits: np.ndarray
    ) -> np.ndarray:
        d["head"] = parts.rows(x).T @ parts.rows(d_logits)
        return d_logits @ w["head"].T
