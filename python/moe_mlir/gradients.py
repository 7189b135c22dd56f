# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A layer to train: its compiled forward and backward."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from . import _moe
from .compiler import CompileWarning, Target, _check_layouts, _read_source
from .layer import Argument, Layer

Save = Literal["minimal", "recompute"]


class Saved:
    """What one forward left for its backward: its inputs and residuals.

    residuals: arrays by name, "saved_0" and so on.
    nbytes: the bytes of the residuals. The inputs are the caller's own arrays,
        which must not change before the backward.
    """

    def __init__(
        self, inputs: dict[str, Any], residuals: dict[str, np.ndarray]
    ) -> None:
        self.inputs = inputs
        self.residuals = residuals

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.residuals.values())


class GradientLayer:
    """A layer's forward and backward; `compile_gradients` makes it.

    Arrays are as `Layer` takes and gives them. Calls are counted by nobody: one
    forward may have many backwards, or none.
    """

    def __init__(self, forward: Layer, backward: Layer) -> None:
        self._forward = forward
        self._backward = backward
        self._results = tuple(
            a for a in forward.outputs if not a.name.startswith("saved_")
        )
        self._given = {a.name for a in backward.inputs}

    @property
    def inputs(self) -> tuple[Argument, ...]:
        """What the forward takes, in order."""
        return self._forward.inputs

    @property
    def outputs(self) -> tuple[Argument, ...]:
        """What the forward returns, in order."""
        return self._results

    @property
    def saved(self) -> tuple[Argument, ...]:
        """What the forward saves."""
        return self._forward.outputs[len(self._results) :]

    @property
    def cotangents(self) -> tuple[Argument, ...]:
        """What the backward takes: "d_" and a result's name."""
        names = {f"d_{a.name}" for a in self._results}
        return tuple(a for a in self._backward.inputs if a.name in names)

    @property
    def gradients(self) -> tuple[Argument, ...]:
        """What the backward returns: "d_" and an argument's name."""
        return self._backward.outputs

    @property
    def threads(self) -> int:
        """The threads of a call, the caller among them."""
        return self._forward.threads

    def forward(
        self, *args: Any, **kwargs: Any
    ) -> tuple[dict[str, np.ndarray], Saved]:
        """Runs the forward: its results by name, and what a backward needs.

        Raises what calling a `Layer` raises.
        """
        arrays = self._forward._bind(args, kwargs)
        values = self._forward(*arrays)
        if len(self._forward.outputs) == 1:
            values = (values,)
        named = dict(
            zip((a.name for a in self._forward.outputs), values, strict=True)
        )
        results = {a.name: named.pop(a.name) for a in self._results}
        inputs = {
            a.name: array
            for a, array in zip(self._forward.inputs, arrays, strict=True)
            if a.name in self._given
        }
        return results, Saved(inputs, named)

    def backward(
        self,
        saved: Saved,
        out: Mapping[str, np.ndarray] | None = None,
        **cotangents: Any,
    ) -> dict[str, np.ndarray]:
        """Runs the backward of a forward: gradients by name.

        cotangents: one for each floating-point result, `d_` and its name, of
            the result's type and shape.
        out: arrays that gradients are written to, by name, instead of into new
            ones. What they held is not added to.

        Raises what calling a `Layer` raises, TypeError for a cotangent that is
        missing or that there is not.
        """
        values = self._backward(
            out=dict(out or {}),
            **saved.inputs,
            **saved.residuals,
            **cotangents,
        )
        if len(self._backward.outputs) == 1:
            values = (values,)
        return dict(
            zip((a.name for a in self._backward.outputs), values, strict=True)
        )

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.inputs))
        gradients = ", ".join(map(str, self.gradients))
        return f"<moe_mlir.GradientLayer ({inputs}) -> ({gradients})>"


def compile_gradients(
    source: str | bytes | os.PathLike[str],
    wrt: Iterable[str] | None = None,
    save: Save = "minimal",
    target: Target = "cpu",
    threads: int | None = None,
    entry: str | None = None,
    layouts: Mapping[str, str] | None = None,
    chip: str | None = None,
    tf32: bool = False,
    batch_invariant: bool = False,
) -> GradientLayer:
    """Compiles the forward and the backward of one entry.

    source, target, threads, layouts, chip, tf32, batch_invariant: as `compile`
        takes them.
    wrt: names of the arguments that gradients are wanted of; None is all that
        are floating-point.
    save: what a forward saves for its backward: "minimal" is the routing and
        what the experts' activations were given; "recompute" the routing alone,
        for another product of the up projection in the backward.
    entry: the function; None where there is one entry only.

    Gradients are those that the ops and routers describe: for routers that
    sample, surrogates. They repeat bit for bit, with any number of threads.

    Raises what `compile` raises; CompileError names an op without a backward.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}, expected 1 or more, or None")
    content, name = _read_source(source)
    arguments = ",".join(wrt) if wrt is not None else ""
    if wrt is not None and not arguments:
        raise ValueError("wrt names no argument")
    module = _moe.Module(
        content,
        target,
        name,
        (entry or "", arguments, save),
        chip,
        tf32,
        batch_invariant,
    )
    if module.warnings:
        warnings.warn(module.warnings, CompileWarning, stacklevel=2)
    stem = next(
        e.removesuffix("_bwd")
        for e in module.entries
        if e.endswith("_bwd")
        and (not entry or e == f"{entry}_bwd")
        and f"{e.removesuffix('_bwd')}_fwd" in module.entries
    )
    forward, backward = (
        Layer(_moe.Entry(module, f"{stem}_{half}", threads or 0),
              f"{stem}_{half}", target)
        for half in ("fwd", "bwd")
    )
    _check_layouts(forward, layouts or {})
    return GradientLayer(forward, backward)
