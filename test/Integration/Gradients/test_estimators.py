# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The mean of a sampled router's gradient against its expectation.

All tokens have the same logits and draw their own experts; the loss is linear
in the weights, sum_j c_j w_j. The expectation is summed over every outcome of
the draw, by NumPy in f64; the mean of the compiled gradients may differ from
it by five standard errors.
"""

import itertools

import moe_mlir
import numpy as np
import pytest

LOGITS = np.array([1.2, 0.4, -0.3, -0.9])
C = np.array([0.3, -0.2, 0.7, 0.1])
PI = np.exp(LOGITS) / np.exp(LOGITS).sum()
TOKENS = 100_000


def compiled_gradients(router: str, slots: int) -> np.ndarray:
    """The gradient of every token's logits [T, 4]."""
    source = f"""
func.func @route(%r: tensor<?x4xf64> {{moe.name = "r"}})
    -> (tensor<?x{slots}xi32> {{moe.name = "ids"}},
        tensor<?x{slots}xf64> {{moe.name = "w"}}) attributes {{moe.entry}} {{
  %seed = arith.constant 7 : i64
  %layer = arith.constant 1 : i64
  %first = arith.constant 0 : i64
  %ids, %w = moe.route {router} %r training(%seed, %layer, %first)
      : tensor<?x4xf64> -> tensor<?x{slots}xi32>, tensor<?x{slots}xf64>
  return %ids, %w : tensor<?x{slots}xi32>, tensor<?x{slots}xf64>
}}"""
    layer = moe_mlir.compile_gradients(source)
    rows = np.ascontiguousarray(np.broadcast_to(LOGITS, (TOKENS, 4)))
    results, saved = layer.forward(r=rows)
    ids = results["ids"]
    cotangent = np.where(ids >= 0, C[ids], 0.0)
    return layer.backward(saved, d_w=cotangent)["d_r"]


def subset_law(least: int, most: int) -> dict[tuple[int, ...], float]:
    """ProbMoE's law of the set."""
    sets = [
        chosen
        for size in range(least, most + 1)
        for chosen in itertools.combinations(range(4), size)
    ]
    odds = np.array([np.exp(LOGITS[list(s)].sum()) for s in sets])
    return dict(zip(sets, odds / odds.sum()))


def probmoe_expectation(least: int, most: int) -> np.ndarray:
    """Of the sparse straight-through estimator, routers.md 1.6 in words: at a
    set S, sum over j in S of c_j (pi_j (1[i=j] - pi_i) + pi_j Cov(z_i, z_j)).
    """
    law = subset_law(least, most)
    taken = np.array([[float(i in s) for i in range(4)] for s in law])
    share = np.array(list(law.values()))
    mean = share @ taken
    covariance = (taken * share[:, None]).T @ taken - np.outer(mean, mean)
    total = np.zeros(4)
    for chosen, probability in law.items():
        for j in chosen:
            slope = PI[j] * ((np.arange(4) == j) - PI) + PI[j] * covariance[j]
            total += probability * C[j] * slope
    return total


def moesart_expectation(k: int) -> np.ndarray:
    """Of `small_random` without replacement: draws in order, one kept."""
    total = np.zeros(4)
    for drawn in itertools.permutations(range(4), k):
        probability, left = 1.0, 1.0
        for expert in drawn:
            probability *= PI[expert] / left
            left -= PI[expert]
        for kept in drawn:
            others = [C[i] for i in drawn if i != kept]
            slope = (C[kept] - np.mean(others)) / (1 + PI[kept]) ** 2
            row = slope * PI[kept] * ((np.arange(4) == kept) - PI)
            total += probability / k * row
    return total


CASES = {
    "exact_k": ("#moe.exact_k<k = 2>", 2, probmoe_expectation(2, 2)),
    "dynamic_k": (
        "#moe.dynamic_k<min = 1, max = 3>", 3, probmoe_expectation(1, 3)
    ),
    "moesart": ("#moe.moesart<k = 2>", 2, moesart_expectation(2)),
    "moesart_3": ("#moe.moesart<k = 3>", 3, moesart_expectation(3)),
}  # fmt: skip


def test_published_expectation():
    """The number that the formula gives for exact k."""
    expected = [0.079197, -0.082437, 0.016296, -0.013056]
    np.testing.assert_allclose(probmoe_expectation(2, 2), expected, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_mean_of_the_estimator(name):
    router, slots, expected = CASES[name]
    rows = compiled_gradients(router, slots)
    error = rows.std(axis=0) / np.sqrt(TOKENS)
    distance = np.abs(rows.mean(axis=0) - expected)
    assert (distance <= 5 * error).all(), (rows.mean(axis=0), expected)
    # The error is small enough to tell it from no gradient.
    assert (5 * error < np.abs(expected)).any()
