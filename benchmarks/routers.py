# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Routers and subset inference against peers; see benchmarks/routers.

Every ratio is one of medians of runs that alternate, so that both sides see
the same machine. All on one thread, T = 4096 tokens unless the name says
otherwise, given logits uniform in [-2, 2].
"""

from __future__ import annotations

import argparse
import ctypes
import json
import pathlib
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import moe_mlir
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "Integration" / "Routers"))

from compiled import (  # noqa: E402
    compile_body,
    random_state,
    router,
    subset_op,
)

TOKENS = 4096
SIZE = 8


class Report:
    """Rows for people, or objects for programs."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.failed = 0

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        """A measured number, and what it should be at most or at least."""
        target = most if least is None else least
        met = None
        if most is not None:
            met = value <= most
        elif least is not None:
            met = value >= least
        self.failed += met is False
        if self.as_json:
            row = dict(name=name, value=value, unit=unit, target=target)
            print(json.dumps({**row, "met": met}), flush=True)
            return
        wanted = ""
        if target is not None:
            sign = "<=" if least is None else ">="
            state = "met" if met else "NOT MET"
            wanted = f"{sign} {target:g}  {state}"
        print(f"{name:<64}{value:>8.4g} {unit:<9} {wanted}", flush=True)


def interleaved(
    runs: dict[str, Callable[[], object]], seconds: float
) -> dict[str, float]:
    """Median seconds of each, by runs that take turns.

    A turn is two runs and the second counts, so that each finds its own data
    in the caches and not another's. The seconds are the thread's own: what
    others have of the processor meanwhile is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, run in runs.items():
            run()
            start = time.thread_time()
            run()
            times[name].append(time.thread_time() - start)
    return {name: statistics.median(own) for name, own in times.items()}


def build_peers(folder: pathlib.Path) -> ctypes.CDLL:
    """The peers in C++, compiled for this machine."""
    library = folder / "libmoe_peers.so"
    sources = sorted((ROOT / "benchmarks" / "peers").iterdir())
    newest = max(source.stat().st_mtime for source in sources)
    if not library.exists() or library.stat().st_mtime < newest:
        units = [str(source) for source in sources if source.suffix == ".cpp"]
        subprocess.run(
            ["clang++-22", "-O3", "-march=native", "-std=c++17", "-shared",
             "-fPIC", "-ffp-contract=fast", *units, "-o", str(library)],
            check=True,
        )  # fmt: skip
    return ctypes.CDLL(str(library))


def call_peer(
    function: Callable, x: np.ndarray, *outs: np.ndarray
) -> Callable[[], object]:
    """A call of a peer on x into arrays."""
    sizes = map(ctypes.c_int64, x.shape)
    arrays = [ctypes.c_void_p(array.ctypes.data) for array in (x, *outs)]
    arguments = (arrays[0], *sizes, *arrays[1:])
    return lambda: function(*arguments)


def empty(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """An array that starts at a cache line, as frameworks allocate them."""
    count = int(np.prod(shape))
    room = np.empty(count + 64, dtype=dtype)
    skip = -room.ctypes.data % 64 // room.itemsize
    return room[skip : skip + count].reshape(shape)


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy in f32 that starts at a cache line."""
    out = empty(values.shape)
    out[...] = values
    return out


def uniform(experts: int, tokens: int = TOKENS) -> np.ndarray:
    """Logits [T, E] in [-2, 2]."""
    stream = np.random.default_rng(experts)
    return aligned(4 * stream.random((tokens, experts)) - 2)


