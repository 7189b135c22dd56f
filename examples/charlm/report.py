# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The results as a table, a plot, and sentences that compare numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import plot
from .layers import Sizes
from .measures import NOISE_SHOWN, Result

BASELINE = "top_k"
ROOT = Path(__file__).resolve().parents[2]


# A number of a model: of each window [N], or one.
Number = Callable[[Result], np.ndarray | float]


class Bar(NamedTuple):
    """Something that has to hold."""

    text: str
    met: bool


class Claim(NamedTuple):
    """What a paper says of a router beside another one.

    sign: -1 where its number is said to be lower, 1 higher, 0 not higher.
    """

    paper: str
    text: str
    router: str
    against: str
    number: Number
    sign: int


def nats(result: Result) -> np.ndarray:
    return result.nats


# As far as the papers were read, which docs/Routers.md says.
CLAIMS = [
    Claim(
        "ProbMoE, 2606.01509",
        "drawn experts with exact marginals learn better than top-k",
        "exact_k", BASELINE, nats, -1,
    ),
    Claim(
        "ProbMoE",
        "dynamic k uses fewer experts than exact k",
        "dynamic_k", "exact_k", lambda r: r.used, -1,
    ),
    Claim(
        "ProbMoE",
        "and loses little by it",
        "dynamic_k", "exact_k", nats, 0,
    ),
    Claim(
        "MOESART, ICLR 2024 submission 449",
        "drawn experts with corrected weights generalise better than top-k",
        "moesart", BASELINE, nats, -1,
    ),
    *(
        claim
        for router in ("similarity", "attention")
        for claim in (
            Claim(
                f"{router}-aware, 2505.00792",
                "choices of experts fluctuate less than with top-k",
                router, BASELINE, lambda r: r.fluctuation, -1,
            ),
            Claim(
                f"{router}-aware",
                "the entropy of the choice is lower",
                router, BASELINE, lambda r: r.entropy, -1,
            ),
            Claim(
                f"{router}-aware",
                "noise on the input costs less accuracy",
                router, BASELINE, lambda r: r.drop, -1,
            ),
        )
    ),
]  # fmt: skip


# Two-sided 95 % quantiles of Student's t by degrees of freedom.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

Results = dict[str, list[Result]]  # By router, one of each seed.


def mean_of(number: Number, runs: list[Result]) -> float:
    """Mean over seeds and windows."""
    return float(np.mean([np.mean(number(run)) for run in runs]))


def least_difference(
    number: Number, ours: list[Result], theirs: list[Result], results: Results
) -> float:
    """Above what the means of two routers differ, with 95 % confidence.

    The larger of: two standard errors over the held-out windows, which both
    have read; the scatter between seeds, taken to be alike for all routers;
    and one percent, below which a difference is of no interest.
    """
    paired = np.mean([number(run) for run in ours], axis=0)
    paired = paired - np.mean([number(run) for run in theirs], axis=0)
    windows = 2.0 * float(paired.std(ddof=1)) / math.sqrt(len(paired))
    squares, freedom = 0.0, 0
    for runs in results.values():
        means = [float(np.mean(number(run))) for run in runs]
        squares += len(means) * float(np.var(means))
        freedom += len(means) - 1
    seeds = 0.0
    if freedom:
        quantile = STUDENT[min(freedom, len(STUDENT)) - 1]
        share = 1.0 / len(ours) + 1.0 / len(theirs)
        seeds = quantile * math.sqrt(squares / freedom * share)
    return max(windows, seeds, 0.01 * abs(mean_of(number, theirs)))


def verdict(claim: Claim, results: Results) -> str:
    """One line on a claim."""
    runs = results[claim.router], results[claim.against]
    ours, theirs = (mean_of(claim.number, of) for of in runs)
    difference = ours - theirs
    needed = least_difference(claim.number, *runs, results)
    if claim.sign == 0:
        word = "holds" if difference <= needed else "does not hold"
    elif abs(difference) <= needed:
        word = "not decided"
    elif difference * claim.sign > 0.0:
        word = "holds"
    else:
        word = "does not hold, it is the other way round"
    return (
        f"- {claim.paper}: {claim.text}: **{word}**. {claim.router} "
        f"{ours:.4f}, {claim.against} {theirs:.4f}, difference "
        f"{difference:+.4f}; more than {needed:.4f} counts."
    )


def table(results: Results, bigram: float, sizes: Sizes) -> str:
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
        f"Means over {len(runs)} seed(s), on {len(first.nats)} held-out "
        f"windows of {sizes.length} characters, after {len(first.losses)} "
        f"steps of {sizes.batch} such windows; {sizes.blocks} blocks of width "
        f"{sizes.width}, {sizes.experts} experts of width {sizes.inter}. "
        "Losses are nats a character; a bigram model of the training text has "
        f"{bigram:.4f}. Utilisation is exp(entropy of the experts' loads) / "
        "E. Routing entropy is that of a token's scores, at most "
        f"{math.log(sizes.experts):.3f} nats. Fluctuation is the share of "
        "tokens whose experts change from a late checkpoint to the next. "
        "Noise is added to the embedded characters, in units of the root of "
        "their mean square. Seconds are those of one training.",
    ]
    return "\n".join(lines)


def claims(results: Results) -> str:
    """Which claims hold here, of the routers that were trained."""
    lines = [
        verdict(claim, results)
        for claim in CLAIMS
        if claim.router in results and claim.against in results
    ]
    if not lines:
        return ""
    text = (
        "What holds at this size. A difference counts if it is above two "
        "standard errors over the windows, above the scatter between seeds "
        "(95 %, pooled over all routers) and above one percent."
    )
    if len(results[BASELINE]) == 1:
        text += " With one seed, what a seed changes is not known."
    return f"{text}\n\n" + "\n".join(lines)


def bars(result: Result, bigram: float) -> list[Bar]:
    """What every trained model has to show."""
    loss = float(result.nats.mean())
    rise = result.nats_without - loss
    name = f"{result.router}, seed {result.seed}"
    return [
        Bar(
            f"{name}: loss {loss:.4f} < bigram entropy {bigram:.4f}",
            loss < bigram,
        ),
        Bar(f"{name}: without experts it is {rise:.4f} higher", rise > 0.0),
    ]


def default_folder() -> Path:
    """Where table and plot go: in the build tree."""
    return Path(os.environ.get("MOE_BUILD") or ROOT / "build") / "charlm"


def finish(
    results: Results,
    checks: list[Bar],
    bigram: float,
    sizes: Sizes,
    folder: Path,
) -> int:
    """Prints and writes everything; the exit status."""
    blocks = [table(results, bigram, sizes), claims(results)]
    text = "\n\n".join(block for block in blocks if block) + "\n"
    print(f"\n{text}")
    folder.mkdir(parents=True, exist_ok=True)
    title = "# Routers in a character-level language model"
    (folder / "report.md").write_text(
        f"{title}\n\n{text}\n![All numbers](plot.svg)\n", encoding="utf-8"
    )
    (folder / "plot.svg").write_text(
        plot.draw(results, bigram), encoding="utf-8"
    )
    print(f"wrote report.md and plot.svg into {folder}\n")
    for bar in checks:
        print(f"{'ok  ' if bar.met else 'MISS'} {bar.text}")
    return 0 if all(bar.met for bar in checks) else 1
