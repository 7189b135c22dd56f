# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Whole layers against the machine's own limits; see benchmarks/cpu.

A cell is a layer, a type, a number of tokens and of threads. Its time stands
against three numbers that are measured by turns with it: multiply-adds of f32,
dot products of bf16 where the processor has them, and the faster of two linear
reads, plain and fetched ahead, one stream a thread. The peak of a cell is that
of its type's own instructions: dot products for bf16 where there are any, else
multiply-adds. Weights are packed and take turns in several copies where few
tokens read few of them, so that no call finds its own in the cache.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import ml_dtypes
import moe_mlir
import numpy as np
from gradients import on_threads
from routers import ROOT, Report, build_peers, empty

BF16 = np.dtype(ml_dtypes.bfloat16)
F32 = np.dtype(np.float32)
DTYPES = {"bf16": BF16, "f32": F32}
DTYPE_KEYS = ("x", "router", "weight", "logit", "score", "route")


@dataclasses.dataclass(frozen=True)
class Shape:
    """A published layer: its example, and what its products are made of."""

    example: str
    experts: int
    slots: int
    hidden: int
    width: int

    def expert_bytes(self, itemsize: int) -> int:
        return 3 * self.hidden * self.width * itemsize

    def flops(self, tokens: int) -> float:
        rows = tokens * self.slots
        gate = 2 * tokens * self.experts * self.hidden
        return 6 * rows * self.hidden * self.width + gate


SHAPES = {
    "OLMoE": Shape("olmoe", 64, 8, 2048, 1024),
    "Qwen3-30B": Shape("qwen3-30b", 128, 8, 2048, 768),
    "gpt-oss-20b": Shape("gpt-oss-20b", 32, 4, 2880, 2880),
    "Mixtral": Shape("mixtral", 8, 2, 4096, 14336),
}
# Layer, type, tokens.
QUICK = [
    ("OLMoE", "bf16", (1, 16, 64, 256)),
    ("OLMoE", "f32", (256,)),
]
CELLS = [
    ("OLMoE", "bf16", (1, 4, 16, 64, 256, 1024, 4096)),
    ("OLMoE", "f32", (1, 4, 16, 256, 1024, 4096)),
    ("Qwen3-30B", "bf16", (1, 4, 16, 64, 256, 1024, 4096)),
    ("gpt-oss-20b", "bf16", (1, 4, 16)),
    ("Mixtral", "bf16", (1, 4, 16, 256)),
]


class Machine:
    """What the machine can do on some threads."""

    STEPS = 2_000_000
    COUNT = 1 << 25

    def __init__(self, peers: ctypes.CDLL, threads: int) -> None:
        self.threads = threads
        self.sums = empty((threads, 16))
        self.numbers = empty((threads, self.COUNT))
        self.numbers[...] = 1.0
        self.has_dot = bool(
            peers.moe_peer_dot(ctypes.c_int64(1), self._sum(0))
        )
        steps = ctypes.c_int64(self.STEPS)
        count = ctypes.c_int64(self.COUNT)
        read = (lambda i: ctypes.c_void_p(self.numbers[i].ctypes.data))
        self.runs: dict[str, Callable[[], object]] = {
            "fma": on_threads(
                threads, lambda i: peers.moe_peer_peak(steps, self._sum(i))
            ),
            "read": on_threads(
                threads,
                lambda i: peers.moe_peer_read(read(i), count, self._sum(i)),
            ),
            "read ahead": on_threads(
                threads,
                lambda i: peers.moe_peer_read_ahead(
                    read(i), count, self._sum(i)
                ),
            ),
        }
        if self.has_dot:
            self.runs["dot"] = on_threads(
                threads, lambda i: peers.moe_peer_dot(steps, self._sum(i))
            )

    def _sum(self, thread: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.sums[thread].ctypes.data)

    def flops(self, times: dict[str, float]) -> float:
        """A step of the peer is 24 multiply-adds of 16 numbers."""
        return self.threads * self.STEPS * 24 * 16 * 2 / times["fma"]

    def dot_flops(self, times: dict[str, float]) -> float:
        """A step of the peer is 24 dot products of 16 pairs."""
        return self.threads * self.STEPS * 24 * 32 * 2 / times["dot"]

    def bandwidth(self, times: dict[str, float]) -> float:
        fastest = min(times["read"], times["read ahead"])
        return self.threads * self.COUNT * 4 / fastest


def cache_bytes() -> int:
    """The last-level cache as the system states it."""
    sizes = [0]
    for path in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob(
        "index*/size"
    ):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * (1024 if text[-1] == "K" else 1 << 20))
    return max(sizes)