def race_marginals(
    report: Report, peers: ctypes.CDLL, experts: int, seconds: float
) -> None:
    """Marginals against the recipe, and what is made of them against them."""
    x = uniform(experts)
    v = aligned(np.random.default_rng(1).normal(size=x.shape))
    # One logit so large that no row stays in range.
    tilted = aligned(x)
    tilted[:, 0] = 120.0
    out, other = empty(x.shape), empty(x.shape)
    small = aligned(x[:64])
    few = empty(small.shape)
    ids = empty((len(x), SIZE), np.int32)
    band = (SIZE, SIZE)
    marginals = subset_op("marginals", experts, band, "cpu")
    covariance = subset_op("covariance", experts, band, "cpu")
    sample = subset_op("sample", experts, band, "cpu")
    state = random_state(1)
    times = interleaved(
        {
            "marginals": lambda: marginals(x, out=out),
            "recipe": call_peer(peers.moe_peer_recipe, x, other),
            "scalar": call_peer(peers.moe_peer_scalar, small, few),
            "covariance": lambda: covariance(x, v, out=other),
            "sample": lambda: sample(x, state, out=ids),
            "tilted": lambda: marginals(tilted, out=other),
        },
        seconds,
    )
    call_peer(peers.moe_peer_recipe, x, other)()
    if not np.allclose(out, other, atol=1e-5):
        raise SystemExit("the recipe's marginals differ from the compiled")
    own = times["marginals"]
    where = f"E={experts} k={SIZE}"
    report.add(f"marginals {where}", own / TOKENS * 1e9, "ns/token")
    report.add(
        f"marginals / recipe by hand {where}",
        own / times["recipe"], "x", most=1.25,
    )  # fmt: skip
    report.add(
        f"scalar log space / marginals {where}",
        times["scalar"] / len(small) / (own / TOKENS), "x", least=250,
    )  # fmt: skip
    for name, most in (("covariance", 2.6), ("sample", 2.0), ("tilted", 4.0)):
        report.add(f"{name} / marginals {where}", times[name] / own, "x", most)


def race_gating(
    report: Report, peers: ctypes.CDLL, experts: int, seconds: float
) -> None:
    """Top-k of given logits with normalised softmax weights."""
    x = uniform(experts)
    slots = (TOKENS, SIZE)
    ids, weights = empty(slots, np.int32), empty(slots)
    other_ids, other_weights = empty(slots, np.int32), empty(slots)
    layer = router(
        f"#moe.top_k<k = {SIZE}, normalize = sum>", experts, SIZE, "cpu"
    )
    times = interleaved(
        {
            "own": lambda: layer(x, out=[ids, weights]),
            "softmax": call_peer(
                peers.moe_peer_softmax, x, other_ids, other_weights
            ),
            "top_k": call_peer(
                peers.moe_peer_top_k, x, other_ids, other_weights
            ),
        },
        seconds,
    )
    if not np.array_equal(ids, other_ids) or not np.allclose(
        weights, other_weights, atol=1e-6
    ):
        raise SystemExit("the peer's choice differs from the compiled")
    own = times["own"]
    where = f"E={experts} k={SIZE}"
    report.add(f"gating {where}", own / TOKENS * 1e9, "ns/token")
    report.add(
        f"gating / softmax and top-k by hand {where}",
        own / times["softmax"], "x", most=1.25,
    )  # fmt: skip
    report.add(
        f"gating / by hand, softmax of the chosen alone {where}",
        own / times["top_k"], "x",
    )  # fmt: skip


