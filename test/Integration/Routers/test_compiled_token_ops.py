# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Jitter, hash routing, and what the published policies are made of."""

from __future__ import annotations

import moe_mlir
import numpy as np
import pytest
from compiled import ROADS, compile_body, random_state, router

import gates  # noqa: E402, found by way of compiled
import noisy_routers  # noqa: E402
import philox  # noqa: E402

LOGITS = np.array(
    [[2, 1, 0], [1, 0.5, 0], [1.5, 0, 1], [0, 0, 1]], dtype=np.float32
)


# Jitter.


def jitter(width: int, eps: float, road: str, dtype="f32", threads=1):
    """moe.jitter alone."""
    row = f"tensor<?x{width}x{dtype}>"
    body = f"""%y = moe.jitter %x eps {eps:e} draw(%seed, %layer, %first)
      : {row} -> {row}"""
    inputs = (("x", row), ("random", "tensor<3xi64>"))
    return compile_body(body, inputs, (("y", row),), road, threads)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("dtype", ["f16", "f32", "f64"])
@pytest.mark.parametrize("width", [1, 7, 64, 130])
def test_jitter(width, dtype, road):
    kind = {"f16": np.float16, "f32": np.float32, "f64": np.float64}[dtype]
    rtol = {"f16": 2.0**-10, "f32": 2e-7, "f64": 1e-14}[dtype]
    x = np.random.default_rng(1).normal(size=(70, width)).astype(kind)
    x[3, 0] = np.nan
    layer = jitter(width, 0.01, road, dtype)
    found = layer(x, random_state(5, 2, 9))
    numbers = philox.uniforms(5, 70, width, 2, 9)
    wanted = x.astype(np.float64) * (0.99 + 0.02 * numbers)
    np.testing.assert_allclose(found, wanted, rtol=rtol)
    assert np.isnan(found).sum() == 1
    tail = layer(x[33:].copy(), random_state(5, 2, 9 + 33))
    np.testing.assert_array_equal(tail, found[33:])
    two = jitter(width, 0.01, road, dtype, threads=2)
    np.testing.assert_array_equal(two(x, random_state(5, 2, 9)), found)
    for tokens in (0, 1):
        few = layer(x[:tokens].copy(), random_state(5, 2, 9))
        np.testing.assert_array_equal(few, found[:tokens])


@pytest.mark.parametrize("road", ROADS)
def test_jitter_in_front_of_a_gate(road):
    # Switch in training: the router alone sees the jittered rows.
    x_type, w_type = "tensor<?x32xf32>", "tensor<6x32xf32>"
    logits, ids, weights = "tensor<?x6xf32>", "tensor<?x1xi32>", "tensor<?x1xf32>"
    body = f"""%y = moe.jitter %x eps 1.0e-1 draw(%seed, %layer, %first)
      : {x_type} -> {x_type}
  %logits = moe.gate %y, %w : ({x_type}, {w_type}) -> {logits}
  %ids, %weights = moe.route #moe.top_k<k = 1> %logits
      : {logits} -> {ids}, {weights}"""
    inputs = (("x", x_type), ("w", w_type), ("random", "tensor<3xi64>"))
    outputs = (("ids", ids), ("weights", weights), ("y", x_type))
    stream = np.random.default_rng(2)
    x = stream.normal(size=(150, 32)).astype(np.float32)
    w = stream.normal(size=(6, 32)).astype(np.float32)
    numbers = philox.uniforms(5, 150, 32, 0, 9)
    jittered = x.astype(np.float64) * (0.9 + 0.2 * numbers)
    wanted = jittered @ w.astype(np.float64).T
    plain = x.astype(np.float64) @ w.astype(np.float64).T
    for shown in (outputs[:2], outputs):  # Also where others read the rows.
        found = compile_body(body, inputs, shown, road)(
            x, w, random_state(5, 0, 9)
        )
        assert np.array_equal(found.ids[:, 0], np.argmax(wanted, axis=1))
        power = np.exp(wanted - wanted.max(axis=1, keepdims=True))
        np.testing.assert_allclose(
            found.weights[:, 0], 1 / power.sum(axis=1), rtol=1e-4
        )
    np.testing.assert_allclose(found.y, jittered, rtol=2e-7)
    layer = compile_body(body, inputs, outputs, road)
    for tokens in (0, 1):
        few = layer(x[:tokens].copy(), w, random_state(5, 0, 9))
        assert np.array_equal(few.ids, found.ids[:tokens])
        assert np.array_equal(few.y, found.y[:tokens])
    assert np.any(np.argmax(wanted, axis=1) != np.argmax(plain, axis=1))


