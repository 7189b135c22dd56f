# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Triton's kernels of a layer's experts in emulation; see benchmarks/gpu.

peers/triton_layer.py compiles them. What goes before them, sorting rows by
expert and padding them to blocks, is NumPy's here and is not counted. A kernel
that needs more workgroup memory than a block has, or registers that Triton's
own assembler has to spill, does not take part.

The first problem is run in every way of the grid. A block executes the same
instructions whatever its rows, so of a later problem only those ways are run
that come out among the best of any metric when the first one's counts are
multiplied by the blocks.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gpu_problem import Counts, Problem, Shape, bits, check, rounded

WORKER = Path(__file__).parent / "peers" / "triton_layer.py"
# Of a block of sm_80, in bytes.
SHARED_MEMORY = 163 * 1024
STEPS = ("gate and up", "activation", "down")
BLOCKS_M = (16, 32, 64, 128)
# What counts compare by; each is better the smaller.
METRICS: dict[str, Callable[[Counts], float]] = {
    "warp instructions / mma": lambda c: c.instructions / c.mma,
    "warp instructions": lambda c: c.instructions,
    "warp instructions but moves": lambda c: c.instructions - c.moves,
    "sectors": lambda c: c.sectors,
    "bank passes": lambda c: c.passes,
}
# How many of each metric are run again on a later problem.
FEW = 8


