# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""From IR to a layer that can be called."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from . import _moe
from .layer import Layer

Target = Literal["cpu", "oracle", "cuda", "gpu-emulator"]


class CompileWarning(UserWarning):
    """What the compiler had to say about a source that it compiled."""


def compile(
    source: str | bytes | os.PathLike[str],
    target: Target = "cpu",
    threads: int | None = None,
    entry: str | None = None,
    layouts: Mapping[str, str] | None = None,
    chip: str | None = None,
    tf32: bool = False,
    batch_invariant: bool = False,
    pack_weights: bool = False,
) -> Layer:
    """Compiles IR for this machine and returns one of its entries.

    source: IR as text, or as bytes of text or bytecode; or the path of a file
        of it. A str without a brace is a path: IR has one.
    target: "cpu" is the optimised road; "oracle" the naive one, slow, which
        judges the other. "cuda" runs on the first NVIDIA GPU; "gpu-emulator"
        runs the same kernels on this machine's processor, slowly, every access
        checked. Arrays stay the CPU's: a call copies them.
    threads: the threads of a call, the caller among them; None is one for each
        processor that this process may use.
    entry: the name of a function marked moe.entry; None where there is one
        only.
    layouts: how the caller's weights lie in memory, by argument: the text of
        the layout attribute, as `moe-run --layout` takes it. An array cannot
        tell, and a gate and up weight read the wrong way round gives numbers
        that look right.
    chip: the GPU that kernels are made for, such as "sm_90"; None is "sm_80",
        whose code later ones run too. This and what follows only of targets
        "cuda" and "gpu-emulator".
    tf32: float32 may be multiplied as tf32, of 11 bits, on tensor cores.
    batch_invariant: no row's result depends on how many rows its expert has;
        few rows have no kernel of their own then.
    pack_weights: the layer takes expert weights in the order in which this
        machine's code reads them, which is faster; `Layer.pack` makes them of
        stored ones, once. Of target "cpu". `layouts` are of stored ones.

    Raises CompileError (a ValueError) with the compiler's messages, OSError
    for a file that cannot be read, ValueError for an argument, such as a
    layout that is not the one that the source was written for, and
    RuntimeError where there is no GPU or no driver for it.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}, expected 1 or more, or None")
    content, name = _read_source(source)
    module = _moe.Module(
        content,
        target,
        name,
        chip=chip,
        tf32=tf32,
        batch_invariant=batch_invariant,
        pack_weights=pack_weights,
    )
    if module.warnings:
        warnings.warn(module.warnings, CompileWarning, stacklevel=2)
    entries = module.entries
    if entry is None and len(entries) > 1:
        raise ValueError(
            f"{name}: choose one of the entries: {', '.join(entries)}"
        )
    if entry is not None and entry not in entries:
        raise ValueError(
            f"{name}: no entry '{entry}'; it has {', '.join(entries)}"
        )
    layer = Layer(
        _moe.Entry(module, entry or entries[0], threads or 0),
        entry or entries[0],
        target,
    )
    _check_layouts(layer, layouts or {})
    return layer


def _check_layouts(layer: Layer, layouts: Mapping[str, str]) -> None:
    """Refuses layouts that are not those of the layer's arguments."""
    expected = {a.name: a.layout for a in layer.stored if a.layout}
    for name, text in layouts.items():
        if name not in expected:
            known = ", ".join(expected) or "no argument"
            raise ValueError(
                f"{layer.name}: layouts: '{name}' has no layout; {known} has"
            )
        if "".join(text.split()) != "".join(expected[name].split()):
            raise ValueError(
                f"{layer.name}: layouts: '{name}' is stated to lie as "
                f"'{text}', expected '{expected[name]}'"
            )


def _read_source(source: str | bytes | os.PathLike[str]) -> tuple[bytes, str]:
    """The bytes of a source, and what messages call it."""
    if isinstance(source, bytes):
        return source, "source"
    if isinstance(source, str) and "{" in source:
        return source.encode(), "source"
    if isinstance(source, str) and not source.strip():
        raise ValueError("source is empty")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return path.read_bytes(), str(path)
    raise TypeError(
        "source is "
        f"{type(source).__name__}, expected IR as str or bytes, or a path"
    )
