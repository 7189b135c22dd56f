# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of experts, dispatch and combine."""

from __future__ import annotations

import numpy as np
import pytest
from differences import BOTH, FAST, ROADS, check
from expert_layers import Experts

ACTIVATIONS = [
    ("kind = silu", True),
    ("kind = gelu", False),
    ("kind = gelu_tanh", True),
    ("kind = relu", True),
    ("kind = relu2", False),
    ("kind = identity", True),
    ("kind = silu, limit = 0.5", True),
    ("kind = silu, limit = 0.5", False),
    ("kind = gelu, limit = 0.4", True),
    ("kind = silu, style = oai, limit = 0.7", True),
    ("kind = silu, style = oai, alpha = 0.9", True),
]


@pytest.mark.parametrize("place", range(len(ACTIVATIONS)))
def test_activations(place):
    activation, gated = ACTIVATIONS[place]
    layer = Experts(activation=activation, gated=gated, biases=place % 2 == 0)
    check(layer.function(), layer.draw(seed=place), FAST[place % 2])


@pytest.mark.parametrize("road", ROADS)
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
    "orientation = out_in, down = in_out",
    "orientation = in_out, down = in_out, pairing = interleaved",
    "orientation = out_in, pairing = interleaved, order = up_gate",
    "orientation = out_in, pairing = separate",
    "orientation = in_out, pairing = separate, expert_axis = folded",
    "orientation = out_in, order = up_gate, expert_axis = folded",
    "orientation = in_out, down = in_out, expert_axis = folded, shards = 2",
    "orientation = out_in, order = up_gate, shards = 2",
]


@pytest.mark.parametrize("place", range(len(LAYOUTS)))
def test_layouts(place):
    layer = Experts(layout=LAYOUTS[place], biases=True)
    check(layer.function(), layer.draw(seed=place), FAST[place % 2])


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
    ("", "{scale = 2.5 : f64}"),
    ("bias(%c : LIST)", "{scale = 0.5 : f64}"),
    ("residual(%r : ROW)", "{average}"),
    ("residual(%x : ROW) bias(%c : LIST)", "{average, scale = 3.0 : f64}"),
]


@pytest.mark.parametrize("place", range(len(COMBINED)))
def test_combine(place):
    combined, attributes = COMBINED[place]
    layer = Experts(combined=combined, attributes=attributes)
    check(layer.function(), layer.draw(), FAST[place % 2])


@pytest.mark.parametrize("road", BOTH)
def test_identity_experts(road):
    layer = Experts(combined="identity(%x : ROW)", biases=True,
                    attributes="{scale = 1.5 : f64}")  # fmt: skip
    ids = [[0, 3], [3, 4], [-1, 1], [4, -1], [-1, -1], [2, 0]]
    check(layer.function(), layer.draw(ids=ids), road)


def test_identity_experts_without_weights():
    layer = Experts(combined="identity(%r : ROW)", weighs=False)
    ids = [[0, 3], [3, 4], [-1, 1], [4, -1], [-1, -1], [2, 0]]
    check(layer.function(), layer.draw(ids=ids), ROADS[0])


def test_an_expert_twice():
    # Not what a router does, but what ids may say.
    layer = Experts()
    ids = [[0, 0], [1, 0], [0, 1], [1, 1], [0, -1], [1, 0]]
    check(layer.function(), layer.draw(ids=ids), FAST[0])
