# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""GShard and SparseMixer, compiled, against f64 references."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import ROADS, compile_body, random_state, router, rows
from compiled import unusable_rows

import noisy_routers  # noqa: E402, found by way of compiled
import philox  # noqa: E402

LOGITS = np.array(
    [[2, 1, 0], [1, 0.5, 0], [1.5, 0, 1], [0, 0, 1]], dtype=np.float32
)
GATES = [
    [0.731059, 0.268941],
    [0.622459, 0.377541],
    [0.622459, 0.377541],
    [0.731059, 0.268941],
]
POLICIES = ("all", "none", "threshold", "random", "sampling")
DRAWN = ("random", "sampling")
ROUTERS = [
    *(f"#moe.gshard<policy = {policy}>" for policy in POLICIES),
    "#moe.gshard<policy = random, threshold = 0.5, normalize = after>",
    "#moe.sparse_mixer<eps = 0.05>",
]


def draws(attribute: str) -> bool:
    """Whether the router takes part in training."""
    return "mixer" in attribute or any(name in attribute for name in DRAWN)


# Every router, in inference and, where it draws, in training.
CASES = [
    *((attribute, False) for attribute in ROUTERS),
    *((attribute, True) for attribute in ROUTERS if draws(attribute)),
]


def gshard(policy="all", threshold=0.2, normalize="before", eps=1e-9):
    """The attribute of a setting."""
    return (
        f"#moe.gshard<policy = {policy}, threshold = {threshold}, "
        f"normalize = {normalize}, eps = {eps:e}>"
    )


def check(found, wanted, margin=1e-5):
    """ids equal but where a draw is near its threshold; weights near."""
    near = np.any(found.ids != wanted.ids, axis=1)
    assert np.all(np.asarray(wanted.margin)[near] < margin), np.flatnonzero(near)
    assert near.sum() <= 1
    np.testing.assert_allclose(
        found.weights[~near], wanted.weights[~near], rtol=2e-5, atol=1e-12
    )


def spread_rows(experts: int, tokens: int, seed: int) -> np.ndarray:
    """Random rows, some narrow, some with experts that cannot be chosen."""
    stream = np.random.default_rng(seed)
    x = stream.normal(size=(tokens, experts))
    x *= stream.choice([0.02, 1.0, 5.0], size=(tokens, 1))
    x[stream.random(x.shape) < 0.03] = -np.inf
    return x.astype(np.float32)


# GShard.


@pytest.mark.parametrize("road", ROADS)
def test_gshard_worked_numbers(road):
    found = router(gshard(), 3, 2, road)(LOGITS)
    assert found.ids.tolist() == [[0, 1], [0, 1], [0, 2], [2, 0]]
    np.testing.assert_allclose(found.weights, GATES, atol=1e-6)
    found = router(gshard("none"), 3, 2, road)(LOGITS)
    assert found.ids.tolist() == [[0, -1], [0, -1], [0, -1], [2, -1]]
    np.testing.assert_allclose(found.weights[:, 0], np.array(GATES)[:, 0], 1e-5)
    found = router(gshard("threshold", 0.3), 3, 2, road)(LOGITS)
    assert found.ids[:, 1].tolist() == [-1, 1, 2, -1]
    # The raw second probabilities are .245 .307 .331 .212.
    found = router(gshard("threshold", 0.31, "after"), 3, 2, road)(LOGITS)
    assert found.ids[:, 1].tolist() == [-1, -1, 2, -1]
    np.testing.assert_allclose(
        found.weights[:, 0], [1, 1, 0.622459, 1], atol=1e-6
    )


def seed_near(wanted: list[float], experts: int) -> int:
    """A seed by which the draws E of the first tokens are near `wanted`."""
    for seed in range(100_000):
        drawn = philox.uniforms(seed, len(wanted), experts + 1)[:, experts]
        if np.max(np.abs(drawn - wanted)) < 0.09:
            return seed
    raise AssertionError("no seed is near")


