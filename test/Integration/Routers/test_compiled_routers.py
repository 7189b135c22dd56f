# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Routers that sample, compiled, against f64 references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from compiled import TARGETS, random_state, router, rows, unusable_rows

import noisy_routers  # noqa: E402, found by way of compiled
import philox  # noqa: E402
import token_routers  # noqa: E402

CASES = [
    (4, (2, 2)),
    (8, (1, 5)),
    (12, (3, 3)),
    (33, (6, 8)),
    (64, (8, 8)),
    (600, (10, 12)),  # Tables that no stack holds.
]


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
    ("#moe.noisy_top_k<k = 3, noise = gumbel, weights = clean>", 3),
    ("#moe.noisy_top_k<k = 3, noise = normal, std = 0.1>", 3),
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


NOISY = [
    ("#moe.noisy_top_k<k = 3>", 3, True),
    ("#moe.noisy_top_k<k = 2, noise = normal, std = 0.05, weights = all>", 2, False),
    ("#moe.noisy_top_k<k = 1, noise = gumbel, weights = clean>", 1, False),
]  # fmt: skip


def noisy_reference(attribute, x, noise, experts):
    """The routing of the reference with the numbers of seed 5, layer 1."""
    x = x.astype(np.float64)
    normals = philox.normals(5, len(x), experts, 1, 40)
    if "gumbel" in attribute:
        gumbels = philox.gumbels(5, len(x), experts, 1, 40)
        return noisy_routers.gumbel_top1(x, gumbels)
    if "normal" in attribute:
        return noisy_routers.vmoe(x, 2, normals, 0.05)
    return noisy_routers.noisy_top_k(x, 3, noise.astype(np.float64), normals)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("experts", [5, 16, 60])
@pytest.mark.parametrize("attribute, slots, learned", NOISY)
def test_noisy_training(attribute, slots, learned, experts, target):
    stream = np.random.default_rng(13)
    x = 2 * stream.normal(size=(60, experts)).astype(np.float32)
    noise = stream.normal(size=x.shape).astype(np.float32)
    layer = router(
        attribute, experts, slots, target, training=True, noise=learned
    )
    state = random_state(5, 1, 40)
    found = layer(x, noise, state) if learned else layer(x, state)
    wanted = noisy_reference(attribute, x, noise, experts)
    near = np.any(found.ids != wanted.ids, axis=1)
    assert np.all(np.asarray(wanted.margin)[near] < 1e-5)
    np.testing.assert_allclose(
        found.weights[~near], wanted.weights[~near], rtol=5e-5, atol=1e-9
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("attribute, slots, learned", NOISY)
def test_noisy_inference_is_top_k(attribute, slots, learned, target):
    x = np.random.default_rng(14).normal(size=(30, 12)).astype(np.float32)
    x[0] = -np.inf
    x[1, 1:] = -np.inf
    found = router(attribute, 12, slots, target)(x)
    assert np.all(found.ids[0] == -1) and np.all(found.weights[0] == 0)
    assert found.ids[1].tolist() == [0] + [-1] * (slots - 1)
    order = np.argsort(-x[2:], axis=1, kind="stable")[:, :slots]
    assert np.array_equal(found.ids[2:], order)
    domain = "topk" if learned else "all"
    score = np.exp(x[2:].astype(np.float64))
    chosen = np.take_along_axis(score, order, axis=1)
    whole = chosen if domain == "topk" else score
    np.testing.assert_allclose(
        found.weights[2:], chosen / whole.sum(axis=1, keepdims=True), rtol=2e-5
    )


def test_normal_noise_is_normal():
    # One expert's noisy logit is above another's as often as it should be.
    draws, gap, std = 100_000, 0.7, 0.5
    x = np.zeros((draws, 2), dtype=np.float32)
    x[:, 1] = -gap
    attribute = f"#moe.noisy_top_k<k = 1, noise = normal, std = {std}>"
    found = router(attribute, 2, 1, "cpu", training=True)(x, random_state(3))
    wanted = 0.5 * (1 + math.erf(gap / (2**0.5 * std) / 2**0.5))
    deviation = (wanted * (1 - wanted) / draws) ** 0.5
    assert abs(np.mean(found.ids == 0) - wanted) < 4.5 * deviation
