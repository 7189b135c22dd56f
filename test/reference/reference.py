# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One layer in float64: the judge of every compiled layer.

`run` evaluates one token and one assignment at a time. Products and sums are
float64; with `rounding` the result of each phase is rounded to the type in
which a compiled layer stores it (logits, scores, combine weights, weighted
expert input, latent input, hidden activation, expert output row, combined
latent row). Only the last rounding, that of y to x_dtype, is left to the
comparison, which has to judge the distance to the exact value.

Sources: SwiGLU and GeGLU, arXiv 2002.05202; GELU, 1606.08415; the clamped
forms, DeepSeek-V4 and gpt-oss as read in huggingface/transformers; identity
experts, LongCat-Flash; weight on the input, Llama 4; latent experts,
Nemotron-3; output bias, JetMoE; average with the shared branch, Cohere2-MoE.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import dtypes
import routing
from routing import Inputs, Rounder
from spec import LayerSpec


class InputError(ValueError):
    """Operands that do not fit the layer."""


def check_inputs(spec: LayerSpec, inputs: Inputs) -> None:
    """Names, shapes, representable values, ids and offsets in range."""
    if "x" not in inputs:
        raise InputError("x: missing")
    tokens = np.shape(inputs["x"])[0]
    count = 1
    if spec.group_offsets and "group_offsets" in inputs:
        count = len(inputs["group_offsets"]) - 1
    operands = spec.operands(tokens, count)
    names = {operand.name for operand in operands}
    for name in inputs:
        if name not in names:
            raise InputError(f"{name}: not an operand of this layer")
    for operand in operands:
        if operand.name not in inputs:
            raise InputError(f"{operand.name}: missing")
        value = inputs[operand.name]
        if value.shape != operand.shape:
            raise InputError(
                f"{operand.name}: shape {value.shape}, not {operand.shape}"
            )
        if operand.dtype in dtypes.FLOATS and not dtypes.is_exact(
            value, operand.dtype
        ):
            raise InputError(
                f"{operand.name}: holds values that are not {operand.dtype}"
            )
    if spec.indices:
        ids = inputs["indices"]
        if np.any(ids < -1) or np.any(ids >= spec.router_width):
            raise InputError("indices: an id is out of range")
    if spec.group_offsets:
        bounds = inputs["group_offsets"]
        if (
            bounds[0] != 0
            or bounds[-1] != tokens
            or np.any(np.diff(bounds) < 0)
        ):
            raise InputError(
                f"group_offsets: not ascending from 0 to {tokens}"
            )


# Expert weights as mathematical matrices, whatever their layout.


def _block(
    spec: LayerSpec,
    stack: np.ndarray,
    expert: int,
    rows: int,
    cols: int,
    orientation: str,
) -> np.ndarray:
    """One expert's [rows, cols] (out x in) matrix out of a stored stack."""
    first, second = (rows, cols) if orientation == "out_in" else (cols, rows)
    if spec.expert_axis == "folded":
        stored = stack[expert * first : (expert + 1) * first]
    else:
        stored = stack[expert]
    assert stored.shape == (first, second)
    matrix = np.zeros((rows, cols))
    for row in range(rows):
        matrix[row] = (
            stored[row] if orientation == "out_in" else stored[:, row]
        )
    return matrix


def _pair_rows(spec: LayerSpec, pairing: str) -> tuple[list[int], list[int]]:
    """Positions of the gate and of the up outputs among 2I fused ones."""
    inter = spec.inter
    if pairing == "interleaved":
        first = [2 * i for i in range(inter)]
        second = [2 * i + 1 for i in range(inter)]
    else:
        first = [i for i in range(inter)]
        second = [inter + i for i in range(inter)]
    return (first, second) if spec.order == "gate_up" else (second, first)


