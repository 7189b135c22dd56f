# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The ways on which a described layer is compiled and run.

A road takes a spec and a safetensors file of operands to named results, by
the tools alone, which are found on PATH:

  cpu      moe-compile, moe-run
  packed   the same with --pack-weights
  oracle   moe-compile, moe-run --target=oracle
  linalg   moe-compile, moe-opt --convert-moe-to-linalg, moe-run: what follows
           the conversion sees upstream dialects only
  gpu-emulator
           moe-compile, moe-run --target=gpu-emulator: kernels as PTX, every
           access checked

A layer's gradients are judged by moe-run --check-gradients: the compiled
backward against central differences of the oracle, both in f64.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

REFERENCE = pathlib.Path(__file__).resolve().parent.parent / "reference"
sys.path.insert(0, str(REFERENCE))

import compare  # noqa: E402
import routing  # noqa: E402
from generate import operand_contents, pack  # noqa: E402
from spec import LayerSpec  # noqa: E402

ROADS = ("cpu", "packed", "oracle", "linalg", "gpu-emulator")
GRADIENT_ROADS = ("cpu", "oracle")
RESULTS = ("y", "ids", "weights", "expert_loads")

_TIMEOUT = 120

# An op of the dialect in generic or pretty form; attributes may stay.
_MOE_OP = re.compile(r'^\s*(%[^=]*= )?"?moe\.', re.MULTILINE)


class RoadError(RuntimeError):
    """A tool failed, or its output is not what the road needs."""


def run_tool(words: list[str], accept: tuple[int, ...] = (0,)) -> str:
    """Standard output of a tool; RoadError with its message if it fails.

    accept: exit codes with which it does not, given that it printed something.
    """
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
    if done.returncode not in accept or (done.returncode and not done.stdout):
        message = done.stderr.strip().splitlines() or ["no message"]
        raise RoadError(f"{words[0]}: exit {done.returncode}: {message[0]}")
    return done.stdout


def write_operands(
    path: pathlib.Path, spec: LayerSpec, inputs: dict[str, np.ndarray]
) -> None:
    """A safetensors file of the operands, layouts in its metadata."""
    path.write_bytes(pack(*operand_contents(spec, inputs)))


def to_linalg(source: pathlib.Path) -> str:
    """The module with nothing of the dialect left."""
    text = run_tool(["moe-opt", "--convert-moe-to-linalg", str(source)])
    left = _MOE_OP.search(text)
    if left:
        raise RoadError(f"left by the conversion: {left.group().strip()}")
    return text


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
        module.write_text(to_linalg(source))


