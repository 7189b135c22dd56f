# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backwards of the subset ops."""

from __future__ import annotations

import moe_mlir
import numpy as np
import pytest
from op_gradients import TARGETS, backward, check, write_body
from op_gradients import compile_backward

import subsets  # noqa: E402, found by way of op_gradients

EXPERTS = 4


def subset_op(kind: str, band, experts=EXPERTS, dtype="f64") -> str:
    """One of the subset ops as an entry: x, the ids i, the result y."""
    low, high = band
    row, ids = f"tensor<?x{experts}x{dtype}>", f"tensor<?x{high}xi32>"
    inputs, types, operands = {"x": row}, row, "%x"
    out = {
        "partition": f"tensor<?x{high - low + 1}x{dtype}>",
        "marginals": row,
        "covariance": row,
    }.get(kind, f"tensor<?x{dtype}>")
    if kind == "log_prob":
        inputs["i"] = ids
        types, operands = f"{row}, {ids}", "%x, %i"
    if kind == "covariance":
        inputs["v"] = row
        types, operands = f"{row}, {row}", "%x, %v"
    body = (
        f"%y = moe.subset_{kind} {operands} size {low} to {high}"
        f" : {types} -> {out}"
    )
    return write_body(body, inputs, {"y": out})


def rows(tokens=6, experts=EXPERTS, seed=2) -> np.ndarray:
    """Logits of several widths."""
    stream = np.random.default_rng(seed)
    scales = np.resize([0.3, 1.0, 3.0], tokens)[:, None]
    return stream.normal(size=(tokens, experts)) * scales


def samples(tokens: int, band, experts=EXPERTS, seed=4) -> np.ndarray:
    """Subsets of sizes of the band."""
    stream = np.random.default_rng(seed)
    out = np.full((tokens, band[1]), -1, dtype=np.int32)
    for row in out:
        size = stream.integers(band[0], band[1] + 1)
        row[:size] = np.sort(stream.permutation(experts)[:size])
    return out


@pytest.mark.parametrize(
    "kind, band",
    [("partition", (1, 1)), ("partition", (1, 3)), ("partition", (4, 4)),
     ("marginals", (2, 2)), ("marginals", (1, 3)), ("entropy", (2, 2)),
     ("entropy", (1, 3)), ("log_prob", (1, 3)), ("log_prob", (4, 4))],
)  # fmt: skip
def test_subset_ops(kind, band):
    given = {"x": rows()}
    if kind == "log_prob":
        given["i"] = samples(6, band)
    check(subset_op(kind, band), given, ["y"], ["x"])


@pytest.mark.parametrize("target", TARGETS)
def test_references(target):
    x, band = rows(), (1, 3)
    ids = samples(6, band)
    ones = np.ones(6)
    found = backward(
        subset_op("log_prob", band), {"x": x, "i": ids}, {"y": ones}, ["x"],
        target,
    )["x"]  # fmt: skip
    wanted = []
    for row, own in zip(x, ids):
        chosen = np.zeros(EXPERTS)
        chosen[own[own >= 0]] = 1.0
        wanted.append(chosen - subsets.marginals(row, *band))
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)
    # The probability of a size has the difference of two means.
    cotangent = np.zeros((6, band[1] - band[0] + 1))
    cotangent[:, -1] = 1.0
    found = backward(
        subset_op("partition", band), {"x": x}, {"y": cotangent}, ["x"], target
    )["x"]
    wanted = [subsets.marginals(row, band[1], band[1]) for row in x]
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


