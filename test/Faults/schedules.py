# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs layers in the emulator with warps and blocks in orders by chance; see
scripts/run-schedules. No order may change a bit of a result, or be reported.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import pathlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

from calls import (
    BF16,
    Arrays,
    Call,
    backward,
    compile_library,
    example,
    forward,
    losses,
    losses_backward,
    run,
    save_arguments,
)
from common.layers import Sizes


@dataclasses.dataclass(frozen=True)
class Shape:
    """A call by name."""

    name: str
    make: Callable[[], Call]


def keep(arrays: Arrays) -> None:
    """As drawn."""


def shapes(sizes: Sizes, tokens: tuple[int, ...], **keys: int) -> list[Shape]:
    """Tensor-core layers of some numbers of tokens, every kind of router and
    losses with their backwards, and a capacity."""
    large = {"experts": 16, "top_k": 2, **BF16, **keys}
    found = [
        Shape(
            f"bf16, T = {count}",
            lambda count=count: example("layer", count, keep, **large),
        )
        for count in tokens
    ]
    for kind, make in (("forward", forward), ("backward", backward)):
        found += [
            Shape(f"{name}, {kind}", lambda n=name, m=make: m(n, sizes))
            for name in ("top_k", "exact_k", "expert_choice", "soft")
        ]
    count = sizes.length * sizes.batch
    return [
        *found,
        Shape("losses, forward", lambda: losses(count)),
        Shape("losses, backward", lambda: losses_backward(count)),
        Shape(
            "capacity, prioritised",
            lambda: example(
                "vmoe", count, keep, experts=6, hidden=20, inter=12
            ),
        ),
    ]


QUICK = shapes(
    Sizes(width=20, inter=12, experts=6, length=15, batch=3),
    (40,),
    hidden=72,
    inter=40,
)
FULL = shapes(
    Sizes(width=128, inter=128, experts=16, length=64, batch=2),
    (64, 200),
    hidden=256,
    inter=512,
)


def compare(shape: Shape, folder: pathlib.Path, seeds: int) -> str:
    """What is wrong, or nothing."""
    call = shape.make()
    library = compile_library(call, folder)
    words = ["moe-run", str(library), f"--entry={call.entry}"]
    words += ["--target=gpu-emulator", *save_arguments(call, folder)]
    outputs = [
        line.split(":")[0].removeprefix("result ")
        for line in run(words).splitlines()
        if line.startswith("result ")
    ]
    first: dict[str, bytes] = {}
    for seed in range(seeds + 1):
        own = [*words, f"--schedule={seed}"]
        for name in outputs:
            own.append(f"--out={name}={folder}/out.{name}.npy")
        run(own)
        for name in outputs:
            found = (folder / f"out.{name}.npy").read_bytes()
            if first.setdefault(name, found) != found:
                return f"'{name}' differs in schedule {seed}"
    return ""


def check(shape: Shape, seeds: int) -> tuple[str, float]:
    """What is wrong with a call, or nothing; and the seconds it took."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            wrong = compare(shape, pathlib.Path(folder), seeds)
        except RuntimeError as error:
            wrong = str(error)
    return wrong, time.perf_counter() - start


def main() -> int:
    """The command line; 1 where a schedule made a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = QUICK if options.quick else FULL
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda s: check(s, options.seeds), chosen)
        for shape, (wrong, seconds) in zip(chosen, results, strict=True):
            state = wrong or "equal, no report"
            print(f"{shape.name}: {state} ({seconds:.0f} s)", flush=True)
            failed += bool(wrong)
    print(f"{len(chosen)} calls in {options.seeds} schedules, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