# Hashing.


def hashing(
    experts: int, slots: int, road: str, rows="?", masked=False, threads=1
):
    """moe.route_hash with the table as an argument."""
    table = f"tensor<{rows}x{slots}xi32>"
    ids, weights = f"tensor<?x{slots}xi32>", f"tensor<?x{slots}xf32>"
    inputs = [("tokens", "tensor<?xi32>"), ("table", table)]
    mask = ""
    if masked:
        inputs.append(("mask", "tensor<?xi1>"))
        mask = "mask(%mask : tensor<?xi1>)"
    body = f"""%ids, %weights = moe.route_hash %tokens, %table
      experts {experts} {mask} : tensor<?xi32>, {table} -> {ids}, {weights}"""
    outputs = (("ids", ids), ("weights", weights))
    return compile_body(body, tuple(inputs), outputs, road, threads)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("experts, slots", [(3, 2), (1, 1), (33, 5)])
def test_hash_is_the_reference(experts, slots, road):
    stream = np.random.default_rng(3)
    table = stream.integers(experts, size=(50, slots), dtype=np.int32)
    layer = hashing(experts, slots, road, 50)
    masked = hashing(experts, slots, road, 50, masked=True)
    two = hashing(experts, slots, road, 50, threads=2)
    for tokens in (0, 1, 70):
        own = stream.integers(50, size=tokens, dtype=np.int32)
        wanted = gates.hash_route(own, table, experts)
        for run in (layer, two):
            found = run(own, table)
            assert np.array_equal(found.ids, wanted.ids)
            assert np.all(found.weights == 1)
        mask = stream.random(tokens) < 0.5
        wanted = gates.hash_route(own, table, experts, mask)
        found = masked(own, table, mask)
        assert np.array_equal(found.ids, wanted.ids)
        assert np.array_equal(found.weights, wanted.weights)


@pytest.mark.parametrize("road", ROADS)
def test_hash_errors(road):
    table = np.array([[0, 1], [1, 2], [2, 3], [-1, 0]], dtype=np.int32)
    layer = hashing(3, 2, road, 4)
    masked = hashing(3, 2, road, 4, masked=True)

    def run(*tokens):
        return layer(np.array(tokens, dtype=np.int32), table)

    assert run(0, 1, 0).ids.tolist() == [[0, 1], [1, 2], [0, 1]]
    for bad in (4, -1, 2**31 - 1, -(2**31)):
        with pytest.raises(ValueError, match="a token id is not in the table"):
            run(0, bad)
        with pytest.raises(ValueError, match="a token id is not in the table"):
            masked(
                np.array([0, bad], dtype=np.int32),
                table,
                np.array([True, False]),
            )
    for bad in (2, 3):
        with pytest.raises(ValueError, match="an expert out of range"):
            run(0, bad)
    assert run(1).ids.tolist() == [[1, 2]]


@pytest.mark.parametrize("road", ROADS)
def test_hash_by_a_constant_table_with_weights_of_a_router(road):
    ids, weights = "tensor<?x1xi32>", "tensor<?x1xf32>"
    body = f"""%table = arith.constant dense<[[2], [0], [1]]> : tensor<3x1xi32>
  %given, %ones = moe.route_hash %tokens, %table experts 3
      : tensor<?xi32>, tensor<3x1xi32> -> {ids}, {weights}
  %ids, %weights = moe.route #moe.top_k<k = 1> %x
      indices(%given : {ids}) : tensor<?x3xf32> -> {ids}, {weights}"""
    inputs = (("tokens", "tensor<?xi32>"), ("x", "tensor<?x3xf32>"))
    outputs = (("ids", ids), ("weights", weights))
    layer = compile_body(body, inputs, outputs, road)
    found = layer(np.array([0, 1, 2, 2], dtype=np.int32), LOGITS)
    assert found.ids.ravel().tolist() == [2, 0, 1, 1]
    np.testing.assert_allclose(
        found.weights.ravel(), [0.090031, 0.506480, 0.121952, 0.211942], atol=1e-6
    )


