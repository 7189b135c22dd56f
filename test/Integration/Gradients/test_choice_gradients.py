# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backwards of expert choice."""

from __future__ import annotations

import moe_mlir
import numpy as np
import pytest
from op_gradients import TARGETS, backward, check, compile_backward
from op_gradients import compile_forward, write_body

EXPERTS = 3
LOGITS = np.array(
    [[2, 0, 0], [1.5, 0.5, 0], [0, 1, 0.5], [0.2, 0.1, 0], [0, 0, 1], [1, 1, 0]]
)


def route_experts(settings, slots, masked=False, grouped=False, dtype="f64"):
    """A choice on given logits, with room for so many tokens an expert."""
    row = f"tensor<?x{EXPERTS}x{dtype}>"
    inputs, clauses = {"x": row}, ""
    if masked:
        inputs["mask"] = "tensor<?xi1>"
        clauses += " mask(%mask : tensor<?xi1>)"
    if grouped:
        inputs["groups"] = "tensor<?xi32>"
        clauses += " groups(%groups : tensor<?xi32>)"
    ids = f"tensor<{EXPERTS}x{slots}xi32>"
    weights = f"tensor<{EXPERTS}x{slots}x{dtype}>"
    body = (
        f"%ids, %weights = moe.route_experts #moe.expert_choice<{settings}> %x"
        f"{clauses}\n      : {row} -> {ids}, {weights}"
    )
    return write_body(body, inputs, {"ids": ids, "weights": weights})


def data(tokens, seed=1):
    """Logits, a mask, and groups of which one is empty and one has one token."""
    stream = np.random.default_rng(seed)
    x = stream.normal(size=(tokens, EXPERTS))
    mask = stream.random(tokens) < 0.7
    return x, mask, np.array([0, 4, 4, 5, tokens], dtype=np.int32)


@pytest.mark.parametrize("target", TARGETS)
def test_worked_numbers(target):
    """Two tokens an expert; token 2 is the first of expert 1, the second of 2."""
    text = route_experts("capacity = <factor = 1.0>", 2)
    ids = np.asarray(compile_forward(text)(LOGITS).ids)
    assert ids.tolist() == [[0, 1], [2, 5], [4, 2]]
    c = np.array([[0, 0], [0.4, 0], [0, -0.3]])
    found = backward(text, {"x": LOGITS}, {"weights": c}, ["x"], target)["x"]
    np.testing.assert_allclose(
        found[2], [-0.020576, 0.146660, -0.126083], atol=1e-6
    )
    assert not np.any(found[[0, 1, 3, 4, 5]])


CASES = [
    ("axis = experts", False, False),
    ("axis = experts, normalize = sum", True, True),
    ("axis = tokens", False, False),
    ("axis = tokens, normalize = sum", True, True),
    ("axis = tokens", False, True),
    ("axis = given, normalize = sum", True, False),
    ("axis = given", False, True),
]


@pytest.mark.parametrize("settings, masked, grouped", CASES)
def test_is_the_derivative(settings, masked, grouped):
    text = route_experts(
        f"capacity = <factor = 1.5>, {settings}", 12, masked, grouped
    )
    x, mask, groups = data(11)
    inputs = {"x": x}
    if masked:
        inputs["mask"] = mask
    if grouped:
        inputs["groups"] = groups
    check(text, inputs, ["weights"], ["x"])


def test_capped_scores_are_the_derivative():
    text = route_experts(
        "capacity = <factor = 1.0>, cap = 1.0, strength = 0.1, sweeps = 200",
        2,
    )
    check(text, {"x": LOGITS}, ["weights"], ["x"])


def test_capped_assignment_has_none():
    text = route_experts(
        "capacity = <factor = 1.0>, cap = 1.0, weights = assignment", 2
    )
    with pytest.raises(moe_mlir.CompileError, match="capped assignment"):
        compile_backward(text, ("x",), "cpu")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", ["experts", "tokens", "given"])
