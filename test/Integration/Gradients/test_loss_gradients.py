# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backwards of losses, and of the noise and rows in front of them."""

from __future__ import annotations

import numpy as np
import pytest
from op_gradients import TARGETS, backward, check, write_body

import losses  # noqa: E402, found by way of op_gradients
from token_routers import best, softmax  # noqa: E402

EXPERTS, TOKENS = 5, 12
GROUPS = np.array([0, 4, 4, 7, 12], dtype=np.int32)  # One is empty.
ONE_GROUP = np.array([0, TOKENS], dtype=np.int32)
RANDOM = np.array([8, 3, 70], dtype=np.int64)


def mask_of(seed: int = 1) -> np.ndarray:
    """Some tokens, and none of a whole group."""
    mask = np.random.default_rng(seed).random(TOKENS) < 0.7
    mask[4:7] = False
    return mask


MASKED = {"mask": "tensor<?xi1>", "groups": "tensor<?xi32>"}
CLAUSES = " mask(%mask : tensor<?xi1>) groups(%groups : tensor<?xi32>)"
LEFT_OUT = {"mask": mask_of(), "groups": GROUPS}
ALL_LIVE = {"mask": np.ones(TOKENS, bool), "groups": ONE_GROUP}


# aux_loss.

# Text, what it reads of logits, slots of its ids.
KINDS = {
    "switch": ("<balance> {ids}", "scores", 1),
    "top_3": ("<balance> {ids}", "scores", 3),
    "per_slot": ("<balance> {ids} per_slot", "scores", 3),
    "gshard": ("<first_place> {ids}", "scores", 2),
    "gshard_second": ("<second_place> {ids}", "scores", 2),
    "importance": ("<importance> eps 1.0e-1", "scores", 0),
    "tutel": ("<importance> unbiased eps 1.0e-10", "scores", 0),
    "vmoe": ("<importance>", "scores", 0),
    "z": ("<z>", "logits", 0),
    "lasso_1": ("<trimmed_lasso> k 1", "scores", 0),
    "lasso_3": ("<trimmed_lasso> k 3", "scores", 0),
    "lasso_all": ("<trimmed_lasso> k 5", "scores", 0),
    "entropy": ("<entropy>", "scores", 0),
    "mesh": ("<token_balance>", "logits", 0),
    "remoe": ("<l1_balance> k 2", "relu", 0),
}


def aux_loss(
    name: str, masked=True, dtype="f64", experts=EXPERTS, front="", out="f64"
):
    """moe.aux_loss of the input x; `front` computes %s of %x."""
    text, _, slots = KINDS[name]
    row = f"tensor<?x{experts}x{dtype}>"
    inputs = {"x": row}
    if slots:
        ids = f"tensor<?x{slots}xi32>"
        inputs["ids"] = ids
        text = text.replace("{ids}", f"ids(%ids : {ids})")
    kind, _, settings = text.partition(" ")
    scores = "%s" if front else "%x"
    if masked:
        inputs |= MASKED
        settings += CLAUSES
    body = (
        f"{front}\n  %loss = moe.aux_loss {kind} {scores} {settings}"
        f" coefficient 0.5 : {row} -> tensor<{out}>"
    )
    return write_body(body, inputs, {"loss": f"tensor<{out}>"})


def scores_of(name: str, x: np.ndarray) -> np.ndarray:
    """What the loss reads of logits."""
    of = KINDS[name][1]
    if of == "scores":
        return softmax(x)
    # The counts jump at 0: judged away from there.
    return np.where(x > 0.0, x + 0.1, -0.1) if of == "relu" else x


