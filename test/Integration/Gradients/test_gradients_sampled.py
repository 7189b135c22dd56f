# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Surrogates of routers that sample, against their closed forms in f64."""

from __future__ import annotations

import numpy as np
import pytest
from differences import TARGETS, Function, gradients_of, random_state

import philox  # noqa: E402, found by way of differences
import router_gradients  # noqa: E402
import token_routers  # noqa: E402

EXAMPLE = [1.2, 0.4, -0.3, -0.9]
BANDS = [(4, 1, 3), (9, 3, 3), (9, 2, 5), (6, 6, 6)]


def run(band, x, cotangents, target, seed=21, dtype="f64"):
    """ids, and the gradient of the logits in training."""
    experts, low, high = band
    router = f"#moe.dynamic_k<min = {low}, max = {high}>"
    if low == high:
        router = f"#moe.exact_k<k = {low}>"
    row, ids = f"tensor<?x{experts}x{dtype}>", f"tensor<?x{high}xi32>"
    weights = f"tensor<?x{high}x{dtype}>"
    body = f"""
  %ids, %w = moe.route {router} %x training(%seed, %layer, %first)
    : {row} -> {ids}, {weights}"""
    function = Function(
        (("x", row), ("random", "tensor<3xi64>")),
        (("ids", ids), ("w", weights)), body,
    )  # fmt: skip
    layer = gradients_of(function.source(), target)
    results, saved = layer.forward(x, random_state(seed, 3, 50))
    found = layer.backward(saved, d_w=cotangents)
    return results["ids"], found["d_x"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("band", BANDS)
def test_closed_form(band, target):
    stream = np.random.default_rng(2)
    x = stream.normal(size=(30, band[0])) * np.repeat([0.3, 1, 4], 10)[:, None]
    c = stream.normal(size=(30, band[2]))
    ids, found = run(band, x, c, target)
    wanted = router_gradients.probmoe_training(x, ids, c, *band[1:])
    np.testing.assert_allclose(found, wanted.total, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("band", BANDS[:2])
def test_closed_form_in_f32(band):
    stream = np.random.default_rng(3)
    x = stream.normal(size=(30, band[0])).astype(np.float32)
    c = stream.normal(size=(30, band[2])).astype(np.float32)
    ids, found = run(band, x, c, "cpu", dtype="f32")
    wanted = router_gradients.probmoe_training(
        x.astype(np.float64), ids, c.astype(np.float64), *band[1:]
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted.total, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_rows_without_enough_experts(target):
    x = np.full((4, 9), -np.inf)
    x[0, :2] = [0.5, -0.5]
    x[1, 4] = 1.0
    x[2, :6] = np.linspace(-1, 1, 6)
    c = np.ones((4, 5)) * [1.0, -2.0, 0.5, 0.3, 1.5]
    ids, found = run((9, 2, 5), x, c, target)
    assert np.all(ids[3] == -1) and np.all(found[3] == 0)
    assert np.all(np.isfinite(found))
    # One choice alone, and experts that cannot be chosen.
    assert np.all(np.abs(found[1]) < 1e-12)
    assert np.all(found[np.isneginf(x)] == 0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "band, wanted",
    [
        ((4, 2, 2), [0.045405, -0.081249, 0.064830, -0.028987]),
        # The softmax path and the marginal path of sizes 1 to 3.
        ((4, 1, 3), [0.025540 + 0.026201, -0.063624 - 0.006375,
                     0.055424 + 0.017384, -0.017340 - 0.005900]),
    ],
)  # fmt: skip
def test_worked_numbers(band, wanted, target):
    # The sample {0, 2} with cotangents .3 and .7.
    x = np.tile(EXAMPLE, (200, 1))
    c = np.tile([0.3, 0.7, 9.0], (200, 1))[:, : band[2]].copy()
    ids, found = run(band, x, c, target)
    sample = [0, 2] if band[2] == 2 else [0, 2, -1]
    own = np.flatnonzero(np.all(ids == sample, axis=1))
    assert len(own) > 5
    np.testing.assert_allclose(
        found[own], np.tile(wanted, (len(own), 1)), atol=2e-6
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighting", ["small_random", "large"])
def test_moesart_closed_form(weighting, target):
    row, ids, weights = "tensor<?x6xf64>", "tensor<?x3xi32>", "tensor<?x3xf64>"
    body = f"""
  %ids, %w = moe.route #moe.moesart<k = 3, weighting = {weighting},
      temperature = 2.0> %x training(%seed, %layer, %first)
    : {row} -> {ids}, {weights}"""
    function = Function(
        (("x", row), ("random", "tensor<3xi64>")),
        (("ids", ids), ("w", weights)), body,
    )  # fmt: skip
    stream = np.random.default_rng(5)
    x, c = stream.normal(size=(30, 6)), stream.normal(size=(30, 3))
    layer = gradients_of(function.source(), target)
    results, saved = layer.forward(x, random_state(33, 0, 5))
    found = layer.backward(saved, d_w=c)["d_x"]
    uniforms = philox.uniforms(33, len(x), 4, 0, 5)
    routed = token_routers.moesart_training(
        x, 3, uniforms, weighting, False, 2.0
    )
    assert np.array_equal(results["ids"], routed.ids)
    wanted = router_gradients.moesart_training(x, routed, c, weighting, 2.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
