# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Capacities, a thread an assignment, run by the emulator against the oracle."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Routers"))

from compiled import compile_body  # noqa: E402

EXPERTS, SLOTS = 5, 3
# On both sides of a chunk of 32 tokens, and of several.
TOKENS = (0, 1, 31, 32, 33, 100)
RULES = {
    "first_come": "#moe.capacity<factor = 1.0> queue <first_come>",
    "prioritized": "#moe.capacity<factor = 0.6, per = slots>"
    " queue <prioritized>",
    "one": "#moe.capacity<fixed = 1> queue <prioritized>",
    "none": "#moe.capacity<factor = 0.01, min = 0> queue <first_come>",
    "normalize": "#moe.capacity<factor = 0.5> queue <first_come>"
    " normalize 1.0e-9",
    "both": "#moe.capacity<factor = 0.7> queue <prioritized> normalize 0.5",
}
# A division more or less rounds a last bit otherwise.
TOLERANCE = 2.0**-23


def limit(rule, target, groups=None, dtype="f32", slots=SLOTS):
    """moe.limit_capacity as an entry; `groups` of a size or any."""
    ids, weights = f"tensor<?x{slots}xi32>", f"tensor<?x{slots}x{dtype}>"
    inputs, clause = [("ids", ids), ("w", weights)], ""
    if groups:
        inputs.append(("groups", groups))
        clause = f"groups(%groups : {groups})"
    body = (
        f"%kept, %v = moe.limit_capacity %ids, %w experts {EXPERTS}"
        f" by {RULES[rule]} {clause} : {ids}, {weights}"
    )
    outputs = (("kept", ids), ("v", weights))
    return compile_body(body, tuple(inputs), outputs, target)


def draw(tokens, slots=SLOTS, dtype=np.float32):
    """Choices with empty slots, identity experts, ties and NaN; an expert that
    nobody chose, and one that a token chose twice."""
    stream = np.random.default_rng(tokens)
    ids = stream.integers(-1, EXPERTS + 2, (tokens, slots)).astype(np.int32)
    ids[ids == 3] = 0
    weights = stream.integers(1, 9, ids.shape).astype(dtype) / 8
    if tokens > 4:
        ids[1] = 2
        weights[2, :1] = np.nan
        weights[3, :1] = np.inf
        weights[4, :1] = -0.0
    return ids, weights


def compare(rule, arrays, **keys):
    found, wanted = (
        limit(rule, target, **keys)(*arrays)
        for target in ("gpu-emulator", "oracle")
    )
    np.testing.assert_array_equal(found[0], wanted[0])
    wide = [np.asarray(w, np.float32) for w in (found[1], wanted[1])]
    np.testing.assert_allclose(*wide, rtol=TOLERANCE)
    return found[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_one_group(rule, tokens):
    kept = compare(rule, draw(tokens))
    experts = kept[(kept >= 0) & (kept < EXPERTS)]
    if rule == "none":
        assert tokens >= 500 or not experts.size
    if rule == "one":
        assert np.bincount(experts, minlength=1).max() <= 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_groups(rule, tokens):
    # One is empty; chunks of tokens do not end where groups do.
    part = tokens // 3
    groups = np.array([0, part, part, tokens], np.int32)
    compare(rule, (*draw(tokens), groups), groups="tensor<?xi32>")
    # One of one token in front, known in number.
    first = min(tokens, 1)
    groups = np.array([0, first, tokens], np.int32)
    compare(rule, (*draw(tokens), groups), groups="tensor<3xi32>")


def test_more_groups_than_a_chunk():
    groups = np.arange(0, 101, dtype=np.int32).repeat(2)[1:-1]
    groups = np.concatenate([[0], groups, [100]]).astype(np.int32)
    compare("both", (*draw(100), groups), groups="tensor<?xi32>")


@pytest.mark.parametrize("dtype", ["f16", "f64"])
def test_other_types(dtype):
    arrays = draw(70, dtype=np.dtype(f"float{dtype[1:]}"))
    compare("both", arrays, dtype=dtype)


@pytest.mark.parametrize("slots", [0, 1])
def test_few_slots(slots):
    compare("first_come", draw(40, slots), slots=slots)


# The first places of chunks, their last ones, and the ends.
@pytest.mark.parametrize("place", [0, 1, 31, 32, 33, 64, 89, 90])
def test_offsets_that_do_not_ascend_are_an_error(place):
    groups = np.linspace(0, 100, 91).astype(np.int32)
    layer = limit("first_come", "gpu-emulator", "tensor<?xi32>")
    layer(*draw(100), groups)
    groups[place] = 101 if place < 90 else 99
    with pytest.raises(ValueError, match="the group offsets do not ascend"):
        layer(*draw(100), groups)


def test_no_offsets_are_an_error():
    layer = limit("first_come", "gpu-emulator", "tensor<?xi32>")
    with pytest.raises(ValueError, match="the group offsets are empty"):
        layer(*draw(0), np.empty(0, np.int32))
