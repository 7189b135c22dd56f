# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The Mixture-of-Experts layers, as settings and as IR.

All have the same gate, the same gated SiLU experts and the same sum; they
differ in how a token gets its experts, and in the loss that this adds. No
router of `moe-compile --example` but the first is one of these, so the IR is a
text with a place for the routing.

A layer takes, by name, T tokens in G sequences:

  x        f32 [T, D]           rows, normed
  query    f32 [T, D]           of the attention in front, heads side by side
  key      f32 [T, D]           likewise; both for `attention` alone
  router   f32 [E, D]
  gate_up  f32 [E, 2 I, D]      gate above up
  down     f32 [E, D, I]
  groups   i32 [G + 1]          where sequences begin and end, for the mixes
  random   i64 [3]              seed, layer, first token; to train what draws

and returns in training y f32 [T, D] and, where it has one, loss f32 []; in
evaluation y, ids i32 [T, k] with -1 in empty slots, and scores f32 [T, E],
the probabilities that the choice is made by.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a model and its batches; `length` is that of a sequence."""

    vocab: int = 63
    width: int = 64
    heads: int = 2
    blocks: int = 2
    experts: int = 8
    inter: int = 64
    length: int = 64
    batch: int = 8


@dataclasses.dataclass(frozen=True)
class Router:
    """One way to choose experts, in training and in evaluation."""

    name: str
    attribute: str
    slots: int = 2  # The most experts of a token.
    least: int = 2  # And the fewest.
    draws: bool = False  # Draws in training; never in evaluation.
    mix: str = ""  # "similarity" or "attention" in front of the choice.
    loss: str = ""  # What training adds: kind and settings of moe.aux_loss.
    coefficient: float = 0.0

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses that a training layer returns."""
        return ("loss",) if self.loss else ()

    def learned(self) -> tuple[str, ...]:
        """Arguments with a gradient: rows, then weights."""
        more = ("query", "key") if self.mix == "attention" else ()
        return ("x", *more, "router", "gate_up", "down")

    def arguments(self, training: bool) -> tuple[str, ...]:
        """Names of what the layer takes, in order."""
        names = self.learned()
        if self.mix:
            names += ("groups",)
        return (*names, "random") if training and self.draws else names


# The coefficients are those of the sources: 0.01 of Switch for whatever is
# built on top-k, 0.001 of MOESART; ProbMoE has no such loss. ProbMoE's bands
# reach from below the k of exact k up to it: 6 to 8, and 2 to 4.
BALANCE = {"loss": "balance", "coefficient": 0.01}
ROUTERS = {
    router.name: router
    for router in (
        Router("top_k", "#moe.top_k<k = 2, normalize = sum>", **BALANCE),
        Router("exact_k", "#moe.exact_k<k = 2>", draws=True),
        Router(
            "dynamic_k",
            "#moe.dynamic_k<min = 1, max = 2>",
            least=1,
            draws=True,
        ),
        Router(
            "moesart",
            "#moe.moesart<k = 2, weighting = small_random>",
            draws=True,
            loss="trimmed_lasso",
            coefficient=0.001,
        ),
        Router(
            "similarity",
            "#moe.top_k<k = 2, score = none, normalize = sum>",
            mix="similarity",
            **BALANCE,
        ),
        Router(
            "attention",
            "#moe.top_k<k = 2, score = none, normalize = sum>",
            mix="attention",
            **BALANCE,
        ),
    )
}


def mix_heads(router: Router, sizes: Sizes) -> int:
    """Heads of a mix: one of similarity, those of the attention."""
    return sizes.heads if router.mix == "attention" else 1


