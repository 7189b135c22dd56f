# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gradients of token choices whose backward is a derivative, of scores, of
capacities and of gates."""

from __future__ import annotations

import numpy as np
import pytest
from differences import (
    TARGETS,
    Function,
    check,
    random_state,
    run_gradients,
)
from expert_layers import draw_ids


def route(
    attribute: str,
    experts: int,
    k: int,
    clauses: str = "",
    more: tuple[tuple[str, str], ...] = (),
) -> Function:
    """A route of the input x; ids are a result, so that differences see that
    they stay the same."""
    row, ids = f"tensor<?x{experts}xf64>", f"tensor<?x{k}xi32>"
    weights = f"tensor<?x{k}xf64>"
    body = (
        f"  %ids, %w = moe.route {attribute} %x {clauses}\n"
        f"    : {row} -> {ids}, {weights}"
    )
    return Function(
        (("x", row), *more), (("ids", ids), ("w", weights)), body
    )


def draw_logits(tokens: int, experts: int, seed: int = 3) -> np.ndarray:
    return 1.5 * np.random.default_rng(seed).normal(size=(tokens, experts))


TOP_K = [
    "k = 3",
    "k = 3, score = sigmoid",
    "k = 3, score = sqrt_softplus",
    "k = 3, score = none",
    "k = 3, domain = topk",
    "k = 3, score = sigmoid, domain = topk",
    "k = 3, softcap = 2.0",
    "k = 3, softcap = 2.0, score = sigmoid, normalize = sum, eps = 1.0e-3",
    "k = 3, normalize = sum",
    "k = 3, domain = topk, normalize = sum, scale = 2.5",
    "k = 3, normalize = sum, eps = 0.1",
    "k = 3, normalize = sum, eps = 0.2, eps_mode = clamp",
    "k = 3, score = sigmoid, normalize = sum, eps = 9.0, eps_mode = clamp",
    "k = 3, score = sqrt_softplus, normalize = pnorm, p = 3.0",
    "k = 3, normalize = pnorm, p = 2.0, eps = 0.1, scale = 0.5",
    "k = 3, score = none, normalize = pnorm, p = 2.0, eps = 1.5,"
    " eps_mode = clamp",
    "k = 2, groups = 4, kept_groups = 2, score = sigmoid, normalize = sum",
    "k = 3, groups = 4, kept_groups = 2, group_score = top2sum,"
    " group_fill = zero, score = sigmoid, normalize = sum, eps = 1.0e-20",
    "k = 1",
    "k = 8, normalize = sum",
    "k = 8, score = sigmoid, softcap = 3.0",
]


@pytest.mark.parametrize("place", range(len(TOP_K)))
def test_top_k(place):
    k = int(TOP_K[place].split()[2].rstrip(","))
    function = route(f"#moe.top_k<{TOP_K[place]}>", 8, k)
    check(function, {"x": draw_logits(9, 8)}, (TARGETS[place % 2], "minimal"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "settings", ["normalize = sum", "domain = topk, scale = 2.0"]
)
def test_expert_scale(settings, target):
    function = route(
        f"#moe.top_k<k = 3, {settings}>", 8, 3,
        "expert_scale(%s : tensor<8xf64>)", (("s", "tensor<8xf64>"),),
    )  # fmt: skip
    values = {"x": draw_logits(9, 8), "s": np.linspace(0.5, 2.0, 8)}
    found = check(function, values, (target, "minimal"))
    assert np.all(found["d_s"] != 0)


@pytest.mark.parametrize("target", TARGETS)
def test_bias_and_mask(target):
    # A bias moves the choice alone, a masked token has nothing.
    function = route(
        "#moe.top_k<k = 3, score = sigmoid, normalize = sum>", 8, 3,
        "bias(%b : tensor<8xf64>) mask(%m : tensor<?xi1>)",
        (("b", "tensor<8xf64>"), ("m", "tensor<?xi1>")),
    )  # fmt: skip
    mask = np.arange(9) % 3 != 1
    x = draw_logits(9, 8)
    x[1] = np.nan
    values = {"x": x, "b": np.linspace(-1, 1, 8), "m": mask}
    found = check(function, values, (target, "minimal"))
    assert np.all(found["d_b"] == 0) and np.all(found["d_x"][~mask] == 0)
    assert np.all(np.any(found["d_x"][mask] != 0, axis=1))


@pytest.mark.parametrize(
    "settings",
    [
        "normalize = sum",
        "score = sigmoid, normalize = pnorm, p = 2.0",
        "domain = topk",
        "score = softmax, softcap = 2.0",
    ],
)
def test_given_indices(settings):
    function = route(
        f"#moe.top_k<k = 3, {settings}>", 8, 3,
        "indices(%i : tensor<?x3xi32>)", (("i", "tensor<?x3xi32>"),),
    )  # fmt: skip
    ids = draw_ids(np.random.default_rng(4), 7, 8, 3)
    ids[1, 0] = ids[2, 1:] = ids[3] = -1
    values = {"x": draw_logits(7, 8), "i": ids}
    found = check(function, values, (TARGETS["topk" in settings], "minimal"))
    assert np.all(found["d_x"][3] == 0)


def test_experts_at_minus_infinity():
    x = draw_logits(5, 8)
    x[0, 2:] = -np.inf
    x[1, ::2] = -np.inf
    for settings in ("normalize = sum", "score = sigmoid"):
        function = route(f"#moe.top_k<k = 3, {settings}>", 8, 3)
        source = function.source()
        found = run_gradients(source, {"x": x}, "cpu", "minimal")
        assert np.all(np.isfinite(found[2]["d_x"])), settings


INFERENCE = [
    ("#moe.exact_k<k = 3>", 3),
    ("#moe.exact_k<k = 3, normalize = sum>", 3),
    ("#moe.dynamic_k<min = 2, max = 4>", 4),
    ("#moe.dynamic_k<min = 1, max = 4, normalize = sum>", 4),
    ("#moe.moesart<k = 3>", 3),
    ("#moe.noisy_top_k<k = 3>", 3),
    ("#moe.noisy_top_k<k = 3, noise = normal, std = 0.5, weights = all>", 3),
]


@pytest.mark.parametrize("place", range(len(INFERENCE)))
def test_inference_of_routers_that_sample(place):
    attribute, k = INFERENCE[place]
    function = route(attribute, 8, k)
    found = check(
        function, {"x": draw_logits(8, 8)}, (TARGETS[place % 2], "minimal")
    )
    assert np.any(found["d_x"] != 0) == ("moesart" not in attribute)


TRAINING = "training(%seed, %layer, %first)"
STATE = ("random", "tensor<3xi64>")
NOISY = [
    ("weights = chosen", True),
    ("weights = all, floor = 0.1", True),
    ("weights = clean", True),
    ("noise = normal, std = 0.7", False),
    ("noise = normal, std = 0.7, weights = all", False),
    ("noise = gumbel, weights = chosen, temperature = 0.5", False),
    ("noise = gumbel, weights = clean", False),
]


@pytest.mark.parametrize("place", range(len(NOISY)))
def test_noisy_top_k(place):
    settings, is_learned = NOISY[place]
    clauses, more = TRAINING, (STATE,)
    values = {"x": draw_logits(9, 7), "random": random_state(17, 2, 100)}
    if is_learned:
        clauses += " noise(%n : tensor<?x7xf64>)"
        more += (("n", "tensor<?x7xf64>"),)
        values["n"] = draw_logits(9, 7, seed=8)
    function = route(f"#moe.noisy_top_k<k = 3, {settings}>", 7, 3, clauses,
                     more)  # fmt: skip
    found = check(function, values, (TARGETS[place % 2], "minimal"))
    if is_learned:
        assert np.any(found["d_n"] != 0) == ("clean" not in settings)


MOESART = [
    ("weighting = small_random", 3),
    ("weighting = small_random, temperature = 2.0", 3),
    ("weighting = large", 3),
    ("weighting = large, temperature = 0.5", 3),
    ("weighting = zero", 3),
    ("weighting = small_random, replacement = true", 4),
    ("weighting = large, replacement = true, temperature = 2.0", 4),
    ("weighting = small_random", 1),
    ("weighting = small_random, replacement = true", 2),
]


@pytest.mark.parametrize("place", range(len(MOESART)))
def test_moesart(place):
    settings, k = MOESART[place]
    # 40 tokens, so that with replacement most numbers of draws occur.
    function = route(f"#moe.moesart<k = {k}, {settings}>", 6, k, TRAINING,
                     (STATE,))  # fmt: skip
    values = {"x": draw_logits(40, 6) / 2, "random": random_state(23)}
    found = check(function, values, (TARGETS[place % 2], "minimal"))
    assert np.any(found["d_x"] != 0) == ("zero" not in settings and k > 1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "kind", ["softmax", "sigmoid", "sqrt_softplus", "none"]
)
def test_scores(kind, target):
    row = "tensor<?x5xf64>"
    body = f"""
  %a = moe.score %x by {kind} : {row} -> {row}
  %b = moe.score %x by {kind} {{softcap = 1.5 : f64}} : {row} -> {row}"""
    function = Function((("x", row),), (("a", row), ("b", row)), body)
    check(function, {"x": draw_logits(6, 5)}, (target, "minimal"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("normalize", ["", "normalize 1.0e-9",
                                       "normalize 0.5"])  # fmt: skip
def test_limit_capacity(normalize, target):
    row, ids, weights = "tensor<?x4xf64>", "tensor<?x2xi32>", "tensor<?x2xf64>"
    body = f"""
  %i, %v = moe.route #moe.top_k<k = 2> %x : {row} -> {ids}, {weights}
  %ids, %w = moe.limit_capacity %i, %v experts 4
    by #moe.capacity<factor = 1.0> queue <prioritized> {normalize}
    : {ids}, {weights}"""
    function = Function(
        (("x", row),), (("ids", ids), ("w", weights)), body
    )
    values = {"x": draw_logits(12, 4, seed=5)}
    found = check(function, values, (target, "minimal"))
    assert np.any(found["d_x"] != 0)


@pytest.mark.parametrize("target", TARGETS)
def test_gate_with_bias(target):
    row, logits = "tensor<?x5xf64>", "tensor<?x3xf64>"
    body = f"""
  %r = moe.gate %x, %w bias(%b : tensor<3xf64>)
    : ({row}, tensor<3x5xf64>) -> {logits}"""
    function = Function(
        (("x", row), ("w", "tensor<3x5xf64>"), ("b", "tensor<3xf64>")),
        (("r", logits),), body,
    )  # fmt: skip
    stream = np.random.default_rng(6)
    values = {"x": stream.normal(size=(7, 5)), "w": stream.normal(size=(3, 5)),
              "b": stream.normal(size=3)}  # fmt: skip
    check(function, values, (target, "minimal"))