def choice_slots(spec: LayerSpec, tokens: int, groups: int) -> int:
    """C of the result ids [E, C] of expert choice: the rule's own bound.

    Exact for one group. Several groups have no more together than the sum of
    their shares and what each may be rounded or lifted up by.
    """
    if groups == 1:
        return min(tokens, routing.capacity(spec, tokens))
    if spec.capacity_fixed:
        return min(tokens, groups * spec.capacity_fixed)
    share = math.ceil(spec.capacity_factor * tokens / spec.experts)
    slack = spec.capacity_multiple + spec.capacity_min
    return min(tokens, share + groups * slack)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a built module with the operands of a file."""

    spec: LayerSpec
    operands: pathlib.Path
    names: tuple[str, ...]
    tokens: int
    groups: int = 1
    threads: int = 2
    results: tuple[str, ...] = RESULTS

    @staticmethod
    def of(
        spec: LayerSpec,
        operands: pathlib.Path,
        inputs: dict[str, np.ndarray],
        **keys: Any,
    ) -> Call:
        """The call with `inputs`, which `operands` holds."""
        groups = 1
        if spec.group_offsets:
            groups = len(inputs["group_offsets"]) - 1
        tokens = inputs["x"].shape[0]
        return Call(spec, operands, tuple(inputs), tokens, groups, **keys)

    def words(self, module: pathlib.Path, road: str) -> list[str]:
        """The command line of moe-run, without destinations."""
        words = ["moe-run", str(module), f"--threads={self.threads}"]
        if road in ("oracle", "gpu-emulator"):
            words.append(f"--target={road}")
        if road == "packed":
            words.append("--pack-weights")
        for name in self.names:
            words.append(f"--arg={name}={self.operands}#{name}")
        if self.spec.router == "expert_choice" and "ids" in self.results:
            slots = choice_slots(self.spec, self.tokens, self.groups)
            words.append(f"--dim=C={slots}")
        return words

    def run(self, module: pathlib.Path, road: str) -> dict[str, np.ndarray]:
        """The results, in the precision in which they were written."""
        words = self.words(module, road)
        paths = {
            name: module.with_suffix(f".{road}.{name}.npy")
            for name in self.results
        }
        for name, path in paths.items():
            path.unlink(missing_ok=True)
            words.append(f"--out={name}={path}")
        run_tool(words)
        return {name: np.load(path) for name, path in paths.items()}


def judge_gradients(
    call: Call, module: pathlib.Path, road: str
) -> list[str]:
    """What is wrong with the gradients of the layer's output on a road."""
    own = module.with_suffix(".gradients.mlir")
    try:
        build(call.spec, own, road, results=("y",))
        words = call.words(own, road)
        words = [word for word in words if not word.startswith("--dim=")]
        report = run_tool([*words, "--check-gradients", "--json"], accept=(0, 1))
    except RoadError as error:
        return [f"gradients on {road}: {error}"]
    return [
        f"gradients on {road}: {found['argument']}: {found['gradient']:.9g}, "
        f"by differences {found['difference']:.9g}"
        for found in json.loads(report)["gradients"]
        if not found["ok"]
    ]


def widened(call: Call, expected: dict[str, Any]) -> dict[str, Any]:
    """Expected results with ids and weights [E, C] filled up to C."""
    if call.spec.router != "expert_choice":
        return expected
    slots = choice_slots(call.spec, call.tokens, call.groups)
    short = ((0, 0), (0, slots - expected["ids"].shape[1]))
    return {
        **expected,
        "ids": np.pad(expected["ids"], short, constant_values=-1),
        "weights": np.pad(expected["weights"], short),
    }


def judge(
    call: Call,
    expected: dict[str, Any],
    wanted: Sequence[str],
    module: pathlib.Path,
) -> list[str]:
    """What is wrong with the results of the wanted roads, one text each.

    Every road is judged by `expected`, cpu by the oracle as well. Modules and
    results lie beside `module`.
    """
    expected = widened(call, expected)
    found: dict[str, dict[str, np.ndarray]] = {}
    out = []
    for road in wanted:
        own = module.with_suffix(f".{road}.mlir")
        try:
            build(call.spec, own, road, call.results)
            found[road] = call.run(own, road)
            texts = compare.complaints(call.spec, found[road], expected)
        except (RoadError, AssertionError) as error:
            texts = [str(error)]
        out += [f"{road}: {text}" for text in texts]
    if not out and {"cpu", "oracle"} <= set(found):
        sizes = ("magnitude", "cancellation")
        known = {name: expected[name] for name in sizes if name in expected}
        base = found["oracle"] | known
        texts = compare.complaints(call.spec, found["cpu"], base)
        out += [f"cpu against oracle: {text}" for text in texts]
    return out


def judge_all(
    jobs: int,
    names: Sequence[str],
    judge_one: Callable[[str], list[str]],
) -> int:
    """Judges every name, prints a line for each; the number that failed."""
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for name, texts in zip(names, pool.map(judge_one, names)):
            failed += bool(texts)
            print(f"{'FAIL' if texts else 'ok  '} {name}", flush=True)
            for text in texts:
                print(f"     {text[:500]}", flush=True)
    return failed
