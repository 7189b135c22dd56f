# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Capped expert choice, compiled, against the f64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import TARGETS, compile_body

import global_routers  # noqa: E402, found by way of compiled
from token_routers import softmax  # noqa: E402

DTYPES = {"f32": np.float32, "f64": np.float64}


def expert_choice(
    settings: str, experts: int, slots: int, target: str, dtype: str = "f32",
    masked: bool = False, groups: int = 0,
):  # fmt: skip
    """moe.route_experts as an entry of x, mask, groups; C is static but with
    groups, where it is their sum."""
    row = f"tensor<?x{experts}x{dtype}>"
    inputs, clauses = [("x", row)], []
    if masked:
        inputs.append(("mask", "tensor<?xi1>"))
        clauses.append("mask(%mask : tensor<?xi1>)")
    if groups:
        inputs.append(("groups", f"tensor<{groups + 1}xi32>"))
        clauses.append(f"groups(%groups : tensor<{groups + 1}xi32>)")
    columns = "?" if groups else slots
    ids = f"tensor<{experts}x{columns}xi32>"
    weights = f"tensor<{experts}x{columns}x{dtype}>"
    body = (
        f"%ids, %weights = moe.route_experts #moe.expert_choice<{settings}>"
        f" %x {' '.join(clauses)} : {row} -> {ids}, {weights}"
    )
    outputs = (("ids", ids), ("weights", weights))
    layer = compile_body(body, tuple(inputs), outputs, target)
    if not groups:
        return layer
    shape = (experts, slots)
    return lambda *given: layer(
        *given, out=[np.empty(shape, np.int32), np.empty(shape, DTYPES[dtype])]
    )


