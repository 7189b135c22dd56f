# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the GPU kernels of a layer execute; see benchmarks/gpu.

A layer of bf16 with random weights runs in emulation. Of each product: warp
instructions for an mma; mma for the fewest that the rows need; sectors of 32
bytes of global memory for the fewest that hold the bytes used; passes over the
banks of workgroup memory for the fewest that hold the words used; bounds that
are modelled from these. Of all other kernels together: warp instructions and
sectors.

Then the kernels of the experts together, gate and up, activation and down,
against Triton's on the same problem in the same emulator: the best of a grid
of blocks, warps and stages in each metric by itself, and in all metrics those
with the fewest instructions. Moves are counted apart because an assembler
drops most of them. Triton's last product applies the routing weights, as it
usually does; ours leaves that to the kernel that combines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import numpy as np
from gpu_device import QUICK_SHAPES
from gpu_device import SHAPES as DEVICE_SHAPES
from gpu_device import run as run_device
from gpu_problem import Counts, Problem, Shape, check, write_layer
from gpu_triton import GRID, METRICS, QUICK_GRID, Choice, Peer
from routers import Report

SHAPES = [Shape(64, 8, 2, 256, 512), Shape(512, 8, 2, 256, 512)]


def run_kernels(problem: Problem, folder: Path) -> list[dict]:
    """The statistics of every kernel of a call."""
    layer, result = folder / "layer.mlir", folder / "y.npy"
    shape = problem.shape
    write_layer(shape, layer)
    words = ["moe-run", str(layer), "--target=gpu-emulator", "--statistics"]
    words += ["--json", f"--out=y={result}"]
    for name, path in problem.write(folder).items():
        words.append(f"--arg={name}={path}")
    for name in ("gate_up", "down"):
        words.append(f"--layout={name}=#moe.layout<orientation = out_in>")
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    # Activations, outputs of experts and the result are rounded.
    check(f"moe-mlir, {shape}", np.load(result), problem.result, roundings=3)
    return json.loads(done.stdout.splitlines()[-1])["kernels"]


def add_product(
    report: Report, where: str, kernel: dict, fewest: int
) -> Counts:
    """Reports a product and returns its counts."""
    s = kernel["statistics"]
    counts = Counts.of(s)
    ideal = s["load_sectors_ideal"] + s["store_sectors_ideal"]
    report.add(
        f"warp instructions / mma, {where}",
        counts.instructions / counts.mma, "",
    )  # fmt: skip
    report.add(f"mma / fewest, {where}", counts.mma / fewest, "x")
    report.add(
        f"sectors / fewest, {where}", counts.sectors / ideal, "x", most=1.15
    )
    passes = counts.passes / s["shared_passes_ideal"]
    report.add(f"bank passes / fewest, {where}", passes, "x", most=1.05)
    for device, bound in kernel["modelled_bound"].items():
        report.add(
            f"modelled bound ({bound['limit']}) of {device}, {where}",
            bound["microseconds"], "us",
        )  # fmt: skip
    return counts


def count(report: Report, problem: Problem) -> Counts:
    """Reports our kernels, and returns what those of the experts execute."""
    shape = problem.shape
    with tempfile.TemporaryDirectory() as folder:
        kernels = run_kernels(problem, Path(folder))
    experts = Counts()
    products = [k for k in kernels if k["statistics"]["matrix"]]
    for (name, fewest), kernel in zip(
        shape.products().items(), products, strict=True
    ):
        where = f"{name}, {shape}"
        experts = experts.plus(add_product(report, where, kernel, fewest))
    rest = [k["statistics"] for k in kernels if not k["statistics"]["matrix"]]
    # No other kernels sum over lanes; here they find that no expert is theirs.
    few = [s for s in rest if s["classes"].get("shuffle")]
    for statistics in few:
        experts = experts.plus(Counts.of(statistics))
    report.add(
        f"warp instructions of {len(few)} kernels for few rows, {shape}",
        sum(s["warp_instructions"] for s in few), "",
    )  # fmt: skip
    rest = [s for s in rest if s not in few]
    report.add(
        f"warp instructions of {len(rest)} other kernels, {shape}",
        sum(s["warp_instructions"] for s in rest), "",
    )  # fmt: skip
    report.add(
        f"sectors of them, {shape}",
        sum(s["load_sectors"] + s["store_sectors"] for s in rest), "",
    )  # fmt: skip
    return experts


