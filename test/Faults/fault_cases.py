# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The calls whose kernels get faults: small, and with sizes at odds with
blocks, tiles and chunks, so that every guard has something to keep out.

What a guard keeps out is often multiplied by a zero. So there are infinities
where rows and weights begin: zero times infinity is no zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from calls import (
    BF16,
    Arrays,
    Call,
    backward,
    capacities,
    example,
    example_backward,
    forward,
    losses,
    losses_backward,
)
from common.layers import Sizes

# No multiple of a warp, a block or a chunk of tokens.
SIZES = Sizes(width=20, inter=12, experts=6, length=15, batch=3)


@dataclasses.dataclass(frozen=True)
class Case:
    """What makes a call, by name."""

    name: str
    make: Callable[[], Call]
    refused: bool = False  # The call fails, behind kernels that check.


def fill_unevenly(arrays: Arrays) -> None:
    """All tokens choose expert 0, which makes two tiles, and none expert 1."""
    arrays["x"][:, 0] = 2.0
    arrays["router_weight"][0, 0] = 3.0
    arrays["router_weight"][1, 0] = -3.0


def put_infinities(arrays: Arrays) -> None:
    """Where loads go that have nothing to load: the first columns of rows in
    both halves of a tile, and the last row of an expert's weights."""
    fill_unevenly(arrays)
    arrays["x"][[0, 40], 2] = np.inf
    for name, expert in (("gate_up", 2), ("down", 3)):
        arrays[name][expert, [5, 40], 3] = np.inf
        arrays[name][expert, -1, 1] = np.inf


def spread_biases(arrays: Arrays) -> None:
    """The bias of another expert makes another choice."""
    count = len(arrays["selection_bias"])
    arrays["selection_bias"][:] = np.linspace(-0.4, 0.4, count)


def assign(arrays: Arrays, counts: list[int]) -> None:
    """Ids that give each expert so many rows, some tokens the same expert
    twice, in an order that is not the experts'."""
    pairs = np.repeat(np.arange(len(counts)), counts).reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).any()
    assert pairs.shape == arrays["indices"].shape
    arrays["indices"][:] = np.random.default_rng(4).permutation(pairs)


# Few rows for every tenth expert, none for some of them, and more tiles than
# blocks for the others; the last of them has two.
MANY = [i // 10 % 5 if i % 10 == 3 else 5 for i in range(149)] + [72]
# A row, four, some between, none, and one more than few.
FEW = [1, 4, 3, 2, 0, 5, 3]


def put_ends(arrays: Arrays) -> None:
    """Infinities in the weights of an expert without rows, which nobody reads:
    elsewhere what comes of them would hide faults of few rows."""
    assign(arrays, FEW)
    for name in ("gate_up", "down"):
        arrays[name][FEW.index(0)] = np.inf


def name_no_expert(arrays: Arrays) -> None:
    """Ids of experts, the very last of none."""
    experts, ids = 5, arrays["indices"]
    ids[:] = np.arange(ids.size).reshape(ids.shape) % experts
    ids[-1, -1] = experts


def with_an_empty_sequence(make: Callable[[str, Sizes], Call]) -> Call:
    """Soft slots where the second sequence has no token."""
    call = make("soft", SIZES)
    call.arrays["groups"] = np.array([0, 15, 15, 45], np.int32)
    return call


def descend() -> Call:
    """Groups of which the last ends before it begins."""
    call = forward("soft", SIZES)
    call.arrays["groups"][-2] += SIZES.length + 1
    return call


def keep(arrays: Arrays) -> None:
    """As drawn."""


# Columns: four steps of 32 and 24 more; outputs: two tiles of 64 and 48 more.
TENSOR = {"experts": 5, "top_k": 2, "hidden": 152, "inter": 88, **BF16}
PLAIN = {"experts": 5, "top_k": 2, "hidden": 20, "inter": 12}

CASES = [
    Case(
        "products of bf16",
        lambda: example("layer", 71, put_infinities, **TENSOR),
    ),
    Case(
        "products of bf16, more tiles than blocks",
        lambda: example(
            "layer", sum(MANY) // 2, lambda a: assign(a, MANY), experts=150,
            top_k=2, hidden=56, inter=56, indices="true", **BF16,
        ),
    ),
    Case(
        "products of bf16, few rows",
        lambda: example(
            "layer", sum(FEW) // 2, put_ends,
            **{**TENSOR, "experts": len(FEW), "indices": "true"},
        ),
    ),
    Case(
        "products of bf16, backward",
        lambda: example_backward("layer", 140, fill_unevenly, **TENSOR),
    ),
    Case(
        "products of f32",
        lambda: example("layer", 71, fill_unevenly, **PLAIN),
    ),
    Case(
        "biases, weights in by out, bf16",
        lambda: example(
            "gpt-oss-20b", 71, keep, experts=6, top_k=2, hidden=24, inter=24
        ),
    ),
    Case(
        "groups of experts, bias of the choice",
        lambda: example(
            "deepseek-v3", 130, spread_biases, experts=12, top_k=3, groups=4,
            kept_groups=2, hidden=56, inter=56, shared_inter=56,
        ),
    ),
    Case(
        "capacity, first come",
        lambda: example(
            "switch-base-8", 71, keep, hidden=20, inter=12, capacity_fixed=7
        ),
    ),
    Case(
        "capacity, prioritised",
        lambda: example(
            "vmoe", 71, keep, experts=6, hidden=20, inter=12,
        ),
    ),
]  # fmt: skip
CASES += [
    Case(
        "given ids, one of no expert",
        lambda: example("layer", 71, name_no_expert, indices="true", **PLAIN),
        refused=True,
    ),
    Case("groups that descend", descend, refused=True),
    Case("soft, forward", lambda: with_an_empty_sequence(forward)),
]
CASES += [
    Case(f"{name}, forward", lambda name=name: forward(name, SIZES))
    for name in (
        "exact_k", "dynamic_k", "similarity", "attention_full",
        "expert_choice",
    )
]  # fmt: skip
CASES += [
    Case(f"{name}, backward", lambda name=name: backward(name, SIZES))
    for name in ("top_k", "exact_k", "expert_choice", "soft")
]
CASES += [
    Case("capacities alone", capacities),
    Case("losses, forward", lambda: losses(71)),
    Case("losses, backward", lambda: losses_backward(71)),
]
