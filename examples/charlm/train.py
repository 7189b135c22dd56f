# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains a small language model once for each router, and compares them.

The layers with experts are compiled, forward and backward; the rest is NumPy.
Prints a table, writes it with a plot into a folder, and says which claims of
the routers' papers hold at this size, from the numbers of this run. Exit
status 1 if a bar at the end is missed.

  train.py                      all routers, some minutes
  train.py --quick              one router, 30 steps: does it run
  train.py --layer reference    the layers in NumPy as well
  train.py --print-layer top_k  the IR that is trained
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# One thread for the products of NumPy: sums are split the same way on every
# run. The compiled layers have threads of their own, and the same sums with
# any number of them.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from charlm import data, layers, measures, report, training  # noqa: E402
from charlm.layers import ROUTERS, Sizes  # noqa: E402
from charlm.model import Model  # noqa: E402
from charlm.report import Bar  # noqa: E402

STEPS = 1000
SEEDS = (1, 2)
HELD_OUT = 512  # Windows that are evaluated.
TOLERANCE = 1e-4  # Nats that losses may differ by from f64.
QUICK_STEPS = 30
QUICK_HELD_OUT = 64


def judged(model: Model, codes: np.ndarray, steps: int, seed: int) -> Bar:
    """The bar of the first losses."""
    difference, ties, choices = training.judge(model, codes, steps, seed)
    count = min(training.JUDGED, steps)
    return Bar(
        f"{model.router.name}: {count} losses differ by {difference:.1e} from "
        f"f64 NumPy, at most {TOLERANCE:.0e} ({ties} of {choices:,} choices "
        "were ties)",
        difference <= TOLERANCE,
    )


def run(options: argparse.Namespace) -> int:
    """Trains, measures and reports; the exit status."""
    text = data.load()
    sizes = Sizes(vocab=len(text.alphabet))
    count = QUICK_HELD_OUT if options.quick else HELD_OUT
    windows = data.spread_windows(text.held_out, sizes.length, count)
    bigram = data.bigram_entropy(text, windows)
    kind = "compiled" if options.layer == "compiled" else "float32"
    results: report.Results = {}
    bars: list[Bar] = []
    for name in options.routers:
        model = training.make_model(
            ROUTERS[name], sizes, kind, options.threads
        )
        for seed in options.seeds:
            progress = training.Progress(f"{name}, seed {seed}", options.steps)
            losses, checkpoints = training.train(
                model, text.train, options.steps, seed, progress
            )
            seconds = progress.seconds
            result = measures.measure(
                model, checkpoints, windows, losses, seconds, seed
            )
            results.setdefault(name, []).append(result)
            if not options.quick:
                bars += report.bars(result, bigram)
        if not model.router.draws:
            bars.append(
                judged(model, text.train, options.steps, options.seeds[0])
            )
    return report.finish(results, bars, bigram, sizes, options.out)


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--routers", nargs="+", choices=ROUTERS, metavar="ROUTER",
        help=", ".join(ROUTERS))
    add("--layer", choices=("compiled", "reference"), default="compiled")
    add("--steps", type=int, help=f"of one training, {STEPS}")
    add("--seeds", type=int, nargs="+", help="trainings of each router")
    add("--threads", type=int, help="of the compiled layers")
    add("--quick", action="store_true", help="one router, few steps")
    add("--out", type=Path, default=report.default_folder(),
        help="folder of table and plot")
    add("--print-layer", choices=ROUTERS, metavar="ROUTER")
    options = parser.parse_args()  # fmt: skip
    quick = options.quick
    options.routers = options.routers or list(ROUTERS)[: 1 if quick else None]
    options.seeds = options.seeds or list(SEEDS)[: 1 if quick else None]
    options.steps = options.steps or (QUICK_STEPS if quick else STEPS)
    if options.steps < 20:
        parser.error("--steps must be 20 or more: there are late checkpoints")
    return options


def main() -> int:
    options = parse()
    if options.print_layer:
        router = ROUTERS[options.print_layer]
        print(layers.source(router, Sizes(), training=True), end="")
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
