# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiled backwards against central differences of the oracle's forward."""

from __future__ import annotations

import functools
import pathlib
import sys
import warnings

import moe_mlir
import numpy as np

REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "reference"
sys.path.insert(0, str(REFERENCE))

TARGETS = ("oracle", "cpu")

_RANDOM = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %seed = tensor.extract %random[%c0] : tensor<3xi64>
  %layer = tensor.extract %random[%c1] : tensor<3xi64>
  %first = tensor.extract %random[%c2] : tensor<3xi64>"""


def _argument(name: str, kind: str) -> str:
    """T is the dynamic size of all, but of the group offsets, and of what has
    several."""
    dims = ""
    sizes = kind.removeprefix("tensor<").split("x")[:-1]
    if "?" in sizes:
        symbol = "G" if name == "groups" else "T"
        names = ", ".join(f'"{symbol if s == "?" else ""}"' for s in sizes)
        dims = f", moe.dims = [{names}]"
    return f'%{name}: {kind} {{moe.name = "{name}"{dims}}}'


def write_body(body: str, inputs: dict[str, str], outputs: dict[str, str]):
    """The text of an entry; `%seed, %layer, %first` come from the input
    `random`, if there is one."""
    arguments = ", ".join(_argument(*row) for row in inputs.items())
    results = ", ".join(
        _argument(*row).split(": ", 1)[1] for row in outputs.items()
    )
    values = ", ".join(f"%{name}" for name in outputs)
    types = ", ".join(outputs.values())
    prefix = _RANDOM if "random" in inputs else ""
    return f"""func.func @layer({arguments}) -> ({results})
    attributes {{moe.entry}} {{{prefix}
  {body}
  return {values} : {types}
}}"""


@functools.lru_cache(maxsize=None)
def compile_forward(text: str) -> moe_mlir.Layer:
    """The judge."""
    return moe_mlir.compile(text, target="oracle")


@functools.lru_cache(maxsize=None)
def compile_backward(
    text: str, wrt: tuple[str, ...], target: str, threads: int = 1
) -> moe_mlir.GradientLayer:
    """Without a word on what is not fused with a gate: there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", moe_mlir.CompileWarning)
        return moe_mlir.compile_gradients(
            text, wrt=wrt, target=target, threads=threads
        )


def _run(layer: moe_mlir.Layer, inputs: dict) -> dict[str, np.ndarray]:
    values = layer(**inputs)
    names = [a.name for a in layer.outputs]
    return dict(zip(names, values if len(names) > 1 else (values,)))


def differences(
    text: str, inputs: dict, cotangents: dict, wrt, step: float = 1e-6
) -> dict[str, np.ndarray]:
    """Central differences of <cotangents, results>. No integer result may
    change on the way: at a jump there is no derivative."""
    layer = compile_forward(text)
    centre = _run(layer, inputs)

    def value(changed: dict) -> float:
        found = _run(layer, changed)
        for name, array in found.items():
            if array.dtype == np.int32:
                assert np.array_equal(array, centre[name]), "at a jump"
        return sum(np.sum(found[n] * c) for n, c in cotangents.items())

    gradients = {}
    for name in wrt:
        out = np.zeros(inputs[name].shape)
        for place in np.ndindex(out.shape):
            ends = []
            for sign in (step, -step):
                array = inputs[name].copy()
                array[place] += sign
                ends.append(value({**inputs, name: array}))
            out[place] = (ends[0] - ends[1]) / (2 * step)
        gradients[name] = out
    return gradients


def backward(
    text: str, inputs: dict, cotangents: dict, wrt, target: str, threads=1
) -> dict[str, np.ndarray]:
    """The compiled gradients, by the names of what they are of."""
    layer = compile_backward(text, tuple(wrt), target, threads)
    _, saved = layer.forward(**inputs)
    given = {f"d_{name}": array for name, array in cotangents.items()}
    found = layer.backward(saved, **given)
    return {name: found[f"d_{name}"] for name in wrt}


def check(text: str, inputs: dict, outputs, wrt, seed=0, tolerance=2e-7):
    """Both targets' gradients at random cotangents, against differences."""
    stream = np.random.default_rng(seed)
    shapes = _run(compile_forward(text), inputs)
    cotangents = {
        name: stream.normal(size=shapes[name].shape) for name in outputs
    }
    wanted = differences(text, inputs, cotangents, wrt)
    for target in TARGETS:
        found = backward(text, inputs, cotangents, wrt, target)
        for name in wrt:
            np.testing.assert_allclose(
                found[name], wanted[name], rtol=tolerance, atol=tolerance,
                err_msg=f"{target} {name}",
            )
    return found
