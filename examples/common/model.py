# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A small transformer: blocks of attention and a Mixture of Experts.

x = embedding of the inputs; in every block x += attention(norm(x)) and
x += experts(norm(x)); logits are what the task reads off norm(x). The layers
with experts are given: compiled, or reference.py's.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from . import parts
from .layers import Router, Sizes
from .weights import Weights

ATTENTION_WEIGHTS = ("norm1", "qkv", "out", "norm2")

# The shape of a weight and the size of its first numbers.
Shapes = dict[str, tuple[tuple[int, ...], float]]


class Batch(NamedTuple):
    """Sequences that are read together, and what is to be predicted."""

    inputs: np.ndarray  # [B, ..]
    targets: np.ndarray  # i64 [B, ..], classes


class Task(Protocol):
    """What is in front of the blocks and behind them, and what is learned.

    A model reads sequences of L tokens, [B, L, D] for the blocks.

    causal: whether a token may see earlier ones alone.
    """

    sizes: Sizes
    causal: bool

    def front_shapes(self) -> Shapes:
        """Weights of `embed`."""

    def back_shapes(self) -> Shapes:
        """Weights of `read`."""

    def batch(self, seed: int, step: int) -> Batch:
        """What a step trains on: a function of seed and step alone."""

    def noise(
        self, w: Weights, inputs: np.ndarray, level: float, at: int
    ) -> np.ndarray:
        """What `embed` adds to held-out inputs, the first of number `at`.

        level: standard deviation, over the root of the mean square of what it
            is added to. The same for all models of a width.
        """

    def embed(
        self, w: Weights, inputs: np.ndarray, noise: np.ndarray | None
    ) -> np.ndarray:
        """Tokens [B, L, D] of inputs."""

    def embed_backward(
        self, d: Weights, inputs: np.ndarray, d_x: np.ndarray
    ) -> None:
        """Adds gradients to d, which is zero."""

    def read(self, w: Weights, x: np.ndarray) -> np.ndarray:
        """Logits [B, .., classes] of x [B, L, D], in the targets' places."""

    def read_backward(
        self, w: Weights, d: Weights, x: np.ndarray, d_logits: np.ndarray
    ) -> np.ndarray:
        """Writes gradients to d; the cotangent of x."""


def weight_shapes(task: Task, router: Router) -> Shapes:
    """All weights by name; those of block b are called `b.NAME`."""
    s = task.sizes
    d = s.width
    shapes = task.front_shapes()
    # What adds to x is smaller the more blocks there are.
    added = (2 * s.blocks) ** -0.5
    layer = router.weight_shapes(s)
    for block in range(s.blocks):
        own: Shapes = {
            "norm1": ((d,), 0.0),
            "qkv": ((d, 3 * d), d**-0.5),
            "out": ((d, d), added * d**-0.5),
            "norm2": ((d,), 0.0),
        }
        for name, shape in layer.items():
            scale = shape[-1] ** -0.5 if shape else 0.0
            own[name] = (shape, scale * (added if name == "down" else 1.0))
        shapes |= {f"{block}.{name}": kind for name, kind in own.items()}
    return shapes | {"norm": ((d,), 0.0)} | task.back_shapes()


def initial_weights(
    task: Task, router: Router, seed: int, dtype: Any
) -> Weights:
    """Random weights; f32 and f64 ones of a seed are the same f32 numbers.

    What has no size begins at one: scales of norms and of soft slots.
    """
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(task, router)
    w = Weights({name: shape for name, (shape, _) in shapes.items()}, dtype)
    for name, (shape, scale) in shapes.items():
        if scale:
            w[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
        else:
            w[name] = 1.0
    return w


class Output(NamedTuple):
    """What a forward gives back."""

    logits: np.ndarray  # [B, .., classes]
    aux: float  # Sum of the layers' losses.
    layers: list[dict[str, np.ndarray]]  # What each layer returned.
    saved: Any


class Model:
    """The forward and the backward around layers with experts.

    training and evaluation are layers as layers.py describes, with `forward`
    and, the first, `backward`; all blocks share them.
    """

    def __init__(
        self, task: Task, router: Router, training: Any, evaluation: Any
    ) -> None:
        self.task = task
        self.router = router
        self.sizes = task.sizes
        self.training = training
        self.evaluation = evaluation

    def forward(
        self,
        w: Weights,
        inputs: np.ndarray,
        random: tuple[int, int] | None = None,
        noise: np.ndarray | None = None,
    ) -> Output:
        """Logits of inputs.

        random: (seed, number of the first token) in training, None in
            evaluation, where nothing is drawn.
        noise: of the task.
        """
        layer = self.evaluation if random is None else self.training
        x = self.task.embed(w, inputs, noise)
        aux, results, saved = 0.0, [], []
        for block in range(self.sizes.blocks):
            x, result, kept = self._block(w, block, x, layer, random)
            aux += float(result.get("loss", 0.0))
            results.append(result)
            saved.append(kept)
        normed, kept = parts.rms_norm(x, w["norm"])
        saved.append((normed, kept))
        return Output(self.task.read(w, normed), aux, results, saved)

    def _block(
        self,
        w: Weights,
        block: int,
        x: np.ndarray,
        layer: Any,
        random: tuple[int, int] | None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray], Any]:
        """One block: x [B, L, D] behind it, the layer's results, the rest."""
        names = (*ATTENTION_WEIGHTS, *self.router.weights())
        own = {name: w[f"{block}.{name}"] for name in names}
        normed, norm1 = parts.rms_norm(x, own["norm1"])
        y, query, key, attended = parts.attention(
            normed, own["qkv"], own["out"], self.sizes.heads, self.task.causal
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
        self, w: Weights, inputs: np.ndarray, saved: Any, d_logits: np.ndarray
    ) -> Weights:
        """Gradients of the loss whose cotangent of the logits is given.

        The layers' losses count once each. The forward was a training one.
        """
        d = w.zeros()
        *blocks, (normed, norm) = saved
        d_normed = self.task.read_backward(w, d, normed, d_logits)
        d_x, d["norm"] = parts.rms_norm_backward(norm, d_normed)
        for block in reversed(range(self.sizes.blocks)):
            d_x = self._block_backward(d, block, d_x, blocks[block])
        self.task.embed_backward(d, inputs, d_x)
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
        for name in self.router.weights():
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
        self, w: Weights, batch: Batch, random: tuple[int, int]
    ) -> tuple[float, float, Weights]:
        """Mean nats a prediction, the layers' losses, gradients of the sum."""
        output = self.forward(w, batch.inputs, random)
        nats, probs = parts.cross_entropy(output.logits, batch.targets)
        d_logits = parts.cross_entropy_backward(probs, batch.targets)
        grads = self.backward(w, batch.inputs, output.saved, d_logits)
        return float(nats.mean()), output.aux, grads