def compare(
    report: Report, shape: Shape, ours: Counts, peers: dict[str, Choice]
) -> None:
    """Reports our experts against Triton's, the best one by each metric."""
    fewest = sum(shape.products().values())
    leanest = peers["warp instructions"]
    for name, key in METRICS.items():
        # Padding does not count as work.
        unit, least = "", 1
        if name in ("warp instructions", "warp instructions but moves"):
            unit, least = " / fewest mma", fewest
        best = peers[name]
        where = f"{name}{unit}, experts, {shape}"
        report.add(where, key(ours) / least, "")
        report.add(f"Triton's best {where}", key(best.counts) / least, "")
        report.add(f"Triton's leanest {where}", key(leanest.counts) / least, "")
        report.add(
            f"{name}, ours / Triton's best, {shape}",
            key(ours) / key(best.counts), "x", most=1.0,
        )  # fmt: skip
        if not report.as_json:
            print(f"  best: {best.describe()}")


def parse_shape(text: str) -> Shape:
    """T,E,k,H,I; what kernels on tensor cores ask of H and I is the least."""
    try:
        shape = Shape(*map(int, text.split(",")))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not five numbers T,E,k,H,I"
        ) from None
    if min(shape) < 1 or shape.k > shape.experts:
        raise argparse.ArgumentTypeError(
            f"'{text}': expected numbers of 1 or more, and k at most E"
        )
    if shape.hidden % 8 or shape.inter % 8:
        raise argparse.ArgumentTypeError(
            f"'{text}': expected multiples of 8 for H and I"
        )
    return shape


def parse_rounds(text: str) -> int:
    """At least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1")
    return int(text)


class Arguments(argparse.ArgumentParser):
    """Ends with one message and exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(f"error: {message}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = Arguments(
        prog="benchmarks/gpu", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--triton-python", type=Path, required=True, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--runtime", type=Path, required=True, help=argparse.SUPPRESS
    )
    parser.add_argument("--quick", action="store_true", help="a few shapes")
    parser.add_argument("--json", action="store_true", help="objects, by line")
    parser.add_argument(
        "--device", action="store_true", help="times on a GPU, not counts"
    )
    parser.add_argument(
        "--shape", type=parse_shape, action="append", metavar="T,E,k,H,I",
        help="of --device, in place of the models'; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=parse_rounds, help="of --device; 9, or 3 if --quick"
    )
    options = parser.parse_args()
    if (options.shape or options.rounds) and not options.device:
        parser.error("--shape and --rounds go with --device")
    return options


def main() -> int:
    """1 if a target was missed, or there is no device to measure."""
    options = parse_options()
    if options.device:
        models = QUICK_SHAPES if options.quick else DEVICE_SHAPES
        return run_device(
            options.runtime,
            options.triton_python,
            options.shape or models,
            options.rounds or (3 if options.quick else 9),
            options.quick,
            options.json,
        )
    report = Report(options.json)
    problems = [
        Problem(shape) for shape in SHAPES[: 1 if options.quick else None]
    ]
    counts = [count(report, problem) for problem in problems]
    if not options.triton_python.exists():
        print(
            "Triton is not installed (scripts/setup --triton): not compared",
            file=sys.stderr if options.json else sys.stdout,
        )
        return 1 if report.failed else 0
    with tempfile.TemporaryDirectory() as folder:
        grid = QUICK_GRID if options.quick else GRID
        peer = Peer(options.triton_python, Path(folder), grid)
        for problem, ours in zip(problems, counts, strict=True):
            measured = peer.measure(problem)
            peers = {
                name: peer.best(measured, key) for name, key in METRICS.items()
            }
            compare(report, problem.shape, ours, peers)
        peer.close()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
