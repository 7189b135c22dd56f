# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of experts, dispatch and combine."""

from __future__ import annotations

import numpy as np
import pytest
from differences import BOTH, FAST, Function, check
from expert_layers import Experts

ACTIVATIONS = [
    ("kind = gelu", False),
    ("kind = gelu_tanh", True),
    ("kind = relu", True),
    ("kind = relu2", False),
    ("kind = identity", True),
    ("kind = silu, limit = 0.5", True),
    ("kind = gelu, limit = 0.4", False),
    ("kind = silu, style = oai, limit = 0.7, alpha = 0.9", True),
]


@pytest.mark.parametrize("place", range(len(ACTIVATIONS)))
def test_activations(place):
    activation, gated = ACTIVATIONS[place]
    layer = Experts(activation=activation, gated=gated)
    check(layer.function(), layer.draw(seed=place), FAST[place % 2])


@pytest.mark.parametrize("road", [*FAST, ("oracle", "recompute")])
def test_gated_with_biases(road):
    layer = Experts(biases=True)
    found = check(layer.function(), layer.draw(), road)
    # The last expert has no token, token 2 no expert.
    for name in ("d_up", "d_down", "d_up_bias", "d_down_bias"):
        assert np.all(found[name][-1] == 0) and np.any(found[name][0] != 0)
    assert np.all(found["d_x"][2] == 0)
    assert np.all(found["d_w"][layer.draw()["ids"] < 0] == 0)


LAYOUTS = [
    "orientation = in_out",
    "orientation = in_out, down = in_out, pairing = interleaved",
    "orientation = out_in, pairing = interleaved, order = up_gate",
    "orientation = out_in, down = in_out, pairing = separate",
    "orientation = in_out, pairing = separate, expert_axis = folded",
    "orientation = out_in, order = up_gate, expert_axis = folded",
    "orientation = in_out, down = in_out, expert_axis = folded, shards = 2",
    "orientation = out_in, order = up_gate, shards = 2",
]


@pytest.mark.parametrize("place", range(len(LAYOUTS)))
def test_layouts(place):
    layer = Experts(layout=LAYOUTS[place], biases=True)
    check(layer.function(), layer.draw(seed=place), FAST[place % 2])


def test_one_inner_feature_between_others():
    """The stride of an axis of one element is not that of a row."""
    layer = Experts(inter=1, layout="orientation = in_out, "
                    "pairing = interleaved")  # fmt: skip
    check(layer.function(), layer.draw(), FAST[0])


@pytest.mark.parametrize("road", [("oracle", "minimal")])
def test_ungated_layouts(road):
    layer = Experts(gated=False, biases=True, activation="kind = gelu",
                    layout="orientation = in_out, down = in_out, "
                    "expert_axis = folded")  # fmt: skip
    check(layer.function(), layer.draw(), road)


@pytest.mark.parametrize("road", BOTH)
def test_weights_on_the_input(road):
    layer = Experts(weighs=False, weighs_input=True, biases=True)
    check(layer.function(), layer.draw(), road)


@pytest.mark.parametrize("gated", [False, True])
def test_weights_on_both_sides(gated):
    layer = Experts(weighs_input=True, gated=gated)
    check(layer.function(), layer.draw(), FAST[gated])


def test_no_weights():
    layer = Experts(weighs=False, biases=True)
    check(layer.function(), layer.draw(), FAST[1])


COMBINED = [
    ("bias(%c : LIST)", "{scale = 0.5 : f64}"),
    ("residual(%r : ROW)", "{average, scale = 2.0 : f64}"),
    ("residual(%x : ROW) bias(%c : LIST)", "{average, scale = 3.0 : f64}"),
]


@pytest.mark.parametrize("place", range(len(COMBINED)))
def test_combine(place):
    combined, attributes = COMBINED[place]
    layer = Experts(combined=combined, attributes=attributes)
    check(layer.function(), layer.draw(), FAST[place % 2])


@pytest.mark.parametrize("road", FAST)
def test_identity_experts(road):
    layer = Experts(combined="identity(%x : ROW)", biases=True,
                    attributes="{scale = 1.5 : f64}")  # fmt: skip
    ids = [[0, 3], [3, 4], [-1, 1], [4, -1], [-1, -1], [2, 0]]
    check(layer.function(), layer.draw(ids=ids), road)


def test_identity_experts_without_weights():
    layer = Experts(combined="identity(%r : ROW)", weighs=False)
    ids = [[0, 3], [3, 4], [-1, 1], [4, -1], [-1, -1], [2, 0]]
    check(layer.function(), layer.draw(ids=ids), FAST[0])


def test_an_expert_twice():
    # Not what a router does, but what ids may say.
    layer = Experts()
    ids = [[0, 0], [1, 0], [0, 1], [1, 1], [0, -1], [1, 0]]
    check(layer.function(), layer.draw(ids=ids), FAST[0])