def mix_scale(router: Router, sizes: Sizes) -> float:
    """1 / sqrt of the width of a mix's head, as attention has it."""
    return (sizes.width // mix_heads(router, sizes)) ** -0.5


class _Text:
    """Pieces of the IR of one layer."""

    def __init__(self, router: Router, sizes: Sizes, training: bool) -> None:
        self.router = router
        self.sizes = sizes
        self.training = training
        e, d, i = sizes.experts, sizes.width, sizes.inter
        self.x = f"tensor<?x{d}xf32>"
        self.rows = f"tensor<?x{e}xf32>"
        self.ids = f"tensor<?x{router.slots}xi32>"
        self.weights = f"tensor<?x{router.slots}xf32>"
        self.offsets = f"tensor<{e + 1}xi32>"
        self.groups = "tensor<?xi32>"
        self.types = {
            "x": self.x,
            "query": self.x,
            "key": self.x,
            "router": f"tensor<{e}x{d}xf32>",
            "gate_up": f"tensor<{e}x{2 * i}x{d}xf32>",
            "down": f"tensor<{e}x{d}x{i}xf32>",
            "groups": self.groups,
            "random": "tensor<3xi64>",
            "y": self.x,
            "ids": self.ids,
            "scores": self.rows,
            "loss": "tensor<f32>",
        }

    def named(self, name: str) -> str:
        """The type of an argument or result and its attributes."""
        kind = self.types[name]
        facts = [f'moe.name = "{name}"']
        if kind.startswith("tensor<?x"):
            size = "G" if name == "groups" else "T"
            more = ', ""' if kind.count("x") > 1 + (name == "groups") else ""
            facts.append(f'moe.dims = ["{size}"{more}]')
        if name in ("gate_up", "down"):
            facts.append("moe.layout = #moe.layout<orientation = out_in>")
        return f"{kind} {{{', '.join(facts)}}}"

    def scores(self) -> str:
        """The probabilities that choices and losses are made of."""
        router = self.router
        if not (router.mix or router.loss or not self.training):
            return ""
        name = "%plain" if router.mix else "%scores"
        text = f"""
  {name} = moe.score %logits by softmax : {self.rows} -> {self.rows}"""
        if not router.mix:
            return text
        query, key = (
            ("%query", "%key") if router.mix == "attention" else ("%x", "%x")
        )
        return f"""{text}
  %scores = moe.mix %plain query({query} : {self.x}) key({key} : {self.x})
      groups(%groups : {self.groups}) heads {mix_heads(router, self.sizes)}
      scale {mix_scale(router, self.sizes)!r} causal
      : {self.rows} -> {self.rows}"""

    def route(self) -> str:
        """The choice of experts."""
        read = "%scores" if self.router.mix else "%logits"
        head, clause = "", ""
        if self.training and self.router.draws:
            clause = " training(%seed, %layer, %first)"
            head = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %seed = tensor.extract %random[%c0] : tensor<3xi64>
  %layer = tensor.extract %random[%c1] : tensor<3xi64>
  %first = tensor.extract %random[%c2] : tensor<3xi64>"""
        return f"""{head}
  %ids, %weights = moe.route {self.router.attribute} {read}{clause}
      : {self.rows} -> {self.ids}, {self.weights}"""

    def loss(self) -> str:
        """The loss that training adds."""
        kind, clause = self.router.loss, ""
        if not kind or not self.training:
            return ""
        clause = (
            f"ids(%ids : {self.ids})"
            if kind == "balance"
            else f"k {self.router.slots}"
        )
        return f"""
  %loss = moe.aux_loss <{kind}> %scores {clause}
      coefficient {self.router.coefficient!r} : {self.rows} -> tensor<f32>"""

    def function(self) -> str:
        """The whole layer."""
        types, experts = self.types, self.sizes.experts
        arguments = ",\n    ".join(
            f"%{name}: {self.named(name)}"
            for name in self.router.arguments(self.training)
        )
        names = ("y", "ids", "scores")
        if self.training:
            names = ("y", *self.router.losses)
        results = ",\n        ".join(self.named(name) for name in names)
        values = ", ".join(f"%{name}" for name in names)
        kinds = ", ".join(types[name] for name in names)
        return f"""func.func @{self.router.name}(
    {arguments})
    -> ({results})
    attributes {{moe.entry}} {{
  %logits = moe.gate %x, %router
      : ({self.x}, {types["router"]}) -> {self.rows}{self.scores()}\
{self.route()}{self.loss()}
  %rows, %offsets = moe.dispatch %x, %ids experts {experts}
      : ({self.x}, {self.ids}) -> ({self.x}, {self.offsets})
  %h = moe.experts %rows offsets(%offsets : {self.offsets})
      up(%gate_up : {types["gate_up"]}) down(%down : {types["down"]})
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : {self.x} -> {self.x}
  %y = moe.combine %h, %ids experts {experts}
      weights(%weights : {self.weights})
      : ({self.x}, {self.ids}) -> {self.x}
  return {values} : {kinds}
}}
"""


def source(router: Router, sizes: Sizes, training: bool) -> str:
    """IR of a layer, one function marked moe.entry."""
    return _Text(router, sizes, training).function()
