# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calls of a compiled layer: numbers, arguments, results, threads."""

import concurrent.futures
import re
import threading

import ml_dtypes
import moe_mlir
import numpy as np
import pytest
from small_layer import SmallLayer, run_reference

BF16 = ml_dtypes.bfloat16
SMALL = SmallLayer()
# Sums of at most 24 products in f32, of values of about 10.
F32 = {"rtol": 1e-5, "atol": 2e-4}


@pytest.fixture(scope="module")
def layer():
    return moe_mlir.compile(SMALL.source(), threads=2)


@pytest.fixture(scope="module")
def bf16_layer():
    return moe_mlir.compile(SmallLayer(dtype="bf16").source(), threads=2)


def expect(kind, message):
    return pytest.raises(kind, match=re.escape(message))


# ---------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1, 2, 17, 300])
def test_matches_numpy(layer, tokens):
    inputs = SMALL.draw(tokens, seed=tokens)
    y = layer(**inputs)
    assert y.dtype == np.float32
    assert y.shape == (tokens, 16)
    np.testing.assert_allclose(y, run_reference(SMALL, inputs)[0], **F32)


def test_oracle_agrees_with_cpu(layer):
    oracle = moe_mlir.compile(SMALL.source(), target="oracle")
    assert oracle.target == "oracle"
    inputs = SMALL.draw(33)
    np.testing.assert_allclose(layer(**inputs), oracle(**inputs), **F32)


def test_several_results():
    small = SmallLayer(ids=True)
    layer = moe_mlir.compile(small.source())
    inputs = small.draw(9)
    results = layer(**inputs)
    y, ids, _ = run_reference(small, inputs)
    assert results._fields == ("y", "ids")
    assert results.ids.dtype == np.int32
    np.testing.assert_array_equal(results.ids, ids)
    np.testing.assert_allclose(results.y, y, **F32)


def test_threads_change_nothing():
    inputs = SMALL.draw(257)
    first, *others = (
        moe_mlir.compile(SMALL.source(), threads=n)(**inputs)
        for n in (1, 2, 3)
    )
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_two_layers_alive(layer):
    other_small = SmallLayer(name="layer", hidden=8, experts=3)
    other = moe_mlir.compile(other_small.source(), threads=1)
    for seed in range(3):
        for small, compiled in ((SMALL, layer), (other_small, other)):
            inputs = small.draw(5 + seed, seed)
            np.testing.assert_allclose(
                compiled(**inputs), run_reference(small, inputs)[0], **F32
            )


# ---------------------------------------------------------------------------
# bfloat16
# ---------------------------------------------------------------------------


def test_bf16(bf16_layer):
    inputs = {k: v.astype(BF16) for k, v in SMALL.draw(12).items()}
    y = bf16_layer(**inputs)
    assert y.dtype == BF16
    wide = {k: v.astype(np.float32) for k, v in inputs.items()}
    expected, _, magnitude = run_reference(SMALL, wide)
    # Three roundings, of the hidden row, of the expert's row and of y, each by
    # at most 2^-9 of the magnitudes that are summed.
    error = np.abs(y.astype(np.float64) - expected)
    assert (error <= 3 * 2.0**-9 * magnitude).all()


def test_bf16_without_ml_dtypes(bf16_layer, monkeypatch):
    inputs = {k: v.astype(BF16) for k, v in SMALL.draw(4).items()}
    expected = bf16_layer(**inputs).view(np.uint16)
    monkeypatch.setattr("moe_mlir.layer._BF16", np.dtype(np.uint16))
    y = bf16_layer(**{k: v.view(np.uint16) for k, v in inputs.items()})
    assert y.dtype == np.uint16
    np.testing.assert_array_equal(y, expected)


def test_bf16_as_uint16(bf16_layer):
    inputs = {k: v.astype(BF16) for k, v in SMALL.draw(4).items()}
    bits = {k: v.view(np.uint16) for k, v in inputs.items()}
    out = np.empty((4, 16), np.uint16)
    assert bf16_layer(**bits, out=out) is out
    np.testing.assert_array_equal(
        out, bf16_layer(**inputs).view(np.uint16)
    )


def test_bf16_is_no_uint16(layer):
    inputs = SMALL.draw(4)
    inputs["x"] = inputs["x"].astype(BF16)
    with expect(ValueError, "expected f32[T, 16], got bf16[4, 16]"):
        layer(**inputs)


# ---------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------


def test_order_and_names_mix(layer):
    inputs = SMALL.draw(3)
    x, router, gate_up, down = inputs.values()
    expected = layer(**inputs)
    np.testing.assert_array_equal(layer(x, router, gate_up, down), expected)
    mixed = layer(x, router, down=down, gate_up=gate_up)
    np.testing.assert_array_equal(mixed, expected)


def test_reads_arrays_in_place(layer):
    inputs = SMALL.draw(3)
    for array in inputs.values():
        array.setflags(write=False)
    expected = run_reference(SMALL, inputs)[0]
    np.testing.assert_allclose(layer(**inputs), expected, **F32)
    # A slice of rows is contiguous and starts inside of its array.
    tall = SMALL.draw(10)["x"]
    np.testing.assert_array_equal(
        layer(**{**inputs, "x": tall[4:7]}),
        layer(**{**inputs, "x": tall[4:7].copy()}),
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda a: a.astype(np.float64),
            "layer: argument 'x' (input 0): expected f32[T, 16], "
            "got f64[6, 16]",
        ),
        (
            lambda a: a[:, :15].copy(),
            "argument 'x' (input 0): expected f32[T, 16], got f32[6, 15]",
        ),
        (lambda a: a[0], "expected f32[T, 16], got f32[16]"),
        (
            np.asfortranarray,
            "argument 'x' (input 0): expected contiguous f32[T, 16], got "
            "f32[6, 16] with strides [1, 6]",
        ),
        (lambda a: a[::2], "with strides [32, 1]"),
        (lambda a: a[::-1], "with strides [-16, 1]"),
        (lambda a: a.astype(">f4"), "argument 'x': the array has an element"),
        (lambda a: a.astype(object), "argument 'x': the array has an elemen"),
        (
            lambda a: np.zeros(a.nbytes + 1, np.uint8)[1:]
            .view(np.float32)
            .reshape(a.shape),
            "expected data aligned to 4 bytes",
        ),
    ],
)
def test_arrays_that_do_not_fit(layer, change, message):
    inputs = SMALL.draw(6)
    inputs["x"] = change(inputs["x"])
    with expect(ValueError, message):
        layer(**inputs)


