# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calls that a compiled layer has to refuse.

Each must end with status 1 and one line that says what is wrong, and must not
write a result; what is found in data has to be found on both targets. The same
call without its mistake has to succeed, so that none fails for another reason.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

import roads

TOKENS = 6
LAYOUT = "#moe.layout<orientation = out_in>"


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One wrong call.

    change: argument to what it is given instead; None leaves it out.
    options: further options of moe-run. bound: moe.bounds of T, if any.
    """

    name: str
    message: str
    keys: tuple[str, ...] = ()
    change: dict[str, np.ndarray | str | None] = dataclasses.field(
        default_factory=dict
    )
    options: tuple[str, ...] = ()
    bound: int = 0
    choice: bool = False


def _ids(*last: int) -> np.ndarray:
    out = np.zeros((TOKENS, 2), dtype=np.int32)
    out[:, 1] = 1
    out[-1] = last
    return out


def _offsets(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


_INDICES = ("indices=true",)
_GROUPS = ("group_offsets=true", "capacity=first_come")
_CHOICE = ("group_offsets=true", "router=expert_choice")
_ASCEND = "group offsets do not ascend from 0 to the number of tokens"
_NO_EXPERT = r"outside \[-1, 4\)|a given index is no expert and not -1"

MISTAKES = [
    Mistake("id too large", _NO_EXPERT, _INDICES,
            {"indices": _ids(0, 4)}),
    Mistake("id far too large", _NO_EXPERT, _INDICES,
            {"indices": _ids(2**31 - 1, 0)}),
    Mistake("id below -1", _NO_EXPERT, _INDICES,
            {"indices": _ids(0, -2)}),
    Mistake("groups descend", _ASCEND, _GROUPS,
            {"group_offsets": _offsets(0, 4, 3, TOKENS)}),
    Mistake("groups end early", _ASCEND, _GROUPS,
            {"group_offsets": _offsets(0, 3, 5)}),
    Mistake("groups start late", _ASCEND, _GROUPS,
            {"group_offsets": _offsets(1, TOKENS)}),
    Mistake("groups go past T", _ASCEND, _GROUPS,
            {"group_offsets": _offsets(0, 99, TOKENS)}),
    Mistake("groups of a choice descend", _ASCEND, _CHOICE,
            {"group_offsets": _offsets(0, 4, 3, TOKENS)}),
    Mistake("T past its bound", r"T = 6 is over its bound 5", bound=5),
    Mistake("too few columns", r"argument 'x': .* \[6, 7\], expected \[T, 8\]",
            change={"x": np.zeros((TOKENS, 7), np.float32)}),
    Mistake("two values of T", r"disagrees with T = 6", ("token_mask=true",),
            {"token_mask": np.ones(TOKENS + 1, bool)}),
    Mistake("wrong rank", r"argument 'router_weight': .* expected \[4, 8\]",
            change={"router_weight": np.zeros(32, np.float32)}),
    Mistake("wrong type", r"holds f64, expected f32",
            change={"x": np.zeros((TOKENS, 8))}),
    Mistake("wrong type of ids", r"holds i64, expected i32", _INDICES,
            {"indices": _ids(0, 1).astype(np.int64)}),
    Mistake("missing argument", r"no --arg for down", change={"down": None}),
    Mistake("no layout", r"nothing states the layout", change={
        "gate_up": np.zeros((4, 10, 8), np.float32)}),
    Mistake("wrong layout", r"states the layout", options=(
        "--layout=gate_up=#moe.layout<orientation = in_out>",)),
    Mistake("wrong C", r"result 'ids' has the wrong size 1",
            ("router=expert_choice", "ids=true",
             "capacity_rounding=ceil"), options=("--dim=C=1",),
            choice=True),
    Mistake("C too large", r"result 'ids' has the wrong size 1",
            ("router=expert_choice", "ids=true",
             "capacity_rounding=ceil"), options=("--dim=C=5",),
            choice=True),
]  # fmt: skip


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False
    )


def _module(mistake: Mistake, folder: pathlib.Path) -> pathlib.Path:
    """Builds the layer that a mistake is about."""
    path = folder / "layer.mlir"
    keys = ["experts=4", "hidden=8", "inter=5", *mistake.keys]
    words = ["moe-compile", "--example", "layer", "-o", str(path)]
    for key in keys:
        words += ["--set", key]
    roads.run_tool(words)
    if mistake.bound:
        text = path.read_text()
        bounded = text.replace(
            "attributes {moe.entry}",
            f"attributes {{moe.bounds = {{T = {mistake.bound} : i64}}, "
            "moe.entry}",
        )
        assert bounded != text, "the entry's attributes were not found"
        path.write_text(bounded)
    return path


def _arguments(keys: tuple[str, ...]) -> dict[str, np.ndarray | str]:
    """A right value for every argument of the layer."""
    out: dict[str, np.ndarray | str] = {
        "x": np.ones((TOKENS, 8), np.float32),
        "router_weight": "random:1",
    }
    if "indices=true" in keys:
        out["indices"] = _ids(0, 1)
    if "token_mask=true" in keys:
        out["token_mask"] = np.ones(TOKENS, bool)
    if "group_offsets=true" in keys:
        out["group_offsets"] = _offsets(0, 2, TOKENS)
    return {**out, "gate_up": "random:2", "down": "random:3"}


def _call(
    module: pathlib.Path,
    target: str,
    given: dict[str, np.ndarray | str | None],
    options: tuple[str, ...],
) -> tuple[subprocess.CompletedProcess[str], bool]:
    """Calls the layer; also whether a result was written."""
    folder = module.parent
    result = folder / "y.npy"
    result.unlink(missing_ok=True)
    words = ["moe-run", str(module), f"--target={target}", "--threads=1",
             f"--out=y={result}", *options]  # fmt: skip
    for name, value in given.items():
        if isinstance(value, np.ndarray):
            np.save(folder / f"{name}.npy", value)
            value = str(folder / f"{name}.npy")
        if value is not None:
            words.append(f"--arg={name}={value}")
    return _run(words), result.exists()


def judge(mistake: Mistake, folder: pathlib.Path) -> list[str]:
    """What is wrong with how a mistake is answered."""
    module = _module(mistake, folder)
    right = _arguments(mistake.keys)
    options: tuple[str, ...] = ("--dim=C=2",) if mistake.choice else ()
    out = []
    if not mistake.bound:
        done, written = _call(module, "cpu", right, options)
        if done.returncode != 0 or not written:
            out.append(f"right call refused: {done.stderr}")
    in_data = mistake.keys in (_INDICES, _GROUPS, _CHOICE) or mistake.choice
    for target in ("cpu", "oracle") if in_data else ("cpu",):
        given = {**right, **mistake.change}
        done, written = _call(module, target, given, mistake.options)
        lines = done.stderr.strip().splitlines()
        if done.returncode != 1:
            out.append(f"{target}: status {done.returncode}")
        if len(lines) != 1 or not re.search(mistake.message, lines[0]):
            out.append(f"{target}: message: {done.stderr.strip()}")
        if done.stdout or written:
            out.append(f"{target}: something was written")
    return out


def main() -> int:
    """Judges every mistake."""
    by_name = {mistake.name: mistake for mistake in MISTAKES}
    names = [one for one in by_name if one in sys.argv[1:]] or list(by_name)
    with tempfile.TemporaryDirectory() as folder:
        failed = roads.judge_all(
            1, names, lambda one: judge(by_name[one], pathlib.Path(folder))
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
