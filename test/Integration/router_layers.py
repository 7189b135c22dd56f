# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""IR and operands of the layers of random_routers."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys

import ml_dtypes
import numpy as np

_HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE / "Gradients"), str(_HERE.parent / "reference")]

import dtypes  # noqa: E402
import routing  # noqa: E402
from draw import Stream  # noqa: E402
from expert_layers import Experts  # noqa: E402
from op_gradients import write_body  # noqa: E402
from random_routers import RouterLayer  # noqa: E402
from routed_layers import choice_rule  # noqa: E402

# Kind, clauses, and what they read.
LOSSES = {
    "z": ("z", "", "logits"),
    "entropy": ("entropy", "", "scores"),
    "importance": ("importance", "eps 0.001", "scores"),
    "unbiased": ("importance", "unbiased eps 1.0e-10", "scores"),
    "token_balance": ("token_balance", "", "logits"),
    "trimmed_lasso": ("trimmed_lasso", "k {k}", "scores"),
    "l1_balance": ("l1_balance", "k {k}", "relu"),
    "balance": ("balance", "ids(%ids0 : {ids})", "scores"),
    "per_slot": ("balance", "ids(%ids0 : {ids}) per_slot", "scores"),
    "first_place": ("first_place", "ids(%ids0 : {ids})", "scores"),
    "second_place": ("second_place", "ids(%ids0 : {ids})", "scores"),
}
COEFFICIENT = 0.5
FLOATS = {
    "f32": np.float32,
    "f64": np.float64,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
}


def expert_weights(layer: RouterLayer) -> Experts:
    """The experts' function and weights."""
    return Experts(
        experts=layer.experts,
        hidden=layer.hidden,
        inter=layer.inter,
        gated=layer.gated,
        activation=layer.activation,
        biases=layer.biases,
        layout=layer.layout,
        dtype=layer.storage,
    )


def choice_columns(layer: RouterLayer, tokens: int) -> int:
    """C of expert choice, with room for every way to group the tokens."""
    spec = choice_rule(layer)
    largest = min(tokens, routing.capacity(spec, tokens))
    if layer.groups < 2:
        return largest
    slack = spec.capacity_multiple + 1
    return min(tokens, max(1, layer.groups) * (largest + slack))


