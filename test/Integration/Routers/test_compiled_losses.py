# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Losses, noisy logits, expert load and the update of the selection bias,
compiled, against f64 references."""

from __future__ import annotations

import dataclasses
import functools
from typing import Callable

import numpy as np
import pytest
from compiled import TARGETS, compile_body, random_state, router

import global_routers  # noqa: E402, found by way of compiled
import losses  # noqa: E402
import philox  # noqa: E402
from noisy_routers import noisy_top_k, vmoe_load  # noqa: E402
from token_routers import best, softmax  # noqa: E402

DTYPES = {"f32": np.float32, "f64": np.float64}
# What sums of f32 terms of one sign may lose; f64 is exact to its own end.
RTOL = {"f32": 2e-5, "f64": 1e-11}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A loss: its text, what it reads, and its value on one group."""

    text: str  # aux_loss's kind and settings
    of: str  # what of the logits it takes: scores, logits or relu
    slots: int  # of ids, 0 without
    reference: Callable  # (values, ids) of the live tokens -> value


def second(s, i):
    """GShard's second place."""
    return losses.gshard_second(s, i[:, :2])


def lasso(k):
    """The reference takes logits; those of softmax scores are their logs."""
    return lambda s, i: losses.trimmed_lasso(np.log(s), k)


KINDS = {
    "switch": Kind(
        "<balance> {ids}", "scores", 1, lambda s, i: losses.balance(s, i)
    ),
    "sum_to_k": Kind(
        "<balance> {ids}", "scores", 3, lambda s, i: losses.balance(s, i, "k")
    ),
    "sum_to_one": Kind(
        "<balance> {ids} per_slot", "scores", 3,
        lambda s, i: losses.balance(s, i, "one"),
    ),
    "gshard": Kind(
        "<first_place> {ids}", "scores", 2,
        lambda s, i: losses.gshard(s, i[:, 0]),
    ),
    "gshard_second": Kind("<second_place> {ids}", "scores", 2, second),
    "importance": Kind(
        "<importance> eps 1.0e-10", "scores", 0,
        lambda s, i: losses.importance(s),
    ),
    "tutel": Kind(
        "<importance> unbiased eps 1.0e-10", "scores", 0,
        lambda s, i: losses.importance(s, unbiased=True),
    ),
    "vmoe_importance": Kind(
        "<importance>", "scores", 0,
        lambda s, i: losses.cv_squared(np.sum(s, axis=0), floor=0.0),
    ),
    "z": Kind("<z>", "logits", 0, lambda s, i: losses.z_loss(s)),
    "lasso_1": Kind("<trimmed_lasso> k 1", "scores", 0, lasso(1)),
    "lasso_3": Kind("<trimmed_lasso> k 3", "scores", 0, lasso(3)),
    "lasso_all": Kind("<trimmed_lasso> k 99", "scores", 0, lambda s, i: 0.0),
    "entropy": Kind("<entropy>", "scores", 0, lambda s, i: losses.entropy(s)),
    "mesh": Kind(
        "<token_balance>", "logits", 0,
        lambda s, i: losses.mesh_expert_choice(softmax(s.T).T),
    ),
    "remoe": Kind(
        "<l1_balance> k 2", "relu", 0,
        lambda s, i: losses.remoe_regulariser(s, 2),
    ),
}  # fmt: skip


def aux_loss(
    text: str, experts: int, slots: int, target: str, dtype: str,
    masked: bool = False, grouped: bool = False, out: str = "",
):  # fmt: skip
    """moe.aux_loss as an entry of s, ids, mask, groups."""
    row = f"tensor<?x{experts}x{dtype}>"
    inputs, clauses = [("s", row)], []
    kind, _, settings = text.partition(" ")
    if slots:
        ids = f"tensor<?x{slots}xi32>"
        inputs.append(("ids", ids))
        settings = settings.replace("{ids}", f"ids(%ids : {ids})")
    if masked:
        inputs.append(("mask", "tensor<?xi1>"))
        clauses.append("mask(%mask : tensor<?xi1>)")
    if grouped:
        inputs.append(("groups", "tensor<5xi32>"))
        clauses.append("groups(%groups : tensor<5xi32>)")
    loss = f"tensor<{out or dtype}>"
    body = (
        f"%y = moe.aux_loss {kind} %s {settings} {' '.join(clauses)}"
        f" coefficient 0.5 : {row} -> {loss}"
    )
    return compile_body(body, tuple(inputs), (("y", loss),), target)


