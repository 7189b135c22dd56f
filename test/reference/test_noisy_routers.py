# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""noisy_routers.py, gates.py and losses.py against worked numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import gates
import losses
import noisy_routers as routers
import philox
import router_gradients
from checking import chi_square_limit, differences, near
from token_routers import best, softmax

NONE = -math.inf
LOGITS = np.array([[2, 1, 0], [1, 0.5, 0], [1.5, 0, 1], [0, 0, 1]])
PROBS = softmax(LOGITS)
FIRST = np.array([0, 0, 0, 2])
TOP_TWO = np.array([[0, 1], [0, 1], [0, 2], [2, 0]])
NORMALS = np.array(
    [[0.1, -0.2, 0.3], [0, 0.7, -0.1], [-0.5, 0.2, 0.4], [0.3, 0.1, -0.6]]
)
# softplus of it is 0.99, so that sigma is 1.
UNIT_NOISE = np.full((4, 3), math.log(math.expm1(0.99)))
DROP_LAST = np.array([True, True, True, False])


# Noisy top-k and V-MoE.


def test_noisy_top_1_example():
    out = routers.noisy_top_k(LOGITS, 1, UNIT_NOISE, NORMALS)
    np.testing.assert_allclose(out.sigma, 1.0)
    assert out.ids.ravel().tolist() == [0, 1, 2, 2]
    assert out.weights.ravel().tolist() == [1.0] * 4
    near(out.load, [2.190077, 0.869539, 1.390970])
    near(losses.cv_squared(out.load), 0.134003)
    near(
        losses.load_shazeer(LOGITS, out.noisy, out.sigma, 1),
        0.134003,
    )


def test_noisy_top_k_without_noise():
    out = routers.noisy_top_k(LOGITS, 2)
    assert out.ids.tolist() == TOP_TWO.tolist()
    near(
        out.weights,
        [
            [0.731059, 0.268941],
            [0.622459, 0.377541],
            [0.622459, 0.377541],
            [0.731059, 0.268941],
        ],
    )
    assert out.load.tolist() == [4.0, 2.0, 2.0]
    everyone = routers.noisy_top_k(LOGITS, 3, UNIT_NOISE, NORMALS)
    assert everyone.load.tolist() == [4.0, 4.0, 4.0]
    masked = routers.noisy_top_k(LOGITS, 2, mask=DROP_LAST)
    assert masked.ids[3].tolist() == [-1, -1]
    assert masked.load.tolist() == [3.0, 2.0, 1.0]


def test_load_is_the_chance_of_a_new_draw():
    # Redraw one entry's noise, all other noise held: how often is it among
    # the top k? Shazeer's two thresholds say so exactly.
    rng = np.random.default_rng(1)
    clean = rng.standard_normal((1, 6))
    sigma = rng.uniform(0.5, 1.5, (1, 6))
    noisy = clean + sigma * rng.standard_normal((1, 6))
    chance = routers.shazeer_load(clean, noisy, sigma, 2)[0]
    points = (np.arange(20000) + 0.5) / 20000
    # Normal quantiles at the points, by interpolation of the CDF.
    grid = np.linspace(-6.0, 6.0, 4001)
    cdf = [routers.normal_cdf(value) for value in grid]
    normal = np.interp(points, cdf, grid)
    for expert in range(6):
        others = np.sort(np.delete(noisy[0], expert))[::-1]
        again = clean[0, expert] + sigma[0, expert] * normal
        np.testing.assert_allclose(
            np.mean(again > others[1]), chance[expert], atol=2e-4
        )


def test_load_without_enough_experts():
    clean = np.array([[0.5, NONE, NONE], [NONE] * 3])
    load = routers.shazeer_load(clean, clean, np.ones((2, 3)), 2)
    assert load.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    load = routers.vmoe_load(clean, clean, 1.0, 2)
    assert load.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    out = routers.noisy_top_k(clean, 2, UNIT_NOISE[:2], NORMALS[:2])
    assert out.ids.tolist() == [[0, -1], [-1, -1]]
    assert out.weights.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_vmoe_example():
    near(losses.importance(PROBS), 0.108533)
    out = routers.vmoe(LOGITS, 1, NORMALS, noise_std=1.0)
    near(losses.load_vmoe(LOGITS, out.noisy, 1.0, 1), 0.098581)
    near(losses.cv_squared(out.load), 0.098581)
    # By default the noise has deviation 1/E.
    out = routers.vmoe(LOGITS, 2, NORMALS)
    np.testing.assert_allclose(out.noisy, LOGITS + NORMALS / 3.0)
    noisy = softmax(out.noisy)
    for token in range(4):
        assert out.ids[token].tolist() == best(out.noisy[token], 2)
        np.testing.assert_allclose(
            out.weights[token], noisy[token, out.ids[token]]
        )
    calm = routers.vmoe(LOGITS, 2)
    near(calm.weights[0], [0.665241, 0.244728])