def test_hash_refuses_a_constant_table_at_compile_time():
    body = """%table = arith.constant dense<[[2], [3]]> : tensor<2x1xi32>
  %ids, %weights = moe.route_hash %tokens, %table experts 3
      : tensor<?xi32>, tensor<2x1xi32> -> tensor<?x1xi32>, tensor<?x1xf32>"""
    outputs = (("ids", "tensor<?x1xi32>"), ("weights", "tensor<?x1xf32>"))
    with pytest.raises(moe_mlir.CompileError, match="expert 3 of 3 for token id 1"):
        compile_body(body, (("tokens", "tensor<?xi32>"),), outputs, "cpu")


# Capacity that renormalises.


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("dtype, rtol", [("f32", 3e-7), ("f64", 1e-15)])
def test_renormalised_capacity(dtype, rtol, road):
    ids, weights = "tensor<?x3xi32>", f"tensor<?x3x{dtype}>"
    body = f"""%i, %v = moe.limit_capacity %ids, %w experts 4
      by #moe.capacity<fixed = 3> queue <first_come> normalize 1.0e-1
      groups(%g : tensor<3xi32>) : {ids}, {weights}"""
    inputs = (("ids", ids), ("w", weights), ("g", "tensor<3xi32>"))
    layer = compile_body(body, inputs, (("i", ids), ("v", weights)), road)
    stream = np.random.default_rng(6)
    # Empty slots, and identity experts past the four that have a capacity.
    own = stream.integers(-1, 6, size=(30, 3), dtype=np.int32)
    given = stream.random((30, 3)).astype({"f32": "f4", "f64": "f8"}[dtype])
    given[own < 0] = 0
    given[2] *= 0.05  # A sum below the least divisor.
    given[4, 0] = np.nan
    own[4] = [5, 5, -1]
    given[4, 2] = 0
    found = layer(own, given, np.array([0, 12, 30], dtype=np.int32))
    keep = own >= 4
    for low, high in ((0, 12), (12, 30)):
        limited = np.where(own[low:high] < 4, own[low:high], -1)
        positions = noisy_routers.queue_positions(limited, 4, 3)
        keep[low:high] |= (limited >= 0) & (positions < 3)
    assert np.array_equal(found.i, np.where(keep, own, -1))
    kept = np.where(keep, given, 0).astype(np.float64)
    divisor = np.maximum(kept.sum(axis=1, keepdims=True), 0.1)
    wanted = np.where(keep, kept / divisor, 0)
    np.testing.assert_allclose(found.v, wanted, rtol=rtol)
    assert np.isnan(found.v[4, :2]).all() and found.v[4, 2] == 0
    assert found.v[2].sum() < 0.99
    empty = layer(own[:0], given[:0], np.zeros(3, dtype=np.int32))
    assert empty.v.shape == (0, 3)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("rest", ["", "normalize 1.0e-9"])
def test_inputs_are_not_written(rest, road):
    ids, weights = "tensor<?x2xi32>", "tensor<?x2xf32>"
    body = f"""%i, %v = moe.limit_capacity %ids, %w experts 4
      by #moe.capacity<fixed = 1> queue <first_come> {rest} : {ids}, {weights}"""
    inputs = (("ids", ids), ("w", weights))
    layer = compile_body(body, inputs, (("i", ids), ("v", weights)), road)
    own = np.array([[1, 2], [1, 2], [0, -1]], dtype=np.int32)
    given = np.array([[0.2, 0.1], [0.1, 0.2], [0.3, 0]], dtype=np.float32)
    before = own.copy(), given.copy()
    found = layer(own, given)
    assert found.i.tolist() == [[1, 2], [-1, -1], [0, -1]]
    assert np.array_equal(own, before[0]) and np.array_equal(given, before[1])


# V-MoE with batch-prioritised routing.


