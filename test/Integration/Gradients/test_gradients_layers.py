# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of whole layers: what is saved, edges, threads, types."""

from __future__ import annotations

import dataclasses
import re

import ml_dtypes
import moe_mlir
import numpy as np
import pytest
from differences import (
    FAST,
    ROADS,
    SAVES,
    check,
    draw_cotangents,
    find_slope,
    gradients_of,
    with_threads,
)
from expert_layers import Experts
from whole_layers import Whole

SMALL = Whole()


def run(layer, values, cotangents=None):
    results, saved = layer.forward(**values)
    cotangents = cotangents or draw_cotangents(results)
    return results, saved, layer.backward(saved, **cotangents)


# ---------------------------------------------------------------------------
# Against differences
# ---------------------------------------------------------------------------

LAYERS = [
    (Whole(shared="sigmoid", router="score = sigmoid"), FAST[0]),
    (Whole(shared="plain", k=1), FAST[1]),
    (Whole(latent=3, router="domain = topk"), FAST[1]),
    (Whole(experts=3, k=3, hidden=7, inter=9, router="softcap = 3.0"), FAST[0]),
    (Whole(experts=2, k=1, hidden=17, inter=1), FAST[1]),
]


@pytest.mark.parametrize("place", range(len(LAYERS)))
def test_layers(place):
    layer, road = LAYERS[place]
    check(layer.function(), layer.draw(seed=place + 1), road)


@pytest.mark.parametrize("road", ROADS)
def test_small_layer(road):
    check(SMALL.function(), SMALL.draw(), road)


@pytest.mark.parametrize("tokens", [0, 1, 33])
def test_numbers_of_tokens(tokens):
    # The modules of test_small_layer.
    for road in FAST:
        found = check(SMALL.function(), SMALL.draw(tokens), road)
        assert found["d_x"].shape == (tokens, 5)
        if tokens == 0:
            for name in ("d_router", "d_up", "d_down"):
                assert np.all(found[name] == 0)


def test_many_rows_of_few_experts():
    # Chunks, panels and tails of the kernels. Along directions, as there are
    # many elements; each of them moves all.
    layer = Whole(experts=2, k=1, hidden=67, inter=50, router="softcap = 9.0")
    source, values = layer.function().source(), layer.draw(300, scale=0.3)
    results, _, found = run(gradients_of(source), values)
    counts = np.bincount(results["ids"].ravel(), minlength=2)
    assert counts.max() > 129 and counts.min() > 17
    cotangents = draw_cotangents(results)
    stream = np.random.default_rng(4)
    for name, value in values.items():
        for _ in range(3):
            direction = stream.normal(size=value.shape)
            slope = find_slope(source, values, cotangents, name, direction)
            terms = found[f"d_{name}"] * direction
            allowed = 1e-7 * np.linalg.norm(terms)
            assert abs(np.sum(terms) - slope) < allowed, name


def test_experts_without_tokens():
    values = SMALL.draw(9)
    values["x"][:, 0] = 10.0
    values["router"][:, 0] = [5.0, 5.0, -5.0, -5.0]
    results, _, found = run(gradients_of(SMALL.function().source()), values)
    assert np.all(results["ids"] < 2)
    for name in ("d_up", "d_down"):
        assert np.all(found[name][2:] == 0) and np.all(found[name][:2] != 0)


def test_tokens_without_experts():
    layer = Experts()
    values = layer.draw(ids=np.full((6, 2), -1))
    _, _, found = run(gradients_of(layer.function().source()), values)
    for name, gradient in found.items():
        assert np.all(gradient == 0), name


# ---------------------------------------------------------------------------
# Repeated, split, permuted
# ---------------------------------------------------------------------------


F32 = Whole(hidden=33, inter=20, dtype="f32")


def f32_layers():
    """Of one compilation, for several numbers of threads."""
    return with_threads(F32.function().source(), (1, 1, 2, 3))


def test_threads_change_nothing():
    values = {n: v.astype(np.float32) for n, v in F32.draw(257).items()}
    first, *others = (
        run(layer, values) for layer in f32_layers()
    )
    for other in others:
        assert np.array_equal(first[0]["y"], other[0]["y"])
        for name, gradient in first[2].items():
            assert gradient.tobytes() == other[2][name].tobytes(), name


def test_rows_do_not_depend_on_the_batch():
    compiled = f32_layers()[0]
    values = {n: v.astype(np.float32) for n, v in F32.draw(64).items()}
    results, _, whole = run(compiled, values)
    d_y = draw_cotangents(results)["d_y"]
    order = np.random.default_rng(3).permutation(64)
    part = order[:23]
    for own in (order, part):
        moved = values | {"x": values["x"][own].copy()}
        found = run(compiled, moved, {"d_y": d_y[own].copy()})[2]
        assert np.array_equal(found["d_x"], whole["d_x"][own])


def test_one_forward_and_several_backwards():
    compiled = gradients_of(SMALL.function().source())
    results, saved = compiled.forward(**SMALL.draw())
    d_y = draw_cotangents(results)["d_y"]
    once, twice = (compiled.backward(saved, d_y=d_y) for _ in range(2))
    # A backward is linear in its cotangents.
    scaled = compiled.backward(saved, d_y=2.0 * d_y)
    for name, gradient in once.items():
        assert np.array_equal(gradient, twice[name])
        assert np.array_equal(2.0 * gradient, scaled[name])


