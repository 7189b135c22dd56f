# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A small layer as IR text, and what it computes in NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class SmallLayer:
    """Top-k of softmax, normalised; gated SiLU experts."""

    name: str = "layer"
    experts: int = 4
    k: int = 2
    hidden: int = 16
    inter: int = 24
    dtype: str = "f32"
    ids: bool = False  # The experts of a token are a second result.
    indices: bool = False  # They are given, not chosen.
    max_tokens: int = 0

    def function(self) -> str:
        """The layer as a function."""
        e, k, h, i, t = (
            self.experts, self.k, self.hidden, self.inter, self.dtype,
        )  # fmt: skip
        x = f"tensor<?x{h}x{t}>"
        up, down = f"tensor<{e}x{2 * i}x{h}x{t}>", f"tensor<{e}x{h}x{i}x{t}>"
        ids, offsets = f"tensor<?x{k}xi32>", f"tensor<{e + 1}xi32>"
        dims = 'moe.dims = ["T", ""]'
        layout = "moe.layout = #moe.layout<orientation = out_in>"
        given = (
            f', %given: {ids} {{moe.name = "indices", {dims}}}'
            if self.indices
            else ""
        )
        given_use = f"indices(%given : {ids}) " if self.indices else ""
        results = f'{x} {{moe.name = "y", {dims}}}'
        returned, types = "%y", x
        if self.ids:
            results += f', {ids} {{moe.name = "ids", {dims}}}'
            returned, types = "%y, %ids", f"{x}, {ids}"
        bounds = (
            f", moe.bounds = {{T = {self.max_tokens} : i64}}"
            if self.max_tokens
            else ""
        )
        return f"""
func.func @{self.name}(
    %x: {x} {{moe.name = "x", {dims}}},
    %router: tensor<{e}x{h}x{t}> {{moe.name = "router_weight"}},
    %gate_up: {up} {{moe.name = "gate_up", {layout}}},
    %down: {down} {{moe.name = "down", {layout}}}{given})
    -> ({results}) attributes {{moe.entry{bounds}}} {{
  %logits = moe.gate %x, %router
    : ({x}, tensor<{e}x{h}x{t}>) -> tensor<?x{e}xf32>
  %ids, %weights = moe.route #moe.top_k<k = {k}, normalize = sum> %logits
    {given_use}: tensor<?x{e}xf32> -> {ids}, tensor<?x{k}xf32>
  %rows, %offsets = moe.dispatch %x, %ids experts {e}
    : ({x}, {ids}) -> ({x}, {offsets})
  %out = moe.experts %rows offsets(%offsets : {offsets}) up(%gate_up : {up})
    down(%down : {down}) gated activation #moe.activation<kind = silu>
    layout <orientation = out_in> : {x} -> {x}
  %y = moe.combine %out, %ids experts {e} weights(%weights : tensor<?x{k}xf32>)
    : ({x}, {ids}) -> {x}
  return {returned} : {types}
}}
"""

    def source(self) -> str:
        """A module with the layer alone."""
        return f"module {{{self.function()}}}\n"

    def draw(self, tokens: int, seed: int = 1) -> dict[str, np.ndarray]:
        """Inputs of float32: x[tokens, hidden] and the weights."""
        rng = np.random.default_rng(seed)
        e, h, i = self.experts, self.hidden, self.inter
        shapes = {
            "x": (tokens, h),
            "router_weight": (e, h),
            "gate_up": (e, 2 * i, h),
            "down": (e, h, i),
        }
        inputs = {
            name: rng.standard_normal(shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        if self.indices:
            inputs["indices"] = np.stack(
                [rng.permutation(e)[: self.k] for _ in range(tokens)]
            ).astype(np.int32)
        return inputs


def run_reference(
    layer: SmallLayer, inputs: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the layer computes, token by token in float64.

    Returns y[tokens, hidden], ids[tokens, k] and, like y, the sum of the
    magnitudes of the products that make up each number of y.
    """
    x, router, gate_up, down = (
        inputs[name].astype(np.float64)
        for name in ("x", "router_weight", "gate_up", "down")
    )
    y, magnitude = np.zeros_like(x), np.zeros_like(x)
    ids = np.zeros((len(x), layer.k), np.int32)
    for t, row in enumerate(x):
        logits = router @ row
        scores = np.exp(logits - logits.max())
        ids[t] = np.argsort(-logits, kind="stable")[: layer.k]
        chosen = scores[ids[t]] / scores[ids[t]].sum()
        for expert, weight in zip(ids[t], chosen):
            gate, up = np.split(gate_up[expert] @ row, 2)
            hidden = gate / (1 + np.exp(-gate)) * up
            y[t] += weight * (down[expert] @ hidden)
            magnitude[t] += weight * (np.abs(down[expert]) @ np.abs(hidden))
    return y, ids, magnitude
