# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The law of k-subsets in float64, one row of logits at a time.

Independent Bernoulli variables with odds w_i = exp(r_i), conditioned on their
number: a subset S of k experts has

  P(S | k) = prod_{i in S} exp(r_i) / e_k,   e_k = sum_{|S|=k} prod exp(r_i)

(conditional Bernoulli design; SIMPLE, arXiv 2210.01941; ProbMoE, arXiv
2606.01509). With a band [kmin, kmax] the condition is kmin <= |S| <= kmax and
e_k is replaced by the sum of e_j over the band; there the law depends on the
level of the logits, with exact k it does not. Everything is in log space, the
recursion e_j(first i) = e_j(first i-1) + exp(r_i) e_{j-1}(first i-1).

Every function takes row [E], kmin, kmax (exact k: twice the same number), and
follows these rules:
  - An expert with logit -inf cannot be chosen; the others are admissible.
    With n admissible experts both ends of the band are lowered to at most n.
    If the lowered lower end is n, the set is forced. n = 0: the empty set.
  - A row with a NaN or a +inf has no law: every probability is NaN. Its sample
    and its most likely set are placeholders (distinct, in range); only that
    much may be compared with them.
The band may start at 0 (conditioning on one chosen expert needs that).
Accuracy: probabilities to a relative error of about 2^-53 times the largest
log in the tables, 1e-13 for logits of some hundreds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

NEVER = -math.inf


@dataclasses.dataclass
class Sample:
    """A drawn subset.

    margin is the smallest distance between a uniform and the threshold it was
    compared with; inf where nothing was left to chance. An evaluation with
    less precision may decide differently where the margin is tiny.
    """

    ids: list[int]  # ascending
    margin: float


def unusable(row: np.ndarray) -> bool:
    """Whether the row has a NaN or a +inf."""
    return bool(np.any(np.isnan(row)) or np.any(row == math.inf))


def admissible(row: np.ndarray) -> list[int]:
    """The experts that can be chosen: those whose logit is not -inf."""
    return [int(i) for i in np.flatnonzero(row != NEVER)]


def clamped_band(row: np.ndarray, kmin: int, kmax: int) -> tuple[int, int]:
    """The band with both ends lowered to the number of admissible experts."""
    if not 0 <= kmin <= kmax <= len(row):
        raise ValueError(f"band {kmin}..{kmax} of {len(row)} experts")
    count = len(admissible(row))
    return min(kmin, count), min(kmax, count)


def log_sum_exp(terms: np.ndarray) -> float:
    """log sum exp; -inf for no terms."""
    if len(terms) == 0:
        return NEVER
    top = float(np.max(terms))
    if not math.isfinite(top):
        return top
    return top + math.log(math.fsum(np.exp(terms - top)))


# The table.


def log_table(row: np.ndarray, kmax: int) -> np.ndarray:
    """b [E+1, kmax+1]: b[i][j] = log e_j of the first i experts.

    b[0] = [0, -inf, ...];
    b[i][j] = logaddexp(b[i-1][j], b[i-1][j-1] + r_{i-1}).
    """
    table = np.full((len(row) + 1, kmax + 1), NEVER)
    table[0, 0] = 0.0
    for index, logit in enumerate(row):
        table[index + 1, 0] = 0.0
        table[index + 1, 1:] = np.logaddexp(
            table[index, 1:], table[index, :-1] + logit
        )
    return table


def log_elementary(row: np.ndarray, kmax: int) -> np.ndarray:
    """[log e_0, ..., log e_kmax] of all experts."""
    return log_table(row, kmax)[-1]


def log_normalizer(row: np.ndarray, kmin: int, kmax: int) -> float:
    """log e_k; for a band the log of the sum of its e_j."""
    if unusable(row):
        return math.nan
    low, high = clamped_band(row, kmin, kmax)
    return log_sum_exp(log_elementary(row, high)[low:])


def cardinality_law(row: np.ndarray, kmin: int, kmax: int) -> np.ndarray:
    """P(|S| = j) for j = 0 .. kmax; 0 outside the (lowered) band."""
    law = np.zeros(kmax + 1)
    if unusable(row):
        return np.full(kmax + 1, math.nan)
    low, high = clamped_band(row, kmin, kmax)
    logs = log_elementary(row, high)[low:]
    law[low : high + 1] = np.exp(logs - log_sum_exp(logs))
    return law


# Marginals and covariances.


def suffix_table(row: np.ndarray, kmax: int) -> np.ndarray:
    """q [E+1, kmax+1]: q[i][j] = log e_j of the experts i, i+1, ..."""
    return log_table(row[::-1], kmax)[::-1]


