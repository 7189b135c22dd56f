# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A compiled layer as a callable on NumPy arrays."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import _moe

try:
    import ml_dtypes
except ImportError:
    _BF16 = np.dtype(np.uint16)
else:
    _BF16 = np.dtype(ml_dtypes.bfloat16)


@dataclasses.dataclass(frozen=True)
class Argument:
    """An input or a result of a layer.

    dtype: NumPy's name of the element type, or "bfloat16".
    shape: sizes; a name stands for a size that a call decides, and the same
        name for the same size.
    layout: how a weight lies in memory, as the layout attribute's text, or
        None.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        return f"{self.name}: {self.dtype}[{sizes}]"


class Layer:
    """An entry of a compiled module; `moe_mlir.compile` makes it.

    A layer is called with its inputs in order, by name, or both. Arrays are
    read in place, so they have the very element type of the argument and are
    contiguous in C order; nothing is converted or copied. An argument of
    bfloat16 takes arrays of ml_dtypes.bfloat16, or of uint16 with the same
    bits. Other arrays of the CPU than NumPy's work through DLPack.

    Results are new NumPy arrays, of bfloat16 if ml_dtypes is installed and of
    uint16 with its bits if not. One result is returned as it is, several as a
    named tuple.

    A call releases the interpreter's lock. Calls of one layer from several
    threads wait for each other; different layers run side by side.
    """

    def __init__(self, entry: _moe.Entry, name: str, target: str) -> None:
        self._entry = entry
        self._name = name
        self._target = target
        self._inputs = _make_arguments(entry.inputs())
        self._outputs = _make_arguments(entry.outputs())
        self._stored = _make_arguments(entry.pack_inputs())
        self._packed = _make_arguments(entry.pack_outputs())
        self._input_index = {a.name: i for i, a in enumerate(self._inputs)}
        self._output_index = {a.name: i for i, a in enumerate(self._outputs)}
        self._results = collections.namedtuple(  # type: ignore[misc]
            "Results", [a.name for a in self._outputs], rename=True
        )

    @property
    def name(self) -> str:
        """The name of the compiled function."""
        return self._name

    @property
    def target(self) -> str:
        """What the layer was compiled for, as `compile` takes it."""
        return self._target

    @property
    def threads(self) -> int:
        """The threads of a call, the caller among them."""
        return self._entry.threads

    @property
    def inputs(self) -> tuple[Argument, ...]:
        """What the layer takes, in order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Argument, ...]:
        """What the layer returns, in order."""
        return self._outputs

    @property
    def stored(self) -> tuple[Argument, ...]:
        """The weights that have a layout, as `pack` takes them."""
        return self._stored

    @property
    def bounds(self) -> dict[str, int]:
        """The largest size that each named size may have."""
        return dict(self._entry.symbols())

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self._inputs))
        outputs = ", ".join(map(str, self._outputs))
        return (
            f"<moe_mlir.Layer {self._name}({inputs}) -> ({outputs}), "
            f"target={self._target}, threads={self.threads}>"
        )

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Runs the layer.

        args, kwargs: the inputs as arrays, in order or by name.
        out: where results go instead of into new arrays: an array for the only
            result, a sequence with an array or None for each, or a mapping by
            name. The arrays are returned.

        Raises TypeError for missing, unknown and repeated arguments and
        ValueError, with the place and what was expected, for an array that
        does not fit or data that is not valid, such as an expert's number out
        of range.
        """
        arrays = self._bind(args, kwargs)
        outs = self._bind_out(out)
        views, flags = _make_views(self._inputs, arrays)
        call = _moe.Call(self._entry, views, flags)
        results = [
            self._allocate(call, index) if given is None else given
            for index, given in enumerate(outs)
        ]
        call.run(*_make_views(self._outputs, results))
        return results[0] if len(results) == 1 else self._results(*results)

    def pack(self, out: Any = None, **weights: Any) -> dict[str, np.ndarray]:
        """Stored weights as the layer takes them, by name.

        weights: an array for each of `stored`. Where the expert axis leads, all
            may hold the same part of the experts, so that a model can be packed
            as it is read.
        out: arrays to pack into, by name, instead of new ones.

        Of a layer that is not compiled with pack_weights these are copies.
        Raises TypeError for missing and unknown names and ValueError for an
        array that does not fit.
        """
        names = [a.name for a in self._stored]
        wrong = [n for n in weights if n not in names]
        wrong += [n for n in names if n not in weights]
        if wrong:
            raise TypeError(
                f"{self._name}: pack takes {_join_names(self._stored)}; "
                f"{', '.join(map(repr, wrong))} "
                + ("is" if len(wrong) == 1 else "are")
                + " missing or unknown"
            )
        arrays = [weights[name] for name in names]
        sizes = dict(self._entry.pack_symbols())
        for argument, array in zip(self._stored, arrays):
            for name, size in zip(argument.shape, getattr(array, "shape", ())):
                if isinstance(name, str):
                    sizes[name] = size
        results = {
            a.name: np.empty(
                [sizes.get(size, size) for size in a.shape],
                _BF16 if a.dtype == "bfloat16" else np.dtype(a.dtype),
            )
            if out is None
            else out[a.name]
            for a in self._packed
        }
        self._entry.pack(
            *_make_views(self._stored, arrays),
            *_make_views(self._packed, list(results.values())),
        )
        return results

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list:
        """The inputs in order, each given exactly once."""
        count = len(self._inputs)
        if len(args) > count:
            raise TypeError(
                f"{self._name}: {len(args)} arguments given, expected {count}"
            )
        arrays = list(args) + [None] * (count - len(args))
        given = [True] * len(args) + [False] * (count - len(args))
        for name, array in kwargs.items():
            index = self._input_index.get(name)
            if index is None:
                raise TypeError(
                    f"{self._name}: no argument '{name}'; expected "
                    + _join_names(self._inputs)
                )
            if given[index]:
                raise TypeError(f"{self._name}: argument '{name}' given twice")
            arrays[index] = array
            given[index] = True
        missing = [a for a, there in zip(self._inputs, given) if not there]
        if missing:
            raise TypeError(
                f"{self._name}: missing {_join_names(missing)}; it takes "
                + _join_names(self._inputs)
            )
        return arrays

    def _bind_out(self, out: Any) -> list:
        """An array or None for each result."""
        count = len(self._outputs)
        if out is None:
            return [None] * count
        if isinstance(out, Mapping):
            outs = [None] * count
            for name, array in out.items():
                index = self._output_index.get(name)
                if index is None:
                    raise TypeError(
                        f"{self._name}: out: no result '{name}'; expected "
                        + _join_names(self._outputs)
                    )
                outs[index] = array
            return outs
        outs = list(out) if isinstance(out, (tuple, list)) else [out]
        if len(outs) != count:
            raise TypeError(
                f"{self._name}: out: {len(outs)} arrays given for {count} "
                f"results: {_join_names(self._outputs)}"
            )
        return outs

    def _allocate(self, call: _moe.Call, index: int) -> np.ndarray:
        """A new array for a result, with sizes from the inputs."""
        argument = self._outputs[index]
        shape = call.result_shape(index)
        for size, name in zip(shape, argument.shape):
            if size is None:
                raise ValueError(
                    f"{self._name}: no input has the size {name} of result "
                    f"'{argument.name}'; give an array for it by out="
                )
        bf16 = argument.dtype == "bfloat16"
        return np.empty(shape, _BF16 if bf16 else np.dtype(argument.dtype))


def _make_arguments(rows: Iterable[_moe.ArgumentRow]) -> tuple[Argument, ...]:
    return tuple(
        Argument(name, dtype, shape, layout or None)
        for name, dtype, shape, layout in rows
    )


def _join_names(arguments: Iterable[Argument]) -> str:
    return ", ".join(f"'{argument.name}'" for argument in arguments)


def _make_views(
    arguments: Sequence[Argument], arrays: Sequence[Any]
) -> tuple[list, list[bool]]:
    """Arrays that the extension can share, and which of them hold bfloat16.

    NumPy does not export ml_dtypes' bfloat16, but the same bytes as uint16.
    """
    views, flags = [], []
    for argument, array in zip(arguments, arrays):
        bf16 = False
        if isinstance(array, np.ndarray):
            bf16 = array.dtype.name == "bfloat16"
        elif not hasattr(array, "__dlpack__"):
            raise TypeError(
                f"argument '{argument.name}' is {type(array).__name__}, "
                "expected an array"
            )
        views.append(array.view(np.uint16) if bf16 else array)
        flags.append(bf16)
    return views, flags