def race_gate(
    report: Report,
    peers: ctypes.CDLL,
    experts: int,
    hidden: int,
    seconds: float,
) -> None:
    """A fused gate against the time of its multiply-adds at the peak."""
    tokens = 1024
    row, logits = f"tensor<?x{hidden}xf32>", f"tensor<?x{experts}xf32>"
    weight = f"tensor<{experts}x{hidden}xf32>"
    ids, weights = f"tensor<?x{SIZE}xi32>", f"tensor<?x{SIZE}xf32>"
    layer = compile_body(
        f"""%y = moe.gate %x, %w : ({row}, {weight}) -> {logits}
  %ids, %weights = moe.route #moe.top_k<k = {SIZE}, normalize = sum> %y
      : {logits} -> {ids}, {weights}""",
        (("x", row), ("w", weight)),
        (("ids", ids), ("weights", weights)),
        "cpu",
    )
    stream = np.random.default_rng(hidden)
    x = aligned(stream.normal(size=(tokens, hidden)))
    w = aligned(stream.normal(size=(experts, hidden)) / hidden**0.5)
    out = [empty((tokens, SIZE), np.int32), empty((tokens, SIZE))]
    steps, sums = 20_000, empty((16,))
    peak = ctypes.c_int64(steps), ctypes.c_void_p(sums.ctypes.data)
    times = interleaved(
        {
            "own": lambda: layer(x, w, out=out),
            "peak": lambda: peers.moe_peer_peak(*peak),
        },
        seconds,
    )
    # A step of the peer is 24 multiply-adds of 16 numbers.
    flops = steps * 24 * 16 * 2 / times["peak"]
    needed = 2 * tokens * hidden * experts / flops
    where = f"E={experts} H={hidden} T={tokens}"
    report.add(f"fused gate {where}", times["own"] / tokens * 1e9, "ns/token")
    report.add(
        f"fused gate / its FLOPs at {flops * 1e-9:.0f} GFLOP/s {where}",
        times["own"] / needed, "x", most=1.3,
    )  # fmt: skip


#: Routers beside top-k: attribute, slots, whether it draws, and whether it
#: takes the operand `noise`. Columns of E are two halves to product keys.
ROUTERS = {
    "top_k": ("#moe.top_k<k = 8>", 8, False, False),
    "exact_k": ("#moe.exact_k<k = 8>", 8, True, False),
    "dynamic_k 6..8": ("#moe.dynamic_k<min = 6, max = 8>", 8, True, False),
    "moesart": ("#moe.moesart<k = 8>", 8, True, False),
    "noisy_top_k learned": ("#moe.noisy_top_k<k = 8>", 8, True, True),
    "noisy_top_k gumbel": (
        "#moe.noisy_top_k<k = 8, noise = gumbel, weights = clean>",
        8,
        True,
        False,
    ),
    "gshard random": ("#moe.gshard<policy = random>", 2, True, False),
    "sparse_mixer": ("#moe.sparse_mixer<eps = 0.01>", 2, True, False),
    "product_keys": ("#moe.product_keys<k = 8, left = {half}>", 8, False, False),
}