def mean_of_groups(loss, tokens, groups, mask):
    """Mean of loss(live tokens) over the groups that have some."""
    bounds = [0, tokens] if groups is None else groups
    values = []
    for low, high in zip(bounds, bounds[1:]):
        live = [t for t in range(low, high) if mask is None or mask[t]]
        if live:
            values.append(loss(live))
    return float(np.mean(values)) if values else 0.0


def values_of(kind: Kind, x: np.ndarray) -> np.ndarray:
    """What the loss reads of logits."""
    if kind.of == "scores":
        return softmax(x)
    return np.maximum(x, 0.0) if kind.of == "relu" else x


def chosen(x: np.ndarray, k: int) -> np.ndarray:
    """ids of plain top-k."""
    return np.array([best(row, k) for row in x], dtype=np.int32).reshape(-1, k)


GROUPS = np.array([0, 9, 9, 20, 31], dtype=np.int32)  # One is empty.


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_aux_losses(name, grouped, masked, dtype, target):
    kind = KINDS[name]
    stream = np.random.default_rng(3)
    x = 2.0 * stream.normal(size=(31, 7))
    ids = chosen(x, max(kind.slots, 1))
    values = values_of(kind, x).astype(DTYPES[dtype])
    mask = stream.random(31) < 0.6
    mask[9:20] = False  # A whole group.
    layer = aux_loss(
        kind.text, 7, kind.slots, target, dtype, masked, grouped
    )
    given = {"s": values}
    if kind.slots:
        given["ids"] = ids
    if masked:
        given["mask"] = mask
    if grouped:
        given["groups"] = GROUPS
    wide = values.astype(np.float64)
    wanted = 0.5 * mean_of_groups(
        lambda live: kind.reference(wide[live], ids[live]),
        31, GROUPS if grouped else None, mask if masked else None,
    )  # fmt: skip
    found = layer(*given.values())
    assert found.dtype == DTYPES[dtype] and found.shape == ()
    np.testing.assert_allclose(found, wanted, rtol=RTOL[dtype], atol=0)


# Section 6's common example and the vectors of ReMoE and MOESART.
EXAMPLE = np.array([[2, 1, 0], [1, 0.5, 0], [1.5, 0, 1], [0, 0, 1.0]])
RELU = np.array(
    [[0.5, -0.2, 0.1], [-0.3, 0.4, 0], [0.2, 0.3, -0.1], [0.6, -0.5, -0.2]]
)
WORKED = [
    ("<balance> {ids}", 1, softmax(EXAMPLE), 1.307739),
    ("<first_place> {ids}", 1, softmax(EXAMPLE), 1.307739),
    ("<balance> {ids}", 2, softmax(EXAMPLE), 2.223830),
    ("<balance> {ids} per_slot", 2, softmax(EXAMPLE), 1.111915),
    ("<z>", 0, EXAMPLE, 3.863555),
    ("<importance>", 0, softmax(EXAMPLE), 0.108533),
    ("<l1_balance> k 1", 0, np.maximum(RELU, 0), 1.0125),
    ("<trimmed_lasso> k 2", 0, softmax(np.array([[1.2, 0.4, -0.3, -0.9]])),
     0.192536),
    ("<entropy>", 0, np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]),
     0.5 * np.log(2.0)),
    ("<token_balance>", 0, np.zeros((5, 3)), 1.0),
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("text, slots, values, wanted", WORKED)
def test_worked_numbers(text, slots, values, wanted, target):
    layer = aux_loss(text, values.shape[1], slots, target, "f64")
    ids = [chosen(values, slots)] if slots else []
    assert abs(2.0 * layer(values, *ids) - wanted) < 1e-6


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KINDS)
def test_losses_without_tokens_are_zero(name, target):
    kind = KINDS[name]
    layer = aux_loss(kind.text, 4, kind.slots, target, "f32")
    ids = [np.empty((0, kind.slots), np.int32)] if kind.slots else []
    assert layer(np.empty((0, 4), np.float32), *ids) == 0.0
    layer = aux_loss(kind.text, 4, kind.slots, target, "f32", True, True)
    groups = np.array([0, 0, 3, 3, 3], dtype=np.int32)
    ids = [np.zeros((3, kind.slots), np.int32)] if kind.slots else []
    nan = np.full((3, 4), np.nan, np.float32)
    assert layer(nan, *ids, np.zeros(3, bool), groups) == 0.0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KINDS)
