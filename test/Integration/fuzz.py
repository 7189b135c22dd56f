# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Judges random layers: every road against references in f64, and the
gradients on each against central differences.

usage: fuzz.py [--count N] [--seed SEED] [--kind KIND] [--road ROAD]...
               [--jobs N] [--keep DIR]

There are two kinds of layers, and KIND is one of them or `all`:

  spec    those that moe-compile --example layer prints (random_specs.py):
          top-k and expert choice with the settings of published families
  router  the other routers, mixes, soft slots and losses (random_routers.py),
          which router_judge.py judges

Layer i of a run is that of seed SEED + i, so that a failing one is repeated
by --count 1 with its own seed. Of `all`, which is the default, odd seeds are
router layers. Without --seed the seed is of the day, so that every day sees
other layers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import sys
import tempfile

import roads

import random_specs  # noqa: E402, found by way of roads
import reference  # noqa: E402


KINDS = ("spec", "router")
JUDGE = pathlib.Path(__file__).resolve().parent / "router_judge.py"


def kind_of(seed: int) -> str:
    """The kind of a seed's layer in a run of both."""
    return KINDS[seed % 2]


def judge_router(
    seed: int, wanted: list[str], scratch: pathlib.Path, with_oracle: bool
) -> list[str]:
    """What is wrong with the router layer of a seed."""
    words = [sys.executable, str(JUDGE), str(seed), str(scratch), *wanted]
    if with_oracle:
        words.append("--backward-of-oracle")
    try:
        found = json.loads(roads.run_tool(words))
    except roads.RoadError as error:
        return [str(error)]
    texts = found["texts"]
    return texts + ["layer: " + found["layer"]] if texts else []


def judge_spec(
    seed: int, wanted: list[str], scratch: pathlib.Path, with_oracle: bool
) -> list[str]:
    """What is wrong with the layer of a seed's spec."""
    spec = random_specs.random_spec(seed)
    inputs = random_specs.random_inputs(spec, seed)
    expected = reference.run(spec, inputs)
    operands = scratch / f"{seed}.safetensors"
    roads.write_operands(operands, spec, inputs)
    call = roads.Call.of(spec, operands, inputs)
    module = scratch / f"{seed}.mlir"
    texts = roads.judge(call, expected, wanted, module)
    # The naive backward is the same rules lowered again.
    for road in roads.GRADIENT_ROADS:
        if road in wanted and (road != "oracle" or with_oracle):
            texts += roads.judge_gradients(call, module, road)
    if texts:
        texts.append("layer: " + " ".join(spec.to_flags()[1::2]))
    return texts


def judge(
    seed: int, kind: str, wanted: list[str], scratch: pathlib.Path
) -> list[str]:
    """What is wrong with the layer of a seed."""
    # One of four of a kind has a backward of the oracle, which takes longest
    # to compile.
    turn = seed // 2 if kind == "all" else seed
    kind = kind_of(seed) if kind == "all" else kind
    judges = {"spec": judge_spec, "router": judge_router}
    return judges[kind](seed, wanted, scratch, turn % 4 == 0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--kind", choices=(*KINDS, "all"), default="all")
    parser.add_argument("--road", action="append", choices=roads.ROADS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()
    seed = options.seed
    if seed is None:
        # Days lie further apart than the longest run is long.
        seed = datetime.date.today().toordinal() * 10_000
    wanted = options.road or list(roads.ROADS)
    print(f"--count {options.count} --seed {seed} --kind {options.kind}")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or pathlib.Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        failed = roads.judge_all(
            options.jobs,
            [str(seed + i) for i in range(options.count)],
            lambda name: judge(int(name), options.kind, wanted, scratch),
        )
    print(
        f"{options.count - failed} of {options.count} layers agree on "
        + ", ".join(wanted)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
