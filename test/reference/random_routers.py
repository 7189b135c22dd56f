# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random layers of the routers that no spec describes, as settings.

What stands in front of a router (jitter, gates, mixes), the router, the
capacity behind it and the losses beside it are drawn; what has no meaning is
not: a mix of logits of which some are -inf, two choices with one expert, a
load loss without noise, directions in one dimension. The IR is made in test/Integration/router_layers.py.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from draw import Stream

# Twice, where a router has more settings.
KINDS = (
    "exact_k", "exact_k", "dynamic_k", "dynamic_k", "moesart", "moesart",
    "noisy_top_k", "noisy_top_k", "gshard", "gshard", "sparse_mixer",
    "product_keys", "top_k", "top_k", "top_k", "expert_choice",
    "expert_choice", "soft", "soft",
)  # fmt: skip
SAMPLES = (
    "exact_k", "dynamic_k", "moesart", "noisy_top_k", "gshard", "sparse_mixer"
)  # fmt: skip
SIZES = (1, 2, 3, 4, 5, 7, 8, 8, 12, 16, 16, 33)
TOKENS = (0, 1, 2, 5, 9, 16, 17, 24, 31, 40, 57, 70)


@dataclasses.dataclass(frozen=True)
class Mix:
    """A mix in front of a choice."""

    form: str  # "dot", "learned" (a dot with W_s), "attention" or "matrix".
    of_scores: bool  # Probabilities are mixed, else logits.
    heads: int = 1
    shared: int = 1  # Heads of the key.
    width: int = 1  # Of a head.
    scale: float = 1.0
    posterior: bool = False
    causal: bool = False


@dataclasses.dataclass(frozen=True)
class RouterLayer:
    """A gate, a router, experts and losses."""

    seed: int
    kind: str
    settings: str  # Of the router's attribute.
    slots: int  # Of a token, or soft slots of an expert.
    experts: int
    hidden: int
    inter: int
    tokens: int
    storage: str = "f32"  # The type of rows and weights.
    router_dtype: str = "f32"
    training: bool = False
    learned_noise: bool = False
    gate: str = "linear"  # Or "cosine".
    gate_bias: bool = False
    cold: int = 0  # Experts whose logits are -inf.
    jitter: float = 0.0
    mix: Mix | None = None
    left: int = 0  # Columns of product keys' first half.
    mask: bool = False
    groups: int = 0  # None at all with 0.
    static_groups: bool = False
    capacity: str = ""
    queue: str = "first_come"
    renormalize: bool = False
    losses: tuple[str, ...] = ()
    gated: bool = True
    activation: str = "kind = silu"
    biases: bool = False
    layout: str = "orientation = out_in"

    @property
    def compute(self) -> str:
        """The type of logits, weights and losses."""
        return "f64" if self.storage == "f64" else "f32"

    @property
    def columns(self) -> int:
        """Of the logits."""
        if self.kind == "product_keys":
            return self.left + self.experts // self.left
        return self.experts * (self.slots if self.kind == "soft" else 1)

    @property
    def draws(self) -> bool:
        """Whether there are random numbers."""
        return self.training or self.jitter > 0.0

    @property
    def is_surrogate(self) -> bool:
        """Whether the gradient is by definition not the derivative."""
        surrogates = ("exact_k", "dynamic_k", "sparse_mixer")
        return self.training and self.kind in surrogates

    @property
    def has_kinks(self) -> bool:
        """Whether experts have a derivative that jumps."""
        return self.activation == "kind = relu"

    @property
    def has_backward(self) -> bool:
        """Whether there is a gradient at all."""
        return "weights = assignment" not in self.settings

    def widened(self) -> RouterLayer:
        """The same in f64."""
        return dataclasses.replace(
            self, storage="f64", router_dtype="f64"
        )

    def stated(self) -> str:
        """What differs from the defaults, in one line."""
        out = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                out.append(f"{field.name}={value!r}")
        return " ".join(out)


def _band(stream: Stream, experts: int) -> tuple[int, int]:
    """The smallest and the largest number of experts; often all of them."""
    most = 1 + stream.below(min(experts, 8))
    if stream.chance(0.1):
        most = experts
    return 1 + stream.below(most), most


