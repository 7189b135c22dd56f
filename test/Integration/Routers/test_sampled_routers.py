# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Routers that sample, compiled, against f64 references."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import TARGETS, random_state, router, rows, unusable_rows

import philox  # noqa: E402, found by way of compiled
import token_routers  # noqa: E402

CASES = [(4, (2, 2)), (8, (1, 5)), (12, (3, 3)), (33, (6, 8)), (64, (8, 8))]


def probmoe(band, normalize=False):
    """The attribute of a band."""
    rest = ", normalize = sum" if normalize else ""
    if band[0] == band[1]:
        return f"#moe.exact_k<k = {band[0]}{rest}>"
    return f"#moe.dynamic_k<min = {band[0]}, max = {band[1]}{rest}>"


def check(found, wanted, margin=1e-5, usable=None):
    """ids equal, weights near; tokens whose draw is near a threshold may
    differ, and are few."""
    near = 0
    for token in range(len(found.ids)):
        if usable is not None and not usable[token]:
            continue
        if not np.array_equal(found.ids[token], wanted.ids[token]):
            near += 1
            assert wanted.margin[token] < margin, (
                token, found.ids[token], wanted.ids[token],
            )  # fmt: skip
            continue
        np.testing.assert_allclose(
            found.weights[token], wanted.weights[token], rtol=2e-5, atol=1e-12
        )
    assert near <= 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, band", CASES)
def test_probmoe_training(experts, band, target):
    x = rows(experts)
    layer = router(probmoe(band), experts, band[1], target, training=True)
    found = layer(x, random_state(21, 4, 1000))
    uniforms = philox.uniforms(21, len(x), experts + 1, 4, 1000)
    wanted = token_routers.probmoe(x.astype(np.float64), *band, uniforms)
    check(found, wanted)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("experts, band", CASES)
def test_probmoe_inference(experts, band, normalize, target):
    x = rows(experts)
    layer = router(probmoe(band, normalize), experts, band[1], target)
    wanted = token_routers.probmoe(
        x.astype(np.float64), *band, normalize=normalize
    )
    check(layer(x), wanted, margin=0.0)


@pytest.mark.parametrize("target", TARGETS)
def test_dynamic_k_takes_the_positive_logits(target):
    layer = router(probmoe((1, 3)), 4, 3, target)
    x = [[-1, -2, -3, -4], [1, 2, 3, 4], [1, 0, -1, -2]]
    ids = layer(np.array(x, dtype=np.float32)).ids
    assert ids.tolist() == [[0, -1, -1], [3, 2, 1], [0, -1, -1]]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighting", ["zero", "small_random", "large"])
@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("experts, k", [(4, 2), (8, 1), (12, 5), (64, 8)])
def test_moesart_training(experts, k, replacement, weighting, target):
    x = rows(experts)
    attribute = (
        f"#moe.moesart<k = {k}, weighting = {weighting}, "
        f"replacement = {str(replacement).lower()}, temperature = 2.0>"
    )
    layer = router(attribute, experts, k, target, training=True)
    found = layer(x, random_state(33, 0, 5))
    uniforms = philox.uniforms(33, len(x), k + 1, 0, 5)
    wanted = token_routers.moesart_training(
        x.astype(np.float64), k, uniforms, weighting, replacement, 2.0
    )
    check(found, wanted)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts, k", [(4, 2), (12, 5)])
def test_moesart_inference(experts, k, target):
    x = rows(experts)
    found = router(f"#moe.moesart<k = {k}>", experts, k, target)(x)
    wanted = token_routers.moesart_inference(x.astype(np.float64), k)
    check(found, wanted, margin=0.0)


ROUTERS = [
    ("#moe.exact_k<k = 3>", 3),
    ("#moe.dynamic_k<min = 1, max = 4>", 4),
    ("#moe.moesart<k = 3>", 3),
    ("#moe.moesart<k = 3, replacement = true, weighting = large>", 3),
]


@pytest.mark.parametrize("attribute, slots", ROUTERS)
def test_oracle_and_cpu_draw_the_same(attribute, slots):
    x = np.random.default_rng(2).normal(size=(4000, 20)).astype(np.float32)
    state = random_state(90)
    cpu = router(attribute, 20, slots, "cpu", training=True)(x, state)
    oracle = router(attribute, 20, slots, "oracle", training=True)(x, state)
    differ = np.any(cpu.ids != oracle.ids, axis=1)
    # A uniform within 1e-5 of one of about 20 thresholds.
    assert differ.sum() <= 3
    np.testing.assert_allclose(
        cpu.weights[~differ], oracle.weights[~differ], rtol=2e-5
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attribute, slots", ROUTERS)
def test_masks_and_splits(attribute, slots, training, target):
    stream = np.random.default_rng(6)
    x = stream.normal(size=(50, 20)).astype(np.float32)
    state = [random_state(7, 1, 30)] if training else []
    plain = router(attribute, 20, slots, target, training)(x, *state)
    layer = router(attribute, 20, slots, target, training, masked=True)
    mask = stream.random(50) < 0.6
    found = layer(x, mask, *state)
    assert np.array_equal(found.ids[mask], plain.ids[mask])
    assert np.array_equal(found.weights[mask], plain.weights[mask])
    assert np.all(found.ids[~mask] == -1)
    assert np.all(found.weights[~mask] == 0)
    two = router(attribute, 20, slots, target, training, threads=2)
    again = two(x, *state)
    assert np.array_equal(again.ids, plain.ids)
    assert np.array_equal(again.weights, plain.weights)
    late = [random_state(7, 1, 30 + 21)] if training else []
    tail = router(attribute, 20, slots, target, training)(
        x[21:].copy(), *late
    )
    assert np.array_equal(tail.ids, plain.ids[21:])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attribute, slots", ROUTERS)
def test_rows_with_nan(attribute, slots, training, target):
    x = unusable_rows(20)
    state = [random_state(7)] if training else []
    found = router(attribute, 20, slots, target, training)(x, *state)
    for ids in found.ids:
        full = ids[ids >= 0]
        assert np.all(full < 20) and len(set(full)) == len(full)
    assert not np.isnan(found.weights[2]).any()
