# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Backwards of similarity- and attention-aware mixes."""

from __future__ import annotations

import moe_mlir
import numpy as np
import pytest
from op_gradients import TARGETS, backward, check, compile_backward
from op_gradients import write_body

import global_routers as reference  # noqa: E402, found by way of op_gradients

EXPERTS = 4


def clauses(inputs, causal, masked, grouped, posterior, heads, dtype):
    """How the op names its optional operands, which become inputs."""
    text = ""
    if posterior:
        inputs["posterior"] = f"tensor<?x{heads}x{dtype}>"
        text += f" posterior(%posterior : tensor<?x{heads}x{dtype}>)"
    if masked:
        inputs["mask"] = "tensor<?xi1>"
        text += " mask(%mask : tensor<?xi1>)"
    if grouped:
        inputs["groups"] = "tensor<?xi32>"
        text += " groups(%groups : tensor<?xi32>)"
    return text + (" causal" if causal else "")


def mix(heads=1, shared=1, width=3, causal=False, masked=False, grouped=False,
        posterior=False, dtype="f64"):
    """moe.mix with a query and a key."""
    v = f"tensor<?x{EXPERTS}x{dtype}>"
    q, k = (f"tensor<?x{n * width}x{dtype}>" for n in (heads, shared))
    inputs = {"v": v, "q": q, "k": k}
    text = clauses(inputs, causal, masked, grouped, posterior, heads, dtype)
    body = (
        f"%y = moe.mix %v query(%q : {q}) key(%k : {k}){text}\n"
        f"      heads {heads} scale 0.75 : {v} -> {v}"
    )
    return write_body(body, inputs, {"y": v})


def similarity(causal, dtype="f64"):
    """One argument is query and key, behind a softmax of its own values."""
    v = f"tensor<?x{EXPERTS}x{dtype}>"
    body = (
        f"%s = moe.score %v by softmax : {v} -> {v}\n  "
        f"%y = moe.mix %s query(%u : {v}) key(%u : {v}) scale 0.5"
        f"{' causal' if causal else ''} : {v} -> {v}"
    )
    return write_body(body, {"v": v, "u": v}, {"y": v})


def mix_matrix(heads, causal, masked, grouped, posterior, dtype="f64"):
    """moe.mix_matrix."""
    v, a = f"tensor<?x{EXPERTS}x{dtype}>", f"tensor<{heads}x?x?x{dtype}>"
    inputs = {"v": v, "a": a}
    text = clauses(inputs, causal, masked, grouped, posterior, heads, dtype)
    body = f"%y = moe.mix_matrix %v by %a{text} : ({v}, {a}) -> {v}"
    return write_body(body, inputs, {"y": v})


def data(tokens, heads, shared, width, seed=3):
    """All inputs; of the groups one is empty and one has one token."""
    stream = np.random.default_rng(seed)
    share = np.abs(stream.normal(size=(tokens, heads))) + 0.1
    mask = stream.random(tokens) < 0.7
    first = tokens // 3
    groups = [0, first, first, min(first + 1, tokens), tokens]
    return {
        "v": stream.normal(size=(tokens, EXPERTS)),
        "q": stream.normal(size=(tokens, heads * width)),
        "k": stream.normal(size=(tokens, shared * width)),
        "a": stream.normal(size=(heads, tokens, tokens)),
        "posterior": share / share.sum(axis=1, keepdims=True),
        "mask": mask,
        "groups": np.array(groups, dtype=np.int32),
    }


def chosen(inputs, **flags):
    """The inputs without those whose flag is not set."""
    return {
        name: value for name, value in inputs.items() if flags.get(name, True)
    }


CASES = [
    # tokens, heads, shared, width, causal, masked, grouped, posterior
    (11, 1, 1, 3, False, False, False, False),
    (13, 1, 1, 3, True, False, False, False),
    (12, 4, 2, 2, True, False, True, True),
    (12, 2, 1, 3, False, True, True, False),
    (10, 2, 2, 2, True, True, False, True),
    (1, 2, 1, 2, True, False, False, True),
]


