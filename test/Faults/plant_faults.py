# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Puts faults into the GPU kernels of many layers; see scripts/plant-faults.

A fault is noticed where the emulator reports it, where other bytes come out,
or where the kernel does not end. One that changes no value in the whole run
counts as not executed. Whatever else is not noticed must have its reason in
survivors.json, and at most 5 in 100 may be that.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import pathlib
import re
import sys
import tempfile
import warnings

from calls import compile_library, run, save_arguments
from fault_cases import CASES, Case

NOTICED = ("reported", "wrong numbers", "stray store", "hang")
COLUMNS = (*NOTICED, "survived")
UNCHANGED = ("not executed", "no effect")
LEAST = 0.95
REASONS = pathlib.Path(__file__).with_name("survivors.json")

Row = dict[str, str]


@dataclasses.dataclass
class Tally:
    """How faults of one kind, or in one layer, ended."""

    counts: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )

    @property
    def executed(self) -> int:
        return sum(self.counts[name] for name in COLUMNS)

    @property
    def share(self) -> float:
        """Of the executed ones, those that were noticed."""
        missed = self.counts["survived"]
        return 1 - missed / self.executed if self.executed else 1.0


class Reasons:
    """What is known of faults that are not noticed: what the tool has proved,
    and the list, where an entry may hold for so many of a kernel at most."""

    def __init__(self) -> None:
        self.known = json.loads(REASONS.read_text(encoding="utf-8"))
        self.used: collections.Counter[tuple[str, str, int]] = (
            collections.Counter()
        )

    def find(self, layer: str, row: Row) -> str | None:
        """Why a fault need not be noticed, or None."""
        if row["detail"]:
            return row["detail"]
        for number, entry in enumerate(self.known):
            key = (layer, row["kernel"], number)
            if self.used[key] < entry.get("most", sys.maxsize) and all(
                re.search(entry[name], row[name])
                for name in ("uses", "fault", "what", "text", "near")
                if name in entry
            ):
                self.used[key] += 1
                return entry["reason"]
        return None


def judge(
    case: Case, folder: pathlib.Path, sample: int, seed: int
) -> list[Row]:
    """The fate of every fault of a case, or of a sample."""
    call = case.make()
    library = compile_library(call, folder)
    words = ["moe-plant-faults", str(library), f"--entry={call.entry}"]
    words += ["--target=gpu-emulator", f"--seed={seed}", f"--sample={sample}"]
    words += save_arguments(call, folder)
    if case.refused:
        words.append("--refused")
    return [json.loads(line) for line in run(words).splitlines()]


def judge_all(
    cases: list[Case], sample: int, seed: int, jobs: int
) -> dict[str, list[Row]]:
    """Cases by name; `sample` is of each case, 0 for all."""
    with (
        tempfile.TemporaryDirectory() as top,
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
    ):
        futures = {}
        for number, case in enumerate(cases):
            folder = pathlib.Path(top) / str(number)
            folder.mkdir()
            futures[case.name] = pool.submit(judge, case, folder, sample, seed)
        return {name: future.result() for name, future in futures.items()}


def table(title: str, tallies: dict[str, Tally]) -> str:
    """Rows of counts as Markdown."""
    head = [title, *UNCHANGED, *COLUMNS, "noticed"]
    lines = [
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
    ]
    for name, tally in tallies.items():
        cells = [str(tally.counts[key]) for key in (*UNCHANGED, *COLUMNS)]
        lines.append(
            f"| {name} | " + " | ".join(cells) + f" | {tally.share:.1%} |"
        )
    return "\n".join(lines)


def tally_by(
    found: dict[str, list[Row]], key: str
) -> dict[str, Tally]:
    """Tallies by a field, "layer" or "kernel" included, and of all."""
    tallies: dict[str, Tally] = {}
    total = Tally()
    for layer, rows in found.items():
        for row in rows:
            name = {"layer": layer, "kernel": f"{layer}: {row['kernel']}"}.get(
                key
            ) or row[key]
            tallies.setdefault(name, Tally()).counts[row["outcome"]] += 1
            total.counts[row["outcome"]] += 1
    return {**tallies, "all": total}


def survivors(
    found: dict[str, list[Row]],
) -> tuple[dict[str, list[str]], list[str]]:
    """Those with a reason, by it; and those without."""
    reasons = Reasons()
    explained: dict[str, list[str]] = {}
    open_ = []
    for layer, rows in found.items():
        for row in rows:
            if row["outcome"] != "survived":
                continue
            text = (
                f"{layer}, {row['kernel']}:{row['line']}: {row['fault']}, "
                f"{row['what']}: {row['text']}"
            )
            reason = reasons.find(layer, row)
            (explained.setdefault(reason, []) if reason else open_).append(text)
    return explained, open_


def main() -> int:
    """The command line; 1 where too much was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--kernels", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = [case for case in CASES if options.only in case.name]
    found = judge_all(cases, options.sample, options.seed, options.jobs)
    for key in ("layer", "fault", *(["kernel"] if options.kernels else [])):
        print(table(key, tally_by(found, key)), end="\n\n")
    explained, open_ = survivors(found)
    for reason, texts in explained.items():
        if texts:
            print(f"{len(texts)} survived: {reason}")
            print("".join(f"  {text}\n" for text in texts), end="")
    print(f"{len(open_)} survived without a reason")
    print("".join(f"  {text}\n" for text in open_), end="")
    share = tally_by(found, "layer")["all"].share
    print(f"planted faults: {share:.1%} noticed, at least {LEAST:.0%} wanted")
    return 0 if share >= LEAST and not open_ else 1


if __name__ == "__main__":
    sys.exit(main())
