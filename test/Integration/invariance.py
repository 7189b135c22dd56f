# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calls of compiled layers that must agree bit for bit.

threads   1, 2 and 3 threads
batch     all tokens at once, or in two calls, where no token sees another
tiles     gating tiles of 1, 5, 16 and 100 tokens, 2 to 16 tokens side by side
packed    groups of tokens in one call, or a call for each
padding   masked tokens in front, between and behind, of odd values
few       no token and one token

Without an argument all of them run, else those that are named.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import roads
from roads import LayerSpec

import draw  # noqa: E402, found by way of roads

Arrays = dict[str, np.ndarray]

_BF16 = {"x_dtype": "bf16", "router_dtype": "bf16", "weight_dtype": "bf16"}
_SMALL: dict[str, Any] = {"experts": 6, "hidden": 24, "inter": 20}

# Layers in which a token's result is its own.
LOCAL = {
    "softmax": LayerSpec(normalize="sum", top_k=3, **_SMALL),
    "bf16 in_out": LayerSpec(
        orientation="in_out", down_orientation="in_out",
        pairing="interleaved", expert_bias=True, act_style="oai",
        act_limit=7.0, **_BF16, **_SMALL,
    ),
    "groups, latent, shared": LayerSpec(
        score="sigmoid", select_bias=True, normalize="sum", groups=3,
        kept_groups=2, group_score="top2sum", latent=10, shared_inter=18,
        weight_site="input", **_SMALL,
    ),
}  # fmt: skip

# Layers in which tokens compete.
GLOBAL = {
    "first come": LayerSpec(
        capacity="first_come", capacity_fixed=3, **_SMALL
    ),
    "prioritized": LayerSpec(
        capacity="prioritized", capacity_fixed=3, **_SMALL
    ),
    "choice": LayerSpec(router="expert_choice", capacity_fixed=3, **_SMALL),
    "choice over tokens": LayerSpec(
        router="expert_choice", choice_axis="tokens", choice_normalize=True,
        capacity_fixed=3, **_SMALL,
    ),
}  # fmt: skip


class Layer:
    """A built layer in a folder of its own files."""

    def __init__(self, spec: LayerSpec, folder: pathlib.Path):
        self.spec, self.folder = spec, folder
        self.module = folder / "layer.mlir"
        roads.build(spec, self.module, "cpu", ("y",))

    def run(
        self, inputs: Arrays, module: pathlib.Path | None = None, **keys: Any
    ) -> np.ndarray:
        """y of a call."""
        operands = self.folder / "operands.safetensors"
        roads.write_operands(operands, self.spec, inputs)
        call = roads.Call.of(
            self.spec, operands, inputs, results=("y",), **keys
        )
        return call.run(module or self.module, "cpu")["y"]


def draw_inputs(spec: LayerSpec, tokens: int) -> Arrays:
    """Operands of a layer, the same on every call."""
    return draw.draw_inputs(spec, 7, tokens)


def rows(inputs: Arrays, taken: Any) -> Arrays:
    """The operands of some of the tokens."""
    per_token = ("x", "indices", "token_mask")
    return {
        name: value[taken] if name in per_token else value
        for name, value in inputs.items()
    }


def differs(what: str, actual: np.ndarray, expected: np.ndarray) -> list[str]:
    """A complaint where two results are not the same bits."""
    if actual.shape != expected.shape:
        return [f"{what}: shape {actual.shape}, not {expected.shape}"]
    if actual.tobytes() == expected.tobytes():
        return []
    wrong = np.flatnonzero((actual != expected).any(axis=1))
    return [f"{what}: rows {wrong[:8].tolist()} differ"]


def check_threads(spec: LayerSpec, folder: pathlib.Path) -> list[str]:
    layer, inputs = Layer(spec, folder), draw_inputs(spec, 70)
    base = layer.run(inputs, threads=1)
    out = []
    for threads in (2, 3):
        again = layer.run(inputs, threads=threads)
        out += differs(f"{threads} threads", again, base)
    return out


def check_batch(spec: LayerSpec, folder: pathlib.Path) -> list[str]:
    layer, inputs = Layer(spec, folder), draw_inputs(spec, 37)
    whole = layer.run(inputs)
    out = []
    for cut in (1, 16, 20):
        parts = [
            layer.run(rows(inputs, part))
            for part in (slice(0, cut), slice(cut, None))
        ]
        out += differs(f"cut at {cut}", np.concatenate(parts), whole)
    return out