def test_odd_rows(axis, target):
    """No tokens, one token, a masked NaN and a NaN that nobody takes."""
    text = route_experts(
        f"capacity = <fixed = 1>, axis = {axis}", 1, masked=True, dtype="f32"
    )
    x = np.random.default_rng(4).normal(size=(6, EXPERTS)).astype(np.float32)
    x[2] = np.nan
    mask = np.array([True, True, False, True, True, True])
    if axis == "experts":
        x[4] = np.nan
    c = np.ones((EXPERTS, 1), dtype=np.float32)
    inputs = {"x": x, "mask": mask}
    found = backward(text, inputs, {"weights": c}, ["x"], target)["x"]
    assert np.all(np.isfinite(found)) and not np.any(found[2])
    one = {"x": x[:1], "mask": mask[:1]}
    found = backward(text, one, {"weights": c}, ["x"], target)["x"]
    wanted = 1.0 if axis == "given" else 0.0
    np.testing.assert_allclose(found, [[wanted] * EXPERTS], atol=1e-7)
    none = {"x": x[:0], "mask": mask[:0]}
    found = backward(text, none, {"weights": c}, ["x"], target)["x"]
    assert found.shape == (0, EXPERTS)


@pytest.mark.parametrize("axis", ["experts", "tokens"])
def test_threads_change_nothing(axis):
    text = route_experts(
        f"capacity = <factor = 2.0>, axis = {axis}", 60, dtype="f32"
    )
    x = np.random.default_rng(5).normal(size=(90, EXPERTS)).astype(np.float32)
    c = np.random.default_rng(6).normal(size=(EXPERTS, 60)).astype(np.float32)
    one, two = (
        backward(text, {"x": x}, {"weights": c}, ["x"], "cpu", threads)["x"]
        for threads in (1, 2)
    )
    assert one.tobytes() == two.tobytes()


def layer(slots):
    """Gate, choice, experts: a whole layer."""
    x, r = "tensor<?x4xf64>", f"tensor<?x{EXPERTS}xf64>"
    ids, w = f"tensor<{EXPERTS}x{slots}xi32>", f"tensor<{EXPERTS}x{slots}xf64>"
    g, o = f"tensor<{EXPERTS}x4xf64>", f"tensor<{EXPERTS + 1}xi32>"
    rows = f"tensor<{EXPERTS * slots if slots != '?' else '?'}x4xf64>"
    up, down = (f"tensor<{EXPERTS}x{n}xf64>" for n in ("5x4", "4x5"))
    body = f"""%zero = arith.constant 0 : index
  %t = tensor.dim %x, %zero : {x}
  %r = moe.gate %x, %g : ({x}, {g}) -> {r}
  %ids, %w = moe.route_experts
      #moe.expert_choice<capacity = <factor = 2.0>> %r : {r} -> {ids}, {w}
  %rows, %o = moe.dispatch %x, %ids experts {EXPERTS} chosen_by <expert>
      : ({x}, {ids}) -> ({rows}, {o})
  %h = moe.experts %rows offsets(%o : {o}) up(%up : {up}) down(%down : {down})
      activation #moe.activation<kind = silu> layout <orientation = out_in>
      : {rows} -> {rows}
  %y = moe.combine %h, %ids experts {EXPERTS} chosen_by <expert>
      weights(%w : {w}) num_tokens(%t) : ({rows}, {ids}) -> {x}"""
    return write_body(
        body, {"x": x, "g": g, "up": up, "down": down}, {"y": x}
    )


@pytest.mark.parametrize("slots", ["?", 6])
def test_a_layer_is_the_derivative(slots):
    """With as many slots as there are, which depends on T, or room for six."""
    stream = np.random.default_rng(7)
    inputs = {
        "x": stream.normal(size=(7, 4)),
        "g": stream.normal(size=(EXPERTS, 4)),
        "up": stream.normal(size=(EXPERTS, 5, 4)),
        "down": stream.normal(size=(EXPERTS, 4, 5)),
    }
    check(layer(slots), inputs, ["y"], ["x", "g"])
