# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The training of one model, and its repetition in f64."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np

from .layers import Router
from .model import Model, Task, initial_weights
from .reference import ReferenceLayer
from .weights import Adam, Weights

RATE = 3e-3
WARMUP = 50  # Steps until the rate is reached.
CHECKPOINTS = (0.85, 0.9, 0.95, 1.0)  # Of the steps; the last is the model.
JUDGED = 100  # Steps that are repeated in f64.


class Progress:
    """A line that shows how far a training is; nothing in a file."""

    WIDTH = 30

    def __init__(self, name: str, steps: int) -> None:
        self.name = name
        self.steps = steps
        self.start = time.perf_counter()
        self.shown = sys.stderr.isatty()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.start

    def show(self, done: int, loss: float) -> None:
        """Draws the line anew, every tenth step."""
        if not self.shown or (done % 10 and done != self.steps):
            return
        full = self.WIDTH * done // self.steps
        bar = "#" * full + "." * (self.WIDTH - full)
        line = (
            f"\r{self.name:<18} [{bar}] {done:>5}/{self.steps}  "
            f"loss {loss:.3f}  {self.seconds:5.1f} s"
        )
        end = "\n" if done == self.steps else ""
        print(line, end=end, file=sys.stderr, flush=True)


def make_model(
    task: Task, router: Router, kind: str, threads: int | None = None
) -> Model:
    """A model whose layers are compiled, or NumPy of a dtype.

    kind: "compiled", "float32" or "float64".
    """
    sizes = task.sizes
    if kind != "compiled":
        training, evaluation = (
            ReferenceLayer(router, sizes, training, kind)
            for training in (True, False)
        )
        return Model(task, router, training, evaluation)
    from . import compiled  # What trains by NumPy needs no moe_mlir.

    return Model(
        task,
        router,
        compiled.compile_training(router, sizes, threads),
        compiled.compile_forward(router, sizes, False, threads),
    )


def rate_at(step: int, steps: int) -> float:
    """Learning rate: up in WARMUP steps, by a cosine to a tenth."""
    cosine = 0.5 * (1.0 + np.cos(np.pi * step / steps))
    return RATE * min(1.0, (step + 1) / WARMUP) * (0.1 + 0.9 * float(cosine))


def steps_of(
    model: Model, steps: int, seed: int, dtype: str
) -> Iterator[tuple[float, Weights]]:
    """Trains: the loss of every step, and the weights after it.

    The weights are the same object all the time. Batches and random numbers
    depend on the seed and the number of the step alone.
    """
    s = model.sizes
    w = initial_weights(model.task, model.router, seed, dtype)
    adam = Adam(w)
    for step in range(steps):
        batch = model.task.batch(seed, step)
        random = (seed, step * s.batch * s.length)
        loss, _, grads = model.loss_and_gradients(w, batch, random)
        adam.step(w, grads, rate_at(step, steps))
        yield loss, w


def train(
    model: Model,
    steps: int,
    seed: int,
    progress: Progress | None = None,
) -> tuple[list[float], list[Weights]]:
    """Trains in f32: losses of the steps and the late checkpoints."""
    kept = {round(share * steps) for share in CHECKPOINTS}
    losses: list[float] = []
    checkpoints = []
    for loss, w in steps_of(model, steps, seed, "float32"):
        losses.append(loss)
        if len(losses) in kept:
            checkpoints.append(w.copy())
        if progress:
            progress.show(len(losses), float(np.mean(losses[-50:])))
    return losses, checkpoints


def judge(model: Model, steps: int, seed: int) -> tuple[float, int, int]:
    """The first steps by a model in f32 and by NumPy in f64, side by side.

    Both start with the same weights; nothing is handed over later, but choices
    that are nearly ties, for which f64 takes those of f32 (reference.py).
    Returns the largest difference of the losses, how many choices that were,
    and how many there were.
    """
    s, task = model.sizes, model.task
    wanted = make_model(task, model.router, "float64")
    pair = zip(
        steps_of(model, steps, seed, "float32"),
        steps_of(wanted, steps, seed, "float64"),
    )
    # A generator stands in front of its next step: what it will choose is
    # what its weights choose in evaluation, for routers without a draw.
    w = initial_weights(task, model.router, seed, "float32")
    worst, count, choices = 0.0, min(JUDGED, steps), 0
    for step in range(count):
        layers = model.forward(w, task.batch(seed, step).inputs).layers
        wanted.training.given = [layer.get("ids") for layer in layers]
        (loss, w), (exact, _) = next(pair)
        worst = max(worst, abs(loss - exact))
        if model.router.chooser == "experts":
            choices += s.blocks * s.batch * s.experts
        elif model.router.chooser == "tokens":
            choices += s.blocks * s.batch * s.length
    return worst, wanted.training.ties, choices