def check_tiles(spec: LayerSpec, folder: pathlib.Path) -> list[str]:
    layer, inputs = Layer(spec, folder), draw_inputs(spec, 37)
    base = layer.run(inputs)
    out = []
    for tile, lanes in ((1, 2), (5, 16), (16, 4), (100, 8)):
        module = folder / "tiled.mlir"
        words = ["moe-opt", str(layer.module), "-o", str(module),
                 f"--moe-fuse-gating=tile-size={tile}",
                 f"--moe-lower-routing=lanes={lanes}"]  # fmt: skip
        roads.run_tool(words)
        what = f"tiles of {tile}, {lanes} lanes"
        out += differs(what, layer.run(inputs, module), base)
    return out


def check_packed(spec: LayerSpec, folder: pathlib.Path) -> list[str]:
    alone, inputs = Layer(spec, folder), draw_inputs(spec, 30)
    bounds = [0, 11, 11, 30]
    parts = [
        alone.run(rows(inputs, slice(low, high)))
        for low, high in zip(bounds, bounds[1:])
        if low < high
    ]
    grouped = dataclasses.replace(spec, group_offsets=True)
    packed = draw_inputs(grouped, 30)
    packed.update(inputs, group_offsets=np.array(bounds, np.int32))
    return differs(
        "packed", Layer(grouped, folder).run(packed), np.concatenate(parts)
    )


def check_padding(spec: LayerSpec, folder: pathlib.Path) -> list[str]:
    alone, inputs = Layer(spec, folder), draw_inputs(spec, 20)
    base = alone.run(inputs)
    masked = dataclasses.replace(spec, token_mask=True)
    mask = np.ones(27, dtype=bool)
    mask[[0, 1, 9, 23, 24, 25, 26]] = False
    padded = draw_inputs(masked, 27)
    padded.update(rows(inputs, slice(None)), token_mask=mask)
    padded["x"] = np.zeros((27, spec.hidden))
    padded["x"][mask] = inputs["x"]
    padded["x"][~mask] = np.array([np.nan, np.inf, -np.inf, 1, 0, 9, -9])[
        :, None
    ]
    found = Layer(masked, folder).run(padded)
    out = differs("padded", found[mask], base)
    if not spec.shared_inter and np.any(found[~mask] != 0):
        out.append("a masked token has a row that is not zero")
    return out


def check_few(spec: LayerSpec, folder: pathlib.Path) -> list[str]:
    layer, inputs = Layer(spec, folder), draw_inputs(spec, 9)
    none = layer.run(rows(inputs, slice(0, 0)))
    out = []
    if none.shape != (0, spec.hidden):
        out.append(f"T = 0: shape {none.shape}")
    one = layer.run(rows(inputs, slice(4, 5)))
    if one.shape != (1, spec.hidden) or not np.isfinite(one).all():
        out.append(f"T = 1: {one}")
    return out


CHECKS: dict[str, tuple[Callable, dict[str, LayerSpec]]] = {
    "threads": (check_threads, {**LOCAL, **GLOBAL}),
    "batch": (check_batch, LOCAL),
    "tiles": (check_tiles, LOCAL),
    "packed": (check_packed, GLOBAL),
    "padding": (check_padding, {**LOCAL, **GLOBAL}),
    "few": (check_few, {**LOCAL, **GLOBAL}),
}


def judge(name: str) -> list[str]:
    """Runs one check, `CHECK of LAYER`."""
    check, _, layer = name.partition(" of ")
    function, specs = CHECKS[check]
    with tempfile.TemporaryDirectory() as folder:
        try:
            return function(specs[layer], pathlib.Path(folder))
        except roads.RoadError as error:
            return [str(error)]


def main() -> int:
    """The command line."""
    wanted = sys.argv[1:] or list(CHECKS)
    for check in wanted:
        if check not in CHECKS:
            sys.exit(f"error: no check is '{check}'")
    names = [
        f"{check} of {layer}" for check in wanted for layer in CHECKS[check][1]
    ]
    return 1 if roads.judge_all(1, names, judge) else 0


if __name__ == "__main__":
    sys.exit(main())