def marginals(row: np.ndarray, kmin: int, kmax: int) -> np.ndarray:
    """m [E]: m_i = P(i in S) = d log Z / d r_i; the sum is E|S|.

    With prefix P_i over the experts before i and suffix Q_i over those after:
    m_i = sum_{j in band} sum_l exp(P_i(l) + r_i + Q_i(j-1-l) - log Z).
    """
    experts = len(row)
    if unusable(row):
        return np.full(experts, math.nan)
    low, high = clamped_band(row, kmin, kmax)
    prefix, suffix = log_table(row, high), suffix_table(row, high)
    log_z = log_sum_exp(prefix[-1, low:])
    out = np.zeros(experts)
    for expert in range(experts):
        total = 0.0
        for count in range(max(low, 1), high + 1):
            before = prefix[expert, :count]
            after = suffix[expert + 1, :count][::-1]
            terms = np.exp(before + row[expert] + after - log_z)
            total += math.fsum(terms)
        out[expert] = min(total, 1.0)
    return out


def covariance(row: np.ndarray, kmin: int, kmax: int) -> np.ndarray:
    """Cov(z_i, z_j) [E, E] of the selection mask z; it is also d m_i / d r_j.

    By conditioning: given that i is in S, the rest of S follows the law of
    the other experts with the band one lower, so
    P(i, j in S) = m_i * m_j(others, kmin-1, kmax-1).
    """
    experts = len(row)
    if unusable(row):
        return np.full((experts, experts), math.nan)
    low, high = clamped_band(row, kmin, kmax)
    chance = marginals(row, low, high)
    out = np.diag(chance * (1.0 - chance))
    if high == 0:
        return out
    for expert in admissible(row):
        others = np.delete(row, expert)
        given = marginals(others, max(low - 1, 0), high - 1)
        given = np.insert(given, expert, 0.0)
        for other in range(experts):
            if other != expert:
                out[expert, other] = chance[expert] * (
                    given[other] - chance[other]
                )
    return out


