# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The results as one SVG of small panels, written without a library."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

import numpy as np

from .measures import Result

WIDTH, HEIGHT = 300, 210  # Of a panel.
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 30, 30  # Margins inside of one.
COLUMNS = 3
SMOOTHED = 50  # Steps that a point of a curve is the mean of.
COLOURS = (
    "#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
    "#5b4a9e", "#8c6d46", "#7f7f7f", "#b8a900",
)  # fmt: skip

Point = tuple[float, float]


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def line(points: Iterable[Point], colour: str, dashes: str = "") -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" '
        f'stroke-width="1.4" stroke-dasharray="{dashes}"/>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers from low to high."""
    step = 10.0 ** np.floor(np.log10(high - low))
    for part in (1.0, 0.5, 0.2):
        if (high - low) / (step * part) >= 3.0:
            break
    step *= part
    first = np.ceil(low / step - 1e-9)
    last = np.floor(high / step + 1e-9)
    return [float(n * step) + 0.0 for n in np.arange(first, last + 1)]


def curves(
    title: str,
    across: str,
    lines: list[list[Point]],
    level: float | None = None,
) -> str:
    """A panel of one line a router; `level` is a dashed one."""
    xs = [x for points in lines for x, _ in points]
    ys = [y for points in lines for _, y in points]
    if level is not None:
        ys.append(level)
    margin = 0.05 * (max(ys) - min(ys)) or 1.0
    low, high = min(ys) - margin, max(ys) + margin
    start, end = min(xs), max(max(xs), min(xs) + 1e-9)

    def place(x: float, y: float) -> Point:
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return (
            LEFT + width * (x - start) / (end - start),
            TOP + height * (high - y) / (high - low),
        )

    out = [text(LEFT, TOP - 12, title)]
    for y in ticks(low, high):
        at = place(start, y)
        out.append(line([at, place(end, y)], "#dddddd"))
        out.append(text(at[0] - 4, at[1] + 4, f"{y:.4g}", "end"))
    for x in ticks(start, end):
        at = place(x, low)
        out.append(text(at[0], at[1] + 14, f"{x:.4g}", "middle"))
    out.append(text(WIDTH - RIGHT, HEIGHT - 2, across, "end"))
    if level is not None:
        ends = [place(start, level), place(end, level)]
        out.append(line(ends, "#000000", "4 3"))
    for colour, points in zip(COLOURS, lines):
        out.append(line((place(x, y) for x, y in points), colour))
    return "\n".join(out)


def columns(title: str, values: dict[str, list[float]], form: str) -> str:
    """A panel of one bar a router, the mean of its runs, which are dots."""
    label, number = 96, 50
    room = WIDTH - label - number
    height = (HEIGHT - TOP) / max(len(values), 1)
    top = max(max(max(runs) for runs in values.values()), 1e-12)
    out = [text(4, TOP - 12, title)]
    for row, (name, runs) in enumerate(values.items()):
        mean = float(np.mean(runs))
        y = TOP + row * height
        middle = y + 0.4 * height
        out.append(text(label - 4, middle + 4, name, "end"))
        out.append(
            f'<rect x="{label}" y="{y:.1f}" width="{room * mean / top:.1f}" '
            f'height="{0.8 * height:.1f}" fill="{COLOURS[row]}"/>'
        )
        out += [
            f'<circle cx="{label + room * run / top:.1f}" cy="{middle:.1f}" '
            'r="2" fill="#000000"/>'
            for run in runs
        ]
        out.append(text(label + room + 6, middle + 4, format(mean, form)))
    return "\n".join(out)


def smoothed(runs: list[Result]) -> list[Point]:
    """(step, mean of the last losses of all runs)."""
    losses = np.mean([run.losses for run in runs], axis=0)
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    span = min(SMOOTHED, len(losses))
    means = (sums[span:] - sums[:-span]) / span
    every = max(1, len(means) // 200)
    return [
        (float(at + span), float(means[at]))
        for at in range(0, len(means), every)
    ]


def noise_points(runs: list[Result]) -> list[Point]:
    """(level, accuracy), without noise first."""
    levels = {0.0: [run.accuracy for run in runs]}
    for level in runs[0].noisy:
        levels[level] = [run.noisy[level] for run in runs]
    return [(level, float(np.mean(of))) for level, of in levels.items()]


def draw(results: dict[str, list[Result]], baseline: float) -> str:
    """The whole plot, of the runs of each router."""

    def each(of: Callable[[Result], np.ndarray]) -> dict[str, list[float]]:
        return {
            name: [float(np.mean(of(run))) for run in runs]
            for name, runs in results.items()
        }

    panels = [
        curves(
            "training loss (dashed: simple model)", "step",
            [smoothed(runs) for runs in results.values()], baseline,
        ),
        columns("held-out loss", each(lambda r: r.nats), ".3f"),
        columns("the same without experts",
                each(lambda r: r.nats_without), ".3f"),
        curves("accuracy under noise", "noise on the input",
               [noise_points(runs) for runs in results.values()]),
        columns("accuracy", each(lambda r: r.accuracy), ".2%"),
        columns("routing fluctuation", each(lambda r: r.fluctuation), ".2%"),
        columns("expert utilisation", each(lambda r: r.utilisation), ".2f"),
        columns("routing entropy, nats", each(lambda r: r.entropy), ".3f"),
        columns("experts of a token", each(lambda r: r.used), ".2f"),
    ]  # fmt: skip
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * (WIDTH + 16) + 16, rows * (HEIGHT + 16) + 16
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, panel in enumerate(panels):
        x = 16 + (WIDTH + 16) * (place % COLUMNS)
        y = 16 + (HEIGHT + 16) * (place // COLUMNS)
        out.append(f'<g transform="translate({x},{y})">\n{panel}\n</g>')
    return "\n".join([*out, "</svg>"]) + "\n"