def test_batch_prioritised_positions():
    ids = TOP_TWO.astype(np.int32)
    priority = PROBS.max(axis=1)
    assert best(priority, 4) == [0, 3, 2, 1]
    positions = routers.queue_positions(ids, 3, 99, priority)
    assert positions.tolist() == [[0, 0], [2, 1], [1, 1], [0, 3]]


# GShard.


def test_gshard_example():
    gates_before = [
        [0.731059, 0.268941],
        [0.622459, 0.377541],
        [0.622459, 0.377541],
        [0.731059, 0.268941],
    ]
    uniforms = np.array([0.9, 0.3, 0.5, 0.1])
    out = routers.gshard_top2(LOGITS, "random", uniforms=uniforms)
    assert out.ids.tolist() == TOP_TWO.tolist()
    near(out.weights, gates_before)
    near(out.margin[0], 1.0 / (1.0 + math.e) / 0.2 - 0.9)
    # torchscale's rule 2 g2 > u drops the second of token 0.
    out = routers.gshard_top2(LOGITS, "random", 0.5, uniforms=uniforms)
    assert out.ids.tolist() == [[0, -1], [0, 1], [0, 2], [2, 0]]
    near(out.weights[0], [0.731059, 0.0])
    out = routers.gshard_top2(LOGITS, capacity=2)
    assert out.positions.tolist() == [[0, 0], [1, 1], [2, 1], [0, 2]]
    assert out.ids.tolist() == [[0, 1], [0, 1], [-1, 2], [2, -1]]
    near(out.weights[2:], [[0.0, 0.377541], [0.731059, 0.0]])
    # Normalising after dropping leaves weight 1 for a lone choice.
    out = routers.gshard_top2(LOGITS, capacity=2, normalize="after")
    near(out.weights[:2], gates_before[:2])
    near(out.weights[2:], [[0.0, 1.0], [1.0, 0.0]])


def test_gshard_policies():
    out = routers.gshard_top2(LOGITS, "none")
    assert out.ids.tolist() == [[0, -1], [0, -1], [0, -1], [2, -1]]
    assert out.choices.tolist() == TOP_TWO.tolist()
    out = routers.gshard_top2(LOGITS, "threshold", 0.3)
    assert out.ids[:, 1].tolist() == [-1, 1, 2, -1]
    # Raw second probabilities are .245 .307 .331 .212.
    out = routers.gshard_top2(LOGITS, "threshold", 0.31, normalize="after")
    assert out.ids[:, 1].tolist() == [-1, -1, 2, -1]
    near(out.weights[:, 0], [1.0, 1.0, 0.622459, 1.0])
    gumbels = np.zeros((4, 3))
    gumbels[0] = [9.0, 0.0, 1.5]  # moves the second, never the first
    out = routers.gshard_top2(LOGITS, "sampling", gumbels=gumbels)
    assert out.ids.tolist() == [[0, 2], [0, 1], [0, 2], [2, 0]]
    near(out.weights[0, 0], 0.665241 / (0.665241 + 0.090031))
    alone = np.array([[NONE, 1.0, NONE]])
    out = routers.gshard_top2(alone)
    assert out.ids.tolist() == [[1, -1]]
    near(out.weights, [[1.0, 0.0]])
    with pytest.raises(ValueError):
        routers.gshard_top2(LOGITS, "always")


def test_gshard_second_by_sampling_has_the_law_of_the_rest():
    count = 20000
    row = np.tile(LOGITS[:1], (count, 1))
    gumbels = philox.gumbels(5, count, 3)
    out = routers.gshard_top2(row, "sampling", gumbels=gumbels)
    assert np.all(out.ids[:, 0] == 0)
    expected = count * PROBS[0, 1:] / PROBS[0, 1:].sum()
    seen = [np.sum(out.ids[:, 1] == expert) for expert in (1, 2)]
    assert np.sum((seen - expected) ** 2 / expected) < chi_square_limit(1)


