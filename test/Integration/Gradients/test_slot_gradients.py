# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backwards of soft slots."""

from __future__ import annotations

import numpy as np
import pytest
from op_gradients import TARGETS, backward, check, write_body

import global_routers as reference  # noqa: E402, found by way of op_gradients

SLOTS, EXPERTS, WIDTH = 4, 2, 3


def soft_layer(groups=1, masked=False, dtype="f64", slots=SLOTS):
    """Slots whose experts are the identity, of given logits."""
    x, r = f"tensor<?x{WIDTH}x{dtype}>", f"tensor<?x{slots}x{dtype}>"
    inputs, mask, group = {"x": x, "r": r}, "", ""
    if masked:
        inputs["mask"] = "tensor<?xi1>"
        mask = " mask(%mask : tensor<?xi1>)"
    if groups > 1:
        kind = f"tensor<{groups + 1}xi32>"
        inputs["groups"] = kind
        group = f" groups(%groups : {kind})"
    h = f"tensor<{groups * slots}x{WIDTH}x{dtype}>"
    inputs["scale"] = h
    body = f"""%d, %c = moe.route_slots %r{mask}{group} : {r} -> {r}, {r}
  %h, %o = moe.soft_dispatch %x, %d experts {EXPERTS}{group}
      : ({x}, {r}) -> ({h}, tensor<{EXPERTS + 1}xi32>)
  %f = arith.mulf %h, %scale : {h}
  %y = moe.soft_combine %f, %c experts {EXPERTS}{group} : ({h}, {r}) -> {x}"""
    return write_body(body, inputs, {"y": x})


def data(tokens, groups=1, slots=SLOTS, seed=2):
    """Tokens, logits and what the rows of slots are multiplied with."""
    stream = np.random.default_rng(seed)
    return {
        "x": stream.normal(size=(tokens, WIDTH)),
        "r": stream.normal(size=(tokens, slots)),
        "scale": stream.normal(size=(groups * slots, WIDTH)),
    }


@pytest.mark.parametrize(
    "tokens, offsets, masked",
    [
        (7, None, False),
        (7, None, True),
        (9, [0, 4, 4, 5, 9], True),
        (6, [0, 1, 6], False),
        (1, None, False),
    ],
)
def test_is_the_derivative(tokens, offsets, masked):
    groups = len(offsets) - 1 if offsets else 1
    inputs = data(tokens, groups)
    if masked:
        inputs["mask"] = np.arange(tokens) % 3 != 1
    if offsets:
        inputs["groups"] = np.array(offsets, dtype=np.int32)
    check(soft_layer(groups, masked), inputs, ["y"], ["x", "r", "scale"])


@pytest.mark.parametrize("target", TARGETS)
def test_worked_numbers(target):
    """Two slots, f0 = 2 x and f1 = -x; from the logits on by hand."""
    x = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5]])
    phi = np.array([[1.0, 0.5], [0.0, -1.0]])
    given = np.array([[0.3, -0.2], [0.7, 0.1], [-0.5, 0.4]])
    row, h = "tensor<?x2xf64>", "tensor<2x2xf64>"
    body = f"""%d, %c = moe.route_slots %r : {row} -> {row}, {row}
  %h, %o = moe.soft_dispatch %x, %d experts 2
      : ({row}, {row}) -> ({h}, tensor<3xi32>)
  %k = arith.constant dense<[[2.0, 2.0], [-1.0, -1.0]]> : {h}
  %f = arith.mulf %h, %k : {h}
  %y = moe.soft_combine %f, %c experts 2 : ({h}, {row}) -> {row}"""
    text = write_body(body, {"x": row, "r": row}, {"y": row})
    unit = reference.soft_norm(x)
    columns = reference.soft_norm(phi.T)
    inputs = {"x": x, "r": 2.0 * unit @ columns.T}
    found = backward(text, inputs, {"y": given}, ["x", "r"], target)
    d_unit = found["r"] @ (2.0 * columns)
    d_x = found["x"] + reference.soft_norm_backward(x, d_unit)
    np.testing.assert_allclose(
        d_x,
        [[0.194168, 0.065819], [0.397532, 0.965623], [-1.369368, 0.042098]],
        atol=2e-6,
    )
    d_columns = 2.0 * found["r"].T @ unit
    np.testing.assert_allclose(
        reference.soft_norm_backward(phi.T, d_columns).T,
        [[0.000003, -1.268393], [-1.370635, -0.634195]],
        atol=2e-6,
    )
    d_scale = np.sum(found["r"] * (unit @ columns.T))
    np.testing.assert_allclose(d_scale, 0.085289, atol=2e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_masked_tokens_may_be_anything(target):
    text = soft_layer(2, True, "f32")
    inputs = data(8, 2)
    inputs = {name: a.astype(np.float32) for name, a in inputs.items()}
    inputs["mask"] = np.arange(8) != 1
    inputs["groups"] = np.array([0, 3, 8], dtype=np.int32)
    c = np.ones((8, WIDTH), dtype=np.float32)
    wrt = ["x", "r", "scale"]
    clean = backward(text, inputs, {"y": c}, wrt, target)
    inputs["x"][1] = np.nan
    inputs["r"][1] = np.nan
    c[1] = np.nan
    found = backward(text, inputs, {"y": c}, wrt, target)
    for name in wrt:
        assert found[name].tobytes() == clean[name].tobytes()
    assert not np.any(found["r"][1]) and not np.any(found["x"][1])


@pytest.mark.parametrize("target", TARGETS)
def test_no_tokens(target):
    inputs = {name: a.astype(np.float32) for name, a in data(0).items()}
    text = soft_layer(dtype="f32")
    c = np.ones((0, WIDTH), dtype=np.float32)
    found = backward(text, inputs, {"y": c}, ["x", "r", "scale"], target)
    assert found["r"].shape == (0, SLOTS) and not np.any(found["scale"])


def test_threads_change_nothing():
    inputs = {n: a.astype(np.float32) for n, a in data(300, slots=16).items()}
    text = soft_layer(dtype="f32", slots=16)
    c = np.random.default_rng(3).normal(size=(300, WIDTH)).astype(np.float32)
    one, two = (
        backward(text, inputs, {"y": c}, ["x", "r"], "cpu", threads)
        for threads in (1, 2)
    )
    assert one["x"].tobytes() == two["x"].tobytes()
    assert one["r"].tobytes() == two["r"].tobytes()
