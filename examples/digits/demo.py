# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles layer.mlir, classifies the held-out digits and judges the result.

Exit status 0 if every bar at the end of the output is met, 1 if one is missed
or a tool fails. scripts/demo runs it with the tools of the build tree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import digits
import reference
from digits import Split, Weights

RESULTS = ("logits", "ids", "weights", "expert_loads")
TOLERANCE = 1e-4  # Largest relative difference to f64 that is accepted.
DROP = 20.0  # Points of accuracy that permuting the experts must cost.

# The layer that is timed: an MoE layer of the shape of OLMoE-1B-7B.
OLMOE_TOKENS = (1, 16, 512)
OLMOE_ARGUMENTS = {
    "x": "random:1",
    "router_weight": "random:2:0.02",
    "gate_up": "random:3:0.02",
    "down": "random:4:0.02",
}


class DemoError(Exception):
    """A tool is missing, fails or answers in a way that cannot be read."""


class Run(NamedTuple):
    """What one call of moe-run gave back."""

    results: dict[str, np.ndarray]
    report: dict[str, float]


def call(command: list[str]) -> str:
    """Runs a tool; returns its standard output or raises with its message."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise DemoError(
            f"cannot run {command[0]}: {error.strerror}"
        ) from error
    if done.returncode:
        message = done.stderr.strip() or f"exit status {done.returncode}"
        raise DemoError(f"{Path(command[0]).name} failed: {message}")
    return done.stdout


def moe_run(
    tool: Path, arguments: list[str], results: tuple[str, ...] = ()
) -> Run:
    """Runs a layer with --json and reads the named results."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in results}
        outputs = [f"--out={name}={path}" for name, path in files.items()]
        text = call([str(tool), *arguments, *outputs, "--json"])
        try:
            report = json.loads(text).get("benchmark") or {}
            return Run({n: np.load(p) for n, p in files.items()}, report)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DemoError(
                f"{tool.name}: cannot read what it gave back: {error!r}"
            ) from error


class Classifier:
    """The compiled layer, called through moe-run."""

    def __init__(self, tool: Path, threads: int, folder: Path) -> None:
        self.tool = tool
        self.threads = threads
        self.folder = folder

    def __call__(
        self, weights: Path, names: list[str], pixels: np.ndarray, repeat: int
    ) -> Run:
        """Runs pixels f32 [T, 64] through the layer with a weight file."""
        images = self.folder / "x.npy"
        np.save(images, pixels)
        arguments = [str(digits.LAYER), f"--arg=x={images}"]
        arguments += [f"--arg={name}={weights}#{name}" for name in names]
        arguments.append(f"--repeat={repeat}")
        if self.threads:
            arguments.append(f"--threads={self.threads}")
        return moe_run(self.tool, arguments, RESULTS)


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def answers(run: Run) -> np.ndarray:
    """The digit that each image is read as, i64 [T]."""
    return run.results["logits"].argmax(axis=1)


def print_images(data: Split, run: Run) -> None:
    """Draws held-out images: four classified rightly, four wrongly."""
    read_as = answers(run)
    shades = np.array(list(" .:-=+*#@"))
    for good in (True, False):
        some = np.flatnonzero((read_as == data.labels) == good)[:4]
        if not len(some):
            continue
        verdict = "right" if good else "wrong"
        print(f"\nRead {verdict} (digit as answer by experts):")
        drawn = shades[np.rint(data.pixels[some] * 8).astype(int)]
        for row in np.moveaxis(drawn.reshape(-1, 8, 8), 1, 0).repeat(
            2, axis=2
        ):
            print("    ".join("".join(line) for line in row).rstrip())
        captions = []
        for image in some:
            experts = ",".join(str(e) for e in run.results["ids"][image])
            captions.append(
                f"{data.labels[image]} as {read_as[image]} by {experts}"
            )
        print("    ".join(f"{text:<16}" for text in captions).rstrip())


