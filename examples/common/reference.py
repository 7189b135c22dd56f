# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The layers with experts in NumPy: what the compiled ones are judged by.

`ReferenceLayer` has the calls of a compiled layer with gradients. Routing is
f64 whatever the dtype of the rest; choices are constants of the backward.

Where the last that is taken and the first that is not are nearly equal, f32
may choose the other one, and losses part from there. Such choices may be given
those of f32: see `given`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import parts
from . import reference_groups as groups
from . import reference_routers as routers
from .layers import Router, Sizes, mix_heads, mix_scale

Arrays = dict[str, np.ndarray]


class ReferenceLayer:
    """One layer; arguments and results as layers.py has them.

    given: the ids of the next forwards, of a router without random numbers, or
        None. They stand where the choice is nearly a tie, and there only.
    ties: how many choices that were.
    """

    def __init__(
        self, router: Router, sizes: Sizes, training: bool, dtype: Any
    ) -> None:
        self.router = router
        self.sizes = sizes
        self.training = training
        self.dtype = np.dtype(dtype)
        self.given: list[np.ndarray | None] = []
        self.ties = 0

    def forward(self, **arrays: np.ndarray) -> tuple[Arrays, Any]:
        """Results by name, and what backward needs."""
        expected = set(self.router.arguments(self.training))
        if set(arrays) != expected:
            raise TypeError(f"got {sorted(arrays)}, want {sorted(expected)}")
        if self.router.chooser == "slots":
            return self._soft(arrays)
        x = arrays["x"]
        routing = self._route(arrays)
        slots, saved = experts_forward(
            x, routing.ids, arrays["gate_up"], arrays["down"]
        )
        weights = routing.weights.astype(self.dtype)
        results = {"y": np.einsum("tk,tkd->td", weights, slots)}
        if self.training:
            if self.router.loss:
                results["loss"] = np.array(routing.loss, self.dtype)
        else:
            ids = routing.ids if routing.taken is None else routing.taken
            results["ids"] = ids.astype(np.int32)
            results["scores"] = routing.scores.astype(self.dtype)
        return results, (arrays, routing, weights, slots, saved)

    def backward(self, saved: Any, **cotangents: np.ndarray) -> Arrays:
        """Cotangents d_NAME of rows and weights from d_y and d_loss."""
        if self.router.chooser == "slots":
            return self._soft_backward(saved, cotangents["d_y"])
        arrays, routing, weights, slots, experts = saved
        d_y = cotangents["d_y"]
        d_slots = weights[:, :, None] * d_y[:, None]
        d_weights = np.einsum("td,tkd->tk", d_y, slots)
        d_x, d_gate_up, d_down = experts_backward(experts, d_slots)
        pulled = routing.pull(
            d_weights.astype(np.float64), float(cotangents.get("d_loss", 0.0))
        )
        pulled = {name: d.astype(self.dtype) for name, d in pulled.items()}
        d_x += pulled["logits"] @ arrays["router"]
        out = {
            "d_router": pulled["logits"].T @ arrays["x"],
            "d_gate_up": d_gate_up,
            "d_down": d_down,
        }
        if self.router.mix == "similarity":
            d_x += pulled["query"] + pulled["key"]
        elif self.router.mix == "attention":
            out |= {"d_query": pulled["query"], "d_key": pulled["key"]}
        return out | {"d_x": d_x}

    def _soft(self, arrays: Arrays) -> tuple[Arrays, Any]:
        """The forward of soft slots."""
        x, sequences = arrays["x"], len(arrays["groups"]) - 1
        soft = groups.soft_slots(
            *(arrays[n].astype(np.float64) for n in ("x", "router", "scale")),
            sequences,
        )
        dispatch, combine = (
            part.astype(self.dtype) for part in (soft.dispatch, soft.combine)
        )
        tokens = x.reshape(*dispatch.shape[:2], -1)
        rows = parts.rows(dispatch.swapaxes(1, 2) @ tokens)
        count, slots = len(arrays["gate_up"]), dispatch.shape[2]
        experts = np.arange(len(rows)) % slots // (slots // count)
        output, saved = experts_forward(
            rows, experts[:, None], arrays["gate_up"], arrays["down"]
        )
        output = output.reshape(sequences, slots, -1)
        results = {"y": parts.rows(combine @ output)}
        if not self.training:
            results["combine"] = parts.rows(combine)
        return results, (arrays, soft, tokens, dispatch, combine, output, saved)

    def _soft_backward(self, saved: Any, d_y: np.ndarray) -> Arrays:
        """Cotangents of what soft slots read."""
        arrays, soft, tokens, dispatch, combine, output, experts = saved
        d_tokens = d_y.reshape(tokens.shape)
        d_output = combine.swapaxes(1, 2) @ d_tokens
        d_rows, d_gate_up, d_down = experts_backward(
            experts, parts.rows(d_output)[:, None]
        )
        d_rows = d_rows.reshape(output.shape)
        cotangents = (
            (part @ other.swapaxes(1, 2)).astype(np.float64)
            for part, other in ((tokens, d_rows), (d_tokens, output))
        )
        d_x, d_router, d_scale = groups.soft_slots_backward(
            soft, float(arrays["scale"]), *cotangents
        )
        return {
            "d_x": parts.rows(dispatch @ d_rows) + d_x.astype(self.dtype),
            "d_router": d_router.astype(self.dtype),
            "d_scale": np.array(d_scale, self.dtype),
            "d_gate_up": d_gate_up,
            "d_down": d_down,
        }

    def _route(self, arrays: Arrays) -> routers.Routing:
        """The choice of experts."""
        routing = self._choose(
            arrays, self.given.pop(0) if self.given else None
        )
        self.ties += routing.ties
        return routing

    def _choose(
        self, arrays: Arrays, given: np.ndarray | None
    ) -> routers.Routing:
        """The same, a tie being given."""
        router = self.router
        logits = (arrays["x"] @ arrays["router"].T).astype(np.float64)
        if router.chooser == "experts":
            sequences = len(arrays["groups"]) - 1
            return groups.expert_choice(
                logits, sequences, router.slots, given
            )
        if router.mix:
            names = ("x", "x")
            if router.mix == "attention":
                names = ("query", "key")
            query, key = (arrays[n].astype(np.float64) for n in names)
            return groups.mixed_top_k(
                logits, query, key, len(arrays["groups"]) - 1,
                mix_heads(router, self.sizes), mix_scale(router, self.sizes),
                router.causal, router.slots, router.coefficient, given,
            )  # fmt: skip
        random = arrays.get("random")
        if router.name in ("exact_k", "dynamic_k"):
            return routers.subset_router(
                logits, router.least, router.slots, random
            )
        if router.name == "moesart":
            return routers.moesart(
                logits, router.slots, router.coefficient, random
            )
        return routers.top_k(logits, router.slots, router.coefficient, given)