def test_nan_makes_a_loss_nan(name, target):
    kind = KINDS[name]
    layer = aux_loss(kind.text, 4, kind.slots, target, "f32", masked=True)
    values = np.full((3, 4), 0.25, np.float32)
    values[1] = np.nan
    slots = max(kind.slots, 1)
    ids = [np.tile(np.arange(slots, dtype=np.int32), (3, 1))]
    ids = ids if kind.slots else []
    live = layer(values, *ids, np.ones(3, bool))
    assert np.isnan(live) == (name != "lasso_all")
    without = layer(values, *ids, np.array([True, False, True]))
    assert not np.isnan(without)


@pytest.mark.parametrize("target", TARGETS)
def test_trimmed_lasso_of_ties_and_of_k_of_all(target):
    values = np.array([[0.3, 0.2, 0.3, 0.2], [0.25] * 4])
    wanted = {1: 0.725, 2: 0.45, 3: 0.225, 4: 0.0, 7: 0.0}
    for k, mean in wanted.items():
        layer = aux_loss(f"<trimmed_lasso> k {k}", 4, 0, target, "f64")
        assert abs(2.0 * layer(values) - mean) < 1e-15


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["sum_to_k", "gshard_second"])
def test_empty_slots_count_for_nobody(name, target):
    kind = KINDS[name]
    s = softmax(np.random.default_rng(5).normal(size=(4, 5)))
    ids = np.tile(np.arange(kind.slots, dtype=np.int32), (4, 1))
    ids[1, 1:] = -1
    layer = aux_loss(kind.text, 5, kind.slots, target, "f64")
    np.testing.assert_allclose(
        2.0 * layer(s, ids), kind.reference(s, ids), rtol=1e-12
    )


@pytest.mark.parametrize("target", TARGETS)
def test_narrow_scores_are_summed_in_f32(target):
    s = softmax(np.random.default_rng(6).normal(size=(500, 6)))
    narrow = s.astype(np.float16)
    found = aux_loss("<importance>", 6, 0, target, "f16", out="f32")(narrow)
    sums = np.sum(narrow.astype(np.float64), axis=0)
    np.testing.assert_allclose(
        2.0 * found, losses.cv_squared(sums, floor=0.0), rtol=1e-3
    )


# Load.


