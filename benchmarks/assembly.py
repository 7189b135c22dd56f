# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the assembler makes of layers' GPU kernels; see benchmarks/assembly.

For each layer and chip, of the products on tensor cores and of all other
kernels: the most registers, spilled bytes, and the fewest warps that are on a
multiprocessor together. What runs well has many of these; how well, no number
here says.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cubin import CHIPS, Kernel, assemble, find_ptxas
from routers import Report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from common import layer_text  # noqa: E402
from common.layers import ROUTERS, Sizes  # noqa: E402

OBJECT = re.compile(r'assembly = "((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(r"\\([0-9A-Fa-f]{2}|.)")
# Three blocks of four warps; sm_120 has workgroup memory for two.
TENSOR_REGISTERS = {"sm_80": 168, "sm_90": 168, "sm_100": 168, "sm_120": 255}
TENSOR_WARPS = {"sm_80": 12, "sm_90": 12, "sm_100": 12, "sm_120": 8}
# Four such blocks.
OTHER_REGISTERS = dict.fromkeys(CHIPS, 128)
OTHER_WARPS = dict.fromkeys(CHIPS, 16)

Keys = dict[str, object]
BF16: Keys = {"x_dtype": "bf16", "weight_dtype": "bf16", "router_dtype": "bf16"}
SMALL: Keys = {"hidden": 256, "inter": 512, **BF16}


class Layer(NamedTuple):
    """A layer of `moe-compile --example` with other keys, or of the examples
    that train."""

    name: str
    example: str = ""
    keys: Keys = {}
    router: str = ""
    backward: bool = False

    def source(self) -> str:
        """Its IR; with the backward beside it where that is asked for."""
        if self.router:
            text = layer_text.source(
                ROUTERS[self.router], Sizes(), training=self.backward
            )
        else:
            command = ["moe-compile", "--example", self.example, "-o", "-"]
            for key, value in self.keys.items():
                command += ["--set", f"{key}={value}"]
            text = run(command)
        if not self.backward:
            return text
        return run(["moe-opt", "--moe-generate-vjp"], text)


QUICK = [
    Layer("products of bf16", "layer", SMALL),
    Layer("backward of top_k, f32", router="top_k", backward=True),
]
LAYERS = [
    *QUICK,
    Layer("OLMoE", "olmoe"),
    Layer("gate of DeepSeek-V3", "deepseek-v3"),
    Layer("expert choice, bf16", "expert-choice", SMALL | {"experts": 8}),
    Layer("gpt-oss, weights in by out", "gpt-oss-20b"),
    Layer("exact k, f32, backward", router="exact_k", backward=True),
    Layer("soft, f32", router="soft"),
    Layer("soft, f32, backward", router="soft", backward=True),
]


def run(command: list[str], text: str | None = None) -> str:
    """What a command prints."""
    return subprocess.run(
        command, input=text, check=True, capture_output=True, text=True
    ).stdout


def unescape(match: re.Match[str]) -> str:
    """The character that MLIR's escape stands for."""
    code = match.group(1)
    return chr(int(code, 16)) if len(code) == 2 else code


def ptx_of(source: str, chip: str) -> str:
    """The kernels of a layer as PTX."""
    module = run(["moe-opt", f"--moe-gpu=chip={chip}", "-"], source)
    (found,) = OBJECT.findall(module)
    return ESCAPE.sub(unescape, found).rstrip("\0")


def kernels_of(layer: Layer, ptxas: str) -> Iterator[tuple[str, list[Kernel]]]:
    """The assembled kernels of a layer, chip by chip."""
    source = layer.source()
    for chip in CHIPS:
        yield chip, assemble(ptxas, ptx_of(source, chip), chip)


def count(report: Report, layer: Layer, ptxas: str) -> None:
    """Reports one layer."""
    for chip, kernels in kernels_of(layer, ptxas):
        where = f"{layer.name}, {chip}"
        report.add(
            f"spilled bytes of {len(kernels)} kernels, {where}",
            sum(k.spills for k in kernels), "bytes", most=0,
        )  # fmt: skip
        for name, of_kind, registers, warps in (
            ("products", True, TENSOR_REGISTERS, TENSOR_WARPS),
            ("other kernels", False, OTHER_REGISTERS, OTHER_WARPS),
        ):
            own = [k for k in kernels if ("HMMA" in k.mix) == of_kind]
            if not own:
                continue
            report.add(
                f"registers of {name}, {where}",
                max(k.registers for k in own), "", most=registers[chip],
            )  # fmt: skip
            report.add(
                f"warps of {name}, {where}",
                min(k.warps(chip) for k in own), "", least=warps[chip],
            )  # fmt: skip


def main() -> int:
    """The command line; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ptxas = find_ptxas()
    if not ptxas:
        print("no ptxas", file=sys.stderr)
        return 1
    report = Report(options.json)
    for layer in QUICK if options.quick else LAYERS:
        count(report, layer, ptxas)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