# ---------------------------------------------------------------------------
# Ops that stand alone
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("road", BOTH)
def test_combine_of_other_rows(road):
    # Something stands between the experts and the combine, so that each has a
    # backward of its own; identity experts beside them.
    row, ids, weights = "tensor<?x5xf64>", "tensor<?x2xi32>", "tensor<?x2xf64>"
    body = f"""
  %rows, %offsets = moe.dispatch %x, %ids experts 3 weights(%v : {weights})
    : ({row}, {ids}) -> ({row}, tensor<4xi32>)
  %t = math.tanh %rows : {row}
  %y = moe.combine %t, %ids experts 3 weights(%w : {weights})
    identity(%x : {row}) {{scale = 1.5 : f64}} : ({row}, {ids}) -> {row}"""
    function = Function(
        (("x", row), ("ids", ids), ("v", weights), ("w", weights)),
        (("y", row),), body,
    )  # fmt: skip
    stream = np.random.default_rng(8)
    ids = [[0, 3], [3, 4], [-1, 1], [4, -1], [-1, -1], [2, 0]]
    values = {"x": stream.normal(size=(6, 5)), "ids": np.int32(ids),
              "v": stream.normal(size=(6, 2)),
              "w": stream.normal(size=(6, 2))}  # fmt: skip
    check(function, values, road)


@pytest.mark.parametrize("road", FAST)
def test_experts_of_other_rows(road):
    row, offsets = "tensor<?x5xf64>", "tensor<4xi32>"
    body = f"""
  %t = math.sin %x : {row}
  %h = moe.experts %t offsets(%offsets : {offsets})
    up(%up : tensor<3x8x5xf64>) down(%down : tensor<3x5x4xf64>)
    down_bias(%b : tensor<3x5xf64>) gated
    activation #moe.activation<kind = silu> layout <orientation = out_in>
    : {row} -> {row}
  %y = math.tanh %h : {row}"""
    function = Function(
        (("x", row), ("offsets", offsets), ("up", "tensor<3x8x5xf64>"),
         ("down", "tensor<3x5x4xf64>"), ("b", "tensor<3x5xf64>")),
        (("y", row),), body,
    )  # fmt: skip
    stream = np.random.default_rng(9)
    shapes = {"x": (7, 5), "up": (3, 8, 5), "down": (3, 5, 4), "b": (3, 5)}
    values = {n: stream.normal(size=s) for n, s in shapes.items()}
    values["offsets"] = np.int32([0, 4, 4, 7])
    found = check(function, values, road)
    assert np.all(found["d_up"][1] == 0) and np.all(found["d_b"][1] == 0)


@pytest.mark.parametrize("road", BOTH)
@pytest.mark.parametrize("weighs_input", [False, True])
def test_chosen_by_experts(weighs_input, road):
    row, ids, weights = "tensor<?x5xf64>", "tensor<3x2xi32>", "tensor<3x2xf64>"
    clause = f"weights(%w : {weights})"
    body = f"""
  %zero = arith.constant 0 : index
  %T = tensor.dim %x, %zero : {row}
  %rows, %offsets = moe.dispatch %x, %ids experts 3 chosen_by <expert>
    {clause if weighs_input else ""}
    : ({row}, {ids}) -> (tensor<6x5xf64>, tensor<4xi32>)
  %h = moe.experts %rows offsets(%offsets : tensor<4xi32>)
    up(%up : tensor<3x8x5xf64>) down(%down : tensor<3x5x4xf64>)
    down_bias(%b : tensor<3x5xf64>) gated
    activation #moe.activation<kind = silu> layout <orientation = out_in>
    : tensor<6x5xf64> -> tensor<6x5xf64>
  %y = moe.combine %h, %ids experts 3 chosen_by <expert> num_tokens(%T)
    {"" if weighs_input else clause} : (tensor<6x5xf64>, {ids}) -> {row}"""
    function = Function(
        (("x", row), ("ids", ids), ("w", weights), ("up", "tensor<3x8x5xf64>"),
         ("down", "tensor<3x5x4xf64>"), ("b", "tensor<3x5xf64>")),
        (("y", row),), body,
    )  # fmt: skip
    stream = np.random.default_rng(10)
    shapes = {"x": (4, 5), "w": (3, 2), "up": (3, 8, 5), "down": (3, 5, 4),
              "b": (3, 5)}  # fmt: skip
    values = {n: stream.normal(size=s) for n, s in shapes.items()}
    values["ids"] = np.int32([[0, 2], [2, -1], [2, 1]])
    found = check(function, values, road)
    assert np.all(found["d_x"][3] == 0) and found["d_w"][1, 1] == 0
