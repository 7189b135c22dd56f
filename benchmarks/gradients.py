# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Forward and backward of a layer; see benchmarks/gradients.

The layer is OLMoE's: 64 experts of which a token takes 8, hidden 2048, width
1024, bf16 weights, f32 sums, T = 512, on all threads. The bound is the sum over
its phases of max(FLOPs / peak, bytes / bandwidth), weight gradients among the
bytes; both peaks are measured in the same run, by turns: f32 multiply-adds that
wait for nothing, and one linear stream a thread.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable

import ml_dtypes
import moe_mlir
import numpy as np
from routers import ROOT, Report, build_peers, empty

TOKENS, HIDDEN, WIDTH, EXPERTS, SLOTS = 512, 2048, 1024, 64, 8
BF16 = ml_dtypes.bfloat16


def on_threads(count: int, work: Callable[[int], object]) -> Callable:
    """A call that runs work(i) on `count` threads."""

    def run() -> None:
        threads = [
            threading.Thread(target=work, args=(i,)) for i in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def in_turns(
    runs: dict[str, Callable[[], object]], turns: int
) -> dict[str, float]:
    """Median wall seconds of each, by runs that take turns after a first."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn > 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in times.items()}


class Machine:
    """What the machine can do, measured between the runs it is compared with."""

    STEPS = 1_000_000
    COUNT = 1 << 26

    def __init__(self, peers: ctypes.CDLL, threads: int) -> None:
        self.threads = threads
        sums = empty((threads, 16))
        numbers = empty((threads, self.COUNT))
        numbers[...] = 1.0

        def peak(i: int) -> None:
            peers.moe_peer_peak(
                ctypes.c_int64(self.STEPS), ctypes.c_void_p(sums[i].ctypes.data)
            )

        def read(i: int) -> None:
            peers.moe_peer_read(
                ctypes.c_void_p(numbers[i].ctypes.data),
                ctypes.c_int64(self.COUNT),
                ctypes.c_void_p(sums[i].ctypes.data),
            )

        self.runs = {
            "peak": on_threads(threads, peak),
            "read": on_threads(threads, read),
        }

    def flops(self, times: dict[str, float]) -> float:
        """A step of the peer is 24 multiply-adds of 16 numbers."""
        return self.threads * self.STEPS * 24 * 16 * 2 / times["peak"]

    def bandwidth(self, times: dict[str, float]) -> float:
        return self.threads * self.COUNT * 4 / times["read"]


def phases() -> dict[str, tuple[float, float]]:
    """FLOPs and bytes of each product, forward and backward.

    A product of experts reads its weight once and its rows; an outer product
    writes a weight's gradient. Rows are bf16; what stands between phases is
    counted where it is written and where it is read.
    """
    rows = TOKENS * SLOTS
    up, down = 2 * EXPERTS * WIDTH * HIDDEN, EXPERTS * WIDTH * HIDDEN
    gate = 2 * TOKENS * EXPERTS * HIDDEN
    wide, hidden, x = rows * 2 * WIDTH, rows * WIDTH, TOKENS * HIDDEN
    both, one = 2 * rows * 2 * WIDTH * HIDDEN, 2 * rows * WIDTH * HIDDEN
    return {
        "gate": (gate, 2 * (x + EXPERTS * HIDDEN)),
        "up": (both, 2 * (up + x + wide + hidden)),
        "down": (one, 2 * (down + hidden + rows * HIDDEN)),
        "back through down": (one, 2 * (down + x + wide + hidden + wide)),
        "gradient of down": (one, 2 * (down + hidden + x)),
        "gradient of up": (both, 2 * (up + wide + x)),
        "back through up": (both, 2 * (up + wide + rows * HIDDEN)),
        "back through gate": (2 * gate, 2 * (2 * x + EXPERTS * HIDDEN)),
    }


def random_bf16(
    stream: np.random.Generator, shape: tuple[int, ...], scale: float
) -> np.ndarray:
    """Normal numbers, a few million of them over and over."""
    some = stream.standard_normal(1 << 22, dtype=np.float32) * scale
    return np.resize(some.astype(BF16), shape)


def make_operands() -> dict[str, np.ndarray]:
    """Rows of unit size, weights that keep it."""
    stream = np.random.default_rng(0)
    shapes = {
        "x": ((TOKENS, HIDDEN), 1.0),
        "router_weight": ((EXPERTS, HIDDEN), HIDDEN**-0.5),
        "gate_up": ((EXPERTS, 2 * WIDTH, HIDDEN), HIDDEN**-0.5),
        "down": ((EXPERTS, HIDDEN, WIDTH), WIDTH**-0.5),
    }
    return {
        name: random_bf16(stream, shape, scale)
        for name, (shape, scale) in shapes.items()
    }


def torch_block(
    operands: dict[str, np.ndarray], cotangent: np.ndarray, threads: int
) -> Callable[[], object] | None:
    """Mixtral's block of transformers, eager, forward and backward; or None.

    The experts take turns; each gathers its tokens, and its weighted rows are
    added to the output.
    """
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)

    def leaf(array: np.ndarray) -> torch.Tensor:
        bits = torch.from_numpy(array.view(np.int16).copy())
        return bits.view(torch.bfloat16).requires_grad_()

    x, router = leaf(operands["x"]), leaf(operands["router_weight"])
    # A parameter for each expert, as that block has: the gradient of a slice
    # of one tensor would be of the whole tensor's size.
    gate_up = [leaf(array) for array in operands["gate_up"]]
    down = [leaf(array) for array in operands["down"]]
    dy = leaf(cotangent).detach()

    def run() -> None:
        functional = torch.nn.functional
        logits = functional.linear(x, router)
        scores = functional.softmax(logits, dim=1, dtype=torch.float)
        weights, chosen = torch.topk(scores, SLOTS, dim=-1)
        weights = weights.to(x.dtype)
        y = torch.zeros_like(x)
        mask = functional.one_hot(chosen, EXPERTS).permute(2, 1, 0)
        for expert in range(EXPERTS):
            slot, token = torch.where(mask[expert])
            if not len(token):
                continue
            both = functional.linear(x[token], gate_up[expert])
            gate, up = both.chunk(2, dim=-1)
            hidden = functional.silu(gate) * up
            rows = functional.linear(hidden, down[expert])
            y.index_add_(0, token, rows * weights[token, slot, None])
        y.backward(dy)
        for tensor in (x, router, *gate_up, *down):
            tensor.grad = None

    return run


def race_layer(
    report: Report, peers: ctypes.CDLL, build: pathlib.Path, turns: int
) -> None:
    """Forward and backward against their bound, and against PyTorch."""
    source = subprocess.run(
        [build / "bin" / "moe-compile", "--example", "olmoe"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    threads = len(os.sched_getaffinity(0))
    layer = moe_mlir.compile_gradients(source, threads=threads)
    operands = make_operands()
    cotangent = random_bf16(np.random.default_rng(1), (TOKENS, HIDDEN), 1.0)
    kept: dict = {}
    # As an optimiser would: the same arrays in every step.
    gradients = {f"d_{name}": np.empty_like(operands[name]) for name in operands}

    def forward() -> None:
        kept["saved"] = layer.forward(**operands)[1]

    def backward() -> None:
        layer.backward(kept["saved"], out=gradients, d_y=cotangent)

    machine = Machine(peers, threads)
    runs = {"forward": forward, "backward": backward, **machine.runs}
    torch = torch_block(operands, cotangent, threads)
    if torch:
        runs["torch"] = torch
    times = in_turns(runs, turns)
    flops, bandwidth = machine.flops(times), machine.bandwidth(times)
    own = times["forward"] + times["backward"]
    bound = sum(
        max(work / flops, size / bandwidth) for work, size in phases().values()
    )
    work = sum(work for work, _ in phases().values())
    where = f"T={TOKENS}, {threads} threads"
    report.add(f"f32 peak, {threads} threads", flops * 1e-9, "GFLOP/s")
    report.add(f"read, {threads} threads", bandwidth * 1e-9, "GB/s")
    report.add(f"forward {where}", times["forward"] * 1e3, "ms")
    report.add(f"backward {where}", times["backward"] * 1e3, "ms")
    report.add("forward and backward", work / own * 1e-9, "GFLOP/s")
    report.add("saved by the forward", kept["saved"].nbytes / 1e6, "MB")
    report.add(f"forward + backward / bound {where}", own / bound, "x", most=2.5)
    if torch:
        report.add(
            f"PyTorch eager / forward + backward {where}",
            times["torch"] / own, "x", least=1.0,
        )  # fmt: skip
    elif not report.as_json:
        print("PyTorch is not installed: not raced")


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
    race_layer(report, peers, options.build, 3 if options.quick else 9)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