def print_loads(data: Split, run: Run) -> None:
    """Table of the slots that each expert serves, and of the digits in them."""
    loads = run.results["expert_loads"]
    ids = run.results["ids"]
    print(
        f"{'expert':>6} {'slots':>6} {'share':>7}  {'':24}  digits, most first"
    )
    for e, load in enumerate(loads):
        served = np.bincount(
            data.labels[(ids == e).any(axis=1)], minlength=digits.CLASSES
        )
        common = np.argsort(-served, kind="stable")[:4]
        listed = "  ".join(f"{d}:{served[d]}" for d in common if served[d])
        bar = "#" * round(24 * load / max(1, loads.max()))
        share = load / max(1, loads.sum())
        print(f"{e:>6} {load:>6} {share:>7.1%}  {bar:<24}  {listed}")


def relative_difference(got: np.ndarray, want: np.ndarray) -> float:
    """Largest over rows of max|got - want| / max|want|, [T, 10]; NaN counts."""
    error = np.abs(got - want).max(axis=1) / np.abs(want).max(axis=1)
    return float(error.max())


class Bar(NamedTuple):
    text: str
    met: bool


def accuracy_row(name: str, active: int, total: int, share: float) -> str:
    return f"{name:<44} {active:>8,} {total:>8,} {share:>9.2%}"


def classify(tool: Path, threads: int, repeat: int) -> list[Bar]:
    """The held-out images through the compiled layer; returns the bars."""
    _, held_out = digits.load_split()
    tensors, metadata = digits.load_safetensors(digits.WEIGHTS)
    moe, dense = digits.split_models(tensors)
    names = list(moe)
    count = len(moe["router_weight"])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layer = Classifier(tool, threads, folder)

        def with_weights(variant: Weights) -> Run:
            path = folder / "variant.safetensors"
            digits.save_safetensors(path, variant, metadata)
            return layer(path, names, held_out.pixels, 1)

        run = layer(digits.WEIGHTS, names, held_out.pixels, repeat)
        single = layer(digits.WEIGHTS, names, held_out.pixels[:1], repeat)
        order = np.roll(np.arange(count), -1)
        permuted_weights = reference.permute_experts(moe, order)
        permuted = with_weights(permuted_weights)
        renamed = with_weights(
            permuted_weights | {"router_weight": moe["router_weight"][order]}
        )

    want = reference.forward(moe, held_out.pixels)
    dense_logits = reference.forward(dense, held_out.pixels).logits
    shares = {
        key: reference.accuracy(logits, held_out.labels)
        for key, logits in {
            "moe": run.results["logits"],
            "permuted": permuted.results["logits"],
            "renamed": renamed.results["logits"],
            "dense": dense_logits,
        }.items()
    }

    heading(
        f"{len(held_out.labels)} held-out digits through the compiled layer"
    )
    print_images(held_out, run)

    heading("Accuracy on the held-out digits")
    sizes = reference.active_parameters(moe), reference.parameters(moe)
    print(f"{'':<44} {'active':>8} {'all':>8} {'accuracy':>9}")
    print(
        accuracy_row(f"MoE, top 2 of {count}, compiled", *sizes, shares["moe"])
    )
    print(
        accuracy_row(
            "dense of equal active size, NumPy f64",
            reference.active_parameters(dense),
            reference.parameters(dense),
            shares["dense"],
        )
    )
    print(
        accuracy_row("MoE, experts rotated by one", *sizes, shares["permuted"])
    )
    print(
        accuracy_row(
            "MoE, experts and router rows rotated", *sizes, shares["renamed"]
        )
    )

    heading("Load of the experts (two slots an image)")
    print_loads(held_out, run)

    heading("Time of the compiled layer (median)")
    print(f"{'images':>6} {'ms a call':>12} {'us an image':>12}")
    for images, timed in ((1, single), (len(held_out.labels), run)):
        median = 1e3 * float(timed.report["median_s"])
        print(f"{images:>6} {median:>12.4f} {1e3 * median / images:>12.3f}")

    other = (run.results["ids"] != want.ids).any(axis=1)
    difference = relative_difference(run.results["logits"], want.logits)
    weight_difference = float(
        np.abs(run.results["weights"] - want.weights).max()
    )
    heading("Difference to the NumPy f64 reference")
    for text, value in (
        ("logits, largest relative to the image's largest", difference),
        ("combine weights, largest", weight_difference),
        ("smallest gap between the 2nd and 3rd score", want.margin),
    ):
        print(f"{text:<48} {value:.2e}")
    print(f"{'images with other experts':<48} {other.sum()}")

    drop = 100 * (shares["moe"] - shares["permuted"])
    counts = np.bincount(run.results["ids"].ravel(), minlength=count)
    return [
        Bar(
            f"MoE {shares['moe']:.2%} >= dense {shares['dense']:.2%}",
            shares["moe"] >= shares["dense"],
        ),
        Bar(
            f"rotating the experts costs {drop:.1f} >= {DROP:.0f} points",
            drop >= DROP,
        ),
        Bar(
            "rotating experts and router rows together changes no answer",
            np.array_equal(answers(renamed), answers(run)),
        ),
        Bar(
            f"relative difference to f64 {difference:.1e} <= {TOLERANCE:.0e}",
            difference <= TOLERANCE,
        ),
        Bar("every image meets the experts of the reference", not other.any()),
        Bar(
            "the loads are the counts of the chosen experts",
            np.array_equal(run.results["expert_loads"], counts),
        ),
    ]


