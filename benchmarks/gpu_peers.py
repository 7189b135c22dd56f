# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Who else computes a layer on a GPU; see benchmarks/gpu --device.

PyTorch computes the whole layer: by a loop over the experts, as models do in
eager mode, and by grouped products. Triton's kernels (peers/triton_layer.py)
compute the experts alone, of rows that were sorted and padded before, which is
in Triton's favour; of each product the fastest of a few configurations counts.
A way that cannot run is a text that says why.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from gpu_device import Call, Race, Way, values_of
from gpu_problem import Shape
from gpu_runtime import Array, Device, DeviceError, Function
from gpu_triton import (
    Blocks,
    Config,
    Elementwise,
    Worker,
    activation_job,
    product_job,
)

MakeWays = Callable[[Race, Path], list[Way | str]]

CONFIGS = (
    Config(16, 64, 128, 4, 3),
    Config(16, 128, 64, 4, 4),
    Config(16, 128, 128, 4, 3),
    Config(32, 128, 64, 4, 3),
    Config(64, 128, 64, 4, 3),
    Config(64, 256, 64, 8, 3),
    Config(128, 128, 64, 8, 3),
    Config(128, 256, 64, 8, 3),
    # For workgroup memory of 48 KiB.
    Config(16, 64, 64, 4, 3),
    Config(64, 64, 32, 4, 3),
)
ACTIVATION = Elementwise(512, 4)
TUNING_ROUNDS = 3

# -----------------------------------------------------------------------------
# PyTorch
# -----------------------------------------------------------------------------


def open_torch() -> MakeWays | str:
    """PyTorch's ways, or why there is none."""
    try:
        import torch
    except ImportError:
        return "PyTorch, which is not installed (scripts/setup --torch)"
    with warnings.catch_warnings():
        # It warns of a driver that it cannot use.
        warnings.simplefilter("ignore")
        if not torch.cuda.is_available():
            return "PyTorch, which sees no GPU"
    return torch_ways


