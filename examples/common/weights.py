# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A model's weights and what moves them."""

from __future__ import annotations

from typing import Any

import numpy as np


class Weights:
    """Named arrays that are views of one vector: an optimiser sees that."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dtype: Any) -> None:
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        ends = np.cumsum(sizes)
        self.vector = np.zeros(int(ends[-1]), dtype)
        self.shapes = shapes
        self._views = {
            name: self.vector[end - size : end].reshape(shape)
            for (name, shape), size, end in zip(shapes.items(), sizes, ends)
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self._views[name][...] = value

    def zeros(self) -> Weights:
        """Zeros of the same shapes."""
        return Weights(self.shapes, self.vector.dtype)

    def copy(self) -> Weights:
        """The same numbers, elsewhere."""
        out = self.zeros()
        out.vector[:] = self.vector
        return out


class Adam:
    """Adam on one vector; moments decay by 0.9 and 0.99."""

    def __init__(self, w: Weights) -> None:
        self.first = np.zeros_like(w.vector)
        self.second = np.zeros_like(w.vector)
        self.steps = 0

    def step(self, w: Weights, grads: Weights, rate: float) -> None:
        """One update of the weights."""
        g = grads.vector
        self.steps += 1
        self.first += 0.1 * (g - self.first)
        self.second += 0.01 * (g * g - self.second)
        mean_scale = 1.0 / (1.0 - 0.9**self.steps)
        spread_scale = 1.0 / (1.0 - 0.99**self.steps)
        spread = np.sqrt(self.second * spread_scale)
        spread += 1e-8
        w.vector -= (rate * mean_scale) * self.first / spread
