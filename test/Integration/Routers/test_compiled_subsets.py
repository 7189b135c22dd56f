# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The subset ops, compiled, against enumeration and f64 references."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import TARGETS, random_state, rows, subset_op, unusable_rows

import philox  # noqa: E402, found by way of compiled
import subsets  # noqa: E402
from checking import chi_square_limit  # noqa: E402

EXAMPLE = np.array([[1.2, 0.4, -0.3, -0.9]], dtype=np.float32)
BANDS = [
    (4, (2, 2)),
    (5, (5, 5)),
    (8, (1, 1)),
    (8, (1, 5)),
    (9, (2, 9)),
    (12, (6, 6)),
    (12, (4, 9)),
]
LARGE = [(33, (6, 8)), (64, (8, 8)), (60, (2, 4)), (256, (32, 32)),
         (300, (90, 90))]  # fmt: skip


def allowed(marginals):
    """The documented error of marginals in f32."""
    return 2e-5 * np.maximum(marginals, 1e-7)


def each_row(function, x):
    """A reference over the rows of x in f64."""
    return np.array([function(row.astype(np.float64)) for row in x])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, band", BANDS)
def test_marginals_equal_enumeration(experts, band, target):
    x = rows(experts)
    found = subset_op("marginals", experts, band, target)(x)
    wanted = each_row(
        lambda row: subsets.enumerated_marginals(
            subsets.enumerate_law(row, *band), experts
        ),
        x,
    )
    assert np.all(np.abs(found - wanted) <= allowed(wanted))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, band", LARGE)
def test_marginals_of_many_experts(experts, band, target):
    x = rows(experts)
    found = subset_op("marginals", experts, band, target)(x)
    wanted = each_row(lambda row: subsets.marginals(row, *band), x)
    assert np.all(np.abs(found - wanted) <= allowed(wanted))


def test_marginals_at_the_limits_of_the_range():
    stream = np.random.default_rng(3)
    equal = subset_op("marginals", 256, (32, 32), "cpu")
    np.testing.assert_allclose(
        equal(np.full((17, 256), 7.0, np.float32)), 32 / 256, rtol=2e-5
    )
    x = stream.normal(size=(5, 4096)).astype(np.float32)
    found = subset_op("marginals", 4096, (64, 64), "cpu")(x)
    wanted = each_row(lambda row: subsets.marginals(row, 64, 64), x)
    assert np.all(np.abs(found - wanted) <= allowed(wanted))


