# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backwards of GShard, SparseMixer and product keys."""

from __future__ import annotations

import numpy as np
import pytest
from op_gradients import TARGETS, backward, check, write_body
from op_gradients import compile_backward

import noisy_routers  # noqa: E402, found by way of op_gradients
import philox  # noqa: E402
import router_gradients  # noqa: E402

SEED = np.array([8, 3, 70], dtype=np.int64)


def route(attribute, experts, slots=2, training=False, masked=False,
          dtype="f64"):
    """A route on given logits."""
    row = f"tensor<?x{experts}x{dtype}>"
    inputs, clauses = {"x": row}, ""
    if masked:
        inputs["mask"] = "tensor<?xi1>"
        clauses += " mask(%mask : tensor<?xi1>)"
    if training:
        inputs["random"] = "tensor<3xi64>"
        clauses += " training(%seed, %layer, %first)"
    ids, weights = f"tensor<?x{slots}xi32>", f"tensor<?x{slots}x{dtype}>"
    body = (
        f"%ids, %weights = moe.route {attribute} %x{clauses}\n"
        f"      : {row} -> {ids}, {weights}"
    )
    return write_body(body, inputs, {"ids": ids, "weights": weights})


def rows(experts, tokens, seed, holes=0.1):
    """Random logits, some of experts that cannot be chosen."""
    stream = np.random.default_rng(seed)
    x = stream.normal(size=(tokens, experts)) * 1.5
    x[1:][stream.random(x[1:].shape) < holes] = -np.inf
    return x


def check_route(text, x, **more):
    """Against differences; those of -inf are none."""
    finite = np.where(np.isinf(x), -700.0, x)
    check(text, {"x": finite, **more}, ["weights"], ["x"])


GSHARDS = [
    f"#moe.gshard<policy = {policy}, threshold = 0.3, normalize = {normalize},"
    " eps = 1.0e-1>"
    for policy in ("all", "none", "threshold", "random", "sampling")
    for normalize in ("before", "after")
]


@pytest.mark.parametrize("attribute", GSHARDS)
def test_gshard_is_the_derivative(attribute):
    x = rows(5, 7, 1)
    if "random" in attribute or "sampling" in attribute:
        check_route(route(attribute, 5, training=True), x, random=SEED)
    else:
        check_route(route(attribute, 5), x)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("normalize", ["before", "after"])