@dataclasses.dataclass(frozen=True)
class Entry:
    """The text of a layer, and the types of what it takes."""

    source: str
    inputs: dict[str, str]

    def arrays(self, operands: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Operands in the types that the entry takes."""
        out = {}
        for name, kind in self.inputs.items():
            dtype = element_of(kind)
            out[name] = operands[name]
            if dtype in FLOATS:
                out[name] = np.asarray(operands[name], dtype=FLOATS[dtype])
        return out


class Text:
    """Pieces of a layer's IR. With `exposed` what the choice reads is a
    result, `values`."""

    def __init__(self, layer: RouterLayer, exposed: bool = False) -> None:
        self.layer = layer
        self.exposed = exposed
        self.experts = expert_weights(layer)
        s, c = layer.storage, layer.compute
        self.x = f"tensor<?x{layer.hidden}x{s}>"
        self.logits = f"tensor<?x{layer.columns}x{c}>"
        rows, columns = "?", layer.slots
        if layer.kind == "expert_choice":
            rows = layer.experts
            columns = max(1, choice_columns(layer, layer.tokens))
        self.ids = f"tensor<{rows}x{columns}xi32>"
        self.weights = f"tensor<{rows}x{columns}x{c}>"
        groups = layer.groups + 1 if layer.static_groups else "?"
        self.groups = f"tensor<{groups}xi32>"
        self.inputs = {"x": self.x}
        self.parts: list[str] = []

    def operand(self, name: str, kind: str) -> str:
        """`%name : type`, an argument of the entry."""
        self.inputs[name] = kind
        return f"%{name} : {kind}"

    def masking(self, groups: bool) -> str:
        """The clauses for masks and groups."""
        text = ""
        if self.layer.mask:
            text += f" mask({self.operand('mask', 'tensor<?xi1>')})"
        return text + (self.grouping() if groups else "")

    def grouping(self) -> str:
        """The clause for groups."""
        if not self.layer.groups:
            return ""
        return f" groups({self.operand('groups', self.groups)})"

    def gate(self) -> None:
        """%logits, and %raw for learned noise."""
        layer, c = self.layer, self.layer.compute
        reads, kind = "%x", self.x
        shape = f"{layer.columns}x{layer.hidden}"
        weight = f"tensor<{shape}x{layer.router_dtype}>"
        self.inputs["router"] = weight
        router = "%router"
        wide = f"tensor<?x{layer.hidden}x{c}>"
        if layer.jitter:
            self.parts.append(f"""
  %next = arith.constant 1 : i64
  %other = arith.addi %layer, %next : i64
  %jittered = moe.jitter %x eps {layer.jitter!r} draw(%seed, %other, %first)
    : {kind} -> {wide}""")
            reads, kind = "%jittered", wide
        if layer.gate == "cosine":
            soft = layer.kind == "soft"
            mode = "<add> 1.0e-6" if soft else "<clamp> 1.0e-12"
            scale = self.operand("scale", f"tensor<{c}>")
            unit = f"tensor<{shape}x{c}>"
            self.parts.append(f"""
  %unit = moe.unit_rows {reads} eps {mode} : {kind} -> {wide}
  %directions = moe.unit_rows %router eps {mode} scale({scale})
    : {weight} -> {unit}""")
            reads, kind, router, weight = "%unit", wide, "%directions", unit
        bias = ""
        if layer.gate_bias:
            own = self.operand("router_bias", f"tensor<{layer.columns}x{c}>")
            bias = f" bias({own})"
        self.parts.append(f"""
  %logits = moe.gate {reads}, {router}{bias}
    : ({kind}, {weight}) -> {self.logits}""")
        if layer.learned_noise:
            second = f"tensor<{shape}x{layer.router_dtype}>"
            self.inputs["router_noise"] = second
            if layer.gate == "cosine":
                reads, kind = "%x", self.x
            self.parts.append(f"""
  %raw = moe.gate {reads}, %router_noise
    : ({kind}, {second}) -> {self.logits}""")

    def mix(self) -> str:
        """What the choice reads."""
        mix, layer = self.layer.mix, self.layer
        if mix is None:
            return "%logits"
        values, c = "%scores" if mix.of_scores else "%logits", layer.compute
        clauses = ""
        if mix.posterior:
            kind = f"tensor<?x{mix.heads}x{c}>"
            clauses = f" posterior({self.operand('posterior', kind)})"
        clauses += self.masking(groups=True)
        clauses += " causal" if mix.causal else ""
        if mix.form == "matrix":
            kind = f"tensor<{mix.heads}x?x?x{c}>"
            self.inputs["matrices"] = kind
            self.parts.append(f"""
  %mixed = moe.mix_matrix {values} by %matrices{clauses}
    : ({self.logits}, {kind}) -> {self.logits}""")
            return "%mixed"
        query = key = f"%x : {self.x}"
        if mix.form == "learned":
            own = f"tensor<{layer.hidden}x{layer.hidden}x{layer.storage}>"
            self.inputs["similarity"] = own
            row = f"tensor<?x{layer.hidden}x{c}>"
            self.parts.append(f"""
  %query = moe.gate %x, %similarity : ({self.x}, {own}) -> {row}""")
            query = f"%query : {row}"
        elif mix.form == "attention":
            widths = (mix.heads * mix.width, mix.shared * mix.width)
            query, key = (
                self.operand(name, f"tensor<?x{width}x{c}>")
                for name, width in zip(("query", "key"), widths)
            )
        self.parts.append(f"""
  %mixed = moe.mix {values} query({query}) key({key}){clauses}
    heads {mix.heads} scale {mix.scale!r} : {self.logits} -> {self.logits}""")
        return "%mixed"

    def route(self, values: str) -> None:
        """%ids0 and %weights0, before any capacity."""
        layer, clauses = self.layer, self.masking(groups=False)
        if "load" in layer.losses:
            values = self.noise()
        elif layer.training:
            clauses += " training(%seed, %layer, %first)"
            if layer.learned_noise:
                clauses += f" noise(%raw : {self.logits})"
        self.parts.append(f"""
  %ids0, %weights0 = moe.route #moe.{layer.kind}<{layer.settings}> {values}
    {clauses} : {self.logits} -> {self.ids}, {self.weights}""")

    def noise(self) -> str:
        """The noisy logits as an op, and the load loss that needs them."""
        layer, logits = self.layer, self.logits
        facts = dict(part.split(" = ") for part in layer.settings.split(", "))
        clause, sigma, result, types = "", "", "%noisy", logits
        if layer.learned_noise:
            floor = facts.get("floor")
            clause = f" noise(%raw : {logits})"
            clause += f" floor {floor}" if floor else ""
            sigma, result = f"sigma(%sigma : {logits})", "%noisy, %sigma"
            types += f", {logits}"
        else:
            clause = sigma = f" std {facts['std']}"
        threshold = "kth_excluding" if layer.learned_noise else "kth"
        self.parts.append(f"""
  {result} = moe.noisy_logits <{facts["noise"]}> %logits{clause}
    draw(%seed, %layer, %first) : {logits} -> {types}
  %load = moe.load_loss <{threshold}> %logits, %noisy {sigma}
    {self.masking(groups=True)} k {layer.slots} eps 1.0e-10
    coefficient {COEFFICIENT}
    : {logits}, {logits} -> tensor<{layer.compute}>""")
        return "%noisy"

    def limit(self) -> None:
        """%ids and %w, what the experts see."""
        layer = self.layer
        if not layer.capacity:
            self.parts = [
                part.replace("%ids0", "%ids").replace("%weights0", "%w")
                for part in self.parts
            ]
            return
        rest = " normalize 1.0e-9" if layer.renormalize else ""
        self.parts.append(f"""
  %ids, %w = moe.limit_capacity %ids0, %weights0 experts {layer.experts}
    by #moe.capacity<{layer.capacity}> queue <{layer.queue}>{rest}
    {self.grouping()} : {self.ids}, {self.weights}""")

    def tokens(self) -> str:
        """T as a value."""
        text = f"""
  %zero = arith.constant 0 : index
  %T = tensor.dim %x, %zero : {self.x}"""
        if text not in self.parts:
            self.parts.append(text)
        return "%T"

    def losses(self) -> dict[str, str]:
        """Results by name."""
        layer, kind = self.layer, f"tensor<{self.layer.compute}>"
        for name in layer.losses:
            if name == "load":
                continue
            which, clauses, of = LOSSES[name]
            clauses = clauses.format(k=max(1, layer.slots), ids=self.ids)
            if of == "scores" and layer.mix and layer.mix.of_scores:
                of = "mixed"
            if of == "relu":
                count = self.tokens()
                self.parts.append(f"""
  %nothing = arith.constant 0.0 : {layer.compute}
  %floor = tensor.splat %nothing[{count}] : {self.logits}
  %relu = arith.maximumf %logits, %floor : {self.logits}""")
            self.parts.append(f"""
  %{name} = moe.aux_loss <{which}> %{of} {clauses}
    {self.masking(groups=True)} coefficient {COEFFICIENT}
    : {self.logits} -> {kind}""")
        return {name: kind for name in layer.losses}

    def by_token(self) -> dict[str, str]:
        """A token choice and its experts; results."""
        layer, x, ids = self.layer, self.x, self.ids
        values = self.mix()
        self.route(values)
        results = self.losses()
        self.limit()
        offsets = f"tensor<{layer.experts + 1}xi32>"
        self.parts.append(f"""
  %rows, %offsets = moe.dispatch %x, %ids experts {layer.experts}
    : ({x}, {ids}) -> ({x}, {offsets}){self.experts.expert_op(x)}
  %y = moe.combine %out, %ids experts {layer.experts}
    weights(%w : {self.weights}) : ({x}, {ids}) -> {x}""")
        if self.exposed:
            self.parts.append(f"""
  %values = tensor.cast {values} : {self.logits} to {self.logits}""")
            if layer.capacity:
                results |= {"ids0": ids, "weights0": self.weights}
        return {"y": x, "ids": ids, "w": self.weights, **results}

    def by_expert(self) -> dict[str, str]:
        """An expert choice; results."""
        layer, x, ids = self.layer, self.x, self.ids
        results = self.losses()
        sizes = ids.removeprefix("tensor<").split("x")
        n = int(sizes[0]) * int(sizes[1])
        rows = f"tensor<{n}x{layer.hidden}x{layer.storage}>"
        offsets = f"tensor<{layer.experts + 1}xi32>"
        settings = f"#moe.expert_choice<{layer.settings}>"
        count = self.tokens()
        self.parts.append(f"""
  %ids, %w = moe.route_experts {settings} %logits
    {self.masking(groups=True)} : {self.logits} -> {ids}, {self.weights}
  %rows, %offsets = moe.dispatch %x, %ids experts {layer.experts}
    chosen_by <expert> : ({x}, {ids}) -> ({rows}, {offsets})\
{self.experts.expert_op(rows)}
  %y = moe.combine %out, %ids experts {layer.experts} chosen_by <expert>
    weights(%w : {self.weights}) num_tokens({count})
    : ({rows}, {ids}) -> {x}""")
        return {"y": x, "ids": ids, "w": self.weights, **results}

    def soft(self) -> dict[str, str]:
        """Soft slots; results."""
        layer, x, s = self.layer, self.x, self.logits
        results = self.losses()
        count = max(1, layer.groups) * layer.columns
        if layer.groups and not layer.static_groups:
            count = "?"
        rows = f"tensor<{count}x{layer.hidden}x{layer.storage}>"
        offsets, groups = f"tensor<{layer.experts + 1}xi32>", self.grouping()
        self.parts.append(f"""
  %d, %w = moe.route_slots %logits{self.masking(groups=True)} : {s} -> {s}, {s}
  %rows, %offsets = moe.soft_dispatch %x, %d experts {layer.experts}{groups}
    : ({x}, {s}) -> ({rows}, {offsets}){self.experts.expert_op(rows)}
  %y = moe.soft_combine %out, %w experts {layer.experts}{groups}
    : ({rows}, {s}) -> {x}""")
        return {"y": x, "d": s, "w": s, **results}

    def entry(self) -> Entry:
        """The whole layer."""
        layer = self.layer
        if layer.draws:
            self.inputs["random"] = "tensor<3xi64>"
        self.gate()
        if layer.losses or (layer.mix and layer.mix.of_scores):
            self.parts.append(f"""
  %scores = moe.score %logits by softmax : {self.logits} -> {self.logits}""")
        build = {"soft": self.soft, "expert_choice": self.by_expert}
        results = build.get(layer.kind, self.by_token)()
        if self.exposed:
            name = "values" if "%values" in self.parts[-1] else "logits"
            results[name] = self.logits
        for name, shape in self.experts.tensors().items():
            self.inputs[name] = self.experts.type_of(shape)
        source = write_body("".join(self.parts), self.inputs, results)
        return Entry(source, self.inputs)


def shape_of(kind: str, tokens: int) -> tuple[int, ...]:
    """The shape of an operand's type; what is dynamic is T."""
    sizes = kind.removeprefix("tensor<").split("x")[:-1]
    return tuple(tokens if size == "?" else int(size) for size in sizes)


def element_of(kind: str) -> str:
    """The element of a tensor type."""
    return kind.removeprefix("tensor<").removesuffix(">").split("x")[-1]


def _scale_of(layer: RouterLayer, name: str) -> float:
    """The standard deviation of an operand's values."""
    fans = {
        "x": (1.0, 1),
        "gate": (1.5, layer.hidden),
        "up": (1.5, layer.hidden),
        "down": (2.0, layer.inter),
        "router": (2.0, layer.hidden),
        "router_noise": (1.0, layer.hidden),
        "similarity": (1.0, layer.hidden),
        "query": (1.0, 1),
        "key": (1.0, 1),
    }
    gain, fan = fans.get(name, (0.4, 1))
    return gain / math.sqrt(fan)


def draw_row(layer: RouterLayer, token: int, attempt: int) -> np.ndarray:
    """A token's row."""
    stream = Stream(layer.seed, "x", token, attempt)
    return dtypes.round_to(stream.normal(layer.hidden), layer.storage)


def draw_operands(layer: RouterLayer) -> dict[str, np.ndarray]:
    """All operands: f64 where they are floats, representable in their own
    type."""
    out: dict[str, np.ndarray] = {}
    for name, kind in Text(layer).entry().inputs.items():
        stream = Stream(layer.seed, name)
        shape = shape_of(kind, layer.tokens)
        if name == "x":
            rows = [draw_row(layer, t, 0) for t in range(layer.tokens)]
            out[name] = np.array(rows).reshape(shape)
            continue
        if name == "random":
            out[name] = np.array(
                [stream.below(2**31), stream.below(64), stream.below(2**33)],
                dtype=np.int64,
            )
            continue
        if name == "mask":
            share = stream.pick([0.75, 0.75, 0.75, 0.4, 1.0, 0.0])
            out[name] = stream.uniform(layer.tokens) < share
            continue
        if name == "groups":
            cuts = sorted(
                stream.below(layer.tokens + 1) for _ in range(layer.groups - 1)
            )
            out[name] = np.array([0, *cuts, layer.tokens], dtype=np.int32)
            continue
        if name in ("posterior", "matrices"):
            values = 0.1 + stream.uniform(*shape)
            values /= values.sum(axis=-1, keepdims=True)
        elif name == "scale":
            values = np.array(stream.pick([1.0, 4.0, 10.0]))
        else:
            values = _scale_of(layer, name) * stream.normal(*shape)
        if name == "router_bias" and layer.cold:
            values[np.argsort(stream.uniform(*shape))[: layer.cold]] = -np.inf
        out[name] = dtypes.round_to(values, element_of(kind))
    return out
