# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The description of one layer: keys, defaults, rules, operands.

The keys are those that the compiler's example builder takes as
`--set key=value`, so one description drives the reference and the compiler.

Sizes: T tokens, H hidden, E routed experts, Z identity (zero) experts,
R = E + Z router width, I expert width, L latent width, D = L or H (what the
experts read and write), S shared width, G token groups.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import dtypes


class SpecError(ValueError):
    """A key, value or combination that no layer can have."""


@dataclasses.dataclass(frozen=True)
class Operand:
    """One operand of a layer function: name, shape, storage type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


_CHOICES = {
    "x_dtype": dtypes.FLOATS,
    "router_dtype": dtypes.FLOATS,
    "weight_dtype": dtypes.FLOATS,
    "logit_dtype": dtypes.FLOATS,
    "score_dtype": dtypes.FLOATS,
    "route_dtype": dtypes.FLOATS,
    "router": ("top_k", "expert_choice"),
    "score": ("softmax", "sigmoid", "sqrt_softplus", "none"),
    "score_domain": ("all", "topk"),
    "group_score": ("max", "top2sum"),
    "group_fill": ("neg_inf", "zero"),
    "normalize": ("none", "sum", "pnorm"),
    "eps_mode": ("add", "clamp"),
    "weight_site": ("output", "input"),
    "capacity": ("none", "first_come", "prioritized"),
    "capacity_rounding": ("floor", "ceil", "nearest"),
    "capacity_per": ("tokens", "slots"),
    "choice_axis": ("experts", "tokens"),
    "activation": (
        "silu",
        "gelu",
        "gelu_tanh",
        "relu",
        "relu2",
        "identity",
    ),
    "act_style": ("plain", "oai"),
    "orientation": ("out_in", "in_out"),
    "down_orientation": ("out_in", "in_out"),
    "pairing": ("cat", "interleaved", "separate"),
    "order": ("gate_up", "up_gate"),
    "expert_axis": ("lead", "folded"),
    "shared_mode": ("sum", "average"),
}

# Keys with a smallest allowed value.
_AT_LEAST = {
    "experts": 1,
    "zero_experts": 0,
    "top_k": 1,
    "hidden": 1,
    "inter": 1,
    "latent": 0,
    "softcap": 0.0,
    "groups": 1,
    "kept_groups": 1,
    "eps": 0.0,
    "capacity_fixed": 0,
    "capacity_factor": 0.0,
    "capacity_multiple": 1,
    "capacity_min": 0,
    "act_limit": 0.0,
    "shared_inter": 0,
}


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """One layer. A spec states only what differs from these defaults."""

    # Shape.
    experts: int = 8
    zero_experts: int = 0
    top_k: int = 2
    hidden: int = 64
    inter: int = 128
    latent: int = 0
    # Types: stored operands, then the points at which routing rounds.
    x_dtype: str = "f32"
    router_dtype: str = "f32"
    weight_dtype: str = "f32"
    logit_dtype: str = "f32"
    score_dtype: str = "f32"
    route_dtype: str = "f32"
    # Router.
    router: str = "top_k"
    score: str = "softmax"
    score_domain: str = "all"
    softcap: float = 0.0
    select_bias: bool = False
    groups: int = 1
    kept_groups: int = 1
    group_score: str = "max"
    group_fill: str = "neg_inf"
    normalize: str = "none"
    norm_p: float = 1.0
    eps: float = 0.0
    eps_mode: str = "add"
    scale: float = 1.0
    expert_scale: bool = False
    weight_site: str = "output"
    indices: bool = False
    router_bias: bool = False
    router_norm: bool = False
    # Capacity, shared by token choice and expert choice.
    capacity: str = "none"
    capacity_fixed: int = 0
    capacity_factor: float = 1.0
    capacity_rounding: str = "floor"
    capacity_multiple: int = 1
    capacity_min: int = 1
    capacity_per: str = "tokens"
    # Expert choice.
    choice_axis: str = "experts"
    choice_normalize: bool = False
    # Experts.
    gated: bool = True
    activation: str = "silu"
    act_limit: float = 0.0
    act_style: str = "plain"
    act_alpha: float = 1.702
    expert_bias: bool = False
    # Layout.
    orientation: str = "out_in"
    down_orientation: str = "out_in"
    pairing: str = "cat"
    order: str = "gate_up"
    expert_axis: str = "lead"
    # Around the experts.
    shared_inter: int = 0
    shared_gate: bool = False
    shared_mode: str = "sum"
    output_scale: float = 1.0
    output_bias: bool = False
    token_mask: bool = False
    group_offsets: bool = False

    def __post_init__(self) -> None:
        self._check_values()
        self._check_router()
        self._check_experts()

    # Derived sizes.

    @property
    def router_width(self) -> int:
        """R: columns of the score row."""
        return self.experts + self.zero_experts

    @property
    def expert_width(self) -> int:
        """D: what an expert reads and writes."""
        return self.latent or self.hidden

    @property
    def up_rows(self) -> int:
        """Rows of one expert's first product: 2I gated, I ungated."""
        return 2 * self.inter if self.gated else self.inter

    # Validation.

    def _check_values(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = type(field.default)
            fits = type(value) is wanted or (
                wanted is float and type(value) is int
            )
            if not fits:
                raise SpecError(
                    f"{field.name}: expected {wanted.__name__}, got {value!r}"
                )
            if wanted is float:
                if not math.isfinite(value):
                    raise SpecError(f"{field.name}: {value} is not finite")
                object.__setattr__(self, field.name, float(value))
            choices = _CHOICES.get(field.name)
            if choices and value not in choices:
                raise SpecError(
                    f"{field.name}: '{value}' is not one of "
                    + ", ".join(choices)
                )
            low = _AT_LEAST.get(field.name)
            if low is not None and value < low:
                raise SpecError(f"{field.name}: {value} is smaller than {low}")

    def _forbid(self, condition: bool, message: str) -> None:
        if condition:
            raise SpecError(message)

    def _check_router(self) -> None:
        forbid, width = self._forbid, self.router_width
        choice = self.router == "expert_choice"
        forbid(
            not choice and not self.indices and self.top_k > width,
            f"top_k: {self.top_k} is more than the {width} columns to choose",
        )
        forbid(self.norm_p <= 0.0, f"norm_p: {self.norm_p} is not positive")
        forbid(
            width % self.groups != 0,
            f"groups: {self.groups} does not divide {width}",
        )
        forbid(
            self.kept_groups > self.groups,
            f"kept_groups: {self.kept_groups} of only {self.groups} groups",
        )
        size = width // self.groups
        forbid(
            self.groups > 1 and self.group_score == "top2sum" and size < 2,
            "group_score: top2sum needs two experts in each group",
        )
        forbid(
            not choice
            and not self.indices
            and self.top_k > self.kept_groups * size,
            f"top_k: {self.top_k} is more than the "
            f"{self.kept_groups * size} experts of the kept groups",
        )
        forbid(
            self.capacity != "none" and self.zero_experts > 0,
            "capacity: zero experts have no rows that it could count",
        )
        if not choice:
            return
        for key, off in (
            ("zero_experts", 0),
            ("score", "softmax"),
            ("score_domain", "all"),
            ("softcap", 0.0),
            ("select_bias", False),
            ("groups", 1),
            ("normalize", "none"),
            ("scale", 1.0),
            ("expert_scale", False),
            ("indices", False),
            ("capacity", "none"),
            ("capacity_per", "tokens"),
        ):
            forbid(
                getattr(self, key) != off,
                f"{key}: must stay {off!r} with router=expert_choice",
            )

    def _check_experts(self) -> None:
        forbid = self._forbid
        forbid(
            self.act_style == "oai" and not self.gated,
            "act_style: oai is defined for gated experts only",
        )
        forbid(
            self.act_style == "oai" and self.activation != "silu",
            "activation: oai has its own, leave it silu",
        )
        forbid(
            not self.gated
            and (self.pairing != "cat" or self.order != "gate_up"),
            "pairing, order: ungated experts have one matrix",
        )
        for key, off in (("shared_gate", False), ("shared_mode", "sum")):
            forbid(
                self.shared_inter == 0 and getattr(self, key) != off,
                f"{key}: needs shared_inter",
            )

    # Operands.

    def operands(self, tokens: int, token_groups: int = 1) -> list[Operand]:
        """The operands of the layer function, in order.

        Small per-column operands that a published checkpoint keeps in f32
        (selection_bias, expert_scale) are f32 here too, f64 in an f64
        layer. Those beside the router weight have router_dtype, those
        beside the expert weights weight_dtype.
        """
        hidden, width = self.hidden, self.router_width
        latent, shared = self.latent, self.shared_inter
        fine = "f64" if self.x_dtype == "f64" else "f32"
        router, weight = self.router_dtype, self.weight_dtype
        out = [
            Operand("x", (tokens, hidden), self.x_dtype),
            Operand("router_weight", (width, hidden), router),
        ]
        if self.router_bias:
            out.append(Operand("router_bias", (width,), router))
        if self.router_norm:
            out.append(Operand("router_scale", (hidden,), router))
        if self.select_bias:
            out.append(Operand("selection_bias", (width,), fine))
        if self.expert_scale:
            out.append(Operand("expert_scale", (width,), fine))
        if self.indices:
            out.append(Operand("indices", (tokens, self.top_k), "i32"))
        if self.token_mask:
            out.append(Operand("token_mask", (tokens,), "i1"))
        if self.group_offsets:
            out.append(Operand("group_offsets", (token_groups + 1,), "i32"))
        out += self._expert_operands()
        if shared:
            rows = 2 * shared if self.gated else shared
            out.append(Operand("shared_gate_up", (rows, hidden), weight))
            out.append(Operand("shared_down", (hidden, shared), weight))
        if self.shared_gate:
            out.append(Operand("shared_gate", (1, hidden), weight))
        if latent:
            out.append(Operand("latent_in", (latent, hidden), weight))
            out.append(Operand("latent_out", (hidden, latent), weight))
        if self.output_bias:
            out.append(Operand("output_bias", (hidden,), weight))
        return out

    def _expert_operands(self) -> list[Operand]:
        def stack(
            name: str, rows: int, cols: int, orientation: str
        ) -> Operand:
            shape = (rows, cols) if orientation == "out_in" else (cols, rows)
            if self.expert_axis == "folded":
                shape = (self.experts * shape[0], shape[1])
            else:
                shape = (self.experts, *shape)
            return Operand(name, shape, self.weight_dtype)

        depth, inter = self.expert_width, self.inter
        if self.pairing == "separate":
            out = [
                stack("gate", inter, depth, self.orientation),
                stack("up", inter, depth, self.orientation),
            ]
        else:
            out = [stack("gate_up", self.up_rows, depth, self.orientation)]
        if self.expert_bias:
            shape = (self.experts, self.up_rows)
            out.append(Operand("gate_up_bias", shape, self.weight_dtype))
        out.append(stack("down", depth, inter, self.down_orientation))
        if self.expert_bias:
            shape = (self.experts, depth)
            out.append(Operand("down_bias", shape, self.weight_dtype))
        return out

    def layouts(self) -> dict[str, str]:
        """The layout of every operand that has one, as the compiler prints it.

        Separate weights have names and no order; their biases, one tensor,
        lie as in cat. A shared expert is stored as a dense MLP is.
        """

        def text(pairing: str, order: str) -> str:
            words = [f"orientation = {self.orientation}"]
            for key, value, default in (
                ("down", self.down_orientation, "out_in"),
                ("pairing", pairing, "cat"),
                ("order", order, "gate_up"),
                ("expert_axis", self.expert_axis, "lead"),
            ):
                if value != default:
                    words.append(f"{key} = {value}")
            return f"#moe.layout<{', '.join(words)}>"

        if self.pairing == "separate":
            weights = text("separate", "gate_up")
            biases = text("cat", self.order)
            out = {"gate": weights, "up": weights, "down": weights}
        else:
            weights = biases = text(self.pairing, self.order)
            out = {"gate_up": weights, "down": weights}
        if self.expert_bias:
            out["gate_up_bias"] = biases
        if self.shared_inter:
            dense = "#moe.layout<orientation = out_in, expert_axis = folded>"
            out.update(shared_gate_up=dense, shared_down=dense)
        return out

    # Text forms.

    def stated(self) -> dict[str, Any]:
        """The keys whose value differs from the default, in order."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def to_flags(self) -> list[str]:
        """Command-line words: `--set`, `key=value`, for every stated key."""
        words = []
        for key, value in self.stated().items():
            if isinstance(value, bool):
                text = "true" if value else "false"
            else:
                text = repr(value) if isinstance(value, float) else str(value)
            words += ["--set", f"{key}={text}"]
        return words

    def to_json(self) -> str:
        """The stated keys as JSON."""
        return json.dumps(self.stated())

    @staticmethod
    def from_json(text: str) -> LayerSpec:
        """Reads what `to_json` wrote; unknown keys are errors."""
        values = json.loads(text)
        known = {field.name for field in dataclasses.fields(LayerSpec)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise SpecError(f"unknown key '{unknown[0]}'")
        return LayerSpec(**values)