@pytest.mark.parametrize("policy", ["none", "threshold", "random", "sampling"])
def test_gshard_is_the_reference(policy, normalize, target):
    x = rows(6, 40, 2)
    options = {}
    if policy == "random":
        options["uniforms"] = philox.uniforms(8, 40, 7, 3, 70)[:, 6]
    elif policy == "sampling":
        options["gumbels"] = philox.gumbels(8, 40, 6, 3, 70)
    routed = noisy_routers.gshard_top2(
        x, policy, 0.3, normalize, eps=1e-3, **options
    )
    c = np.random.default_rng(3).normal(size=(40, 2))
    wanted = router_gradients.gshard_top2(routed, c, normalize, 1e-3)
    text = route(
        f"#moe.gshard<policy = {policy}, threshold = 0.3, "
        f"normalize = {normalize}, eps = 1.0e-3>",
        6, training=bool(options),
    )
    inputs = {"x": x, "random": SEED} if options else {"x": x}
    found = backward(text, inputs, {"weights": c}, ["x"], target)["x"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
    if policy == "threshold":
        assert 0 < np.sum(routed.ids[:, 1] < 0) < 40


def test_sparse_mixer_is_the_derivative_in_inference():
    x = rows(6, 9, 4, holes=0.0)
    check_route(route("#moe.sparse_mixer<eps = 0.4>", 6), x)


@pytest.mark.parametrize("target", TARGETS)
def test_sparse_mixer_worked_numbers(target):
    text = route("#moe.sparse_mixer<eps = 0.01>", 4)
    x, c = np.array([[1, 0.99, 0.5, -1]]), np.array([[1.0, 1.0]])
    found = backward(text, {"x": x}, {"weights": c}, ["x"], target)["x"]
    np.testing.assert_allclose(
        found, [[0.249994, -0.249994, 0, 0]], atol=1e-6
    )


@pytest.mark.parametrize("target", TARGETS)
def test_sparse_mixer_in_training_leaves_out_the_factor(target):
    x = rows(6, 60, 5)
    x[3] = -np.inf
    x[4] = -np.inf
    x[4, 2] = 1.0
    routed = noisy_routers.sparsemixer(
        x, 0.3, philox.gumbels(8, 60, 12, 3, 70).reshape(60, 2, 6),
        philox.uniforms(8, 60, 14, 3, 70)[:, 12:],
    )
    c = np.random.default_rng(6).normal(size=(60, 2))
    wanted = router_gradients.sparsemixer(routed, c)
    text = route("#moe.sparse_mixer<eps = 0.3>", 6, training=True)
    inputs = {"x": x, "random": SEED}
    found = backward(text, inputs, {"weights": c}, ["x"], target)["x"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)
    assert np.any(routed.weights < 0.9 * routed.multipliers)


@pytest.mark.parametrize("domain", ["topk", "all"])
@pytest.mark.parametrize("left, right, k", [(3, 4, 3), (1, 5, 2), (2, 2, 4)])
def test_product_keys_are_the_derivative(left, right, k, domain):
    attribute = f"#moe.product_keys<k = {k}, left = {left}, domain = {domain}>"
    x = rows(left + right, 6, 7, holes=0.0)
    mask = np.array([True, False, True, True, True, True])
    check_route(route(attribute, left + right, k, masked=True), x, mask=mask)


ROUTERS = [
    "#moe.gshard<policy = threshold, threshold = 0.3>",
    "#moe.gshard<policy = random, normalize = after>",
    "#moe.sparse_mixer<eps = 0.1>",
    "#moe.product_keys<k = 2, left = 3, domain = all>",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("attribute", ROUTERS)
def test_odd_rows(attribute, target):
    """Without anybody, with one expert, masked, NaN."""
    x = np.full((6, 6), -np.inf, dtype=np.float32)
    x[1, [1, 4]] = 2.0
    x[2] = np.nan
    x[3:] = np.random.default_rng(8).normal(size=(3, 6))
    x[4, 0] = np.nan
    mask = np.array([True, True, False, True, True, False])
    text = route(attribute, 6, masked=True, dtype="f32")
    c = np.ones((6, 2), dtype=np.float32)
    c[:, 1] = -1.0
    inputs = {"x": x, "mask": mask}
    found = backward(text, inputs, {"weights": c}, ["x"], target)["x"]
    assert found[[0, 2, 5]].tolist() == np.zeros((3, 6)).tolist()
    assert np.all(np.isfinite(found[[1, 3]]))
    # Of product keys a half alone has the NaN.
    assert np.all(np.isnan(found[4, :3]))
    assert np.all(np.isnan(found[4])) or "product" in attribute
    none = backward(
        text, {"x": x[:0], "mask": mask[:0]}, {"weights": c[:0]}, ["x"], target
    )["x"]
    assert none.shape == (0, 6)


@pytest.mark.parametrize("attribute", ROUTERS)
def test_lanes_and_threads_change_nothing(attribute):
    x = rows(6, 37, 9).astype(np.float32)
    c = np.random.default_rng(9).normal(size=(37, 2)).astype(np.float32)
    text = route(attribute, 6, dtype="f32")
    one, two = (
        backward(text, {"x": x}, {"weights": c}, ["x"], "cpu", threads)["x"]
        for threads in (1, 2)
    )
    assert one.tobytes() == two.tobytes()
    rest = backward(text, {"x": x[5:]}, {"weights": c[5:]}, ["x"], "cpu")["x"]
    assert rest.tobytes() == one[5:].tobytes()
    assert compile_backward(text, ("x",), "cpu").gradients[0].name == "d_x"
