# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Times of layers on a GPU beside their peers; see benchmarks/gpu --device.

A turn is a call on each of several inputs, between two events of the stream;
sides take turns, and the median of the rounds counts. Tensors lie on the
device. Other inputs choose other experts, so that between two reads of a
weight others have gone through the cache. First of all, results of the first
input are compared with those of the CPU's code, for 64 tokens at most.

FLOPs are those of the router and of the chosen experts, bytes those that any
layer has to move: the weights of the experts that some token chose, the
router's, x and y.
"""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import moe_mlir
import numpy as np
from gpu_problem import Shape, bits, check, write_layer
from gpu_runtime import Array, Device, DeviceError, Layer

# Experts, k, H, I.
MODELS = {
    "OLMoE": (64, 8, 2048, 1024),
    "Qwen3-30B": (128, 8, 2048, 768),
    "Mixtral": (8, 2, 4096, 14336),
}
TOKENS = (1, 16, 64, 512, 4096)
SHAPES = [Shape(t, *model) for model in MODELS.values() for t in TOKENS]
QUICK_SHAPES = [Shape(t, *MODELS["OLMoE"]) for t in (1, 64)]
CHIPS = (80, 86, 89, 90, 100, 120)
# So many tokens or fewer are a short call, which takes more of them to time.
FEW_TOKENS = 64
MOST_CHECKED = 64


class Peak(NamedTuple):
    """What a chip does at best, by the driver's name of it."""

    name: str
    flops: float
    bandwidth: float


# Dense products of bf16 with f32 sums, and memory. NVIDIA's data sheets "A100
# 80GB" (2021), "H100" (2023, whose products are stated with sparsity: half of
# 1979, 1513 and 1671), "H200" (2024). The first that a name contains counts.
PEAKS = (
    Peak("A100-SXM4-80GB", 312e12, 2039e9),
    Peak("A100-SXM4-40GB", 312e12, 1555e9),
    Peak("A100 80GB PCIe", 312e12, 1935e9),
    Peak("A100-PCIE-40GB", 312e12, 1555e9),
    Peak("H100 PCIe", 756.5e12, 2000e9),
    Peak("H100 NVL", 835.5e12, 3938e9),
    Peak("H100 80GB HBM3", 989.4e12, 3352e9),
    Peak("H200 NVL", 835.5e12, 4800e9),
    Peak("H200", 989.4e12, 4800e9),
)


class Way(NamedTuple):
    """One side: a call for each input, and the first one's result [T, H]."""

    name: str
    calls: list[Callable[[], object]]
    result: Callable[[], np.ndarray]
    roundings: int


class Weights:
    """Of one model, on the host and on the device."""

    def __init__(self, device: Device, shape: Shape) -> None:
        self.device = device
        random = np.random.default_rng(1)
        hidden, inter = shape.hidden, shape.inter
        self.host = {
            "router_weight": normals(random, shape.experts, hidden),
            "gate_up": normals(random, shape.experts, 2 * inter, hidden),
            "down": normals(random, shape.experts, hidden, inter),
        }
        self.arrays = {
            name: device.upload(values) for name, values in self.host.items()
        }

    def close(self) -> None:
        """Gives the device's memory back."""
        self.device.release(list(self.arrays.values()))


class Call:
    """One input of a shape, and the choice of its tokens."""

    def __init__(self, weights: Weights, shape: Shape, seed: int) -> None:
        self.weights, self.shape = weights, shape
        random = np.random.default_rng(1000 + seed)
        self.x = normals(random, 1, shape.tokens, shape.hidden, scale=1.0)[0]
        self.array = weights.device.upload(self.x)

    @functools.cached_property
    def routing(self) -> tuple[np.ndarray, np.ndarray]:
        """Chosen experts and their weights, both [T, k]."""
        k = self.shape.k
        logits = values_of(self.x) @ values_of(
            self.weights.host["router_weight"]
        ).T
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        parts = np.exp(logits - logits.max(axis=1, keepdims=True))
        parts /= parts.sum(axis=1, keepdims=True)
        return ids, np.take_along_axis(parts, ids, axis=1)

    @property
    def pair_experts(self) -> np.ndarray:
        """The expert of each pair of token and slot."""
        return self.routing[0].reshape(-1)

    @property
    def bytes(self) -> int:
        """What a layer has to move."""
        shape = self.shape
        experts = len(np.unique(self.pair_experts))
        numbers = experts * 3 * shape.hidden * shape.inter
        numbers += (shape.experts + 2 * shape.tokens) * shape.hidden
        return 2 * numbers