def experts_forward(
    x: np.ndarray, ids: np.ndarray, gate_up: np.ndarray, down: np.ndarray
) -> tuple[np.ndarray, Any]:
    """Gated SiLU experts on rows x [T, D]: slots [T, k, D], 0 where empty.

    Expert e is down_e (silu(gate_e x) * up_e x), gate_up [E, 2 I, D] with the
    gate above, down [E, D, I]. Slots are sorted by expert, so that each has
    one product.
    """
    tokens, width = x.shape
    count = len(gate_up)
    order = np.argsort(ids.ravel(), kind="stable")
    bounds = np.searchsorted(ids.ravel()[order], np.arange(count + 1))
    gathered = x[order // ids.shape[1]]
    output = np.zeros((tokens * ids.shape[1], width), x.dtype)
    kept = []
    for e in range(count):
        part = slice(bounds[e], bounds[e + 1])
        gate, up = np.split(gathered[part] @ gate_up[e].T, 2, axis=1)
        sigmoid = 1.0 / (1.0 + np.exp(-gate))
        output[order[part]] = (gate * sigmoid * up) @ down[e].T
        kept.append((gate, up, sigmoid))
    saved = (gathered, order, bounds, kept, gate_up, down)
    return output.reshape(tokens, -1, width), saved


def experts_backward(
    saved: Any, d_slots: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cotangents of x, gate_up and down from those of the slots."""
    gathered, order, bounds, kept, gate_up, down = saved
    tokens, slots, width = d_slots.shape
    d_flat = d_slots.reshape(-1, width)
    d_rows = np.zeros_like(d_flat)
    d_gate_up, d_down = np.zeros_like(gate_up), np.zeros_like(down)
    for e, (gate, up, sigmoid) in enumerate(kept):
        part = slice(bounds[e], bounds[e + 1])
        d_output = d_flat[order[part]]
        silu = gate * sigmoid
        d_down[e] = d_output.T @ (silu * up)
        d_act = d_output @ down[e]
        d_gate = d_act * up * (sigmoid + silu * (1.0 - sigmoid))
        d_pair = np.concatenate([d_gate, d_act * silu], axis=1)
        d_gate_up[e] = d_pair.T @ gathered[part]
        d_rows[order[part]] = d_pair @ gate_up[e]
    d_x = d_rows.reshape(tokens, slots, width).sum(axis=1)
    return d_x, d_gate_up, d_down
