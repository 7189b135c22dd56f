# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One problem for all who compute it; see benchmarks/gpu.

Numbers are of bf16, the weights of routing are those of the k chosen experts
in a softmax over all, and every reference is made in f64 by NumPy.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

# mma.sync m16n8k16.
NUMBERS_OF_MMA = 16 * 8 * 16


class Shape(NamedTuple):
    """A layer, and how many tokens it is given."""

    tokens: int
    experts: int
    k: int
    hidden: int
    inter: int

    def __str__(self) -> str:
        return (
            f"T={self.tokens} E={self.experts} k={self.k} H={self.hidden} "
            f"I={self.inter}"
        )

    def products(self) -> dict[str, int]:
        """The fewest mma of each product."""
        work = self.tokens * self.k * self.hidden * self.inter
        return {
            "gate and up": 2 * work // NUMBERS_OF_MMA,
            "down": work // NUMBERS_OF_MMA,
        }


def write_layer(shape: Shape, path: Path) -> None:
    """Writes the IR of a shape's layer: its entry is `layer`."""
    keys = {
        "experts": shape.experts, "top_k": shape.k, "hidden": shape.hidden,
        "inter": shape.inter, "x_dtype": "bf16", "weight_dtype": "bf16",
        "router_dtype": "bf16",
    }  # fmt: skip
    words = ["moe-compile", "--example", "layer", "-o", str(path)]
    for key, value in keys.items():
        words += ["--set", f"{key}={value}"]
    subprocess.run(words, check=True)


class Counts(NamedTuple):
    """What kernels executed; an assembler drops most moves of registers."""

    instructions: int = 0
    moves: int = 0
    mma: int = 0
    sectors: int = 0
    passes: int = 0

    @classmethod
    def of(cls, statistics: dict) -> Counts:
        """From what the emulator prints of a kernel."""
        return cls(
            statistics["warp_instructions"],
            statistics["classes"].get("move", 0),
            sum(statistics["matrix"].values()),
            statistics["load_sectors"] + statistics["store_sectors"],
            statistics["shared_passes"],
        )

    def plus(self, other: Counts) -> Counts:
        """What two executed together."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def rounded(values: np.ndarray) -> np.ndarray:
    """The nearest numbers of bf16, as f64."""
    return values.astype(ml_dtypes.bfloat16).astype(np.float64)


def bits(values: np.ndarray) -> np.ndarray:
    """Numbers of bf16 as the words that hold them."""
    return values.astype(ml_dtypes.bfloat16).view(np.uint16)


def silu(values: np.ndarray) -> np.ndarray:
    """x / (1 + exp(-x))."""
    return values / (1.0 + np.exp(-values))


class Problem:
    """Inputs of a shape and what every step of the experts makes of them."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        random = np.random.default_rng(1)

        def numbers(*sizes: int, scale: float) -> np.ndarray:
            return rounded(random.standard_normal(sizes) * scale)

        hidden, inter = shape.hidden, shape.inter
        self.x = numbers(shape.tokens, hidden, scale=1.0)
        self.router = numbers(shape.experts, hidden, scale=hidden**-0.5)
        self.gate_up = numbers(
            shape.experts, 2 * inter, hidden, scale=hidden**-0.5
        )
        self.down = numbers(shape.experts, hidden, inter, scale=inter**-0.5)
        logits = self.x @ self.router.T
        self.ids = np.argsort(-logits, axis=1, kind="stable")[:, : shape.k]
        parts = np.exp(logits)
        parts /= parts.sum(axis=1, keepdims=True)
        self.weights = np.take_along_axis(parts, self.ids, axis=1)

    def write(self, folder: Path) -> dict[str, Path]:
        """The inputs as files, by the names of the layer's arguments."""
        inputs = {
            "x": self.x,
            "router_weight": self.router,
            "gate_up": self.gate_up,
            "down": self.down,
        }
        paths = {name: folder / f"{name}.npy" for name in inputs}
        for name, values in inputs.items():
            np.save(paths[name], values.astype(np.float32))
        return paths

    @functools.cached_property
    def pair_experts(self) -> np.ndarray:
        """The expert of each pair of token and slot."""
        return self.ids.reshape(-1)

    def multiply(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Each pair's row by its expert's weight [E, out, in]."""
        out = np.empty((len(rows), weights.shape[1]))
        for expert, weight in enumerate(weights):
            own = self.pair_experts == expert
            out[own] = rows[own] @ weight.T
        return out

    @functools.cached_property
    def projected(self) -> np.ndarray:
        """Gate and up of each pair."""
        return self.multiply(
            np.repeat(self.x, self.shape.k, axis=0), self.gate_up
        )

    @functools.cached_property
    def activated(self) -> np.ndarray:
        """silu(gate) * up of each pair, from gates and ups of bf16."""
        gate, up = np.split(rounded(self.projected), 2, axis=1)
        return silu(gate) * up

    @functools.cached_property
    def outputs(self) -> np.ndarray:
        """Each pair's output times its weight, from activations of bf16."""
        product = self.multiply(rounded(self.activated), self.down)
        return product * self.weights.astype(np.float32).reshape(-1, 1)

    @functools.cached_property
    def result(self) -> np.ndarray:
        """The layer's."""
        shape = self.shape
        return self.outputs.reshape(shape.tokens, shape.k, -1).sum(axis=1)


def check(
    name: str, found: np.ndarray, wanted: np.ndarray, roundings: int = 1
) -> None:
    """Ends the run where numbers of bf16 are not those of the reference."""
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    # Half a unit in the last place of bf16, and as much again for sums of f32.
    if not error <= roundings * 2.0**-8:
        raise SystemExit(f"{name}: wrong by {error:.2g} of the largest number")