EXAMPLE = np.array(
    [[2, 0, 0], [1.5, 0.5, 0], [0, 1, 0.5], [0.2, 0.1, 0], [0, 0, 1], [1, 1, 0]]
)
# The rows of A of routers with n = 6, e = 3, k = 2, b = 1, lambda = 0.1.
ASSIGNMENT = np.array(
    [
        [0.9780, 0.8161, 0.0049, 0.0790, 0.0019, 0.1201],
        [0.0069, 0.0976, 0.7659, 0.3542, 0.0118, 0.7637],
        [0.0151, 0.0863, 0.2292, 0.5668, 0.9864, 0.1162],
    ]
)
WORKED = "capacity = <fixed = 2>, cap = 1.0, strength = 0.1, sweeps = 2000"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_worked_example(dtype, target):
    layer = expert_choice(WORKED, 3, 2, target, dtype)
    found = layer(EXAMPLE.astype(DTYPES[dtype]))
    # Token 3 stands where token 2 would be without the cap.
    assert found.ids.tolist() == [[0, 1], [2, 5], [4, 3]]
    scores = softmax(EXAMPLE)
    wanted = np.take_along_axis(scores.T, found.ids, axis=1)
    np.testing.assert_allclose(found.weights, wanted, rtol=1e-6)
    layer = expert_choice(
        WORKED + ", weights = assignment", 3, 2, target, dtype
    )
    found = layer(EXAMPLE.astype(DTYPES[dtype]))
    wanted = np.take_along_axis(ASSIGNMENT, found.ids, axis=1)
    np.testing.assert_allclose(found.weights, wanted, atol=5e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_without_a_cap(target):
    found = expert_choice("capacity = <fixed = 2>", 3, 2, target)(
        EXAMPLE.astype(np.float32)
    )
    assert found.ids.tolist() == [[0, 1], [2, 5], [4, 2]]
    # So many experts that none is kept from a token.
    loose = "capacity = <fixed = 2>, cap = 3.0, strength = 0.01"
    found = expert_choice(loose, 3, 2, target)(EXAMPLE.astype(np.float32))
    assert found.ids.tolist() == [[0, 1], [2, 5], [4, 2]]


def margin_of(wanted, found_ids):
    """The largest difference of log A between what two choices took."""
    worst = 0.0
    log = np.log(np.maximum(wanted.assignment.T, 1e-300))
    for expert, (own, other) in enumerate(zip(wanted.ids, found_ids)):
        differ = own != other
        if differ.any():
            gap = log[expert, own[differ]] - log[expert, other[differ]]
            worst = max(worst, np.abs(gap).max())
    return worst


CASES = [
    # E, T, capacity, cap, strength, sweeps
    (3, 12, 4, 1.0, 0.1, 50),
    (8, 40, 5, 1.0, 0.05, 30),
    (8, 64, 16, 2.0, 0.01, 100),
    (5, 30, 9, 1.5, 0.02, 17),
    (4, 50, 20, 2.0, 0.001, 100),
    (16, 33, 4, 2.0, 0.1, 1),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("by", ["scores", "assignment"])
@pytest.mark.parametrize("case", CASES)
def test_capped_choice(case, by, dtype, target):
    experts, tokens, count, cap, strength, sweeps = case
    stream = np.random.default_rng(tokens)
    x = stream.normal(size=(tokens, experts)).astype(DTYPES[dtype])
    settings = (
        f"capacity = <fixed = {count}>, cap = {cap}, strength = {strength}, "
        f"sweeps = {sweeps}, weights = {by}"
    )
    found = expert_choice(settings, experts, count, target, dtype)(x)
    wanted = global_routers.capped_expert_choice(
        x.astype(np.float64), [count], cap, strength, sweeps, by
    )
    assert margin_of(wanted, found.ids) < 1e-9
    same = found.ids == wanted.ids
    assert same.mean() > 0.98
    rtol = 1e-6 if dtype == "f32" else 1e-10
    np.testing.assert_allclose(
        found.weights[same], wanted.weights[same], rtol=rtol, atol=1e-30
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("masked", [False, True])
def test_groups_and_masks(masked, target):
    """Packed groups are as groups run apart, masked tokens as left out."""
    stream = np.random.default_rng(12)
    x = stream.normal(size=(47, 6)).astype(np.float32)
    groups = np.array([0, 13, 13, 16, 47], dtype=np.int32)
    mask = stream.random(47) < 0.7
    mask[13:16] = [True, False, False]  # Fewer than an expert's share.
    settings = "capacity = <fixed = 4>, cap = 1.5, strength = 0.05, sweeps = 60"
    layer = expert_choice(settings, 6, 16, target, "f32", masked, 4)
    found = layer(x, mask, groups) if masked else layer(x, groups)
    counts = [4, 0, 3, 4]
    wanted = global_routers.capped_expert_choice(
        x.astype(np.float64), counts, 1.5, 0.05, 60, "scores", groups,
        mask if masked else None,
    )  # fmt: skip
    used = sum(counts)
    assert np.array_equal(found.ids[:, :used], wanted.ids)
    assert np.all(found.ids[:, used:] == -1)
    np.testing.assert_allclose(
        found.weights[:, :used], wanted.weights, rtol=1e-6
    )
    assert np.all(found.weights[:, used:] == 0)
    if masked:
        assert mask[found.ids[found.ids >= 0]].all()
        assert np.all(found.ids[:, 5:7] == -1)


@pytest.mark.parametrize("target", TARGETS)
def test_masked_tokens_are_as_left_out(target):
    stream = np.random.default_rng(29)
    x = stream.normal(size=(20, 4)).astype(np.float32)
    mask = stream.random(20) < 0.6
    x[~mask] = np.nan  # Nobody looks at them.
    settings = "capacity = <fixed = 3>, cap = 1.0, strength = 0.1, sweeps = 40"
    found = expert_choice(settings, 4, 3, target, masked=True)(x, mask)
    alone = expert_choice(settings, 4, 3, target)(x[mask].copy())
    numbers = np.flatnonzero(mask)
    assert np.array_equal(found.ids, numbers[alone.ids])
    np.testing.assert_allclose(found.weights, alone.weights, rtol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_nan_in_a_group(target):
    x = np.random.default_rng(30).normal(size=(14, 3)).astype(np.float32)
    x[5, 1] = np.nan
    mask = np.ones(14, bool)
    mask[0] = False
    groups = np.array([0, 8, 14], dtype=np.int32)
    settings = "capacity = <fixed = 3>, cap = 1.0, strength = 0.1, sweeps = 9"
    both = settings + ", weights = assignment"
    layer = expert_choice(both, 3, 6, target, "f32", True, 2)
    found = layer(x, mask, groups)
    assert np.array_equal(found.ids[:, :3], np.tile([1, 2, 3], (3, 1)))
    assert np.isnan(found.weights[:, :3]).all()
    wanted = global_routers.capped_expert_choice(
        x[8:].astype(np.float64), [3], 1.0, 0.1, 9, "assignment"
    )
    assert np.array_equal(found.ids[:, 3:6], wanted.ids + 8)
    np.testing.assert_allclose(
        found.weights[:, 3:6], wanted.weights, rtol=1e-6
    )


@pytest.mark.parametrize("target", TARGETS)
def test_few_tokens(target):
    settings = "capacity = <fixed = 4>, cap = 2.0, strength = 0.1, sweeps = 9"
    layer = expert_choice(settings + ", weights = assignment", 3, 4, target)
    assert np.all(layer(np.empty((0, 3), np.float32)).ids == -1)
    # Every expert takes every token there is.
    found = layer(np.eye(3, dtype=np.float32)[:2].copy())
    assert np.array_equal(np.sort(found.ids[:, :2]), np.tile([0, 1], (3, 1)))
    assert np.all(found.ids[:, 2:] == -1)
    masked = expert_choice(settings, 3, 4, target, masked=True)
    none = masked(np.zeros((5, 3), np.float32), np.zeros(5, bool))
    assert np.all(none.ids == -1) and np.all(none.weights == 0)
    one = masked(np.zeros((5, 3), np.float32), np.arange(5) == 2)
    assert one.ids.tolist() == [[2, -1, -1, -1]] * 3


@pytest.mark.parametrize("target", TARGETS)
def test_a_cap_without_a_solution(target):
    """E C > cap T: what the last sweep leaves, as in the reference."""
    x = np.random.default_rng(31).normal(size=(6, 4)).astype(np.float64)
    settings = (
        "capacity = <fixed = 3>, cap = 1.0, strength = 0.2, sweeps = 25, "
        "weights = assignment"
    )
    found = expert_choice(settings, 4, 3, target, "f64")(x)
    wanted = global_routers.capped_expert_choice(
        x, [3], 1.0, 0.2, 25, "assignment"
    )
    assert np.array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(found.weights, wanted.weights, rtol=1e-10)
    assert np.all(wanted.assignment.sum(axis=1) < 1.0 + 1e-6)
    assert np.all(wanted.assignment.sum(axis=0) < 3.0)


@pytest.mark.parametrize("target", TARGETS)
def test_the_cap_is_kept_where_the_solution_is_integral(target):
    x = np.random.default_rng(33).normal(size=(48, 6))
    settings = (
        "capacity = <fixed = 8>, cap = 1.0, strength = 0.002, sweeps = 4000"
    )
    found = expert_choice(settings, 6, 8, target, "f64")(x)
    counts = np.bincount(found.ids.ravel(), minlength=48)
    assert counts.max() == 1 and counts.sum() == 48
    free = expert_choice("capacity = <fixed = 8>", 6, 8, target, "f64")(x)
    assert np.bincount(free.ids.ravel(), minlength=48).max() > 1


@pytest.mark.parametrize("target", TARGETS)
def test_weights_over_the_number_of_experts(target):
    settings = (
        "capacity = <fixed = 4>, cap = 2.0, strength = 0.1, normalize = sum"
    )
    found = expert_choice(settings, 3, 4, target)(EXAMPLE.astype(np.float32))
    counts = np.bincount(found.ids.ravel(), minlength=6)
    scores = np.take_along_axis(softmax(EXAMPLE).T, found.ids, axis=1)
    np.testing.assert_allclose(
        found.weights, scores / counts[found.ids], rtol=1e-6
    )
    assert counts.max() > 1


@pytest.mark.parametrize("target", TARGETS)
def test_two_choices_in_one_entry(target):
    """Two results that start out filled alike are two."""
    row, ids = "tensor<6x3xf32>", "tensor<3x2xi32>"
    weights = "tensor<3x2xf32>"
    free = "#moe.expert_choice<capacity = <fixed = 2>>"
    layer = compile_body(
        f"""%a, %v = moe.route_experts {free} %x : {row} -> {ids}, {weights}
  %b, %w = moe.route_experts #moe.expert_choice<{WORKED}> %x
      : {row} -> {ids}, {weights}""",
        (("x", row),),
        (("a", ids), ("b", ids), ("v", weights), ("w", weights)),
        target,
    )
    found = layer(EXAMPLE.astype(np.float32))
    assert found.a.tolist() == [[0, 1], [2, 5], [4, 2]]
    assert found.b.tolist() == [[0, 1], [2, 5], [4, 3]]
    scores = softmax(EXAMPLE).T
    for own, weight in ((found.a, found.v), (found.b, found.w)):
        wanted = np.take_along_axis(scores, own, axis=1)
        np.testing.assert_allclose(weight, wanted, rtol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_groups_with_a_given_number_of_slots(target):
    """A static C takes groups that fit, and refuses others in one message."""
    row, ids = "tensor<?x3xf32>", "tensor<3x4xi32>"
    weights = "tensor<3x4xf32>"
    layer = compile_body(
        f"""%ids, %weights = moe.route_experts
      #moe.expert_choice<capacity = <fixed = 2>> %x
      groups(%groups : tensor<?xi32>) : {row} -> {ids}, {weights}""",
        (("x", row), ("groups", "tensor<?xi32>")),
        (("ids", ids), ("weights", weights)), target,
    )  # fmt: skip
    x = EXAMPLE.astype(np.float32)
    found = layer(x, np.array([0, 3, 6], dtype=np.int32))
    assert found.ids.tolist() == [[0, 1, 5, 3], [2, 1, 5, 3], [2, 1, 4, 3]]
    with pytest.raises(ValueError, match="more tokens than the"):
        layer(x, np.array([0, 2, 4, 6], dtype=np.int32))
