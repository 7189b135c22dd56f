# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a test case is, and the table of all of them."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any, Callable

import numpy as np

import draw
from spec import LayerSpec


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer with its operands.

    change: edits the drawn operands, for inputs that are special on purpose;
    such a case is exempt from the rule that routing is clear-cut.
    """

    name: str
    spec: LayerSpec
    tokens: int
    seed: int
    note: str
    token_groups: int = 1
    given: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    change: Callable[[dict[str, np.ndarray]], None] | None = None

    def inputs(self) -> dict[str, np.ndarray]:
        """The operands, the same on every call."""
        out = draw.draw_inputs(
            self.spec, self.seed, self.tokens, self.token_groups, **self.given
        )
        if self.change is not None:
            self.change(out)
        return out


CASES: dict[str, Case] = {}


def add(
    name: str,
    note: str,
    tokens: int = 12,
    token_groups: int = 1,
    given: dict[str, np.ndarray] | None = None,
    change: Callable[[dict[str, np.ndarray]], None] | None = None,
    **keys: Any,
) -> None:
    """Registers a case; keys are those of the spec."""
    if name in CASES:
        raise ValueError(f"case {name} twice")
    sizes = {"hidden": 16, "inter": 10}
    CASES[name] = Case(
        name,
        LayerSpec(**{**sizes, **keys}),
        tokens,
        zlib.crc32(name.encode()),
        note,
        token_groups,
        given or {},
        change,
    )


# Types of a family whose reference computes in the model's type, in bf16.
BF16 = {
    "x_dtype": "bf16",
    "router_dtype": "bf16",
    "weight_dtype": "bf16",
}
V3 = {
    "score": "sigmoid",
    "select_bias": True,
    "normalize": "sum",
    "eps": 1e-20,
}
