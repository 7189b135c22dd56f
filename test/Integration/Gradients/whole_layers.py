# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Layers with their gate and router, and what models put beside them."""

from __future__ import annotations

import dataclasses

import numpy as np
from differences import Function


@dataclasses.dataclass(frozen=True)
class Whole:
    """Top-k, gated SiLU experts; optionally a shared expert, a latent space."""

    experts: int = 4
    k: int = 2
    hidden: int = 5
    inter: int = 3
    router: str = "normalize = sum"
    shared: str = ""  # "", "plain" or "sigmoid".
    latent: int = 0  # The experts' hidden size, where it is another.
    dtype: str = "f64"
    compute: str = ""  # The type of logits and weights; "" is dtype.

    def inner(self) -> int:
        return self.latent or self.hidden

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights."""
        e, h, i, d = self.experts, self.hidden, self.inter, self.inner()
        out = {"router": (e, h), "up": (e, 2 * i, d), "down": (e, d, i)}
        if self.shared:
            out |= {"shared_up": (1, 2 * i, h), "shared_down": (1, h, i)}
        if self.shared == "sigmoid":
            out["shared_gate"] = (1, h)
        if self.latent:
            out |= {"into": (h, d), "back": (d, h)}
        return out

    def function(self) -> Function:
        """The layer as an entry; ids are a result."""
        e, k, h, i, d = (self.experts, self.k, self.hidden, self.inter,
                         self.inner())  # fmt: skip
        t = self.dtype
        c = self.compute or t
        row, inner = f"tensor<?x{h}x{t}>", f"tensor<?x{d}x{t}>"
        logits, ids = f"tensor<?x{e}x{c}>", f"tensor<?x{k}xi32>"
        weights = f"tensor<?x{k}x{c}>"
        types = {
            name: f"tensor<{'x'.join(map(str, shape))}x{t}>"
            for name, shape in self.shapes().items()
        }
        mlp = (
            "gated activation #moe.activation<kind = silu>\n"
            "    layout <orientation = out_in>"
        )
        parts = [f"""
  %logits = moe.gate %x, %router
    : ({row}, {types["router"]}) -> {logits}
  %ids, %w = moe.route #moe.top_k<k = {k}, {self.router}> %logits
    : {logits} -> {ids}, {weights}
  %zero = arith.constant 0 : index
  %T = tensor.dim %x, %zero : {row}
  %none = arith.constant 0.0 : {t}"""]
        given = "%x"
        if self.latent:
            given = "%z"
            parts.append(self._product("z", "x", "into", row, types, inner))
        parts.append(f"""
  %rows, %offsets = moe.dispatch {given}, %ids experts {e}
    : ({inner}, {ids}) -> ({inner}, tensor<{e + 1}xi32>)
  %out = moe.experts %rows offsets(%offsets : tensor<{e + 1}xi32>)
    up(%up : {types["up"]}) down(%down : {types["down"]}) {mlp}
    : {inner} -> {inner}""")
        beside = ""
        if self.shared:
            parts.append(f"""
  %s = moe.experts %x up(%shared_up : {types["shared_up"]})
    down(%shared_down : {types["shared_down"]}) {mlp} : {row} -> {row}""")
            beside = f"residual(%s : {row})"
        if self.shared == "sigmoid":
            parts.append(self._gate_shared(row, types))
            beside = f"residual(%gs : {row})"
        combined = "m" if self.latent else "y"
        if self.latent:
            assert not self.shared
        parts.append(f"""
  %{combined} = moe.combine %out, %ids experts {e}
    weights(%w : {weights}) {beside} : ({inner}, {ids}) -> {inner}""")
        if self.latent:
            parts.append(self._product("y", "m", "back", inner, types, row))
        inputs = [("x", row), *types.items()]
        return Function(
            tuple(inputs), (("y", row), ("ids", ids)), "".join(parts)
        )

    def _product(self, to, value, weight, from_type, types, to_type) -> str:
        return f"""
  %{to}_e = tensor.empty(%T) : {to_type}
  %{to}_0 = linalg.fill ins(%none : {self.dtype}) outs(%{to}_e : {to_type})
    -> {to_type}
  %{to} = linalg.matmul ins(%{value}, %{weight} : {from_type}, {types[weight]})
    outs(%{to}_0 : {to_type}) -> {to_type}"""

    def _gate_shared(self, row, types) -> str:
        t = self.dtype
        column = f"tensor<?x1x{t}>"
        return f"""
  %sg = moe.gate %x, %shared_gate : ({row}, {types["shared_gate"]}) -> {column}
  %gs_e = tensor.empty(%T) : {row}
  %sg_1 = tensor.collapse_shape %sg [[0, 1]] : {column} into tensor<?x{t}>
  %gs = linalg.generic {{indexing_maps = [affine_map<(i, j) -> (i, j)>,
      affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i, j)>],
      iterator_types = ["parallel", "parallel"]}}
      ins(%s, %sg_1 : {row}, tensor<?x{t}>) outs(%gs_e : {row}) {{
    ^bb0(%a: {t}, %b: {t}, %c: {t}):
      %one = arith.constant 1.0 : {t}
      %n = arith.negf %b : {t}
      %p = math.exp %n : {t}
      %q = arith.addf %one, %p : {t}
      %u = arith.divf %a, %q : {t}
      linalg.yield %u : {t}
  }} -> {row}"""

    def draw(self, tokens: int = 6, seed: int = 1, scale: float = 1.0) -> dict:
        """Arrays of f64."""
        stream = np.random.default_rng(seed)
        shapes = {"x": (tokens, self.hidden), **self.shapes()}
        return {
            name: scale * stream.normal(size=shape)
            for name, shape in shapes.items()
        }
