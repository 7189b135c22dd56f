# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Single ops compiled on both roads, and the rows that they are judged on."""

from __future__ import annotations

import functools
import pathlib
import subprocess
import sys

import moe_mlir
import numpy as np

REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "reference"
sys.path.insert(0, str(REFERENCE))

TARGETS = ("cpu", "oracle")
ROADS = (*TARGETS, "linalg")
# Beside the package that is tested, in a build tree.
_MOE_OPT = pathlib.Path(moe_mlir.__file__).resolve().parents[2] / "bin/moe-opt"

_RANDOM = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %seed = tensor.extract %random[%c0] : tensor<3xi64>
  %layer = tensor.extract %random[%c1] : tensor<3xi64>
  %first = tensor.extract %random[%c2] : tensor<3xi64>"""


def _to_linalg(text: str) -> str:
    """The module with nothing of the dialect left."""
    command = [str(_MOE_OPT), "--convert-moe-to-linalg"]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _argument(name: str, kind: str) -> str:
    """An argument of an entry; T is the tokens of all of them, and `groups`
    has a size of its own."""
    dims = ""
    if kind.startswith("tensor<?"):
        rest = ', ""' if kind.count("x") > 1 else ""
        size = "G" if name == "groups" else "T"
        dims = f', moe.dims = ["{size}"{rest}]'
    return f'%{name}: {kind} {{moe.name = "{name}"{dims}}}'


@functools.lru_cache(maxsize=None)
def compile_body(
    body: str,
    inputs: tuple[tuple[str, str], ...],
    outputs: tuple[tuple[str, str], ...],
    target: str,
    threads: int = 1,
) -> moe_mlir.Layer:
    """An entry of named inputs and outputs; `%seed, %layer, %first` come from
    the input `random`, if there is one. `target` is one of ROADS."""
    arguments = ", ".join(_argument(*row) for row in inputs)
    results = ", ".join(_argument(*row).split(": ", 1)[1] for row in outputs)
    prefix = _RANDOM if "random" in dict(inputs) else ""
    values = ", ".join(f"%{name}" for name, _ in outputs)
    types = ", ".join(kind for _, kind in outputs)
    text = f"""func.func @layer({arguments}) -> ({results})
    attributes {{moe.entry}} {{{prefix}
  {body}
  return {values} : {types}
}}"""
    if target == "linalg":
        text, target = _to_linalg(text), "cpu"
    return moe_mlir.compile(text, target=target, threads=threads)


def subset_op(
    kind: str,
    experts: int,
    band: tuple[int, int],
    target: str,
    dtype: str = "f32",
    threads: int = 1,
) -> moe_mlir.Layer:
    """One of the subset ops as an entry."""
    low, high = band
    row = f"tensor<?x{experts}x{dtype}>"
    ids = f"tensor<?x{high}xi32>"
    size = f"size {low} to {high}"
    inputs = [("x", row)]
    if kind == "sample":
        out = ids
        inputs.append(("random", "tensor<3xi64>"))
        size += " draw(%seed, %layer, %first)"
        types, operands = row, "%x"
    elif kind == "covariance":
        out, types, operands = row, f"{row}, {row}", "%x, %v"
        inputs.append(("v", row))
    elif kind == "entropy":
        out, types, operands = f"tensor<?x{dtype}>", row, "%x"
    elif kind == "log_prob":
        out, types = f"tensor<?x{dtype}>", f"{row}, {ids}"
        operands = "%x, %i"
        inputs.append(("i", ids))
    elif kind == "partition":
        out = f"tensor<?x{high - low + 1}x{dtype}>"
        types, operands = row, "%x"
    else:
        out, types, operands = row, row, "%x"
    body = f"%y = moe.subset_{kind} {operands} {size} : {types} -> {out}"
    return compile_body(body, tuple(inputs), (("y", out),), target, threads)


def router(
    attribute: str,
    experts: int,
    slots: int,
    target: str,
    training: bool = False,
    masked: bool = False,
    noise: bool = False,
    threads: int = 1,
) -> moe_mlir.Layer:
    """A token choice on given logits: ids and weights."""
    row = f"tensor<?x{experts}xf32>"
    inputs, clauses = [("x", row)], []
    if masked:
        inputs.append(("mask", "tensor<?xi1>"))
        clauses.append("mask(%mask : tensor<?xi1>)")
    if noise:
        inputs.append(("noise", row))
        clauses.append(f"noise(%noise : {row})")
    if training:
        inputs.append(("random", "tensor<3xi64>"))
        clauses.append("training(%seed, %layer, %first)")
    ids, weights = f"tensor<?x{slots}xi32>", f"tensor<?x{slots}xf32>"
    body = (
        f"%ids, %weights = moe.route {attribute} %x {' '.join(clauses)}\n"
        f"      : {row} -> {ids}, {weights}"
    )
    outputs = (("ids", ids), ("weights", weights))
    return compile_body(body, tuple(inputs), outputs, target, threads)


def rows(experts: int, seed: int = 1) -> np.ndarray:
    """Random and adversarial logits [T, E], f32."""
    stream = np.random.default_rng(seed)
    out = [
        stream.normal(size=experts) * scale
        for scale in (0.1, 1, 3, 6, 20, 40)
        for _ in range(3)
    ]
    out.append(np.zeros(experts))
    one = np.full(experts, -80.0)
    one[experts // 2] = 80.0
    half = np.full(experts, -80.0)
    half[: experts // 2] = 80.0
    holes = stream.normal(size=experts)
    holes[::2] = -np.inf
    single = np.full(experts, -np.inf)
    single[experts - 1] = 3.0
    none = np.full(experts, -np.inf)
    out += [one, half, holes, single, none]
    out.append(stream.choice([-80.0, 80.0, 0.0], size=experts))
    return np.array(out, dtype=np.float32)


def unusable_rows(experts: int) -> np.ndarray:
    """A row with NaN, one with +inf, and one that is neither."""
    out = np.zeros((3, experts), dtype=np.float32)
    out[0, 0] = np.nan
    out[1, experts - 1] = np.inf
    return out


def random_state(seed: int, layer: int = 0, first: int = 0) -> np.ndarray:
    """The input `random`."""
    return np.array([seed, layer, first], dtype=np.int64)
