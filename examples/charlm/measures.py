# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a trained model does on held-out text.

Numbers that are compared between routers are kept for each window, so that a
difference has a standard error over windows.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from . import parts
from .model import Model, Weights

CHUNK = 64  # Windows in one forward.
NOISE_LEVELS = (0.25, 0.5, 1.0)
NOISE_SHOWN = 0.5  # The level of the table and of what is concluded.
NOISE_SEED = 3


@dataclasses.dataclass
class Reading:
    """One pass over held-out windows [N, T + 1] of a model with L layers."""

    nats: np.ndarray  # [N] mean nats a character
    accuracy: np.ndarray  # [N] share of characters guessed
    entropy: np.ndarray  # [N] nats of a token's scores, mean over layers
    used: np.ndarray  # [N] experts of a token, mean over layers
    loads: np.ndarray  # [L, E] slots that an expert served
    sets: np.ndarray  # [L, N, T, k] experts of a token, ascending, -1 first


def read(
    model: Model, w: Weights, windows: np.ndarray, noise: float = 0.0
) -> Reading:
    """Evaluates by the rules of inference.

    noise: standard deviation of what is added to each embedded number, over
    the root of the mean square of the embedding; the same numbers for all
    models of a width.
    """
    scale = noise * float(np.sqrt(np.mean(w["embed"] ** 2)))
    parts_of = [
        _read_chunk(model, w, windows[at : at + CHUNK], scale, at)
        for at in range(0, len(windows), CHUNK)
    ]
    joined = [
        np.concatenate([getattr(part, name) for part in parts_of])
        for name in ("nats", "accuracy", "entropy", "used")
    ]
    loads = sum(part.loads for part in parts_of)
    sets = np.concatenate([part.sets for part in parts_of], axis=1)
    return Reading(*joined, loads, sets)


def _read_chunk(
    model: Model, w: Weights, windows: np.ndarray, scale: float, at: int
) -> Reading:
    """The same of some windows, the first of which has the number `at`."""
    codes, targets = windows[:, :-1], windows[:, 1:]
    shape = codes.shape
    noise = None
    if scale:
        rng = np.random.default_rng([NOISE_SEED, at])
        size = (*shape, model.sizes.width)
        noise = (scale * rng.standard_normal(size)).astype(w.vector.dtype)
    output = model.forward(w, codes, noise=noise)
    nats, _ = parts.cross_entropy(output.logits, targets)
    guessed = output.logits.argmax(axis=-1) == targets
    entropy, used, loads, sets = [], [], [], []
    for layer in output.layers:
        ids, scores = layer["ids"], layer["scores"].astype(np.float64)
        logs = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
        entropy.append(-(scores * logs).sum(axis=1).reshape(shape))
        used.append((ids >= 0).sum(axis=1).reshape(shape))
        loads.append(np.bincount(ids[ids >= 0], minlength=scores.shape[1]))
        sets.append(np.sort(ids, axis=1).reshape(*shape, -1))
    return Reading(
        nats.mean(axis=1),
        guessed.mean(axis=1),
        np.mean(entropy, axis=(0, 2)),
        np.mean(used, axis=(0, 2)),
        np.array(loads),
        np.array(sets),
    )


def utilisation(loads: np.ndarray) -> float:
    """exp(entropy of the slots' shares) / E, mean over layers: 1 is even."""
    share = loads / loads.sum(axis=1, keepdims=True)
    logs = np.log(np.maximum(share, np.finfo(np.float64).tiny))
    even = np.exp(-(share * logs).sum(axis=1)) / loads.shape[1]
    return float(even.mean())


def fluctuation(readings: list[Reading]) -> np.ndarray:
    """Share [N] of tokens whose set changed from a checkpoint to the next.

    Mean over layers and over neighbouring checkpoints.
    """
    changes = [
        (before.sets != after.sets).any(axis=-1).mean(axis=(0, 2))
        for before, after in zip(readings, readings[1:])
    ]
    return np.mean(changes, axis=0)


def without_experts(w: Weights) -> Weights:
    """The weights with experts that return zero."""
    out = w.copy()
    for name in w.shapes:
        if name.endswith(".down"):
            out[name] = 0.0
    return out


@dataclasses.dataclass
class Result:
    """A trained model in numbers; arrays are over held-out windows [N]."""

    router: str
    seed: int
    seconds: float  # Training alone.
    losses: list[float]  # Of the steps, nats a character.
    nats: np.ndarray
    accuracy: np.ndarray
    entropy: np.ndarray
    used: np.ndarray
    fluctuation: np.ndarray
    noisy: dict[float, np.ndarray]  # Accuracy by level of noise.
    utilisation: float
    nats_without: float

    @property
    def drop(self) -> np.ndarray:
        """Accuracy that noise costs, [N]."""
        return self.accuracy - self.noisy[NOISE_SHOWN]


def measure(
    model: Model,
    checkpoints: list[Weights],
    windows: np.ndarray,
    losses: list[float],
    seconds: float,
    seed: int,
) -> Result:
    """All numbers of a model; the last checkpoint is the trained one."""
    readings = [read(model, w, windows) for w in checkpoints]
    w, last = checkpoints[-1], readings[-1]
    return Result(
        router=model.router.name,
        seed=seed,
        seconds=seconds,
        losses=losses,
        nats=last.nats,
        accuracy=last.accuracy,
        entropy=last.entropy,
        used=last.used,
        fluctuation=fluctuation(readings),
        noisy={
            level: read(model, w, windows, level).accuracy
            for level in NOISE_LEVELS
        },
        utilisation=utilisation(last.loads),
        nats_without=float(
            read(model, without_experts(w), windows).nats.mean()
        ),
    )