def vmoe(experts: int, capacity: int, road: str, training=False):
    """V-MoE's choice of two and its queue."""
    row = f"tensor<?x{experts}xf32>"
    ids, weights = "tensor<?x2xi32>", "tensor<?x2xf32>"
    inputs, clause = [("x", row)], ""
    if training:
        inputs.append(("random", "tensor<3xi64>"))
        clause = "training(%seed, %layer, %first)"
    body = f"""%i, %w = moe.route #moe.noisy_top_k<k = 2, noise = normal,
      std = {1 / experts!r}, weights = all> %x {clause}
      : {row} -> {ids}, {weights}
  %ids, %weights = moe.limit_capacity %i, %w experts {experts}
      by #moe.capacity<fixed = {capacity}> queue <prioritized>
      : {ids}, {weights}"""
    outputs = (("ids", ids), ("weights", weights))
    return compile_body(body, tuple(inputs), outputs, road)


@pytest.mark.parametrize("road", ROADS)
def test_batch_prioritised_positions(road):
    # A slot at position p is kept by every capacity above p. Tokens queue in
    # the order 0, 3, 2, 1.
    kept = [vmoe(3, capacity, road)(LOGITS).ids >= 0 for capacity in (1, 2, 3, 4)]
    positions = 4 - np.sum(kept, axis=0)
    assert positions.tolist() == [[0, 0], [2, 1], [1, 1], [0, 3]]
    weights = vmoe(3, 4, road)(LOGITS).weights
    np.testing.assert_allclose(
        weights,
        [
            [0.665241, 0.244728],
            [0.506480, 0.307196],
            [0.546549, 0.331499],
            [0.576117, 0.211942],
        ],
        atol=1e-6,
    )


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("capacity", [1, 6, 30])
def test_vmoe_in_training(capacity, road):
    x = np.random.default_rng(4).normal(size=(50, 9)).astype(np.float32)
    found = vmoe(9, capacity, road, training=True)(x, random_state(6, 1, 3))
    normals = philox.normals(6, 50, 9, 1, 3)
    wanted = noisy_routers.vmoe(x.astype(np.float64), 2, normals)
    assert np.min(wanted.margin) > 1e-5
    positions = noisy_routers.queue_positions(
        wanted.ids, 9, capacity, wanted.weights[:, 0]
    )
    keep = positions < capacity
    assert np.array_equal(found.ids, np.where(keep, wanted.ids, -1))
    np.testing.assert_allclose(
        found.weights, np.where(keep, wanted.weights, 0.0), rtol=5e-5
    )


# Sampling with a temperature.


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_sample_with_a_temperature(temperature, road):
    x = np.random.default_rng(5).normal(size=(200, 9)).astype(np.float32)
    attribute = (
        "#moe.noisy_top_k<k = 1, noise = gumbel, weights = clean, "
        f"temperature = {temperature}>"
    )
    layer = router(attribute, 9, 1, road, training=True)
    found = layer(x, random_state(6, 1, 3))
    gumbels = philox.gumbels(6, 200, 9, 1, 3)
    # The argmax of logits / temperature + G.
    wanted = noisy_routers.gumbel_top1(
        x.astype(np.float64), temperature * gumbels
    )
    assert np.min(wanted.margin) > 1e-5
    assert np.array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(found.weights, wanted.weights, rtol=2e-5)


@pytest.mark.parametrize("road", ROADS)
def test_gumbel_worked_numbers(road):
    # u near .7 .2 .9: 1 + 1.03 against .5 - .48 and 0 + 2.25.
    wanted = [0.7, 0.2, 0.9]
    seed = next(
        seed
        for seed in range(100_000)
        if np.max(np.abs(philox.uniforms(seed, 1, 3)[0] - wanted)) < 0.03
    )
    attribute = "#moe.noisy_top_k<k = 1, noise = gumbel, weights = clean>"
    layer = router(attribute, 3, 1, road, training=True)
    found = layer(LOGITS[1:2].copy(), random_state(seed))
    assert found.ids.tolist() == [[2]]
    np.testing.assert_allclose(found.weights, [[0.186324]], atol=1e-6)


# All routers.


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    "attribute",
    ["#moe.top_k<k = 2>", "#moe.top_k<k = 2, domain = topk>"],
)
def test_top_k_of_rows_without_numbers(attribute, road):
    # Here -inf is a logit like others: the ids are the first, and 0/0 is NaN.
    x = np.full((2, 5), -np.inf, dtype=np.float32)
    x[1] = [0, np.nan, 1, -1, np.nan]
    found = router(attribute, 5, 2, road)(x)
    assert found.ids.tolist() == [[0, 1], [2, 0]]
    assert np.isnan(found.weights[0]).all()