# Gumbel top-1.


def test_gumbel_top_1():
    gumbels = philox.gumbels_of(np.array([[0.7, 0.2, 0.9]]))
    out = routers.gumbel_top1(LOGITS[1:2], gumbels)
    # 1 + 1.03 against .5 - .48 and 0 + 2.25.
    assert out.ids.tolist() == [[2]]
    near(out.weights, [[0.186324]])
    assert routers.gumbel_top1(LOGITS).ids.ravel().tolist() == FIRST.tolist()
    count = 20000
    gumbels = philox.gumbels(6, count, 3)
    drawn = routers.gumbel_top1(np.tile(LOGITS[1], (count, 1)), gumbels)
    seen = np.bincount(drawn.ids.ravel(), minlength=3)
    statistic = np.sum((seen - count * PROBS[1]) ** 2 / (count * PROBS[1]))
    assert statistic < chi_square_limit(2)


# SparseMixer-v2.


def test_sparsemixer_example():
    row = np.array([[1.0, 0.99, 0.5, -1.0]])
    out = routers.sparsemixer(row, 0.01)
    assert out.ids.tolist() == [[0, 1]]
    near(out.round_probs[0, 0], [0.5025, 0.4975, 0.0, 0.0])
    near(out.round_probs[0, 1], [0.0, 1.0, 0.0, 0.0])
    near(out.weights, [[0.5025, 1.0]])
    gradient = router_gradients.sparsemixer(out, np.array([[1.0, 0.0]]))
    near(gradient, [[0.249994, -0.249994, 0.0, 0.0]])


def test_sparsemixer_training():
    row = np.array([[1.0, 0.99, 0.5, -1.0]])
    gumbels = np.zeros((1, 2, 4))
    gumbels[0, 0] = [0.0, 1.0, 50.0, 50.0]  # masked experts stay masked

    def run(first: float, second: float) -> routers.MixerRouted:
        uniforms = np.array([[first, second]])
        return routers.sparsemixer(row, 0.01, gumbels, uniforms)

    out = run(0.75, 0.0)
    assert out.ids.tolist() == [[1, 0]]
    near(out.multipliers, [[0.4975, 1.0]])
    near(out.weights, [[0.4975 * 0.3333, 1.0]])
    near(run(0.7500001, 0.0).weights, [[0.4975, 1.0]])
    # The backward ignores the factor.
    gradient = router_gradients.sparsemixer(out, np.array([[2.0, 0.0]]))
    expected = 2.0 * 0.4975 * np.array([[-0.5025, 0.5025, 0.0, 0.0]])
    np.testing.assert_allclose(gradient, expected, atol=2e-6)


def test_sparsemixer_masks_of_negative_and_odd_rows():
    # All negative: the quotient's denominator is |s|.
    row = np.array([[-1.0, -1.5, -1.1]])
    out = routers.sparsemixer(row, 0.05)
    # (.5 / 1.5) and (.1 / 1.1) against .1: only the first is masked.
    assert out.round_probs[0, 0, 1] == 0.0
    assert out.round_probs[0, 0, 2] > 0.0
    zeros = routers.sparsemixer(np.zeros((1, 3)), 0.05)
    near(zeros.round_probs[0], [[1 / 3] * 3, [0.0, 0.5, 0.5]])
    odd = np.array([[NONE, 1.0, NONE], [0.0, math.nan, 1.0]])
    out = routers.sparsemixer(odd, 0.05)
    assert out.ids[0].tolist() == [1, -1] and out.weights[0, 1] == 0.0
    assert np.isnan(out.weights[1]).all()
    assert len(set(out.ids[1].tolist())) == 2


# ReMoE.

RELU = np.array(
    [[0.5, -0.2, 0.1], [-0.3, 0.4, 0.0], [0.2, 0.3, -0.1], [0.6, -0.5, -0.2]]
)


