# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The language model: blocks of attention and a Mixture of Experts.

x = embedding of the characters; in every block x += attention(norm(x)) and
x += experts(norm(x)); logits = norm(x) head. The layers with experts are
given: compiled, or reference.py's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import parts
from .layers import Router, Sizes

BLOCK_WEIGHTS = ("norm1", "qkv", "out", "norm2", "router", "gate_up", "down")


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


def weight_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """Shapes by name; those of block b are called `b.NAME`."""
    d, e, i = s.width, s.experts, s.inter
    shapes = {"embed": (s.vocab, d)}
    kinds = [
        (d,), (d, 3 * d), (d, d), (d,), (e, d), (e, 2 * i, d), (e, d, i),
    ]  # fmt: skip
    for block in range(s.blocks):
        shapes |= {
            f"{block}.{name}": kind for name, kind in zip(BLOCK_WEIGHTS, kinds)
        }
    return shapes | {"norm": (d,), "head": (d, s.vocab)}


def initial_weights(s: Sizes, seed: int, dtype: Any) -> Weights:
    """Random weights; f32 and f64 ones of a seed are the same f32 numbers."""
    rng = np.random.default_rng(seed)
    w = Weights(weight_shapes(s), dtype)
    for name, shape in w.shapes.items():
        kind = name.split(".")[-1]
        if kind.startswith("norm"):
            w[name] = 1.0
            continue
        # The embedding is small beside what blocks add, and matrices keep
        # the size of rows; qkv, out and head act from the right.
        fan_in = shape[0] if kind in ("qkv", "out", "head") else shape[-1]
        scale = 0.5 if kind == "embed" else fan_in**-0.5
        if kind in ("out", "down"):
            scale *= (2 * s.blocks) ** -0.5
        values = scale * rng.standard_normal(shape)
        w[name] = values.astype(np.float32)
    return w


class Output(NamedTuple):
    """What a forward gives back."""

    logits: np.ndarray  # [B, T, V]
    aux: float  # Sum of the layers' losses.
    layers: list[dict[str, np.ndarray]]  # What each layer returned.
    saved: Any


class Model:
    """The forward and the backward around layers with experts.

    training and evaluation are layers as layers.py describes, with `forward`
    and, the first, `backward`; all blocks share them.
    """

    def __init__(
        self, router: Router, sizes: Sizes, training: Any, evaluation: Any
    ) -> None:
        self.router = router
        self.sizes = sizes
        self.training = training
        self.evaluation = evaluation

    def forward(
        self,
        w: Weights,
        codes: np.ndarray,
        random: tuple[int, int] | None = None,
        noise: np.ndarray | None = None,
    ) -> Output:
        """Logits of the next characters of codes [B, T].

        random: (seed, number of the first token) in training, None in
            evaluation, where nothing is drawn.
        noise: [B, T, D], added to the embedded characters.
        """
        layer = self.evaluation if random is None else self.training
        x = w["embed"][codes]
        if noise is not None:
            x = x + noise
        aux, results, saved = 0.0, [], []
        for block in range(self.sizes.blocks):
            x, result, kept = self._block(w, block, x, layer, random)
            aux += float(result.get("loss", 0.0))
            results.append(result)
            saved.append(kept)
        normed, kept = parts.rms_norm(x, w["norm"])
        saved.append((normed, kept))
        return Output(normed @ w["head"], aux, results, saved)

    def _block(
        self,
        w: Weights,
        block: int,
        x: np.ndarray,
        layer: Any,
        random: tuple[int, int] | None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray], Any]:
        """One block: x [B, T, D] behind it, the layer's results, the rest."""
        own = {name: w[f"{block}.{name}"] for name in BLOCK_WEIGHTS}
        normed, norm1 = parts.rms_norm(x, own["norm1"])
        y, query, key, attended = parts.attention(
            normed, own["qkv"], own["out"], self.sizes.heads
        )
        x = x + y
        normed, norm2 = parts.rms_norm(x, own["norm2"])
        arrays = {
            "x": parts.rows(normed),
            "query": parts.rows(query),
            "key": parts.rows(key),
            **own,
            "groups": x.shape[1] * np.arange(len(x) + 1, dtype=np.int32),
        }
        if random is not None:
            seed, token = random
            arrays["random"] = np.array([seed, block, token], np.int64)
        taken = self.router.arguments(random is not None)
        result, kept = layer.forward(**{name: arrays[name] for name in taken})
        x = x + result["y"].reshape(x.shape)
        return x, result, (norm1, attended, norm2, kept)

    def backward(
        self, w: Weights, codes: np.ndarray, saved: Any, d_logits: np.ndarray
    ) -> Weights:
        """Gradients of the loss whose cotangent of the logits is given.

        The layers' losses count once each. The forward was a training one.
        """
        d = w.zeros()
        *blocks, (normed, norm) = saved
        d["head"] = parts.rows(normed).T @ parts.rows(d_logits)
        d_x, d["norm"] = parts.rms_norm_backward(norm, d_logits @ w["head"].T)
        for block in reversed(range(self.sizes.blocks)):
            d_x = self._block_backward(d, block, d_x, blocks[block])
        np.add.at(d["embed"], codes, d_x)
        return d

    def _block_backward(
        self, d: Weights, block: int, d_x: np.ndarray, saved: Any
    ) -> np.ndarray:
        """Writes a block's gradients; cotangent of what went into it."""
        norm1, attended, norm2, kept = saved
        cotangents = {"d_y": np.ascontiguousarray(parts.rows(d_x))}
        for name in self.router.losses:
            cotangents[f"d_{name}"] = np.ones((), d_x.dtype)
        grads = self.training.backward(kept, **cotangents)
        for name in ("router", "gate_up", "down"):
            d[f"{block}.{name}"] = grads[f"d_{name}"]
        d_normed = grads["d_x"].reshape(d_x.shape)
        d_more, d[f"{block}.norm2"] = parts.rms_norm_backward(norm2, d_normed)
        d_x = d_x + d_more
        arriving = [
            grads[name].reshape(d_x.shape) if name in grads else None
            for name in ("d_query", "d_key")
        ]
        d_normed, d[f"{block}.qkv"], d[f"{block}.out"] = (
            parts.attention_backward(attended, d_x, *arriving)
        )
        d_more, d[f"{block}.norm1"] = parts.rms_norm_backward(norm1, d_normed)
        return d_x + d_more

    def loss_and_gradients(
        self, w: Weights, windows: np.ndarray, random: tuple[int, int]
    ) -> tuple[float, float, Weights]:
        """Mean nats a character, the layers' losses, gradients of the sum.

        windows i32 [B, T + 1].
        """
        codes, targets = windows[:, :-1], windows[:, 1:]
        output = self.forward(w, codes, random)
        nats, probs = parts.cross_entropy(output.logits, targets)
        d_logits = parts.cross_entropy_backward(probs, targets)
        grads = self.backward(w, codes, output.saved, d_logits)
        return float(nats.mean()), output.aux, grads


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
