# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The command that trains a model for each router and compares them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import layer_text, measures, report, training
from .claims import Claim
from .layers import ROUTERS, Router, names
from .model import Batch, Model, Task
from .report import Bar, Told

STEPS = 1000
SEEDS = (1, 2)
TOLERANCE = 1e-4  # Nats that losses may differ by from f64.
QUICK_STEPS = 30
QUICK_HELD_OUT = 64


class Example(NamedTuple):
    """What is trained on, and what is said of it.

    held_out: sequences that are read to evaluate, the same for all models.
    """

    description: str
    task: Task
    routers: tuple[Router, ...]
    claims: Sequence[Claim]
    held_out: Callable[[int | None], Batch]  # So many, or None: all.
    told: Callable[[Batch], Told]


def judged(model: Model, steps: int, seed: int) -> Bar:
    """The bar of the first losses."""
    difference, ties, choices = training.judge(model, steps, seed)
    count = min(training.JUDGED, steps)
    return Bar(
        f"{model.router.name}: {count} losses differ by {difference:.1e} from "
        f"f64 NumPy, at most {TOLERANCE:.0e} ({ties} of {choices:,} choices "
        "were ties)",
        difference <= TOLERANCE,
    )


def run(example: Example, options: argparse.Namespace) -> int:
    """Trains, measures and reports; the exit status."""
    held_out = example.held_out(QUICK_HELD_OUT if options.quick else None)
    told = example.told(held_out)
    kind = "compiled" if options.layer == "compiled" else "float32"
    results: report.Results = {}
    bars: list[Bar] = []
    for name in options.routers:
        model = training.make_model(
            example.task, ROUTERS[name], kind, options.threads
        )
        for seed in options.seeds:
            progress = training.Progress(f"{name}, seed {seed}", options.steps)
            losses, checkpoints = training.train(
                model, options.steps, seed, progress
            )
            seconds = progress.seconds
            result = measures.measure(
                model, checkpoints, held_out, losses, seconds, seed
            )
            results.setdefault(name, []).append(result)
            if not options.quick:
                bars += report.bars(result, told)
        if not model.router.draws:
            bars.append(judged(model, options.steps, options.seeds[0]))
    folder = options.out or report.default_folder(told.folder)
    sizes = example.task.sizes
    return report.finish(results, bars, example.claims, told, sizes, folder)


def parse(example: Example, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=example.description,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    choices = names(example.routers)
    add = parser.add_argument
    add("--routers", nargs="+", choices=choices, metavar="ROUTER",
        help=", ".join(choices))
    add("--layer", choices=("compiled", "reference"), default="compiled")
    add("--steps", type=int, help=f"of one training, {STEPS}")
    add("--seeds", type=int, nargs="+", help="trainings of each router")
    add("--threads", type=int, help="of the compiled layers")
    add("--quick", action="store_true", help="one router, few steps")
    add("--out", type=Path, help="folder of table and plot")
    add("--print-layer", choices=choices, metavar="ROUTER")
    options = parser.parse_args(arguments)  # fmt: skip
    quick = options.quick
    options.routers = options.routers or choices[: 1 if quick else None]
    options.seeds = options.seeds or list(SEEDS)[: 1 if quick else None]
    options.steps = options.steps or (QUICK_STEPS if quick else STEPS)
    if options.steps < 20:
        parser.error("--steps must be 20 or more: there are late checkpoints")
    return options


def main(example: Example, arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 if all bars are met."""
    options = parse(example, arguments)
    if options.print_layer:
        router, sizes = ROUTERS[options.print_layer], example.task.sizes
        print(layer_text.source(router, sizes, training=True), end="")
        return 0
    return run(example, options)