def load_loss(
    threshold: str, experts: int, k: int, target: str, dtype: str,
    std: float = 0.0, masked: bool = False, grouped: bool = False,
):  # fmt: skip
    """moe.load_loss as an entry of clean, noisy, sigma, mask, groups."""
    row = f"tensor<?x{experts}x{dtype}>"
    inputs, clauses = [("clean", row), ("noisy", row)], []
    if std:
        clauses.append(f"std {std!r}")
    else:
        inputs.append(("sigma", row))
        clauses.append(f"sigma(%sigma : {row})")
    if masked:
        inputs.append(("mask", "tensor<?xi1>"))
        clauses.append("mask(%mask : tensor<?xi1>)")
    if grouped:
        inputs.append(("groups", "tensor<5xi32>"))
        clauses.append("groups(%groups : tensor<5xi32>)")
    eps = "" if std else "eps 1.0e-10"
    body = (
        f"%y = moe.load_loss <{threshold}> %clean, %noisy {' '.join(clauses)}"
        f" k {k} {eps} coefficient 0.5 : {row}, {row} -> tensor<{dtype}>"
    )
    outputs = (("y", f"tensor<{dtype}>"),)
    return compile_body(body, tuple(inputs), outputs, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked, grouped", [(False, False), (True, True)])
@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("std", [0.0, 1.0 / 7.0])
def test_load_losses(std, k, masked, grouped, dtype, target):
    stream = np.random.default_rng(9)
    clean = stream.normal(size=(31, 7)).astype(DTYPES[dtype])
    sigma = (0.1 + stream.random(size=clean.shape)).astype(DTYPES[dtype])
    noise = stream.normal(size=clean.shape)
    noisy = (clean + (std or sigma) * noise).astype(DTYPES[dtype])
    mask = stream.random(31) < 0.6
    given = [clean, noisy] if std else [clean, noisy, sigma]
    given += ([mask] if masked else []) + ([GROUPS] if grouped else [])
    threshold = "kth" if std else "kth_excluding"
    found = load_loss(
        threshold, 7, k, target, dtype, std, masked, grouped
    )(*given)
    wide = [value.astype(np.float64) for value in (clean, noisy, sigma)]

    def reference(live):
        rows = [value[live] for value in wide]
        if std:
            # Without the reference's floor, which V-MoE's code has not.
            chances = vmoe_load(rows[0], rows[1], std, k)
            return losses.cv_squared(np.sum(chances, axis=0), floor=0.0)
        return losses.load_shazeer(*rows, k)

    wanted = 0.5 * mean_of_groups(
        reference, 31, GROUPS if grouped else None, mask if masked else None
    )
    np.testing.assert_allclose(found, wanted, rtol=RTOL[dtype])


@pytest.mark.parametrize("target", TARGETS)
def test_load_of_the_worked_example(target):
    noise = [[0.1, -0.2, 0.3], [0, 0.7, -0.1], [-0.5, 0.2, 0.4], [0.3, 0.1, -0.6]]
    noisy = EXAMPLE + np.array(noise)
    layer = load_loss("kth_excluding", 3, 1, target, "f64")
    found = 2.0 * layer(EXAMPLE, noisy, np.ones((4, 3)))
    assert abs(found - 0.134003) < 1e-6
    layer = load_loss("kth", 3, 1, target, "f64", std=1.0)
    assert abs(2.0 * layer(EXAMPLE, noisy) - 0.098581) < 1e-6


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("threshold", ["kth_excluding", "kth"])
@pytest.mark.parametrize("k", [4, 5, 9])
def test_load_of_all_experts(k, threshold, target):
    """With k >= E everyone is chosen but those at -inf."""
    clean = np.random.default_rng(2).normal(size=(6, 4))
    clean[:3, 0] = -np.inf
    layer = load_loss(threshold, 4, k, target, "f64", std=0.5)
    found = 2.0 * layer(clean, clean)
    if threshold == "kth" and k == 4:
        # The smallest of the row is a threshold as any other.
        chances = vmoe_load(clean, clean, 0.5, 4)
        wanted = losses.cv_squared(np.sum(chances, axis=0))
    else:
        wanted = losses.cv_squared(np.array([3.0, 6.0, 6.0, 6.0]))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("target", TARGETS)
def test_load_at_the_edges(target):
    none = np.empty((0, 4), np.float32)
    layer = load_loss("kth_excluding", 4, 2, target, "f32")
    assert layer(none, none, none) == 0.0
    x = np.zeros((3, 4), np.float32)
    sigma = np.ones((3, 4), np.float32)
    bad = x.copy()
    bad[2, 1] = np.nan
    assert layer(x, x, sigma) == 0.0
    assert np.isnan(layer(bad, bad, sigma))
    masked = load_loss("kth_excluding", 4, 2, target, "f32", masked=True)
    assert masked(bad, bad, sigma, np.array([1, 1, 0], bool)) == 0.0


# Noisy logits.

NOISE = {
    "learned": ("#moe.noisy_top_k<k = 3, weights = {}>", "", True),
    "floor": (
        "#moe.noisy_top_k<k = 3, floor = 0.5, weights = {}>", "floor 0.5", True,
    ),
    "normal": (
        "#moe.noisy_top_k<k = 3, noise = normal, std = 0.3, weights = {}>",
        "std 0.3", False,
    ),
    "gumbel": ("#moe.noisy_top_k<k = 3, noise = gumbel, weights = {}>", "", False),
}  # fmt: skip


@functools.lru_cache(maxsize=None)
def noisy_logits(name: str, experts: int, target: str, dtype: str = "f32"):
    """moe.noisy_logits as an entry of x, noise, random."""
    _, settings, learned = NOISE[name]
    kind = "learned" if learned else name
    row = f"tensor<?x{experts}x{dtype}>"
    inputs, outputs = [("x", row)], [("noisy", row)]
    if learned:
        inputs.append(("noise", row))
        outputs.append(("sigma", row))
        settings += f" noise(%noise : {row})"
    inputs.append(("random", "tensor<3xi64>"))
    names = ", ".join(f"%{name}" for name, _ in outputs)
    body = (
        f"{names} = moe.noisy_logits <{kind}> %x {settings}"
        f" draw(%seed, %layer, %first) : {row} -> "
        + ", ".join(kind for _, kind in outputs)
    )
    return compile_body(body, tuple(inputs), tuple(outputs), target)


def noisy_data(tokens=60, experts=13, dtype="f32"):
    """Logits and raw noise, with an absent expert and large numbers."""
    stream = np.random.default_rng(17)
    x = (2.0 * stream.normal(size=(tokens, experts))).astype(DTYPES[dtype])
    raw = stream.normal(size=x.shape).astype(DTYPES[dtype])
    x[3, 2] = -np.inf
    raw[4] = 40.0
    raw[5] = -90.0
    return x, raw


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NOISE)
def test_noisy_logits(name, dtype, target):
    x, raw = noisy_data(dtype=dtype)
    learned = NOISE[name][2]
    state = random_state(5, 1, 40)
    given = [x, raw, state] if learned else [x, state]
    found = noisy_logits(name, 13, target, dtype)(*given)
    noise = philox.normals(5, len(x), 13, 1, 40)
    sigma = np.full(x.shape, 0.3)
    if name == "gumbel":
        noise, sigma = philox.gumbels(5, len(x), 13, 1, 40), 1.0
    if learned:
        floor = 0.5 if name == "floor" else 0.01
        sigma = np.logaddexp(0.0, raw.astype(np.float64)) + floor
        np.testing.assert_allclose(found.sigma, sigma, rtol=RTOL[dtype])
        found = found.noisy
    wanted = x + sigma * noise
    scale = np.maximum(1.0, np.maximum(np.abs(sigma * noise), np.abs(x)))
    finite = np.isfinite(x)
    error = np.abs(found - wanted)[finite] / scale[finite]
    assert np.all(error <= RTOL[dtype])
    assert np.all(found[~finite] == -np.inf) and (~finite).sum() == 1


