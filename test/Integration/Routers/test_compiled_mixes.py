# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Similarity- and attention-aware mixes, compiled, against f64 references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from compiled import TARGETS, compile_body

import global_routers as reference  # noqa: E402, found by way of compiled

EXPERTS = 9
FLAGS = list(itertools.product([False, True], repeat=3))


def clauses(causal, masked, grouped, posterior, heads):
    """Optional operands: inputs, and how the op names them."""
    inputs, text = [], []
    if posterior:
        kind = f"tensor<?x{heads}xf32>"
        inputs.append(("posterior", kind))
        text.append(f"posterior(%posterior : {kind})")
    if masked:
        inputs.append(("mask", "tensor<?xi1>"))
        text.append("mask(%mask : tensor<?xi1>)")
    if grouped:
        inputs.append(("groups", "tensor<?xi32>"))
        text.append("groups(%groups : tensor<?xi32>)")
    if causal:
        text.append("causal")
    return inputs, " ".join(text)


def mix(
    target, query, key, heads=1, scale=1.0, causal=False, masked=False,
    grouped=False, posterior=False, experts=EXPERTS, threads=1,
):  # fmt: skip
    """moe.mix of query and key widths."""
    more, text = clauses(causal, masked, grouped, posterior, heads)
    v, q = f"tensor<?x{experts}xf32>", f"tensor<?x{query}xf32>"
    k = f"tensor<?x{key}xf32>"
    body = (
        f"%y = moe.mix %v query(%q : {q}) key(%k : {k}) {text}\n"
        f"      heads {heads} scale {scale!r} : {v} -> {v}"
    )
    inputs = [("v", v), ("q", q), ("k", k), *more]
    return compile_body(body, tuple(inputs), (("y", v),), target, threads)


def mix_matrix(target, heads, causal, masked, grouped, posterior):
    """moe.mix_matrix."""
    more, text = clauses(causal, masked, grouped, posterior, heads)
    v, a = f"tensor<?x{EXPERTS}xf32>", f"tensor<{heads}x?x?xf32>"
    body = f"%y = moe.mix_matrix %v by %a {text} : ({v}, {a}) -> {v}"
    inputs = [("v", v), ("a", a), *more]
    return compile_body(body, tuple(inputs), (("y", v),), target)


def data(tokens, heads, shared, width, seed=3):
    """values, query, key, posterior, mask, groups."""
    stream = np.random.default_rng(seed)

    def normal(*shape):
        return stream.normal(size=shape).astype(np.float32)

    share = np.abs(normal(tokens, heads)) + 0.1
    mask = stream.random(tokens) < 0.7
    cuts = np.sort(stream.integers(0, tokens + 1, size=3))
    groups = np.array([0, *cuts, tokens], dtype=np.int32)
    return (
        normal(tokens, EXPERTS),
        normal(tokens, heads * width),
        normal(tokens, shared * width),
        share / share.sum(axis=1, keepdims=True),
        mask,
        groups,
    )


def weights(q, k, heads, scale, causal, groups, mask):
    """[heads, T, T], head h of the query with its head of the key."""
    tokens = len(q)
    query = q.astype(np.float64).reshape(tokens, heads, -1)
    key = k.astype(np.float64).reshape(tokens, -1, query.shape[2])
    key = np.repeat(key, heads // key.shape[1], axis=1)
    query, key = query.transpose(1, 0, 2), key.transpose(1, 0, 2)
    return reference.attention(query, key, scale, causal, groups, mask)


def optional(masked, grouped, posterior, mask, groups, share):
    """The optional inputs in the order of `clauses`."""
    chosen = [(posterior, share), (masked, mask), (grouped, groups)]
    return [value for is_given, value in chosen if is_given]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("causal, masked, grouped", FLAGS)
@pytest.mark.parametrize(
    "tokens, heads, shared, width, posterior",
    [(1, 1, 1, 5, False), (37, 1, 1, 3, False), (130, 4, 2, 8, True)],
)
def test_mix(
    tokens, heads, shared, width, posterior, causal, masked, grouped, target
):
    v, q, k, share, mask, groups = data(tokens, heads, shared, width)
    layer = mix(
        target, heads * width, shared * width, heads, 0.75, causal, masked,
        grouped, posterior,
    )  # fmt: skip
    inputs = optional(masked, grouped, posterior, mask, groups, share)
    found = layer(v, q, k, *inputs)
    mask = mask if masked else None
    groups = groups if grouped else None
    a = weights(q, k, heads, 0.75, causal, groups, mask)
    wanted = reference.mix(
        v.astype(np.float64), a, share if posterior else None, causal, groups,
        mask,
    )  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=4e-6)
    if masked:
        assert not np.any(found[~mask])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("causal, masked, grouped", FLAGS)
@pytest.mark.parametrize("heads, posterior", [(1, False), (3, True)])
def test_mix_matrix(heads, posterior, causal, masked, grouped, target):
    tokens = 83
    v, _, _, share, mask, groups = data(tokens, heads, 1, 1)
    stream = np.random.default_rng(5)
    a = stream.normal(size=(heads, tokens, tokens)).astype(np.float32)
    layer = mix_matrix(target, heads, causal, masked, grouped, posterior)
    inputs = optional(masked, grouped, posterior, mask, groups, share)
    found = layer(v, a, *inputs)
    wanted = reference.mix(
        v.astype(np.float64), a.astype(np.float64),
        share if posterior else None, causal, groups if grouped else None,
        mask if masked else None,
    )  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


