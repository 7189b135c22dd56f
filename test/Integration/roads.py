# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The ways on which a described layer is compiled and run.

A road takes a spec and a safetensors file of operands to named results, by
the tools alone, which are found on PATH:

  cpu      moe-compile, moe-run
  oracle   moe-compile, moe-run --target=oracle
  linalg   moe-compile, moe-opt --convert-moe-to-linalg, moe-run: what follows
           the conversion sees upstream dialects only
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
import sys

import numpy as np

REFERENCE = pathlib.Path(__file__).resolve().parent.parent / "reference"
sys.path.insert(0, str(REFERENCE))

from generate import operand_contents, pack  # noqa: E402
from spec import LayerSpec  # noqa: E402

ROADS = ("cpu", "oracle", "linalg")
RESULTS = ("y", "ids", "weights", "expert_loads")

_TIMEOUT = 120

# An op of the dialect in generic or pretty form; attributes may stay.
_MOE_OP = re.compile(r'^\s*(%[^=]*= )?"?moe\.', re.MULTILINE)


class RoadError(RuntimeError):
    """A tool failed, or its output is not what the road needs."""


def run_tool(words: list[str]) -> str:
    """Standard output of a tool; RoadError with its message if it fails."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RoadError(f"{words[0]}: no end after {_TIMEOUT} s") from error
    if done.returncode != 0:
        message = done.stderr.strip().splitlines() or ["no message"]
        raise RoadError(f"{words[0]}: exit {done.returncode}: {message[0]}")
    return done.stdout


def write_operands(
    path: pathlib.Path, spec: LayerSpec, inputs: dict[str, np.ndarray]
) -> None:
    """A safetensors file of the operands, layouts in its metadata."""
    path.write_bytes(pack(*operand_contents(spec, inputs)))


def build(
    spec: LayerSpec,
    module: pathlib.Path,
    road: str,
    results: tuple[str, ...] = RESULTS,
) -> None:
    """Writes the module that moe-run takes on this road."""
    words = ["moe-compile", "--example", "layer", *spec.to_flags()]
    for name in results:
        if name != "y":
            words += ["--set", f"{name}=true"]
    run_tool([*words, "-o", str(module)])
    if road == "linalg":
        source = module.with_suffix(".source.mlir")
        module.replace(source)
        text = run_tool(["moe-opt", "--convert-moe-to-linalg", str(source)])
        left = _MOE_OP.search(text)
        if left:
            raise RoadError(f"left by the conversion: {left.group().strip()}")
        module.write_text(text)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a built module.

    choice_slots: C where experts choose, which no operand tells.
    """

    spec: LayerSpec
    operands: pathlib.Path
    operand_names: tuple[str, ...]
    choice_slots: int = 0
    threads: int = 2
    results: tuple[str, ...] = RESULTS

    def run(self, module: pathlib.Path, road: str) -> dict[str, np.ndarray]:
        """The results, in the precision in which they were written."""
        words = ["moe-run", str(module), f"--threads={self.threads}"]
        if road == "oracle":
            words.append("--target=oracle")
        for name in self.operand_names:
            words.append(f"--arg={name}={self.operands}#{name}")
        if self.spec.router == "expert_choice" and "ids" in self.results:
            words.append(f"--dim=C={self.choice_slots}")
        paths = {
            name: module.with_suffix(f".{road}.{name}.npy")
            for name in self.results
        }
        for name, path in paths.items():
            path.unlink(missing_ok=True)
            words.append(f"--out={name}={path}")
        run_tool(words)
        return {name: np.load(path) for name, path in paths.items()}
