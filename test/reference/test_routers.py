# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""ProbMoE and MOESART against worked numbers, enumeration and differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import philox
import router_gradients
import subsets
import token_routers as routers
from checking import differences, near

NONE = -math.inf
ROW = np.array([1.2, 0.4, -0.3, -0.9])
LOGITS = ROW[None, :]
PI = np.array([0.557129, 0.250334, 0.124312, 0.068224])
OUTPUTS = np.array([0.3, -0.2, 0.7, 0.1])  # <dL/dy, f_j(x)> of each expert


def ids_of(*experts: int) -> np.ndarray:
    """One token's ids."""
    return np.array([experts], dtype=np.int32)


# Softmax and choice.


def test_softmax_and_best():
    near(routers.softmax(LOGITS), PI[None, :])
    near(routers.softmax(ROW[[0, 1]]), [0.689974, 0.310026])
    odd = np.array([[NONE, NONE], [0.0, math.nan], [math.inf, 0.0]])
    out = routers.softmax(odd)
    assert out[0].tolist() == [0.0, 0.0]
    assert np.isnan(out[1:]).all()
    values = np.array([1.0, math.nan, 3.0, 3.0, -0.0, 0.0, NONE])
    assert routers.best(values, 7) == [2, 3, 0, 4, 5, 6, 1]
    assert routers.best_admissible(values[2:], 5) == [0, 1, 2, 3]


# ProbMoE.


def test_probmoe_exact_training():
    # Uniforms that take {0, 2}: neither 3 nor 1, see the sampler's steps.
    uniforms = np.array([[0.5, 0.9, 0.4, 0.5]])
    out = routers.probmoe(LOGITS, 2, 2, uniforms)
    assert out.ids.tolist() == [[0, 2]]
    near(out.weights, [[0.557129, 0.124312]])
    near(out.marginals, [[0.813195, 0.618514, 0.358778, 0.209513]])
    near(out.log_prob, [-1.477265])
    near(out.entropy, [1.450220])
    # norm_topk_prob is a matter of inference only.
    same = routers.probmoe(LOGITS, 2, 2, uniforms, normalize=True)
    assert np.array_equal(out.weights, same.weights)


def test_probmoe_inference():
    out = routers.probmoe(LOGITS, 2, 2)
    assert out.ids.tolist() == [[0, 1]]
    near(out.weights, [[0.557129, 0.250334]])
    near(np.exp(out.log_prob), [0.459662])
    out = routers.probmoe(LOGITS, 2, 2, normalize=True)
    near(out.weights, [[0.689974, 0.310026]])
    out = routers.probmoe(LOGITS, 1, 3)
    assert out.ids.tolist() == [[0, 1, -1]]
    near(out.weights, [[0.557129, 0.250334, 0.0]])
    ties = np.array([[0.0, 1.0, 1.0, 0.0]])
    assert routers.probmoe(ties, 3, 3).ids.tolist() == [[1, 2, 0]]
    assert routers.probmoe(ties, 1, 3).ids.tolist() == [[1, 2, -1]]


def test_probmoe_slots_and_weights_of_many_tokens():
    rng = np.random.default_rng(2)
    logits = 2.0 * rng.standard_normal((40, 9))
    uniforms = philox.uniforms(11, 40, 10)
    for kmin, kmax in ((3, 3), (2, 5)):
        out = routers.probmoe(logits, kmin, kmax, uniforms)
        for token in range(40):
            full = out.ids[token][out.ids[token] >= 0]
            assert kmin <= len(full) <= kmax
            assert np.all(np.diff(full) > 0)
            assert np.all(out.ids[token, len(full) :] == -1)
            assert np.all(out.weights[token, len(full) :] == 0.0)
            np.testing.assert_allclose(
                out.weights[token, : len(full)], out.probs[token, full]
            )
        if kmin == kmax:
            np.testing.assert_allclose(out.marginals.sum(axis=1), kmin)
        alone = routers.probmoe(logits[7:9], kmin, kmax, uniforms[7:9])
        assert np.array_equal(alone.ids, out.ids[7:9])