@pytest.mark.parametrize("road", ROADS)
def test_gshard_random_worked_numbers(road):
    # u near .9 .3 .5 .1: u < g2 / .2 keeps all, 2 g2 > u drops token 0's.
    state = random_state(seed_near([0.9, 0.3, 0.5, 0.1], 3))
    layer = router(gshard("random"), 3, 2, road, training=True)
    assert layer(LOGITS, state).ids[:, 1].tolist() == [1, 1, 2, 0]
    layer = router(gshard("random", 0.5), 3, 2, road, training=True)
    found = layer(LOGITS, state)
    assert found.ids.tolist() == [[0, -1], [0, 1], [0, 2], [2, 0]]
    np.testing.assert_allclose(found.weights[0], [0.731059, 0], atol=1e-6)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("normalize", ["before", "after"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("experts", [2, 5, 16, 33])
def test_gshard_is_the_reference(experts, policy, normalize, road):
    x = np.concatenate([spread_rows(experts, 300, 3), rows(experts)])
    attribute = gshard(policy, 0.45, normalize, 1e-3)
    training = policy in DRAWN
    layer = router(attribute, experts, 2, road, training)
    found = layer(x, random_state(8, 3, 70)) if training else layer(x)
    options = {}
    if policy == "random":
        uniforms = philox.uniforms(8, len(x), experts + 1, 3, 70)
        options["uniforms"] = uniforms[:, experts]
    elif policy == "sampling":
        options["gumbels"] = philox.gumbels(8, len(x), experts, 3, 70)
    wanted = noisy_routers.gshard_top2(
        x.astype(np.float64), policy, 0.45, normalize, eps=1e-3, **options
    )
    check(found, wanted)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("policy", DRAWN)
def test_gshard_without_training_keeps_all(policy, road):
    x = spread_rows(12, 100, 4)
    found = router(gshard(policy), 12, 2, road)(x)
    plain = router(gshard("all"), 12, 2, road)(x)
    assert np.array_equal(found.ids, plain.ids)
    assert np.array_equal(found.weights, plain.weights)


def limited(attribute: str, experts: int, capacity: int, eps, road: str):
    """A choice of two behind which a capacity is, and the weights after."""
    row = f"tensor<?x{experts}xf32>"
    ids, weights = "tensor<?x2xi32>", "tensor<?x2xf32>"
    rest = "" if eps is None else f" normalize {eps:e}"
    body = f"""%i, %w = moe.route {attribute} %x : {row} -> {ids}, {weights}
  %ids, %weights = moe.limit_capacity %i, %w experts {experts}
      by #moe.capacity<fixed = {capacity}> queue <first_come>{rest}
      : {ids}, {weights}"""
    outputs = (("ids", ids), ("weights", weights))
    return compile_body(body, (("x", row),), outputs, road)


@pytest.mark.parametrize("road", ROADS)
def test_gshard_capacity_worked_numbers(road):
    found = limited(gshard(), 3, 2, None, road)(LOGITS)
    assert found.ids.tolist() == [[0, 1], [0, 1], [-1, 2], [2, -1]]
    np.testing.assert_allclose(found.weights[:2], GATES[:2], atol=1e-6)
    np.testing.assert_allclose(
        found.weights[2:], [[0, 0.377541], [0.731059, 0]], atol=1e-6
    )
    attribute = gshard(normalize="after")
    found = limited(attribute, 3, 2, 1e-9, road)(LOGITS)
    np.testing.assert_allclose(found.weights[:2], GATES[:2], atol=1e-6)
    assert found.weights[2:].tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("normalize", ["before", "after"])
@pytest.mark.parametrize("policy", ["all", "threshold"])
@pytest.mark.parametrize("experts, capacity", [(4, 9), (7, 1), (7, 20)])
def test_gshard_behind_a_capacity(experts, capacity, policy, normalize, road):
    x = spread_rows(experts, 60, 5)
    eps = 1e-9 if normalize == "after" else None
    attribute = gshard(policy, 0.25, normalize)
    found = limited(attribute, experts, capacity, eps, road)(x)
    wanted = noisy_routers.gshard_top2(
        x.astype(np.float64), policy, 0.25, normalize, capacity=capacity
    )
    check(found, wanted, margin=0.0)
    assert np.any(found.ids < 0) and np.any(found.ids >= 0)


# SparseMixer.


@pytest.mark.parametrize("road", ROADS)
def test_sparse_mixer_worked_numbers(road):
    x = np.array([[1, 0.99, 0.5, -1]], dtype=np.float32)
    found = router("#moe.sparse_mixer<eps = 0.01>", 4, 2, road)(x)
    assert found.ids.tolist() == [[0, 1]]
    np.testing.assert_allclose(found.weights, [[0.5025, 1]], atol=1e-6)


@pytest.mark.parametrize("road", ROADS)
def test_sparse_mixer_of_negative_and_equal_rows(road):
    # All negative: (.5 / 1.5) and (.1 / 1.1) against .1, then .4 / 1.5.
    x = np.array([[-1, -1.5, -1.1], [0, 0, 0]], dtype=np.float32)
    found = router("#moe.sparse_mixer<eps = 0.05>", 3, 2, road)(x)
    assert found.ids.tolist() == [[0, 2], [0, 1]]
    first = 1 / (1 + np.exp(-0.1))
    np.testing.assert_allclose(
        found.weights, [[first, 1], [1 / 3, 1 / 2]], rtol=1e-5
    )


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("experts", [2, 5, 16, 33])
def test_sparse_mixer_is_the_reference(experts, eps, training, road):
    x = np.concatenate([spread_rows(experts, 300, 6), rows(experts)])
    attribute = f"#moe.sparse_mixer<eps = {eps}, third = 0.25>"
    layer = router(attribute, experts, 2, road, training)
    found = layer(x, random_state(9, 2, 11)) if training else layer(x)
    gumbels = uniforms = None
    if training:
        drawn = philox.uniforms(9, len(x), 2 * experts + 2, 2, 11)
        gumbels = philox.gumbels_of(drawn[:, : 2 * experts])
        gumbels = gumbels.reshape(len(x), 2, experts)
        uniforms = drawn[:, 2 * experts :]
    wanted = noisy_routers.sparsemixer(
        x.astype(np.float64), eps, gumbels, uniforms, third=0.25
    )
    check(found, wanted)
    if training and experts == 5 and eps == 0.3:
        whole = np.isclose(found.weights, wanted.multipliers, rtol=1e-4)
        assert 0.1 < np.mean(~whole) < 0.6


# Both.


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("attribute, training", CASES)
def test_masks_threads_and_splits(attribute, training, road):
    x = spread_rows(20, 90, 7)
    state = [random_state(7, 1, 30)] if training else []
    plain = router(attribute, 20, 2, road, training)(x, *state)
    layer = router(attribute, 20, 2, road, training, masked=True)
    mask = np.random.default_rng(7).random(90) < 0.6
    found = layer(x, mask, *state)
    assert np.array_equal(found.ids[mask], plain.ids[mask])
    assert np.array_equal(found.weights[mask], plain.weights[mask])
    assert np.all(found.ids[~mask] == -1)
    assert np.all(found.weights[~mask] == 0)
    two = router(attribute, 20, 2, road, training, threads=2)
    again = two(x, *state)
    assert np.array_equal(again.ids, plain.ids)
    assert np.array_equal(again.weights, plain.weights)
    late = [random_state(7, 1, 30 + 41)] if training else []
    tail = router(attribute, 20, 2, road, training)(x[41:].copy(), *late)
    assert np.array_equal(tail.ids, plain.ids[41:])
    assert np.array_equal(tail.weights, plain.weights[41:])


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("attribute, training", CASES)
def test_odd_rows(attribute, training, road):
    state = [random_state(7)] if training else []
    layer = router(attribute, 20, 2, road, training)
    x = np.concatenate([unusable_rows(20), np.full((3, 20), -np.inf)])
    x[4, 7] = 0.5
    x = np.concatenate([x, np.full((1, 20), np.nan)]).astype(np.float32)
    found = layer(x, *state)
    for token in (0, 1, 6):
        ids = found.ids[token]
        full = ids[ids >= 0]
        assert len(full) and np.all(full < 20) and len(set(full)) == len(full)
        assert np.isnan(found.weights[token][ids >= 0]).all()
        assert np.all(found.weights[token][ids < 0] == 0)
    assert not np.isnan(found.weights[2:6]).any()
    # Nobody can be chosen; one can; nobody.
    assert found.ids[3:6].tolist() == [[-1, -1], [7, -1], [-1, -1]]
    assert found.weights[3].tolist() == found.weights[5].tolist() == [0, 0]
    np.testing.assert_allclose(found.weights[4], [1, 0], rtol=1e-6)
    for tokens in (0, 1):
        few = layer(x[3 : 3 + tokens].copy(), *state)
        assert few.ids.shape == few.weights.shape == (tokens, 2)
        assert np.all(few.ids == -1)


@pytest.mark.parametrize("attribute", [name for name in ROUTERS if draws(name)])
def test_oracle_and_cpu_draw_the_same(attribute):
    x = np.random.default_rng(2).normal(size=(4000, 20)).astype(np.float32)
    state = random_state(90)
    cpu = router(attribute, 20, 2, "cpu", training=True)(x, state)
    oracle = router(attribute, 20, 2, "oracle", training=True)(x, state)
    differ = np.any(cpu.ids != oracle.ids, axis=1)
    assert differ.sum() <= 3
    near = np.isclose(
        cpu.weights[~differ], oracle.weights[~differ], rtol=2e-5
    )
    # A factor of SparseMixer may differ where its number is near 3/4.
    assert np.sum(~near) <= 1


@pytest.mark.parametrize("road", ROADS)
def test_f64(road):
    x = spread_rows(9, 80, 8).astype(np.float64)
    row, ids, weights = "tensor<?x9xf64>", "tensor<?x2xi32>", "tensor<?x2xf64>"
    body = f"""%i, %w = moe.route {gshard("random")} %x
      training(%seed, %layer, %first) : {row} -> {ids}, {weights}
  %j, %v = moe.route #moe.sparse_mixer<> %x
      training(%seed, %layer, %first) : {row} -> {ids}, {weights}"""
    inputs = (("x", row), ("random", "tensor<3xi64>"))
    outputs = (("i", ids), ("w", weights), ("j", ids), ("v", weights))
    found = compile_body(body, inputs, outputs, road)(x, random_state(4))
    drawn = philox.uniforms(4, 80, 20)
    wanted = noisy_routers.gshard_top2(x, "random", uniforms=drawn[:, 9])
    assert np.array_equal(found.i, wanted.ids)
    np.testing.assert_allclose(found.w, wanted.weights, rtol=1e-12)
    gumbels = philox.gumbels_of(drawn[:, :18]).reshape(80, 2, 9)
    wanted = noisy_routers.sparsemixer(x, 0.01, gumbels, drawn[:, 18:])
    assert np.array_equal(found.j, wanted.ids)
    np.testing.assert_allclose(found.v, wanted.weights, rtol=1e-12)
