# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Layers whose derivative is the gradient of a router that has another one.

A straight-through rule is the derivative of a function in which what was
detached is a constant. Such a function, of a random layer's choice, takes as
operands

  taken      the choice
  marginals  of #moe.exact_k and #moe.dynamic_k: m0 of weights
             pi (1 + m - m0), where 1 is the indicator of what was taken
  shut_0/1   of #moe.sparse_mixer: -inf where a round masks an expert
  apart      and what a weight p h is apart from p

so that differences of the oracle judge these rules as they do derivatives.
"""

from __future__ import annotations

import numpy as np

import routed_layers
import router_layers
from random_routers import RouterLayer

Arrays = dict[str, np.ndarray]


class Surrogate(router_layers.Text):
    """A layer in f64 with its choice given."""

    def route(self, values: str) -> None:
        """%ids0 and %weights0 of the operand `taken`."""
        taken = self.operand("taken", self.ids)
        if self.layer.kind == "sparse_mixer":
            self.mixer(values)
        else:
            self.subsets(values, taken)

    def subsets(self, values: str, taken: str) -> None:
        """pi (1 + m - m0) at what was taken; m is a result."""
        row = self.logits
        facts = routed_layers.facts_of(self.layer)
        most = facts.get("max", facts.get("k"))
        least = facts.get("min", most)
        self.operand("marginals", row)
        self.parts.append(f"""
  %pi = moe.score {values} by softmax : {row} -> {row}
  %m = moe.subset_marginals {values} size {least} to {most} : {row} -> {row}
  %more = arith.subf %m, %marginals : {row}
  %slope = arith.mulf %pi, %more : {row}
  %all = arith.addf %pi, %slope : {row}
  %ids0, %weights0 = moe.route #moe.top_k<k = {most}, score = none> %all
    indices({taken}) : {row} -> {self.ids}, {self.weights}""")

    def mixer(self, values: str) -> None:
        """p of both rounds with what they masked, and what h adds."""
        row, one = self.logits, f"tensor<?x1x{self.layer.compute}>"
        column = "tensor<?x1xi32>"
        size = self.tokens()
        self.operand("apart", self.weights)
        self.parts.append(f"""
  %pair_0 = tensor.empty({size}) : {self.weights}
  %both_0 = tensor.empty({size}) : {self.ids}""")
        for turn in range(2):
            self.operand(f"shut_{turn}", row)
            place = f"[0, {turn}] [{size}, 1] [1, 1]"
            self.parts.append(f"""
  %left_{turn} = arith.addf {values}, %shut_{turn} : {row}
  %p_{turn} = moe.score %left_{turn} by softmax : {row} -> {row}
  %at_{turn} = tensor.extract_slice %taken{place} : {self.ids} to {column}
  %n_{turn}, %w_{turn} = moe.route #moe.top_k<k = 1, score = none> %p_{turn}
    indices(%at_{turn} : {column}) : {row} -> {column}, {one}
  %pair_{turn + 1} = tensor.insert_slice %w_{turn} into %pair_{turn}{place}
    : {one} into {self.weights}
  %both_{turn + 1} = tensor.insert_slice %n_{turn} into %both_{turn}{place}
    : {column} into {self.ids}""")
        self.parts.append(f"""
  %ids0 = tensor.cast %both_2 : {self.ids} to {self.ids}
  %weights0 = arith.addf %pair_2, %apart : {self.weights}""")

    def by_token(self) -> dict[str, str]:
        """The marginals are a result more."""
        results = super().by_token()
        if self.layer.kind != "sparse_mixer":
            results["m"] = self.logits
        return results


def constants_of(
    layer: RouterLayer, operands: Arrays, ids: np.ndarray, values: np.ndarray
) -> Arrays:
    """The operands that a surrogate has more, but for the marginals."""
    out = {"taken": ids}
    if layer.kind != "sparse_mixer":
        return {**out, "marginals": np.zeros(values.shape)}
    routed = routed_layers.route(layer, operands, values)
    for turn in range(2):
        probs = routed.round_probs[:, turn]
        shut = np.where(probs > 0.0, 0.0, -np.inf)
        # A round without a choice has no softmax.
        shut[ids[:, turn] < 0] = 0.0
        out[f"shut_{turn}"] = shut
    out["apart"] = routed.weights - routed.multipliers
    return out
