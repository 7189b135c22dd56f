# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gates fused with a choice, and top-k whose softmax sum cancels."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import compile_body, router, rows, unusable_rows

# Around a register tile: rows 6, 4, 2, 1, panels of 16 (8 in f64) times 4.
SIZES = [(1, 3), (3, 1), (16, 16), (17, 33), (64, 48), (70, 100), (130, 31)]
TOKENS = [1, 2, 5, 6, 63, 64, 65, 75]


def gate(experts, hidden, dtype="f32", bias=False, threads=1):
    """Logits and the best expert of a fused gate."""
    row, logits = f"tensor<?x{hidden}x{dtype}>", f"tensor<?x{experts}xf32>"
    if dtype == "f64":
        logits = f"tensor<?x{experts}xf64>"
    weight = f"tensor<{experts}x{hidden}x{dtype}>"
    inputs = [("x", row), ("w", weight)]
    clause = ""
    if bias:
        inputs.append(("b", f"tensor<{experts}xf32>"))
        clause = f" bias(%b : tensor<{experts}xf32>)"
    ids, weights = "tensor<?x1xi32>", "tensor<?x1xf32>"
    if dtype == "f64":
        weights = "tensor<?x1xf64>"
    body = (
        f"%y = moe.gate %x, %w{clause} : ({row}, {weight}) -> {logits}\n"
        f"  %ids, %weights = moe.route #moe.top_k<k = 1> %y\n"
        f"      : {logits} -> {ids}, {weights}"
    )
    outputs = (("y", logits), ("ids", ids), ("weights", weights))
    return compile_body(body, tuple(inputs), outputs, "cpu", threads)




@pytest.mark.parametrize("experts, hidden", SIZES)
@pytest.mark.parametrize("dtype", ["f32", "f16", "f64"])
def test_logits(experts, hidden, dtype):
    stream = np.random.default_rng(experts * hidden)
    numpy_type = {"f32": "f4", "f16": "f2", "f64": "f8"}[dtype]
    x = stream.normal(size=(75, hidden)).astype(numpy_type)
    w = stream.normal(size=(experts, hidden)).astype(numpy_type)
    found = gate(experts, hidden, dtype)(x, w)
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    size = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64)).T
    rounding = 2.0**-53 if dtype == "f64" else 2.0**-24
    assert np.all(np.abs(found.y - exact) <= hidden * rounding * size)
    assert np.array_equal(found.ids[:, 0], np.argmax(found.y, axis=1))


@pytest.mark.parametrize("experts, hidden", SIZES)
def test_bias_is_added_to_the_sum(experts, hidden):
    stream = np.random.default_rng(2)
    x = stream.normal(size=(7, hidden)).astype(np.float32)
    w = stream.normal(size=(experts, hidden)).astype(np.float32)
    b = stream.normal(size=experts).astype(np.float32)
    plain = gate(experts, hidden)(x, w).y
    assert np.array_equal(gate(experts, hidden, bias=True)(x, w, b).y, plain + b)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tokens", TOKENS)
def test_a_row_depends_on_nothing_but_the_row(tokens, threads):
    stream = np.random.default_rng(3)
    x = stream.normal(size=(tokens, 100)).astype(np.float32)
    w = stream.normal(size=(70, 100)).astype(np.float32)
    together = gate(70, 100, threads=threads)(x, w).y
    layer = gate(70, 100)
    alone = np.concatenate([layer(row[None], w).y for row in x])
    assert np.array_equal(together, alone)


def test_no_tokens():
    found = gate(17, 33)(np.empty((0, 33), "f4"), np.ones((17, 33), "f4"))
    assert found.y.shape == (0, 17) and found.ids.shape == (0, 1)


def test_a_nan_stays_in_its_row():
    x = np.ones((9, 33), dtype=np.float32)
    x[4, 7] = np.nan
    found = gate(17, 33)(x, np.ones((17, 33), dtype=np.float32)).y
    assert np.isnan(found[4]).all()
    assert not np.isnan(np.delete(found, 4, axis=0)).any()


NORMALIZED = "#moe.top_k<k = 3, normalize = sum>"


def test_normalized_weights_are_those_of_the_softmax():
    x = rows(40)
    found = router(NORMALIZED, 40, 3, "cpu")(x)
    wanted = router(NORMALIZED, 40, 3, "oracle")(x)
    assert np.array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(found.weights, wanted.weights, 2e-6, 1e-30)


def test_a_nan_that_is_not_chosen_is_in_all_weights():
    found = router(NORMALIZED, 40, 3, "cpu")(unusable_rows(40))
    assert np.isnan(found.weights[:2]).all()
    np.testing.assert_allclose(found.weights[2], 1 / 3, rtol=1e-6)