def test_remoe_example():
    out = routers.remoe(RELU)
    assert out.ids.tolist() == [[0, 2, -1], [1, -1, -1], [0, 1, -1]] + [
        [0, -1, -1]
    ]
    weights = losses.dense_weights(out.ids, out.weights, 3)
    assert np.array_equal(weights, np.maximum(RELU, 0.0))
    assert losses.expert_counts(out.ids, 3).tolist() == [3.0, 2.0, 1.0]
    near(losses.remoe_regulariser(weights, 1), 1.0125)
    assert np.mean(weights == 0.0) == 0.5
    # Sparsity 1/2 is below 1 - 1/3: press harder. At k = 2 it is above 1/3.
    near(losses.remoe_strength(1.0, weights, 1), 1.2)
    near(losses.remoe_strength(1.0, weights, 2), 1.0 / 1.2)
    slope = losses.remoe_gradient(weights, 1, 2.0)
    assert slope[0].tolist() == [2.0 * 9 / 16, 0.0, 2.0 * 3 / 16]

    def loss(moved: np.ndarray) -> float:
        return losses.remoe_regulariser(np.maximum(moved, 0.0), 1, 2.0)

    # A logit at exactly 0 is closed; its one-sided slope does not count.
    numeric = differences(loss, np.where(RELU == 0.0, -1.0, RELU))
    np.testing.assert_allclose(slope, numeric, atol=1e-9)
    c = np.arange(12.0).reshape(4, 3)
    gradient = router_gradients.remoe(out, c)
    assert gradient.tolist() == [[0, 0, 1], [0, 3, 0], [6, 7, 0], [9, 0, 0]]


# Product keys, cosine gate, hash, DSelect-k.


