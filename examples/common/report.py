# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The results as a table, a plot, and sentences that compare numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import plot
from .claims import Claim, Results, mean_of, nats, verdicts
from .layers import Sizes
from .measures import NOISE_SHOWN, Result

ROOT = Path(__file__).resolve().parents[2]


class Bar(NamedTuple):
    """Something that has to hold."""

    text: str
    met: bool


class Told(NamedTuple):
    """The words for what a model reads and predicts."""

    title: str
    prediction: str  # "a character"
    held_out: str  # "held-out windows of 64 characters"
    trained: str  # "such windows"
    disturbed: str  # What noise is added to.
    baseline_name: str  # A simple model of the same data,
    baseline: float  # and its nats on what is held out.
    folder: str  # Of table and plot, in the build tree.


def table(results: Results, told: Told, sizes: Sizes) -> str:
    """All numbers in Markdown, and what they are."""
    head = [
        "router", "loss", "accuracy", "utilisation", "routing entropy",
        "experts", "fluctuation", f"accuracy, noise {NOISE_SHOWN}",
        "loss without experts", "seconds",
    ]  # fmt: skip
    lines = [
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
    ]
    for name, runs in results.items():
        cells = [
            name,
            f"{mean_of(nats, runs):.4f}",
            f"{mean_of(lambda r: r.accuracy, runs):.2%}",
            f"{mean_of(lambda r: r.utilisation, runs):.2f}",
            f"{mean_of(lambda r: r.entropy, runs):.3f}",
            f"{mean_of(lambda r: r.used, runs):.2f}",
            f"{mean_of(lambda r: r.fluctuation, runs):.2%}",
            f"{mean_of(lambda r: r.noisy[NOISE_SHOWN], runs):.2%}",
            f"{mean_of(lambda r: r.nats_without, runs):.3f}",
            f"{mean_of(lambda r: r.seconds, runs):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    runs = next(iter(results.values()))
    first = runs[0]
    lines += [
        "",
        f"Means over {len(runs)} seed(s), on {len(first.nats)} "
        f"{told.held_out}, after {len(first.losses)} steps of {sizes.batch} "
        f"{told.trained}; {sizes.blocks} blocks of width {sizes.width}, "
        f"{sizes.experts} experts of width {sizes.inter}. Losses are nats "
        f"{told.prediction}; {told.baseline_name} has {told.baseline:.4f}. "
        "Utilisation is exp(entropy of the experts' loads) / E. Routing "
        "entropy is that of a token's scores, at most "
        f"{math.log(sizes.experts):.3f} nats. Fluctuation is the share of "
        "tokens whose experts change from a late checkpoint to the next. "
        f"Noise is added to {told.disturbed}, in units of the root of their "
        "mean square. Seconds are those of one training.",
    ]
    if "soft" in results:
        lines[-1] += (
            " Soft slots mix all tokens of a sequence: every token has all "
            "experts, its scores and their loads are the slots' weights."
        )
    return "\n".join(lines)


def conclusions(claims: Sequence[Claim], results: Results) -> str:
    """Which claims hold here, of the routers that were trained."""
    lines = verdicts(claims, results)
    if not lines:
        return ""
    text = (
        "What holds at this size. A difference counts if it is above two "
        "standard errors over what is held out, above the scatter between "
        "seeds (95 %, pooled over all routers) and above one percent."
    )
    if any(len(runs) == 1 for runs in results.values()):
        text += " With one seed, what a seed changes is not known."
    return f"{text}\n\n" + "\n".join(lines)


def bars(result: Result, told: Told) -> list[Bar]:
    """What every trained model has to show."""
    loss = float(result.nats.mean())
    rise = result.nats_without - loss
    name = f"{result.router}, seed {result.seed}"
    return [
        Bar(
            f"{name}: loss {loss:.4f} < {told.baseline:.4f} of "
            f"{told.baseline_name}",
            loss < told.baseline,
        ),
        Bar(f"{name}: without experts it is {rise:.4f} higher", rise > 0.0),
    ]


def default_folder(name: str) -> Path:
    """Where table and plot go: in the build tree."""
    return Path(os.environ.get("MOE_BUILD") or ROOT / "build") / name


def finish(
    results: Results,
    checks: list[Bar],
    claims: Sequence[Claim],
    told: Told,
    sizes: Sizes,
    folder: Path,
) -> int:
    """Prints and writes everything; the exit status."""
    blocks = [table(results, told, sizes), conclusions(claims, results)]
    text = "\n\n".join(block for block in blocks if block) + "\n"
    print(f"\n{text}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(
        f"# {told.title}\n\n{text}\n![All numbers](plot.svg)\n", encoding="utf-8"
    )
    (folder / "plot.svg").write_text(
        plot.draw(results, told.baseline), encoding="utf-8"
    )
    print(f"wrote report.md and plot.svg into {folder}\n")
    for bar in checks:
        print(f"{'ok  ' if bar.met else 'MISS'} {bar.text}")
    return 0 if all(bar.met for bar in checks) else 1