def time_olmoe(
    compiler: Path, runner: Path, threads: int, repeat: int
) -> None:
    """Prints the time of an OLMoE-shaped layer on random weights."""
    heading("An OLMoE layer: E=64, k=8, H=2048, I=1024, bf16 weights, 805 MB")
    print(
        f"{'tokens':>6} {'median ms':>12} {'min ms':>12} "
        f"{'GFLOP/s':>10} {'GB/s':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        layer = Path(folder) / "olmoe.mlir"
        call(
            [
                str(compiler),
                *("--example", "olmoe", "--set", "expert_loads=true"),
                *("-o", str(layer)),
            ]
        )
        for tokens in OLMOE_TOKENS:
            arguments = [str(layer), f"--dim=T={tokens}", f"--repeat={repeat}"]
            arguments += [f"--arg={n}={v}" for n, v in OLMOE_ARGUMENTS.items()]
            if threads:
                arguments.append(f"--threads={threads}")
            report = moe_run(runner, arguments).report
            print(
                f"{tokens:>6} {number(report, 'median_s', 12, 3, 1e3)} "
                f"{number(report, 'min_s', 12, 3, 1e3)} "
                f"{number(report, 'gflop_per_s', 10, 1)} "
                f"{number(report, 'weight_gb_per_s', 8, 1)}",
                flush=True,
            )


def number(
    report: dict[str, float | None],
    key: str,
    width: int,
    digits_after: int,
    factor: float = 1.0,
) -> str:
    """Formats a field of a report; a dash where the tool left it out."""
    value = report.get(key)
    return (
        f"{'-':>{width}}"
        if value is None
        else f"{factor * value:>{width}.{digits_after}f}"
    )


def main() -> int:
    binaries = digits.HERE.parents[1] / "build" / "bin"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moe-run", type=Path, default=binaries / "moe-run")
    parser.add_argument(
        "--moe-compile", type=Path, default=binaries / "moe-compile"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="0: what moe-run chooses"
    )
    parser.add_argument("--repeat", type=int, default=20, help="timed calls")
    parser.add_argument(
        "--no-olmoe", action="store_true", help="skip the large timed layer"
    )
    options = parser.parse_args()
    needed = [options.moe_run]
    if not options.no_olmoe:
        needed.append(options.moe_compile)
    try:
        for tool in needed:
            if not tool.is_file():
                raise DemoError(f"{tool} is missing: build the project first")
        bars = classify(options.moe_run, options.threads, options.repeat)
        if not options.no_olmoe:
            time_olmoe(
                options.moe_compile,
                options.moe_run,
                options.threads,
                max(1, min(5, options.repeat)),
            )
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1

    heading("Bars")
    for bar in bars:
        print(f"{'met   ' if bar.met else 'MISSED'}  {bar.text}")
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
