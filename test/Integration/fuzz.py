# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Judges random layers: every road against the reference in f64, and the
gradients on each against central differences.

usage: fuzz.py [--count N] [--seed SEED] [--road ROAD]... [--jobs N]
               [--keep DIR]

Layer i of a run is that of seed SEED + i, so that a failing one is repeated
by --count 1 with its own seed. Without --seed the seed is of the day, so that
every day sees other layers.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import sys
import tempfile

import roads

import random_specs  # noqa: E402, found by way of roads
import reference  # noqa: E402


def judge(seed: int, wanted: list[str], scratch: pathlib.Path) -> list[str]:
    """What is wrong with the layer of a seed."""
    spec = random_specs.random_spec(seed)
    inputs = random_specs.random_inputs(spec, seed)
    expected = reference.run(spec, inputs)
    operands = scratch / f"{seed}.safetensors"
    roads.write_operands(operands, spec, inputs)
    call = roads.Call.of(spec, operands, inputs)
    module = scratch / f"{seed}.mlir"
    texts = roads.judge(call, expected, wanted, module)
    # The naive backward takes longest, and is the same rules lowered again.
    for road in roads.GRADIENT_ROADS:
        if road in wanted and (road != "oracle" or seed % 4 == 0):
            texts += roads.judge_gradients(call, module, road)
    if texts:
        texts.append("layer: " + " ".join(spec.to_flags()[1::2]))
    return texts


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--road", action="append", choices=roads.ROADS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
    seed = options.seed
    if seed is None:
        # Days lie further apart than the longest run is long.
        seed = datetime.date.today().toordinal() * 10_000
    wanted = options.road or list(roads.ROADS)
    print(f"--count {options.count} --seed {seed}")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or pathlib.Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        failed = roads.judge_all(
            options.jobs,
            [str(seed + i) for i in range(options.count)],
            lambda name: judge(int(name), wanted, scratch),
        )
    print(
        f"{options.count - failed} of {options.count} layers agree on "
        + ", ".join(wanted)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
