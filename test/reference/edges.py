# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Cases about routing across tokens, extreme sizes, ties and odd values."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases import BF16, V3, add
from draw import Stream


def _small(name: str, note: str, **keys: Any) -> None:
    """A case that is about routing: narrow experts keep its file small."""
    add(name, note, **{"inter": 5, **keys})

    # Expert choice, capacities, masks, packed groups.


_small(
    "expert_choice",
    "softmax over experts, C = ceil(2 T / E)",
    router="expert_choice",
    top_k=1,
    experts=6,
    capacity_factor=2.0,
    capacity_rounding="ceil",
    tokens=20,
)
_small(
    "expert_choice_tokens",
    "softmax over tokens, weights divided by the number of takers",
    router="expert_choice",
    choice_axis="tokens",
    choice_normalize=True,
    top_k=1,
    experts=6,
    capacity_factor=2.0,
    tokens=20,
)
_small(
    "expert_choice_packed",
    "three groups and a mask, softmax over tokens",
    router="expert_choice",
    choice_axis="tokens",
    top_k=1,
    experts=4,
    capacity_factor=1.0,
    capacity_rounding="ceil",
    token_mask=True,
    group_offsets=True,
    tokens=21,
    token_groups=3,
    given={"group_offsets": np.array([0, 9, 9, 21], dtype=np.int32)},
)
_small(
    "v_moe",
    "batch-prioritised, C = ceil(k T / E / 2) up to 4s",
    top_k=2,
    experts=4,
    gated=False,
    activation="gelu",
    expert_bias=True,
    capacity="prioritized",
    capacity_per="slots",
    capacity_factor=0.5,
    capacity_rounding="ceil",
    capacity_multiple=4,
    tokens=30,
)
_small(
    "gshard",
    "C = floor(T / E) first come, divided before dropping",
    top_k=2,
    experts=4,
    normalize="sum",
    eps=1e-9,
    capacity="first_come",
    capacity_factor=1.0,
    tokens=19,
)
_small(
    "masked",
    "masked tokens: no expert, the shared branch stays",
    top_k=2,
    normalize="sum",
    token_mask=True,
    shared_inter=12,
    tokens=14,
)
_small(
    "packed_capacity",
    "capacity in each of four groups, one empty",
    top_k=2,
    experts=4,
    normalize="sum",
    capacity="prioritized",
    capacity_factor=1.0,
    capacity_rounding="nearest",
    token_mask=True,
    group_offsets=True,
    tokens=26,
    token_groups=4,
    given={"group_offsets": np.array([0, 11, 11, 20, 26], np.int32)},
)
_small(
    "packed",
    "groups change nothing where nothing crosses tokens",
    normalize="sum",
    group_offsets=True,
    tokens=13,
    token_groups=3,
)


def _whole(seed: int, *shape: int) -> np.ndarray:
    """Small whole numbers: products and sums are exact in every type."""
    return np.floor(Stream(seed, "whole").uniform(*shape) * 5.0) - 2.0


def _crowd(inputs: dict[str, np.ndarray]) -> None:
    """Every token's best expert is expert 2, by a wide margin."""
    inputs["router_bias"][2] = 64.0


def _bad_row(inputs: dict[str, np.ndarray]) -> None:
    inputs["x"][3, 5] = np.nan


def _bad_router(inputs: dict[str, np.ndarray]) -> None:
    bias = inputs["router_bias"]
    bias[1], bias[4] = -np.inf, np.nan


def _infinite_router(inputs: dict[str, np.ndarray]) -> None:
    inputs["router_bias"][1] = np.inf
    inputs["router_bias"][5] = -np.inf

    # Empty and crowded experts, extreme sizes, ties, NaN, infinities.


