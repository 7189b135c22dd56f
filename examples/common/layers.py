# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The Mixture-of-Experts layers as settings; layer_text.py is their IR.

All have the same gated SiLU experts and do about the same work for a token;
they differ in how tokens and experts meet, and in the loss that this adds.

A layer takes, by name, T tokens in G sequences of L:

  x        f32 [T, D]           rows, normed
  query    f32 [T, D]           of the attention in front, heads side by side
  key      f32 [T, D]           likewise; both for mixes by attention alone
  router   f32 [E, D]           of soft slots [S, D], one row a slot
  scale    f32 []               of soft slots alone
  gate_up  f32 [E, 2 I, D]      gate above up
  down     f32 [E, D, I]
  groups   i32 [G + 1]          where sequences begin and end, for what looks
                                at more than a token
  random   i64 [3]              seed, layer, first token; to train what draws

and returns in training y f32 [T, D] and, where it has one, loss f32 []. In
evaluation it returns y and how tokens and experts met:

  tokens   ids i32 [T, k], -1 in empty slots; scores f32 [T, E], the
           probabilities that the choice is made by
  experts  ids i32 [E, C] of tokens, sequence after sequence; scores
  slots    combine f32 [T, S], S / E slots for each expert in turn
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a model and its batches; `length` is that of a sequence."""

    classes: int = 63  # What is predicted is one of so many.
    width: int = 64
    heads: int = 2
    blocks: int = 2
    experts: int = 8
    inter: int = 64
    length: int = 64
    batch: int = 8


@dataclasses.dataclass(frozen=True)
class Router:
    """One way for tokens and experts to meet, in training and evaluation."""

    name: str
    attribute: str  # {taken}: the tokens of a sequence that an expert takes.
    chooser: str = "tokens"  # Or "experts", or "slots", which mix them all.
    slots: int = 2  # The most experts of a token; of the other two the mean.
    least: int = 2  # And the fewest.
    draws: bool = False  # Draws in training; never in evaluation.
    mix: str = ""  # "similarity" or "attention" in front of the choice.
    causal: bool = True  # A token's experts depend on earlier tokens alone.
    loss: str = ""  # What training adds: kind and settings of moe.aux_loss.
    coefficient: float = 0.0

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses that a training layer returns."""
        return ("loss",) if self.loss else ()

    def learned(self) -> tuple[str, ...]:
        """Arguments with a gradient: rows, then weights."""
        rows = ("query", "key") if self.mix == "attention" else ()
        return ("x", *rows, *self.weights())

    def weights(self) -> tuple[str, ...]:
        """The learned arguments that are weights of the layer."""
        scale = ("scale",) if self.chooser == "slots" else ()
        return ("router", *scale, "gate_up", "down")

    def arguments(self, training: bool) -> tuple[str, ...]:
        """Names of what the layer takes, in order."""
        names = self.learned()
        if self.mix or self.chooser != "tokens":
            names += ("groups",)
        return (*names, "random") if training and self.draws else names

    def results(self, training: bool) -> tuple[str, ...]:
        """Names of what the layer returns, in order."""
        if training:
            return ("y", *self.losses)
        return ("y", "combine") if self.chooser == "slots" else (
            "y", "ids", "scores",
        )  # fmt: skip

    def weight_shapes(self, s: Sizes) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights by name."""
        rows = s.experts
        if self.chooser == "slots":
            rows = self.sequence_slots(s)
        shapes = {
            "router": (rows, s.width),
            "scale": (),
            "gate_up": (s.experts, 2 * s.inter, s.width),
            "down": (s.experts, s.width, s.inter),
        }
        return {name: shapes[name] for name in self.weights()}

    def attribute_for(self, s: Sizes) -> str:
        """The router's attribute in the IR."""
        if self.chooser != "experts":
            return self.attribute
        return self.attribute.format(taken=self.sequence_slots(s) // s.experts)

    def sequence_slots(self, s: Sizes) -> int:
        """What experts compute for a sequence, of all but token choice.

        As many rows as with `slots` experts a token; each expert has the same
        number, so it must divide.
        """
        total = self.slots * s.length
        if total % s.experts:
            raise ValueError(f"{total} slots for {s.experts} experts")
        return total


# The coefficients are those of the sources: 0.01 of Switch for whatever is
# built on top-k, 0.001 of MOESART; the others have no such loss. ProbMoE's
# bands reach from below the k of exact k up to it: 6 to 8, and 2 to 4.
BALANCE = {"loss": "balance", "coefficient": 0.01}
MIXED = "#moe.top_k<k = 2, score = none, normalize = sum>"
CAUSAL = (
    Router("top_k", "#moe.top_k<k = 2, normalize = sum>", **BALANCE),
    Router("exact_k", "#moe.exact_k<k = 2>", draws=True),
    Router(
        "dynamic_k", "#moe.dynamic_k<min = 1, max = 2>", least=1, draws=True
    ),
    Router(
        "moesart",
        "#moe.moesart<k = 2, weighting = small_random>",
        draws=True,
        loss="trimmed_lasso",
        coefficient=0.001,
    ),
    Router("similarity", MIXED, mix="similarity", **BALANCE),
    Router("attention", MIXED, mix="attention", **BALANCE),
)
# Those that look at all tokens of a sequence.
GLOBAL = (
    Router(
        "similarity_full", MIXED, mix="similarity", causal=False, **BALANCE
    ),
    Router("attention_full", MIXED, mix="attention", causal=False, **BALANCE),
    Router(
        "expert_choice",
        "#moe.expert_choice<capacity = <fixed = {taken}>>",
        chooser="experts",
        causal=False,
    ),
    Router("soft", "", chooser="slots", causal=False),
)
ROUTERS = {router.name: router for router in (*CAUSAL, *GLOBAL)}


def names(routers: tuple[Router, ...]) -> list[str]:
    """Of some routers, in order."""
    return [router.name for router in routers]


def mix_heads(router: Router, sizes: Sizes) -> int:
    """Heads of a mix: one of similarity, those of the attention."""
    return sizes.heads if router.mix == "attention" else 1


def mix_scale(router: Router, sizes: Sizes) -> float:
    """1 / sqrt of the width of a mix's head, as attention has it."""
    return (sizes.width // mix_heads(router, sizes)) ** -0.5
