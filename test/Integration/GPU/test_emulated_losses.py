# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Losses and their gradients, by sums of chunks of tokens, run by the emulator
against the oracle."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parents[1] / "Gradients")
)

import moe_mlir  # noqa: E402
import op_gradients  # noqa: E402
import test_loss_gradients as loss_texts  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*not fused with a gate")

EXPERTS = loss_texts.EXPERTS
# On both sides of a chunk of 32 tokens, and of several.
TOKENS = (1, 31, 32, 33, 100)
# What sums of f32 terms may lose, of the largest number of a result.
TOLERANCE = 2e-5
COTANGENT = np.array(1.5, np.float32)


def near(found, wanted):
    """NaN where NaN is wanted, and else as near as two orders of a sum are."""
    found, wanted = (np.asarray(a, np.float64) for a in (found, wanted))
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    size = np.abs(np.nan_to_num(wanted)).max(initial=0.0)
    worst = np.abs(np.nan_to_num(found - wanted)).max(initial=0.0)
    assert worst <= TOLERANCE * size


def compare(text, arrays, wrt):
    """The loss and its gradients, on both."""
    losses, slopes = [], []
    for target in ("gpu-emulator", "oracle"):
        layer = op_gradients.compile_backward(text, tuple(wrt), target)
        results, saved = layer.forward(**arrays)
        losses.append(results["loss"])
        slopes.append(layer.backward(saved, d_loss=COTANGENT))
    near(*losses)
    for name in wrt:
        near(*(found[f"d_{name}"] for found in slopes))
    return losses[0], slopes[0]


def divide(tokens, kind):
    """Offsets of groups: one of all; one in three that are full; or as many as
    there are tokens, and some that are empty."""
    if kind == "one":
        return np.array([0, tokens], np.int32)
    if kind == "some":
        part = tokens // 3
        return np.array([0, part, part, tokens - 1, tokens], np.int32)
    offsets = np.arange(tokens).repeat(2)
    return np.append(offsets, [tokens, tokens]).astype(np.int32)


def mask_of(tokens, groups):
    """Some tokens, and none of the last group that is full."""
    mask = np.random.default_rng(tokens).random(tokens) < 0.7
    full = np.flatnonzero(np.diff(groups))
    if len(full) > 1:
        mask[groups[full[-1]] : groups[full[-1] + 1]] = False
    return mask


def draw(name, tokens):
    """What a loss reads of random logits."""
    x = loss_texts.logits(tokens)
    values = loss_texts.scores_of(name, x).astype(np.float32)
    return {"x": values, **loss_texts.ids_of(name, values)}


def aux_loss(name, masked=True):
    return loss_texts.aux_loss(name, masked, dtype="f32", out="f32")


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", loss_texts.KINDS)
def test_aux_losses_of_all_tokens(name, tokens):
    compare(aux_loss(name, False), draw(name, tokens), ["x"])


@pytest.mark.parametrize("groups", ["one", "some", "each"])
@pytest.mark.parametrize("name", loss_texts.KINDS)
def test_aux_losses_of_groups(name, groups):
    for tokens in (33, 100):
        offsets = divide(tokens, groups)
        mask = mask_of(tokens, offsets)
        given = {**draw(name, tokens), "groups": offsets}
        _, slopes = compare(aux_loss(name), {**given, "mask": mask}, ["x"])
        assert not slopes["d_x"][~mask].any()
        compare(aux_loss(name), {**given, "mask": np.ones_like(mask)}, ["x"])


@pytest.mark.parametrize("name", loss_texts.KINDS)
def test_without_tokens(name):
    groups = np.array([0, 0, 40], np.int32)
    given = {**draw(name, 40), "mask": np.zeros(40, bool), "groups": groups}
    given["x"][:] = np.nan
    loss, slopes = compare(aux_loss(name), given, ["x"])
    assert loss == 0.0 and not slopes["d_x"].any()
    none = {key: value[:0] for key, value in given.items()}
    for groups in ([0], [0, 0, 0]):
        none["groups"] = np.array(groups, np.int32)
        assert compare(aux_loss(name), none, ["x"])[0] == 0.0
    del none["mask"], none["groups"]
    assert compare(aux_loss(name, False), none, ["x"])[0] == 0.0


@pytest.mark.parametrize("name", loss_texts.KINDS)
def test_rows_of_nan(name):
    given = draw(name, 70)
    given["x"][40] = np.nan
    loss, _ = compare(aux_loss(name, False), given, ["x"])
    assert np.isnan(loss) == (name != "lasso_all")
    # Nobody reads what is masked.
    given["groups"] = np.array([0, 35, 70], np.int32)
    given["mask"] = np.arange(70) != 40
    assert np.isfinite(compare(aux_loss(name), given, ["x"])[0])


def test_narrow_scores():
    text = loss_texts.aux_loss("importance", False, dtype="f16", out="f32")
    compare(text, {"x": draw("importance", 100)["x"].astype(np.float16)}, ["x"])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("std", [0.0, 0.5])
@pytest.mark.parametrize("threshold", ["kth", "kth_excluding"])
def test_load_losses(threshold, std, masked):
    text = loss_texts.load_loss(threshold, 2, std, masked).replace("f64", "f32")
    for tokens in (0, *TOKENS):
        stream = np.random.default_rng(tokens)
        clean, noise = stream.normal(size=(2, tokens, EXPERTS))
        given = {"clean": clean, "noisy": clean + 0.3 * noise}
        if not std:
            given["sigma"] = 0.1 + stream.random(clean.shape)
        given = {key: a.astype(np.float32) for key, a in given.items()}
        wrt = list(given)
        if masked:
            given["groups"] = divide(tokens, "some" if tokens > 1 else "one")
            given["mask"] = mask_of(tokens, given["groups"])
        compare(text, given, wrt)


@pytest.mark.parametrize("tokens", (0, *TOKENS))
@pytest.mark.parametrize("kind", ["i32", "f32"])
def test_expert_loads(kind, tokens):
    ids = np.random.default_rng(1).integers(-1, EXPERTS + 1, (tokens, 3))
    given = {"ids": ids.astype(np.int32)}
    inputs, clause = {"ids": "tensor<?x3xi32>"}, ""
    if kind == "f32":
        given["w"] = np.random.default_rng(2).random(ids.shape, np.float32)
        given["w"][ids < 0] = np.nan
        inputs["w"] = "tensor<?x3xf32>"
        clause = "weights(%w : tensor<?x3xf32>)"
    result = f"tensor<{EXPERTS}x{kind}>"
    text = op_gradients.write_body(
        f"%load = moe.expert_load %ids {clause} : tensor<?x3xi32> -> {result}",
        inputs, {"load": result},
    )  # fmt: skip
    near(*(
        moe_mlir.compile(text, target=target)(**given)
        for target in ("gpu-emulator", "oracle")
    ))  # fmt: skip


def test_offsets_that_do_not_ascend_are_an_error():
    given = {**draw("z", 100), "mask": np.ones(100, bool)}
    layer = op_gradients.compile_backward(aux_loss("z"), ("x",), "gpu-emulator")
    given["groups"] = divide(100, "each")
    _, saved = layer.forward(**given)
    given["groups"][150] = 99
    with pytest.raises(ValueError, match="the group offsets do not ascend"):
        layer.forward(**given)
    saved.inputs["groups"] = given["groups"]
    with pytest.raises(ValueError, match="the group offsets do not ascend"):
        layer.backward(saved, d_loss=COTANGENT)