class Config(NamedTuple):
    """How a product is cut."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int

    def __str__(self) -> str:
        return (
            f"{self.block_m}x{self.block_n}x{self.block_k}, "
            f"{self.warps} warps, {self.stages} stages"
        )


# A thread has no more than 255 registers, sums included.
GRID = [
    config
    for config in itertools.starmap(
        Config,
        itertools.product(
            BLOCKS_M, (32, 64, 128, 256), (32, 64, 128), (4, 8), (2, 3, 4)
        ),
    )
    if config.block_m * config.block_n < 256 * 32 * config.warps
]
# For --quick: those that came out best of the whole grid for T = 64.
QUICK_GRID = [
    Config(32, 256, 32, 4, 2),
    Config(32, 256, 64, 4, 2),
    Config(32, 256, 128, 4, 2),
    Config(128, 128, 128, 4, 2),
]


class Elementwise(NamedTuple):
    """How the activation is cut."""

    block: int
    warps: int

    def __str__(self) -> str:
        return f"{self.block}, {self.warps} warps"


ELEMENTWISE_GRID = [
    Elementwise(*values)
    for values in itertools.product((256, 512, 1024), (1, 2, 4, 8))
]


def name_of(step: str, config: Config | Elementwise) -> str:
    """Of files."""
    return "-".join([step.replace(" ", "_"), *map(str, config)])


def product_job(shape: Shape, step: str, config: Config) -> dict:
    """What the compiler of a product is asked for."""
    first = step == "gate and up"
    constants = {
        "N": 2 * shape.inter if first else shape.hidden,
        "K": shape.hidden if first else shape.inter,
        "rows_per_a": shape.k if first else 1, "weighted": not first,
        "BLOCK_M": config.block_m, "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
    }  # fmt: skip
    return {
        "name": name_of(step, config), "kernel": "grouped_product",
        "constants": constants, "warps": config.warps,
        "stages": config.stages,
    }  # fmt: skip


def activation_job(shape: Shape, config: Elementwise) -> dict:
    """What the compiler of the activation is asked for."""
    return {
        "name": name_of("activation", config), "kernel": "silu_and_mul",
        "constants": {"I": shape.inter, "BLOCK": config.block},
        "warps": config.warps, "stages": 1,
    }  # fmt: skip


class Kernel(NamedTuple):
    """A compiled kernel."""

    path: Path
    threads: int
    shared: int


class Choice(NamedTuple):
    """A kernel for each step, and what they execute together."""

    configs: tuple[Config, Elementwise, Config]
    counts: Counts

    def describe(self) -> str:
        """For people."""
        return "; ".join(
            f"{step} {config}"
            for step, config in zip(STEPS, self.configs, strict=True)
        )


class Worker:
    """A process that compiles one job after the other."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [python, WORKER, folder], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def compile(self, job: dict) -> Kernel:
        """Ends the run where the compiler refuses."""
        assert self.process.stdin and self.process.stdout
        print(json.dumps(job), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        result = json.loads(answer) if answer else {"error": "has ended"}
        if "error" in result:
            raise SystemExit(f"Triton, {job['name']}: {result['error']}")
        path = self.folder / f"{result['name']}.ptx"
        return Kernel(path, result["threads"], result["shared"])

    def close(self) -> None:
        """Ends it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Compiler:
    """Compiles each kernel once, by a worker for each thread that asks."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder
        self.local = threading.local()
        self.workers: list[Worker] = []
        self.done: dict[str, Kernel] = {}

    def compile(self, job: dict) -> Kernel:
        """Whatever asks for a name asks for the same kernel."""
        name = job["name"]
        if name not in self.done:
            if not hasattr(self.local, "worker"):
                self.local.worker = Worker(self.python, self.folder)
                self.workers.append(self.local.worker)
            self.done[name] = self.local.worker.compile(job)
        return self.done[name]

    def close(self) -> None:
        """Ends all workers."""
        for worker in self.workers:
            worker.close()


def spill_bytes(python: Path, path: Path) -> int:
    """What Triton's own assembler keeps on the stack of a thread."""
    command = "from triton.knobs import nvidia; print(nvidia.ptxas.path)"
    found = subprocess.run(
        [python, "-c", command], check=True, capture_output=True, text=True
    )
    done = subprocess.run(
        [found.stdout.strip(), "-v", "--gpu-name=sm_80", path, "-o",
         os.devnull], check=True, capture_output=True, text=True,
    )  # fmt: skip
    return sum(map(int, re.findall(r"(\d+) bytes spill stores", done.stderr)))


class Blocks(NamedTuple):
    """Rows sorted by expert, each expert's padded to whole blocks."""

    rows: np.ndarray
    experts: np.ndarray

    @classmethod
    def of(cls, problem: Problem, block_m: int) -> Blocks:
        """What moe_align_block_size of vLLM and SGLang computes."""
        pairs = len(problem.pair_experts)
        rows, experts = [], []
        for expert in range(problem.shape.experts):
            own = np.flatnonzero(problem.pair_experts == expert)
            blocks = -(-len(own) // block_m)
            padded = np.full(blocks * block_m, pairs)
            padded[: len(own)] = own
            rows.append(padded)
            experts += [expert] * blocks
        return cls(
            np.concatenate(rows).astype(np.int32), np.array(experts, np.int32)
        )


class Experts:
    """Runs the three steps of a problem, each on the reference's inputs."""

    def __init__(
        self, problem: Problem, compiler: Compiler, folder: Path
    ) -> None:
        self.problem, self.compiler, self.folder = problem, compiler, folder
        folder.mkdir()
        shape = problem.shape
        self.pairs = shape.tokens * shape.k
        self.save("x", bits(problem.x))
        self.save("gate_up", bits(problem.gate_up))
        self.save("down", bits(problem.down))
        self.save("projected", bits(problem.projected))
        self.save("activated", bits(problem.activated))
        self.save("weights", problem.weights.astype(np.float32))
        for block_m in BLOCKS_M:
            blocks = Blocks.of(problem, block_m)
            self.save(f"rows{block_m}", blocks.rows)
            self.save(f"experts{block_m}", blocks.experts)
            self.save(f"padded{block_m}", np.array([len(blocks.rows)], np.int32))

    def save(self, name: str, values: np.ndarray) -> None:
        """Writes a buffer of the kernels."""
        np.save(self.folder / f"{name}.npy", np.ascontiguousarray(values))

    def emulate(
        self,
        kernel: Kernel,
        grid: tuple[int, ...],
        arguments: list[str],
        out: tuple[str, np.ndarray],
    ) -> Counts:
        """Runs a kernel, and checks the buffer that it writes."""
        name, wanted = out
        result = self.folder / f"{kernel.path.stem}.npy"
        words = ["moe-ptx-run", kernel.path, "--json"]
        words += ["--grid", ",".join(map(str, grid))]
        words += ["--block", str(kernel.threads)]
        words += ["--shared", str(kernel.shared)]
        # Two pointers to scratch memory, which these kernels have none of.
        words += [*arguments, "--arg=u64:0", "--arg=u64:0"]
        words.append(f"--out={name}={result}")
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{kernel.path}: {done.stdout}{done.stderr}")
        found = rounded_from_bits(np.load(result))
        result.unlink()
        check(f"{kernel.path.stem}, {self.problem.shape}", found, wanted)
        return Counts.of(json.loads(done.stdout)["statistics"])

    def buffer(self, name: str, file: str | None = None) -> str:
        """A buffer from a file."""
        return f"--buffer={name}=@{self.folder / (file or name)}.npy"

    def product(self, step: str, config: Config) -> Counts | None:
        """Runs a product; None where it does not fit the device."""
        shape = self.problem.shape
        n, source, weight = 2 * shape.inter, "x", "gate_up"
        wanted = self.problem.projected
        if step == "down":
            n, source, weight = shape.hidden, "activated", "down"
            wanted = self.problem.outputs
        kernel = self.compiler.compile(product_job(shape, step, config))
        if kernel.shared > SHARED_MEMORY:
            return None
        m = config.block_m
        blocks = len(np.load(self.folder / f"experts{m}.npy"))
        arguments = [
            self.buffer("a", source), self.buffer("b", weight),
            f"--buffer=c=u16:{self.pairs}x{n}", self.buffer("weights"),
            self.buffer("rows", f"rows{m}"),
            self.buffer("experts", f"experts{m}"),
            self.buffer("padded", f"padded{m}"), f"--arg=i32:{self.pairs}",
        ]  # fmt: skip
        grid = (blocks * -(-n // config.block_n),)
        return self.emulate(kernel, grid, arguments, ("c", wanted))

    def activation(self, config: Elementwise) -> Counts:
        """Runs the activation."""
        inter = self.problem.shape.inter
        kernel = self.compiler.compile(
            activation_job(self.problem.shape, config)
        )
        arguments = [
            self.buffer("x", "projected"),
            f"--buffer=y=u16:{self.pairs}x{inter}", f"--arg=i32:{self.pairs}",
        ]  # fmt: skip
        grid = (self.pairs, -(-inter // config.block))
        wanted = self.problem.activated
        return self.emulate(kernel, grid, arguments, ("y", wanted))


def rounded_from_bits(words: np.ndarray) -> np.ndarray:
    """Words that hold numbers of bf16, as f64."""
    return (words.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


Measured = dict[str, dict[Config | Elementwise, Counts]]
Ways = dict[str, list[Config | Elementwise]]


class Peer:
    """Triton's kernels, on one problem after the other."""

    def __init__(self, python: Path, folder: Path, grid: list[Config]) -> None:
        self.python, self.folder = python, folder
        self.compiler = Compiler(python, folder)
        self.ways: Ways = {
            "gate and up": list(grid),
            "activation": list(ELEMENTWISE_GRID),
            "down": list(grid),
        }
        self.first: tuple[Problem, Measured] | None = None
        self.spills: dict[Path, bool] = {}

    def close(self) -> None:
        """Ends the compilers."""
        self.compiler.close()

    def measure(self, problem: Problem) -> Measured:
        """Runs every step in every way that may be best."""
        folder = self.folder / f"T{problem.shape.tokens}"
        experts = Experts(problem, self.compiler, folder)
        ways = self.ways if self.first is None else self.promising(problem)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = {
                step: pool.map(
                    experts.activation
                    if step == "activation"
                    else functools.partial(experts.product, step),
                    ways[step],
                )
                for step in STEPS
            }
            measured = {
                step: {
                    way: counts
                    for way, counts in zip(ways[step], found[step], strict=True)
                    if counts is not None
                }
                for step in STEPS
            }
        if self.first is None:
            self.first = problem, measured
        return measured

    def promising(self, problem: Problem) -> Ways:
        """The ways that the first problem's counts do not rule out."""
        assert self.first is not None
        before, measured = self.first
        growth = {
            m: len(Blocks.of(problem, m).experts)
            / len(Blocks.of(before, m).experts)
            for m in BLOCKS_M
        }
        ways = dict(self.ways)
        for step in ("gate and up", "down"):
            scaled = {
                way: Counts(*(n * growth[way.block_m] for n in counts))
                for way, counts in measured[step].items()
            }
            ways[step] = [
                way
                for way in scaled
                if any(
                    way in sorted(scaled, key=lambda w: key(scaled[w]))[:FEW]
                    for key in METRICS.values()
                )
            ]
        return ways

    def fits(self, step: str, config: Config) -> bool:
        """True where the assembler keeps all numbers in registers."""
        path = self.folder / f"{name_of(step, config)}.ptx"
        if path not in self.spills:
            self.spills[path] = spill_bytes(self.python, path) > 0
        return not self.spills[path]

    def best(
        self, measured: Measured, key: Callable[[Counts], float]
    ) -> Choice:
        """The kernels, one for each step, whose counts together are least."""
        # The activations differ in instructions alone.
        activation, act = min(
            measured["activation"].items(),
            key=lambda item: item[1].instructions,
        )
        choices = [
            Choice((up, activation, down), first.plus(act).plus(second))
            for (up, first), (down, second) in itertools.product(
                measured["gate and up"].items(), measured["down"].items()
            )
        ]
        for choice in sorted(choices, key=lambda choice: key(choice.counts)):
            up, _, down = choice.configs
            if self.fits("gate and up", up) and self.fits("down", down):
                return choice
        raise SystemExit("Triton: no kernel of the grid fits the device")