@pytest.mark.parametrize("weights", ["chosen", "all"])
@pytest.mark.parametrize("name", NOISE)
def test_route_on_noisy_logits_is_the_router_in_training(name, weights):
    x, raw = noisy_data(500, 20)
    attribute = NOISE[name][0].format(weights)
    learned = NOISE[name][2]
    state = random_state(8, 2, 2**33)
    given = [x, raw, state] if learned else [x, state]
    noisy = noisy_logits(name, 20, "cpu")(*given)
    noisy = noisy.noisy if learned else noisy
    two = router(attribute, 20, 3, "cpu")(noisy)
    one = router(attribute, 20, 3, "cpu", training=True, noise=learned)(
        *given
    )
    assert np.array_equal(one.ids, two.ids)
    assert np.array_equal(one.weights, two.weights)
    assert not np.array_equal(one.ids, router(attribute, 20, 3, "cpu")(x).ids)


def test_noisy_logits_do_not_depend_on_the_split():
    x, raw = noisy_data(75, 16)
    layer = noisy_logits("learned", 16, "cpu")
    whole = layer(x, raw, random_state(4, 1, 100)).noisy
    parts = [
        layer(x[:37].copy(), raw[:37].copy(), random_state(4, 1, 100)).noisy,
        layer(x[37:].copy(), raw[37:].copy(), random_state(4, 1, 137)).noisy,
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    other = layer(x, raw, random_state(4, 2, 100)).noisy
    assert not np.array_equal(whole, other)
    none = np.empty((0, 16), np.float32)
    assert layer(none, none, random_state(4)).noisy.shape == (0, 16)


@pytest.mark.parametrize("target", TARGETS)
def test_noisy_gating_with_its_losses(target):
    """Gate, noise, route, load and importance in one entry."""
    text = """%logits = moe.gate %x, %w
      : (tensor<?x6xf32>, tensor<5x6xf32>) -> tensor<?x5xf32>
  %raw = moe.gate %x, %wn
      : (tensor<?x6xf32>, tensor<5x6xf32>) -> tensor<?x5xf32>
  %noisy, %sigma = moe.noisy_logits <learned> %logits
      noise(%raw : tensor<?x5xf32>) draw(%seed, %layer, %first)
      : tensor<?x5xf32> -> tensor<?x5xf32>, tensor<?x5xf32>
  %ids, %weights = moe.route #moe.noisy_top_k<k = 2> %noisy
      : tensor<?x5xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %load = moe.load_loss <kth_excluding> %logits, %noisy
      sigma(%sigma : tensor<?x5xf32>) k 2 eps 1.0e-10 coefficient 1.0
      : tensor<?x5xf32>, tensor<?x5xf32> -> tensor<f32>
  %sums = moe.expert_load %ids weights(%weights : tensor<?x2xf32>)
      : tensor<?x2xi32> -> tensor<5xf32>
  %row = tensor.expand_shape %sums [[0, 1]] output_shape [1, 5]
      : tensor<5xf32> into tensor<1x5xf32>
  %importance = moe.aux_loss <importance> %row eps 1.0e-10 coefficient 1.0
      : tensor<1x5xf32> -> tensor<f32>"""
    layer = compile_body(
        text,
        (("x", "tensor<?x6xf32>"), ("w", "tensor<5x6xf32>"),
         ("wn", "tensor<5x6xf32>"), ("random", "tensor<3xi64>")),
        (("load", "tensor<f32>"), ("importance", "tensor<f32>"),
         ("ids", "tensor<?x2xi32>")),
        target,
    )  # fmt: skip
    stream = np.random.default_rng(23)
    x = stream.normal(size=(40, 6)).astype(np.float32)
    w, wn = stream.normal(size=(2, 5, 6)).astype(np.float32)
    found = layer(x, w, wn, random_state(3))
    wide = x.astype(np.float64)
    wanted = noisy_top_k(
        wide @ w.T, 2, wide @ wn.T, philox.normals(3, 40, 5)
    )
    assert np.array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(
        found.load, losses.cv_squared(wanted.load), rtol=1e-4
    )
    gates = losses.dense_weights(wanted.ids, wanted.weights, 5)
    np.testing.assert_allclose(
        found.importance, losses.importance(gates), rtol=1e-4
    )


# Expert load, selection bias.


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tokens", [0, 1, 300])
def test_expert_load(tokens, target):
    stream = np.random.default_rng(31)
    ids = stream.integers(-1, 10, size=(tokens, 3)).astype(np.int32)
    weights = stream.random(size=ids.shape).astype(np.float32)
    kind = "tensor<?x3xi32>"
    count = compile_body(
        f"%y = moe.expert_load %i : {kind} -> tensor<9xi32>",
        (("i", kind),), (("y", "tensor<9xi32>"),), target,
    )  # fmt: skip
    found = count(ids)
    # Past E too: identity experts have no load.
    known = np.where(ids < 9, ids, -1)
    assert np.array_equal(found, losses.expert_counts(known, 9))
    total = compile_body(
        f"%y = moe.expert_load %i weights(%w : tensor<?x3xf32>) : {kind}"
        " -> tensor<9xf32>",
        (("i", kind), ("w", "tensor<?x3xf32>")), (("y", "tensor<9xf32>"),),
        target,
    )  # fmt: skip
    wide = weights.astype(np.float64)
    wanted = losses.dense_weights(known, wide, 9).sum(axis=0)
    np.testing.assert_allclose(total(ids, weights), wanted, rtol=2e-5)


def update_bias(
    experts: int, target: str, counts: str = "i32", dtype: str = "f32",
    rate: float = 1e-3,
):  # fmt: skip
    """moe.update_bias as an entry."""
    row, given = f"tensor<{experts}x{dtype}>", f"tensor<{experts}x{counts}>"
    return compile_body(
        f"%y = moe.update_bias %b, %c rate {rate!r} : {row}, {given} -> {row}",
        (("b", row), ("c", given)),
        (("y", row),),
        target,
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "counts, kind", [("i32", np.int32), ("f32", np.float32), ("f64", np.float64)]
)
def test_update_of_the_bias(kind, counts, target):
    stream = np.random.default_rng(37)
    for experts in (1, 4, 7, 64):
        layer = update_bias(experts, target, counts)
        for _ in range(3):
            bias = stream.normal(size=experts).astype(np.float32)
            # The first expert has exactly the mean, 300, of numbers whose
            # shares of it are no binary fractions: its sign is 0.
            given = 300 + stream.integers(-9, 10, size=experts)
            given[0] = 300
            given[-1] += 300 * experts - given.sum()
            assert given[0] == np.mean(given)
            wanted = global_routers.update_bias(bias, given)
            found = layer(bias, given.astype(kind))
            np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-7)
            assert found[0] == bias[0]