def test_probmoe_gradient_of_the_example():
    slots = OUTPUTS[[0, 2]][None, :]
    paths = router_gradients.probmoe_training(
        LOGITS, ids_of(0, 2), slots, 2, 2
    )
    near(paths.softmax[0], [0.025540, -0.063624, 0.055424, -0.017340])
    near(paths.marginal[0], [0.019865, -0.017624, 0.009407, -0.011647])
    near(paths.total[0], [0.045405, -0.081249, 0.064830, -0.028987])
    # A padded slot changes nothing.
    padded = np.array([[0.3, 0.7, 5.0]])
    band = router_gradients.probmoe_training(
        LOGITS, ids_of(0, 2, -1), padded, 1, 3
    )
    near(band.marginal[0], [0.026201, -0.006375, 0.017384, -0.005900])
    near(band.softmax[0], paths.softmax[0])
    detached = router_gradients.probmoe_training(
        LOGITS, ids_of(0, 2), slots, 2, 2, detached=True
    )
    near(detached.marginal[0], [0.004598, -0.007073, 0.005404, -0.008280])


def expected_loss(row: np.ndarray) -> float:
    """E_S of the linear loss sum_{j in S} c_j pi_j, exact two."""
    weights = routers.softmax(row) * OUTPUTS
    return float(np.dot(weights, subsets.marginals(row, 2, 2)))


def test_probmoe_mean_of_the_sparse_estimator():
    # The gradient of the expected loss needs every expert's output; the mean
    # over S of the estimator that runs S only is another vector.
    near(
        differences(expected_loss, ROW),
        [0.080981, -0.095351, 0.029175, -0.014806],
    )
    everyone = routers.softmax(ROW) * OUTPUTS
    chance = subsets.marginals(ROW, 2, 2)
    pi = routers.softmax(ROW)
    dense = router_gradients.softmax_backward(pi, OUTPUTS * chance)
    dense += subsets.covariance_product(ROW, everyone, 2, 2)
    near(dense, [0.080981, -0.095351, 0.029175, -0.014806])
    mean = np.zeros(4)
    for subset, p in subsets.enumerate_law(ROW, 2, 2).items():
        paths = router_gradients.probmoe_training(
            LOGITS, ids_of(*subset), OUTPUTS[list(subset)][None, :], 2, 2
        )
        mean += p * paths.total[0]
    near(mean, [0.079197, -0.082437, 0.016296, -0.013056])


