# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a trained model does on held-out sequences.

Numbers that are compared between routers are kept for each sequence, so that a
difference has a standard error over sequences.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from . import parts
from .layers import Router
from .model import Batch, Model
from .weights import Weights

CHUNK = 64  # Sequences in one forward.
NOISE_LEVELS = (0.25, 0.5, 1.0)
NOISE_SHOWN = 0.5  # The level of the table and of what is concluded.
NOISE_SEED = 3
TINY = np.finfo(np.float64).tiny


class Meeting(NamedTuple):
    """How tokens and experts of a layer met."""

    taken: np.ndarray  # bool [T, E]; all, where slots mix all tokens
    scores: np.ndarray  # f64 [T, E], rows sum to 1
    loads: np.ndarray  # f64 [E]: tokens of an expert; of slots their weights


def meeting(
    router: Router, experts: int, result: dict[str, np.ndarray]
) -> Meeting:
    """The same of what a layer returned in evaluation."""
    if router.chooser == "slots":
        combine = result["combine"].astype(np.float64)
        scores = combine.reshape(len(combine), experts, -1).sum(axis=2)
        return Meeting(np.ones(scores.shape, bool), scores, scores.sum(axis=0))
    ids, scores = result["ids"], result["scores"].astype(np.float64)
    taken = np.zeros(scores.shape, bool)
    places = np.arange(len(ids))[:, None]
    if router.chooser == "experts":
        taken[ids, places] = True
    else:
        tokens, slots = np.nonzero(ids >= 0)
        taken[tokens, ids[tokens, slots]] = True
    return Meeting(taken, scores, taken.sum(axis=0).astype(np.float64))


def entropy(shares: np.ndarray) -> np.ndarray:
    """Nats of the last axis, which sums to one."""
    return -(shares * np.log(np.maximum(shares, TINY))).sum(axis=-1)


@dataclasses.dataclass
class Reading:
    """One pass over N held-out sequences of a model with L layers."""

    nats: np.ndarray  # [N] mean nats a prediction
    accuracy: np.ndarray  # [N] share of right ones
    entropy: np.ndarray  # [N] nats of a token's scores, mean over layers
    used: np.ndarray  # [N] experts of a token, mean over layers
    loads: np.ndarray  # [L, E]
    sets: np.ndarray  # bool [L, N, T, E], the experts of a token


def read(
    model: Model, w: Weights, held_out: Batch, noise: float = 0.0
) -> Reading:
    """Evaluates by the rules of inference; noise: of Task.noise."""
    parts_of = [
        _read_chunk(
            model, w, Batch(*(a[at : at + CHUNK] for a in held_out)), noise, at
        )
        for at in range(0, len(held_out.inputs), CHUNK)
    ]
    joined = [
        np.concatenate([getattr(part, name) for part in parts_of])
        for name in ("nats", "accuracy", "entropy", "used")
    ]
    loads = sum(part.loads for part in parts_of)
    sets = np.concatenate([part.sets for part in parts_of], axis=1)
    return Reading(*joined, loads, sets)


def _read_chunk(
    model: Model, w: Weights, batch: Batch, level: float, at: int
) -> Reading:
    """The same of some sequences, the first of which has the number `at`."""
    noise = None
    if level:
        noise = model.task.noise(w, batch.inputs, level, at)
    output = model.forward(w, batch.inputs, noise=noise)
    nats, _ = parts.cross_entropy(output.logits, batch.targets)
    guessed = output.logits.argmax(axis=-1) == batch.targets
    count = len(batch.inputs)
    experts = model.sizes.experts
    met = [meeting(model.router, experts, layer) for layer in output.layers]

    def mean(of: np.ndarray) -> np.ndarray:
        """Of what each token, or each prediction, has."""
        return of.reshape(count, -1).mean(axis=1)

    return Reading(
        mean(nats),
        mean(guessed),
        np.mean([mean(entropy(layer.scores)) for layer in met], axis=0),
        np.mean([mean(layer.taken.sum(axis=1)) for layer in met], axis=0),
        np.array([layer.loads for layer in met]),
        np.array([layer.taken.reshape(count, -1, experts) for layer in met]),
    )


def utilisation(loads: np.ndarray) -> float:
    """exp(entropy of the loads' shares) / E, mean over layers: 1 is even."""
    share = loads / loads.sum(axis=1, keepdims=True)
    return float(np.exp(entropy(share)).mean() / loads.shape[1])


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
    """A trained model in numbers; arrays are over held-out sequences [N]."""

    router: str
    seed: int
    seconds: float  # Training alone.
    losses: list[float]  # Of the steps, nats a prediction.
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
    held_out: Batch,
    losses: list[float],
    seconds: float,
    seed: int,
) -> Result:
    """All numbers of a model; the last checkpoint is the trained one."""
    readings = [read(model, w, held_out) for w in checkpoints]
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
            level: read(model, w, held_out, level).accuracy
            for level in NOISE_LEVELS
        },
        utilisation=utilisation(last.loads),
        nats_without=float(
            read(model, without_experts(w), held_out).nats.mean()
        ),
    )