@pytest.mark.parametrize("target", TARGETS)
def test_update_of_the_bias_by_hand(target):
    layer = update_bias(4, target, dtype="f64", rate=0.25)
    bias = np.array([0.5, -1.0, 0.0, 2.0])
    found = layer(bias, np.array([3, 9, 6, 6], np.int32))
    assert found.tolist() == [0.75, -1.25, 0.0, 2.0]
    # Sums past 2^31 are exact.
    large = np.array([2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 2], np.int32)
    assert layer(bias, large).tolist() == [0.25, -1.25, -0.25, 2.25]
    equal = np.full(4, 2**31 - 1, np.int32)
    assert layer(bias, equal).tolist() == bias.tolist()
    floats = update_bias(4, target, "f64", "f64", 0.25)
    assert np.isnan(floats(bias, np.array([1.0, np.nan, 2.0, 3.0]))).all()


@pytest.mark.parametrize("target", TARGETS)
def test_a_step_of_training_balances(target):
    """Counts of a route move its bias until nobody starves."""
    text = """%ids, %weights = moe.route #moe.top_k<k = 2, score = sigmoid> %x
      bias(%b : tensor<6xf32>)
      : tensor<?x6xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %counts = moe.expert_load %ids : tensor<?x2xi32> -> tensor<6xi32>
  %new = moe.update_bias %b, %counts rate 0.02
      : tensor<6xf32>, tensor<6xi32> -> tensor<6xf32>"""
    layer = compile_body(
        text,
        (("x", "tensor<?x6xf32>"), ("b", "tensor<6xf32>")),
        (("counts", "tensor<6xi32>"), ("new", "tensor<6xf32>")),
        target,
    )
    x = np.random.default_rng(41).normal(size=(600, 6)).astype(np.float32)
    x[:, 0] += 2.0
    bias = np.zeros(6, np.float32)
    counts = []
    for _ in range(40):
        step = layer(x, bias)
        wanted = global_routers.update_bias(bias, step.counts, 0.02)
        np.testing.assert_allclose(step.new, wanted, atol=1e-7)
        bias = step.new
        counts.append(step.counts)
    assert counts[0].max() > 450 and counts[-1].max() < 260
