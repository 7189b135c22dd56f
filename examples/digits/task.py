# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Images as a task: patches are the tokens, a digit is what they mean."""

from __future__ import annotations

import digits
import numpy as np
from common import parts
from common.layers import Sizes
from common.measures import NOISE_SEED
from common.model import Batch, Shapes
from common.report import Told
from common.weights import Weights

SIDE = 2  # Of a patch.
PATCHES = 16
WARP = 0.8

# What the linear classifier is trained with.
LINEAR_STEPS = 500
LINEAR_RATE = 1.0
LINEAR_DECAY = 1e-3


def to_patches(pixels: np.ndarray) -> np.ndarray:
    """Images [N, 64] as [N, 16, 4], row after row."""
    places = 8 // SIDE
    split = pixels.reshape(len(pixels), places, SIDE, places, SIDE)
    return split.transpose(0, 1, 3, 2, 4).reshape(len(pixels), PATCHES, -1)


def linear_entropy(train: digits.Split, inputs: Batch) -> float:
    """Nats an image of a linear classifier of pixels, trained on `train`.

    Softmax regression with weight decay, by gradient descent on all images.
    """

    def rows(patches: np.ndarray) -> np.ndarray:
        flat = patches.reshape(len(patches), -1).astype(np.float64)
        return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)

    x = rows(to_patches(train.pixels))
    w = np.zeros((x.shape[1], digits.CLASSES))
    for _ in range(LINEAR_STEPS):
        _, probs = parts.cross_entropy(x @ w, train.labels)
        d_logits = parts.cross_entropy_backward(probs, train.labels)
        w -= LINEAR_RATE * (x.T @ d_logits + LINEAR_DECAY * w)
    nats, _ = parts.cross_entropy(rows(inputs.inputs) @ w, inputs.targets)
    return float(nats.mean())


class Images:
    """Inputs are f32 patches [B, 16, 4] in [0, 1], targets labels [B]."""

    causal = False

    def __init__(self, sizes: Sizes | None = None) -> None:
        self.train, self.test = digits.load_split()
        self.sizes = sizes or Sizes(
            classes=digits.CLASSES, length=PATCHES, batch=32
        )

    def front_shapes(self) -> Shapes:
        width = self.sizes.width
        return {
            "embed": ((SIDE * SIDE, width), 0.5),
            "position": ((PATCHES, width), 0.5),
        }

    def back_shapes(self) -> Shapes:
        width = self.sizes.width
        return {"head": ((width, self.sizes.classes), width**-0.5)}

    def batch(self, seed: int, step: int) -> Batch:
        """Different images, each a little warped."""
        rng = np.random.default_rng([seed, step])
        count = len(self.train.labels)
        pick = rng.choice(count, self.sizes.batch, replace=False)
        pixels = digits.warped(
            self.train.pixels[pick].astype(np.float64), WARP, rng
        )
        patches = to_patches(pixels.astype(np.float32))
        return Batch(patches, self.train.labels[pick])

    def held_out(self, count: int | None) -> Batch:
        """The first held-out images, or all."""
        return Batch(
            to_patches(self.test.pixels[:count]), self.test.labels[:count]
        )

    def told(self, held_out: Batch) -> Told:
        """The words of the report."""
        return Told(
            title="Routers in a small vision transformer",
            prediction="an image",
            held_out=f"held-out images of {PATCHES} patches",
            trained="images",
            disturbed="the pixels",
            baseline_name="a linear classifier of the pixels",
            baseline=linear_entropy(self.train, held_out),
            folder="digits",
        )

    def noise(
        self, w: Weights, inputs: np.ndarray, level: float, at: int
    ) -> np.ndarray:
        scale = level * float(np.sqrt(np.mean(self.test.pixels**2)))
        rng = np.random.default_rng([NOISE_SEED, at])
        noise = scale * rng.standard_normal(inputs.shape)
        return noise.astype(w.vector.dtype)

    def embed(
        self, w: Weights, inputs: np.ndarray, noise: np.ndarray | None
    ) -> np.ndarray:
        seen = inputs if noise is None else inputs + noise
        return seen @ w["embed"] + w["position"]

    def embed_backward(
        self, d: Weights, inputs: np.ndarray, d_x: np.ndarray
    ) -> None:
        d["embed"] = parts.rows(inputs).T @ parts.rows(d_x)
        d["position"] = d_x.sum(axis=0)

    def read(self, w: Weights, x: np.ndarray) -> np.ndarray:
        """Of the mean of an image's patches."""
        return x.mean(axis=1) @ w["head"]

    def read_backward(
        self, w: Weights, d: Weights, x: np.ndarray, d_logits: np.ndarray
    ) -> np.ndarray:
        d["head"] = x.mean(axis=1).T @ d_logits
        d_mean = d_logits @ w["head"].T / x.shape[1]
        return np.broadcast_to(d_mean[:, None], x.shape)
