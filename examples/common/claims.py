# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What papers say of their routers, and whether it holds in some results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from .measures import Result

BASELINE = "top_k"

# A number of a model: of each sequence [N], or one.
Number = Callable[[Result], np.ndarray | float]


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


def of_mix(router: str) -> list[Claim]:
    """Of the similarity-aware and the attention-aware router."""
    name = f"{router.removesuffix('_full')}-aware"
    if router.endswith("_full"):
        name += ", over all tokens"
    return [
        Claim(
            f"{name}, 2505.00792",
            "choices of experts fluctuate less than with top-k",
            router, BASELINE, lambda r: r.fluctuation, -1,
        ),
        Claim(
            name,
            "the entropy of the choice is lower",
            router, BASELINE, lambda r: r.entropy, -1,
        ),
        Claim(
            name,
            "noise on the input costs less accuracy",
            router, BASELINE, lambda r: r.drop, -1,
        ),
    ]  # fmt: skip


# As far as the papers were read, which docs/Routers.md says.
CAUSAL_CLAIMS = [
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
    *of_mix("similarity"),
    *of_mix("attention"),
]  # fmt: skip
GLOBAL_CLAIMS = [
    *of_mix("similarity_full"),
    *of_mix("attention_full"),
    Claim(
        "Expert choice, 2202.09368",
        "experts that choose learn better than tokens that do",
        "expert_choice", BASELINE, nats, -1,
    ),
    Claim(
        "Expert choice",
        "and their loads are more even",
        "expert_choice", BASELINE, lambda r: r.utilisation, 1,
    ),
    Claim(
        "Soft MoE, 2308.00951",
        "soft slots learn better than tokens that choose",
        "soft", BASELINE, nats, -1,
    ),
    Claim(
        "Soft MoE",
        "and better than experts that choose",
        "soft", "expert_choice", nats, -1,
    ),
]  # fmt: skip


# Two-sided 95 % quantiles of Student's t by degrees of freedom.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

Results = dict[str, list[Result]]  # By router, one of each seed.


def mean_of(number: Number, runs: list[Result]) -> float:
    """Mean over seeds and sequences."""
    return float(np.mean([np.mean(number(run)) for run in runs]))


def least_difference(
    number: Number, ours: list[Result], theirs: list[Result], results: Results
) -> float:
    """Above what the means of two routers differ, with 95 % confidence.

    The larger of: two standard errors over the held-out sequences, which
    both have read; the scatter between seeds, taken to be alike for all routers;
    and one percent, below which a difference is of no interest.
    """
    paired = np.mean([number(run) for run in ours], axis=0)
    paired = paired - np.mean([number(run) for run in theirs], axis=0)
    sequences = 0.0  # One number of all of them has no such error.
    if np.ndim(paired):
        sequences = 2.0 * float(paired.std(ddof=1)) / math.sqrt(len(paired))
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
    return max(sequences, seeds, 0.01 * abs(mean_of(number, theirs)))


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


def verdicts(claims: Iterable[Claim], results: Results) -> list[str]:
    """A line on each claim about routers that were trained."""
    return [
        verdict(claim, results)
        for claim in claims
        if claim.router in results and claim.against in results
    ]