def flops_of(shape: Shape) -> int:
    """Of the router and the chosen experts; an fma is two."""
    products = 3 * shape.k * shape.inter + shape.experts
    return 2 * shape.tokens * shape.hidden * products


def normals(
    random: np.random.Generator, count: int, *sizes: int, scale: float = 0.0
) -> np.ndarray:
    """Numbers of bf16 as words [count, *sizes]; 0 scales by the last size."""
    out = np.empty((count, *sizes), np.uint16)
    factor = np.float32(scale or sizes[-1] ** -0.5)
    for part in out:
        part[...] = bits(random.standard_normal(sizes, np.float32) * factor)
    return out


def values_of(words: np.ndarray) -> np.ndarray:
    """Words that hold numbers of bf16, as f32."""
    return (words.astype(np.uint32) << 16).view(np.float32)


def measure(
    device: Device, ways: Sequence[Way], rounds: int
) -> dict[str, float]:
    """Median seconds of a call of each."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for turn in range(rounds + 1):
        for way in ways:
            seconds = device.time(lambda: [call() for call in way.calls])
            # The first turn loads code and grows memory.
            if turn:
                times[way.name].append(seconds / len(way.calls))
    return {name: statistics.median(own) for name, own in times.items()}


def compile_layer(device: Device, shape: Shape, folder: Path) -> Layer:
    """The layer of a shape for the chip of the device."""
    chips = [chip for chip in CHIPS if chip <= device.capability]
    if not chips:
        raise DeviceError(
            f"{device.name} is sm_{device.capability}: kernels are for sm_80 "
            "and later"
        )
    source, library = folder / "layer.mlir", folder / "layer.so"
    write_layer(shape, source)
    words = ["moe-compile", source, "--target=cuda", f"--chip=sm_{chips[-1]}"]
    subprocess.run([*words, "-o", library], check=True)
    return Layer(device, library, "layer")


class Race:
    """The sides of one shape."""

    def __init__(
        self,
        weights: Weights,
        shape: Shape,
        copies: int,
        layer: Layer,
        reference: moe_mlir.Layer,
    ) -> None:
        self.device, self.weights, self.shape = weights.device, weights, shape
        count = min(shape.tokens, MOST_CHECKED)
        self.rows = np.linspace(0, shape.tokens - 1, count).astype(int)
        self.calls = [Call(weights, shape, seed) for seed in range(copies)]
        self.out = self.device.empty((shape.tokens, shape.hidden))
        self.own: list[Array] = [self.out]
        self.own += [call.array for call in self.calls]
        arrays = list(weights.arrays.values())
        runs = [layer.bind([c.array, *arrays], self.out) for c in self.calls]
        inputs = [self.calls[0].x[self.rows], *weights.host.values()]
        wanted = reference(*(a.view(ml_dtypes.bfloat16) for a in inputs))
        self.wanted = wanted.astype(np.float32)
        self.ways: list[Way] = []

        def first_result() -> np.ndarray:
            runs[0]()
            return values_of(self.device.download(self.out))

        self.enter(Way("moe-mlir", runs, first_result, 3))

    def enter(self, way: Way) -> None:
        """Adds a side; ends the run where its numbers are not the CPU's."""
        found = way.result()[self.rows]
        check(f"{way.name}, {self.shape}", found, self.wanted, way.roundings)
        self.ways.append(way)

    def close(self) -> None:
        """Gives the device's memory back."""
        self.device.release(self.own)