# ---------------------------------------------------------------------------
# What is saved
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("save", SAVES)
def test_what_is_saved(save):
    compiled = gradients_of(SMALL.function().source(), save=save)
    t, k, e, i, h = 50, 2, 4, 3, 5
    _, saved, _ = run(compiled, SMALL.draw(t))
    shapes = sorted(a.shape for a in compiled.saved if a.dtype != "int32")
    wanted = [("T", k), ("T", e)]
    if save == "minimal":
        wanted += [("T", k, i)] * 2
    assert shapes == sorted(wanted)
    elements = t * (k + e) + (2 * t * k * i if save == "minimal" else 0)
    assert saved.nbytes == 8 * elements + 4 * t * k
    assert set(saved.residuals) == {a.name for a in compiled.saved}
    assert not any(h in a.shape for a in compiled.saved)


def test_ungated_experts_save_one_value():
    layer = Experts(gated=False, hidden=7, inter=4)
    compiled = gradients_of(layer.function().source())
    assert [a.shape for a in compiled.saved] == [("T", 2, 4)]


def test_wrt_chooses():
    source = SMALL.function().source()
    compiled = gradients_of(source, wrt=("down", "x"))
    assert [a.name for a in compiled.gradients] == ["d_down", "d_x"]
    values = SMALL.draw()
    all_of_them = run(gradients_of(source), values)[2]
    for name, gradient in run(compiled, values)[2].items():
        assert np.array_equal(gradient, all_of_them[name])


def test_names_and_sizes():
    compiled = gradients_of(SMALL.function().source())
    assert [a.name for a in compiled.outputs] == ["y", "ids"]
    assert [a.name for a in compiled.gradients] == [
        "d_x", "d_router", "d_up", "d_down"
    ]  # fmt: skip
    (cotangent,) = compiled.cotangents
    assert cotangent.name == "d_y" and cotangent.shape == ("T", 5)


def test_a_cotangent_of_another_size():
    compiled = gradients_of(SMALL.function().source())
    # A call with a size that nothing checks reads past the array.
    assert compiled.cotangents[0].shape == ("T", 5)
    _, saved = compiled.forward(**SMALL.draw(6))
    for tokens in (5, 7):
        with pytest.raises(ValueError, match="d_y"):
            compiled.backward(saved, d_y=np.zeros((tokens, 5)))


def test_cotangents_that_are_missing_or_unknown():
    compiled = gradients_of(SMALL.function().source())
    results, saved = compiled.forward(**SMALL.draw(6))
    with pytest.raises(TypeError, match="d_y"):
        compiled.backward(saved)
    with pytest.raises(TypeError, match="d_ids"):
        compiled.backward(saved, d_y=results["y"], d_ids=results["ids"])


def test_an_op_without_a_backward():
    source = """func.func @f(%x: tensor<4xf32>) -> tensor<4xf32>
      attributes {moe.entry} {
  %0 = math.atan %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}"""
    with pytest.raises(moe_mlir.CompileError, match=re.escape("'math.atan'")):
        moe_mlir.compile_gradients(source)


def test_arguments_that_there_are_not():
    source = SMALL.function().source()
    for wrt, message in (["z"], "no argument 'z'"), (["x", "x"], "twice"):
        with pytest.raises(moe_mlir.CompileError, match=message):
            moe_mlir.compile_gradients(source, wrt=wrt)
    with pytest.raises(ValueError, match="names no argument"):
        moe_mlir.compile_gradients(source, wrt=[])
    with pytest.raises(ValueError, match="save"):
        moe_mlir.compile_gradients(source, save="all")


# ---------------------------------------------------------------------------
# Types
# ---------------------------------------------------------------------------


def relative_error(found, wanted):
    """Of a whole array, by its norm."""
    found = found.astype(np.float64)
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize(
    "dtype, limit", [("f32", 1e-5), ("bf16", 2e-2)], ids=["f32", "bf16"]
)
def test_types(dtype, limit):
    # Rows, hidden rows and gradients round to 8 bits: a few roundings of 2^-9
    # that add up at random.
    numpy_type = np.float32 if dtype == "f32" else ml_dtypes.bfloat16
    wide = dataclasses.replace(F32, dtype="f64")
    layer = dataclasses.replace(F32, dtype=dtype, compute="f32")
    exact = wide.draw(40, scale=0.5)
    values = {name: v.astype(numpy_type) for name, v in exact.items()}
    exact = {name: v.astype(np.float64) for name, v in values.items()}
    d_y = draw_cotangents({"y": exact["x"]})["d_y"].astype(numpy_type)
    same = layer.function() == F32.function()
    compiled = (
        f32_layers()[0] if same else gradients_of(layer.function().source())
    )
    found = run(compiled, values, {"d_y": d_y})
    wanted = run(gradients_of(wide.function().source()), exact,
                 {"d_y": d_y.astype(np.float64)})  # fmt: skip
    assert np.array_equal(found[0]["ids"], wanted[0]["ids"])
    for name, gradient in wanted[2].items():
        assert found[2][name].dtype == numpy_type
        assert relative_error(found[2][name], gradient) < limit, name