def random_array(
    stream: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Normal numbers that keep the size of a row, a few million of them over
    and over."""
    some = stream.standard_normal(1 << 22, dtype=np.float32)
    some *= shape[-1] ** -0.5
    return np.resize(some.astype(dtype), shape)


class Layer:
    """A layer on some threads, with its packed weights."""

    def __init__(
        self, shape: Shape, dtype: str, build: pathlib.Path, threads: int
    ) -> None:
        self.shape, self.dtype = shape, DTYPES[dtype]
        words = [str(build / "bin" / "moe-compile"), "--example", shape.example]
        words += ["--set", "expert_loads=true"]
        if dtype == "f32":
            for key in DTYPE_KEYS:
                words += ["--set", f"{key}_dtype=f32"]
        self.source = subprocess.run(
            words, check=True, capture_output=True, text=True
        ).stdout
        start = time.perf_counter()
        self.compiled = self.compile(threads)
        self.compile_seconds = time.perf_counter() - start

    def compile(self, threads: int) -> moe_mlir.Layer:
        return moe_mlir.compile(self.source, threads=threads, pack_weights=True)

    def make_operands(self) -> None:
        stream = np.random.default_rng(0)
        stored = {
            a.name: random_array(stream, self.sized(a.shape), self.dtype)
            for a in self.compiled.stored
        }
        start = time.perf_counter()
        packed = self.compiled.pack(**stored)
        self.pack_rate = sum(a.nbytes for a in stored.values()) / (
            time.perf_counter() - start
        )
        self.packed = [packed]
        self.rest = {
            a.name: random_array(stream, a.shape, self.dtype)
            for a in self.compiled.inputs
            if a.name != "x" and a.name not in packed
        }

    def sized(self, shape: tuple[int | str, ...]) -> tuple[int, ...]:
        return tuple(
            self.shape.experts if isinstance(size, str) else size
            for size in shape
        )

    def copy_weights(self, count: int) -> None:
        while len(self.packed) < count:
            self.packed.append(
                {name: a.copy() for name, a in self.packed[0].items()}
            )

    def calls(
        self, compiled: moe_mlir.Layer, tokens: int
    ) -> tuple[list[Callable[[], object]], float]:
        """Calls that read one another's weights out of the cache, and the
        experts that one uses, on average."""
        stream = np.random.default_rng(tokens)
        most = min(self.shape.experts, tokens * self.shape.slots)
        touched = most * self.shape.expert_bytes(self.dtype.itemsize)
        count = min(max(math.ceil(8 * cache_bytes() / touched), 1), 24)
        xs = [
            stream.standard_normal((tokens, self.shape.hidden), np.float32)
            for _ in range(count)
        ]
        used, calls = [], []
        for number, x in enumerate(xs):
            operands = {
                "x": x.astype(self.dtype),
                **self.rest,
                **self.packed[number % len(self.packed)],
            }
            results = compiled(**operands)
            used.append(np.count_nonzero(results.expert_loads))
            out = list(results)
            calls.append(
                lambda own=operands, out=out: compiled(**own, out=out)
            )
        return calls, statistics.mean(used)


def in_turns(
    machine: Machine, calls: list[Callable[[], object]], seconds: float
) -> dict[str, float]:
    """Median seconds of a call and of the machine's own runs, by turns."""
    times: dict[str, list[float]] = {name: [] for name in machine.runs}
    times["layer"] = []

    def measure(name: str, run: Callable[[], object]) -> None:
        start = time.perf_counter()
        run()
        times[name].append(time.perf_counter() - start)

    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["layer"]) < 3:
        for name, run in machine.runs.items():
            measure(name, run)
        for call in calls:
            measure("layer", call)
    return {name: statistics.median(own) for name, own in times.items()}


def report_cell(
    report: Report,
    machine: Machine,
    layer: Layer,
    where: str,
    tokens: int,
    times: dict[str, float],
    used: float,
) -> None:
    """A cell's rows: what bounds it decides which has a target."""
    flops, bandwidth = machine.flops(times), machine.bandwidth(times)
    peak = flops
    if layer.dtype == BF16 and machine.has_dot:
        peak = machine.dot_flops(times)
    size = used * layer.shape.expert_bytes(layer.dtype.itemsize)
    work, own = layer.shape.flops(tokens), times["layer"]
    report.add(f"{where}, time", own * 1e3, "ms")
    if tokens <= 16:
        report.add(
            f"{where}, of the linear read",
            100 * size / bandwidth / own, "%", least=92,
        )  # fmt: skip
    elif tokens <= 64:
        bound = max(size / bandwidth, work / peak)
        report.add(f"{where}, / bound", own / bound, "x", most=1.35)
    else:
        report.add(
            f"{where}, of the type's own peak", 100 * work / peak / own, "%",
            least=88 if machine.threads == 1 else 85,
        )  # fmt: skip
    if tokens > 16:
        report.add(
            f"{where}, of the multiply-adds' peak",
            100 * work / flops / own, "%",
        )  # fmt: skip


def race(
    report: Report,
    peers: ctypes.CDLL,
    build: pathlib.Path,
    name: str,
    dtype: str,
    tokens: tuple[int, ...],
    seconds: float,
) -> None:
    """All cells of one layer and type."""
    processors = len(os.sched_getaffinity(0))
    layer = Layer(SHAPES[name], dtype, build, processors)
    report.add(
        f"{name} {dtype}, compile", layer.compile_seconds, "s", most=1.5
    )
    layer.make_operands()
    report.add(f"{name} {dtype}, pack", layer.pack_rate * 1e-9, "GB/s")
    weights = sum(a.nbytes for a in layer.packed[0].values())
    if min(tokens) <= 16 and weights < 2 << 30:
        layer.copy_weights(3)
    for threads in sorted({1, processors}):
        machine = Machine(peers, threads)
        compiled = layer.compile(threads)
        for count in tokens:
            calls, used = layer.calls(compiled, count)
            times = in_turns(machine, calls, seconds)
            where = f"{name} {dtype} T={count}, {threads} threads"
            report_cell(report, machine, layer, where, count, times, used)


def main() -> int:
    """The command line; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    report = Report(options.json)
    peers = build_peers(options.build)
    for name, dtype, tokens in QUICK if options.quick else CELLS:
        race(
            report, peers, options.build, name, dtype, tokens,
            0.8 if options.quick else 4.0,
        )  # fmt: skip
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