def ids_of(name: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """The choice of plain top-k, with one empty slot."""
    slots = KINDS[name][2]
    if not slots:
        return {}
    ids = np.array([best(row, slots) for row in x], dtype=np.int32)
    ids = ids.reshape(-1, slots)
    if slots > 1 and len(ids):
        ids[0, 1:] = -1
    return {"ids": ids}


def logits(tokens=TOKENS, experts=EXPERTS, seed=3) -> np.ndarray:
    """Random ones."""
    return np.random.default_rng(seed).normal(size=(tokens, experts))


@pytest.mark.parametrize("name", KINDS)
def test_aux_losses(name):
    values = scores_of(name, logits())
    given = {"x": values, **ids_of(name, values)}
    found = check(aux_loss(name), {**given, **LEFT_OUT}, ["loss"], ["x"])
    assert np.all(found["x"][~mask_of()] == 0.0)
    assert np.any(found["x"]) == (name != "lasso_all")
    one = {key: value[:1] for key, value in {**given, **ALL_LIVE}.items()}
    one["groups"] = np.array([0, 1, 1], dtype=np.int32)
    check(aux_loss(name), one, ["loss"], ["x"])


def of_logits(name: str):
    """The reference's gradient by the logits of a softmax."""
    return {
        "switch": lambda x, i, m: losses.balance_gradient(x, i, "k", m),
        "per_slot": lambda x, i, m: losses.balance_gradient(x, i, "one", m),
        "tutel": lambda x, i, m: losses.importance_gradient(x, True, m),
        "z": lambda x, i, m: losses.z_loss_gradient(x, m),
        "lasso_3": lambda x, i, m: losses.trimmed_lasso_gradient(x, 3, m),
        "entropy": lambda x, i, m: losses.entropy_gradient(x, m),
    }[name]


@pytest.mark.parametrize(
    "name", ["switch", "per_slot", "tutel", "z", "lasso_3", "entropy"]
)
def test_references_of_logits(name):
    x, mask = logits(), mask_of()
    front = ""
    if KINDS[name][1] == "scores":
        row = f"tensor<?x{EXPERTS}xf64>"
        front = f"%s = moe.score %x by softmax : {row} -> {row}"
    ids = ids_of(name, x)
    if ids:
        ids["ids"][0] = best(x[0], ids["ids"].shape[1])
    found = backward(
        aux_loss(name, front=front),
        {"x": x, **ids, "mask": mask, "groups": ONE_GROUP},
        {"loss": np.array(2.0)}, ["x"], "cpu",
    )  # fmt: skip
    wanted = of_logits(name)(x, ids.get("ids"), mask)
    np.testing.assert_allclose(found["x"], wanted, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("target", TARGETS)
def test_the_relu_of_remoe(target):
    row = f"tensor<?x{EXPERTS}xf64>"
    front = f"""%zero = arith.constant 0.0 : f64
  %c0 = arith.constant 0 : index
  %t = tensor.dim %x, %c0 : {row}
  %z = tensor.splat %zero[%t] : {row}
  %s = arith.maximumf %x, %z : {row}"""
    x = logits()
    x[0] = 0.0  # Closed.
    found = backward(
        aux_loss("remoe", False, front=front), {"x": x},
        {"loss": np.array(2.0)}, ["x"], target,
    )  # fmt: skip
    wanted = losses.remoe_gradient(np.maximum(x, 0.0), 2)
    np.testing.assert_allclose(found["x"], wanted, rtol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KINDS)
def test_without_tokens(name, target):
    text = aux_loss(name)
    slots = KINDS[name][2]
    ids = {"ids": np.zeros((3, slots), np.int32)} if slots else {}
    nan = np.full((3, EXPERTS), np.nan)
    groups = np.array([0, 0, 3], dtype=np.int32)
    given = {"x": nan, **ids, "mask": np.zeros(3, bool), "groups": groups}
    cotangent = {"loss": np.array(1.0)}
    found = backward(text, given, cotangent, ["x"], target)["x"]
    np.testing.assert_array_equal(found, np.zeros((3, EXPERTS)))
    none = {k: v[:0] for k, v in given.items() if k != "groups"}
    none["groups"] = np.zeros(2, np.int32)
    assert backward(text, none, cotangent, ["x"], target)["x"].size == 0


@pytest.mark.parametrize("name", ["switch", "tutel", "z", "lasso_3", "mesh"])
def test_one_expert(name):
    values = scores_of(name, np.abs(logits(4, 1)))
    given = {"x": values, **ids_of(name, values)}
    check(aux_loss(name, False, experts=1), given, ["loss"], ["x"])


@pytest.mark.parametrize("target", TARGETS)
def test_ties_of_the_trimmed_lasso(target):
    values = np.array([[0.3, 0.2, 0.3, 0.2, 0.0], [0.2] * 5])
    found = backward(
        aux_loss("lasso_3", False), {"x": values}, {"loss": np.array(4.0)}, ["x"],
        target,
    )  # fmt: skip
    np.testing.assert_array_equal(
        found["x"], [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    )


@pytest.mark.parametrize("target", TARGETS)
def test_zero_scores_have_no_entropy(target):
    values = np.array([[0.5, 0.5, 0.0, 0.0, 0.0], [1.0, 0, 0, 0, 0]])
    found = backward(
        aux_loss("entropy", False), {"x": values}, {"loss": np.array(4.0)}, ["x"],
        target,
    )  # fmt: skip
    level = np.log(2.0) - 1.0
    np.testing.assert_allclose(
        found["x"], [[level, level, 0, 0, 0], [-1, 0, 0, 0, 0]], rtol=1e-15
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["z", "entropy", "lasso_3", "gshard_second"])
def test_nan_stays_in_its_token(name, target):
    values = scores_of(name, logits())
    given = {"x": values, **ids_of(name, values), **ALL_LIVE}
    cotangent = {"loss": np.array(1.0)}
    clean = backward(aux_loss(name), given, cotangent, ["x"], target)["x"]
    values[3, 1] = np.nan
    found = backward(aux_loss(name), given, cotangent, ["x"], target)["x"]
    others = np.arange(TOKENS) != 3
    np.testing.assert_array_equal(found[others], clean[others])
    # What is outside of the k largest is the least, which NaN counts as.
    assert np.isnan(found[3]).any() == (name != "lasso_3")


NARROW = [
    (name, "f32", 2e-5)
    for name in ("top_3", "gshard_second", "tutel", "z", "entropy", "mesh")
] + [(name, "f16", 1e-3) for name in ("importance", "mesh", "lasso_1")]


@pytest.mark.parametrize("name, dtype, rtol", NARROW)
def test_narrow_scores(name, dtype, rtol):
    values = scores_of(name, logits()).astype(np.float16)
    given = {**ids_of(name, values), **LEFT_OUT}
    wanted = backward(
        aux_loss(name), {"x": values.astype(np.float64), **given},
        {"loss": np.array(1.5)}, ["x"], "oracle",
    )["x"]  # fmt: skip
    kind = np.dtype(f"float{dtype[1:]}")
    found = backward(
        aux_loss(name, dtype=dtype, out="f32"),
        {"x": values.astype(kind), **given},
        {"loss": np.array(1.5, np.float32)}, ["x"], "cpu",
    )["x"]  # fmt: skip
    assert found.dtype == kind
    atol = rtol * np.max(np.abs(wanted)) + 1e-7
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)


# load_loss and noisy_logits.


def load_loss(threshold: str, k: int, std: float, masked=True):
    """moe.load_loss of clean, noisy and, without std, sigma."""
    row = f"tensor<?x{EXPERTS}xf64>"
    inputs = {"clean": row, "noisy": row}
    clauses = f"std {std!r}"
    if not std:
        inputs["sigma"] = row
        clauses = f"sigma(%sigma : {row})"
    if masked:
        inputs |= MASKED
        clauses += CLAUSES
    body = (
        f"%loss = moe.load_loss <{threshold}> %clean, %noisy {clauses} k {k}"
        f" eps 1.0e-10 coefficient 0.5 : {row}, {row} -> tensor<f64>"
    )
    return write_body(body, inputs, {"loss": "tensor<f64>"})


def noisy_values(std: float) -> dict[str, np.ndarray]:
    """Logits, noisy ones, and what scales the noise."""
    stream = np.random.default_rng(9)
    clean = stream.normal(size=(TOKENS, EXPERTS))
    sigma = 0.3 + stream.random(size=clean.shape)
    given = {"clean": clean, "sigma": sigma}
    given["noisy"] = clean + (std or sigma) * stream.normal(size=clean.shape)
    if std:
        del given["sigma"]
    return given


@pytest.mark.parametrize(
    "threshold, k, std",
    [("kth", 1, 0.5), ("kth", 3, 0.0), ("kth", 5, 0.5), ("kth", 6, 0.0),
     ("kth_excluding", 1, 0.0), ("kth_excluding", 2, 0.5),
     ("kth_excluding", 4, 0.0), ("kth_excluding", 5, 0.0)],
)  # fmt: skip
def test_load_losses(threshold, k, std):
    given = noisy_values(std)
    text = load_loss(threshold, k, std)
    found = check(text, {**given, **LEFT_OUT}, ["loss"], list(given))
    has_none = k > EXPERTS or (k == EXPERTS and threshold == "kth_excluding")
    for gradient in found.values():
        assert np.any(gradient) != has_none
        assert np.all(gradient[~mask_of()] == 0.0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("threshold", ["kth", "kth_excluding"])
def test_who_holds_a_tied_threshold(threshold, target):
    given = {
        "clean": np.array([[0.2, 0.1, 0.4, -np.inf, 0.3]]),
        "noisy": np.array([[1.0, 0.5, 1.0, -np.inf, 1.0]]),
    }
    found = backward(
        load_loss(threshold, 2, 0.5, False), given, {"loss": np.array(1.0)},
        ["clean", "noisy"], target,
    )  # fmt: skip
    holders = [2] if threshold == "kth" else [2, 4]
    assert list(np.nonzero(found["noisy"][0])[0]) == holders
    assert list(np.nonzero(found["clean"][0])[0]) == [0, 1, 2, 4]
    np.testing.assert_allclose(
        np.sum(found["noisy"]), -np.sum(found["clean"]), rtol=1e-12
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_load_without_tokens(target):
    given = {k: np.full((2, EXPERTS), np.nan) for k in noisy_values(0.0)}
    text = load_loss("kth_excluding", 4, 0.0)
    more = {"mask": np.zeros(2, bool), "groups": np.array([0, 2], np.int32)}
    found = backward(
        text, {**given, **more}, {"loss": np.array(1.0)}, list(given), target
    )
    for gradient in found.values():
        np.testing.assert_array_equal(gradient, np.zeros((2, EXPERTS)))


def noisy_logits(kind: str, settings: str, dtype="f64") -> str:
    """moe.noisy_logits of x and, where learned, raw."""
    row = f"tensor<?x{EXPERTS}x{dtype}>"
    inputs, outputs, clause = {"x": row}, {"noisy": row}, settings
    if kind == "learned":
        inputs["raw"] = row
        outputs["sigma"] = row
        clause = f"noise(%raw : {row}) {settings}"
    inputs["random"] = "tensor<3xi64>"
    values = ", ".join(f"%{name}" for name in outputs)
    body = (
        f"{values} = moe.noisy_logits <{kind}> %x {clause}"
        f" draw(%seed, %layer, %first)\n"
        f"      : {row} -> {', '.join(outputs.values())}"
    )
    return write_body(body, inputs, outputs)


@pytest.mark.parametrize(
    "kind, settings",
    [("learned", ""), ("learned", "floor 0.5"), ("normal", "std 0.5"),
     ("gumbel", "")],
)  # fmt: skip
def test_noisy_logits(kind, settings):
    given = {"x": logits(), "random": RANDOM}
    outputs, wrt = ["noisy"], ["x"]
    if kind == "learned":
        given["raw"] = 3.0 * logits(seed=5)
        outputs, wrt = ["noisy", "sigma"], ["x", "raw"]
    check(noisy_logits(kind, settings), given, outputs, wrt)


@pytest.mark.parametrize("target", TARGETS)
def test_noise_far_from_zero(target):
    raw = np.full((4, EXPERTS), 800.0)
    raw[1] = -800.0
    raw[2] = -np.inf
    given = {"x": np.zeros(raw.shape), "raw": raw, "random": RANDOM}
    ones = np.ones(raw.shape)
    found = backward(
        noisy_logits("learned", ""), given, {"noisy": 0 * ones, "sigma": ones},
        ["raw"], target,
    )["raw"]  # fmt: skip
    np.testing.assert_array_equal(found[[0, 3]], ones[[0, 3]])
    np.testing.assert_array_equal(found[[1, 2]], 0 * ones[[1, 2]])


def test_shazeers_gating():
    """Noise, load and importance of one layer, as docs/Losses.md has it."""
    row, weight = f"tensor<?x{EXPERTS}xf64>", f"tensor<{EXPERTS}x3xf64>"
    tokens = "tensor<?x3xf64>"
    body = f"""%clean = moe.gate %x, %w : ({tokens}, {weight}) -> {row}
  %raw = moe.gate %x, %wn : ({tokens}, {weight}) -> {row}
  %noisy, %sigma = moe.noisy_logits <learned> %clean noise(%raw : {row})
      draw(%seed, %layer, %first) : {row} -> {row}, {row}
  %ids, %weights = moe.route #moe.noisy_top_k<k = 2> %noisy
      : {row} -> tensor<?x2xi32>, tensor<?x2xf64>
  %load = moe.load_loss <kth_excluding> %clean, %noisy sigma(%sigma : {row})
      k 2 eps 1.0e-10 coefficient 0.1 : {row}, {row} -> tensor<f64>
  %gates = moe.expert_load %ids weights(%weights : tensor<?x2xf64>)
      : tensor<?x2xi32> -> tensor<{EXPERTS}xf64>
  %list = tensor.expand_shape %gates [[0, 1]] output_shape [1, {EXPERTS}]
      : tensor<{EXPERTS}xf64> into tensor<1x{EXPERTS}xf64>
  %importance = moe.aux_loss <importance> %list eps 1.0e-10 coefficient 0.1
      : tensor<1x{EXPERTS}xf64> -> tensor<f64>"""
    text = write_body(
        body,
        {"x": tokens, "w": weight, "wn": weight, "random": "tensor<3xi64>"},
        {"load": "tensor<f64>", "importance": "tensor<f64>",
         "ids": "tensor<?x2xi32>"},
    )  # fmt: skip
    stream = np.random.default_rng(2)
    given = {
        "x": stream.normal(size=(TOKENS, 3)),
        "w": stream.normal(size=(EXPERTS, 3)),
        "wn": stream.normal(size=(EXPERTS, 3)),
        "random": RANDOM,
    }
    check(text, given, ["load", "importance"], ["x", "w", "wn"])


# Rows.


def test_jitter():
    row = "tensor<?x6xf64>"
    body = f"%y = moe.jitter %x eps 0.25 draw(%seed, %layer, %first)" \
        f" : {row} -> {row}"
    text = write_body(
        body, {"x": row, "random": "tensor<3xi64>"}, {"y": row}
    )
    given = {"x": logits(7, 6), "random": RANDOM}
    found = check(text, given, ["y"], ["x"])
    assert np.any(found["x"])


def unit_rows(mode: str, eps: float, scaled: bool, dtype="f64") -> str:
    """moe.unit_rows of x, and of a scale."""
    row = f"tensor<?x6x{dtype}>"
    inputs, clause = {"x": row}, ""
    if scaled:
        inputs["s"] = f"tensor<{dtype}>"
        clause = f"scale(%s : tensor<{dtype}>)"
    body = f"%y = moe.unit_rows %x eps <{mode}> {eps:e} {clause}" \
        f" : {row} -> {row}"
    return write_body(body, inputs, {"y": row})


@pytest.mark.parametrize(
    "mode, eps, scaled",
    [("clamp", 1e-12, True), ("clamp", 3.0, True), ("clamp", 0.0, False),
     ("add", 1e-6, False), ("add", 2.0, True)],
)  # fmt: skip
def test_unit_rows(mode, eps, scaled):
    x = logits(7, 6)
    x[1] *= 0.1
    given, wrt = {"x": x}, ["x"]
    if scaled:
        given["s"], wrt = np.array(1.7), ["x", "s"]
    check(unit_rows(mode, eps, scaled), given, ["y"], wrt)
    empty = backward(
        unit_rows(mode, eps, scaled), {**given, "x": x[:0]},
        {"y": x[:0]}, wrt, "cpu",
    )  # fmt: skip
    assert empty["x"].shape == (0, 6)
    assert not scaled or empty["s"] == 0.0


@pytest.mark.parametrize("target", TARGETS)
def test_rows_of_zeros_and_of_nan(target):
    x = logits(4, 6)
    x[1] = 0.0
    x[2, 3] = np.nan
    cotangent = logits(4, 6, seed=8)
    for mode, eps, length in (("clamp", 0.5, 0.5), ("add", 0.25, 0.5)):
        found = backward(
            unit_rows(mode, eps, False), {"x": x}, {"y": cotangent}, ["x"],
            target,
        )["x"]  # fmt: skip
        np.testing.assert_allclose(found[1], cotangent[1] / length, rtol=1e-14)
        assert np.isnan(found[2]).all()
        assert np.isfinite(found[[0, 3]]).all()


def test_a_row_op_in_front_of_a_gate():
    """What is recomputed for the gradient of the weight."""
    tokens, weight = "tensor<?x6xf64>", "tensor<5x6xf64>"
    body = f"""%j = moe.jitter %x eps 0.1 draw(%seed, %layer, %first)
      : {tokens} -> {tokens}
  %u = moe.unit_rows %j eps <add> 1.0e-6 : {tokens} -> {tokens}
  %y = moe.gate %u, %w : ({tokens}, {weight}) -> tensor<?x5xf64>"""
    text = write_body(
        body, {"x": tokens, "w": weight, "random": "tensor<3xi64>"},
        {"y": "tensor<?x5xf64>"},
    )
    given = {"x": logits(9, 6), "w": logits(5, 6, seed=7), "random": RANDOM}
    check(text, given, ["y"], ["x", "w"])
