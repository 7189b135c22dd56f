# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiled gradients against central differences of the oracle's forward."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys

import moe_mlir
import numpy as np
from moe_mlir import _moe

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parents[2] / "reference")
)

TARGETS = ("cpu", "oracle")
SAVES = ("minimal", "recompute")
# Both targets and both saves.
ROADS = [(target, save) for target in TARGETS for save in SAVES]
# What one case of many takes; backwards of the oracle are slow to compile.
FAST = [("cpu", save) for save in SAVES]
BOTH = [("cpu", "minimal"), ("oracle", "recompute")]

# In f64, sums of some hundred terms of about 1; the differences are good to
# STEP^2 and to 1e-16 / STEP.
STEP = 1e-5
RTOL, ATOL = 1e-6, 2e-8

RANDOM = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %seed = tensor.extract %random[%c0] : tensor<3xi64>
  %layer = tensor.extract %random[%c1] : tensor<3xi64>
  %first = tensor.extract %random[%c2] : tensor<3xi64>"""


@dataclasses.dataclass(frozen=True)
class Function:
    """An entry. `inputs` and `outputs` are rows of a name and a type, where a
    dynamic size in front is T; a third item is an attribute."""

    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[tuple[str, ...], ...]
    body: str

    def source(self) -> str:
        """The entry as text."""
        arguments = ",\n    ".join(f"%{row[0]}: {_typed(row)}"
                                   for row in self.inputs)  # fmt: skip
        results = ", ".join(_typed(row) for row in self.outputs)
        values = ", ".join(f"%{row[0]}" for row in self.outputs)
        types = ", ".join(row[1] for row in self.outputs)
        prefix = RANDOM if "random" in dict(r[:2] for r in self.inputs) else ""
        return f"""func.func @layer(
    {arguments})
    -> ({results}) attributes {{moe.entry}} {{{prefix}
{self.body}
  return {values} : {types}
}}
"""


def _typed(row: tuple[str, ...]) -> str:
    name, kind = row[:2]
    attributes = [f'moe.name = "{name}"', *row[2:]]
    if kind.startswith("tensor<?"):
        rest = ', ""' * (kind.count("x") - 1)
        attributes.append(f'moe.dims = ["T"{rest}]')
    return f"{kind} {{{', '.join(attributes)}}}"


@functools.lru_cache(maxsize=None)
def forward_of(source: str) -> moe_mlir.Layer:
    """The oracle's forward, which judges."""
    return moe_mlir.compile(source, target="oracle", threads=1)


def gradients_of(
    source: str,
    target: str = "cpu",
    save: str = "minimal",
    wrt: tuple[str, ...] | None = None,
) -> moe_mlir.GradientLayer:
    """A compiled forward and backward, for one thread."""
    return _compile_once(source, target, save, wrt)


@functools.lru_cache(maxsize=None)
def _compile_once(source, target, save, wrt) -> moe_mlir.GradientLayer:
    return moe_mlir.compile_gradients(
        source, wrt=wrt, save=save, target=target, threads=1
    )


def run_forward(source: str, values: dict) -> dict[str, np.ndarray]:
    """The oracle's results by name."""
    layer = forward_of(source)
    results = layer(**values)
    if len(layer.outputs) == 1:
        results = (results,)
    return {a.name: r for a, r in zip(layer.outputs, results)}


def draw_cotangents(results: dict, seed: int = 99) -> dict[str, np.ndarray]:
    """Random ones, for results of floating-point numbers."""
    stream = np.random.default_rng(seed)
    return {
        f"d_{name}": stream.normal(size=value.shape).astype(value.dtype)
        for name, value in results.items()
        if value.dtype.kind == "f"
    }


_FOUND: dict = {}


def find_differences(
    source: str, values: dict, cotangents: dict, wrt=None
) -> dict[str, np.ndarray]:
    """Central differences of sum <cotangent, result>, element by element.

    Integer results, such as ids, have to stay the same.
    """
    key = (source, wrt, *(values[name].tobytes() for name in sorted(values)))
    if key in _FOUND:
        return _FOUND[key]
    fixed = {
        name: value
        for name, value in run_forward(source, values).items()
        if value.dtype.kind == "i"
    }

    def loss() -> float:
        results = run_forward(source, moved)
        for name, value in fixed.items():
            assert np.array_equal(results[name], value), f"{name} changes"
        return sum(
            np.sum(cotangent * results[name[2:]])
            for name, cotangent in cotangents.items()
        )

    moved = {name: np.array(value) for name, value in values.items()}
    out = {}
    for name, value in values.items():
        if value.dtype.kind != "f" or (wrt is not None and name not in wrt):
            continue
        out[f"d_{name}"] = gradient = np.zeros(value.shape)
        for place in np.ndindex(*value.shape):
            if not np.isfinite(value[place]):
                continue
            moved[name][place] = value[place] + STEP
            above = loss()
            moved[name][place] = value[place] - STEP
            gradient[place] = (above - loss()) / (2 * STEP)
            moved[name][place] = value[place]
    _FOUND[key] = out
    return out


def find_slope(source, values, cotangents, name, direction) -> float:
    """The difference along a direction of one input; as find_differences."""
    fixed, sums = run_forward(source, values), []
    for step in (STEP, -STEP):
        moved = values | {name: values[name] + step * direction}
        results = run_forward(source, moved)
        for other, value in fixed.items():
            if value.dtype.kind == "i":
                assert np.array_equal(results[other], value), f"{other} changes"
        sums.append(
            sum(np.sum(c * results[n[2:]]) for n, c in cotangents.items())
        )
    return (sums[0] - sums[1]) / (2 * STEP)


@functools.lru_cache(maxsize=None)
def with_threads(
    source: str, counts: tuple[int, ...]
) -> list[moe_mlir.GradientLayer]:
    """Layers of one compilation, for several numbers of threads."""
    module = _moe.Module(source.encode(), "cpu", "source", ("", "", "minimal"))
    return [
        moe_mlir.GradientLayer(
            *(
                moe_mlir.Layer(_moe.Entry(module, name, n), name, "cpu")
                for name in ("layer_fwd", "layer_bwd")
            )
        )
        for n in counts
    ]


def run_gradients(
    source: str, values: dict, target: str, save: str, wrt=None
) -> tuple[dict, dict, dict]:
    """Results, the cotangents they were given, gradients."""
    layer = gradients_of(source, target, save, wrt)
    results, saved = layer.forward(**values)
    cotangents = draw_cotangents(results)
    return results, cotangents, layer.backward(saved, **cotangents)


def check(
    function: Function,
    values: dict,
    road: tuple[str, str] = ROADS[0],
    wrt: tuple[str, ...] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> dict[str, np.ndarray]:
    """Compares results and gradients with the oracle; returns gradients."""
    source = function.source()
    results, cotangents, found = run_gradients(source, values, *road, wrt)
    for name, wanted in run_forward(source, values).items():
        if wanted.dtype.kind == "i":
            assert np.array_equal(results[name], wanted), name
        else:
            np.testing.assert_allclose(
                results[name], wanted, rtol=1e-9, atol=1e-11, err_msg=name
            )
    wanted = find_differences(source, values, cotangents, wrt)
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        assert found[name].shape == gradient.shape
        np.testing.assert_allclose(
            found[name], gradient, rtol=rtol, atol=atol, err_msg=name
        )
    return found


def random_state(seed: int, layer: int = 0, first: int = 0) -> np.ndarray:
    """The input `random`."""
    return np.array([seed, layer, first], dtype=np.int64)