_SUM = {"normalize": "sum"}
_small("no_tokens", "T = 0", tokens=0, **_SUM)
_small("one_token", "T = 1: most experts are empty", tokens=1, **_SUM)
_small(
    "no_tokens_choice",
    "expert choice with T = 0",
    tokens=0,
    router="expert_choice",
    top_k=1,
)
_small(
    "one_token_choice",
    "expert choice with T = 1: C is cut to 1",
    tokens=1,
    router="expert_choice",
    top_k=1,
    capacity_factor=2.0,
    capacity_min=4,
)
_small(
    "all_masked",
    "every token masked",
    tokens=5,
    token_mask=True,
    given={"token_mask": np.zeros(5, dtype=bool)},
    **_SUM,
)
_small(
    "one_takes_all",
    "every token chooses expert 2",
    top_k=1,
    tokens=33,
    router_bias=True,
    change=_crowd,
)
_small(
    "one_takes_all_capacity",
    "the same under a capacity of 5",
    top_k=1,
    tokens=33,
    router_bias=True,
    change=_crowd,
    capacity="first_come",
    capacity_fixed=5,
)
_small("k_is_e", "every expert is chosen", experts=5, top_k=5, **_SUM)
_small("one_expert", "E = 1", experts=1, top_k=1, **_SUM)
_small(
    "odd_e",
    "E = 7, k = 5, odd sizes",
    experts=7,
    top_k=5,
    hidden=19,
    inter=11,
)
_small(
    "e_60",
    "E = 60",
    experts=60,
    top_k=4,
    hidden=16,
    inter=5,
    x_dtype="bf16",
    weight_dtype="bf16",
    tokens=24,
)
_small(
    "i_704",
    "I = 704, in a latent of 7",
    experts=2,
    top_k=1,
    latent=7,
    hidden=16,
    inter=704,
    activation="gelu_tanh",
    tokens=9,
    **BF16,
)
_small(
    "i_1856",
    "I = 1856, ungated, in a latent of 5",
    experts=2,
    top_k=1,
    hidden=16,
    inter=1856,
    latent=5,
    gated=False,
    activation="relu2",
    tokens=5,
    **BF16,
)
_small(
    "i_2880",
    "I = 2880, in a latent of 2",
    experts=2,
    top_k=2,
    hidden=16,
    inter=2880,
    latent=2,
    act_style="oai",
    act_limit=7.0,
    tokens=5,
    **BF16,
)
_small("wide_h", "H = 96", experts=4, hidden=96, inter=8, tokens=20, **BF16)
_TIES = {
    "x": _whole(1, 10, 16),
    "router_weight": _whole(2, 8, 16)[[0, 1, 0, 3, 1, 3, 0, 1]],
}
_small(
    "ties",
    "three classes of equal router rows: the lower index wins",
    tokens=10,
    top_k=4,
    given=_TIES,
    **_SUM,
)
_small(
    "ties_zero",
    "a router of zeros: ids 0..k-1 at equal weight",
    tokens=4,
    top_k=3,
    given={"x": _whole(3, 4, 16), "router_weight": np.zeros((8, 16))},
    **_SUM,
)
_small(
    "ties_groups",
    "equal groups and equal experts in them",
    tokens=6,
    top_k=3,
    score="sigmoid",
    select_bias=True,
    groups=4,
    kept_groups=2,
    group_score="top2sum",
    given={
        "x": _whole(4, 6, 16),
        "router_weight": _whole(5, 8, 16)[[0, 1, 0, 1, 1, 0, 0, 0]],
        "selection_bias": np.zeros(8),
    },
)
_small(
    "ties_choice",
    "expert choice among equal tokens",
    tokens=9,
    router="expert_choice",
    top_k=1,
    experts=4,
    capacity_fixed=3,
    choice_axis="tokens",
    given={
        "x": _whole(6, 3, 16)[[0, 1, 0, 2, 1, 0, 2, 0, 1]],
        "router_weight": _whole(7, 4, 16),
    },
)
_small(
    "ties_prioritized",
    "equal first weights: the lower token first",
    tokens=9,
    top_k=2,
    experts=4,
    capacity="prioritized",
    capacity_fixed=2,
    given={
        "x": _whole(8, 3, 16)[[0, 1, 0, 2, 1, 0, 2, 0, 1]],
        "router_weight": _whole(9, 4, 16),
    },
)
_small(
    "nan_row",
    "a NaN in one token stays in its row",
    tokens=6,
    change=_bad_row,
    **_SUM,
)
_small(
    "nan_row_sigmoid",
    "the same with sigmoid, bias and shared branch",
    tokens=6,
    change=_bad_row,
    shared_inter=8,
    **V3,
)
_small(
    "nan_logit",
    "sigmoid: an expert at NaN and one at -inf never win",
    tokens=6,
    change=_bad_router,
    router_bias=True,
    score="sigmoid",
    **_SUM,
)
_small(
    "nan_logit_all",
    "k = E: -inf is chosen before NaN",
    tokens=4,
    change=_bad_router,
    router_bias=True,
    score="sigmoid",
    top_k=8,
)
_small(
    "infinite_logits",
    "+inf wins and has score 1, -inf score 0",
    tokens=6,
    change=_infinite_router,
    router_bias=True,
    score="sigmoid",
    **_SUM,
)
_small(
    "minus_infinite_logit",
    "softmax with experts at -inf",
    tokens=6,
    change=lambda inputs: inputs["router_bias"].__setitem__(
        slice(5, 8), -np.inf
    ),
    router_bias=True,
    **_SUM,
)
_small(
    "far_logits",
    "logits that f32 scores cannot tell apart: the choice compares logits",
    tokens=6,
    top_k=2,
    # Whole, since a weight has the error of logits in the hundreds else.
    given={
        "x": _whole(11, 6, 16),
        "router_weight": 40.0 * _whole(10, 8, 16),
    },
)
for _mode in ("add", "clamp"):
    _small(
        f"eps_{_mode}",
        "scores so small that eps counts",
        tokens=5,
        router_bias=True,
        score="sigmoid",
        eps=1e-5,
        eps_mode=_mode,
        given={"router_bias": np.full(8, -16.0)},
        **_SUM,
    )
