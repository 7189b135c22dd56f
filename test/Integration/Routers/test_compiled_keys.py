# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Product keys and the entropy of subset laws, compiled, against references."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from compiled import TARGETS, router, rows, subset_op, unusable_rows

import gates  # noqa: E402, found by way of compiled

SIZES = [(2, 3, 4), (4, 4, 1), (5, 7, 6), (16, 16, 8), (1, 9, 3), (33, 8, 16), (70, 66, 64)]


def product(left, right, k, target, domain="topk", **options):
    """The router on halves side by side."""
    attribute = f"#moe.product_keys<k = {k}, left = {left}, domain = {domain}>"
    return router(attribute, left + right, k, target, **options)


def halves(left, right, tokens=90, seed=4):
    """Logits on a grid of 1/64, whose sums are exact, without equal sums
    among the largest of a row."""
    stream = np.random.default_rng(seed)
    x = np.round(stream.normal(size=(tokens, left + right)) * 256) / 64
    return x.astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("domain", ["topk", "all"])
@pytest.mark.parametrize("left, right, k", SIZES)
def test_product_keys(left, right, k, domain, target):
    x = halves(left, right)
    x[3, 0] = -np.inf
    x[4, left:] = -np.inf
    x[5] = -np.inf
    x[6, 1:] = -np.inf
    found = product(left, right, k, target, domain)(x)
    wide = x.astype(np.float64)
    over = "chosen" if domain == "topk" else "all"
    wanted = gates.product_keys(wide[:, :left], wide[:, left:], k, over)
    assert np.array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(
        found.weights, wanted.weights, rtol=2e-5, atol=1e-12
    )


@pytest.mark.parametrize("target", TARGETS)
def test_product_keys_ties(target):
    """Equal sums go to the lower expert."""
    x = np.zeros((3, 12), dtype=np.float32)
    x[1] = [1, 0, 1, 0, 2, 0, 1, 0, 1, 0, 2, 0]
    x[2, 5:] = [3, 3, 1, 1, 1, 1, 3]
    found = product(5, 7, 6, target)(x)
    wide = x.astype(np.float64)
    wanted = gates.product_keys(wide[:, :5], wide[:, 5:], 6)
    assert np.array_equal(found.ids, wanted.ids)
    assert np.array_equal(found.ids[0], np.arange(6))


@pytest.mark.parametrize("target", TARGETS)
def test_product_keys_unusable(target):
    found = product(3, 5, 4, target)(unusable_rows(8))
    for ids in found.ids:
        kept = ids[ids >= 0]
        assert len(set(kept)) == len(kept) and np.all(kept < 15)


@pytest.mark.parametrize("target", TARGETS)
def test_product_keys_mask(target):
    x = halves(6, 6)
    mask = np.random.default_rng(1).random(len(x)) < 0.6
    found = product(6, 6, 4, target, masked=True)(x, mask)
    plain = product(6, 6, 4, target)(x)
    assert np.array_equal(found.ids[mask], plain.ids[mask])
    assert np.array_equal(found.weights[mask], plain.weights[mask])
    assert np.all(found.ids[~mask] == -1) and not np.any(found.weights[~mask])


def enumerated_entropy(row, low, high):
    """By all subsets; the band is lowered to the admissible experts."""
    able = [e for e in range(len(row)) if row[e] > -math.inf]
    low, high = min(low, len(able)), min(high, len(able))
    logs = np.array(
        [
            sum((row[e] for e in chosen), 0.0)
            for size in range(low, high + 1)
            for chosen in itertools.combinations(able, size)
        ]
    )
    logs = logs - np.max(logs)
    logs -= math.log(np.sum(np.exp(logs)))
    return float(-np.sum(np.exp(logs) * logs))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "experts, band", [(4, (2, 2)), (8, (1, 5)), (12, (3, 3)), (9, (2, 9))]
)
def test_entropy(experts, band, target):
    x = rows(experts)
    found = subset_op("entropy", experts, band, target)(x)
    for row, entropy in zip(x.astype(np.float64), found):
        wanted = enumerated_entropy(row, *band)
        finite = row[np.isfinite(row)]
        size = 1.0 + band[1] * np.max(np.abs(finite), initial=0.0)
        assert abs(entropy - wanted) <= 4e-7 * size + 2e-5 * wanted


@pytest.mark.parametrize("target", TARGETS)
def test_entropy_worked(target):
    x = np.array([[1.2, 0.4, -0.3, -0.9]], dtype=np.float32)
    exact = subset_op("entropy", 4, (2, 2), target)(x)
    np.testing.assert_allclose(exact, [1.450220], atol=2e-6)
    band = subset_op("entropy", 4, (1, 3), target)(x)
    np.testing.assert_allclose(band, [2.342813], atol=2e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_entropy_unusable(target):
    found = subset_op("entropy", 8, (2, 3), target)(unusable_rows(8))
    assert np.isnan(found[0]) and np.isnan(found[1]) and found[2] > 0