def test_product_keys():
    rng = np.random.default_rng(7)
    left, right = rng.standard_normal((2, 20, 5))
    out = gates.product_keys(left, right, 4)
    for token in range(20):
        sums = {
            i * 5 + j: left[token, i] + right[token, j]
            for i, j in itertools.product(range(5), repeat=2)
        }
        chosen = sorted(sums, key=lambda e: (-sums[e], e))[:4]
        assert out.ids[token].tolist() == chosen
        # Two stages: the best four of each half hold them all.
        rows, columns = best(left[token], 4), best(right[token], 4)
        assert all(e // 5 in rows and e % 5 in columns for e in chosen)
        top = np.array([sums[e] for e in chosen])
        np.testing.assert_allclose(
            out.weights[token], np.exp(top) / np.sum(np.exp(top))
        )
    over_all = gates.product_keys(left, right, 4, over="all")
    grid = np.einsum("ti,tj->tij", np.exp(left), np.exp(right))
    grid = grid.reshape(20, 25) / np.sum(grid, axis=(1, 2))[:, None]
    np.testing.assert_allclose(
        over_all.weights, np.take_along_axis(grid, out.ids, axis=1)
    )
    ties = gates.product_keys(np.zeros((1, 3)), np.zeros((1, 3)), 4)
    assert ties.ids.tolist() == [[0, 1, 2, 3]]


def test_product_keys_gradient():
    rng = np.random.default_rng(8)
    left, right = rng.standard_normal((2, 3, 4))
    slots = rng.standard_normal((3, 2))
    out = gates.product_keys(left, right, 2)
    grid = router_gradients.chosen_softmax(
        gates.product_grid(left, right), out.ids, slots
    )
    d_left, d_right = gates.product_keys_backward(grid, 4)

    def loss(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(gates.product_keys(a, b, 2).weights * slots))

    numeric = differences(lambda a: loss(a, right), left)
    np.testing.assert_allclose(d_left, numeric, atol=1e-9)
    numeric = differences(lambda b: loss(left, b), right)
    np.testing.assert_allclose(d_right, numeric, atol=1e-9)


def test_cosine_gate():
    projected = np.array([[3.0, 4.0]])
    keys = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    logits = gates.cosine_gate(projected, keys, 1.0 / 0.5)
    near(logits, [[1.2, 1.6, 0.282843]])
    near(softmax(logits), [[0.345844, 0.515938, 0.138218]])
    near(gates.cosine_gate(projected, keys, 1.0, False)[0, 0], 3.0)
    assert gates.cosine_gate(0.0 * projected, keys, 2.0).tolist() == [[0] * 3]
    near(gates.cosine_scale(math.log(1.0 / 0.5)), 2.0)
    near(gates.cosine_scale(50.0), 100.0)


@pytest.mark.parametrize("unit_tokens", [True, False])
def test_cosine_gate_gradient(unit_tokens):
    rng = np.random.default_rng(3)
    x, keys = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    c = rng.standard_normal((4, 5))

    def loss(rows, columns, scale) -> float:
        out = gates.cosine_gate(rows, columns, scale, unit_tokens)
        return float(np.sum(c * out))

    d_x, d_keys, d_scale = gates.cosine_gate_backward(
        x, keys, 1.7, c, unit_tokens
    )
    numeric = differences(lambda at: loss(at, keys, 1.7), x)
    np.testing.assert_allclose(d_x, numeric, atol=1e-9)
    numeric = differences(lambda at: loss(x, at, 1.7), keys)
    np.testing.assert_allclose(d_keys, numeric, atol=1e-9)
    np.testing.assert_allclose(d_scale, loss(x, keys, 1.0))


def test_hash_route():
    table = np.array([[2, 0], [1, 1], [0, 2]])
    out = gates.hash_route(np.array([1, 0, 2]), table, 3)
    assert out.ids.tolist() == [[1, 1], [2, 0], [0, 2]]
    assert out.weights.tolist() == [[1.0, 1.0]] * 3
    masked = gates.hash_route(
        np.array([1, 0]), table[:, 0], 3, np.array([False, True])
    )
    assert masked.ids.tolist() == [[-1], [2]]
    with pytest.raises(ValueError):
        gates.hash_route(np.array([3]), table, 3)
    with pytest.raises(ValueError):
        gates.hash_route(np.array([0]), table, 2)


def test_dselect_example():
    out = gates.dselect_k(
        np.array([[0.1, -0.2], [0.6, 0.3]]), np.array([0.4, -0.4]), 4
    )
    near(out.steps, [[0.648, 0.216], [1.0, 0.896]])
    near(out.alphas, [0.689974, 0.310026])
    near(out.weights, [0.190411, 0.052460, 0.382772, 0.374357])
    near(np.sum(out.codes, axis=1), 1.0)
    near(gates.dselect_missing(out), 2.0)
    binary = gates.dselect_k(np.array([[9.0, -9.0]]), np.array([0.0]), 3)
    assert binary.weights.tolist() == [0.0, 0.0, 1.0]
    assert abs(gates.dselect_entropy(binary)) < 2e-6
    assert [gates.smooth_step(v) for v in (-0.5, 0.0, 0.5)] == [0, 0.5, 1]


# Losses.


def test_balance_example():
    ids = FIRST[:, None]
    near(np.bincount(FIRST, minlength=3) / 4, [0.75, 0.0, 0.25])
    near(PROBS.mean(axis=0), [0.482553, 0.221454, 0.295993])
    near(losses.balance(PROBS, ids), 1.307739)
    near(losses.gshard(PROBS, FIRST), 1.307739)
    near(
        losses.balance_gradient(LOGITS, ids)[0],
        [0.114036, -0.095708, -0.018328],
    )
    near(losses.balance(PROBS, TOP_TWO, "k"), 2.223830)
    near(losses.balance(PROBS, TOP_TWO, "one"), 1.111915)
    even = np.full((4, 2), 0.5)
    near(losses.balance(even, np.array([[0], [1], [0], [1]])), 1.0)


def test_z_loss_example():
    near(losses.z_loss(LOGITS), 3.863555)
    near(
        losses.z_loss_gradient(LOGITS)[0], [0.800819, 0.294605, 0.108379]
    )


def test_trimmed_lasso_example():
    row = np.array([[1.2, 0.4, -0.3, -0.9]])
    near(losses.trimmed_lasso(row, 2), 0.192536)
    near(
        losses.trimmed_lasso_gradient(row, 2),
        [[-0.107268, -0.048198, 0.100378, 0.055088]],
    )


def test_second_place_loss():
    # f2 = [.25 .5 .25]; P2: the rest of each row, rescaled.
    rest = np.array(
        [
            [0, 0.244728, 0.090031],
            [0, 0.307196, 0.186324],
            [0, 0.121952, 0.331499],
            [0.211942, 0.211942, 0],
        ]
    )
    rest = rest / rest.sum(axis=1, keepdims=True)
    expected = 3.0 * np.dot([0.25, 0.5, 0.25], rest.mean(axis=0))
    ours = losses.gshard_second(PROBS, TOP_TWO)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_cv_squared():
    near(losses.cv_squared(np.array([1.0, 2.0, 3.0])), (2 / 3) / 4)
    near(losses.cv_squared(np.array([1.0, 2.0, 3.0]), True), 1 / 4)
    assert losses.cv_squared(np.array([5.0])) == 0.0
    assert losses.cv_squared(np.zeros(4)) == 0.0
    near(losses.cv_squared(np.array([0.0, 0.0, 6.0])), 2.0)


def test_entropy_and_mesh_loss():
    near(losses.entropy(np.full((2, 4), 0.25)), math.log(4.0))
    assert losses.entropy(np.eye(3)) == 0.0
    over_tokens = softmax(LOGITS.T).T
    expected = 16.0 * np.mean(np.mean(over_tokens, axis=1) ** 2)
    near(losses.mesh_expert_choice(over_tokens), expected)
    near(losses.mesh_expert_choice(np.full((4, 3), 0.25)), 1.0)


def masks() -> list[np.ndarray | None]:
    """No mask; all but the last token."""
    return [None, DROP_LAST]


@pytest.mark.parametrize("mask", masks(), ids=["all", "masked"])
def test_loss_gradients(mask):
    ids = TOP_TWO
    pairs = [
        (
            lambda r: losses.balance(softmax(r), ids, "one", mask),
            losses.balance_gradient(LOGITS, ids, "one", mask),
        ),
        (
            lambda r: losses.balance(softmax(r), ids, "k", mask),
            losses.balance_gradient(LOGITS, ids, "k", mask),
        ),
        (
            lambda r: losses.z_loss(r, mask),
            losses.z_loss_gradient(LOGITS, mask),
        ),
        (
            lambda r: losses.trimmed_lasso(r, 1, mask),
            losses.trimmed_lasso_gradient(LOGITS, 1, mask),
        ),
        (
            lambda r: losses.entropy(softmax(r), mask),
            losses.entropy_gradient(LOGITS, mask),
        ),
        (
            lambda r: losses.importance(softmax(r), False, mask),
            losses.importance_gradient(LOGITS, False, mask),
        ),
        (
            lambda r: losses.importance(softmax(r), True, mask),
            losses.importance_gradient(LOGITS, True, mask),
        ),
    ]
    for loss, gradient in pairs:
        numeric = differences(loss, LOGITS)
        np.testing.assert_allclose(gradient, numeric, atol=1e-9)


def test_masked_losses_are_those_of_the_other_tokens():
    few = LOGITS[:3]
    noisy = LOGITS + NORMALS
    sigma = np.ones(LOGITS.shape)
    mask, ids, p = DROP_LAST, TOP_TWO, PROBS
    relu = np.maximum(RELU, 0.0)
    pairs = [
        (
            losses.balance(p, ids, "k", mask),
            losses.balance(p[:3], ids[:3], "k"),
        ),
        (losses.gshard(p, FIRST, mask), losses.gshard(p[:3], FIRST[:3])),
        (
            losses.gshard_second(p, ids, mask),
            losses.gshard_second(p[:3], ids[:3]),
        ),
        (losses.importance(p, mask=mask), losses.importance(p[:3])),
        (
            losses.load_shazeer(LOGITS, noisy, sigma, 1, mask),
            losses.load_shazeer(few, noisy[:3], sigma[:3], 1),
        ),
        (
            losses.load_vmoe(LOGITS, noisy, 1.0, 1, mask),
            losses.load_vmoe(few, noisy[:3], 1.0, 1),
        ),
        (losses.z_loss(LOGITS, mask), losses.z_loss(few)),
        (
            losses.trimmed_lasso(LOGITS, 1, mask),
            losses.trimmed_lasso(few, 1),
        ),
        (losses.entropy(p, mask), losses.entropy(p[:3])),
        (
            losses.mesh_expert_choice(p, mask),
            losses.mesh_expert_choice(p[:3]),
        ),
        (
            losses.remoe_regulariser(relu, 1, mask=mask),
            losses.remoe_regulariser(relu[:3], 1),
        ),
    ]
    for masked, apart in pairs:
        np.testing.assert_allclose(masked, apart, rtol=1e-14)
    nobody = np.zeros(4, dtype=bool)
    assert losses.balance(PROBS, TOP_TWO, mask=nobody) == 0.0
    assert losses.z_loss(LOGITS, nobody) == 0.0
    assert losses.importance(PROBS, mask=nobody) == 0.0


def test_grouped_losses():
    def z(group: range) -> float:
        return losses.z_loss(LOGITS[group.start : group.stop])

    offsets = np.array([0, 1, 1, 4])
    expected = 0.5 * (losses.z_loss(LOGITS[:1]) + losses.z_loss(LOGITS[1:]))
    near(losses.grouped(z, offsets, 4), expected)
    near(losses.grouped(z, None, 4), losses.z_loss(LOGITS))
    assert losses.grouped(z, np.array([0, 0]), 0) == 0.0


# Gradients of the routers.


def test_noisy_top_k_gradient():
    rng = np.random.default_rng(12)
    shape = (5, 6)
    clean, noise, normals = rng.standard_normal((3, *shape))
    slots, load = rng.standard_normal((5, 2)), rng.standard_normal(6)
    out = routers.noisy_top_k(clean, 2, noise, normals)

    def loss(a: np.ndarray, b: np.ndarray) -> float:
        again = routers.noisy_top_k(a, 2, b, normals)
        assert np.array_equal(again.ids, out.ids)
        return float(np.sum(again.weights * slots) + load @ again.load)

    ours = router_gradients.noisy_top_k(
        clean, noise, normals, out, 2, slots, load
    )
    numeric = differences(lambda at: loss(at, noise), clean)
    np.testing.assert_allclose(ours.clean, numeric, atol=1e-8)
    numeric = differences(lambda at: loss(clean, at), noise)
    np.testing.assert_allclose(ours.noise_logits, numeric, atol=1e-8)


def test_vmoe_gradient():
    rng = np.random.default_rng(13)
    logits, normals = rng.standard_normal((2, 5, 6))
    slots, load = rng.standard_normal((5, 2)), rng.standard_normal(6)
    out = routers.vmoe(logits, 2, normals)

    def loss(at: np.ndarray) -> float:
        again = routers.vmoe(at, 2, normals)
        assert np.array_equal(again.ids, out.ids)
        return float(np.sum(again.weights * slots) + load @ again.load)

    ours = router_gradients.vmoe(logits, out, 2, slots, load)
    np.testing.assert_allclose(ours, differences(loss, logits), atol=1e-8)


@pytest.mark.parametrize("normalize", ["before", "after"])
def test_gshard_gradient(normalize):
    rng = np.random.default_rng(14)
    logits = rng.standard_normal((8, 4))
    slots = rng.standard_normal((8, 2))
    options = {"capacity": 3, "normalize": normalize, "eps": 1e-3}
    out = routers.gshard_top2(logits, "threshold", 0.2, **options)
    assert np.any(out.ids < 0)

    def loss(at: np.ndarray) -> float:
        again = routers.gshard_top2(at, "threshold", 0.2, **options)
        assert np.array_equal(again.ids, out.ids)
        return float(np.sum(again.weights * slots))

    ours = router_gradients.gshard_top2(out, slots, normalize, 1e-3)
    np.testing.assert_allclose(ours, differences(loss, logits), atol=1e-9)


@pytest.mark.parametrize(
    "run",
    [
        lambda rows: routers.noisy_top_k(rows, 2),
        lambda rows: routers.vmoe(rows, 2),
        lambda rows: routers.vmoe(rows, 2, np.zeros(rows.shape)),
        lambda rows: routers.gshard_top2(rows),
        lambda rows: routers.sparsemixer(rows, 0.01),
        lambda rows: gates.product_keys(rows, np.zeros((len(rows), 1)), 2),
    ],
)
def test_odd_rows(run):
    rows = np.array(
        [
            [0.0, math.nan, 1.0, 2.0],
            [math.nan] * 4,
            [0.0, math.inf, 1.0, NONE],
            [NONE] * 4,
            [NONE, 0.5, NONE, NONE],
        ]
    )
    out = run(rows)
    for token in range(3):
        ids = out.ids[token].tolist()
        assert len(set(ids)) == 2 and set(ids) <= set(range(4))
        assert np.isnan(out.weights[token]).all()
    assert out.ids[3].tolist() == [-1, -1]
    assert out.ids[4].tolist() == [1, -1]
    near(out.weights[3:], [[0.0, 0.0], [1.0, 0.0]])
    assert run(np.zeros((0, 4))).ids.shape == (0, 2)