class Table:
    """Rows for people, or objects for programs."""

    def __init__(self, device: Device, as_json: bool) -> None:
        self.as_json, self.device = as_json, device.name
        self.peak = next((p for p in PEAKS if p.name in device.name), None)
        if as_json:
            return
        print(f"device: {device.name}, sm_{device.capability}")
        if self.peak:
            print(
                f"peak: {self.peak.flops / 1e12:g} TFLOP/s of bf16, "
                f"{self.peak.bandwidth / 1e9:g} GB/s (NVIDIA's data sheet)"
            )
        else:
            print("peak: none is known of this device, so there are no shares")

    def note(self, text: str) -> None:
        """Why something is missing."""
        print(text, file=sys.stderr if self.as_json else sys.stdout)

    def add(self, race: Race, seconds: dict[str, float]) -> None:
        """The sides of a shape."""
        flops = flops_of(race.shape)
        moved = statistics.mean(call.bytes for call in race.calls)
        if not self.as_json:
            titles = ("us", "TFLOP/s", "of peak", "GB/s", "of peak", "to ours")
            print(f"\n{race.shape!s:<40}", *(f"{t:>10}" for t in titles))
        for name, time in seconds.items():
            rates = {"TFLOP/s": flops / time / 1e12, "GB/s": moved / time / 1e9}
            shares: dict[str, float | None] = {"TFLOP/s": None, "GB/s": None}
            if self.peak:
                shares["TFLOP/s"] = flops / time / self.peak.flops
                shares["GB/s"] = moved / time / self.peak.bandwidth
            ratio = time / seconds["moe-mlir"]
            if self.as_json:
                where = f"{name}, {race.shape}, on {self.device}"
                self.write(f"time of {where}", time * 1e6, "us")
                for unit, rate in rates.items():
                    self.write(f"{unit} of {where}", rate, unit)
                    if shares[unit] is not None:
                        self.write(f"share of peak {unit} of {where}",
                                   shares[unit], "x")  # fmt: skip
                if ratio != 1:
                    name = f"time to that of moe-mlir, of {where}"
                    self.write(name, ratio, "x")
                continue
            cells = [f"{time * 1e6:.1f}"]
            for unit, rate in rates.items():
                share = shares[unit]
                cells.append(f"{rate:.4g}")
                cells.append("-" if share is None else f"{100 * share:.1f}%")
            cells.append(f"{ratio:.2f}")
            print(f"  {name:<38}", *(f"{cell:>10}" for cell in cells))
        sys.stdout.flush()

    def write(self, name: str, value: float | None, unit: str) -> None:
        """One object; nothing here has a target."""
        row = dict(name=name, value=value, unit=unit, target=None, met=None)
        print(json.dumps(row), flush=True)


def run_model(
    device: Device,
    shapes: Sequence[Shape],
    table: Table,
    make_peers: Sequence[Callable[[Race, Path], list[Way | str]]],
    rounds: int,
    quick: bool,
) -> None:
    """The shapes of one model, which differ in their tokens alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = Weights(device, shapes[0])
        layer = compile_layer(device, shapes[0], folder)
        reference = moe_mlir.compile(folder / "layer.mlir")
        for shape in shapes:
            copies = 2 if quick else 16 if shape.tokens <= FEW_TOKENS else 4
            race = Race(weights, shape, copies, layer, reference)
            for make in make_peers:
                for way in make(race, folder):
                    if isinstance(way, Way):
                        race.enter(way)
                    else:
                        table.note(f"not compared: {way}")
            table.add(race, measure(device, race.ways, rounds))
            race.close()
        layer.close()
        weights.close()


def run(
    runtime: Path,
    triton_python: Path,
    shapes: Sequence[Shape],
    rounds: int,
    quick: bool,
    as_json: bool,
) -> int:
    """Measures; 1 with one message where there is no device."""
    # It builds on what is above.
    from gpu_peers import open_torch, open_triton

    try:
        with Device(runtime) as device:
            table = Table(device, as_json)
            peers = []
            for peer in (open_torch(), open_triton(device, triton_python)):
                if isinstance(peer, str):
                    table.note(f"not compared: {peer}")
                else:
                    peers.append(peer)
            models: dict[tuple[int, ...], list[Shape]] = {}
            for shape in shapes:
                models.setdefault(tuple(shape)[1:], []).append(shape)
            for own in models.values():
                run_model(device, own, table, peers, rounds, quick)
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
