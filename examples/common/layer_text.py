# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The IR of the layers that layers.py describes.

No router of `moe-compile --example` but the first is one of these, so the IR
is a text with a place for the routing.
"""

from __future__ import annotations

from .layers import Router, Sizes, mix_heads, mix_scale

SOFT_EPS = 1e-6


class _Text:
    """Pieces of the IR of one layer."""

    def __init__(self, router: Router, sizes: Sizes, training: bool) -> None:
        self.router = router
        self.sizes = sizes
        self.training = training
        self.x = f"tensor<?x{sizes.width}xf32>"
        self.rows = f"tensor<?x{sizes.experts}xf32>"
        self.groups = "tensor<?xi32>"
        self.offsets = f"tensor<{sizes.experts + 1}xi32>"
        self.ids = f"tensor<?x{router.slots}xi32>"
        self.weights = f"tensor<?x{router.slots}xf32>"
        if router.chooser == "experts":
            self.ids = f"tensor<{sizes.experts}x?xi32>"
            self.weights = f"tensor<{sizes.experts}x?xf32>"
        elif router.chooser == "slots":
            self.rows = f"tensor<?x{router.sequence_slots(sizes)}xf32>"
        self.types = {
            "x": self.x,
            "query": self.x,
            "key": self.x,
            "groups": self.groups,
            "random": "tensor<3xi64>",
            "y": self.x,
            "ids": self.ids,
            "scores": self.rows,
            "combine": self.rows,
            "loss": "tensor<f32>",
        }
        for name, shape in router.weight_shapes(sizes).items():
            self.types[name] = f"tensor<{''.join(f'{n}x' for n in shape)}f32>"

    def named(self, name: str) -> str:
        """The type of an argument or result and its attributes."""
        kind = self.types[name]
        facts = [f'moe.name = "{name}"']
        if "?" in kind:
            dims = '"T", ""'
            if name == "groups":
                dims = '"G"'
            elif kind.startswith(f"tensor<{self.sizes.experts}x?"):
                dims = '"", "C"'
            facts.append(f"moe.dims = [{dims}]")
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
        causal = " causal" if router.causal else ""
        return f"""{text}
  %scores = moe.mix %plain query({query} : {self.x}) key({key} : {self.x})
      groups(%groups : {self.groups}) heads {mix_heads(router, self.sizes)}
      scale {mix_scale(router, self.sizes)!r}{causal}
      : {self.rows} -> {self.rows}"""

    def route(self) -> str:
        """The choice of experts."""
        router = self.router
        read = "%scores" if router.mix else "%logits"
        head, clause, op = "", "", "moe.route"
        if router.chooser == "experts":
            op, clause = "moe.route_experts", f" groups(%groups : {self.groups})"
        elif self.training and router.draws:
            clause = " training(%seed, %layer, %first)"
            head = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %seed = tensor.extract %random[%c0] : tensor<3xi64>
  %layer = tensor.extract %random[%c1] : tensor<3xi64>
  %first = tensor.extract %random[%c2] : tensor<3xi64>"""
        return f"""{head}
  %ids, %weights = {op} {router.attribute_for(self.sizes)} {read}{clause}
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

    def experts(self) -> str:
        """The experts on %rows, their outputs in %h."""
        return f"""
  %h = moe.experts %rows offsets(%offsets : {self.offsets})
      up(%gate_up : {self.types["gate_up"]}) down(%down : {self.types["down"]})
      gated activation #moe.activation<kind = silu>
      layout <orientation = out_in> : {self.x} -> {self.x}"""

    def chosen(self) -> str:
        """Tokens that choose experts, or are chosen by them."""
        sides, tokens, count = f"experts {self.sizes.experts}", "", ""
        if self.router.chooser == "experts":
            sides += " chosen_by <expert>"
            count = " num_tokens(%tokens)"
            tokens = f"""
  %zero = arith.constant 0 : index
  %tokens = tensor.dim %x, %zero : {self.x}"""
        return f"""
  %logits = moe.gate %x, %router
      : ({self.x}, {self.types["router"]}) -> {self.rows}{self.scores()}\
{self.route()}{self.loss()}{tokens}
  %rows, %offsets = moe.dispatch %x, %ids {sides}
      : ({self.x}, {self.ids}) -> ({self.x}, {self.offsets}){self.experts()}
  %y = moe.combine %h, %ids {sides}
      weights(%weights : {self.weights}){count}
      : ({self.x}, {self.ids}) -> {self.x}"""

    def soft(self) -> str:
        """Slots that average tokens, tokens that average slots."""
        router = self.types["router"]
        experts = f"experts {self.sizes.experts}"
        groups = f"groups(%groups : {self.groups})"
        return f"""
  %unit = moe.unit_rows %x eps <add> {SOFT_EPS:.1e} : {self.x} -> {self.x}
  %slots = moe.unit_rows %router eps <add> {SOFT_EPS:.1e}
      scale(%scale : tensor<f32>) : {router} -> {router}
  %logits = moe.gate %unit, %slots : ({self.x}, {router}) -> {self.rows}
  %dispatch, %combine = moe.route_slots %logits {groups}
      : {self.rows} -> {self.rows}, {self.rows}
  %rows, %offsets = moe.soft_dispatch %x, %dispatch {experts} {groups}
      : ({self.x}, {self.rows}) -> ({self.x}, {self.offsets}){self.experts()}
  %y = moe.soft_combine %h, %combine {experts} {groups}
      : ({self.x}, {self.rows}) -> {self.x}"""

    def function(self) -> str:
        """The whole layer."""
        router = self.router
        arguments = ",\n    ".join(
            f"%{name}: {self.named(name)}"
            for name in router.arguments(self.training)
        )
        names = router.results(self.training)
        results = ",\n        ".join(self.named(name) for name in names)
        values = ", ".join(f"%{name}" for name in names)
        kinds = ", ".join(self.types[name] for name in names)
        body = self.soft() if router.chooser == "slots" else self.chosen()
        return f"""func.func @{router.name}(
    {arguments})
    -> ({results})
    attributes {{moe.entry}} {{{body}
  return {values} : {kinds}
}}
"""


def source(router: Router, sizes: Sizes, training: bool) -> str:
    """IR of a layer, one function marked moe.entry."""
    return _Text(router, sizes, training).function()
