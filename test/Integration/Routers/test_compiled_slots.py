# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Soft MoE and the cosine gate, compiled, against f64 references."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import TARGETS, compile_body

import gates  # noqa: E402, found by way of compiled
import global_routers as reference  # noqa: E402

WIDTH, EXPERTS, SLOTS = 10, 3, 6


def options(masked, grouped):
    """Inputs, and the clauses that name them."""
    inputs = [("mask", "tensor<?xi1>")] * masked
    inputs += [("groups", "tensor<?xi32>")] * grouped
    text = "mask(%mask : tensor<?xi1>) " * masked
    return inputs, text, "groups(%groups : tensor<?xi32>)" * grouped


def soft_layer(
    target, masked=False, grouped=False, width=WIDTH, slots=SLOTS,
    experts=EXPERTS, threads=1, groups=None,
):  # fmt: skip
    """Logits, slots, a factor for the slots' rows, and back."""
    more, mask, offsets = options(masked, grouped)
    rows = "?" if grouped else slots
    x, s = f"tensor<?x{width}xf32>", f"tensor<?x{slots}xf32>"
    h, phi = f"tensor<{rows}x{width}xf32>", f"tensor<{slots}x{width}xf32>"
    ids = f"tensor<{experts + 1}xi32>"
    body = f"""
  %u = moe.unit_rows %x eps <add> 1.0e-6 : {x} -> {x}
  %p = moe.unit_rows %phi eps <add> 1.0e-6 scale(%scale : tensor<f32>)
      : {phi} -> {phi}
  %logits = moe.gate %u, %p : ({x}, {phi}) -> {s}
  %d, %c = moe.route_slots %logits {mask} {offsets} : {s} -> {s}, {s}
  %rows, %offsets = moe.soft_dispatch %x, %d experts {experts} {offsets}
      : ({x}, {s}) -> ({h}, {ids})
  %e = linalg.exp ins(%rows : {h}) outs(%rows : {h}) -> {h}
  %y = moe.soft_combine %e, %c experts {experts} {offsets}
      : ({h}, {s}) -> {x}"""
    inputs = [("x", x), ("phi", phi), ("scale", "tensor<f32>"), *more]
    outputs = (("y", x), ("d", s), ("c", s), ("offsets", ids))
    return compile_body(body, tuple(inputs), outputs, target, threads)


def data(tokens, seed=2, width=WIDTH, slots=SLOTS):
    """x, phi, scale, mask, groups."""
    stream = np.random.default_rng(seed)
    x = stream.normal(size=(tokens, width)).astype(np.float32)
    phi = stream.normal(size=(slots, width)).astype(np.float32)
    mask = stream.random(tokens) < 0.7
    cuts = np.sort(stream.integers(0, tokens + 1, size=3))
    groups = np.array([0, *cuts, tokens], dtype=np.int32)
    return x, phi, np.array(1.75, dtype=np.float32), mask, groups