def _token_router(
    stream: Stream, kind: str, experts: int, training: bool
) -> dict[str, Any]:
    """Settings and slots of a token choice."""
    low, k = _band(stream, experts)
    out: dict[str, Any] = {"slots": k}
    if kind == "exact_k" or kind == "dynamic_k":
        size = f"k = {k}" if kind == "exact_k" else f"min = {low}, max = {k}"
        out["settings"] = size + stream.pick(["", ", normalize = sum"])
    elif kind == "moesart":
        out["settings"] = (
            f"k = {k}, "
            f"weighting = {stream.pick(['zero', 'small_random', 'large'])}, "
            f"replacement = {stream.pick(['true', 'false'])}, "
            f"temperature = {stream.pick([0.5, 1.0, 2.0])}"
        )
    elif kind == "noisy_top_k":
        noise = stream.pick(["learned", "normal", "gumbel"])
        extra = {
            "learned": stream.pick(["", ", floor = 0.25"]),
            "normal": f", std = {stream.pick([0.125, 0.5])}",
            "gumbel": f", temperature = {stream.pick([0.5, 1.0])}",
        }[noise]
        weights = stream.pick(["chosen", "all", "clean"])
        out["settings"] = f"k = {k}, noise = {noise}{extra}"
        out["settings"] += f", weights = {weights}"
        out["learned_noise"] = training and noise == "learned"
    elif kind == "gshard":
        policies = ["all", "none", "threshold"]
        policies = ["random", "sampling"] if training else policies
        out["slots"] = 2
        out["settings"] = (
            f"policy = {stream.pick(policies)}, "
            f"threshold = {stream.pick([0.2, 0.45])}, "
            f"normalize = {stream.pick(['before', 'after'])}"
        )
    elif kind == "sparse_mixer":
        out["slots"] = 2
        out["settings"] = f"eps = {stream.pick([0.01, 0.1, 0.3])}"
    else:
        out["settings"] = f"k = {k}" + stream.pick(["", ", normalize = sum"])
    return out


def _product_keys(stream: Stream) -> dict[str, Any]:
    left, right = 1 + stream.below(6), 1 + stream.below(6)
    k = 1 + stream.below(min(left * right, 8))
    domain = stream.pick(["topk", "all"])
    return {
        "experts": left * right,
        "left": left,
        "slots": k,
        "settings": f"k = {k}, left = {left}, domain = {domain}",
    }


def _capacity(stream: Stream) -> str:
    if stream.chance(0.3):
        return f"fixed = {1 + stream.below(4)}"
    return (
        f"factor = {stream.pick([0.5, 1.0, 1.25, 2.0])}, "
        f"rounding = {stream.pick(['floor', 'ceil', 'nearest'])}, "
        f"multiple = {stream.pick([1, 1, 4])}"
    )


def _expert_choice(stream: Stream, storage: str) -> dict[str, Any]:
    settings = f"capacity = <{_capacity(stream)}>"
    if stream.chance(0.5):
        settings += f", cap = {stream.pick([1.0, 1.5, 2.0])}"
        settings += f", strength = {stream.pick([0.05, 0.2])}"
        settings += f", sweeps = {stream.pick([1, 7, 30])}"
        # It multiplies the error of f32 logits by 1 / strength.
        if storage == "f64" and stream.chance(0.4):
            return {"settings": settings + ", weights = assignment"}
    else:
        settings += f", axis = {stream.pick(['experts', 'tokens', 'given'])}"
    return {"settings": settings + stream.pick(["", ", normalize = sum"])}


def _mix(stream: Stream, hidden: int) -> Mix:
    form = stream.pick(["dot", "learned", "attention", "attention", "matrix"])
    of_scores = stream.chance(0.6)
    causal = stream.chance(0.5)
    if form in ("dot", "learned"):
        scale = 1.0 / math.sqrt(hidden)
        return Mix(form, of_scores, scale=scale, causal=causal)
    shared = stream.pick([1, 1, 2, 3])
    heads = shared * stream.pick([1, 2])
    width = stream.pick([1, 3, 4, 8])
    return Mix(
        form, of_scores, heads, shared, width, scale=0.75 / math.sqrt(width),
        posterior=stream.chance(0.5), causal=causal,
    )  # fmt: skip


def _losses(stream: Stream, keys: dict[str, Any]) -> tuple[str, ...]:
    """Names of losses, which router_layers knows."""
    kind, slots = keys["kind"], keys["slots"]
    if not stream.chance(0.5):
        return ()
    if kind == "product_keys":
        return ("z",)
    if kind == "soft":
        return (stream.pick(["z", "entropy", "importance"]),)
    names = ["z", "entropy", "importance", "trimmed_lasso"]
    # A softmax over tokens that are all -inf is NaN.
    names += [] if keys.get("cold") else ["token_balance"]
    if keys["experts"] > 1:
        names.append("unbiased")
    if kind != "expert_choice":
        names += ["balance", "balance", "per_slot", "first_place"]
        names += ["second_place"] if slots > 1 else []
    if not keys.get("mix"):
        names.append("l1_balance")
    if kind == "noisy_top_k" and keys["training"]:
        noise = keys["settings"]
        if "gumbel" not in noise and "clean" not in noise:
            names += ["load"] * 6
    first = stream.pick(names)
    second = stream.pick(names)
    return (first,) if first == second or stream.chance(0.5) else (
        first, second
    )  # fmt: skip


