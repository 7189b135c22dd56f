# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes the test vectors, or checks that the committed ones are current.

  generate.py [DIRECTORY]          write one NAME.safetensors per case
  generate.py --check [DIRECTORY]  exit 1 where a file is missing, left over
                                   or differs

A file holds the operands in their storage types and, in f64 and i32, what
the reference computes from them: y [T, H], ids, weights, expert_loads [E],
magnitude [T] (see reference.run). Its metadata: `spec` (the stated keys as
JSON), `tolerance` (the class of y in compare.TOLERANCE), `note`, and
`moe.layout.NAME` for every operand that has a layout.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np

import compare
import dtypes
import reference
from families import CASES, Case
from spec import LayerSpec

DEFAULT_DIRECTORY = (
    pathlib.Path(__file__).resolve().parent.parent / "Integration" / "vectors"
)

RESULTS = ("y", "ids", "weights", "expert_loads", "magnitude")

_NAMES = {
    "f64": "F64",
    "f32": "F32",
    "f16": "F16",
    "bf16": "BF16",
    "i32": "I32",
    "i1": "BOOL",
}

# Between library versions exp and friends differ in the last places.
_CHECK_TOLERANCE = 1e-12

Tensors = dict[str, tuple[str, np.ndarray]]


def pack(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """The safetensors form: length, JSON header, data without gaps.

    tensors: name to (type, values as dtypes.encode takes them).
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    blocks, at = [], 0
    for name, (dtype, values) in tensors.items():
        block = dtypes.encode(values, dtype).tobytes()
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(np.shape(values)),
            "data_offsets": [at, at + len(block)],
        }
        blocks.append(block)
        at += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(blocks)


def unpack(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """The reverse of `pack`. Raises ValueError where the form is broken."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ValueError("header: longer than the file")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    types = {name: dtype for dtype, name in _NAMES.items()}
    tensors: Tensors = {}
    for name, entry in header.items():
        dtype = types[entry["dtype"]]
        low, high = entry["data_offsets"]
        stored_type = dtypes.bytes_type(dtype)
        count = int(np.prod(entry["shape"], dtype=np.int64))
        if high - low != count * stored_type.itemsize:
            raise ValueError(f"{name}: shape and data_offsets disagree")
        if 8 + size + high > len(data):
            raise ValueError(f"{name}: data beyond the end of the file")
        stored = np.frombuffer(data, stored_type, count, 8 + size + low)
        values = dtypes.decode(stored, dtype).reshape(entry["shape"])
        tensors[name] = (dtype, values)
    return tensors, metadata


def load(path: pathlib.Path) -> tuple[LayerSpec, dict[str, np.ndarray], dict]:
    """(spec, operands, expected results) of a vector file."""
    tensors, metadata = unpack(path.read_bytes())
    values = {name: value for name, (_, value) in tensors.items()}
    expected = {name: values.pop(name) for name in RESULTS}
    return LayerSpec.from_json(metadata["spec"]), values, expected


def operand_contents(
    spec: LayerSpec, inputs: dict[str, np.ndarray]
) -> tuple[Tensors, dict[str, str]]:
    """The operands in the layer's order, and metadata with their layouts."""
    tokens = inputs["x"].shape[0]
    groups = len(inputs["group_offsets"]) - 1 if spec.group_offsets else 1
    tensors: Tensors = {
        operand.name: (operand.dtype, inputs[operand.name])
        for operand in spec.operands(tokens, groups)
    }
    metadata = {
        f"moe.layout.{name}": text for name, text in spec.layouts().items()
    }
    return tensors, metadata


def contents(case: Case) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of one case."""
    spec, inputs = case.spec, case.inputs()
    result = reference.run(spec, inputs)
    tensors, metadata = operand_contents(spec, inputs)
    for name in RESULTS:
        whole = result[name].dtype == np.int32
        tensors[name] = ("i32" if whole else "f64", result[name])
    metadata["spec"] = spec.to_json()
    metadata["tolerance"] = compare.tolerance_class(spec)
    metadata["note"] = case.note
    return tensors, metadata


def difference(case: Case, data: bytes) -> str:
    """What a stored file has different from the case; empty if nothing."""
    wanted, wanted_metadata = contents(case)
    try:
        found, metadata = unpack(data)
    except (ValueError, KeyError) as error:
        return f"not readable: {error}"
    if metadata != wanted_metadata:
        return "metadata"
    if list(found) != list(wanted):
        return "tensor names"
    for name, (dtype, values) in wanted.items():
        stored_type, stored = found[name]
        if stored_type != dtype or stored.shape != values.shape:
            return f"{name}: type or shape"
        exact = name not in RESULTS or dtype == "i32"
        tolerance = 0.0 if exact else _CHECK_TOLERANCE
        if not np.allclose(
            stored, values, rtol=tolerance, atol=tolerance, equal_nan=True
        ):
            return f"{name}: values"
    return ""


def check(directory: pathlib.Path) -> list[str]:
    """Complaints about the files of a directory."""
    out = []
    for name, case in CASES.items():
        path = directory / f"{name}.safetensors"
        if not path.is_file():
            out.append(f"{path.name}: missing")
            continue
        what = difference(case, path.read_bytes())
        if what:
            out.append(f"{path.name}: differs in {what}")
    for path in sorted(directory.glob("*.safetensors")):
        if path.stem not in CASES:
            out.append(f"{path.name}: belongs to no case")
    return out


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument(
        "directory", nargs="?", type=pathlib.Path, default=DEFAULT_DIRECTORY
    )
    options = parser.parse_args()
    if options.check:
        found = check(options.directory)
        for line in found:
            print(f"error: {line}", file=sys.stderr)
        return 1 if found else 0
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        path = options.directory / f"{name}.safetensors"
        path.write_bytes(pack(*contents(case)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