@pytest.mark.parametrize("band", [(3, 3), (2, 4)])
def test_probmoe_gradient_is_that_of_the_surrogate(band):
    # stopgrad(z - m) + m, times pi: differentiate pi and m by differences.
    rng = np.random.default_rng(4)
    row = rng.standard_normal(6)
    subset = [0, 2, 5]
    slots = rng.standard_normal(3)
    start = subsets.marginals(row, *band)

    def surrogate(moved: np.ndarray) -> float:
        gate = 1.0 + subsets.marginals(moved, *band) - start
        weights = gate * routers.softmax(moved)
        return float(np.dot(slots, weights[subset]))

    paths = router_gradients.probmoe_training(
        row[None, :], ids_of(*subset), slots[None, :], *band
    )
    np.testing.assert_allclose(
        paths.total[0], differences(surrogate, row), atol=1e-9
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_inference_gradients(normalize):
    rng = np.random.default_rng(6)
    logits = rng.standard_normal((3, 5))
    slots = rng.standard_normal((3, 2))

    def loss(moved: np.ndarray) -> float:
        out = routers.probmoe(moved, 2, 2, normalize=normalize)
        return float(np.sum(out.weights * slots))

    ids = routers.probmoe(logits, 2, 2).ids
    ours = router_gradients.kept_softmax(logits, ids, slots, normalize)
    np.testing.assert_allclose(ours, differences(loss, logits), atol=1e-9)
    if normalize:  # the same function as the softmax over the chosen
        other = router_gradients.chosen_softmax(logits, ids, slots)
        np.testing.assert_allclose(ours, other, atol=1e-14)


def test_other_samplers_have_other_inclusions():
    # Gumbel top-k on r is Plackett-Luce, SIMPLE's second sampler the same on
    # log p. Only the law of subsets.py has its marginals.
    def inclusion(row: np.ndarray) -> np.ndarray:
        total = np.zeros(4)
        g = routers.softmax(row)
        for first, second in itertools.permutations(range(4), 2):
            p = g[first] * g[second] / (1.0 - g[first])
            total[[first, second]] += p
        return total

    near(inclusion(ROW), [0.863053, 0.619120, 0.331310, 0.186517])
    log_p = -np.log1p(np.exp(-ROW))
    near(inclusion(log_p), [0.672548, 0.576123, 0.439512, 0.311817])


# MOESART.


def drawn_weights(
    drawn: tuple[int, ...], kept: int, strategy: str, row: np.ndarray = ROW
) -> np.ndarray:
    """Weights by expert [E] of a sequence of draws."""
    experts, counts = routers.support(drawn)
    out = np.zeros(len(row))
    out[experts] = routers.moesart_weights(
        row, experts, counts, kept, strategy
    )
    return out


def sequences(k: int, replacement: bool) -> dict[tuple[int, ...], float]:
    """Every sequence of draws of the example with its probability."""
    g = routers.softmax(ROW)
    out: dict[tuple[int, ...], float] = {}
    for drawn in itertools.product(range(4), repeat=k):
        if not replacement and len(set(drawn)) < k:
            continue
        p, left = 1.0, 1.0
        for expert in drawn:
            p *= g[expert] / left
            left -= 0.0 if replacement else g[expert]
        out[drawn] = p
    return out


@pytest.mark.parametrize(
    "strategy, replacement, expected",
    [
        (
            "small_random",
            False,
            [-0.038417, 0.026012, 0.009220, 0.003185],
        ),
        ("zero", False, [-0.125603, 0.059226, 0.041343, 0.025034]),
        ("large", False, [0.093843, -0.011234, -0.043660, -0.038949]),
        ("small_random", True, [0.050272, -0.016859, -0.019516, -0.013897]),
        ("zero", True, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_moesart_bias(strategy, replacement, expected):
    mean = np.zeros(4)
    for drawn, p in sequences(2, replacement).items():
        slots = len(set(drawn))
        for kept in range(slots):
            weights = drawn_weights(drawn, kept, strategy)
            np.testing.assert_allclose(np.sum(weights), 1.0)
            mean += p / slots * weights
    near(mean - routers.softmax(ROW), expected)


def test_moesart_example_weights():
    kept_first = drawn_weights((0, 2), 0, "small_random")
    near(kept_first, [0.357793, 0.0, 0.642207, 0.0])
    kept_second = drawn_weights((0, 2), 1, "small_random")
    near(kept_second, [0.889433, 0.0, 0.110567, 0.0])
    near(
        drawn_weights((0, 1, 2), 1, "small_random"),
        [0.399893, 0.200214, 0.399893, 0.0],
    )
    # What the formulas collapse to.
    g = PI[0]
    near(kept_first[[0, 2]], [g / (1.0 + g), 1.0 / (1.0 + g)])
    near(drawn_weights((3, 1), -1, "zero"), [0.0, 0.5, 0.0, 0.5])
    near(drawn_weights((3, 1, 3), -1, "zero"), [0.0, 1 / 3, 0.0, 2 / 3])
    near(drawn_weights((0, 1), -1, "large"), [0.689974, 0.310026, 0.0, 0.0])


def test_moesart_plackett_luce_sets():
    sets: dict[tuple[int, ...], float] = {}
    for drawn, p in sequences(2, False).items():
        key = tuple(sorted(drawn))
        sets[key] = sets.get(key, 0.0) + p
    expected = [0.500960, 0.235474, 0.126618, 0.077049, 0.041111, 0.018787]
    near([sets[key] for key in sorted(sets)], expected)


def test_moesart_draws_by_inverse_cdf():
    # g = .557 .250 .124 .068: cumulative .557129 .807463 .931775 1.
    def drawn(first: float, second: float, replacement: bool) -> list[int]:
        out = routers.moesart_training(
            LOGITS,
            2,
            np.array([[first, second, 0.0]]),
            replacement=replacement,
        )
        return out.ids[0].tolist()

    assert drawn(0.5571, 0.5572, True) == [0, 1]
    assert drawn(0.8074, 0.8075, True) == [1, 2]
    assert drawn(0.9317, 0.9318, True) == [2, 3]
    # Without 0 the rest is .565249 .280694 .154047.
    assert drawn(0.0, 0.5652, False) == [0, 1]
    assert drawn(0.0, 0.5653, False) == [0, 2]
    assert drawn(0.0, 0.8460, False) == [0, 3]
    assert drawn(0.9999, 0.9999, False) == [3, 2]
    assert drawn(0.9999, 0.9999, True) == [3, -1]
    # A uniform equal to a cumulative sum is not below it.
    even = np.array([0.5, 0.5])
    assert routers.inverse_cdf(even, 0.5) == (1, 0.0)
    assert routers.inverse_cdf(even, 0.5 - 2.0**-24)[0] == 0
    # Rounding may leave the last sum below the uniform; then the last one.
    assert routers.inverse_cdf(np.array([0.4, 0.5, 0.0]), 0.95)[0] == 1
    assert routers.inverse_cdf(np.array([0.0, 0.5, 0.5]), 0.0)[0] == 1


def test_moesart_kept_slot_and_counts():
    def run(kept: float, **options) -> routers.SampledRouted:
        uniforms = np.array([[0.95, 0.1, 0.95, kept]])
        return routers.moesart_training(LOGITS, 3, uniforms, **options)

    out = run(0.3)
    assert out.ids.tolist() == [[3, 0, 2]]
    assert [int(run(u).kept[0]) for u in (0.33, 0.34, 0.66, 0.67)] == [
        0,
        1,
        1,
        2,
    ]
    out = run(0.49, replacement=True)
    assert out.ids.tolist() == [[3, 0, -1]]
    assert out.counts.tolist() == [[2, 1, 0]]
    assert out.kept.tolist() == [0]
    near(out.weights[0, :2].sum(), 1.0)
    assert run(0.51, replacement=True).kept.tolist() == [1]
    zero = run(0.0, replacement=True, strategy="zero")
    near(zero.weights, [[2 / 3, 1 / 3, 0.0]])
    assert zero.kept.tolist() == [-1]
    # A low temperature is a sharp distribution.
    cold = routers.moesart_training(
        LOGITS, 2, np.array([[0.99, 0.99, 0.0]]), temperature=0.1
    )
    assert cold.ids.tolist() == [[0, 1]]
    near(cold.probs, routers.softmax(10.0 * LOGITS))
    with pytest.raises(ValueError):
        run(0.0, strategy="small-random")


def test_moesart_inference():
    out = routers.moesart_inference(LOGITS, 2)
    assert out.ids.tolist() == [[0, 1]]
    assert out.weights.tolist() == [[0.5, 0.5]]
    forced = np.array([[NONE, 2.0, NONE, 1.0]])
    out = routers.moesart_inference(forced, 3)
    assert out.ids.tolist() == [[1, 3, -1]]
    assert out.weights.tolist() == [[0.5, 0.5, 0.0]]


def test_moesart_gradient():
    def routed(kept: int) -> routers.SampledRouted:
        uniforms = np.array([[0.1, 0.7, 0.6 * kept]])
        return routers.moesart_training(LOGITS, 2, uniforms)

    out = routed(0)
    assert out.ids.tolist() == [[0, 2]] and out.kept.tolist() == [0]
    slots = OUTPUTS[[0, 2]][None, :]
    near(
        router_gradients.moesart_training(LOGITS, out, slots, "small_random"),
        [[-0.040705, 0.023008, 0.011426, 0.006271]],
    )
    out = routed(1)
    g = routers.softmax(ROW)
    closed = (OUTPUTS[2] - OUTPUTS[0]) / (1.0 + g[2]) ** 2 * g[2]
    np.testing.assert_allclose(
        router_gradients.moesart_training(LOGITS, out, slots, "small_random"),
        closed * (np.eye(4)[2] - g)[None, :],
    )


@pytest.mark.parametrize("strategy", routers.STRATEGIES)
@pytest.mark.parametrize("replacement", [False, True])
def test_moesart_gradient_by_differences(strategy, replacement):
    rng = np.random.default_rng(9)
    logits = rng.standard_normal((4, 5))
    slots = rng.standard_normal((4, 3))
    uniforms = philox.uniforms(5, 4, 4)
    uniforms[0, :3] = 0.3  # one expert drawn three times, with replacement
    options = {
        "strategy": strategy,
        "replacement": replacement,
        "temperature": 0.7,
    }
    out = routers.moesart_training(logits, 3, uniforms, **options)

    def loss(moved: np.ndarray) -> float:
        again = routers.moesart_training(moved, 3, uniforms, **options)
        assert np.array_equal(again.ids, out.ids)
        return float(np.sum(again.weights * slots))

    ours = router_gradients.moesart_training(
        logits, out, slots, strategy, 0.7
    )
    np.testing.assert_allclose(ours, differences(loss, logits), atol=1e-9)


# Rows that are not ordinary, for both.


def odd_rows() -> np.ndarray:
    """NaN, +inf, nothing admissible, one admissible, ordinary, [5, 4]."""
    return np.array(
        [
            [0.0, math.nan, 1.0, 2.0],
            [0.0, math.inf, 1.0, NONE],
            [NONE] * 4,
            [NONE, 0.5, NONE, NONE],
            [0.4, 0.3, 0.2, 0.1],
        ]
    )


@pytest.mark.parametrize(
    "run",
    [
        lambda rows, u, mask: routers.probmoe(rows, 2, 2, u, mask=mask),
        lambda rows, u, mask: routers.probmoe(rows, 2, 2, mask=mask),
        lambda rows, u, mask: routers.probmoe(rows, 1, 2, u, mask=mask),
        lambda rows, u, mask: routers.moesart_training(
            rows, 2, u, mask=mask
        ),
        lambda rows, u, mask: routers.moesart_training(
            rows, 2, u, "large", True, mask=mask
        ),
        lambda rows, u, mask: routers.moesart_inference(rows, 2, mask=mask),
    ],
)
def test_odd_rows(run):
    uniforms = philox.uniforms(1, 5, 5)
    out = run(odd_rows(), uniforms, None)
    for token in (0, 1):
        full = out.ids[token][out.ids[token] >= 0].tolist()
        assert full and len(set(full)) == len(full) and max(full) < 4
        assert np.isnan(out.weights[token, : len(full)]).all()
    assert out.ids[2].tolist() == [-1, -1]
    assert out.weights[2].tolist() == [0.0, 0.0]
    assert out.ids[3].tolist() == [1, -1]
    assert out.weights[3].tolist() == [1.0, 0.0]
    assert np.isfinite(out.weights[4]).all()
    masked = run(odd_rows(), uniforms, np.array([1, 1, 1, 1, 0], bool))
    assert masked.ids[4].tolist() == [-1, -1]
    assert masked.weights[4].tolist() == [0.0, 0.0]
    assert np.array_equal(masked.ids[:4], out.ids[:4])
    empty = run(np.zeros((0, 4)), uniforms[:0], None)
    assert empty.ids.shape == empty.weights.shape == (0, 2)
