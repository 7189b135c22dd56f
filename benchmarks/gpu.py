# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the GPU kernels of a layer execute; see benchmarks/gpu.

A layer of bf16 with random weights runs in emulation. Of each product: warp
instructions for an mma; mma for the fewest that the rows need; sectors of 32
bytes of global memory for the fewest that hold the bytes used; passes over the
banks of workgroup memory for the fewest that hold the words used. Of all other
kernels together: warp instructions and sectors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from routers import Report

# mma.sync m16n8k16.
NUMBERS_OF_MMA = 16 * 8 * 16


class Shape(NamedTuple):
    """A layer, and how many tokens it is given."""

    tokens: int
    experts: int
    k: int
    hidden: int
    inter: int

    def __str__(self) -> str:
        return (
            f"T={self.tokens} E={self.experts} k={self.k} H={self.hidden} "
            f"I={self.inter}"
        )

    def products(self) -> dict[str, int]:
        """The fewest mma of each product."""
        work = self.tokens * self.k * self.hidden * self.inter
        return {
            "gate and up": 2 * work // NUMBERS_OF_MMA,
            "down": work // NUMBERS_OF_MMA,
        }


SHAPES = [Shape(64, 8, 2, 256, 512), Shape(512, 8, 2, 256, 512)]


def run_kernels(shape: Shape, folder: Path) -> list[dict]:
    """The statistics of every kernel of a call."""
    layer = folder / "layer.mlir"
    keys = {
        "experts": shape.experts, "top_k": shape.k, "hidden": shape.hidden,
        "inter": shape.inter, "x_dtype": "bf16", "weight_dtype": "bf16",
        "router_dtype": "bf16",
    }  # fmt: skip
    words = ["moe-compile", "--example", "layer", "-o", str(layer)]
    for key, value in keys.items():
        words += ["--set", f"{key}={value}"]
    subprocess.run(words, check=True)
    scale = {"x": 1.0, "router_weight": shape.hidden**-0.5}
    scale |= {"gate_up": shape.hidden**-0.5, "down": shape.inter**-0.5}
    words = ["moe-run", str(layer), "--target=gpu-emulator", "--statistics"]
    words += ["--json", f"--dim=T={shape.tokens}"]
    for seed, (name, size) in enumerate(scale.items(), start=1):
        words.append(f"--arg={name}=random:{seed}:{size:.6f}")
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["kernels"]


def count(report: Report, shape: Shape) -> None:
    """Reports one shape."""
    with tempfile.TemporaryDirectory() as folder:
        kernels = run_kernels(shape, Path(folder))
    found = [k["statistics"] for k in kernels]
    products = [s for s in found if s["matrix"]]
    for (name, fewest), s in zip(
        shape.products().items(), products, strict=True
    ):
        mma = sum(s["matrix"].values())
        sectors = s["load_sectors"] + s["store_sectors"]
        ideal = s["load_sectors_ideal"] + s["store_sectors_ideal"]
        where = f"{name}, {shape}"
        report.add(
            f"warp instructions / mma, {where}", s["warp_instructions"] / mma, ""
        )
        report.add(f"mma / fewest, {where}", mma / fewest, "x")
        report.add(
            f"sectors / fewest, {where}", sectors / ideal, "x", most=1.15
        )
        passes = s["shared_passes"] / s["shared_passes_ideal"]
        report.add(f"bank passes / fewest, {where}", passes, "x", most=1.05)
    rest = [s for s in found if not s["matrix"]]
    report.add(
        f"warp instructions of {len(rest)} other kernels, {shape}",
        sum(s["warp_instructions"] for s in rest), "",
    )  # fmt: skip
    report.add(
        f"sectors of them, {shape}",
        sum(s["load_sectors"] + s["store_sectors"] for s in rest), "",
    )  # fmt: skip


def main() -> int:
    """The command line; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = Report(options.json)
    for shape in SHAPES[: 1 if options.quick else None]:
        count(report, shape)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