def race_routers(report: Report, experts: int, seconds: float) -> None:
    """Every router on given logits, beside top-k."""
    x = uniform(experts)
    state = random_state(1)
    calls = {}
    for name, (text, slots, training, noise) in ROUTERS.items():
        attribute = text.replace("{half}", str(experts // 2))
        layer = router(attribute, experts, slots, "cpu", training, noise=noise)
        inputs = [x] + [x] * noise + [state] * training
        out = [empty((TOKENS, slots), np.int32), empty((TOKENS, slots))]
        calls[name] = lambda f=layer, i=inputs, o=out: f(*i, out=o)
    times = interleaved(calls, seconds)
    for name, own in times.items():
        report.add(f"route {name} E={experts}", own / TOKENS * 1e9, "ns/token")
        if name != "top_k":
            report.add(
                f"  {name} / top_k E={experts}", own / times["top_k"], "x"
            )


def meeting_layers(
    experts: int, tokens: int, width: int
) -> dict[str, tuple[moe_mlir.Layer, list[np.ndarray], list | None]]:
    """Layers in which tokens meet, their inputs, outputs of given size."""
    x = uniform(experts, tokens)
    stream = np.random.default_rng(7)
    u = stream.normal(size=(tokens, width)).astype(np.float32)
    a = stream.random((1, tokens, tokens)).astype(np.float32)
    row, rows = f"tensor<?x{experts}xf32>", f"tensor<?x{width}xf32>"
    matrix = "tensor<1x?x?xf32>"
    chosen = (f"tensor<{experts}x?xi32>", f"tensor<{experts}x?xf32>")
    choice = "#moe.expert_choice<capacity = <factor = 2.0>{}>"
    out = {}

    def add(name, body, outputs, *inputs, given=None):
        kinds = tuple((key, kind) for key, kind, _ in inputs)
        layer = compile_body(body, kinds, outputs, "cpu")
        out[name] = layer, [value for _, _, value in inputs], given

    slots = (experts, 2 * tokens // experts)

    for name, rest in (("", ""), (" capped", ", cap = 2.0, sweeps = 100")):
        body = (
            f"%ids, %weights = moe.route_experts {choice.format(rest)} %x\n"
            f"      : {row} -> {chosen[0]}, {chosen[1]}"
        )
        add(f"expert_choice{name}", body,
            (("ids", chosen[0]), ("weights", chosen[1])), ("x", row, x),
            given=[np.zeros(slots, np.int32), empty(slots)])  # fmt: skip
    add("route_slots", f"%d, %c = moe.route_slots %x : {row} -> {row}, {row}",
        (("d", row), ("c", row)), ("x", row, x))  # fmt: skip
    for name, rest in (("", ""), (" causal", " causal")):
        body = (
            f"%y = moe.mix %x query(%u : {rows}) key(%u : {rows}) scale 0.125{rest}\n"
            f"      : {row} -> {row}"
        )
        add(f"mix{name}", body, (("y", row),), ("x", row, x), ("u", rows, u))
    body = f"%y = moe.mix_matrix %x by %a : ({row}, {matrix}) -> {row}"
    add("mix_matrix", body, (("y", row),), ("x", row, x), ("a", matrix, a))
    return out


def race_meetings(report: Report, experts: int, seconds: float) -> None:
    """Routers in which tokens meet: the cost of a mix grows with T."""
    tokens, width = 512, 64
    layers = meeting_layers(experts, tokens, width)
    calls = {
        name: lambda f=layer, i=inputs, o=given: f(*i, out=o)
        for name, (layer, inputs, given) in layers.items()
    }
    where = f"E={experts} T={tokens}"
    for name, own in interleaved(calls, seconds).items():
        report.add(f"{name} {where}", own / tokens * 1e9, "ns/token")
        if name.startswith("mix"):
            # Products of queries and keys, and of weights and values.
            columns = experts if name == "mix_matrix" else experts + width
            keys = tokens / 2 if "causal" in name else tokens
            flops = 2 * keys * columns * tokens / own
            report.add(f"  {name} {where}", flops * 1e-9, "GFLOP/s")


def race_sizes(report: Report, seconds: float) -> None:
    """Cost is linear in E k: ns a token, expert and slot."""
    for experts, size in ((64, 8), (256, 8), (256, 32), (1024, 32), (4096, 64)):
        tokens = max(64, 2**22 // (experts * size))
        x = uniform(experts, tokens)
        out = empty(x.shape)
        layer = subset_op("marginals", experts, (size, size), "cpu")
        own = interleaved({"own": lambda: layer(x, out=out)}, seconds)["own"]
        report.add(
            f"marginals E={experts} k={size}",
            own / tokens / experts / size * 1e12, "ps/cell",
        )  # fmt: skip


def main() -> int:
    """The command line; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    seconds = 0.7 if options.quick else 8.0
    report = Report(options.json)
    peers = build_peers(options.build)
    for experts in (64, 128):
        race_marginals(report, peers, experts, 2 * seconds)
    for experts in (64, 128, 256):
        race_gating(report, peers, experts, seconds)
    for experts, hidden in ((64, 1024), (128, 1024), (256, 2048)):
        race_gate(report, peers, experts, hidden, seconds)
    for experts in (64, 256):
        race_routers(report, experts, seconds)
    race_meetings(report, 64, seconds)
    race_sizes(report, seconds / 4)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