def _expert_function(stream: Stream) -> dict[str, Any]:
    out: dict[str, Any] = {"gated": stream.chance(0.7)}
    kind = stream.pick(
        ["silu", "silu", "gelu", "gelu_tanh", "relu", "relu2", "identity"]
    )
    out["activation"] = f"kind = {kind}"
    if out["gated"] and stream.chance(0.2):
        out["activation"] = "kind = silu, style = oai, limit = 7.0"
    out["biases"] = stream.chance(0.3)
    layout = f"orientation = {stream.pick(['out_in', 'in_out'])}"
    layout += f", down = {stream.pick(['out_in', 'in_out'])}"
    if out["gated"]:
        pairing = stream.pick(["cat", "interleaved", "separate"])
        layout += f", pairing = {pairing}"
        if pairing != "separate":
            layout += f", order = {stream.pick(['gate_up', 'up_gate'])}"
    if stream.chance(0.25):
        layout += ", expert_axis = folded"
    out["layout"] = layout
    return out


def _front(stream: Stream, keys: dict[str, Any]) -> dict[str, Any]:
    """Gate, jitter, mix, masks, groups and capacity."""
    kind, experts = keys["kind"], keys["experts"]
    out: dict[str, Any] = {}
    by_token = kind not in ("soft", "expert_choice")
    # Of one or two columns, directions are alike.
    if kind == "soft" or (stream.chance(0.2) and keys["hidden"] > 2):
        out["gate"] = "cosine"
        out["hidden"] = max(3, keys["hidden"])
    if kind not in ("soft", "product_keys"):
        out["gate_bias"] = stream.chance(0.25)
    if stream.chance(0.15):
        out["jitter"] = stream.pick([0.01, 0.1])
    if by_token and kind != "product_keys":
        if stream.chance(0.8 if kind == "top_k" else 0.2):
            out["mix"] = _mix(stream, keys["hidden"])
    if kind != "top_k" and by_token and out.get("gate_bias"):
        if "mix" not in out and experts > 1 and stream.chance(0.4):
            out["cold"] = 1 + stream.below(experts - 1)
    out["mask"] = stream.chance(0.35)
    if by_token and stream.chance(0.25):
        out["capacity"] = _capacity(stream)
        queues = ["first_come", "first_come", "prioritized"]
        out["queue"] = stream.pick(queues)
        out["renormalize"] = stream.chance(0.3)
        # Weights that are equal by definition have no order.
        alike = kind == "moesart" or keys["slots"] == 1 or experts == 1
        if alike:
            out["queue"] = "first_come"
    if stream.chance(0.45):
        out["groups"] = 1 + stream.below(4)
        out["static_groups"] = stream.chance(0.5)
    return out


def random_router(seed: int) -> RouterLayer:
    """A layer; the same for the same seed."""
    stream = Stream(seed, "router")
    kind = stream.pick(KINDS)
    storage = stream.pick(["f32"] * 7 + ["f64", "f64", "bf16", "f16"])
    keys: dict[str, Any] = {"seed": seed, "kind": kind, "storage": storage}
    keys["experts"] = stream.pick(SIZES)
    if kind in ("gshard", "sparse_mixer"):
        keys["experts"] = max(2, keys["experts"])
    keys["router_dtype"] = stream.pick(
        [storage, storage, "f64" if storage == "f64" else "f32"]
    )
    keys["hidden"] = stream.pick([1, 3, 8, 16, 17, 33, 48, 70])
    keys["inter"] = 1 + stream.below(48)
    keys["tokens"] = stream.pick(TOKENS)
    keys["training"] = kind in SAMPLES and stream.chance(0.65)
    if kind == "product_keys":
        keys.update(_product_keys(stream))
    elif kind == "soft":
        keys.update(slots=1 + stream.below(3), settings="")
    elif kind == "expert_choice":
        keys.update(slots=0, **_expert_choice(stream, storage))
    else:
        keys.update(
            _token_router(stream, kind, keys["experts"], keys["training"])
        )
    keys.update(_front(stream, keys))
    keys["losses"] = _losses(stream, keys)
    if kind == "top_k" and keys.get("mix") and keys["mix"].of_scores:
        keys["settings"] += ", score = none"
    keys.update(_expert_function(stream))
    return RouterLayer(**keys)