@pytest.mark.parametrize("target", TARGETS)
def test_few_admissible_experts(target):
    x = np.full((4, EXPERTS), -np.inf)
    x[0, 2] = 1.5  # One: subsets of 1 alone.
    x[1, [1, 3]] = 0.5, -1.0
    x[2, :3] = 0.5, -1.0, 2.0
    x[3] = rows(1)
    band, ones = (2, 3), np.ones(4)
    cotangent = np.array([[1.0, 10.0]] * 4)
    found = backward(
        subset_op("partition", band), {"x": x}, {"y": cotangent}, ["x"], target
    )["x"]
    np.testing.assert_array_equal(found[0], 0.0)
    np.testing.assert_allclose(found[1], [0, 1, 0, 1], atol=1e-14)
    pairs = subsets.marginals(x[2], 2, 2)
    np.testing.assert_allclose(
        found[2], pairs + 10.0 * np.array([1, 1, 1, 0]), rtol=1e-12
    )
    np.testing.assert_allclose(
        np.sum(found[3]), 2.0 + 3.0 * 10.0, rtol=1e-12
    )
    for kind in ("entropy", "marginals"):
        given = ones if kind == "entropy" else rows(4)
        found = backward(
            subset_op(kind, band), {"x": x}, {"y": given}, ["x"], target
        )["x"]
        np.testing.assert_array_equal(found[:2], 0.0)
        assert np.isfinite(found).all() and np.any(found[2])
        np.testing.assert_array_equal(found[2, 3:], 0.0)
    # No subset of the band, a forced one, and sizes that are not in it.
    ids = np.array([[2, -1, -1], [1, 3, -1], [0, -1, -1], [0, 1, 2]])
    found = backward(
        subset_op("log_prob", band), {"x": x, "i": ids.astype(np.int32)},
        {"y": ones}, ["x"], target,
    )["x"]  # fmt: skip
    np.testing.assert_array_equal(found[[0, 2]], 0.0)
    np.testing.assert_allclose(found[1], 0.0, atol=1e-14)
    assert np.any(found[3])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["partition", "marginals", "entropy"])
def test_unusable_rows(kind, target):
    x = rows()
    x[1, 0], x[4, 2] = np.nan, np.inf
    shape = {"partition": (6, 2), "marginals": x.shape, "entropy": (6,)}[kind]
    found = backward(
        subset_op(kind, (2, 3)), {"x": x}, {"y": np.ones(shape)}, ["x"], target
    )["x"]
    assert np.isnan(found[[1, 4]]).all()
    assert np.isfinite(found[[0, 2, 3, 5]]).all()


@pytest.mark.parametrize("band", [(3, 3), (2, 5)])
def test_f32_on_hard_rows(band):
    """Small cotangents of unlikely sizes, and rows that leave the range."""
    experts = 16
    x = np.concatenate(
        [rows(6, experts) * scale for scale in (1.0, 5.0, 15.0)]
    ).astype(np.float32)
    if band[0] == band[1]:
        # Else sizes are as unlikely as to be left out.
        x[3] = -80.0
        x[3, :3] = 80.0
    wide = x.astype(np.float64)
    stream = np.random.default_rng(1)
    size = band[1] - band[0] + 1
    cotangent = (1e-6 * stream.normal(size=(len(x), size))).astype(np.float32)
    found = backward(
        subset_op("partition", band, experts, "f32"), {"x": x},
        {"y": cotangent}, ["x"], "cpu",
    )["x"]  # fmt: skip
    for row, given, own in zip(wide, cotangent.astype(np.float64), found):
        parts = [
            weight * subsets.marginals(row, j, j)
            for j, weight in zip(range(band[0], band[1] + 1), given)
        ]
        scale = np.sum(np.abs(parts), axis=0)
        distance = np.abs(own - np.sum(parts, axis=0))
        assert np.all(distance <= 1e-4 * scale + 1e-12)


def test_no_tokens():
    for kind, shape in (("partition", (0, 2)), ("log_prob", (0,))):
        given = {"x": np.empty((0, EXPERTS))}
        if kind == "log_prob":
            given["i"] = np.empty((0, 3), np.int32)
        for target in TARGETS:
            found = backward(
                subset_op(kind, (2, 3)), given, {"y": np.empty(shape)}, ["x"],
                target,
            )  # fmt: skip
            assert found["x"].shape == (0, EXPERTS)


def test_what_has_no_backward():
    with pytest.raises(moe_mlir.CompileError, match="subset_covariance.*has no"):
        compile_backward(subset_op("covariance", (2, 2)), ("x",), "oracle")