def gate_up_matrices(
    spec: LayerSpec, inputs: Inputs, expert: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """(gate [I, D], up [I, D]) of an expert; (up, None) when ungated."""
    inter, depth = spec.inter, spec.expert_width
    if spec.pairing == "separate":
        return tuple(
            _block(spec, inputs[name], expert, inter, depth, spec.orientation)
            for name in ("gate", "up")
        )
    fused = _block(
        spec, inputs["gate_up"], expert, spec.up_rows, depth, spec.orientation
    )
    if not spec.gated:
        return fused, None
    gate_rows, up_rows = _pair_rows(spec, spec.pairing)
    return fused[gate_rows], fused[up_rows]


def gate_up_biases(
    spec: LayerSpec, inputs: Inputs, expert: int
) -> tuple[np.ndarray, np.ndarray]:
    """(gate [I], up [I]) biases; separate weights have theirs as in cat."""
    if not spec.expert_bias:
        return np.zeros(spec.inter), np.zeros(spec.inter)
    row = inputs["gate_up_bias"][expert]
    if not spec.gated:
        return row, np.zeros(spec.inter)
    pairing = "cat" if spec.pairing == "separate" else spec.pairing
    gate_rows, up_rows = _pair_rows(spec, pairing)
    return row[gate_rows], row[up_rows]


# The expert function.


def gelu(value: float) -> float:
    """v * Phi(v), the exact (erf) form."""
    return 0.5 * value * (1.0 + math.erf(value / math.sqrt(2.0)))


def gelu_tanh(value: float) -> float:
    """The tanh approximation of GELU."""
    inner = math.sqrt(2.0 / math.pi) * (
        value + 0.044715 * value * value * value
    )
    return 0.5 * value * (1.0 + math.tanh(inner))


def activate(kind: str, value: float) -> float:
    """One activation on one value; NaN stays NaN."""
    if math.isnan(value):
        return value
    if kind == "silu":
        return value * routing.sigmoid(value)
    if kind == "gelu":
        return gelu(value)
    if kind == "gelu_tanh":
        return gelu_tanh(value)
    if kind == "relu":
        return max(value, 0.0)
    if kind == "relu2":
        return max(value, 0.0) * max(value, 0.0)
    return value


def _at_most(value: float, limit: float) -> float:
    return value if math.isnan(value) else min(value, limit)


def _within(value: float, limit: float) -> float:
    return value if math.isnan(value) else max(-limit, min(value, limit))


def hidden_value(spec: LayerSpec, gate: float, up: float) -> float:
    """The activation of one hidden unit.

    The clamp is from above on the gate and on both sides on the up value.
    oai: g * sigmoid(alpha g) * (u + 1) on the clamped values. Ungated layers
    pass up = 1 and only the gate is clamped.
    """
    if spec.act_limit > 0.0:
        gate = _at_most(gate, spec.act_limit)
        if spec.gated:
            up = _within(up, spec.act_limit)
    if spec.act_style == "oai":
        if math.isnan(gate):
            return gate
        return gate * routing.sigmoid(spec.act_alpha * gate) * (up + 1.0)
    return activate(spec.activation, gate) * up


def mlp(
    spec: LayerSpec,
    row: np.ndarray,
    gate: np.ndarray,
    up: np.ndarray | None,
    down: np.ndarray,
    biases: tuple[np.ndarray, np.ndarray, np.ndarray],
    rounder: Rounder,
) -> np.ndarray:
    """down(act(gate row) * (up row)), with the two stated roundings.

    row [D], gate and up [I, D], down [D, I]; biases of [I], [I], [D].
    """
    gate_values = gate @ row + biases[0]
    up_values = np.ones(len(gate_values))
    if up is not None:
        up_values = up @ row + biases[1]
    hidden = np.array(
        [
            hidden_value(spec, float(g), float(u))
            for g, u in zip(gate_values, up_values)
        ]
    )
    hidden = rounder(hidden, spec.x_dtype)
    return rounder(down @ hidden + biases[2], spec.x_dtype)


class _Layer:
    """The parts of one layer that tokens share, read once."""

    def __init__(self, spec: LayerSpec, inputs: Inputs, rounder: Rounder):
        self.spec, self.inputs, self.rounder = spec, inputs, rounder
        self._experts: dict[int, tuple[Any, ...]] = {}

    def expert_input(self, token: int) -> np.ndarray:
        """x, or its projection to the latent width, [D]."""
        row = self.inputs["x"][token]
        if not self.spec.latent:
            return row
        return self.rounder(self.inputs["latent_in"] @ row, self.spec.x_dtype)

    def expert(self, expert: int, row: np.ndarray) -> np.ndarray:
        """Expert output row, [D]."""
        spec, inputs = self.spec, self.inputs
        if expert not in self._experts:
            gate, up = gate_up_matrices(spec, inputs, expert)
            down = _block(
                spec,
                inputs["down"],
                expert,
                spec.expert_width,
                spec.inter,
                spec.down_orientation,
            )
            down_bias = np.zeros(spec.expert_width)
            if spec.expert_bias:
                down_bias = inputs["down_bias"][expert]
            biases = (*gate_up_biases(spec, inputs, expert), down_bias)
            self._experts[expert] = (gate, up, down, biases)
        gate, up, down, biases = self._experts[expert]
        return mlp(spec, row, gate, up, down, biases, self.rounder)

    def routed(
        self, token: int, work: list[tuple[int, float]]
    ) -> tuple[np.ndarray, float]:
        """Scaled sum [H] over (expert, weight) pairs, and its magnitude.

        The magnitude sums the norms of the terms: what errors of the sum
        are proportional to even where the terms cancel.
        """
        spec = self.spec
        combined = np.zeros(spec.expert_width)
        direct = np.zeros(spec.hidden)
        magnitude = 0.0
        for expert, weight in work:
            if expert >= spec.experts:
                term = weight * self.inputs["x"][token]
                direct += term
            elif spec.weight_site == "input":
                row = weight * self.expert_input(token)
                row = self.rounder(row, spec.x_dtype)
                term = self.expert(expert, row)
                combined += term
            else:
                term = weight * self.expert(expert, self.expert_input(token))
                combined += term
            magnitude += float(np.linalg.norm(term))
        if spec.latent:
            combined = self.rounder(combined, spec.x_dtype)
            combined = self.inputs["latent_out"] @ combined
        return (
            (combined + direct) * spec.output_scale,
            magnitude * abs(spec.output_scale),
        )

    def shared(self, token: int) -> np.ndarray:
        """Shared branch [H]: one MLP on x, times sigmoid(x . g) if gated."""
        spec, inputs = self.spec, self.inputs
        row, fused = inputs["x"][token], inputs["shared_gate_up"]
        width = spec.shared_inter
        none = np.zeros(width)
        gate, up = fused[:width], fused[width:] if spec.gated else None
        out = mlp(
            spec,
            row,
            gate,
            up,
            inputs["shared_down"],
            (none, none, np.zeros(spec.hidden)),
            self.rounder,
        )
        if spec.shared_gate:
            out = out * routing.sigmoid(float(inputs["shared_gate"][0] @ row))
        return out


def work_of_tokens(
    spec: LayerSpec, ids: np.ndarray, weights: np.ndarray, tokens: int
) -> list[list[tuple[int, float]]]:
    """(expert, weight) pairs of each token, in slot or expert order."""
    work: list[list[tuple[int, float]]] = [[] for _ in range(tokens)]
    for (row, column), value in np.ndenumerate(ids):
        if value < 0:
            continue
        weight = float(weights[row, column])
        if spec.router == "expert_choice":
            work[int(value)].append((row, weight))
        else:
            work[row].append((int(value), weight))
    return work


def weight_cancellation(
    spec: LayerSpec, inputs: Inputs, chosen: routing.Routing
) -> np.ndarray:
    """How far the terms of a token's chosen logits outweigh the logits, [T].

    Relative errors of weights that are logits grow by this factor; 1 where
    weights are scores, whose error is one of the logit's own size.
    """
    out = np.ones(inputs["x"].shape[0])
    if spec.score != "none" or spec.router != "top_k":
        return out
    terms = routing.logit_terms(spec, inputs)
    for token, ids in enumerate(chosen.chosen_ids):
        for expert in ids[ids >= 0]:
            logit = abs(chosen.logits[token, expert])
            if np.isfinite(terms[token, expert]) and logit > 0.0:
                out[token] = max(out[token], terms[token, expert] / logit)
    return out


def run(
    spec: LayerSpec,
    inputs: Inputs,
    rounding: bool = True,
    routing_of: routing.Routing | None = None,
) -> dict[str, Any]:
    """Evaluates the layer.

    inputs: operand name to float64, int32 or bool array, every value exactly
    representable in the operand's type. `routing_of` replaces the routing,
    to judge the experts on their own.

    Returns y [T, H], ids, weights (see Routing), expert_loads [E] i32 (slots
    that an expert serves), magnitude [T] (sum of the norms of the terms of a
    row of y), cancellation [T] (see weight_cancellation) and routing.
    """
    check_inputs(spec, inputs)
    rounder = dtypes.round_to if rounding else routing.no_rounding
    tokens = inputs["x"].shape[0]
    with np.errstate(all="ignore"):
        chosen = routing_of or routing.route(spec, inputs, rounding)
        work = work_of_tokens(spec, chosen.ids, chosen.weights, tokens)
        layer = _Layer(spec, inputs, rounder)
        y = np.zeros((tokens, spec.hidden))
        magnitude = np.zeros(tokens)
        loads = np.zeros(spec.experts, dtype=np.int32)
        for token in range(tokens):
            total, magnitude[token] = layer.routed(token, work[token])
            for expert, _ in work[token]:
                if expert < spec.experts:
                    loads[expert] += 1
            if spec.shared_inter:
                shared = layer.shared(token)
                total = total + shared
                magnitude[token] += np.linalg.norm(shared)
                if spec.shared_mode == "average":
                    total = total / 2.0
                    magnitude[token] /= 2.0
            if spec.output_bias:
                total = total + inputs["output_bias"]
                magnitude[token] += np.linalg.norm(inputs["output_bias"])
            y[token] = total
    return {
        "y": y,
        "ids": chosen.ids,
        "weights": chosen.weights,
        "expert_loads": loads,
        "magnitude": magnitude,
        "cancellation": weight_cancellation(spec, inputs, chosen),
        "routing": chosen,
    }