def torch_ways(race: Race, folder: Path) -> list[Way | str]:
    """A way for each form of the experts' products."""
    import torch

    def share(array: Array) -> torch.Tensor:
        return torch.as_tensor(array, device="cuda").view(torch.bfloat16)

    k = race.shape.k
    router, gate_up, down = map(share, race.weights.arrays.values())
    xs = [share(call.array) for call in race.calls]
    functional = torch.nn.functional
    # Public in later versions.
    grouped_mm = getattr(functional, "grouped_mm", None)
    grouped_mm = grouped_mm or getattr(torch, "_grouped_mm", None)

    def route(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Logits of f32, as rounded ones would choose other experts.
        logits = torch.mm(x, router.T, out_dtype=torch.float32)
        weights, ids = logits.softmax(-1).topk(k)
        return weights.to(x.dtype), ids

    def activate(projected: torch.Tensor) -> torch.Tensor:
        gate, up = projected.chunk(2, -1)
        return functional.silu(gate) * up

    def eager(x: torch.Tensor) -> torch.Tensor:
        weights, ids = route(x)
        y = torch.zeros_like(x)
        for expert in ids.unique().tolist():
            rows, slots = torch.where(ids == expert)
            own = activate(functional.linear(x[rows], gate_up[expert]))
            own = functional.linear(own, down[expert])
            y.index_add_(0, rows, own * weights[rows, slots, None])
        return y

    def grouped(x: torch.Tensor) -> torch.Tensor:
        weights, ids = route(x)
        pairs = ids.flatten()
        order = pairs.argsort(stable=True)
        counts = torch.bincount(pairs, minlength=len(router))
        ends = counts.cumsum(0).to(torch.int32)
        own = grouped_mm(x[order // k], gate_up.transpose(1, 2), offs=ends)
        own = grouped_mm(activate(own), down.transpose(1, 2), offs=ends)
        rows = torch.empty_like(own)
        rows[order] = own
        return (rows.view(len(x), k, -1) * weights[..., None]).sum(1)

    forms = {"PyTorch, loop over experts": eager}
    ways: list[Way | str] = []
    if grouped_mm:
        forms["PyTorch, grouped products"] = grouped
    else:
        ways.append("PyTorch's grouped products, which this version lacks")
    for name, form in forms.items():
        try:
            with torch.no_grad():
                form(xs[0])
                torch.cuda.synchronize()
        except (RuntimeError, TypeError) as error:
            ways.append(f"{name}: {str(error).splitlines()[0]}")
            continue

        def result(form: Callable = form) -> np.ndarray:
            return form(xs[0]).float().cpu().numpy()

        calls = [lambda x=x, form=form: form(x) for x in xs]
        # Products by weights, and k sums, are rounded as well.
        ways.append(Way(name, calls, result, 3 + k))
    return ways


# -----------------------------------------------------------------------------
# Triton
# -----------------------------------------------------------------------------


def open_triton(device: Device, python: Path) -> MakeWays | str:
    """Triton's way, or why there is none."""
    if not python.exists():
        return "Triton, which is not installed (scripts/setup --triton)"
    return lambda race, folder: triton_ways(device, python, race, folder)


def triton_ways(
    device: Device, python: Path, race: Race, folder: Path
) -> list[Way | str]:
    """The experts' kernels."""
    worker = Worker(python, folder)
    try:
        return [TritonExperts(device, worker, race).way()]
    except (DeviceError, SystemExit) as error:
        return [f"Triton: {str(error).splitlines()[0]}"]
    finally:
        worker.close()


class TritonExperts:
    """Kernels of a shape, each step the fastest that was found."""

    def __init__(self, device: Device, worker: Worker, race: Race) -> None:
        self.device, self.worker, self.race = device, worker, race
        self.shape: Shape = race.shape
        shape, pairs = self.shape, self.shape.tokens * self.shape.k
        self.projected = self.empty(pairs, 2 * shape.inter)
        self.activated = self.empty(pairs, shape.inter)
        self.outputs = self.empty(pairs, shape.hidden)
        self.weights = [
            self.upload(call.routing[1].astype(np.float32))
            for call in race.calls
        ]
        self.blocks: dict[int, list[tuple[Array, Array, Array]]] = {}

    def empty(self, *sizes: int) -> Array:
        """Memory that goes with the race."""
        array = self.device.empty(sizes)
        self.race.own.append(array)
        return array

    def upload(self, values: np.ndarray) -> Array:
        """The same, with values."""
        array = self.device.upload(values)
        self.race.own.append(array)
        return array

    def load(self, job: dict) -> Function | None:
        """A kernel for the device; None where it does not fit."""
        capability = self.device.capability
        kernel = self.worker.compile({**job, "capability": capability})
        if kernel.shared > self.device.most_shared:
            return None
        return Function(
            self.device, kernel.path, job["kernel"], kernel.threads,
            kernel.shared,
        )  # fmt: skip

    def sorted_rows(self, block_m: int) -> list[tuple[Array, Array, Array]]:
        """Rows, experts of blocks and the padded length, for each input."""
        if block_m not in self.blocks:
            self.blocks[block_m] = [
                self.sort(call, block_m) for call in self.race.calls
            ]
        return self.blocks[block_m]

    def sort(self, call: Call, block_m: int) -> tuple[Array, Array, Array]:
        """What moe_align_block_size of vLLM and SGLang computes."""
        blocks = Blocks.of(call, block_m)
        length = np.array([len(blocks.rows)], np.int32)
        rows, experts = self.upload(blocks.rows), self.upload(blocks.experts)
        return rows, experts, self.upload(length)

    def product(self, step: str, config: Config) -> list[Callable] | None:
        """A launch for each input; None where it does not fit."""
        function = self.load(product_job(self.shape, step, config))
        if not function:
            return None
        first = step == "gate and up"
        source = self.activated
        weight = self.race.weights.arrays["gate_up" if first else "down"]
        out = self.projected if first else self.outputs
        pairs, n = out.shape
        launches = []
        for call, weights, (rows, experts, length) in zip(
            self.race.calls, self.weights, self.sorted_rows(config.block_m),
            strict=True,
        ):  # fmt: skip
            grid = [experts.shape[0] * math.ceil(n / config.block_n)]
            arguments = [
                call.array if first else source, weight, out, weights, rows,
                experts, length, pairs, None, None,
            ]  # fmt: skip
            launches.append(function.bind(grid, arguments))
        return launches

    def fastest(self, step: str) -> list[Callable]:
        """The launches of the configuration that takes the least time."""
        best: tuple[float, list[Callable]] | None = None
        reason = DeviceError("no configuration fits the device")
        for config in CONFIGS:
            try:
                launches = self.product(step, config)
            except DeviceError as error:
                reason = error
                continue
            if not launches:
                continue
            launches[0]()
            time = min(
                self.device.time(lambda own=launches: run_all(own))
                for _ in range(TUNING_ROUNDS)
            )
            if best is None or time < best[0]:
                best = time, launches
        if not best:
            raise reason
        return best[1]

    def activation(self) -> Callable:
        """The launch of the activation."""
        function = self.load(activation_job(self.shape, ACTIVATION))
        assert function, "it has no workgroup memory"
        pairs, inter = self.activated.shape
        grid = [pairs, math.ceil(inter / ACTIVATION.block)]
        arguments = [self.projected, self.activated, pairs, None, None]
        return function.bind(grid, arguments)

    def way(self) -> Way:
        """The three steps of each input."""
        up = self.fastest("gate and up")
        act = self.activation()
        act()
        down = self.fastest("down")
        calls = [
            lambda own=(first, act, second): run_all(own)
            for first, second in zip(up, down, strict=True)
        ]

        def result() -> np.ndarray:
            calls[0]()
            pairs = values_of(self.device.download(self.outputs))
            return pairs.reshape(self.shape.tokens, self.shape.k, -1).sum(1)

        return Way("Triton, experts alone", calls, result, 3)


def run_all(launches: Sequence[Callable]) -> None:
    """One after the other."""
    for launch in launches:
        launch()
