# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs the committed vectors through the compiler and judges the results.

usage: conformance.py [--road ROAD]... [--jobs N] [--keep DIR] [NAME]...
       conformance.py --list [NAME]...
       conformance.py --check-groups DIR

NAME is a vector or `group:GROUP`; without one, all vectors run. Every road of
roads.py is judged by the vector, and cpu by the oracle as well, with the
tolerances of the reference's compare.py. One line per vector; the exit status
is 1 where one failed.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Callable

import roads
from roads import LayerSpec

import generate  # noqa: E402, found by way of roads

VECTORS = generate.DEFAULT_DIRECTORY

# Of each vector the first group that takes it is its group.
GROUPS: dict[str, Callable[[str, LayerSpec], bool]] = {
    "expert-choice": lambda name, spec: spec.router == "expert_choice",
    "capacity": lambda name, spec: spec.capacity != "none",
    "odd-values": lambda name, spec: name.startswith(
        ("nan_", "infinite_", "minus_", "far_", "ties", "eps_")
    ),
    "extreme-sizes": lambda name, spec: name.startswith(
        ("no_", "one_", "k_is_", "odd_", "e_", "i_", "wide_", "all_")
    ),
    "expert-groups": lambda name, spec: spec.groups > 1,
    "chosen-logits": lambda name, spec: spec.score_domain == "topk",
    "softmax": lambda name, spec: spec.score == "softmax",
    "independent-scores": lambda name, spec: True,
}


def group_of(name: str, spec: LayerSpec) -> str:
    """The group of a vector."""
    return next(group for group, has in GROUPS.items() if has(name, spec))


def find_vectors() -> dict[str, str]:
    """Every committed vector and its group."""
    out = {}
    for path in sorted(VECTORS.glob("*.safetensors")):
        spec, _, _ = generate.load(path)
        out[path.stem] = group_of(path.stem, spec)
    return out


def judge(name: str, wanted: list[str], scratch: pathlib.Path) -> list[str]:
    """What is wrong with a vector, one complaint a line."""
    path = VECTORS / f"{name}.safetensors"
    spec, inputs, expected = generate.load(path)
    call = roads.Call.of(spec, path, inputs)
    return roads.judge(call, expected, wanted, scratch / f"{name}.mlir")


def select(names: list[str], known: dict[str, str]) -> list[str]:
    """The vectors that the command line asks for."""
    chosen: list[str] = []
    for name in names or list(known):
        if name.startswith("group:"):
            group = name.removeprefix("group:")
            members = [one for one in known if known[one] == group]
        else:
            members = [one for one in known if one == name]
        if not members:
            sys.exit(f"error: no vector is '{name}'")
        chosen += members
    return chosen


def check_groups(known: dict[str, str], folder: pathlib.Path) -> list[str]:
    """Groups without a test in the folder or without a vector."""
    out = []
    for group in GROUPS:
        if group not in known.values():
            out.append(f"no vector is in the group {group}")
        test = folder / f"{group}.test"
        if not test.is_file() or f"group:{group}\n" not in test.read_text():
            out.append(f"{test}: missing, or does not run its group")
    return out


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--road", action="append", choices=roads.ROADS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check-groups", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    known = find_vectors()
    if options.check_groups:
        wrong = check_groups(known, options.check_groups)
        print("\n".join(wrong) or "every group has its test")
        return 1 if wrong else 0
    names = select(options.names, known)
    if options.list:
        for name in names:
            print(f"{known[name]}: {name}")
        return 0
    wanted = options.road or list(roads.ROADS)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or pathlib.Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        failed = roads.judge_all(
            options.jobs, names, lambda name: judge(name, wanted, scratch)
        )
    print(
        f"{len(names) - failed} of {len(names)} vectors agree on "
        + ", ".join(wanted)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