def wanted_layer(x, phi, scale, mask, groups):
    """The same in f64."""
    x, phi = x.astype(np.float64), phi.astype(np.float64)
    logits = reference.soft_logits(x, phi.T, float(scale))
    d, c = reference.soft_route(logits, groups, mask)
    inputs = reference.soft_inputs(np.where(mask[:, None], x, 0) if mask
                                   is not None else x, d, groups)  # fmt: skip
    return reference.soft_outputs(np.exp(inputs), c, groups), d, c


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tokens", [1, 17, 150])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_soft(tokens, masked, grouped, target):
    x, phi, scale, mask, groups = data(tokens)
    inputs = [mask] * masked + [groups] * grouped
    y, d, c, offsets = soft_layer(target, masked, grouped)(
        x, phi, scale, *inputs
    )
    count = len(groups) - 1 if grouped else 1
    assert list(offsets) == [count * SLOTS // EXPERTS * e for e in range(4)]
    mask, groups = mask if masked else None, groups if grouped else None
    wanted = wanted_layer(x, phi, scale, mask, groups)
    for found, own in zip((y, d, c), wanted):
        np.testing.assert_allclose(found, own, rtol=2e-5, atol=1e-6)


# The example of the routers' mathematics: f0 doubles, f1 negates.
X = np.array([[1, 2], [3, -1], [0, 0.5]], dtype=np.float32)
PHI = np.array([[1, 0], [0.5, -1]], dtype=np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_worked(target):
    two, row = "tensor<2x2xf32>", "tensor<?x2xf32>"
    body = f"""
  %u = moe.unit_rows %x eps <add> 1.0e-6 : {row} -> {row}
  %p = moe.unit_rows %phi eps <add> 1.0e-6 scale(%scale : tensor<f32>)
      : {two} -> {two}
  %l = moe.gate %u, %p : ({row}, {two}) -> {row}
  %d, %c = moe.route_slots %l : {row} -> {row}, {row}
  %s, %offsets = moe.soft_dispatch %x, %d experts 2
      : ({row}, {row}) -> ({two}, tensor<3xi32>)
  %f = arith.constant dense<[[2.0, 2.0], [-1.0, -1.0]]> : {two}
  %h = arith.mulf %s, %f : {two}
  %y = moe.soft_combine %h, %c experts 2 : ({two}, {row}) -> {row}"""
    layer = compile_body(
        body, (("x", row), ("phi", two), ("scale", "tensor<f32>")),
        (("l", row), ("d", row), ("c", row), ("s", two), ("y", row)), target,
    )  # fmt: skip
    wanted = [
        [[0.894427, -1.199999], [1.897366, 1.414213], [0, -1.788850]],
        [[0.241831, 0.065740], [0.659299, 0.897776], [0.098871, 0.036483]],
        [[0.890360, 0.109640], [0.618492, 0.381508], [0.856786, 0.143214]],
        [[2.219727, -0.126202], [2.759070, -0.748055]],
        [[3.650210, -0.142714], [1.693160, 0.129279], [3.408526, -0.109125]],
    ]
    for found, own in zip(layer(X, PHI, np.array(2, np.float32)), wanted):
        np.testing.assert_allclose(found, own, atol=3e-6)


def test_soft_invariance():
    """Threads and packing change no bit; padding none of its group's."""
    x, phi, scale, mask, groups = data(150, slots=16, width=40)
    settings = dict(slots=16, width=40, experts=8)
    one = soft_layer("cpu", False, True, **settings)
    two = soft_layer("cpu", False, True, threads=2, **settings)
    found = one(x, phi, scale, groups)
    for own, other in zip(found, two(x, phi, scale, groups)):
        assert np.array_equal(own, other)
    alone = soft_layer("cpu", **settings)
    for low, high in zip(groups, groups[1:]):
        own = alone(x[low:high], phi, scale)
        for packed, single in zip(found[:3], own):
            assert np.array_equal(packed[low:high], single)
    masked = soft_layer("cpu", True, **settings)
    garbage = np.where(mask[:, None], x, np.nan)
    y, d, _, _ = masked(garbage, phi, scale, mask)
    own = alone(x[mask], phi, scale)
    np.testing.assert_allclose(y[mask], own[0], rtol=1e-6)
    np.testing.assert_allclose(d[mask], own[1], rtol=1e-6)
    assert not np.any(y[~mask])


@pytest.mark.parametrize("target", TARGETS)
def test_soft_nan_stays_in_its_group(target):
    x, phi, scale, _, groups = data(60)
    layer = soft_layer(target, False, True)
    clean = layer(x, phi, scale, groups)[0]
    at = np.flatnonzero(np.diff(groups) > 1)[0]
    x[groups[at]] = np.nan
    found = layer(x, phi, scale, groups)[0]
    own = np.zeros(60, dtype=bool)
    own[groups[at] : groups[at + 1]] = True
    assert np.array_equal(found[~own], clean[~own])
    assert np.all(np.isnan(found[own]))


@pytest.mark.parametrize("target", TARGETS)
def test_soft_refusals(target):
    x, phi, scale, _, _ = data(8)
    layer = soft_layer(target, False, True)
    for groups in ([0, 5, 3, 8], [0, 9], [1, 8]):
        with pytest.raises(ValueError, match="group offsets"):
            layer(x, phi, scale, np.array(groups, dtype=np.int32))


def cosine(target, width, experts, mode="clamp", unit_tokens=True):
    """The gate of X-MoE, by unit rows."""
    x, k = f"tensor<?x{width}xf32>", f"tensor<{experts}x{width}xf32>"
    out = f"tensor<?x{experts}xf32>"
    body = f"""
  %k1 = moe.unit_rows %k eps <{mode}> 1.0e-12 scale(%scale : tensor<f32>)
      : {k} -> {k}
  %x1 = moe.unit_rows %x eps <{mode}> 1.0e-12 : {x} -> {x}
  %y = moe.gate {"%x1" if unit_tokens else "%x"}, %k1 : ({x}, {k}) -> {out}"""
    inputs = (("x", x), ("k", k), ("scale", "tensor<f32>"))
    return compile_body(body, inputs, (("y", out),), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("unit_tokens", [True, False])
@pytest.mark.parametrize("tokens", [0, 1, 40])
def test_cosine(tokens, unit_tokens, target):
    stream = np.random.default_rng(1)
    x = stream.normal(size=(tokens, 16)).astype(np.float32)
    if tokens > 3:
        x[3] = 0.0
    k = stream.normal(size=(11, 16)).astype(np.float32)
    layer = cosine(target, 16, 11, unit_tokens=unit_tokens)
    wanted = gates.cosine_gate(
        x.astype(np.float64), k.astype(np.float64), 2.5, unit_tokens
    )
    np.testing.assert_allclose(
        layer(x, k, np.array(2.5, np.float32)), wanted, rtol=2e-5, atol=2e-6
    )


@pytest.mark.parametrize("target", TARGETS)
def test_cosine_worked(target):
    layer = cosine(target, 2, 3)
    keys = np.array([[1, 0], [0, 2], [-1, 1]], dtype=np.float32)
    found = layer(np.array([[3, 4]], np.float32), keys, np.array(2, np.float32))
    np.testing.assert_allclose(found, [[1.2, 1.6, 0.282843]], atol=1e-6)