def tangent_table(
    row: np.ndarray, table: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """Derivative of log_table along d r = direction; 0 where e_j is 0."""
    tangents = np.zeros(table.shape)
    for index, logit in enumerate(row):
        for count in range(1, table.shape[1]):
            value = table[index + 1, count]
            if value == NEVER:
                continue
            share = math.exp(table[index, count - 1] + logit - value)
            keep = math.exp(table[index, count] - value)
            tangents[index + 1, count] = keep * tangents[index, count]
            tangents[index + 1, count] += share * (
                tangents[index, count - 1] + direction[index]
            )
    return tangents


def covariance_product(
    row: np.ndarray, direction: np.ndarray, kmin: int, kmax: int
) -> np.ndarray:
    """Cov v [E] for a vector v, without the matrix.

    The derivative of the marginals along v, by one forward-mode pass over the
    prefix and suffix tables; Cov is symmetric, so it is the backward of the
    marginals for the cotangent v as well.
    """
    experts = len(row)
    if unusable(row):
        return np.full(experts, math.nan)
    low, high = clamped_band(row, kmin, kmax)
    prefix, suffix = log_table(row, high), suffix_table(row, high)
    prefix_dot = tangent_table(row, prefix, direction)
    suffix_dot = tangent_table(
        row[::-1], suffix[::-1], direction[::-1]
    )[::-1]
    log_z = log_sum_exp(prefix[-1, low:])
    mean = float(np.dot(marginals(row, low, high), direction))
    out = np.zeros(experts)
    for expert in range(experts):
        for count in range(max(low, 1), high + 1):
            before = prefix[expert, :count]
            after = suffix[expert + 1, :count][::-1]
            terms = np.exp(before + row[expert] + after - log_z)
            slopes = prefix_dot[expert, :count] + direction[expert] - mean
            slopes = slopes + suffix_dot[expert + 1, :count][::-1]
            out[expert] += math.fsum(terms * slopes)
    return out


# One subset, the whole law, the most likely subset.


def log_probability(
    row: np.ndarray, subset: list[int], kmin: int, kmax: int
) -> float:
    """log P(S) = sum_{i in S} r_i - log Z; -inf for a set that cannot be."""
    if unusable(row):
        return math.nan
    low, high = clamped_band(row, kmin, kmax)
    if not low <= len(subset) <= high:
        return NEVER
    total = math.fsum(float(row[i]) for i in subset)
    return total - log_normalizer(row, low, high)


def log_probability_gradient(
    row: np.ndarray, subset: list[int], kmin: int, kmax: int
) -> np.ndarray:
    """d log P(S) / d r = z - m, [E]."""
    mask = np.zeros(len(row))
    mask[subset] = 1.0
    return mask - marginals(row, kmin, kmax)


def entropy(row: np.ndarray, kmin: int, kmax: int) -> float:
    """- sum_S P(S) log P(S) = log Z - sum_i m_i r_i, in nats."""
    if unusable(row):
        return math.nan
    chance = marginals(row, kmin, kmax)
    linear = math.fsum(chance[i] * row[i] for i in admissible(row))
    return log_normalizer(row, kmin, kmax) - linear


def most_likely(row: np.ndarray, kmin: int, kmax: int) -> list[int]:
    """The subset of largest probability, best expert first.

    The k* largest logits, ties to the lower expert; k* maximises the sum of
    the first k* sorted logits over the band, the first maximum, which is the
    number of positive logits clamped into the band (a logit of 0 is not
    taken). ProbMoE, inference. NaN logits lose to all others.
    """
    order = [int(i) for i in np.argsort(-row, kind="stable")]
    low, high = clamped_band(row, kmin, kmax)
    count = min(max(int(np.sum(row > 0.0)), low), high)
    return order[:count]


# Sampling.


def draw_cardinality(
    row: np.ndarray, kmin: int, kmax: int, uniform: float
) -> tuple[int, float]:
    """|S| by inverse CDF, and the distance of the uniform to a step.

    The smallest j whose cumulative probability exceeds the uniform; the last
    of the band if none does.
    """
    low, high = clamped_band(row, kmin, kmax)
    cumulative = np.cumsum(cardinality_law(row, low, high)[low : high + 1])
    steps = cumulative[:-1]  # the last one is 1: never in question
    drawn = low + int(np.sum(uniform >= steps))
    margin = np.min(np.abs(uniform - steps)) if len(steps) else math.inf
    return drawn, float(margin)


def draw(
    row: np.ndarray, kmin: int, kmax: int, uniforms: np.ndarray
) -> Sample:
    """An exact sample: uniforms [E], or [E+1] for a band (or [E], forced).

    A band first draws its cardinality with uniform E. Then, from the last
    expert to the first, with j still to take, expert i is taken iff
      u_i < P = exp(b[i-1][j-1] + r_i - b[i][j])   (i counted from 1),
    0 when j = 0 and 1 when the first i experts have just j admissible ones.
    """
    experts = len(row)
    if unusable(row):
        return Sample(list(range(kmax)), math.inf)
    low, high = clamped_band(row, kmin, kmax)
    left, margin = high, math.inf
    if low < high:
        left, margin = draw_cardinality(row, low, high, uniforms[experts])
    table = log_table(row, high)
    taken = []
    for index in range(experts, 0, -1):
        logit = float(row[index - 1])
        if left == 0 or logit == NEVER:
            continue
        rest = len(admissible(row[: index - 1]))
        if rest < left:  # all that remain are needed
            take = True
        else:
            chance = math.exp(
                table[index - 1, left - 1] + logit - table[index, left]
            )
            uniform = float(uniforms[index - 1])
            take = uniform < chance
            margin = min(margin, abs(uniform - chance))
        if take:
            taken.append(index - 1)
            left -= 1
    return Sample(taken[::-1], margin)


# The same by enumeration, for tests: at most some thousand subsets.


def enumerate_law(
    row: np.ndarray, kmin: int, kmax: int
) -> dict[tuple[int, ...], float]:
    """Every subset of the (lowered) band with its probability."""
    low, high = clamped_band(row, kmin, kmax)
    subsets = [
        subset
        for count in range(low, high + 1)
        for subset in itertools.combinations(admissible(row), count)
    ]
    logs = [math.fsum(float(row[i]) for i in subset) for subset in subsets]
    top = max(logs)
    masses = [math.exp(value - top) for value in logs]
    total = math.fsum(masses)
    return {subset: mass / total for subset, mass in zip(subsets, masses)}


def enumerated_marginals(
    law: dict[tuple[int, ...], float], experts: int
) -> np.ndarray:
    """P(i in S) [E] of an enumerated law."""
    return np.array(
        [
            math.fsum(p for subset, p in law.items() if expert in subset)
            for expert in range(experts)
        ]
    )


def enumerated_covariance(
    law: dict[tuple[int, ...], float], experts: int
) -> np.ndarray:
    """Cov(z_i, z_j) [E, E] of an enumerated law, from centred products."""
    chance = enumerated_marginals(law, experts)
    out = np.zeros((experts, experts))
    for subset, probability in law.items():
        mask = np.zeros(experts)
        mask[list(subset)] = 1.0
        out += probability * np.outer(mask - chance, mask - chance)
    return out