def test_missing_and_unknown_arguments(layer):
    inputs = SMALL.draw(2)
    x, router, gate_up, _ = inputs.values()
    names = "'x', 'router_weight', 'gate_up', 'down'"
    with expect(TypeError, f"layer: missing 'down'; it takes {names}"):
        layer(x, router, gate_up)
    with expect(TypeError, f"layer: no argument 'z'; expected {names}"):
        layer(**inputs, z=x)
    with expect(TypeError, "layer: argument 'x' given twice"):
        layer(x, **inputs)
    with expect(TypeError, "layer: 5 arguments given, expected 4"):
        layer(x, x, x, x, x)
    with expect(TypeError, "argument 'x' is list, expected an array"):
        layer(x.tolist(), router, gate_up, x)
    with expect(TypeError, "argument 'x' is NoneType, expected an array"):
        layer(None, router, gate_up, x)


def test_sizes_with_one_name_agree():
    small = SmallLayer(indices=True)
    layer = moe_mlir.compile(small.source())
    inputs = small.draw(5)
    assert layer(**inputs).shape == (5, 16)
    inputs["indices"] = inputs["indices"][:4]
    with expect(ValueError, "with T = 5 as in 'x', got i32[4, 2]"):
        layer(**inputs)


def test_errors_in_the_data():
    small = SmallLayer(indices=True)
    layer = moe_mlir.compile(small.source())
    inputs = small.draw(5)
    inputs["indices"][3, 1] = small.experts
    with expect(ValueError, "a given expert id is outside [-1, 4)"):
        layer(**inputs)
    # The layer is as good as before.
    inputs = small.draw(5)
    assert np.isfinite(layer(**inputs)).all()


def test_bound():
    small = SmallLayer(max_tokens=8)
    layer = moe_mlir.compile(small.source())
    assert layer(**small.draw(8)).shape == (8, 16)
    with expect(ValueError, "with T <= 8, got f32[9, 16]"):
        layer(**small.draw(9))


# ---------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------


def test_out(layer):
    inputs = SMALL.draw(6)
    expected = layer(**inputs)
    for wrap in (lambda a: a, lambda a: [a], lambda a: {"y": a}):
        out = np.full((6, 16), np.nan, np.float32)
        assert layer(**inputs, out=wrap(out)) is out
        np.testing.assert_array_equal(out, expected)


def test_out_of_some_results():
    small = SmallLayer(ids=True)
    layer = moe_mlir.compile(small.source())
    inputs = small.draw(6)
    ids = np.empty((6, 2), np.int32)
    for out in ([None, ids], {"ids": ids}):
        ids.fill(-7)
        results = layer(**inputs, out=out)
        assert results.ids is ids
        np.testing.assert_array_equal(ids, run_reference(small, inputs)[1])


def test_out_that_does_not_fit(layer):
    inputs = SMALL.draw(6)
    good = np.empty((6, 16), np.float32)
    with expect(ValueError, "argument 'y' (output 0): expected f32[T, 16]"):
        layer(**inputs, out=np.empty((6, 16)))
    with expect(ValueError, "with T = 6 as in 'x', got f32[5, 16]"):
        layer(**inputs, out=good[:5])
    with expect(ValueError, "overlaps 'x' (input 0)"):
        layer(**inputs, out=inputs["x"])
    with expect(TypeError, "layer: out: no result 'z'; expected 'y'"):
        layer(**inputs, out={"z": good})
    with expect(TypeError, "layer: out: 2 arrays given for 1 results: 'y'"):
        layer(**inputs, out=[good, good])
    good.setflags(write=False)
    with expect(ValueError, "argument 'y': the array has an element type"):
        layer(**inputs, out=good)


def test_results_are_new(layer):
    inputs = SMALL.draw(6)
    first = layer(**inputs)
    kept = first.copy()
    second = layer(**{**inputs, "x": -inputs["x"]})
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)


# ---------------------------------------------------------------------------
# Python's threads
# ---------------------------------------------------------------------------


def test_calls_from_several_threads(layer):
    cases = [SMALL.draw(20 + seed, seed) for seed in range(8)]
    expected = [layer(**inputs) for inputs in cases]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for y, want in zip(
                pool.map(lambda inputs: layer(**inputs), cases), expected
            ):
                np.testing.assert_array_equal(y, want)


def test_calls_release_the_lock():
    # With the lock held, no other thread could count during a call.
    small = SmallLayer(hidden=256, inter=512)
    layer = moe_mlir.compile(small.source(), target="oracle", threads=1)
    inputs = small.draw(64)
    done = threading.Event()
    seen = []

    def call():
        layer(**inputs)
        seen.append("result")
        done.set()

    thread = threading.Thread(target=call)
    thread.start()
    counted = 0
    while not done.wait(0.001):
        counted += 1
    thread.join()
    assert seen == ["result"]
    assert counted > 3
