# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""philox.py and subsets.py against published and enumerated numbers."""

from __future__ import annotations

import math
from typing import Iterator

import numpy as np
import pytest

import philox
import subsets
from checking import chi_square_limit, near

NONE = -math.inf
EXAMPLE = np.array([1.2, 0.4, -0.3, -0.9])


# Philox.


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        (
            [0, 0, 0, 0],
            (0, 0),
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        ),
        (
            [0xFFFFFFFF] * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers_of_random123(counter, key, expected):
    out = philox.philox4x32(np.array(counter, dtype=np.uint32), key)
    assert out.tolist() == expected


def plain_philox(
    counter: list[int],
    key: list[int],
    bits: int,
    multipliers: tuple[int, int],
    weyl: tuple[int, int],
) -> list[int]:
    """Philox4xW-10 with Python's integers, for any word width."""
    wrap = 2**bits
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = multipliers[0] * c[0], multipliers[1] * c[2]
        c = [
            p1 // wrap ^ c[1] ^ k[0],
            p1 % wrap,
            p0 // wrap ^ c[3] ^ k[1],
            p0 % wrap,
        ]
        k = [(word + step) % wrap for word, step in zip(k, weyl)]
    return c


def test_against_numpy_through_the_64_bit_sibling():
    # NumPy has Philox4x64-10: the same rounds with other constants. The
    # width-free function agrees with NumPy there and with philox.py here.
    rng = np.random.default_rng(1)
    wide = ((0xD2E7470EE14C6C93, 0xCA5A826395121157),)
    wide += ((0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B),)
    for _ in range(5):
        key = [int(v) for v in rng.integers(0, 2**64, 2, dtype=np.uint64)]
        start = [int(v) for v in rng.integers(0, 2**63, 4, dtype=np.uint64)]
        generator = np.random.Philox(
            key=np.array(key, dtype=np.uint64),
            counter=np.array(start, dtype=np.uint64),
        )
        start[0] += 1  # NumPy counts up before it draws
        assert generator.random_raw(4).tolist() == plain_philox(
            start, key, 64, *wide
        )
        low = [word % 2**32 for word in start]
        out = philox.philox4x32(
            np.array(low), (key[0] % 2**32, key[1] % 2**32)
        )
        assert out.tolist() == plain_philox(
            low,
            [word % 2**32 for word in key],
            32,
            philox.MULTIPLIERS,
            philox.WEYL,
        )


def test_counter_is_token_draw_block_and_layer():
    seed = 0xFEDCBA9876543210
    drawn = philox.words(seed, 3, 7, layer=9, first_token=2**32 - 1)
    for token in range(3):
        for draw in range(7):
            index = 2**32 - 1 + token
            block = philox.philox4x32(
                np.array([index % 2**32, index // 2**32, draw // 4, 9]),
                (0x76543210, 0xFEDCBA98),
            )
            assert drawn[token, draw] == block[draw % 4]
    assert np.array_equal(
        drawn[1:], philox.words(seed, 2, 7, layer=9, first_token=2**32)
    )
    uniform = philox.uniforms(seed, 3, 7, layer=9, first_token=2**32 - 1)
    assert np.array_equal(uniform, (drawn // 256) / 2.0**24)
    assert np.array_equal(uniform.astype(np.float32), uniform)


def test_normals_and_gumbels():
    drawn = philox.uniforms(7, 4, 6)
    normal = philox.normals(7, 4, 5)
    for expert in range(5):
        pair = expert // 2 * 2
        radius = np.sqrt(-2.0 * np.log(drawn[:, pair] + 2.0**-25))
        turn = np.sin if expert % 2 else np.cos
        expected = radius * turn(2.0 * math.pi * drawn[:, pair + 1])
        np.testing.assert_allclose(normal[:, expert], expected)
    ends = np.array([0.0, 1.0 - 2.0**-24])
    assert np.isfinite(philox.gumbels_of(ends)).all()
    assert np.isfinite(philox.normals_of(ends)).all()
    # Printed without the offset, which moves the last one by 3e-7.
    near(
        philox.gumbels_of(np.array([0.7, 0.2, 0.9]) - 2.0**-25),
        [1.030930, -0.475885, 2.250367],
    )
    many = philox.normals(3, 20000, 2)
    assert abs(np.mean(many)) < 0.02 and abs(np.var(many) - 1.0) < 0.03
    assert abs(np.mean(many[:, 0] * many[:, 1])) < 0.03
    many = philox.gumbels(3, 20000, 2)
    assert abs(np.mean(many) - 0.577216) < 0.03


# The worked example.


def test_example_tables():
    odds = np.exp(EXAMPLE)
    near(odds, [3.320117, 1.491825, 0.740818, 0.406570])
    near(
        np.exp(subsets.log_elementary(EXAMPLE, 4)),
        [1.0, 5.959330, 10.775390, 7.132378, 1.491825],
    )
    table = subsets.log_table(EXAMPLE, 2)
    near(
        table[:, 1:],
        [
            [NONE, NONE],
            [1.2, NONE],
            [1.571101, 1.6],
            [1.714295, 2.142159],
            [1.784958, 2.377265],
        ],
    )
    # The Bernoulli form differs by the sum of log(1 - p).
    log_q = -np.cumsum(np.log1p(odds))
    near(math.exp(log_q[3]), 0.037938)
    near(table[4] + log_q[3], [-3.271807, -1.486849, -0.894542])
    near(table[3] + log_q[2], [-2.930653, -1.216358, -0.788494])
    near(math.exp(table[4, 2] + log_q[3]), 0.408795)


def test_example_exact_two():
    law = subsets.enumerate_law(EXAMPLE, 2, 2)
    expected = {
        (0, 1): 0.459662,
        (0, 2): 0.228261,
        (0, 3): 0.125272,
        (1, 2): 0.102564,
        (1, 3): 0.056289,
        (2, 3): 0.027952,
    }
    assert law.keys() == expected.keys()
    for subset, chance in expected.items():
        near(law[subset], chance)
        near(
            math.exp(subsets.log_probability(EXAMPLE, list(subset), 2, 2)),
            chance,
        )
    near(subsets.entropy(EXAMPLE, 2, 2), 1.450220)
    assert subsets.most_likely(EXAMPLE, 2, 2) == [0, 1]
    near(
        subsets.marginals(EXAMPLE, 2, 2),
        [0.813195, 0.618514, 0.358778, 0.209513],
    )
    near(
        subsets.marginals(EXAMPLE, 3, 3),
        [0.937002, 0.859794, 0.717660, 0.485544],
    )
    near(subsets.log_probability(EXAMPLE, [0, 2], 2, 2), -1.477265)
    near(
        subsets.log_probability_gradient(EXAMPLE, [0, 2], 2, 2),
        [0.186805, -0.618514, 0.641222, -0.209513],
    )
    near(
        subsets.covariance(EXAMPLE, 2, 2),
        [
            [0.151909, -0.043311, -0.063495, -0.045103],
            [-0.043311, 0.235954, -0.119345, -0.073298],
            [-0.063495, -0.119345, 0.230056, -0.047216],
            [-0.045103, -0.073298, -0.047216, 0.165617],
        ],
    )


def test_example_by_halves():
    left = np.exp(subsets.log_elementary(EXAMPLE[:2], 2))
    right = np.exp(subsets.log_elementary(EXAMPLE[2:], 2))
    near(left, [1.0, 4.811942, 4.953032])
    near(right, [1.0, 1.147388, 0.301194])
    products = left * right[::-1]
    near(
        products / np.exp(subsets.log_normalizer(EXAMPLE, 2, 2)),
        [0.027952, 0.512386, 0.459662],
    )


def test_example_band():
    near(
        subsets.cardinality_law(EXAMPLE, 1, 3),
        [0.0, 0.249688, 0.451475, 0.298837],
    )
    near(
        subsets.cardinality_law(EXAMPLE + 1.0, 1, 3),
        [0.0, 0.067757, 0.333031, 0.599212],
    )
    chance = subsets.marginals(EXAMPLE, 1, 3)
    near(chance, [0.786256, 0.598688, 0.407482, 0.256723])
    near(np.sum(chance), 2.049149)
    near(subsets.entropy(EXAMPLE, 1, 3), 2.342813)
    assert len(subsets.most_likely(EXAMPLE, 1, 3)) == 2
    near(
        subsets.covariance(EXAMPLE, 1, 3),
        [
            [0.168057, -0.025084, -0.021694, -0.019021],
            [-0.025084, 0.240261, -0.025084, -0.025084],
            [-0.021694, -0.025084, 0.241440, -0.031265],
            [-0.019021, -0.025084, -0.031265, 0.190816],
        ],
    )


def test_simple_golden_value():
    # p and m as printed in the code of SIMPLE, there to four decimals.
    p = np.array([0.3, 0.6, 0.5, 0.2])
    chance = subsets.marginals(np.log(p / (1.0 - p)), 2, 2)
    np.testing.assert_allclose(
        chance, [0.3568, 0.7622, 0.6595, 0.2216], atol=6e-5
    )
    near(chance, [0.356757, 0.762162, 0.659459, 0.221622])


def test_a_row_that_breaks_the_textbook_recursion():
    near(
        subsets.marginals(np.array([18.0, 0.0, -1.0, -2.0]), 2, 2),
        [1.0, 0.665241, 0.244728, 0.090031],
    )


@pytest.mark.parametrize(
    "row, count",
    [([-1, -2, -3, -4], 1), ([1, 2, 3, 4], 3), ([1, 0, -1, -2], 1)],
)
def test_most_likely_size(row, count):
    best = subsets.most_likely(np.array(row, dtype=np.float64), 1, 3)
    assert len(best) == count


# Enumeration.


def rows(experts: int) -> Iterator[np.ndarray]:
    """Rows of several kinds: spread, equal, far apart, partly forbidden."""
    rng = np.random.default_rng(experts)
    for spread in (1.0, 3.0, 20.0):
        yield spread * rng.standard_normal(experts)
    yield rng.uniform(-80.0, 80.0, experts)
    yield np.full(experts, 0.7)
    yield np.where(np.arange(experts) == experts // 2, 80.0, -80.0)
    yield np.where(np.arange(experts) < experts // 2, 80.0, -80.0)
    huge = rng.standard_normal(experts)
    huge[0] = 700.0
    yield huge
    masked = rng.standard_normal(experts)
    masked[::2] = NONE
    yield masked
    yield np.full(experts, NONE)


def bands(experts: int) -> list[tuple[int, int]]:
    """Every exact k and some bands."""
    out = [(k, k) for k in range(1, experts + 1)]
    out += [(1, experts), (1, 2), (2, max(2, experts // 2)), (0, experts)]
    return [(low, high) for low, high in out if high <= experts]


@pytest.mark.parametrize("experts", [2, 3, 4, 7, 9])
def test_law_against_enumeration(experts):
    rng = np.random.default_rng(0)
    for row in rows(experts):
        for kmin, kmax in bands(experts):
            law = subsets.enumerate_law(row, kmin, kmax)
            chance = subsets.marginals(row, kmin, kmax)
            expected = subsets.enumerated_marginals(law, experts)
            np.testing.assert_allclose(chance, expected, rtol=1e-11)
            mean = sum(p * len(s) for s, p in law.items())
            np.testing.assert_allclose(np.sum(chance), mean, rtol=1e-12)
            sizes = np.zeros(kmax + 1)
            for subset, p in law.items():
                sizes[len(subset)] += p
                log_p = subsets.log_probability(row, list(subset), kmin, kmax)
                np.testing.assert_allclose(math.exp(log_p), p, rtol=1e-11)
            np.testing.assert_allclose(
                subsets.cardinality_law(row, kmin, kmax),
                sizes,
                rtol=1e-11,
                atol=1e-300,
            )
            likely = subsets.most_likely(row, kmin, kmax)
            top = max(law.values())
            np.testing.assert_allclose(
                law[tuple(sorted(likely))], top, rtol=1e-12
            )
            entropy = -sum(p * math.log(p) for p in law.values() if p > 0.0)
            np.testing.assert_allclose(
                subsets.entropy(row, kmin, kmax), entropy, atol=1e-10
            )
            covariance = subsets.enumerated_covariance(law, experts)
            ours = subsets.covariance(row, kmin, kmax)
            # Logs of some hundreds keep 1e-13; differences are absolute.
            np.testing.assert_allclose(ours, covariance, atol=1e-12)
            v = rng.standard_normal(experts)
            product = subsets.covariance_product(row, v, kmin, kmax)
            np.testing.assert_allclose(product, covariance @ v, atol=2e-12)


def test_twelve_experts_every_k():
    row = 2.0 * np.random.default_rng(12).standard_normal(12)
    for k in range(1, 13):
        law = subsets.enumerate_law(row, k, k)
        np.testing.assert_allclose(
            subsets.marginals(row, k, k),
            subsets.enumerated_marginals(law, 12),
            rtol=1e-12,
        )
    assert len(subsets.enumerate_law(row, 1, 12)) == 4095


@pytest.mark.parametrize("band", [(3, 3), (2, 4)])
def test_covariance_is_the_jacobian(band):
    row = np.random.default_rng(5).standard_normal(7)
    step = 1e-5
    jacobian = np.zeros((7, 7))
    for expert in range(7):
        shift = np.zeros(7)
        shift[expert] = step
        up = subsets.marginals(row + shift, *band)
        down = subsets.marginals(row - shift, *band)
        jacobian[:, expert] = (up - down) / (2.0 * step)
    covariance = subsets.covariance(row, *band)
    np.testing.assert_allclose(jacobian, covariance, atol=1e-9)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-15)
    if band[0] == band[1]:
        np.testing.assert_allclose(covariance.sum(axis=1), 0.0, atol=1e-14)
        odds, chance = np.exp(row), subsets.marginals(row, *band)
        for i in range(7):
            for j in set(range(7)) - {i}:
                pair = odds[j] * chance[i] - odds[i] * chance[j]
                pair /= odds[j] - odds[i]
                np.testing.assert_allclose(
                    pair - chance[i] * chance[j], covariance[i, j], atol=1e-12
                )


def test_one_of_all_is_softmax_and_level_does_not_matter():
    rng = np.random.default_rng(8)
    row = rng.standard_normal(10)
    soft = np.exp(row) / np.sum(np.exp(row))
    np.testing.assert_allclose(subsets.marginals(row, 1, 1), soft)
    np.testing.assert_allclose(
        subsets.marginals(row, 4, 4), subsets.marginals(row + 50.0, 4, 4)
    )
    moved = subsets.marginals(row + 1.0, 2, 4) - subsets.marginals(row, 2, 4)
    assert np.all(moved > 0.0)


def test_large_rows_stay_laws():
    rng = np.random.default_rng(3)
    for experts, k in ((64, 8), (256, 32), (128, 100)):
        for row in (
            6.0 * rng.standard_normal(experts),
            np.zeros(experts),
            rng.uniform(-80.0, 80.0, experts),
        ):
            chance = subsets.marginals(row, k, k)
            np.testing.assert_allclose(np.sum(chance), k, rtol=1e-11)
            order = np.argsort(row)
            assert np.all(np.diff(chance[order]) >= -1e-11)
    np.testing.assert_allclose(
        subsets.marginals(np.zeros(256), 32, 32), 0.125, rtol=1e-12
    )


# Rows that are not ordinary.


def test_fewer_admissible_than_asked():
    row = np.array([NONE, 0.3, NONE, -2.0])
    uniform = np.zeros(5)
    for band in ((3, 3), (2, 3), (2, 2)):
        assert subsets.marginals(row, *band).tolist() == [0.0, 1.0, 0.0, 1.0]
        sample = subsets.draw(row, *band, uniform + 0.999)
        assert sample.ids == [1, 3] and sample.margin == math.inf
        assert subsets.most_likely(row, *band) == [1, 3]
        assert subsets.log_probability(row, [1, 3], *band) == 0.0
        assert subsets.log_probability(row, [1], *band) == NONE
        assert subsets.entropy(row, *band) == 0.0
    # The band is lowered to 1..2, where something is still left to chance.
    np.testing.assert_allclose(
        subsets.marginals(row, 1, 3), subsets.marginals(row, 1, 2)
    )
    nothing = np.full(4, NONE)
    assert subsets.marginals(nothing, 2, 3).tolist() == [0.0] * 4
    assert subsets.draw(nothing, 2, 3, uniform).ids == []
    assert subsets.most_likely(nothing, 2, 3) == []
    assert subsets.log_probability(nothing, [], 2, 3) == 0.0
    assert subsets.cardinality_law(nothing, 2, 3).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_without_a_law(bad):
    row = np.array([0.0, bad, 1.0, NONE])
    assert np.isnan(subsets.marginals(row, 2, 2)).all()
    assert np.isnan(subsets.covariance(row, 1, 2)).all()
    assert np.isnan(subsets.covariance_product(row, row, 1, 2)).all()
    assert np.isnan(subsets.cardinality_law(row, 1, 2)).all()
    assert math.isnan(subsets.log_probability(row, [0, 2], 2, 2))
    assert math.isnan(subsets.entropy(row, 2, 2))
    for ids in (
        subsets.draw(row, 2, 2, np.full(5, 0.5)).ids,
        subsets.most_likely(row, 2, 2),
    ):
        assert len(set(ids)) == 2 and set(ids) <= set(range(4))


def test_a_band_outside_the_experts_is_refused():
    for band in ((3, 2), (1, 5), (-1, 2)):
        with pytest.raises(ValueError):
            subsets.marginals(EXAMPLE, *band)


# The sampler.


def test_example_steps_of_the_sampler():
    # From the last expert to the first: .209513 with two to take; then
    # .418508 with two left, .133414 with one.
    def drawn(*uniforms: float) -> list[int]:
        return subsets.draw(EXAMPLE, 2, 2, np.array(uniforms)).ids

    assert drawn(0.0, 0.0, 0.1334, 0.2095) == [2, 3]
    assert drawn(0.5, 0.0, 0.1335, 0.2095)[-1] == 3
    assert 2 not in drawn(0.5, 0.0, 0.1335, 0.2095)
    assert 2 in drawn(0.9, 0.9, 0.4185, 0.2096)
    assert drawn(0.9, 0.9, 0.4186, 0.2096) == [0, 1]
    sample = subsets.draw(EXAMPLE, 2, 2, np.array([0.9, 0.9, 0.42, 0.9]))
    near(sample.margin, 0.42 - 0.418508)


def test_a_uniform_at_its_threshold_does_not_take():
    even = np.zeros(2)  # one of two: the threshold is exactly 1/2
    below = 0.5 - 2.0**-24
    assert subsets.draw(even, 1, 1, np.array([0.0, below])).ids == [1]
    assert subsets.draw(even, 1, 1, np.array([0.0, 0.5])).ids == [0]
    # None or one of one: the band's step is at 1/2 as well.
    assert subsets.draw_cardinality(even[:1], 0, 1, below)[0] == 0
    assert subsets.draw_cardinality(even[:1], 0, 1, 0.5)[0] == 1


def sampler_measure(
    row: np.ndarray, kmin: int, kmax: int
) -> dict[tuple[int, ...], float]:
    """Lebesgue measure of the uniforms that the sampler maps to each set.

    Found by asking it: at every step the threshold is located by bisection
    on that expert's uniform, the others held where the branch needs them.
    """

    def size(uniforms: np.ndarray) -> int:
        return len(subsets.draw(row, kmin, kmax, uniforms).ids)

    def bisect(test, low: float = 0.0, high: float = 1.0) -> float:
        if test(high):
            return high
        if not test(low):
            return low
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if test(middle) else (low, middle)
        return low

    experts = len(row)
    law: dict[tuple[int, ...], float] = {}

    def walk(index: int, uniforms: np.ndarray, mass: float) -> None:
        if mass == 0.0:
            return
        if index < 0:
            ids = tuple(subsets.draw(row, kmin, kmax, uniforms).ids)
            law[ids] = law.get(ids, 0.0) + mass
            return

        def taken(value: float) -> bool:
            trial = uniforms.copy()
            trial[index] = value
            return index in subsets.draw(row, kmin, kmax, trial).ids

        step = bisect(taken)
        for value, share in ((0.0, step), (1.0, 1.0 - step)):
            branch = uniforms.copy()
            branch[index] = value
            walk(index - 1, branch, mass * share)

    before = 0.0
    for count in range(kmin, kmax + 1):
        uniforms = np.zeros(experts + 1)

        def at_most(value: float) -> bool:
            trial = uniforms.copy()
            trial[experts] = value
            return size(trial) <= count

        step = bisect(at_most) if kmin < kmax else 1.0
        uniforms[experts] = 0.5 * (before + step)
        walk(experts - 1, uniforms, step - before)
        before = step
    return law


@pytest.mark.parametrize("band", [(2, 2), (1, 3), (3, 4)])
def test_sampler_has_the_law_exactly(band):
    row = np.array([0.8, NONE, -1.1, 0.3, 2.0])
    law = subsets.enumerate_law(row, *band)
    measure = sampler_measure(row, *band)
    assert set(measure) == set(law)
    for subset, p in law.items():
        np.testing.assert_allclose(measure[subset], p, atol=1e-12)


@pytest.mark.parametrize("band", [(2, 2), (1, 3)])
def test_sampler_by_chi_square(band):
    count = 12000
    law = subsets.enumerate_law(EXAMPLE, *band)
    seen = dict.fromkeys(law, 0)
    for uniforms in philox.uniforms(2024, count, 5):
        seen[tuple(subsets.draw(EXAMPLE, *band, uniforms).ids)] += 1
    statistic = sum(
        (seen[subset] - count * p) ** 2 / (count * p)
        for subset, p in law.items()
    )
    assert statistic < chi_square_limit(len(law) - 1)