# The example of the routers' mathematics.
U = np.array([[1, 0], [0.8, 0.6], [-1, 0.5]], dtype=np.float32)
G = np.array(
    [
        [0.597922, 0.133414, 0.268664],
        [0.570442, 0.231925, 0.197633],
        [0.120150, 0.691417, 0.188433],
    ],
    dtype=np.float32,
)
W = np.array([[1, -0.5, 0.2], [0.3, 0.8, -0.4]], dtype=np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_worked_similarity(target):
    layer = mix(target, 2, 2, experts=3)
    np.testing.assert_allclose(
        layer(G, U, U),
        [
            [0.553319, 0.213335, 0.233346],
            [0.532254, 0.242637, 0.225109],
            [0.220688, 0.583018, 0.196294],
        ],
        atol=2e-6,
    )
    mixed = layer(U @ W, U, U)[0]
    power = np.exp(mixed - mixed.max())
    np.testing.assert_allclose(
        power / power.sum(), [0.555951, 0.199769, 0.244280], atol=2e-6
    )


@pytest.mark.parametrize("target", TARGETS)
def test_worked_attention(target):
    a = np.array(
        [
            [[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]],
            [[1, 0, 0], [0.9, 0.1, 0], [0.6, 0.2, 0.2]],
        ],
        dtype=np.float32,
    )
    v, kind = "tensor<?x3xf32>", "tensor<2x?x?xf32>"
    layer = compile_body(
        f"%y = moe.mix_matrix %v by %a causal : ({v}, {kind}) -> {v}",
        (("v", v), ("a", kind)), (("y", v),), target,
    )  # fmt: skip
    np.testing.assert_allclose(
        layer(G, a)[2], [0.423832, 0.353343, 0.222825], atol=2e-6
    )


@pytest.mark.parametrize("target", TARGETS)
def test_nan_reaches_who_sees_it(target):
    v, q, k, _, mask, groups = data(70, 1, 1, 4)
    causal = mix(target, 4, 4, causal=True)
    clean = causal(v, q, k)
    bad = v.copy()
    bad[41] = np.nan
    found = causal(bad, q, k)
    assert np.array_equal(found[:41], clean[:41])
    assert np.all(np.isnan(found[41:]))
    for broken in ("v", "k"):
        grouped = mix(target, 4, 4, grouped=True)
        inputs = {"v": v.copy(), "k": k.copy()}
        clean = grouped(v, q, k, groups)
        inputs[broken][groups[2]] = np.nan
        found = grouped(inputs["v"], q, inputs["k"], groups)
        other = np.ones(len(v), dtype=bool)
        other[groups[2] : groups[3]] = False
        assert np.array_equal(found[other], clean[other])
        assert np.all(np.isnan(found[~other]))
    masked = mix(target, 4, 4, masked=True)
    clean = masked(v, q, k, mask)
    found = masked(*[np.where(mask[:, None], x, np.nan) for x in (v, q, k)], mask)
    assert np.array_equal(found, clean)


def test_mix_invariance():
    """Threads, packing and what comes later change no bit."""
    v, q, k, _, _, groups = data(200, 2, 1, 8)
    one, two = (mix("cpu", 16, 8, 2, 0.5, True, threads=n) for n in (1, 2))
    found = one(v, q, k)
    assert np.array_equal(found, two(v, q, k))
    for tokens in (1, 2, 3, 5, 64, 67, 131):
        part = one(v[:tokens], q[:tokens], k[:tokens])
        assert np.array_equal(part, found[:tokens])
    for causal in (False, True):
        packed = mix("cpu", 16, 8, 2, 0.5, causal, grouped=True)(v, q, k, groups)
        alone = mix("cpu", 16, 8, 2, 0.5, causal)
        for low, high in zip(groups, groups[1:]):
            own = alone(v[low:high], q[low:high], k[low:high])
            assert np.array_equal(packed[low:high], own)


@pytest.mark.parametrize("target", TARGETS)
def test_mix_padding(target):
    v, q, k, _, _, _ = data(50, 1, 1, 4)
    mask = np.arange(50) < 31
    for causal in (False, True):
        padded = mix(target, 4, 4, masked=True, causal=causal)(v, q, k, mask)
        alone = mix(target, 4, 4, causal=causal)(v[:31], q[:31], k[:31])
        np.testing.assert_allclose(padded[:31], alone, rtol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_mix_groups_refused(target):
    v, q, k, _, _, _ = data(10, 1, 1, 4)
    layer = mix(target, 4, 4, grouped=True)
    for groups in ([0, 7, 3, 10], [0, 11], [1, 10], [0, 9]):
        with pytest.raises(ValueError, match="group offsets"):
            layer(v, q, k, np.array(groups, dtype=np.int32))


@pytest.mark.parametrize("target", TARGETS)
def test_mix_no_tokens(target):
    v, q, k, _, _, _ = data(0, 1, 1, 4)
    assert mix(target, 4, 4)(v, q, k).shape == (0, EXPERTS)