@pytest.mark.parametrize(
    "tokens, heads, shared, width, causal, masked, grouped, posterior", CASES
)
def test_mix_is_the_derivative(
    tokens, heads, shared, width, causal, masked, grouped, posterior
):
    text = mix(heads, shared, width, causal, masked, grouped, posterior)
    inputs = chosen(
        data(tokens, heads, shared, width),
        a=False, mask=masked, groups=grouped, posterior=posterior,
    )
    wrt = ["v", "q", "k"] + (["posterior"] if posterior else [])
    check(text, inputs, ["y"], wrt)


@pytest.mark.parametrize("causal", [False, True])
def test_similarity_is_the_derivative(causal):
    stream = np.random.default_rng(5)
    v, u = stream.normal(size=(2, 9, EXPERTS))
    check(similarity(causal), {"v": v, "u": u}, ["y"], ["v", "u"])


@pytest.mark.parametrize(
    "heads, causal, masked, grouped, posterior",
    [
        (1, False, False, False, False),
        (2, True, True, False, True),
        (3, False, True, True, True),
        (2, True, False, True, False),
    ],
)
def test_mix_matrix_is_the_derivative(
    heads, causal, masked, grouped, posterior
):
    text = mix_matrix(heads, causal, masked, grouped, posterior)
    inputs = chosen(
        data(8, heads, 1, 1),
        q=False, k=False, mask=masked, groups=grouped, posterior=posterior,
    )
    wrt = ["v", "a"] + (["posterior"] if posterior else [])
    check(text, inputs, ["y"], wrt)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mix_of_many_tokens(dtype, target):
    """Against the reference, and in f32; lengths past lanes and tiles."""
    tokens, heads = 150 if target == "cpu" else 40, 4
    name = "f32" if dtype == np.float32 else "f64"
    inputs = chosen(
        data(tokens, heads, 2, 8), a=False, mask=False, posterior=False,
    )
    inputs = {
        key: array.astype(dtype) if array.dtype == np.float64 else array
        for key, array in inputs.items()
    }
    text = mix(heads, 2, 8, True, False, True, dtype=name)
    c = np.random.default_rng(7).normal(size=(tokens, EXPERTS)).astype(dtype)
    found = backward(text, inputs, {"y": c}, ["v", "q", "k"], target)
    q = inputs["q"].astype(np.float64).reshape(tokens, heads, 8)
    k = inputs["k"].astype(np.float64).reshape(tokens, 2, 8)
    k = np.repeat(k, 2, axis=1)
    wide = c.astype(np.float64) / heads
    d_v, d_q, d_k = np.zeros((tokens, EXPERTS)), 0 * q, 0 * k
    v, groups = inputs["v"].astype(np.float64), inputs["groups"]
    group = np.searchsorted(groups, np.arange(tokens), side="right")
    seen = np.tril(group[:, None] == group[None, :])
    for h in range(heads):
        s = np.where(seen, 0.75 * q[:, h] @ k[:, h].T, -np.inf)
        share = np.exp(s - s.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        d_v += share.T @ wide
        slope = wide @ v.T
        slope = share * (slope - np.sum(share * slope, axis=1, keepdims=True))
        d_q[:, h] = 0.75 * slope @ k[:, h]
        d_k[:, h] = 0.75 * slope.T @ q[:, h]
    d_k = d_k.reshape(tokens, 2, 2, 8).sum(axis=2)
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    for key, wanted in (("v", d_v), ("q", d_q), ("k", d_k)):
        np.testing.assert_allclose(
            found[key], wanted.reshape(tokens, -1),
            rtol=tolerance, atol=tolerance,
        )


def test_mix_with_threads_and_offsets_of_lanes():
    """Bit for bit; the tokens of a group do not see where it begins."""
    inputs = chosen(
        data(101, 2, 1, 8), a=False, mask=False, posterior=False, groups=False
    )
    inputs = {name: a.astype(np.float32) for name, a in inputs.items()}
    c = np.random.default_rng(8).normal(size=(101, EXPERTS))
    c = c.astype(np.float32)
    wrt = ["v", "q", "k"]
    text = mix(2, 1, 8, causal=True, dtype="f32")
    one, two = (
        backward(text, inputs, {"y": c}, wrt, "cpu", threads)
        for threads in (1, 2)
    )
    grouped = mix(2, 1, 8, causal=True, grouped=True, dtype="f32")
    padded = {n: np.concatenate([a[:5], a]) for n, a in inputs.items()}
    padded["groups"] = np.array([0, 5, 106], dtype=np.int32)
    late = backward(
        grouped, padded, {"y": np.concatenate([c[:5], c])}, wrt, "cpu"
    )
    for name in wrt:
        assert one[name].tobytes() == two[name].tobytes()
        assert one[name].tobytes() == late[name][5:].tobytes()


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_not_seen_does_not_reach(target):
    """NaN in a masked token, in a later one, in another group; no tokens."""
    text = mix(2, 1, 3, True, True, True, True, dtype="f32")
    inputs = data(20, 2, 1, 3)
    del inputs["a"]
    inputs = {
        name: a.astype(np.float32) if a.dtype == np.float64 else a
        for name, a in inputs.items()
    }
    inputs["groups"] = np.array([0, 9, 20], dtype=np.int32)
    inputs["mask"] = np.arange(20) != 2
    c = np.ones((20, EXPERTS), dtype=np.float32)
    wrt = ["v", "q", "k", "posterior"]
    clean = backward(text, inputs, {"y": c}, wrt, target)
    for name in ("v", "q", "k", "posterior"):
        inputs[name] = inputs[name].copy()
        inputs[name][2] = np.nan
    inputs["q"][8] = np.nan
    c[2] = np.nan
    found = backward(text, inputs, {"y": c}, wrt, target)
    for name in wrt:
        assert not np.any(found[name][2])
        # The last token of a group is seen by itself alone.
        assert found[name][9:].tobytes() == clean[name][9:].tobytes()
    assert found["q"][:8].tobytes() == clean["q"][:8].tobytes()
    assert np.all(np.isnan(found["k"][3]))
    none = {name: a[:0] for name, a in inputs.items()}
    none["groups"] = np.array([0], dtype=np.int32)
    found = backward(text, none, {"y": c[:0]}, wrt, target)
    assert found["q"].shape == (0, 6)


def test_a_tile_of_queries_has_no_backward():
    v = f"tensor<?x{EXPERTS}xf32>"
    body = f"""%zero = arith.constant 0 : i64
  %y = moe.mix %v query(%u : {v}) key(%v : {v}) from(%zero) : {v} -> {v}"""
    text = write_body(body, {"v": v, "u": v}, {"y": v})
    with pytest.raises(moe_mlir.CompileError, match="no backward with 'from'"):
        compile_backward(text, ("v",), "cpu")


@pytest.mark.parametrize("target", TARGETS)
def test_mix_matrix_is_the_reference(target):
    """Causal means of two heads; those of later tokens have no gradient."""
    inputs = data(5, 2, 1, 1)
    v, a = inputs["v"], inputs["a"]
    c = np.random.default_rng(9).normal(size=v.shape)
    text = mix_matrix(2, True, False, False, False)
    found = backward(text, {"v": v, "a": a}, {"y": c}, ["v", "a"], target)
    mean = np.tril(a).mean(axis=0)
    np.testing.assert_allclose(found["v"], mean.T @ c, rtol=1e-12)
    wanted = np.broadcast_to(np.tril(c @ v.T) / 2, a.shape)
    np.testing.assert_allclose(found["a"], wanted, rtol=1e-12)
    assert reference.mix is not None