@pytest.mark.parametrize("target", TARGETS)
def test_worked_numbers(target):
    found = subset_op("marginals", 4, (2, 2), target)(EXAMPLE)[0]
    np.testing.assert_allclose(
        found, [0.813195, 0.618514, 0.358778, 0.209513], atol=1e-6
    )
    found = subset_op("marginals", 4, (1, 3), target)(EXAMPLE)[0]
    np.testing.assert_allclose(
        found, [0.786256, 0.598688, 0.407482, 0.256723], atol=1e-6
    )
    found = subset_op("partition", 4, (1, 4), target)(EXAMPLE)[0]
    np.testing.assert_allclose(
        np.exp(found), [5.959330, 10.775390, 7.132378, 1.491825], rtol=1e-6
    )
    ids = np.array([[0, 2]], dtype=np.int32)
    found = subset_op("log_prob", 4, (2, 2), target)(EXAMPLE, ids)
    np.testing.assert_allclose(found, [-1.477265], atol=1e-6)
    # The covariance of SIMPLE's example p = [.3, .6, .5, .2].
    p = np.array([[0.3, 0.6, 0.5, 0.2]])
    logits = np.log(p / (1 - p)).astype(np.float32)
    found = subset_op("marginals", 4, (2, 2), target)(logits)[0]
    np.testing.assert_allclose(
        found, [0.356757, 0.762162, 0.659459, 0.221622], atol=1e-6
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, band", BANDS + LARGE[:3])
def test_covariance(experts, band, target):
    x = rows(experts)
    v = np.random.default_rng(5).normal(size=x.shape).astype(np.float32)
    found = subset_op("covariance", experts, band, target)(x, v)
    wanted = np.array(
        [
            subsets.covariance_product(
                row.astype(np.float64), own.astype(np.float64), *band
            )
            for row, own in zip(x, v)
        ]
    )
    # Sums of up to `max` terms of the size of v; cancellation is absolute.
    scale = np.abs(v).sum(axis=1, keepdims=True).clip(1)
    assert np.all(np.abs(found - wanted) <= 2e-5 * np.minimum(scale, band[1]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, band", BANDS + LARGE)
def test_partition_of_likely_sizes(experts, band, target):
    x = rows(experts)
    found = subset_op("partition", experts, band, target)(x)
    for row, own in zip(x, found):
        wanted = subsets.log_elementary(row.astype(np.float64), band[1])
        wanted = np.asarray(wanted)[band[0] :]
        likely = wanted >= np.max(wanted) - 60.0
        likely &= np.isfinite(wanted)
        size = np.maximum(1.0, np.abs(wanted[likely]))
        assert np.all(np.abs(own[likely] - wanted[likely]) <= 2e-5 * size)
        assert np.all(own[np.isneginf(wanted)] == -np.inf)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, band", BANDS[:4])
def test_log_probabilities_sum_to_one(experts, band, target):
    layer = subset_op("log_prob", experts, band, target)
    for row in rows(experts)[:19]:
        law = subsets.enumerate_law(row.astype(np.float64), *band)
        ids = np.full((len(law), band[1]), -1, dtype=np.int32)
        for place, subset in enumerate(law):
            ids[place, : len(subset)] = subset
        found = np.exp(layer(np.tile(row, (len(law), 1)), ids))
        assert abs(found.sum(dtype=np.float64) - 1.0) < 1e-4
        wanted = np.array(list(law.values()))
        assert np.all(np.abs(found - wanted) <= 1e-4 * wanted + 1e-7)


@pytest.mark.parametrize("target", TARGETS)
def test_log_probability_of_a_size_outside_the_band(target):
    layer = subset_op("log_prob", 4, (2, 3), target)
    ids = np.array([[0, -1, -1], [0, 1, -1], [-1, -1, -1]], dtype=np.int32)
    x = np.repeat(EXAMPLE, 3, axis=0)
    assert np.isneginf(layer(x, ids)).tolist() == [True, False, True]
    x[1, 1:] = -np.inf
    assert layer(x, ids)[1] == -np.inf


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, band", BANDS + LARGE)
def test_samples_are_those_of_the_reference(experts, band, target):
    x = rows(experts)
    state = random_state(seed=2**40 + 77, layer=3, first=2**32 - 5)
    found = subset_op("sample", experts, band, target)(x, state)
    uniforms = philox.uniforms(
        2**40 + 77, len(x), experts + 1, 3, 2**32 - 5
    )
    near = 0
    for row, own, numbers in zip(x, found, uniforms):
        wanted = subsets.draw(row.astype(np.float64), *band, numbers)
        ids = own[own >= 0].tolist()
        assert np.all(own[len(ids) :] == -1)
        if ids != list(wanted.ids):
            near += 1
            assert wanted.margin < 1e-5, (row, own, wanted)
    assert near <= 1


@pytest.mark.parametrize("experts, band", [(5, (2, 2)), (6, (1, 3))])
def test_samples_follow_the_law(experts, band):
    draws = 200_000
    row = np.random.default_rng(8).normal(size=experts).astype(np.float32)
    law = subsets.enumerate_law(row.astype(np.float64), *band)
    layer = subset_op("sample", experts, band, "cpu")
    found = layer(np.tile(row, (draws, 1)), random_state(11))
    # A subset as the sum of 2^id.
    codes = np.where(found >= 0, 1 << np.maximum(found, 0), 0).sum(axis=1)
    counts = np.bincount(codes, minlength=2**experts)
    statistic = 0.0
    for subset, probability in law.items():
        mean = draws * probability
        count = counts[sum(1 << i for i in subset)]
        counts[sum(1 << i for i in subset)] = 0
        statistic += (count - mean) ** 2 / mean
    assert counts.sum() == 0
    assert statistic < chi_square_limit(len(law) - 1)


@pytest.mark.parametrize("target", TARGETS)
def test_samples_do_not_depend_on_the_split(target):
    x = np.random.default_rng(9).normal(size=(75, 16)).astype(np.float32)
    one = subset_op("sample", 16, (3, 5), target)
    two = subset_op("sample", 16, (3, 5), target, threads=2)
    whole = one(x, random_state(4, 1, 100))
    assert np.array_equal(whole, two(x, random_state(4, 1, 100)))
    parts = [
        one(x[:37].copy(), random_state(4, 1, 100)),
        one(x[37:].copy(), random_state(4, 1, 137)),
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, one(x, random_state(5, 1, 100)))
    assert not np.array_equal(whole, one(x, random_state(4, 2, 100)))


@pytest.mark.parametrize("target", TARGETS)
def test_no_tokens(target):
    x = np.empty((0, 8), dtype=np.float32)
    assert subset_op("marginals", 8, (2, 2), target)(x).shape == (0, 8)
    sample = subset_op("sample", 8, (2, 2), target)
    assert sample(x, random_state(0)).shape == (0, 2)


@pytest.mark.parametrize("target", TARGETS)
def test_rows_with_nan(target):
    x = unusable_rows(6)
    for kind in ("marginals", "partition"):
        found = subset_op(kind, 6, (2, 3), target)(x)
        assert np.isnan(found[:2]).all() and not np.isnan(found[2]).any()
    found = subset_op("covariance", 6, (2, 3), target)(x, x)
    assert np.isnan(found[:2]).all() and not np.isnan(found[2]).any()
    for own in subset_op("sample", 6, (2, 3), target)(x, random_state(1)):
        ids = own[own >= 0]
        assert np.all(ids < 6) and len(set(ids)) == len(ids) >= 2


def test_f64_is_more_exact():
    x = rows(16)[:12].astype(np.float64)
    found = subset_op("marginals", 16, (4, 4), "cpu", "f64")(x)
    wanted = np.array([subsets.marginals(row, 4, 4) for row in x])
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-18)
