# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Experts of every form on a routing that is given, as IR and as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from differences import Function


@dataclasses.dataclass(frozen=True)
class Experts:
    """dispatch, experts and combine of `ids` and `weights`, all of one type."""

    experts: int = 3
    k: int = 2
    hidden: int = 5
    inter: int = 4
    gated: bool = True
    activation: str = "kind = silu"
    biases: bool = False
    layout: str = "orientation = out_in"
    combined: str = ""  # More clauses of the combine, on x, r and c.
    attributes: str = ""  # Those of the combine.
    weighs_input: bool = False  # Weights are the dispatch's, not the combine's.
    weighs: bool = True
    dtype: str = "f64"

    def has(self, setting: str) -> bool:
        """Whether the layout has a setting."""
        return setting in self.layout

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights."""
        e, h, i = self.experts, self.hidden, self.inter
        separate = self.gated and self.has("pairing = separate")
        wide = 2 * i if self.gated and not separate else i
        up, down = (wide, h), (h, i)
        if self.has("orientation = in_out"):
            up = up[::-1]
        if self.has("down = in_out"):
            down = down[::-1]
        if self.has("expert_axis = folded"):
            up, down = (e * up[0], up[1]), (e * down[0], down[1])
        else:
            up, down = (e, *up), (e, *down)
        names = ["gate", "up"] if separate else ["up"]
        shapes = {name: up for name in names}
        shapes["down"] = down
        if self.biases:
            shapes.update({f"{name}_bias": (e, wide) for name in names})
            shapes["down_bias"] = (e, h)
        return shapes

    def type_of(self, shape) -> str:
        """A tensor type; None is T."""
        sizes = "x".join("?" if n is None else str(n) for n in shape)
        return f"tensor<{sizes}x{self.dtype}>"

    def expert_op(self, row: str) -> str:
        """%out of %rows, which are of type `row`, and %offsets."""
        types = {n: self.type_of(s) for n, s in self.tensors().items()}

        def listed(*names):
            own = [n for n in names if n in types]
            values = ", ".join(f"%{n}" for n in own)
            return f"({values} : {', '.join(types[n] for n in own)})"

        bias, down_bias = "", ""
        if self.biases:
            bias = f"bias{listed('gate_bias', 'up_bias')}"
            down_bias = f"down_bias{listed('down_bias')}"
        return f"""
  %out = moe.experts %rows offsets(%offsets : tensor<{self.experts + 1}xi32>)
    up{listed("gate", "up")} {bias} down{listed("down")} {down_bias}
    {"gated" if self.gated else ""} activation
    #moe.activation<{self.activation}> layout <{self.layout}>
    : {row} -> {row}"""

    def function(self) -> Function:
        """The layer as an entry."""
        e, k, h = self.experts, self.k, self.hidden
        row, ids = self.type_of((None, h)), f"tensor<?x{k}xi32>"
        weights = self.type_of((None, k))
        types = {n: self.type_of(s) for n, s in self.tensors().items()}
        inputs = [("x", row), ("ids", ids)]
        if self.weighs or self.weighs_input:
            inputs.append(("w", weights))
        inputs += types.items()
        if "%r " in self.combined:
            inputs.append(("r", row))
        if "%c " in self.combined:
            inputs.append(("c", self.type_of((h,))))

        clause = f"weights(%w : {weights})"
        combined = self.combined.replace("ROW", row)
        combined = combined.replace("LIST", self.type_of((h,)))
        body = f"""
  %rows, %offsets = moe.dispatch %x, %ids experts {e}
    {clause if self.weighs_input else ""}
    : ({row}, {ids}) -> ({row}, tensor<{e + 1}xi32>){self.expert_op(row)}
  %y = moe.combine %out, %ids experts {e}
    {clause if self.weighs else ""} {combined} {self.attributes}
    : ({row}, {ids}) -> {row}"""
        return Function(tuple(inputs), (("y", row),), body)

    def draw(self, tokens: int = 6, seed: int = 1, ids=None) -> dict:
        """Arrays of f64. Some slots are empty, one token has no expert, and no
        token has the last expert."""
        stream = np.random.default_rng(seed)
        if ids is None:
            ids = draw_ids(stream, tokens, self.experts - 1, self.k)
            ids[1::3, 0] = -1
            ids[2:3] = -1
        shapes = {"x": (tokens, self.hidden), **self.tensors(),
                  "w": (tokens, self.k), "r": (tokens, self.hidden),
                  "c": (self.hidden,)}  # fmt: skip
        values = {n: stream.normal(size=s) for n, s in shapes.items()}
        values["ids"] = np.asarray(ids, dtype=np.int32)
        taken = {row[0] for row in self.function().inputs}
        return {n: v for n, v in values.items() if n in taken}


def draw_ids(stream, tokens: int, experts: int, k: int) -> np.ndarray:
    """k different experts for each token [T, k]."""
    rows = [stream.permutation(experts)[:k] for _ in range(tokens)]
    return np.array(rows, dtype=np.int32).reshape(tokens, k)
